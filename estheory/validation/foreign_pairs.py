"""What theory says of a foreign run, joined with what was measured of its checkpoints or logged by its code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estheory.cosine_laws import CorrelationLaw
from estheory.errors import DataError
from estheory.laws import ChiLaw, Law, NormalLaw, SquaredLaw
from estheory.quantities import Label, Measurement, Prediction, Quantity
from estheory.theory.adamw import walk_factor
from estheory.theory.walk import OURS, PAPER, Shapes, shared_seed_dimension
from estheory.validation.foreign import ForeignRun

Pair = tuple[Prediction, Measurement]
Array = NDArray[np.float64]

FLAT = "all but a vanishing share of the coordinates are flat"
SHARED = "tensors of equal element count share their noise"
UNMODELLED_ROUNDING = 0.02
"""Declared relative half-width of norms of 16-bit runs: a stand-in until rounding is predicted from their weights."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPath:
    """What was measured of the checkpoints of one run, in order of their K steps.

    Attributes
    ----------
    steps
        Steps, length K.
    shapes
        Tensor shapes as the run itself held them.
    norms, cosines
        Displacement norms, shape (K,), and their cosines, shape (K, K).
    exponent
        Slope of log ||Delta||^2 in log T; None with one checkpoint.
    tensors
        Number of entries and displacement norm of each tensor at the last checkpoint.
    low_precision
        Whether the weights are stored in 16 bits.
    """

    steps: Sequence[int]
    shapes: Shapes
    norms: Array
    cosines: Array
    exponent: float | None
    tensors: Mapping[str, tuple[int, float]]
    low_precision: bool


def foreign_pairs(run: ForeignRun, measured: MeasuredPath | None) -> list[Pair]:
    """Return predictions and measurements of a foreign run.

    Parameters
    ----------
    run
        Its records.
    measured
        What its checkpoints show; None where only its log speaks.

    Raises
    ------
    DataError
        If nothing can be judged.
    """
    pairs = list(_es_pairs(run, measured) if len(run.increments) else _gradient_pairs(run, measured))
    if not pairs:
        why = "; ".join(run.unjudged) or "it has neither checkpoints beside its base weights nor logged norms"
        raise DataError(f"{run.path}: nothing can be judged: {why}", "give --model BASE if checkpoints are there")
    return pairs


def exponent_law(steps: Sequence[int], variances: Array, effective_dim: float) -> NormalLaw:
    """Return the law of the least-squares slope of log ||Delta_T||^2 in log T over checkpoints of one walk.

    Cov(log ||Delta_a||^2, log ||Delta_b||^2) = (2/d) v_a / v_b for a before b. Exact for large d; ours.

    Parameters
    ----------
    steps
        Two or more different steps, in order.
    variances : ndarray, shape (K,)
        Variance of a coordinate at each (weight^2), without an anchor.
    effective_dim
        Effective number of independent coordinates.
    """
    x = np.log(np.asarray(steps, dtype=np.float64))
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    shares = np.minimum.outer(variances, variances) / np.maximum.outer(variances, variances)
    spread = math.sqrt(2 / effective_dim * float(weights @ shares @ weights))
    return NormalLaw(float(weights @ np.log(variances)), spread)


def _es_pairs(run: ForeignRun, measured: MeasuredPath | None) -> Iterator[Pair]:
    assumptions: tuple[str, ...] = (FLAT, run.condition)
    variances = run.variances
    logged_band = UNMODELLED_ROUNDING if run.low_precision else 0.0
    unshared = (*assumptions, "independent noise: the log has no tensor shapes")
    for step, (norm, counted) in run.logged_norms.items():
        if variances[step] > 0:
            law = ChiLaw(math.sqrt(variances[step]), counted)
            yield _pair(run, Quantity.DISPLACEMENT_NORM, law, norm, step, "logged", PAPER, unshared, logged_band)
    if measured is None:
        return
    dim = sum(size for size, _ in measured.tensors.values())
    df = shared_seed_dimension(measured.shapes)
    assumptions = (*assumptions, SHARED)
    band = UNMODELLED_ROUNDING if measured.low_precision else 0.0
    at = [float(variances[step]) for step in measured.steps]
    moved = [k for k, v in enumerate(at) if v > 0]
    for k in moved:
        law = ChiLaw(math.sqrt(at[k] * dim / df), df)
        where = f"total:step {measured.steps[k]}"
        norm = float(measured.norms[k])
        yield _pair(run, Quantity.DISPLACEMENT_NORM, law, norm, measured.steps[k], where, PAPER, assumptions, band)
    for i, a in enumerate(moved):
        for b in moved[i + 1 :]:
            gap = measured.steps[b] - measured.steps[a]
            rho = run.keep**gap * math.sqrt(at[a] / at[b])
            where = f"step {measured.steps[a]}|step {measured.steps[b]}"
            if rho < 1:
                yield _pair(
                    run,
                    Quantity.CHECKPOINT_COSINE,
                    CorrelationLaw(rho, df),
                    float(measured.cosines[a, b]),
                    measured.steps[b],
                    where,
                    OURS,
                    assumptions,
                    0.0,
                )
    if measured.exponent is not None and len(moved) == len(at) and run.keep == 1.0 and len(set(at)) == len(at):
        law_of_slope = exponent_law(measured.steps, np.array(at), df)
        where = f"step {measured.steps[0]}..step {measured.steps[-1]}"
        slope = measured.exponent
        yield _pair(run, Quantity.DISPLACEMENT_EXPONENT, law_of_slope, slope, None, where, OURS, assumptions, band)
    if moved and moved[-1] == len(at) - 1:
        for name, (size, norm) in measured.tensors.items():
            if size:
                yield _pair(
                    run,
                    Quantity.EFFECTIVE_DIMENSION_RATIO,
                    SquaredLaw(ChiLaw(1 / math.sqrt(size), size)),
                    norm**2 / (at[-1] * size),
                    measured.steps[-1],
                    f"tensor:step {measured.steps[-1]}:{name}",
                    PAPER,
                    assumptions,
                    2 * band,
                )


def _gradient_pairs(run: ForeignRun, measured: MeasuredPath | None) -> Iterator[Pair]:
    """Pair the AdamW walk of dense gradient noise with the norm at each checkpoint; each optimiser starts anew."""
    if measured is None:
        return
    dim = sum(size for size, _ in measured.tensors.values())
    band = UNMODELLED_ROUNDING if measured.low_precision else 0.0
    for k, step in enumerate(measured.steps):
        square, left = 0.0, step
        for rates in run.rates:
            made = rates[: max(left, 0)]
            left -= len(rates)
            if made.size and made.max() > 0:
                square += walk_factor(made / made.max()) * float(made @ made)
        if square > 0:
            yield _pair(
                run,
                Quantity.GRPO_DISPLACEMENT_NORM,
                ChiLaw(math.sqrt(square), dim),
                float(measured.norms[k]),
                step,
                f"total:step {step}",
                "ours: docs/concepts/es-and-grpo.md",
                ("dense, independent gradient noise", "no weight decay", "AdamW, started anew for each task"),
                band,
                "mean-field",
            )


def _pair(
    run: ForeignRun,
    quantity: Quantity,
    law: Law,
    value: float,
    step: int | None,
    where: str,
    source: str,
    assumptions: tuple[str, ...],
    systematic: float,
    label: Label = "exact",
) -> Pair:
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
