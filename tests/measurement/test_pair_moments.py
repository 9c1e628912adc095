"""Moments of mirrored members on a quadratic reward whose gradient, curvature and noise are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.estimates import propagated
from estheory.measurement.pair_moments import EVEN, GAP, LINEAR, MIXED, VARIANCE, PairMoments, pair_moments
from tests.statistics import Z, agrees

SIGMA, PROMPTS, PAIRS, NOISE = 0.1, 6, 4, 0.3
GRADIENT = np.array([2.0, -1.0, 0.5, 0.0, 1.5])
CURVATURE = np.array([12.0, 5.0, -3.0, 8.0, 1.0])
SCATTER = 1.2  # of the gradient between prompts
SIGNAL = (SIGMA * np.linalg.norm(GRADIENT)) ** 2
QUADRATIC = 0.5 * SIGMA**4 * float((CURVATURE**2).sum())
TRUTH = {
    LINEAR: SIGNAL,
    EVEN: QUADRATIC,
    VARIANCE: SIGNAL + QUADRATIC + (SIGMA**2 * SCATTER**2 * GRADIENT.size + NOISE**2) / PROMPTS,
    GAP: 0.5 * SIGMA**2 * CURVATURE.sum(),
    MIXED: SIGMA**4 * float(GRADIENT**2 @ CURVATURE),
}


def batch(rng):
    """Rewards of the centre and of mirrored pairs on one batch of prompts, (P,), (m, P), (m, P)."""
    gradients = GRADIENT + SCATTER * rng.normal(size=(PROMPTS, GRADIENT.size))
    level = 3 * rng.normal(size=PROMPTS)  # prompts differ in difficulty
    eps = rng.normal(size=(PAIRS, GRADIENT.size))

    def reward(x):
        curved = 0.5 * SIGMA**2 * (x**2 @ CURVATURE)[:, None]
        return level + SIGMA * x @ gradients.T - curved + NOISE * rng.normal(size=(len(x), PROMPTS))

    return level + NOISE * rng.normal(size=PROMPTS), reward(eps), reward(-eps)


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    return [batch(rng) for _ in range(20_000)]


@pytest.fixture(scope="module")
def moments(batches):
    return np.array([pair_moments(*b) for b in batches])


@pytest.mark.parametrize("column", [LINEAR, EVEN, VARIANCE, GAP, MIXED])
def test_moments_are_unbiased(moments, column):
    assert agrees(moments[:, column], TRUTH[column])


def test_wrong_formulas_are_rejected(batches, moments):
    odd = np.array([(plus - minus).mean(axis=1) / 2 for _, plus, minus in batches])
    assert not agrees((odd**2).mean(axis=1), SIGNAL)  # all of the odd part, the prompts' accidents included
    assert not agrees(moments[:, EVEN] * (PAIRS - 1) / PAIRS, QUADRATIC)  # no correction for the measured mean
    assert not agrees(moments[:, GAP], SIGMA**2 * CURVATURE.sum())
    assert not agrees(-moments[:, MIXED], TRUTH[MIXED])


def test_equals_split_halves_with_spearman_brown_and_not_without(batches):
    """Of the odd part: its reliability by random halves, pooled over batches, corrected for their length."""
    products = []
    for _, plus, minus in batches:
        a, b = (((plus - minus) / 2)[:, half].mean(axis=1) for half in (slice(0, 3), slice(3, 6)))
        products.append([a @ b, (a @ a + b @ b) / 2])
    covariance, variance = np.array(products).reshape(100, -1, 2).mean(axis=1).T
    plain = covariance / variance
    truth = SIGNAL / (SIGNAL + (SIGMA**2 * SCATTER**2 * GRADIENT.size + NOISE**2 / 2) / PROMPTS)
    assert agrees(2 * plain / (1 + plain), truth)
    assert not agrees(plain, truth)


def test_estimates_recover_the_landscape_with_honest_errors(moments):
    truth = {
        "member_std": math.sqrt(TRUTH[VARIANCE]),
        "noise_std": math.sqrt(TRUTH[VARIANCE] - SIGNAL - QUADRATIC),
        "reliability": (SIGNAL + QUADRATIC) / TRUTH[VARIANCE],
        "linear_reliability": SIGNAL / TRUTH[VARIANCE],
        "gradient_norm": float(np.linalg.norm(GRADIENT)),
        "trace": float(CURVATURE.sum()),
        "square_trace": float((CURVATURE**2).sum()),
        "gradient_curvature": float(GRADIENT**2 @ CURVATURE / (GRADIENT @ GRADIENT)),
    }
    probes = [PairMoments(batches=part, sigma=SIGMA) for part in np.split(moments, 100)]
    for name, value in truth.items():
        found = [getattr(probe, name) for probe in probes]
        values, errors = np.array([e.value for e in found]), np.array([e.stderr for e in found])
        # ratios and roots of 200 batches are biased by a small share of one standard error
        assert abs(values.mean() - value) < Z * values.std(ddof=1) / 10 + 0.1 * errors.mean(), name
        # the variance of 100 values has relative error 0.14
        assert abs((errors**2).mean() / values.var(ddof=1) - 1) < Z * 0.15, name
        wrong = abs(values.mean() - 1.3 * value) > Z * values.std(ddof=1) / 10 + 0.1 * errors.mean()
        assert wrong, name


def test_errors_of_functions_follow_the_covariance():
    mean, covariance = np.array([2.0, 3.0]), np.array([[0.04, 0.01], [0.01, 0.09]])
    linear = propagated(lambda m: float(4 * m[0] - m[1]), mean, covariance)
    assert linear.value == pytest.approx(5.0)
    assert linear.stderr**2 == pytest.approx(16 * 0.04 - 8 * 0.01 + 0.09)


@pytest.mark.parametrize(
    ("centre", "members"),
    [((4,), (1, 4)), ((2,), (3, 2)), ((4,), (3, 5)), ((4, 1), (3, 4))],
)
def test_what_is_no_probe_is_refused(centre, members):
    with pytest.raises(DataError, match="no probe"):
        pair_moments(np.zeros(centre), np.zeros(members), np.zeros(members))
    with pytest.raises(DataError, match="finite"):
        pair_moments(np.zeros(4), np.full((3, 4), np.nan), np.zeros((3, 4)))
