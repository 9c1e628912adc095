"""The ES options that commands share, in groups, and the configurations that they describe."""

# no postponed annotations: see options.py

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union

import typer

from estheory.cli import complete, values
from estheory.cli.case import Case
from estheory.cli.options import ANCHORS, GRADIENT, OFF_TASK, ROUNDING, ConfigOptions, given_in
from estheory.errors import ConfigError
from estheory.landscape import linear_signal
from estheory.rules import ESConfig
from estheory.theory.adamw import Schedule
from estheory.theory.effective_dimension import Shapes
from estheory.theory.grpo import GRPOConfig
from estheory.theory.rounding.weights import WeightHistogram, normal_weights

if TYPE_CHECKING:
    from estheory.simulation.emulator.strata import SampledWeights
    from estheory.theory.prompt_batch import PromptBatch

MOST_ROWS = 10_000
"""Most configurations that comma lists may make."""

ModelOption = Annotated[
    str | None,
    typer.Option(help="Or a model folder or built-in model that has them.", autocompletion=complete.models),
]
TrainableOption = Annotated[
    str | None, typer.Option(help="Which of them: all | last:K | lora:R | regex:... (default all).")
]
SpectrumOption = Annotated[
    Path | None, typer.Option(help="CSV file eigenvalue,multiplicity,offset of minus the Hessian.")
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How many parameters are trained."""

    panel: ClassVar[str] = "Model"

    dim: Annotated[
        tuple[int, ...], typer.Option(help="Number of trainable parameters, e.g. 4e9 or 3B.", parser=values.sizes)
    ] = ()
    model: ModelOption = None
    trainable: TrainableOption = None


_RULES = ("sigma", "alpha", "population", "steps", "shaping", "antithetic", "noise")
_ANCHORS = ("anchor_l2", "anchor_l1", "anchor_form", "momentum")
_ROUNDING = ("dtype", "update_path", "restore_pairs")
RULES = ConfigOptions(
    ESConfig,
    {"Rules of the run": _RULES, ANCHORS: _ANCHORS, ROUNDING: _ROUNDING},
    lists=True,
    help={"steps": "Steps T; a list predicts at each (default 1)."},
)
"""What the ES run does."""


@dataclass(frozen=True, kw_only=True)
class WeightOptions:
    """The weights that rounding acts on."""

    panel: ClassVar[str] = ROUNDING

    weights: Annotated[Path | None, typer.Option(help="Checkpoint whose weights rounding acts on.")] = None
    weight_std: Annotated[tuple[float, ...], typer.Option(help="Or their standard deviation, taken as normal.")] = ()


@dataclass(frozen=True, kw_only=True)
class SignalOptions:
    """What is known of the rewards."""

    panel: ClassVar[str] = "Signal in the rewards"

    reliability: Annotated[
        tuple[float, ...], typer.Option(help="rho^2: share of the variance of member rewards that is signal.")
    ] = ()
    gradient_norm: Annotated[tuple[float, ...], typer.Option(help="||g||, in reward per weight unit.")] = ()
    reward_std: Annotated[tuple[float, ...], typer.Option(help="s: noise of one member's reward.")] = ()
    success: Annotated[tuple[float, ...], typer.Option(help="Base accuracy p of 0/1 rewards; needs --prompts.")] = ()
    prompts: Annotated[tuple[int, ...], typer.Option(help="Prompts B that a member's reward averages over.")] = ()
    spectrum: SpectrumOption = None


@dataclass(frozen=True, kw_only=True)
class OffTaskOptions:
    """What is known of another task."""

    panel: ClassVar[str] = OFF_TASK

    fisher_trace: Annotated[tuple[float, ...], typer.Option(help="tr F per token, for kl_drift.")] = ()
    fisher_square_trace: Annotated[tuple[float, ...], typer.Option(help="tr F^2, for its spread over seeds.")] = ()
    off_task_trace: Annotated[tuple[float, ...], typer.Option(help="Trace of another task's curvature.")] = ()
    off_task_square_trace: Annotated[
        tuple[float, ...], typer.Option(help="Trace of its square, for the spread over seeds.")
    ] = ()
    off_task_gradient_norm: Annotated[tuple[float, ...], typer.Option(help="||g|| of another task.")] = ()


@dataclass(frozen=True, kw_only=True)
class GradientOptions:
    """The gradient-trained run to compare with."""

    panel: ClassVar[str] = GRADIENT

    grpo_lr: Annotated[tuple[float, ...], typer.Option(help="AdamW's peak learning rate.")] = ()
    grpo_steps: Annotated[tuple[int, ...], typer.Option(help="AdamW's number of steps.")] = ()
    grpo_schedule: Annotated[Schedule | None, typer.Option(help="Learning-rate schedule (default linear)")] = None
    grpo_norm: Annotated[tuple[float, ...], typer.Option(help="Or the measured GRPO displacement norm.")] = ()


def require_given(names: Collection[str], required: Sequence[str] = ("dim", "sigma", "population")) -> None:
    """Require options, naming all that are missing.

    `names`: those that are given, as Python names.
    """
    missing = [name for name in required if name not in names]
    if missing:
        shown = [f"--{name}{' or --model' if name == 'dim' else ''}" for name in missing]
        verb = "is" if len(missing) == 1 else "are"
        example = " ".join(f"--{name} {_EXAMPLES[name]}" for name in missing)
        raise ConfigError(f"{_listed(shown)} {verb} missing", f"e.g. {example}")


_EXAMPLES = {"dim": "4e9", "sigma": "0.0015", "population": "30"}


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def cases(*groups: object) -> tuple[list[Case], list[str]]:
    """Return the rows that groups of options describe.

    `*groups`: a list in them makes a row for each of its numbers, but ``steps``, a list of checkpoints.
    Result: one case per row of the Cartesian product, last option fastest, and the names of the options that vary.
    """
    given = given_in(*groups)
    shapes, dim = _shapes(given)
    checkpoints = tuple(given.pop("steps", (1,)))
    sweep: dict[str, Sequence[Any]] = {} if dim is None else {"dim": (dim,)}
    sweep |= {name: value for name, value in given.items() if isinstance(value, tuple)}
    require_given(set(sweep))
    if (count := math.prod(map(len, sweep.values()))) > MOST_ROWS:
        raise ConfigError(f"the lists make {count:,} rows", f"at most {MOST_ROWS:,} are allowed: shorten a list")
    single = {name: value for name, value in given.items() if name not in sweep}
    weights = None
    if "weights" in given and given.get("dtype", "float32") != "float32":
        from estheory.simulation.emulator.checkpoint_weights import checkpoint_weights

        weights = checkpoint_weights(given["weights"], given["dtype"], given.get("trainable", "all"))
    rows = [
        _case(dict(zip(sweep, row, strict=True)), single, checkpoints, shapes, weights)
        for row in product(*sweep.values())
    ]
    return rows, [name for name, entries in sweep.items() if len(entries) > 1]


_FIELDS = tuple(name for name in (*_RULES, *_ANCHORS, *_ROUNDING) if name != "steps")


def _case(
    value: dict[str, Any],
    single: Mapping[str, Any],
    checkpoints: tuple[int, ...],
    shapes: Shapes | None,
    sampled: Union["SampledWeights", None],
) -> Case:
    """Return one row.

    `value`: of each number option that is given.
    `single`: of each other option that is given.
    """
    told = {**single, **value}
    rules = {name: told[name] for name in _FIELDS if name in told}
    config = ESConfig(dim=value["dim"], steps=max(checkpoints), **rules)
    reward = landscape = None
    batch = _batch(value)
    reward_std = value.get("reward_std") if batch is None else batch.reward_std
    if "spectrum" in single:
        if "reliability" in value or "gradient_norm" in value:
            raise ConfigError("--spectrum excludes --reliability and --gradient-norm", "the spectrum determines both")
        from estheory.theory.curved.spectra import read_landscape

        landscape = read_landscape(single["spectrum"], dim=config.dim, reward_std=reward_std)
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
        from estheory.theory.curved.predictions import OffTask

        off_task = OffTask(
            fisher_trace=value.get("fisher_trace"),
            fisher_square_trace=value.get("fisher_square_trace"),
            trace=value.get("off_task_trace"),
            square_trace=value.get("off_task_square_trace"),
            gradient_norm=value.get("off_task_gradient_norm"),
            signal_curvature=value.get("signal_curvature"),
            signal_curvature_stderr=value.get("signal_curvature_stderr", 0.0),
        )
    weights: SampledWeights | WeightHistogram | None = sampled
    if "weight_std" in value:
        weights = normal_weights(value["weight_std"])
    schedule: Schedule = single.get("grpo_schedule", "linear")
    grpo = None
    if any(name.startswith("grpo") for name in value):
        grpo = GRPOConfig(
            lr=value.get("grpo_lr"),
            steps=value.get("grpo_steps"),
            norm=value.get("grpo_norm"),
            schedule=schedule,
        )
    steps = checkpoints[0] if len(checkpoints) == 1 else list(checkpoints)
    shown: dict[str, Any] = {
        "dim": config.dim,
        "sigma": config.sigma,
        "alpha": config.step_size,
        "population": config.population,
    }
    shown |= {"steps": steps} | {k: v for k, v in value.items() if k not in shown}
    if grpo is not None and grpo.lr is not None:
        shown["grpo_schedule"] = schedule
    shown |= {name: str(item) if isinstance(item, Path) else item for name, item in single.items()}
    return Case(shown, config, checkpoints, reward, landscape, off_task, shapes, weights, grpo, batch)


def _batch(value: dict[str, Any]) -> Union["PromptBatch", None]:
    """Return the prompts behind 0/1 rewards, if they were given."""
    if "success" not in value and "prompts" not in value:
        return None
    if "success" not in value or "prompts" not in value:
        raise ConfigError("--success and --prompts belong together", "give both, or --reward-std")
    if "reward_std" in value:
        raise ConfigError("--success and --prompts exclude --reward-std", "they determine it: sqrt(p (1-p) / B)")
    from estheory.theory.prompt_batch import PromptBatch

    return PromptBatch(success=value["success"], prompts=value["prompts"])


def _shapes(given: Mapping[str, Any]) -> tuple[Shapes | None, int | None]:
    """Return tensor shapes and, without ``--dim``, the number of trainable parameters."""
    if "weights" in given and "weight_std" in given:
        raise ConfigError("--weights and --weight-std exclude each other", "give one")
    if "model" in given and "dim" in given:
        raise ConfigError("--model and --dim exclude each other", "give one")
    if "trainable" in given and "model" not in given and "weights" not in given:
        raise ConfigError("--trainable needs --model or --weights", "it selects among a model's tensors")
    source = given.get("model", given.get("weights"))
    if source is None:
        return None, None
    from estheory.models.builtin import model_folder
    from estheory.models.shapes import tensor_shapes, trainable_shapes

    shapes = list(trainable_shapes(tensor_shapes(model_folder(source)), given.get("trainable", "all")).values())
    return shapes, sum(math.prod(shape) for shape in shapes) if "dim" not in given else None
