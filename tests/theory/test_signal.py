"""Progress, cosine and step norm of a linear reward against brute force, with wrong formulas that must fail."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.landscape import Signal, linear_signal
from estheory.laws import SquaredLaw
from estheory.rules import ESConfig
from estheory.theory import signal as theory
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.zscores import mean_population_std
from tests.statistics import agrees, brute_force_steps, ks_agrees, variance_agrees
from tests.variants import variants

ALPHA, SIGMA, DIM = 0.3, 0.5, 50

CASES = {
    "zscore, N = 8": ({}, 8, 0.5),
    "zscore, N = 30": ({}, 30, 0.49),
    "zscore, noiseless": ({}, 8, 1.0),
    "zscore, N = 3": ({}, 3, 0.8),
    "ranks": ({"shaping": "centered-rank"}, 10, 0.6),
    "raw": ({"shaping": "raw"}, 8, 0.5),
    "antithetic": ({"antithetic": True}, 8, 0.5),
    "antithetic, noiseless": ({"antithetic": True}, 8, 1.0),
    "two-point": ({"shaping": "two-point"}, 8, 0.5),
}
QUICK = ("zscore, N = 8", "ranks", "raw", "antithetic", "two-point")


def setting(name):
    changes, n, reliability = CASES[name]
    slope = 2.0
    noise = SIGMA * slope * math.sqrt(1 / reliability - 1)
    c = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=n, **changes)
    s = linear_signal(sigma=SIGMA, gradient_norm=slope, reward_std=noise)
    assert s.reliability == pytest.approx(reliability)
    updates = brute_force_steps(
        np.random.default_rng(13),
        replicas=60_000,
        dim=DIM,
        population=n,
        sigma=SIGMA,
        alpha=ALPHA,
        shaping=c.shaping,
        antithetic=c.antithetic,
        slope=slope,
        noise=noise,
    )[0]
    return c, s, updates


@pytest.mark.parametrize("name", variants(CASES, fast=QUICK))
def test_progress_cosine_and_norm(name):
    c, s, updates = setting(name)
    n = c.population
    progress = theory.progress_per_step(c, s)
    assert agrees(updates[:, 0], progress)
    assert not agrees(updates[:, 0], progress * (n - 1) / n)
    square = np.sum(updates**2, axis=1)
    law = SquaredLaw(theory.step_norm(c, s, DIM))
    assert agrees(square, law.mean)
    assert not agrees(square, law.mean * (n - 1) / n)
    assert variance_agrees(square, law.std**2)
    cosine = updates[:, 0] / np.sqrt(square)
    expected = theory.gradient_cosine(c, s.reliability)
    assert agrees(cosine, expected.mean)
    assert not agrees(cosine, expected.mean * (1 - 1 / (2 * n)))
    assert variance_agrees(cosine, expected.std**2)
    assert ks_agrees(cosine[:20_000], lambda v: expected.tails(v)[0])
    wrong = theory.gradient_cosine(c, s.reliability * 0.8)
    assert not ks_agrees(cosine[:20_000], lambda v: wrong.tails(v)[0])


def test_reference_values_of_the_sheet():
    assert mean_population_std(30) == pytest.approx(0.9748, abs=5e-5)
    c = ESConfig(dim=50, sigma=1.0, population=8)
    assert theory.gradient_cosine(c, 1.0).mean == pytest.approx(0.34272, abs=5e-6)
    c = ESConfig(dim=50, sigma=1.0, population=30)
    assert theory.gradient_cosine(c, 0.49).mean == pytest.approx(0.4687, abs=5e-5)
    c = ESConfig(dim=1_540_000_000, sigma=1.0, population=96, shaping="two-point")
    assert theory.gradient_cosine(c, 1.0).mean == pytest.approx(2.490e-4, abs=5e-8)


@given(n=h.integers(2, 1000), d=h.integers(60, 10**12), rho=h.floats(0.05, 1))
def test_cosine_approximation_of_the_sheet(n, d, rho):
    """rho c sqrt(N / (d + (N-2) rho^2)) is within 0.5 % of the quadrature (for N well below d)."""
    c = ESConfig(dim=d, sigma=1.0, population=n)
    approximation = rho * mean_population_std(n) * math.sqrt(n / (d + (n - 2) * rho**2))
    assert theory.gradient_cosine(c, rho**2).mean == pytest.approx(approximation, rel=0.006)


@given(n=h.integers(2, 10**6))
def test_mean_population_std_below_one_and_increasing(n):
    assert 0 < mean_population_std(n) < mean_population_std(n + 1) < 1
    assert mean_population_std(n) == pytest.approx(1 - 3 / (4 * n), abs=1 / n**1.5)


def test_bounds_hold_with_equality_for_a_noiseless_linear_reward():
    for changes in ({}, {"shaping": "centered-rank"}, {"antithetic": True}):
        c = ESConfig(dim=5, sigma=1.0, alpha=1.0, population=12, **changes)
        s = linear_signal(sigma=1.0, gradient_norm=1.0, reward_std=0.0)
        bound = theory.coherent_displacement_bound(c, 1.0)
        assert theory.progress_per_step(c, s) == pytest.approx(bound, rel=1e-9)
    raw = ESConfig(dim=5, sigma=1.0, population=12, shaping="raw")
    assert theory.coherent_displacement_bound(raw, 1.0) is None


def test_antithetic_is_no_better_when_noise_is_independent():
    plain = ESConfig(dim=10_000, sigma=1.0, population=40)
    paired = ESConfig(dim=10_000, sigma=1.0, population=40, antithetic=True)
    for reliability in (0.2, 0.9):
        expected = math.sqrt(reliability * 40 / (10_000 * (1 + reliability)))
        cosine = theory.gradient_cosine(paired, reliability).mean
        assert cosine == pytest.approx(expected, rel=1 / 40)
        assert cosine < theory.gradient_cosine(plain, reliability).mean


@pytest.mark.parametrize("form", ["before", "after"])
def test_first_step_feels_momentum_and_anchor(form):
    c = ESConfig(dim=50, sigma=1.0, population=8, momentum=0.5, anchor_l2=0.1, anchor_form=form)
    plain = ESConfig(dim=50, sigma=1.0, population=8)
    s = Signal(reliability=0.5)
    factor = 0.5 * (0.9 if form == "after" else 1.0)
    assert theory.progress_per_step(c, s) == pytest.approx(factor * theory.progress_per_step(plain, s))
    assert theory.step_norm(c, s, 50).mean == pytest.approx(factor * theory.step_norm(plain, s, 50).mean)


def test_missing_inputs_are_said():
    c = ESConfig(dim=5, sigma=1.0, population=12)
    with pytest.raises(ConfigError, match="reliability"):
        theory.progress_per_step(c, Signal())
    with pytest.raises(ConfigError, match="gradient norm"):
        theory.progress_per_step(ESConfig(dim=5, sigma=1.0, population=12, shaping="raw"), Signal())
    with pytest.raises(ConfigError, match="paired"):
        estimator_of(c).pair_correlation(0.5)
    with pytest.raises(ConfigError, match="2 dimensions"):
        theory.gradient_cosine(ESConfig(dim=1, sigma=1.0, population=12), 0.5)


def test_linear_signal_resolves_any_two():
    full = linear_signal(sigma=0.1, gradient_norm=3.0, reward_std=0.4)
    assert full.member_std == pytest.approx(0.5)
    assert full.reliability == pytest.approx(0.36)
    for known in ({"reliability": 0.36, "gradient_norm": 3.0}, {"reliability": 0.36, "reward_std": 0.4}):
        other = linear_signal(sigma=0.1, **known)
        assert other.member_std == pytest.approx(0.5)
        assert other.gradient_norm == pytest.approx(3.0)
    assert linear_signal(sigma=0.1, reliability=0.3).gradient_norm is None


@pytest.mark.parametrize(
    "bad",
    [
        {"reliability": 1.5},
        {"reliability": float("nan")},
        {"gradient_norm": -1.0},
        {"reward_std": float("inf")},
        {"reliability": 0.9, "gradient_norm": 3.0, "reward_std": 0.4},
        {"reliability": 0.0, "gradient_norm": 3.0},
    ],
)
def test_linear_signal_refuses(bad):
    with pytest.raises(ConfigError):
        linear_signal(sigma=0.1, **bad)
