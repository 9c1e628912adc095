"""Predictions about rounding, and what it does to the norms of all others (docs/concepts/precision.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from estheory.laws import ChiLaw, NormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory.rounding import precision
from estheory.theory.rounding.precision import NormBand, RoundingEffect
from estheory.theory.rounding.weights import FAMILY_RMS


def norm_factors(
    config: ESConfig,
    steps: set[int],
    rounding: Mapping[int, RoundingEffect] | None,
    band: Mapping[int, NormBand] | None,
    warnings: list[str],
) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    """Return rounding's factor on norms, what it leaves unknown of them, and how it differs between runs.

    Parameters
    ----------
    config
        The run.
    steps
        Steps to give both for.
    rounding
        Effects by step, where the weights are known.
    band
        Bands by step, where they are not; None computes them from the closed forms.
    warnings
        Grows by what to know about either.

    Returns
    -------
    factors : dict
        By step; 1 where unknown.
    half_widths : dict
        By step, the systematic relative half-width of norms.
    fluctuations : dict
        By step, the relative variance that rounding adds to squared norms: 0 where it is not emulated.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/precision.md. The standard error of an emulated effect is granted at
    95 %, as a systematic part.
    """
    plain, none = dict.fromkeys(steps, 1.0), dict.fromkeys(steps, 0.0)
    if config.dtype == "float32":
        return plain, none, none
    last = max(steps)
    if rounding is not None:
        if warning := precision.swallowed_warning(rounding[last], config.dtype):
            warnings.append(warning)
        # an emulated gain has a standard error: granted at 95 %, on the norm, as a systematic part
        errors = {s: 1.96 * rounding[s].variance_stderr / (2 * rounding[s].variance or 1.0) for s in steps}
        # over runs: other coefficients, and entries of heavier tails than Gaussian ones
        more = {s: rounding[s].spread ** 2 + max(rounding[s].scatter - 2, 0.0) / config.dim for s in steps}
        return {s: math.sqrt(rounding[s].variance) for s in steps}, errors, more
    if band is None:
        closest = config
        if not precision.has_closed_form(config):
            closest = replace(config, restore_pairs=0, anchor_l1=0.0, anchor_l2=0.0, momentum=0.0)
            if not precision.has_closed_form(closest):
                closest = replace(closest, update_path="accumulated", shaping="zscore", antithetic=False)
            warnings.append("the band is of rounded additions alone, without restore pairs, anchors and momentum")
        band = precision.unknown_weights_band(closest, steps)
    warnings.append(
        f"{config.dtype} without --weights or --weight-std: over weights of rms {FAMILY_RMS[0]:g} to "
        f"{FAMILY_RMS[-1]:g} rounding multiplies the norm after {last} steps by {band[last].low:.3f} to "
        f"{band[last].high:.3f}; norms keep the plain law and carry that as a declared systematic band"
    )
    return plain, {s: band[s].half_width for s in steps}, none


def rounded_norm(law: ChiLaw, gain: float, fluctuation: float) -> ChiLaw:
    """Return the law of a norm under rounding.

    Parameters
    ----------
    law
        In exact arithmetic.
    gain
        Rounding's factor on the norm.
    fluctuation
        The relative variance that rounding adds to its square.

    Returns
    -------
    ChiLaw
        Its ``mixing_df`` holds the fluctuation.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/precision.md. A chi-square of the same two moments stands for the law
    of the fluctuation.
    """
    mixing = 2 / (2 / law.mixing_df + fluctuation) if fluctuation else law.mixing_df
    return ChiLaw(law.scale * gain, law.df, mixing)


def rounding_predictions(rounding: Mapping[int, RoundingEffect], steps: Sequence[int]) -> Iterator[Prediction]:
    """Predict the factor on the variance and the retained projection at each step.

    Parameters
    ----------
    rounding
        Effects by step.
    steps
        Steps to predict.

    Yields
    ------
    Prediction
        ``precision_gain`` and ``precision_signal``, with label and source.
    """
    for step in steps:
        effect = rounding[step]
        emulated = effect.variance_stderr > 0
        for quantity, value, error in (
            (Quantity.PRECISION_GAIN, effect.variance, effect.variance_stderr),
            (Quantity.PRECISION_SIGNAL, effect.signal, effect.signal_stderr),
        ):
            yield Prediction(
                quantity=quantity,
                law=NormalLaw(value, error) if emulated else PointLaw(value),
                label="exact" if emulated or step == 1 else "mean-field",
                source="ours: docs/concepts/precision.md",
                assumptions=(
                    "emulated; the spread is its standard error" if emulated else "Gaussian diffusion over binades",
                    "flat directions: rewards are noise",
                ),
                step=step,
            )
