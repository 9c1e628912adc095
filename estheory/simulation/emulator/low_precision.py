"""What rounding does to a run in 16 bits.

The closed form, the emulator on the run's own weights, or a band over a family of weights where they are unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from estheory.rules import ESConfig
from estheory.simulation.emulator.emulate import emulate, emulated_band, emulator_covers
from estheory.simulation.emulator.strata import SampledWeights
from estheory.tensor_names import block_of
from estheory.theory.rounding.precision import NormBand, RoundingEffect, has_closed_form, rounding_effects
from estheory.theory.rounding.weights import WeightHistogram

BAND_ADDITIONS = 50_000_000
"""Rounded additions spent on each member of the family of weights that stands for an unknown model."""
RUNS = 32
"""Draws of coefficients, each with its own sample of the weights: their spread is how runs differ."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """What rounding does to one run; all None in float32, or where the closed form of a band is left to `predict`.

    Attributes
    ----------
    effects
        By step, on all weights.
    tensors, layers
        By name and step, on each tensor and each block; None where the weights have no names.
    band
        By step, the range of rounding's factor on norms over a family of weights; None where the weights are known.
    """

    effects: dict[int, RoundingEffect] | None = None
    tensors: dict[str, dict[int, RoundingEffect]] | None = None
    layers: dict[str, dict[int, RoundingEffect]] | None = None
    band: dict[int, NormBand] | None = None


def rounding_of(
    config: ESConfig, weights: SampledWeights | WeightHistogram | None, checkpoints: Iterable[int], seed: int = 0
) -> Rounding:
    """Return what rounding does to a run at its first step and at ``checkpoints``.

    A checkpoint's weights are emulated; normal weights take the closed form where there is one; unknown weights
    give a band over a declared family, emulated where there is no closed form.

    Parameters
    ----------
    config
        The run; float32 has no rounding.
    weights
        Those of a checkpoint (`checkpoint_weights`), a distribution, or None.
    checkpoints
        Steps to look at.
    seed
        Of the emulation.

    Returns
    -------
    Rounding
        For `predict`: its ``effects`` and its ``band``.

    Raises
    ------
    ConfigError
        If the emulator does not cover the run.

    Examples
    --------
    >>> from estheory.theory.rounding.weights import normal_weights
    >>> from estheory.theory.predictions import predict
    >>> run = ESConfig(dim=10**9, sigma=0.0015, population=30, steps=100, dtype="bfloat16")
    >>> rounding = rounding_of(run, normal_weights(0.02), [100])
    >>> norm = predict(run, rounding=rounding.effects, band=rounding.band).get("displacement_norm")
    >>> round(norm.law.mean, 2)
    44.5
    """
    if config.dtype == "float32":
        return Rounding()
    steps = sorted({1, *checkpoints})
    if isinstance(weights, WeightHistogram) and has_closed_form(config):
        return Rounding(effects=dict(rounding_effects(config, weights, steps)))
    if weights is None and (has_closed_form(config) or emulator_covers(config) is not None):
        return Rounding()
    if weights is None:
        return Rounding(band=emulated_band(config, steps, seed=seed, max_additions=BAND_ADDITIONS))
    model = SampledWeights.of(weights) if isinstance(weights, WeightHistogram) else weights
    run = emulate(config, model, steps, seed=seed, groups=RUNS)
    effects = {step: run.effect(step) for step in steps}
    if isinstance(weights, WeightHistogram):
        return Rounding(effects=effects)
    tensors = _by_name({step: run.tensor_effects(step) for step in steps})
    layers = _by_name({step: run.grouped_effects(step, block_of) for step in steps})
    return Rounding(effects=effects, tensors=tensors, layers=layers)


def _by_name(by_step: Mapping[int, Mapping[str, RoundingEffect]]) -> dict[str, dict[int, RoundingEffect]]:
    names = next(iter(by_step.values()))
    return {name: {step: found[name] for step, found in by_step.items()} for name in names}
