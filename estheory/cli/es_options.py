"""From ES options to configurations: what predict, plan, simulate, run and validate share."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, cast, get_args

from estheory.cli.case import Case
from estheory.cli.options import ESOptions, choice, numbers
from estheory.errors import ConfigError
from estheory.landscape import linear_signal
from estheory.rules import AnchorForm, Dtype, ESConfig, Shaping, UpdatePath
from estheory.theory.adamw import Schedule
from estheory.theory.effective_dimension import Shapes
from estheory.theory.grpo import GRPOConfig
from estheory.theory.rounding.weights import WeightHistogram, normal_weights

if TYPE_CHECKING:
    from estheory.simulation.emulator.strata import SampledWeights
    from estheory.theory.prompt_batch import PromptBatch

_SWEPT = (
    "dim",
    "sigma",
    "alpha",
    "population",
    "anchor_l2",
    "anchor_l1",
    "momentum",
    "restore_pairs",
    "weight_std",
    "reliability",
    "gradient_norm",
    "reward_std",
    "success",
    "prompts",
    "fisher_trace",
    "fisher_square_trace",
    "off_task_trace",
    "off_task_square_trace",
    "off_task_gradient_norm",
    "grpo_lr",
    "grpo_steps",
    "grpo_norm",
)
"""Number options whose comma lists make rows, in the order in which the last varies fastest."""
_COUNTS = ("dim", "population", "prompts", "restore_pairs", "grpo_steps")


def whole(name: str, value: float) -> int:
    """Return the value of an option that is a whole number.

    Parameters
    ----------
    name
        Of the option, without dashes in front, for the message.
    """
    if value != value or value in (float("inf"), float("-inf")) or value != int(value):
        raise ConfigError(f"--{name} must be a whole number, got {value:g}", "e.g. 30 or 4e9")
    return int(value)


def require_given(names: Collection[str], required: Sequence[str] = ("dim", "sigma", "population")) -> None:
    """Require options.

    Parameters
    ----------
    names
        Those that are given, without dashes in front.
    """
    for name in required:
        if name not in names:
            also = " or --model" if name == "dim" else ""
            raise ConfigError(f"--{name}{also} is missing", f"e.g. --{name} {_EXAMPLES[name]}")


def cases(es: ESOptions) -> tuple[list[Case], list[str]]:
    """Return the rows that the options describe.

    Parameters
    ----------
    es
        A comma list makes a row for each of its numbers, but ``steps``, a list of checkpoints.

    Returns
    -------
    tuple of list of Case and list of str
        One case a row of the Cartesian product, and the names of the options that vary.
    """
    shapes, dim = _shapes(es)
    sweep: dict[str, list[float]] = {}
    for name in _SWEPT:
        values = numbers(name.replace("_", "-"), getattr(es, name))
        if values:
            sweep[name] = values
    if dim is not None:
        sweep = {"dim": [float(dim)], **sweep}
    require_given(set(sweep))
    checkpoints = tuple(whole("steps", value) for value in numbers("steps", es.steps)) or (1,)
    weights = None
    if es.weights is not None and es.dtype not in (None, "float32"):
        from estheory.evidence.weights import checkpoint_weights

        dtype = cast(Dtype, choice("dtype", es.dtype, get_args(Dtype), ""))
        weights = checkpoint_weights(es.weights, dtype, es.trainable or "all")
    rows = [
        _case(es, dict(zip(sweep, values, strict=True)), checkpoints, shapes, weights)
        for values in product(*sweep.values())
    ]
    return rows, [name for name, values in sweep.items() if len(values) > 1]


_EXAMPLES = {"dim": "4e9", "sigma": "0.0015", "population": "30"}


def _case(
    es: ESOptions,
    row: dict[str, float],
    checkpoints: tuple[int, ...],
    shapes: Shapes | None,
    sampled: SampledWeights | None,
) -> Case:
    value: dict[str, Any] = {
        name: whole(name.replace("_", "-"), entry) if name in _COUNTS else entry for name, entry in row.items()
    }
    texts = {
        "shaping": choice("shaping", es.shaping, get_args(Shaping), "zscore"),
        "noise": es.noise or "gaussian",
        "anchor_form": choice("anchor-form", es.anchor_form, get_args(AnchorForm), "before"),
        "dtype": choice("dtype", es.dtype, get_args(Dtype), "float32"),
        "update_path": choice("update-path", es.update_path, get_args(UpdatePath), "accumulated"),
    }
    config = ESConfig(
        dim=value["dim"],
        sigma=value["sigma"],
        alpha=value.get("alpha"),
        population=value["population"],
        steps=max(checkpoints),
        shaping=cast(Shaping, texts["shaping"]),
        antithetic=es.antithetic,
        noise=texts["noise"],
        anchor_l2=value.get("anchor_l2", 0.0),
        anchor_l1=value.get("anchor_l1", 0.0),
        anchor_form=cast(AnchorForm, texts["anchor_form"]),
        momentum=value.get("momentum", 0.0),
        dtype=cast(Dtype, texts["dtype"]),
        update_path=cast(UpdatePath, texts["update_path"]),
        restore_pairs=value.get("restore_pairs", 0),
    )
    reward = landscape = None
    batch = _batch(value)
    reward_std = value.get("reward_std") if batch is None else batch.reward_std
    if es.spectrum is not None:
        if "reliability" in value or "gradient_norm" in value:
            raise ConfigError("--spectrum excludes --reliability and --gradient-norm", "the spectrum determines both")
        from estheory.theory.curved.spectra import read_landscape

        landscape = read_landscape(es.spectrum, dim=config.dim, reward_std=reward_std)
    elif batch is not None:
        reward = batch.signal(
            sigma=config.sigma, reliability=value.get("reliability"), gradient_norm=value.get("gradient_norm")
        )
    else:
        reward = linear_signal(
            sigma=config.sigma,
            reliability=value.get("reliability"),
            gradient_norm=value.get("gradient_norm"),
            reward_std=reward_std,
        )
    off_task = None
    if any(name.startswith(("fisher", "off_task")) for name in value):
        if "fisher_square_trace" in value and "fisher_trace" not in value:
            raise ConfigError("--fisher-square-trace needs --fisher-trace", "give both")
        if "off_task_square_trace" in value and "off_task_trace" not in value:
            raise ConfigError("--off-task-square-trace needs --off-task-trace", "give both (the trace may be 0)")
        from estheory.theory.curved.predictions import OffTask

        off_task = OffTask(
            fisher_trace=value.get("fisher_trace"),
            fisher_square_trace=value.get("fisher_square_trace"),
            trace=value.get("off_task_trace"),
            square_trace=value.get("off_task_square_trace"),
            gradient_norm=value.get("off_task_gradient_norm"),
        )
    weights: SampledWeights | WeightHistogram | None = sampled
    if "weight_std" in value:
        weights = normal_weights(value["weight_std"])
    schedule = choice("grpo-schedule", es.grpo_schedule, get_args(Schedule), "linear")
    grpo = None
    if any(name.startswith("grpo") for name in value):
        grpo = GRPOConfig(
            lr=value.get("grpo_lr"),
            steps=value.get("grpo_steps"),
            norm=value.get("grpo_norm"),
            schedule=cast(Schedule, schedule),
        )
    steps = checkpoints[0] if len(checkpoints) == 1 else list(checkpoints)
    shown: dict[str, Any] = {
        "dim": config.dim,
        "sigma": config.sigma,
        "alpha": config.step_size,
        "population": config.population,
    }
    shown |= {"steps": steps} | {k: v for k, v in value.items() if k not in shown}
    given: dict[str, Any] = {
        "antithetic": es.antithetic or None,
        "grpo_schedule": schedule if grpo and grpo.lr else None,
    }
    given |= {name: texts[name] for name in texts if getattr(es, name) is not None}
    given |= {"model": es.model, "trainable": es.trainable, "weights": str(es.weights) if es.weights else None}
    given |= {"spectrum": str(es.spectrum) if es.spectrum else None}
    shown |= {name: item for name, item in given.items() if item is not None}
    return Case(shown, config, checkpoints, reward, landscape, off_task, shapes, weights, grpo, batch)


def _batch(value: dict[str, Any]) -> PromptBatch | None:
    """Return the prompts behind 0/1 rewards, if they were given."""
    if "success" not in value and "prompts" not in value:
        return None
    if "success" not in value or "prompts" not in value:
        raise ConfigError("--success and --prompts belong together", "give both, or --reward-std")
    if "reward_std" in value:
        raise ConfigError("--success and --prompts exclude --reward-std", "they determine it: sqrt(p (1-p) / B)")
    from estheory.theory.prompt_batch import PromptBatch

    return PromptBatch(success=value["success"], prompts=value["prompts"])


def _shapes(es: ESOptions) -> tuple[Shapes | None, int | None]:
    """Return tensor shapes and, without ``--dim``, the number of trainable parameters."""
    if es.weights is not None and es.weight_std is not None:
        raise ConfigError("--weights and --weight-std exclude each other", "give one")
    if es.model is not None and es.dim is not None:
        raise ConfigError("--model and --dim exclude each other", "give one")
    if es.trainable is not None and es.model is None and es.weights is None:
        raise ConfigError("--trainable needs --model or --weights", "it selects among a model's tensors")
    source = es.model if es.model is not None else es.weights
    if source is None:
        return None, None
    from estheory.models.builtin import model_folder
    from estheory.models.shapes import tensor_shapes, trainable_shapes

    shapes = list(trainable_shapes(tensor_shapes(model_folder(source)), es.trainable or "all").values())
    return shapes, sum(math.prod(shape) for shape in shapes) if es.dim is None else None
