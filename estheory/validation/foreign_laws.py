"""The laws of a foreign run's norms, and how they are paired with what was measured."""

from __future__ import annotations

import math
from collections.abc import Collection

from estheory.laws import ChiLaw, Law
from estheory.quantities import Label, Measurement, Prediction, Quantity
from estheory.runs.view import ForeignRun
from estheory.theory.estimators.estimator import PAPER
from estheory.validation.foreign_rounding import Roundings
from estheory.validation.judge import Pair
from estheory.validation.rounding_factor import Factor

EXACT = Factor()


def norm_law(variance: float, count: float, dimension: float, factor: Factor) -> ChiLaw:
    """Return the law of the norm of ``count`` entries that walked to ``variance``, under rounding.

    A chi variable with the right mean square. Its effective ``dimension`` shrinks by the kurtosis that rounding gives
    the entries (the excess counts as wholly shared between tensors that share their noise: an upper bound), and the
    factor's relative error mixes it.

    Parameters
    ----------
    dimension
        Effective number of independent ones in exact arithmetic.
    """
    df = dimension * 2 / (factor.kurtosis - 1)
    mixing = 2 / factor.error**2 if factor.error else math.inf
    return ChiLaw(math.sqrt(variance * factor.value * count / df), df, mixing)


def factor_at(roundings: Roundings | None, step: int, tensors: Collection[str] | None = None) -> Factor:
    """Return what rounding does to the variance of all weights, or of some tensors, up to a step.

    Parameters
    ----------
    roundings
        Emulations of the run; None in float32, where nothing is changed.
    tensors
        Names of the tensors; None for all weights.
    """
    return EXACT if roundings is None else roundings.variance(step, tensors)


def with_rounding(assumptions: tuple[str, ...], roundings: Roundings | None) -> tuple[str, ...]:
    """Return assumptions with that of the emulation, where there is one."""
    return assumptions if roundings is None else (*assumptions, roundings.assumption)


def pair(
    run: ForeignRun,
    quantity: Quantity,
    law: Law,
    value: float,
    step: int | None,
    where: str,
    assumptions: tuple[str, ...],
    systematic: float,
    label: Label = "exact",
    source: str = PAPER,
) -> Pair:
    """Return one prediction with its measurement.

    Parameters
    ----------
    step
        Number of steps behind it; None where it is of several.

    Returns
    -------
    tuple of Prediction and Measurement
        The measurement names the run's folder and its code.
    """
    name = run.path.resolve().name
    return (
        Prediction(
            quantity=quantity,
            law=law,
            label=label,
            source=source,
            assumptions=assumptions,
            step=step,
            systematic=systematic,
        ),
        Measurement(quantity=quantity, value=value, step=step, where=where, source=f"{name} ({run.format})"),
    )
