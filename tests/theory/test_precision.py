"""One rounded step against numpy emulation of bfloat16 arithmetic."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.rules import ESConfig
from estheory.theory.precision import grid_spacing, normal_binades, rounding_gain, step_gain
from tests.statistics import agrees

ALPHA, N = 7.5e-4, 30


def to_bfloat16(x):
    """Round float32 to bfloat16, ties to even."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def config(path="accumulated", **changes):
    return ESConfig(
        **{"dim": 10, "sigma": 1.5e-3, "alpha": ALPHA, "population": N, "dtype": "bfloat16", "update_path": path}
        | changes
    )


@pytest.mark.parametrize("x", [0.1, 0.2, 0.25, 0.3, 0.5, 1.0, 2.9, 3.1])
def test_gain_of_a_rounded_gaussian(x):
    z = np.random.default_rng(1).standard_normal(2_000_000)
    squares = np.round(x * z) ** 2 / x**2
    assert agrees(squares, rounding_gain(x))
    if x >= 0.2:
        assert not agrees(squares, 1.05 * rounding_gain(x))


@given(h.floats(2.999, 3.001))
def test_the_two_branches_meet(x):
    assert rounding_gain(x) == pytest.approx(1 + 1 / (12 * x * x), rel=1e-12)


@pytest.mark.parametrize("std", [0.01, 0.02, 0.05])
def test_step_gain_against_emulation(std):
    rng = np.random.default_rng(5)
    d = 400_000
    weights = to_bfloat16(std * rng.standard_normal(d))
    eps = rng.standard_normal((N, d), dtype=np.float32)
    z = rng.standard_normal(N)
    z = (z - z.mean()) / z.std()
    accumulated = to_bfloat16(weights + to_float32_step(z, eps)) - weights
    sequential = weights.copy()
    for zi, row in zip(z, eps, strict=True):
        sequential = to_bfloat16(sequential + np.float32(ALPHA * zi / N) * row)
    unit = ALPHA**2 / N
    gain = step_gain(config(), normal_binades(std))
    assert agrees(accumulated.astype(float) ** 2 / unit, gain)
    assert not agrees(accumulated.astype(float) ** 2 / unit, 1.0)
    # one draw of z, so the spread over z is not averaged: condition on it
    u = grid_spacing(normal_binades(std).exponents, "bfloat16")
    given_z = sum(
        share * np.mean([zi**2 * rounding_gain(ALPHA * abs(zi) / N / spacing) for zi in z])
        for share, spacing in zip(normal_binades(std).shares, u, strict=True)
    )
    measured = (sequential - weights).astype(float) ** 2 / unit
    # rounding errors of the N adds are independent only while the weight keeps its binade: small excess at small std
    assert abs(measured.mean() / given_z - 1) < 0.01 + 4.9 * measured.std() / math.sqrt(d)
    assert abs(measured.mean() - gain) > 0.03 or std < 0.02


def to_float32_step(z, eps):
    return (np.float32(ALPHA / N) * (z.astype(np.float32)[:, None] * eps).sum(axis=0)).astype(np.float32)


def test_reference_values_of_the_sheet():
    assert step_gain(config(), normal_binades(0.02)) == pytest.approx(1.0557, abs=5e-5)
    for std, gain in ((0.01, 1.053), (0.02, 0.922), (0.05, 0.534)):
        assert step_gain(config("sequential"), normal_binades(std)) == pytest.approx(gain, abs=6e-4)


def test_float16_has_subnormals():
    spacing = grid_spacing(np.array([-30.0, -14.0, 0.0]), "float16")
    assert spacing == pytest.approx([2.0**-24, 2.0**-24, 2.0**-10])
    assert np.spacing(np.float16(1e-7)) == spacing[0]


def test_what_has_no_closed_form_is_refused():
    w = normal_binades(0.02)
    for bad in (
        {"dtype": "float32"},
        {"restore_pairs": 3},
        {"update_path": "sequential", "shaping": "centered-rank"},
    ):
        with pytest.raises(ConfigError):
            step_gain(config(**bad), w)
    with pytest.raises(ConfigError, match="weight-std"):
        normal_binades(0.0)
