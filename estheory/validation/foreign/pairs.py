"""What theory says of a foreign run, joined with what was measured of its checkpoints or logged by its code."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estheory.cosine_laws import CorrelationLaw
from estheory.errors import DataError
from estheory.laws import ChiLaw, Law, NormalLaw, SquaredLaw
from estheory.quantities import Label, Measurement, Prediction, Quantity
from estheory.rules import Dtype
from estheory.tensor_names import layer_of
from estheory.theory.walk import OURS, PAPER, Shapes, shared_seed_dimension
from estheory.validation.foreign.rounded import OWN_WEIGHTS, Factor, Roundings, walk_square
from estheory.validation.foreign.run import ForeignRun

Pair = tuple[Prediction, Measurement]
Array = NDArray[np.float64]

FLAT = "all but a vanishing share of the coordinates are flat"
SHARED = "tensors of equal element count share their noise"
APART = "independent noise: the log has no tensor shapes"
EXACT = Factor()


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
) -> list[Pair]:
    """Return predictions and measurements of a foreign run.

    Parameters
    ----------
    run
        Its records.
    measured
        What its checkpoints show; None where only its log speaks.
    roundings
        What rounding does to an ES run in 16 bits, at every step that is judged; None in float32.
    shapes
        Shapes of its tensors by name; what is logged of layers is judged only with them.
    adamw
        What rounding does to a gradient method's walk in 16 bits, by step; None in float32.

    Raises
    ------
    DataError
        If nothing can be judged.
    """
    es = len(run.increments) > 0
    pairs = [
        *(_logged(run, roundings, shapes or {}) if es else ()),
        *(_es_pairs(run, measured, roundings) if es and measured else ()),
        *(_gradient_pairs(run, measured, adamw or {}) if measured and len(run.rates) else ()),
    ]
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
    weights = _slope_weights(steps)
    shares = np.minimum.outer(variances, variances) / np.maximum.outer(variances, variances)
    spread = math.sqrt(2 / effective_dim * float(weights @ shares @ weights))
    return NormalLaw(float(weights @ np.log(variances)), spread)


def _slope_weights(steps: Sequence[int]) -> Array:
    x = np.log(np.asarray(steps, dtype=np.float64))
    return np.asarray((x - x.mean()) / np.sum((x - x.mean()) ** 2))


def norm_law(variance: float, count: float, dimension: float, factor: Factor) -> ChiLaw:
    """Return the law of the norm of ``count`` entries that walked to ``variance``, under rounding.

    A chi variable with the right mean square. Its effective ``dimension`` shrinks by the kurtosis that rounding gives
    the entries (the excess counts as wholly shared between tensors that share their noise: an upper bound), and the
    factor's relative error mixes it.
    """
    df = dimension * 2 / (factor.kurtosis - 1)
    mixing = 2 / factor.error**2 if factor.error else math.inf
    return ChiLaw(math.sqrt(variance * factor.value * count / df), df, mixing)


def _factor(roundings: Roundings | None, step: int, tensors: Collection[str] | None = None) -> Factor:
    return EXACT if roundings is None else roundings.variance(step, tensors)


def _logged(run: ForeignRun, roundings: Roundings | None, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Pair]:
    """Pair logged norms, of the whole model and of its layers; a tied embedding may be in both ends."""
    layers = layers_of(shapes)
    held = sum(map(math.prod, shapes.values()))
    head = layers.get("embedding", {}) if "lm_head" not in layers else {}
    twice = sum(map(math.prod, head.values()))
    for step, (norm, counted) in run.logged_norms.items():
        variance = float(run.variances[step])
        if variance == 0:
            continue
        factor, df, told = _factor(roundings, step), float(counted), (FLAT, run.condition, APART)
        if shapes and counted in (held, held + twice):
            whole = [*shapes.values(), *(head.values() if counted > held else ())]
            df, told = shared_seed_dimension(whole), (FLAT, run.condition, SHARED)
            if counted > held and roundings is not None and roundings.names():
                factor = _doubled(factor, _factor(roundings, step, head), held, twice)
        law = norm_law(variance, counted, df, factor)
        yield _pair(
            run,
            Quantity.DISPLACEMENT_NORM,
            law,
            norm,
            step,
            "logged",
            _told(told, roundings),
            factor.norm_half_width,
        )
    last = max((step for step in run.logged_layers if run.variances[step] > 0), default=None)
    if last is None:
        return
    for layer, norm in run.logged_layers[last].items():
        tensors = layers.get(layer, head if layer == "lm_head" else {})
        if not tensors:
            continue
        known = roundings is not None and bool(roundings.names())
        factor = _factor(roundings, last, tensors if known else None)
        size, df = sum(map(math.prod, tensors.values())), shared_seed_dimension(list(tensors.values()))
        yield _pair(
            run,
            Quantity.EFFECTIVE_DIMENSION_RATIO,
            SquaredLaw(norm_law(1 / size, size, df, factor)),
            norm**2 / (float(run.variances[last]) * size),
            last,
            f"logged:{layer}",
            _told((FLAT, run.condition, SHARED), roundings),
            factor.half_width,
        )


def layers_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return tensors by the layer that es-awd's log counts them in; those outside (a last norm) are in none."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        number = layer_of(name)
        if any(part in name for part in ("embed_tokens", "tok_embeddings", "wte", "wpe", "embed_in")):
            layer = "embedding"
        elif number is not None:
            layer = f"layer_{number}"
        elif "lm_head" in name or "embed_out" in name:
            layer = "lm_head"
        else:
            continue
        found.setdefault(layer, {})[name] = shape
    return found


def _doubled(whole: Factor, part: Factor, held: int, twice: int) -> Factor:
    """Return the factor of all entries with those of a part counted once more."""
    value = (held * whole.value + twice * part.value) / (held + twice)
    error, width = max(whole.error, part.error), max(whole.half_width, part.half_width)
    return Factor(value=value, error=error, half_width=width, kurtosis=max(whole.kurtosis, part.kurtosis))


def _told(assumptions: tuple[str, ...], roundings: Roundings | None) -> tuple[str, ...]:
    return assumptions if roundings is None else (*assumptions, roundings.assumption)


def _es_pairs(run: ForeignRun, measured: MeasuredPath, roundings: Roundings | None) -> Iterator[Pair]:
    assumptions = _told((FLAT, run.condition, SHARED), roundings)
    label: Label = "exact" if roundings is None else "mean-field"
    variances = run.variances
    dim = sum(size for size, _ in measured.tensors.values())
    df = shared_seed_dimension(measured.shapes)
    at = [float(variances[step]) for step in measured.steps]
    moved = [k for k, v in enumerate(at) if v > 0]
    factors = [_factor(roundings, step) if v > 0 else EXACT for step, v in zip(measured.steps, at, strict=True)]
    for k in moved:
        step, factor = measured.steps[k], factors[k]
        uncounted = run.uncounted * float(run.increments[-1]) / at[k]
        yield _pair(
            run,
            Quantity.DISPLACEMENT_NORM,
            norm_law(at[k], dim, df, factor),
            float(measured.norms[k]),
            step,
            f"total:step {step}",
            assumptions,
            factor.norm_half_width + uncounted / 2,
            label,
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
                yield _pair(
                    run,
                    Quantity.CHECKPOINT_COSINE,
                    law,
                    float(measured.cosines[a, b]),
                    second,
                    f"step {first}|step {second}",
                    assumptions,
                    band,
                    label,
                    OURS,
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
    pull = np.abs(_slope_weights(measured.steps))
    error = float(pull @ np.array([f.error for f in factors]))
    band = float(pull @ np.array([f.half_width for f in factors])) / abs(plain.mean)
    where = f"step {measured.steps[0]}..step {measured.steps[-1]}"
    law = NormalLaw(plain.mean, math.hypot(plain.std, error))
    slope = measured.exponent
    assert slope is not None  # the caller looked
    return _pair(run, Quantity.DISPLACEMENT_EXPONENT, law, slope, None, where, assumptions, band, label, OURS)


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
        factor = _factor(roundings, step, (name,))
        law = norm_law(1 / size, size, size, factor) if factor.value > 0 else None
        if law is None or law.df < FEWEST * (roundings is not None):
            continue
        yield _pair(
            run,
            Quantity.EFFECTIVE_DIMENSION_RATIO,
            SquaredLaw(law),
            norm**2 / (variance * size),
            step,
            f"tensor:step {step}:{name}",
            assumptions,
            factor.half_width,
            label,
        )


FEWEST = 50
"""Effective degrees of freedom from which the chi law of a rounded norm, whose moments were matched, is used."""


def _gradient_pairs(run: ForeignRun, measured: MeasuredPath, rounded: Mapping[int, Factor]) -> Iterator[Pair]:
    """Pair the AdamW walk of dense gradient noise with the norm at each checkpoint."""
    dim = sum(size for size, _ in measured.tensors.values())
    assumptions = ("dense, independent gradient noise", "no weight decay", "AdamW, betas 0.9 and 0.999")
    for step, norm in zip(measured.steps, measured.norms, strict=True):
        variance, factor = walk_square(run.rates[:step]), rounded.get(step, EXACT)
        if variance * factor.value > 0:
            yield _pair(
                run,
                Quantity.GRPO_DISPLACEMENT_NORM,
                norm_law(variance, dim, dim, factor),
                float(norm),
                step,
                f"total:step {step}",
                (*assumptions, OWN_WEIGHTS) if rounded else assumptions,
                factor.norm_half_width,
                "mean-field",
                "ours: docs/concepts/es-and-grpo.md",
            )


def _pair(
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
