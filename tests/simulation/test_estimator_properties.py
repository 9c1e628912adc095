"""Invariants of the estimators, drawn by hypothesis: what must hold for every population of rewards."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as h
from hypothesis.extra.numpy import arrays

from estheory.rules import ESConfig
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


@given(REWARDS, h.floats(-100, 100), h.floats(0.01, 100))
def test_zscores_do_not_see_affine_changes(rewards, shift, scale):
    z = weights(told_apart(rewards))
    assert weights(shift + scale * rewards) == pytest.approx(z, abs=1e-6)
    assert weights(-rewards) == pytest.approx(-z, abs=1e-6)


def test_zscores_do_see_other_monotone_changes():
    rewards = np.array([0.0, 1.0, 2.0, 5.0])
    assert np.abs(weights(rewards**3) - weights(rewards)).max() > 0.1


@given(h.lists(h.integers(-1000, 1000), min_size=2, max_size=60, unique=True))
def test_ranks_do_not_see_monotone_changes(numbers):
    rewards = np.array(numbers, dtype=np.float64)
    u = weights(rewards, "centered-rank")
    for change in (lambda x: x**3, np.arctan, lambda x: np.exp(x / 1e3)):
        assert np.array_equal(weights(change(rewards), "centered-rank"), u)
    assert np.sum(u) == pytest.approx(0, abs=1e-12 * len(u))
    assert np.sum(u**2) == pytest.approx(len(u) * (len(u) + 1) / (12 * (len(u) - 1)), rel=1e-12)


@given(h.floats(-1e6, 1e6), h.integers(2, 50), h.sampled_from(["zscore", "raw"]))
@example(0.1, 7, "zscore")
@example(2.548181041277313e-233, 18, "raw")
def test_a_population_of_ties_does_not_move(value, n, shaping):
    assert not weights(np.full(n, value), shaping).any()


@given(REWARDS, h.floats(0.01, 100), h.floats(1e-3, 10))
def test_raw_weights_scale_with_reward_and_sigma(rewards, scale, sigma):
    told_apart(rewards)
    raw = weights(rewards, "raw", sigma)
    assert weights(scale * rewards, "raw", sigma) == pytest.approx(scale * raw, rel=1e-6, abs=1e-9 * scale)
    assert weights(rewards, "raw", 2 * sigma) == pytest.approx(raw / 2, rel=1e-12)


@given(REWARDS, h.randoms(use_true_random=False))
def test_steps_turn_with_the_coordinates(rewards, random):
    """An orthogonal change of coordinates turns the step, and permuting members changes nothing."""
    rng = np.random.default_rng(random.randrange(2**32))
    eps = rng.standard_normal((len(rewards), 6))
    turn, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    z = weights(told_apart(rewards))
    assert z @ (eps @ turn) == pytest.approx((z @ eps) @ turn, abs=1e-9 * len(z))
    order = rng.permutation(len(rewards))
    assert weights(rewards[order]) @ eps[order] == pytest.approx(z @ eps, abs=1e-6)


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
