"""What rounding does to the run that ES options describe: closed form, or the emulator on a model's own weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from estheory.cli.options import ESOptions
from estheory.errors import ConfigError
from estheory.rules import ESConfig
from estheory.simulation.strata import SampledWeights
from estheory.tensor_names import block_of
from estheory.theory.precision import NormBand, RoundingEffect, has_closed_form, rounding_effects
from estheory.theory.weight_histograms import WeightHistogram

BAND_ADDITIONS = 50_000_000
"""Rounded additions spent on each member of the family of weights that stands for an unknown model."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """Effects by step, of all weights, of each tensor and block; or the band that stands for unknown weights."""

    effects: dict[int, RoundingEffect] | None = None
    tensors: dict[str, dict[int, RoundingEffect]] | None = None
    layers: dict[str, dict[int, RoundingEffect]] | None = None
    band: dict[int, NormBand] | None = None


def sampled_weights(es: ESOptions, dtype: str) -> SampledWeights | None:
    """Return the trained weights of ``--weights`` as ``dtype`` stores them; None without that option or in float32."""
    if es.weights is None or dtype == "float32":
        return None
    from estheory.models.builtin import builtin_names, get_builtin
    from estheory.models.magnitudes import magnitude_counts
    from estheory.models.shapes import tensor_shapes, trainable_shapes

    if (es.trainable or "").startswith("lora"):
        raise ConfigError("--weights holds no adapters yet: their weights are unknown", "use --weight-std")
    folder = get_builtin(str(es.weights)) if str(es.weights) in builtin_names() else Path(es.weights)
    chosen = trainable_shapes(tensor_shapes(folder), es.trainable or "all")
    names, magnitudes, counts = magnitude_counts(folder, dtype, set(chosen))
    return SampledWeights(names=names, magnitudes=magnitudes, counts=counts)


def rounding_of(
    config: ESConfig, weights: SampledWeights | WeightHistogram | None, checkpoints: Iterable[int], seed: int = 0
) -> Rounding:
    """Return what rounding does to a run at its first step and at ``checkpoints``.

    A checkpoint's weights are emulated; normal weights take the closed form where there is one; unknown weights
    give a band over a declared family, emulated where there is no closed form.
    """
    if config.dtype == "float32":
        return Rounding()
    steps = sorted({1, *checkpoints})
    if isinstance(weights, WeightHistogram) and has_closed_form(config):
        return Rounding(effects=dict(rounding_effects(config, weights, steps)))
    if weights is None and (has_closed_form(config) or not _is_emulated(config)):
        return Rounding()
    from estheory.simulation.rounding import emulate, emulated_band

    if weights is None:
        return Rounding(band=emulated_band(config, steps, seed=seed, max_additions=BAND_ADDITIONS))
    model = SampledWeights.of(weights) if isinstance(weights, WeightHistogram) else weights
    run = emulate(config, model, steps, seed=seed)
    effects = {step: run.effect(step) for step in steps}
    if isinstance(weights, WeightHistogram):
        return Rounding(effects=effects)
    tensors = _by_name({step: run.tensor_effects(step) for step in steps})
    layers = _by_name({step: run.grouped_effects(step, block_of) for step in steps})
    return Rounding(effects=effects, tensors=tensors, layers=layers)


def _by_name(by_step: Mapping[int, Mapping[str, RoundingEffect]]) -> dict[str, dict[int, RoundingEffect]]:
    names = next(iter(by_step.values()))
    return {name: {step: found[name] for step, found in by_step.items()} for name in names}


def _is_emulated(config: ESConfig) -> bool:
    from estheory.simulation.rounding import emulator_covers

    return emulator_covers(config) is None
