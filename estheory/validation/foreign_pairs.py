"""What theory says of a foreign run, joined with what was measured of its checkpoints or logged by its code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.cosine_laws import CorrelationLaw
from estheory.errors import DataError
from estheory.laws import Law, NormalLaw, SquaredLaw
from estheory.models.torch_files import AdamRules
from estheory.quantities import Label, Prediction, Quantity
from estheory.rules import Dtype
from estheory.runs.view import ForeignRun
from estheory.theory.adamw import decayed_rates
from estheory.theory.effective_dimension import Shapes, shared_seed_dimension
from estheory.theory.estimators.estimator import PAPER
from estheory.theory.walk import OURS
from estheory.validation.assumptions import DENSE, FEWEST, FLAT, SHARED
from estheory.validation.foreign_laws import (
    EXACT,
    exponent_law,
    factor_at,
    measured_in,
    norm_law,
    slope_weights,
    with_rounding,
)
from estheory.validation.foreign_logged import logged_pairs
from estheory.validation.foreign_rounding import OWN_WEIGHTS, Factor, Roundings, walk_square
from estheory.validation.judge import Pair


@dataclass(frozen=True, kw_only=True)
class Adam:
    """The optimiser of a run.

    Attributes
    ----------
    rules
        What its state tells.
    base_square
        ||theta_0||^2 (weight^2), which weight decay shrinks.
    """

    rules: AdamRules = field(default_factory=AdamRules)
    base_square: float = 0.0


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
    dtype
        How the weights are stored.
    """

    steps: Sequence[int]
    shapes: Shapes
    norms: Array
    cosines: Array
    exponent: float | None
    tensors: Mapping[str, tuple[int, float]]
    dtype: Dtype = "float32"


def foreign_pairs(
    run: ForeignRun,
    measured: MeasuredPath | None,
    roundings: Roundings | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    adamw: Mapping[int, Factor] | None = None,
    adam: Adam | None = None,
) -> list[Pair]:
    """Return predictions and measurements of a foreign run.

    `measured`: what its checkpoints show; None where only its log speaks.
    `roundings`: what rounding does to an ES run in 16 bits, at every step that is judged; None in float32.
    `shapes`: shapes of its tensors by name; what is logged of layers is judged only with them.
    `adamw`: what rounding does to a gradient method's walk in 16 bits, by step; None in float32.
    `adam`: the optimiser of a gradient method; usual betas and no weight decay where None.
    """
    es = len(run.increments) > 0
    pairs = [
        *(logged_pairs(run, roundings, shapes or {}) if es else ()),
        *(_es_pairs(run, measured, roundings) if es and measured else ()),
        *(_gradient_pairs(run, measured, adamw or {}, adam or Adam()) if measured and len(run.rates) else ()),
    ]
    if not pairs:
        why = "; ".join(run.unjudged) or "it has neither checkpoints beside its base weights nor logged norms"
        raise DataError(f"{run.path}: nothing can be judged: {why}", "give --model BASE if checkpoints are there")
    return pairs


def _es_pairs(run: ForeignRun, measured: MeasuredPath, roundings: Roundings | None) -> Iterator[Pair]:
    assumptions = with_rounding((FLAT, run.condition, SHARED), roundings)
    label: Label = "exact" if roundings is None else "mean-field"
    variances = run.variances
    dim = sum(size for size, _ in measured.tensors.values())
    df = shared_seed_dimension(measured.shapes)
    at = [float(variances[step]) for step in measured.steps]
    moved = [k for k, v in enumerate(at) if v > 0]
    factors = [factor_at(roundings, step) if v > 0 else EXACT for step, v in zip(measured.steps, at, strict=True)]
    for k in moved:
        step, factor = measured.steps[k], factors[k]
        uncounted = run.uncounted * float(run.increments[-1]) / at[k]
        yield measured_in(
            run,
            Prediction(
                quantity=Quantity.DISPLACEMENT_NORM,
                law=norm_law(at[k], dim, df, factor),
                label=label,
                source=PAPER,
                assumptions=assumptions,
                step=step,
                systematic=factor.norm_half_width + uncounted / 2,
            ),
            float(measured.norms[k]),
            f"total:step {step}",
        )
    for i, a in enumerate(moved):
        for b in moved[i + 1 :]:
            first, second = measured.steps[a], measured.steps[b]
            rho = run.keep ** (second - first) * math.sqrt(at[a] / at[b])
            law: Law = CorrelationLaw(rho, df) if rho < 1 else NormalLaw(1.0, 0.0)
            band = 0.0
            if roundings is not None:
                found = roundings.cosine(first, second)
                noise = 2 / (factors[b].kurtosis - 1) * df
                spread = CorrelationLaw(min(rho, found.value), noise).std if rho < 1 else 0.0
                law = NormalLaw(found.value, math.hypot(spread, found.error * found.value))
                band = found.half_width
            if rho < 1:
                yield measured_in(
                    run,
                    Prediction(
                        quantity=Quantity.CHECKPOINT_COSINE,
                        law=law,
                        label=label,
                        source=OURS,
                        assumptions=assumptions,
                        step=second,
                        systematic=band,
                    ),
                    float(measured.cosines[a, b]),
                    f"step {first}|step {second}",
                )
    if (
        measured.exponent is not None
        and len(moved) == len(at)
        and run.keep == 1.0
        and not run.pull
        and len(set(at)) == len(at)
    ):
        yield _exponent(run, measured, np.array(at), factors, df, assumptions, label)
    if moved and moved[-1] == len(at) - 1:
        yield from _tensors(run, measured, at[-1], roundings, assumptions, label)


def _exponent(
    run: ForeignRun,
    measured: MeasuredPath,
    variances: Array,
    factors: Sequence[Factor],
    df: float,
    assumptions: tuple[str, ...],
    label: Label,
) -> Pair:
    """Pair the slope of log ||Delta||^2 in log T; the emulator's errors at all checkpoints are taken to add up."""
    kurtosis = max(factor.kurtosis for factor in factors)
    plain = exponent_law(measured.steps, variances * np.array([f.value for f in factors]), df * 2 / (kurtosis - 1))
    pull = np.abs(slope_weights(measured.steps))
    error = float(pull @ np.array([f.error for f in factors]))
    band = float(pull @ np.array([f.half_width for f in factors])) / abs(plain.mean)
    where = f"step {measured.steps[0]}..step {measured.steps[-1]}"
    law = NormalLaw(plain.mean, math.hypot(plain.std, error))
    slope = measured.exponent
    assert slope is not None  # the caller looked
    return measured_in(
        run,
        Prediction(
            quantity=Quantity.DISPLACEMENT_EXPONENT,
            law=law,
            label=label,
            source=OURS,
            assumptions=assumptions,
            systematic=band,
        ),
        slope,
        where,
    )


def _tensors(
    run: ForeignRun,
    measured: MeasuredPath,
    variance: float,
    roundings: Roundings | None,
    assumptions: tuple[str, ...],
    label: Label,
) -> Iterator[Pair]:
    """Pair the squared displacement of each tensor over that of an exact walk, at the last checkpoint."""
    step = measured.steps[-1]
    for name, (size, norm) in measured.tensors.items():
        if not size or (roundings is not None and name not in roundings.names()):
            continue
        factor = factor_at(roundings, step, (name,))
        law = norm_law(1 / size, size, size, factor) if factor.value > 0 else None
        if law is None or law.df < FEWEST * (roundings is not None):
            continue
        yield measured_in(
            run,
            Prediction(
                quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
                law=SquaredLaw(law),
                label=label,
                source=PAPER,
                assumptions=assumptions,
                step=step,
                systematic=factor.half_width,
            ),
            norm**2 / (variance * size),
            f"tensor:step {step}:{name}",
        )


def _gradient_pairs(
    run: ForeignRun, measured: MeasuredPath, rounded: Mapping[int, Factor], adam: Adam
) -> Iterator[Pair]:
    """Pair the AdamW walk of dense gradient noise with the norm at each checkpoint."""
    dim = sum(size for size, _ in measured.tensors.values())
    (beta1, beta2), decay = adam.rules.betas, adam.rules.weight_decay
    decays = f"weight decay {decay:g} of all weights" if decay else "no weight decay"
    assumptions = (DENSE, decays, f"AdamW, betas {beta1:g} and {beta2:g}")
    for step, norm in zip(measured.steps, measured.norms, strict=True):
        left, lost = decayed_rates(run.rates[:step], decay)
        variance = walk_square(left, adam.rules.betas) + lost**2 * adam.base_square / max(dim, 1)
        factor = rounded.get(step, EXACT)
        if variance * factor.value > 0:
            yield measured_in(
                run,
                Prediction(
                    quantity=Quantity.GRPO_DISPLACEMENT_NORM,
                    law=norm_law(variance, dim, dim, factor),
                    label="mean-field",
                    source=ours("es-and-grpo"),
                    assumptions=(*assumptions, OWN_WEIGHTS) if rounded else assumptions,
                    step=step,
                    systematic=factor.norm_half_width,
                ),
                float(norm),
                f"total:step {step}",
            )
