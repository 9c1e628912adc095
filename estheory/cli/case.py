"""One configuration of those that ES options describe, and its forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from estheory.landscape import Landscape, Signal
from estheory.rules import ESConfig
from estheory.theory.effective_dimension import Shapes
from estheory.theory.grpo import GRPOConfig
from estheory.theory.predictions import Forecast, predict
from estheory.theory.rounding.weights import WeightHistogram

if TYPE_CHECKING:
    from estheory.simulation.emulator.low_precision import Rounding
    from estheory.simulation.emulator.strata import SampledWeights
    from estheory.theory.curved.predictions import OffTask
    from estheory.theory.prompt_batch import PromptBatch


@dataclass(frozen=True)
class Case:
    """One row: the options as JSON shows them, and what they mean.

    Attributes
    ----------
    shown
        The options by name, as JSON shows them.
    config
        What the ES run does.
    checkpoints
        Steps to predict at.
    reward
        The signal; None if no option tells it.
    landscape
        Of ``--spectrum``, which tells the signal, too; None without.
    off_task
        Curvature and gradient of another task; None if no option tells them.
    shapes
        Of the model's trained tensors; None if dim alone is given.
    weights
        What rounding acts on; None while they are unknown.
    grpo
        The run to compare with; None for none.
    batch
        Of 0/1 rewards; None for others.
    """

    shown: dict[str, Any]
    config: ESConfig
    checkpoints: tuple[int, ...]
    reward: Signal | None
    landscape: Landscape | None
    off_task: OffTask | None
    shapes: Shapes | None
    weights: SampledWeights | WeightHistogram | None
    grpo: GRPOConfig | None
    batch: PromptBatch | None = None


def rounding_of(case: Case, seed: int = 0) -> Rounding | None:
    """Return what rounding does to a low-precision case. Seconds where it is emulated.

    Parameters
    ----------
    case
        One row.
    seed
        Of the emulation.

    Returns
    -------
    Rounding or None
        None in float32.
    """
    if case.config.dtype == "float32":
        return None
    from estheory.simulation.emulator.low_precision import rounding_of as effect

    return effect(case.config, case.weights, case.checkpoints, seed)


def forecast_of(case: Case, rounding: Rounding | None = None) -> Forecast:
    """Return the predictions for one case."""
    rounding = rounding or rounding_of(case)
    return predict(
        case.config,
        checkpoints=case.checkpoints,
        reward=case.reward,
        landscape=case.landscape,
        off_task=case.off_task,
        shapes=case.shapes,
        rounding=rounding.effects if rounding else None,
        band=rounding.band if rounding else None,
        grpo=case.grpo,
        batch=case.batch,
    )
