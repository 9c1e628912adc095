"""Predictions about rounding, and what it does to the norms of all others (docs/concepts/precision.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from estheory.citations import ours
from estheory.laws import ChiLaw, NormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory.rounding import precision
from estheory.theory.rounding.precision import NormBand, RoundingEffect
from estheory.theory.rounding.weights import FAMILY_RMS
from estheory.theory.walk import FEW_COORDINATES


@dataclass(frozen=True, kw_only=True)
class NormRounding:
    """What rounding does to the norm of a displacement.

    Attributes
    ----------
    gain
        Its factor on the norm; 1 where unknown.
    half_width
        The systematic relative half-width of the norm that it leaves.
    fluctuation
        The relative variance that it adds to the squared norm, over runs; 0 where it is not emulated.
    kept
        Its factor on the displacement along the gradient.
    unevenness
        What it divides the effective number of coordinates of a cosine by.
    """

    gain: float = 1.0
    half_width: float = 0.0
    fluctuation: float = 0.0
    kept: float = 1.0
    unevenness: float = 1.0

    @property
    def is_exact(self) -> bool:
        """Whether laws are those of exact arithmetic."""
        return self.gain == 1.0 and not self.fluctuation

    def law(self, exact: ChiLaw) -> ChiLaw:
        """Return the law of a norm from its law in exact arithmetic.

        Parameters
        ----------
        exact
            In exact arithmetic.

        Returns
        -------
        ChiLaw
            Its ``mixing_df`` holds the fluctuation.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/precision.md. A chi-square of the same two moments stands for the
        law of the fluctuation.
        """
        scaled = replace(exact, scale=exact.scale * self.gain)
        if not self.fluctuation:
            return scaled
        return replace(scaled, mixing_df=2 / (2 / exact.mixing_df + self.fluctuation), most=math.inf)


def norm_roundings(
    config: ESConfig,
    steps: set[int],
    rounding: Mapping[int, RoundingEffect] | None,
    band: Mapping[int, NormBand] | None,
    warnings: list[str],
) -> dict[int, NormRounding]:
    """Return what rounding does to norms at each step.

    Parameters
    ----------
    config
        The run.
    steps
        Steps to give it for.
    rounding
        Effects by step, where the weights are known.
    band
        Bands by step, where they are not; None computes them from the closed forms.
    warnings
        Grows by what to know about either.

    Returns
    -------
    dict
        By step.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/precision.md. The standard error of an emulated effect is granted at
    95 %, as a systematic part.
    """
    if config.dtype == "float32":
        return dict.fromkeys(steps, NormRounding())
    last = max(steps)
    if rounding is not None:
        if warning := precision.swallowed_warning(rounding[last], config.dtype):
            warnings.append(warning)
        found = {step: _known(rounding[step], config.dim) for step in steps}
        if any(one.half_width >= 1 for one in found.values()):
            warnings.append(
                f"rounding leaves the motion to fewer than {FEW_COORDINATES} coordinates: no law of norms and cosines"
            )
        return found
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
    return {step: NormRounding(half_width=band[step].half_width) for step in steps}


def _known(effect: RoundingEffect, dim: int) -> NormRounding:
    few = 2 * dim < FEW_COORDINATES * effect.scatter
    return NormRounding(
        gain=math.sqrt(effect.variance),
        # an emulated gain has a standard error: granted at 95 %, on the norm, as a systematic part
        half_width=1.0 if few else 1.96 * effect.variance_stderr / (2 * effect.variance or 1.0),
        # over runs: other coefficients, and entries of heavier tails than Gaussian ones
        fluctuation=effect.spread**2 + max(effect.scatter - 2, 0.0) / dim,
        kept=effect.signal,
        unevenness=effect.unevenness,
    )


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
                source=ours("precision"),
                assumptions=(
                    "emulated; the spread is its standard error" if emulated else "Gaussian diffusion over binades",
                    "flat directions: rewards are noise",
                ),
                step=step,
            )
