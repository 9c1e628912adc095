"""One rounded step against numpy emulation of bfloat16 arithmetic."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h
from scipy import stats

from estheory.errors import ConfigError
from estheory.floats import FORMATS, rounded
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.predictions import predict
from estheory.theory.rounding import weights as weight_histograms
from estheory.theory.rounding.float32_norm import float32_norm_share
from estheory.theory.rounding.gains import fourth_gains, rounding_gain, signal_gain, unchanged_shares, variance_gains
from estheory.theory.rounding.precision import rounding_effects, swallowed_warning, unknown_weights_band
from estheory.theory.rounding.weights import WeightHistogram, mixed_weights, normal_weights, student_weights
from tests.statistics import agrees

ALPHA, N = 7.5e-4, 30


def to_bfloat16(x):
    """Round float32 to bfloat16, ties to even."""
    bits = np.asarray(x, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def one_step(run, std):
    return rounding_effects(run, normal_weights(std), [1])[1].variance


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


@pytest.mark.parametrize(
    "std", [pytest.param(0.01, marks=pytest.mark.slow), 0.02, pytest.param(0.05, marks=pytest.mark.slow)]
)
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
    gain = one_step(config(), std)
    assert agrees(accumulated.astype(float) ** 2 / unit, gain)
    assert not agrees(accumulated.astype(float) ** 2 / unit, 1.0)
    # one draw of z, so the spread over z is not averaged: condition on it
    model = normal_weights(std)
    u = FORMATS["bfloat16"].spacing(model.exponents)
    given_z = model.shares @ np.mean([zi**2 * variance_gains(ALPHA * abs(zi) / N / u) for zi in z], axis=0)
    measured = (sequential - weights).astype(float) ** 2 / unit
    # rounding errors of the N adds are independent only while the weight keeps its binade: small excess at small std
    assert abs(measured.mean() / given_z - 1) < 0.01 + 4.9 * measured.std() / math.sqrt(d)
    assert abs(measured.mean() - gain) > 0.03 or std < 0.02


def to_float32_step(z, eps):
    return (np.float32(ALPHA / N) * (z.astype(np.float32)[:, None] * eps).sum(axis=0)).astype(np.float32)


def test_reference_values_of_the_sheet():
    assert one_step(config(), 0.02) == pytest.approx(1.0557, abs=5e-5)
    for std, gain in ((0.01, 1.053), (0.02, 0.922), (0.05, 0.534)):
        assert one_step(config("sequential"), std) == pytest.approx(gain, abs=6e-4)


def test_what_has_no_closed_form_is_refused():
    w = normal_weights(0.02)
    for bad in (
        {"dtype": "float32"},
        {"restore_pairs": 3},
        {"anchor_l2": 0.01},
        {"momentum": 0.9},
        {"shaping": "raw"},
        {"update_path": "sequential", "shaping": "centered-rank"},
    ):
        with pytest.raises(ConfigError):
            rounding_effects(config(**bad), w, [1])
    with pytest.raises(ConfigError, match="weight-std"):
        normal_weights(0.0)


@pytest.mark.parametrize("x", [0.2, 0.5, 1.0, 2.9, 3.1])
def test_signal_and_unchanged_share(x):
    z = np.random.default_rng(2).standard_normal(1_000_000)
    moves = np.round(x * z)
    assert agrees(x * z * moves / x**2, signal_gain(x))
    assert agrees(moves == 0, float(unchanged_shares(np.array(x))))
    if x < 1:
        assert not agrees(x * z * moves / x**2, rounding_gain(x))  # the variance gain is another number


@given(h.floats(2.999, 3.001))
def test_the_signal_s_branches_meet(x):
    assert signal_gain(x) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_formats_of_eight_bits(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    kind = getattr(torch, name)
    weights = torch.from_numpy(rng.uniform(1.2, 1.8, 300_000).astype(np.float32)).to(kind).float()
    spacing = FORMATS[name].spacing(np.array([0.0]))[0]
    size = 0.4 * spacing
    step = torch.from_numpy((size * rng.standard_normal(len(weights))).astype(np.float32))
    inside = (weights > 1.2) & (weights < 1.8) if name == "float8_e5m2" else (weights > 1.3) & (weights < 1.7)
    moved = ((weights + step).to(kind).float() - weights)[inside].numpy().astype(float)
    near = np.abs(moved) < 1.5 * spacing  # a move of two spacings may change binade in so coarse a format
    assert agrees(moved[near] != 0, 1 - float(unchanged_shares(np.array(0.4))))


def test_many_steps_follow_weights_through_binades():
    # weights just above a binade's edge diffuse below it, where the spacing is half and the gain larger
    rng = np.random.default_rng(4)
    run, d, start = config(alpha=2e-4), 20_000, 2.0**-6 * 1.03125
    tau = run.step_size / math.sqrt(N)
    weights = np.full(d, start, dtype=np.float32)
    for _ in range(400):
        weights = to_bfloat16(weights + np.float32(tau) * rng.standard_normal(d, dtype=np.float32))
    measured = (weights - start).astype(float) ** 2 / (tau**2 * 400)
    effects = rounding_effects(run, WeightHistogram(np.array([start]), np.array([1.0])), [1, 400])
    assert measured.mean() > effects[400].variance > effects[1].variance
    assert not agrees(measured, effects[1].variance)  # one step's gain has no part of it


def test_families_and_mixtures():
    student = student_weights(0.02, 4)
    assert student.shares.sum() == pytest.approx(1)
    assert math.sqrt(student.shares @ student.magnitudes**2) == pytest.approx(0.02, rel=0.02)
    mixed = mixed_weights([(1, normal_weights(0.01)), (3, normal_weights(0.02))])
    assert mixed.shares.sum() == pytest.approx(1)
    assert mixed.shares @ mixed.magnitudes**2 == pytest.approx(0.25 * 0.01**2 + 0.75 * 0.02**2, rel=1e-3)
    band = unknown_weights_band(config("sequential"), [1])[1]
    single = rounding_effects(config("sequential"), normal_weights(0.05), [1])[1]
    assert band.low <= math.sqrt(single.variance) <= band.high
    assert band.half_width == pytest.approx(1 - band.low)


def stored_shares(name):
    """What a law's cells hold of each stored value between 1.25 and 1.75 2^-6; None if a value has no cell."""
    law, fmt = normal_weights(0.02), FORMATS[name]
    inside = (law.magnitudes > 1.25 * 2.0**-6) & (law.magnitudes < 1.75 * 2.0**-6)
    values, cell = np.unique(rounded(law.magnitudes[inside], fmt), return_inverse=True)
    complete = np.allclose(np.diff(values), fmt.spacing(np.array([-6.0])))
    return np.bincount(cell, law.shares[inside])[1:-1] if complete else None  # the outer ones are cut


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_law_s_cells_give_every_stored_value_its_share(name, monkeypatch):
    shares = stored_shares(name)  # restore pairs round ties to even: they tell odd values from even ones
    assert np.sum(shares[::2]) == pytest.approx(np.sum(shares[1::2]), rel=0.05)
    assert np.all(np.diff(shares) < 0)
    monkeypatch.setattr(weight_histograms, "SUBCELLS", 64)
    assert stored_shares(name) is None


def test_warning_when_updates_are_swallowed():
    effects = {std: rounding_effects(config(), normal_weights(std), [1])[1] for std in (0.02, 0.2)}
    assert swallowed_warning(effects[0.02], "bfloat16") is None
    text = swallowed_warning(effects[0.2], "bfloat16")
    assert "62%" in text
    assert "float32 master copy" in text
    assert "stochastic" in text


def test_a_float32_norm_is_too_small():
    """Squares added up one by one, in one lane and in eight; scatter of the rounding: below 1e-4 of the norm."""
    rng = np.random.default_rng(5)
    for entries, lanes in ((4_000_000, 1), (20_000_000, 1), (20_000_000, 8)):
        squares = rng.standard_normal(entries, dtype=np.float32) ** 2
        sums = np.cumsum(squares.reshape(-1, lanes), axis=0, dtype=np.float32)[-1]
        measured = math.sqrt(float(sums.sum(dtype=np.float64)) / float(squares.sum(dtype=np.float64)))
        assert measured == pytest.approx(float32_norm_share(entries, lanes), abs=3e-4)
        if entries > 4_000_000:
            assert measured != pytest.approx(float32_norm_share(entries, 9 - lanes), abs=3e-4)
    assert float32_norm_share(1e15) < float32_norm_share(1e9) < float32_norm_share(1.0) == 1.0


def test_the_fourth_moment_of_a_rounded_step():
    for x in (0.1, 0.4, 1.0, 2.9, 3.1, 10.0):
        k = np.arange(1, 200)
        inside = stats.norm.sf((k - 0.5) / x) - stats.norm.sf((k + 0.5) / x)
        assert float(fourth_gains(np.array(x))) == pytest.approx(2 * np.sum(k**4 * inside) / x**4, rel=1e-9)


@pytest.mark.parametrize("path", ["accumulated", "sequential"])
def test_the_norm_of_known_weights_scatters_with_what_rounding_swallows(path):
    """Variance of the squared norm to 10 %, of cosines to 12 %; entries of one variance would be farther off."""
    rng, dim, n, replicas = np.random.default_rng(2), 400, 8, 4000
    start = np.float32(0.02 * rng.standard_normal(dim)).astype(np.float64)
    spacing = 2.0 ** (np.floor(np.log2(np.abs(start))) - 7)
    start = np.round(start / spacing) * spacing
    run = ESConfig(dim=dim, sigma=1e-3, alpha=8e-5, population=n, dtype="bfloat16", update_path=path)
    effect = rounding_effects(run, WeightHistogram(np.abs(start), np.full(dim, 1 / dim)), [1])[1]
    z = rng.standard_normal((replicas, n))
    z = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)
    moved = np.zeros((replicas, dim))
    terms = [8e-5 / n * z[:, [k]] * rng.standard_normal((replicas, dim)) for k in range(n)]
    for term in [sum(terms)] if path == "accumulated" else terms:
        moved += np.round(term / spacing) * spacing  # within its binade
    square = np.sum(moved**2, axis=1)
    scatter = dim * square.var() / square.mean() ** 2
    assert effect.scatter + dim * effect.spread**2 == pytest.approx(scatter, rel=0.1)
    assert scatter > 3
    if path == "sequential":  # the coefficients of a step are common to all weights
        assert scatter > 1.3 * effect.scatter
    halves = moved[: replicas // 2], moved[replicas // 2 :]
    cosine = np.sum(halves[0] * halves[1], axis=1) / np.sqrt(square[: replicas // 2] * square[replicas // 2 :])
    assert dim * cosine.var() == pytest.approx(effect.unevenness, rel=0.12)
    assert effect.unevenness > 1.2
    known = {"rounding": {1: effect}}
    norm, apart = (predict(run, **known).get(q) for q in (Quantity.DISPLACEMENT_NORM, Quantity.INDEPENDENT_COSINE))
    assert (norm.label, apart.label) == ("mean-field", "mean-field")
    assert np.sqrt(square).std() == pytest.approx(norm.law.std, rel=0.1)
    faint = replace(run, alpha=1e-5)
    few = predict(faint, rounding=rounding_effects(faint, normal_weights(0.1), [1]))
    assert few.get(Quantity.DISPLACEMENT_NORM).systematic >= 1
    assert any("fewer than" in warning for warning in few.warnings)
