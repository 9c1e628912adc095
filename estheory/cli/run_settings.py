"""From the options of ``estheory run`` to configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from estheory.cli.options import choice
from estheory.errors import ConfigError
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.directory import RunDirectory

if TYPE_CHECKING:
    from estheory.runs.sequence import SequenceConfig

DEFAULT_MODEL, DEFAULT_TASK, DEFAULT_STEPS = "tiny-lm", "addition", 100
SMALL_DIM = 10_000_000

GRPO_PRESETS: dict[str, dict[str, Any]] = {
    # arXiv:2604.01499, configs/sequential of its code: 21 prompts on each of 3 devices, 40,000 completions in all. Its
    # clip range of 0.2 never acts with one update a batch. The rest is what every GRPO run here has: no KL term, AdamW
    # without weight decay, gradients clipped at norm 1.
    "paper": {"samples": 8, "lr": 3e-6, "schedule": "linear", "prompts": 63, "steps": 80},
}
_FREE = ("executor", "workers", "stop_net")  # what a resumed run may change: its steps do not depend on it


def es_config(given: Mapping[str, Any]) -> ESRunConfig:
    """Return the configuration of an ES run from the fields that were given."""
    values = _resolved(given)
    small = _is_small(values.get("model", DEFAULT_MODEL))
    sigma = values.setdefault("sigma", 0.015 if small else 0.0015)
    values.setdefault("alpha", sigma / 2)
    return ESRunConfig(**_defaults(small) | values)


def grpo_config(given: Mapping[str, Any], preset: str | None = None) -> GRPORunConfig:
    """Return the configuration of a GRPO run from the fields that were given, which win over those of a preset."""
    values = (GRPO_PRESETS[preset] if preset else {}) | _resolved(given)
    return GRPORunConfig(**_defaults(_is_small(values.get("model", DEFAULT_MODEL))) | values)


def sequence_config(
    shared: Mapping[str, Any],
    es: Mapping[str, Any],
    grpo: Mapping[str, Any],
    *,
    preset: str | None,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: tuple[int, ...],
    retention: Literal["all", "last", "none"],
) -> SequenceConfig:
    """Return the configuration of a sequence.

    `shared`, `es`, `grpo`: fields that were given: of both methods' runs, and of each method's alone, which win.
    """
    from estheory.runs.sequence import SequenceConfig

    if not tasks:
        raise ConfigError("--tasks is missing", "e.g. --tasks countdown,addition,choice,reversal")
    configs: list[ESRunConfig | GRPORunConfig] = []
    for name in methods:
        choice("methods", name, ("es", "grpo"))
        first = {**shared, "task": tasks[0]}
        configs.append(es_config({**first, **es}) if name == "es" else grpo_config({**first, **grpo}, preset))
    return SequenceConfig(tasks=tasks, configs=tuple(configs), seeds=seeds, retention=retention)


def require_unchanged(directory: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check that the fields given beside ``--resume`` are those of the run, and return those that it may change."""
    recorded = dataclasses.asdict(RunDirectory.open(directory).config)
    given = _resolved(given)
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


def _resolved(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with a folder of data by its full path, which a resumed run finds from anywhere."""
    values = dict(given)
    if "data" in values and not values["data"].startswith("hf:"):
        values["data"] = str(Path(values["data"]).resolve())
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
