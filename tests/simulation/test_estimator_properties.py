"""Invariants of the estimators, drawn by hypothesis: what must hold for every population of rewards."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as h
from hypothesis.extra.numpy import arrays

from estheory.rules import ESConfig
from estheory.testing import check_shaping
from estheory.theory.estimators import estimator_of

REWARDS = arrays(np.float64, h.integers(4, 40).map(lambda n: 2 * n), elements=h.floats(-1e3, 1e3, width=32))


def weights(rewards, shaping="zscore", sigma=0.1):
    config = ESConfig(dim=3, sigma=sigma, population=len(rewards), shaping=shaping)
    return estimator_of(config).shape(np.asarray(rewards, dtype=np.float64))


def told_apart(rewards):
    """Whether rewards differ by more than float64 rounds off."""
    assume(np.ptp(rewards) > 1e-6 * (1 + np.abs(rewards).max()))
    return rewards


@given(REWARDS)
@example(np.array([0.0, 1.0, 0.0, 1.0]))
def test_zscores_sum_to_zero_and_their_squares_to_n(rewards):
    z = weights(told_apart(rewards))
    assert np.sum(z) == pytest.approx(0, abs=1e-8 * len(z))
    assert np.sum(z**2) == pytest.approx(len(z), rel=1e-8)


def test_zscores_do_see_other_monotone_changes():
    rewards = np.array([0.0, 1.0, 2.0, 5.0])
    assert np.abs(weights(rewards**3) - weights(rewards)).max() > 0.1


@given(h.floats(-1e6, 1e6), h.integers(2, 50), h.sampled_from(["zscore", "raw"]))
@example(0.1, 7, "zscore")
@example(2.548181041277313e-233, 18, "raw")
def test_a_population_of_ties_does_not_move(value, n, shaping):
    assert not weights(np.full(n, value), shaping).any()


@given(arrays(np.float64, 12, elements=h.floats(-5, 5, width=32)), h.integers(0, 2**32 - 1))
def test_antithetic_pairs_are_exact_on_odd_rewards(direction, seed):
    """Without noise an odd reward gives opposite weights to the two members of a pair; an even one gives no step."""
    rng = np.random.default_rng(seed)
    eps = rng.standard_normal((10, 12))
    x = told_apart(eps @ direction)
    z = weights(np.concatenate([x**3, -(x**3)]))
    assert z[:10] == pytest.approx(-z[10:], abs=1e-9)
    even = weights(np.concatenate([x**2, x**2]))
    assert (even[:10] - even[10:]) @ eps == pytest.approx(np.zeros(12), abs=1e-9)


@pytest.mark.parametrize("shaping", ["zscore", "centered-rank", "raw", "two-point"])
def test_shapings_keep_their_invariants(shaping):
    """Shift, scale, sign and order of rewards, ties, order of members: the checks that anybody's code gets."""
    rule = ESConfig(dim=3, sigma=0.1, population=12, shaping=shaping)
    check_shaping(estimator_of(rule).shape, rule=rule)


@given(h.lists(h.integers(-1000, 1000), min_size=2, max_size=60, unique=True))
def test_ranks_that_differ_have_the_squares_of_the_walk(numbers):
    u = weights(np.array(numbers, dtype=np.float64), "centered-rank")
    assert np.sum(u) == pytest.approx(0, abs=1e-12 * len(u))
    assert np.sum(u**2) == pytest.approx(len(u) * (len(u) + 1) / (12 * (len(u) - 1)), rel=1e-12)
