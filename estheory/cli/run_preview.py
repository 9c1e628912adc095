"""What a run would be, before it is run: configuration, memory, time and predicted geometry."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from estheory.cli.emit import json_text
from estheory.errors import ConfigError, EstheoryError
from estheory.models.builtin import model_folder
from estheory.models.shapes import tensor_shapes, trainable_shapes
from estheory.reporting.text.forecast import forecast_sheet, prediction_json
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.simulation.emulator.checkpoint_weights import checkpoint_weights
from estheory.simulation.emulator.emulate import emulator_covers
from estheory.simulation.emulator.low_precision import Rounding, rounding_of
from estheory.tasks import ChatTask, get_task
from estheory.theory.adamw import learning_rates
from estheory.theory.gradient_path import POINTS, point_times
from estheory.theory.predictions import Forecast, predict
from estheory.training.reward_probe_size import PAIRS, permutations, probe_batches, why_unprobed

if TYPE_CHECKING:
    from estheory.runs.sequence import SequenceConfig

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_LEVEL = 0.95
_SHOTS, _CHARACTERS_A_TOKEN = 8, 2  # of models that are not character-level


def preview(config: ESRunConfig | GRPORunConfig, *, as_json: bool) -> str:
    """Return what ``--dry-run`` shows. Trains nothing; loads the model of an ES run to time a member."""
    shapes = _shapes(config)
    dim = sum(math.prod(shape) for shape in shapes.values())
    whole = sum(math.prod(shape) for shape in _shapes(dataclasses.replace(config, trainable="all")).values())
    forecast, why_not = _forecast(config, shapes, dim)
    memory, seconds = _memory(config, dim, whole), _seconds(config, whole)
    about, told = _about(config, seconds)
    if as_json:
        return json_text(
            {
                "schema": "estheory/run-config/1",
                "method": config.method,
                **dataclasses.asdict(config),
                "dim": dim,
                "memory_bytes": memory,
                "seconds_at_least": seconds,
                "seconds": about,
                "reward_probe_evaluations": _probe(config, dim)[0],
                "gradient_probe_minibatches": _gradients(config),
                "watched_evaluations": _watched(config)[0],
                "predictions": [prediction_json(p, _LEVEL) for p in forecast.predictions] if forecast else [],
                "warnings": list(forecast.warnings) if forecast else [why_not],
            }
        )
    lines = [
        f"# d = {dim:,} trained parameters",
        f"# memory: {memory / 1e9:.2g} GB for weights and their copies, beside activations and libraries",
        f"# time: {told}",
        *([f"# {_probe(config, dim)[1]}"] if _probe(config, dim)[1] else []),
        *([f"# {_watched(config)[1]}"] if _watched(config)[0] else []),
        "",
    ]
    return (
        config.to_toml() + "\n".join(lines) + (forecast_sheet(forecast, _LEVEL).text() if forecast else f"{why_not}\n")
    )


def _about(config: ESRunConfig | GRPORunConfig, least: float) -> tuple[float | None, str]:
    """Return about how many seconds a run takes, None where nothing of it can be timed, and a phrase that says so."""
    what = "members" if isinstance(config, ESRunConfig) else "steps"
    try:
        about = _timed(config)
    except EstheoryError as error:
        bound = f"at least {least:.2g} s on this machine (arithmetic alone)"
        return None, f"{bound}; no {what[:-1]} could be timed: {error.what}"
    return about, f"about {about:.2g} s on this machine, as busy as it is now ({what} were timed)"


def _timed(config: ESRunConfig | GRPORunConfig) -> float:
    """Return about how many seconds a run takes, its imports as they take them now."""
    started = time.perf_counter()
    if isinstance(config, ESRunConfig):
        from estheory.training.timing import estimated_seconds

        return estimated_seconds(config, starting=time.perf_counter() - started)
    from estheory.training.grpo_timing import estimated_grpo_seconds

    return estimated_grpo_seconds(config, probed=_gradients(config), starting=time.perf_counter() - started)


def _probe(config: ESRunConfig | GRPORunConfig, dim: int) -> tuple[int, str]:
    """Return the reward evaluations of the probe before step 1, and a line that says so."""
    if isinstance(config, GRPORunConfig):
        count = _gradients(config)
        share = count / config.steps
        return 0, f"gradient probe before step 1: {count} minibatches, {share:.1%} of the run's" if count else ""
    if why := why_unprobed(config):
        return 0, why
    count = probe_batches(config) * (2 * PAIRS + 1)
    share = count / (config.steps * config.evaluations)
    kl = 1 + permutations(dim)
    said = f"reward probe before step 1: {count} evaluations, {share:.1%} of the run's"
    return count, f"{said}; KL along its signal: {kl} evaluations of KL per task"


def _gradients(config: ESRunConfig | GRPORunConfig) -> int:
    """Return the minibatch gradients of the probe before step 1."""
    if isinstance(config, ESRunConfig) or not config.gradient_probe:
        return 0
    return config.gradient_probe * len(point_times(learning_rates(config.steps, config.schedule), POINTS))


def _watched(config: ESRunConfig | GRPORunConfig) -> tuple[int, str]:
    """Return the reward evaluations beside the members', and a line that says so."""
    if isinstance(config, GRPORunConfig):
        return 0, ""
    steps = range(1, config.steps + 1)
    count = sum(config.evaluated(step) - config.evaluations for step in steps)
    what = "mirrored partners and theta itself" if any(map(config.partners, steps)) else "theta itself"
    share = count / (config.steps * config.evaluations)
    return count, f"{what} in one step of {config.mirror_every}: {count} evaluations, {share:.1%} of the run's"


def _shapes(config: ESRunConfig | GRPORunConfig) -> dict[str, tuple[int, ...]]:
    return trainable_shapes(tensor_shapes(model_folder(config.model)), config.trainable)


def _forecast(
    config: ESRunConfig | GRPORunConfig, shapes: dict[str, tuple[int, ...]], dim: int
) -> tuple[Forecast | None, str]:
    """Return the prediction of an ES run, or why there is none."""
    if isinstance(config, GRPORunConfig):
        from estheory.theory.adamw import grpo_mean_square

        norm = math.sqrt(grpo_mean_square(dim, config.lr, config.steps, config.schedule))
        said = f"AdamW walk of dense gradient noise: ||theta_T - theta_0|| = {norm:.4g} (mean-field)"
        if config.dtype != "float32" and not config.trainable.startswith("lora:"):
            kept = _adamw_kept(config, dim) / norm
            if kept < 0.9:
                said += f"\nwarning: {config.dtype} in place keeps {kept:.0%} of it: keep a float32 copy, or raise lr"
        return None, said
    if config.module_sigma:
        return None, "no prediction with module-sigma: tensors walk at different speeds"
    rules = config.rules(dim)
    try:
        rounding = Rounding()
        if rules.dtype != "float32":
            known = emulator_covers(rules) is None and not config.trainable.startswith("lora:")
            weights = checkpoint_weights(config.model, rules.dtype, config.trainable) if known else None
            rounding = rounding_of(rules, weights, [rules.steps])
        return predict(rules, shapes=list(shapes.values()), rounding=rounding.effects, band=rounding.band), ""
    except ConfigError as error:
        return None, f"no prediction: {error.what}"


def _adamw_kept(config: GRPORunConfig, dim: int) -> float:
    """Return the norm of AdamW's walk in 16 bits, emulated on the model's own weights."""
    from estheory.simulation.emulator.adamw import adamw_walks
    from estheory.theory.adamw import learning_rates

    weights = checkpoint_weights(config.model, config.dtype, config.trainable)
    rates = config.lr * learning_rates(config.steps, config.schedule)
    return math.sqrt(dim * adamw_walks(weights, config.dtype, rates, [config.steps], copy=False)[config.steps].variance)


def _memory(config: ESRunConfig | GRPORunConfig, dim: int, whole: int) -> int:
    """Return the bytes of weights and vectors in all processes."""
    if isinstance(config, GRPORunConfig):
        training = _BYTES[config.dtype] * (whole + 4 * dim)  # theta_0, gradient, two moments
        # two means a point, the two at the start as they are, sums and squares of this one and of those behind it
        return training + (4 * dim * (2 * POINTS + 10) if config.gradient_probe else 0)
    size = _BYTES[config.dtype]
    vectors = 1 + bool(config.restore_pairs)  # theta; the model computes with its own
    one = size * (whole + vectors * dim) + 4 * dim * (2 if config.momentum else 0)
    processes = config.workers + (config.executor == "ray")
    bases = processes if config.anchor_l1 or config.anchor_l2 else 1  # theta_0
    return one * processes + size * dim * bases


def _seconds(config: ESRunConfig | GRPORunConfig, whole: int) -> float:
    """Return the arithmetic of the forward passes at this machine's measured speed: a lower bound."""
    task = get_task(config.task, data=config.data, render=lambda messages: "\n".join(text for _, text in messages))
    example = task.examples("train", 1, 0)[0]
    few_shot = whole >= 1_000_000 and not config.data and not isinstance(task, ChatTask)
    answer = config.max_new_tokens or task.max_new_tokens
    prompt = len(example.prompt) / (_CHARACTERS_A_TOKEN if few_shot else 1)
    if isinstance(task, ChatTask):
        prompt = answer = 1  # at least: what the prompts share passes once, and an end mark may come first
    shared = _SHOTS * prompt if few_shot else 0.0  # worked examples: an ES member reads them once
    if isinstance(config, ESRunConfig):
        tokens = shared + config.prompts * (prompt + answer)
    else:
        tokens = config.prompts * (shared + prompt + config.samples * answer)
    started = time.perf_counter()
    square = np.ones((512, 512), dtype=np.float32)
    for _ in range(4):
        square = square @ square * np.float32(1e-3)
    flops = 4 * 2 * 512**3 / (time.perf_counter() - started)
    if isinstance(config, GRPORunConfig):
        return config.steps * 2 * whole * tokens * 4 / flops  # generation, then forward and backward
    return config.steps * config.evaluations / config.workers * 2 * whole * tokens / flops


def sequence_seconds(config: SequenceConfig) -> float | None:
    """Return about how many seconds a sequence takes, None where nothing of it can be timed."""
    stages = len(config.tasks) * len(config.seeds)
    try:
        return stages * sum(_timed(config.stage(method, config.tasks[0])) for method in config.configs)
    except EstheoryError:
        return None


def preview_sequence(config: SequenceConfig) -> tuple[dict[str, Any], int]:
    """Return what a sequence needs.

    Result: configuration and needs, as JSON has them, and bytes on disk at most.
    """
    for task in config.tasks:
        get_task(task, data=config.configs[0].data)
    first = config.configs[0]
    whole = sum(math.prod(shape) for shape in _shapes(dataclasses.replace(first, trainable="all")).values())
    size = config.bytes_on_disk(4 * whole)
    stages = len(config.tasks) * len(config.seeds)
    tried = [dataclasses.replace(c, task=config.tasks[0]) for c in config.configs]
    dims = [sum(math.prod(shape) for shape in _shapes(c).values()) for c in tried]
    document = {
        "schema": "estheory/sequence-config/1",
        "tasks": list(config.tasks),
        "seeds": list(config.seeds),
        "keep": config.retention,
        "configs": {c.method: dataclasses.asdict(c) for c in config.configs},
        "disk_bytes": size,
        "memory_bytes": max(_memory(c, dim, whole) for c, dim in zip(tried, dims, strict=True)),
        "seconds_at_least": stages * sum(_seconds(c, whole) for c in tried),
    }
    return document, size
