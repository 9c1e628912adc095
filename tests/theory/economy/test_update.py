"""Gain, cost and reach of one update, written out."""

import math

import pytest

from estheory.rules import ESConfig
from estheory.theory.economy.update import best_split, best_step, largest_measured_alpha, update_cost, update_gain
from estheory.theory.estimators.pairs import MirroredPairs
from estheory.theory.estimators.zscores import mean_population_std

RUN = ESConfig(dim=1000, sigma=0.02, alpha=0.03, population=16)


def test_the_cost_of_z_scores_is_that_of_their_walk():
    """alpha^2 tr Lam / 2N, with gap = sigma^2 tr Lam / 2."""
    assert update_cost(RUN, 0.07, 0.4) == pytest.approx(0.03**2 / 0.02**2 / 16 * 0.07, rel=1e-12)


@pytest.mark.parametrize("kappa", [-0.5, 0.0, 0.7])
def test_the_cost_of_pairs_is_that_of_their_odd_part(kappa):
    pairs = ESConfig(dim=1000, sigma=0.02, alpha=0.03, population=16, antithetic=True)
    odd, _ = MirroredPairs(population=16, sigma=0.02, alpha=0.03).odd_variance(kappa)
    assert update_cost(pairs, 0.07, 0.4, kappa) == pytest.approx(0.03**2 / 0.02**2 / 16 * odd * 0.07, rel=1e-12)


def test_the_gain_of_z_scores():
    expected = 0.03 / 0.02 * mean_population_std(16) * 0.1 / math.sqrt(0.4)
    assert update_gain(RUN, 0.1, 0.4) == pytest.approx(expected, rel=1e-9)


def test_an_update_reaches_as_far_as_members_or_the_signal_do():
    assert largest_measured_alpha(sigma=0.02, population=25, reliability=0.0) == pytest.approx(0.1)
    assert largest_measured_alpha(sigma=0.02, population=25, reliability=0.01) == pytest.approx(0.1)
    assert largest_measured_alpha(sigma=0.02, population=2500, reliability=0.04) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("rollouts", "noise", "fewest"), [(40, 1e6, 1), (41, 1e6, 2), (60, 1.0, 3), (64, 1e-6, 2), (19, 1.0, 4)]
)
def test_the_best_split_is_the_best_of_all(rollouts, noise, fewest):
    def net(prompts):
        run = ESConfig(dim=1, sigma=1e-3, population=rollouts // prompts)
        gain = update_gain(run, 0.01, 0.02 + noise / prompts)
        return best_step(gain, update_cost(run, 0.05))[1]

    population, prompts, found = best_split(
        rollouts, sigma=1e-3, signal_variance=0.01, true_variance=0.02, noise_variance=noise, gap=0.05,
        fewest_prompts=fewest,
    )  # fmt: skip
    splits = range(fewest, rollouts // 4 + 1)
    assert found == pytest.approx(max(map(net, splits)), rel=1e-12)
    assert (population, net(prompts)) == (rollouts // prompts, found)
    assert prompts in splits
