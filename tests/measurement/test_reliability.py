"""Split-half reliability and the smoothing gap against enumeration and against known landscapes."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.measurement.reliability import curvature_trace, reward_statistics

Z = 5.0


def simulate(rng, steps, members, prompts, rho2, std=2.0, easy=3.0):
    """Member signal of share rho2 of S^2, prompt noise for the rest, prompts of unequal difficulty."""
    signal = math.sqrt(rho2) * std * rng.normal(size=(steps, members, 1))
    noise = math.sqrt((1 - rho2) * prompts) * std * rng.normal(size=(steps, members, prompts))
    return signal + noise + easy * rng.normal(size=(steps, 1, prompts))


def test_equals_the_mean_over_all_halvings_with_spearman_brown():
    rewards = simulate(np.random.default_rng(0), 3, 5, 6, 0.4)
    covariances, halves = [], []
    for half in combinations(range(6), 3):
        rest = [p for p in range(6) if p not in half]
        a, b = rewards[:, :, half].mean(axis=2), rewards[:, :, rest].mean(axis=2)
        pooled = [np.cov(a[t], b[t]) for t in range(3)]
        covariances.append(np.mean([c[0, 1] for c in pooled]))
        halves.append(np.mean([(c[0, 0] + c[1, 1]) / 2 for c in pooled]))
    r = np.mean(covariances) / np.mean(halves)
    result = reward_statistics(rewards)
    assert result.reliability == pytest.approx(2 * r / (1 + r), rel=1e-12)
    assert result.reward_std == pytest.approx(
        math.sqrt(np.mean([np.var(rewards[t].mean(axis=1), ddof=1) for t in range(3)])), rel=1e-12
    )
    assert result.noise_std == pytest.approx(result.reward_std * math.sqrt(1 - result.reliability), rel=1e-12)


def test_jackknife_equals_leaving_members_out_one_by_one():
    rewards = simulate(np.random.default_rng(1), 2, 6, 4, 0.5)

    def pooled(step, member):
        """Both statistics with one member of one step left out, computed from scratch."""
        total, agreed = 0.0, 0.0
        for t in range(2):
            rows = np.delete(rewards[t], member, axis=0) if t == step else rewards[t]
            matrix = np.cov(rows.T)
            total += matrix.mean() / 2
            agreed += (matrix.sum() - np.trace(matrix)) / 12 / 2
        return agreed / total, math.sqrt(total)

    spread = np.zeros(2)
    for step in range(2):
        values = np.array([pooled(step, member) for member in range(6)])
        spread += 5 / 6 * ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    result = reward_statistics(rewards)
    assert result.reliability_stderr == pytest.approx(math.sqrt(spread[0]), rel=1e-9)
    assert result.reward_std_stderr == pytest.approx(math.sqrt(spread[1]), rel=1e-9)


@pytest.mark.parametrize("rho2", [0.0, 0.3, 0.8])
def test_recovers_a_known_reliability_with_honest_errors(rho2):
    rng = np.random.default_rng(2)
    results = [reward_statistics(simulate(rng, 10, 30, 16, rho2)) for _ in range(300)]
    values = np.array([result.reliability for result in results])
    claimed = np.mean([result.reliability_stderr**2 for result in results])
    assert abs(values.mean() - rho2) < Z * values.std() / math.sqrt(300) + 1 / 300  # bias O(1/(steps N))
    # relative error of a variance of 300 values: sqrt(2/300) = 0.08
    assert abs(claimed / values.var() - 1) < Z * math.sqrt(2 / 300)
    stds = np.array([result.reward_std for result in results])
    assert abs(stds.mean() / 2.0 - 1) < Z * stds.std() / 2 / math.sqrt(300) + 1 / 300


def test_without_the_spearman_brown_correction_it_would_be_wrong():
    rng = np.random.default_rng(3)
    values = []
    for _ in range(100):
        rewards = simulate(rng, 10, 30, 16, 0.5)
        a, b = rewards[:, :, :8].mean(axis=2), rewards[:, :, 8:].mean(axis=2)
        values.append(np.mean([np.corrcoef(a[t], b[t])[0, 1] for t in range(10)]))
    assert abs(np.mean(values) - 0.5) > Z * np.std(values) / 10


def test_smoothing_gap_of_a_quadratic_is_its_curvature():
    rng = np.random.default_rng(4)
    eigenvalues, sigma, z_values = np.array([4.0, 1.0, 0.5, 0.0]), 0.1, []
    for _ in range(200):
        theta, eps = np.array([0.3, -0.2, 0.0, 1.0]), rng.normal(size=(400, 4))
        sensitivity = rng.gamma(4.0, size=30)
        sensitivity *= 30 / sensitivity.sum()

        def reward(x, weights=sensitivity):
            return -0.5 * (x**2 @ eigenvalues)[..., None] * weights

        result = curvature_trace(reward(theta), reward(theta + sigma * eps), sigma)
        z_values.append((result.value - eigenvalues.sum()) / result.stderr)
        assert result.value == pytest.approx(2 * result.gap / sigma**2, rel=1e-12)
    # standard errors are conservative, so |z| is at most normal; the mean of 200 must be about 0
    assert abs(np.mean(z_values)) < Z / math.sqrt(200)
    assert 0.2 < np.std(z_values) < 1 + Z / math.sqrt(400)


@pytest.mark.parametrize("shape", [(3, 5), (2, 2, 5), (2, 5, 1)])
def test_too_little_data_is_refused(shape):
    with pytest.raises(DataError):
        reward_statistics(np.random.default_rng(0).normal(size=shape))


def test_equal_or_broken_rewards_are_refused():
    with pytest.raises(DataError, match="same reward"):
        reward_statistics(np.ones((2, 5, 4)))
    with pytest.raises(DataError, match="finite"):
        reward_statistics(np.full((2, 5, 4), np.nan))
    with pytest.raises(DataError, match="do not go together"):
        curvature_trace(np.ones(3), np.ones((5, 4)), 0.1)
    with pytest.raises(DataError, match="do not go together"):
        curvature_trace(np.ones(4), np.ones((5, 4)), 0.0)
