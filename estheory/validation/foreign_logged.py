"""What es-awd's scripts logged of a run's weights, joined with what theory says: the whole model and its layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from estheory.laws import SquaredLaw
from estheory.quantities import Prediction, Quantity
from estheory.runs.view import ForeignRun
from estheory.tensor_names import layer_of
from estheory.theory.effective_dimension import shared_seed_dimension
from estheory.theory.estimators.estimator import PAPER
from estheory.validation.assumptions import FLAT, SHARED
from estheory.validation.foreign_laws import factor_at, measured_in, norm_law, with_rounding
from estheory.validation.foreign_rounding import Factor, Roundings
from estheory.validation.judge import Pair

APART = "independent noise: the log has no tensor shapes"


def logged_pairs(run: ForeignRun, roundings: Roundings | None, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Pair]:
    """Pair logged norms, of the whole model and of its layers; a tied embedding may be in both ends.

    `roundings`: what rounding does to it; None in float32.
    `shapes`: shapes of its tensors by name; without them the noise is taken as independent and layers are left out.
    Yields: the norm at each logged step, and each layer's squared norm over its expected value at the last.
    """
    layers = layers_of(shapes)
    held = sum(map(math.prod, shapes.values()))
    head = layers.get("embedding", {}) if "lm_head" not in layers else {}
    twice = sum(map(math.prod, head.values()))
    for step, (norm, counted) in run.logged_norms.items():
        variance = float(run.variances[step])
        if variance == 0:
            continue
        factor, df, told = factor_at(roundings, step), float(counted), (FLAT, run.condition, APART)
        if shapes and counted in (held, held + twice):
            whole = [*shapes.values(), *(head.values() if counted > held else ())]
            df, told = shared_seed_dimension(whole), (FLAT, run.condition, SHARED)
            if counted > held and roundings is not None and roundings.names():
                factor = _doubled(factor, factor_at(roundings, step, head), held, twice)
        law = norm_law(variance, counted, df, factor)
        yield measured_in(
            run,
            Prediction(
                quantity=Quantity.DISPLACEMENT_NORM,
                law=law,
                label="exact",
                source=PAPER,
                assumptions=with_rounding(told, roundings),
                step=step,
                systematic=factor.norm_half_width,
            ),
            norm,
            "logged",
        )
    last = max((step for step in run.logged_layers if run.variances[step] > 0), default=None)
    if last is None:
        return
    for layer, norm in run.logged_layers[last].items():
        tensors = layers.get(layer, head if layer == "lm_head" else {})
        if not tensors:
            continue
        known = roundings is not None and bool(roundings.names())
        factor = factor_at(roundings, last, tensors if known else None)
        size, df = sum(map(math.prod, tensors.values())), shared_seed_dimension(list(tensors.values()))
        yield measured_in(
            run,
            Prediction(
                quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
                law=SquaredLaw(norm_law(1 / size, size, df, factor)),
                label="exact",
                source=PAPER,
                assumptions=with_rounding((FLAT, run.condition, SHARED), roundings),
                step=last,
                systematic=factor.half_width,
            ),
            norm**2 / (float(run.variances[last]) * size),
            f"logged:{layer}",
        )


def layers_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Return tensors by the layer that es-awd's log counts them in.

    Result: shapes by layer (``embedding``, ``layer_3``, ``lm_head``) and name; a tensor outside (a last norm) is in
    none.
    """
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
