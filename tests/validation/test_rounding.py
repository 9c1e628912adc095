"""The recorded emulation over a family of weights."""

import pytest

from estheory.rules import ESConfig
from estheory.simulation.emulator.emulate import emulate
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.rounding.weights import FAMILY_RMS, weight_family
from estheory.validation.own_rounding import recorded_band


def run(**changes):
    start = {"dim": 10, "sigma": 1.5e-3, "population": 30, "steps": 100, "dtype": "bfloat16"}
    return ESConfig(**start | {"update_path": "sequential"} | changes)


def test_bands_are_found_by_the_run_and_only_then():
    band = recorded_band(run())
    assert band.low < 0.8 < 1.05 < band.high
    assert recorded_band(run(alpha=1e-3)) is None
    assert recorded_band(run(update_path="accumulated")) is None
    assert recorded_band(run(update_path="accumulated"), path_known=False) == band


def test_the_record_is_what_the_emulator_says():
    weights = weight_family()[f"normal, rms {FAMILY_RMS[-1]:g}"]
    effect = emulate(run(), SampledWeights.of(weights), [100], max_additions=5 * 10**7).effect(100)
    assert effect.variance**0.5 == pytest.approx(recorded_band(run()).low, abs=0.05)
