"""The laws of a foreign run's norms and of their growth, and how they are paired with what was measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from estheory._special import Array
from estheory.laws import ChiLaw, NormalLaw
from estheory.quantities import Prediction
from estheory.runs.view import ForeignRun
from estheory.validation.foreign_rounding import Factor, Roundings
from estheory.validation.judge import Pair, paired

EXACT = Factor()


def norm_law(variance: float, count: float, dimension: float, factor: Factor) -> ChiLaw:
    """Return the law of the norm of ``count`` entries that walked to ``variance``, under rounding.

    A chi variable with the right mean square. Its effective ``dimension`` shrinks by the kurtosis that rounding gives
    the entries (the excess counts as wholly shared between tensors that share their noise: an upper bound), and the
    factor's relative error mixes it.

    `dimension`: effective number of independent ones in exact arithmetic.
    """
    df = dimension * 2 / (factor.kurtosis - 1)
    mixing = 2 / factor.error**2 if factor.error else math.inf
    return ChiLaw(math.sqrt(variance * factor.value * count / df), df, mixing)


def factor_at(roundings: Roundings | None, step: int, tensors: Collection[str] | None = None) -> Factor:
    """Return what rounding does to the variance of all weights, or of some tensors, up to a step.

    `roundings`: emulations of the run; None in float32, where nothing is changed.
    `tensors`: names of the tensors; None for all weights.
    """
    return EXACT if roundings is None else roundings.variance(step, tensors)


def with_rounding(assumptions: tuple[str, ...], roundings: Roundings | None) -> tuple[str, ...]:
    """Return assumptions with that of the emulation, where there is one."""
    return assumptions if roundings is None else (*assumptions, roundings.assumption)


def measured_in(run: ForeignRun, prediction: Prediction, value: float, where: str) -> Pair:
    """Return one prediction with its measurement, which names the run's folder and its code."""
    return paired(prediction, value, where=where, source=f"{run.path.resolve().name} ({run.format})")


def exponent_law(steps: Sequence[int], variances: Array, effective_dim: float) -> NormalLaw:
    """Return the law of the least-squares slope of log ||Delta_T||^2 in log T over checkpoints of one walk.

    Cov(log ||Delta_a||^2, log ||Delta_b||^2) = (2/d) v_a / v_b for a before b. Exact for large d; ours.

    `variances`: shape (K,), variance of a coordinate at each (weight^2), without an anchor.
    Result: of the slope: mean 1 where the variance is proportional to T.
    """
    weights = slope_weights(steps)
    shares = np.minimum.outer(variances, variances) / np.maximum.outer(variances, variances)
    spread = math.sqrt(2 / effective_dim * float(weights @ shares @ weights))
    return NormalLaw(float(weights @ np.log(variances)), spread)


def slope_weights(steps: Sequence[int]) -> Array:
    """Return what a least-squares slope in log T gives the value at each step."""
    x = np.log(np.asarray(steps, dtype=np.float64))
    return np.asarray((x - x.mean()) / np.sum((x - x.mean()) ** 2))
