"""One configuration of those that ES options describe, and its forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from estheory.landscape import Landscape, Signal
from estheory.rules import ESConfig
from estheory.theory.effective_dimension import Shapes
from estheory.theory.grpo import GRPOConfig
from estheory.theory.predictions import Forecast, predict
from estheory.theory.weight_histograms import WeightHistogram

if TYPE_CHECKING:
    from estheory.simulation.low_precision import Rounding
    from estheory.simulation.strata import SampledWeights
    from estheory.theory.landscape_predictions import OffTask
    from estheory.theory.prompt_batch import PromptBatch


@dataclass(frozen=True)
class Case:
    """One row: the options as JSON shows them, and what they mean."""

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
    """Return what rounding does to a low-precision case, None in float32. Seconds where it is emulated."""
    if case.config.dtype == "float32":
        return None
    from estheory.simulation.low_precision import rounding_of as effect

    return effect(case.config, case.weights, case.checkpoints, seed)


def forecast_of(case: Case, rounding: Rounding | None = None) -> Forecast:
    """Return the predictions for one case; ``rounding`` is :func:`rounding_of` it, made here when None."""
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
