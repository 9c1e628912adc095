"""From the options of ``estheory run`` to configurations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from estheory.cli.es_options import whole
from estheory.cli.options import CommonOptions, choice, number, numbers
from estheory.errors import ConfigError
from estheory.rules import AnchorForm, Dtype, Shaping, UpdatePath
from estheory.tasks.data import Form
from estheory.training.config import (
    Decode,
    ESRunConfig,
    ExecutorName,
    Generator,
    GRPORunConfig,
    Reward,
    Schedule,
)
from estheory.training.run_directory import RunDirectory

if TYPE_CHECKING:
    from estheory.cli.run_options import ESRunOptions, GRPOOptions, RunOptions
    from estheory.training.sequence_config import SequenceConfig

DEFAULT_MODEL, DEFAULT_TASK, DEFAULT_STEPS = "tiny-lm", "addition", 100
SMALL_DIM = 10_000_000

_CHOICES = {
    "shaping": Shaping,
    "anchor_form": AnchorForm,
    "dtype": Dtype,
    "update_path": UpdatePath,
    "reward": Reward,
    "decode": Decode,
    "executor": ExecutorName,
    "generator": Generator,
    "schedule": Schedule,
    "form": Form,
}
GRPO_PRESETS: dict[str, dict[str, Any]] = {
    # arXiv:2604.01499, configs/sequential of its code: 21 prompts on each of 3 devices, 40,000 completions in all. Its
    # clip range of 0.2 never acts with one update a batch. The rest is what every GRPO run here has: no KL term, AdamW
    # without weight decay, gradients clipped at norm 1.
    "paper": {"samples": 8, "lr": 3e-6, "schedule": "linear", "prompts": 63, "steps": 80},
}
_COUNTS = (
    "steps",
    "prompts",
    "population",
    "restore_pairs",
    "train_set",
    "samples",
    "evaluation_prompts",
    "max_new_tokens",
)
_NUMBERS = (
    "sigma",
    "alpha",
    "anchor_l2",
    "anchor_l1",
    "momentum",
    "lr",
    "stop_reward",
    "stop_drift",
    "temperature",
    "top_p",
)
_FREE = ("executor", "workers")  # what a resumed run may change: its results do not depend on it


def es_config(run: RunOptions, settings: ESRunOptions, common: CommonOptions) -> ESRunConfig:
    """Return the configuration of an ES run."""
    values = _given(run, settings, common)
    small = _is_small(values.get("model", DEFAULT_MODEL))
    sigma = values.setdefault("sigma", 0.015 if small else 0.0015)
    values.setdefault("alpha", sigma / 2)
    return ESRunConfig(**_defaults(small) | values)


def grpo_config(run: RunOptions, settings: GRPOOptions, common: CommonOptions) -> GRPORunConfig:
    """Return the configuration of a GRPO run."""
    values = _given(run, settings, common)
    return GRPORunConfig(**_defaults(_is_small(values.get("model", DEFAULT_MODEL))) | values)


def sequence_config(
    run: RunOptions,
    es: ESRunOptions,
    grpo: GRPOOptions,
    common: CommonOptions,
    tasks: str | None,
    methods: str | None,
    seeds: str | None,
    grpo_steps: str | None,
    grpo_prompts: str | None,
    keep: str | None,
) -> SequenceConfig:
    """Return the configuration of a sequence.

    Parameters
    ----------
    tasks, methods, seeds, grpo_steps, grpo_prompts, keep
        Its own, as typed; None for those not given.
    """
    from estheory.training.sequence_config import SequenceConfig

    if run.task is not None or run.evaluate is not None:
        raise ConfigError("a sequence trains and evaluates --tasks", "leave --task and --evaluate out")
    if common.seed is not None:
        raise ConfigError("a sequence has --seeds", "give --seeds in place of --seed")
    if tasks is None:
        raise ConfigError("--tasks is missing", "e.g. --tasks countdown,addition,choice,reversal")
    names = tuple(tasks.split(","))
    wanted = (methods or "es,grpo").split(",")
    for name in wanted:
        choice("methods", name, ("es", "grpo"), "es")
    run = dataclasses.replace(run, task=names[0])
    of_grpo = dataclasses.replace(run, steps=grpo_steps or run.steps, prompts=grpo_prompts)
    configs: list[ESRunConfig | GRPORunConfig] = []
    for name in wanted:
        configs.append(es_config(run, es, common) if name == "es" else grpo_config(of_grpo, grpo, common))
    return SequenceConfig(
        tasks=names,
        configs=tuple(configs),
        seeds=tuple(whole("seeds", value) for value in numbers("seeds", seeds or "0")),
        retention=choice("keep", keep, ("all", "last", "none"), "last"),  # type: ignore[arg-type]  # checked by choice
    )


def require_unchanged(directory: Path, run: RunOptions, settings: object, common: CommonOptions) -> dict[str, Any]:
    """Check that the options given beside ``--resume`` are those of the run."""
    for name in ("out", "dry_run"):
        if getattr(run, name):
            raise ConfigError(f"--{name.replace('_', '-')} has no effect with --resume", "leave it out")
    recorded = dataclasses.asdict(RunDirectory.open(directory).config)
    given = _given(run, settings, common)
    if "model" in given and Path(given["model"]).is_dir():
        given["model"] = str(Path(given["model"]).resolve())
    changed = {
        name: value
        for name, value in given.items()
        if name not in _FREE and name in recorded and recorded[name] != value
    }
    if changed:
        shown = ", ".join(f"{name} is {recorded[name]!r} there, {value!r} here" for name, value in changed.items())
        raise ConfigError(f"{directory} was run with another configuration: {shown}", "leave these out, or run anew")
    return {name: value for name, value in given.items() if name in _FREE}


def _given(run: RunOptions, settings: object, common: CommonOptions) -> dict[str, Any]:
    """Return the configuration's fields that options set, checked one by one."""
    options = {**vars(run), **vars(settings), "seed": common.seed}
    options["preset"] = options.pop("preset", None)  # last: it fills what the others leave
    values: dict[str, Any] = {}
    for name, text in options.items():
        flag = name.replace("_", "-")
        if text is None or text is False or name in ("out", "dry_run", "tracker"):
            continue
        if name in _COUNTS:
            values[name] = whole(flag, number(flag, str(text)) or 0)
        elif name in _NUMBERS:
            values[name] = number(flag, text)
        elif name in _CHOICES:
            values[name] = choice(flag, text, get_args(_CHOICES[name]), "")
        elif name == "data":
            values[name] = text if text.startswith("hf:") else str(Path(text).resolve())
        elif name == "no_prompt_rewards":
            values["prompt_rewards"] = False
        elif name == "evaluate":
            values["evaluation_tasks"] = tuple(text.split(","))
        elif name == "module_sigma":
            values[name] = tuple(text.split(","))
        elif name == "preset":
            values = GRPO_PRESETS[choice(flag, text, tuple(GRPO_PRESETS), "")] | values
        else:
            values[name] = text
    return values


def _defaults(small: bool) -> dict[str, Any]:
    return {
        "model": DEFAULT_MODEL,
        "task": DEFAULT_TASK,
        "steps": DEFAULT_STEPS,
        "evaluation_prompts": 400 if small else 50,
    }


def _is_small(model: str) -> bool:
    """Return whether a model has fewer than 10 million parameters, as far as its files tell without a download."""
    import math

    from estheory.models.builtin import builtin_models
    from estheory.models.shapes import tensor_shapes

    known = {row.name: row.parameters for row in builtin_models()}
    if model in known:
        return known[model] < SMALL_DIM
    return Path(model).is_dir() and sum(map(math.prod, tensor_shapes(model).values())) < SMALL_DIM
