"""Progress under reward noise that is not Gaussian, against brute force; the Gaussian formulas must fail."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.theory import reward_model as theory
from estheory.theory.estimators.ranks import MEAN_OVERLAP
from estheory.theory.estimators.zscores import mean_population_std
from tests.statistics import agrees
from tests.variants import variants

GAUSSIAN = {"values": [0.0], "probabilities": [1.0]}


def overlap(rewards, x):
    """(1/N) sum z_i x_i of every replica; 0 where all rewards are equal."""
    centred = rewards - rewards.mean(1, keepdims=True)
    std = rewards.std(1, keepdims=True)
    moves = std > 1e-12
    return np.mean(np.where(moves, centred / np.where(moves, std, 1.0), 0.0) * x, axis=1), moves[:, 0], std[:, 0]


def rank_overlap(rewards, x, rng):
    order = np.lexsort((rng.random(rewards.shape), rewards), axis=1)  # ties broken at random
    u = np.argsort(order, axis=1) / (rewards.shape[1] - 1) - 0.5
    return np.mean(u * x, axis=1)


ADDITIVE = {
    "Bernoulli(.1), the sheet's": ([0.0, 1.0], [0.9, 0.1], 0.0, 10),
    "Bernoulli(.1) with Gaussian": ([0.0, 1.0], [0.9, 0.1], 0.1, 4),
    "three values": ([-1.0, 0.0, 3.0], [0.3, 0.6, 0.1], 0.2, 16),
}


@pytest.mark.parametrize("name", ADDITIVE)
def test_additive_noise(name):
    values, probabilities, gaussian, n = ADDITIVE[name]
    bare = theory.additive_noise(values, probabilities, signal_std=0.0, gaussian_std=gaussian)
    tau = bare.std / math.sqrt(3)  # rho = 0.5
    model = theory.additive_noise(values, probabilities, signal_std=tau, gaussian_std=gaussian)
    assert model.correlation == pytest.approx(0.5)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4_000_000 // n, n))
    rewards = tau * x + rng.choice(values, p=probabilities, size=x.shape) + gaussian * rng.standard_normal(x.shape)
    samples = overlap(rewards, x)[0]
    expected = theory.zscore_overlap(model, n)
    assert agrees(samples, expected)
    assert not agrees(samples, 0.5 * mean_population_std(n))  # the Gaussian formula
    assert not agrees(samples, expected * (n - 1) / (n - 2))
    # the sheet's form of the same: sigma ||g|| ((N-2)/N) E[1/std]
    assert tau * (n - 2) / n * theory.mean_inverse_std(model, n) == pytest.approx(expected, rel=1e-9)
    ranks = rank_overlap(rewards, x, rng)
    assert agrees(ranks, theory.rank_overlap(model))
    assert not agrees(ranks, 0.5 * MEAN_OVERLAP)


def test_reference_value_of_the_sheet():
    """Bernoulli(.1) noise, rho = .5, N = 10: .568 against the Gaussian .461."""
    tau = math.sqrt(0.09 / 3)
    model = theory.additive_noise([0.0, 1.0], [0.9, 0.1], signal_std=tau)
    assert theory.zscore_overlap(model, 10) == pytest.approx(0.568, abs=5e-4)
    assert 0.5 * mean_population_std(10) == pytest.approx(0.461, abs=5e-4)


BERNOULLI = {
    "one prompt": (0.1, 1, 0.025, 10),
    "eight hard prompts": (0.1, 8, 0.03, 10),
    "rare success": (0.03, 16, 0.008, 30),
    "strong signal, cut off": (0.3, 4, 0.2, 8),
}


@pytest.mark.parametrize("name", variants(BERNOULLI, fast={"one prompt", "strong signal, cut off"}))
def test_bernoulli_rewards(name):
    p, prompts, tau, n = BERNOULLI[name]
    model = theory.bernoulli_rewards(p, prompts=prompts, signal_std=tau)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((8_000_000 // n, n))
    rewards = rng.binomial(prompts, np.clip(p + tau * x, 0, 1)) / prompts
    samples, moves, std = overlap(rewards, x)
    expected = theory.zscore_overlap(model, n)
    assert agrees(samples, expected)
    tie = theory.tie_probability(model, n)
    assert tie * len(moves) < 20 or agrees(~moves, tie)
    assert agrees(rewards[:, 0], model.mean)
    inverse = np.where(moves, 1 / np.where(moves, std, 1.0), 0.0)
    assert agrees(inverse, theory.mean_inverse_std(model, n))
    assert agrees(rank_overlap(rewards, x, rng), theory.rank_overlap(model))
    # the additive formula, and the Gaussian one, are for other noises
    additive = tau * (n - 2) / n * theory.mean_inverse_std(model, n)
    if name in ("one prompt", "rare success"):
        assert not agrees(samples, additive)
    if name == "one prompt":
        assert additive < 0.65 * expected  # off by more than a third
        assert not agrees(samples, model.correlation * mean_population_std(n))
        assert tie == pytest.approx(0.9**10, rel=1e-3)
    assert not agrees(samples, expected * (n - 1) / n)


def test_prompts_of_different_difficulty():
    p = np.array([0.02, 0.1, 0.5, 0.9, 0.97])
    tau, n = 0.04, 12
    model = theory.bernoulli_rewards(p, signal_std=tau)
    slope = tau * p * (1 - p) / np.mean(p * (1 - p))
    rng = np.random.default_rng(3)
    x = rng.standard_normal((200_000, n))
    chance = np.clip(p + slope * x[..., None], 0, 1)
    rewards = np.mean(rng.random(chance.shape) < chance, axis=2)
    samples = overlap(rewards, x)[0]
    assert agrees(samples, theory.zscore_overlap(model, n))
    alike = theory.bernoulli_rewards(float(p.mean()), prompts=5, signal_std=tau)
    assert not agrees(samples, theory.zscore_overlap(alike, n))


@given(n=h.integers(2, 5000), rho=h.floats(0.01, 1))
def test_gaussian_rewards_are_recovered(n, rho):
    model = theory.additive_noise(**GAUSSIAN, signal_std=rho, gaussian_std=math.sqrt(1 - rho**2))
    assert theory.zscore_overlap(model, n) == pytest.approx(rho * mean_population_std(n), rel=1e-9)
    assert theory.rank_overlap(model) == pytest.approx(rho * MEAN_OVERLAP, rel=1e-12)
    assert theory.tie_probability(model, n) == 0


@given(p=h.floats(0.05, 0.95), scale=h.floats(0.01, 100), shift=h.floats(-10, 10), n=h.integers(2, 40))
def test_overlap_is_invariant_to_affine_changes_of_the_reward(p, scale, shift, n):
    one = theory.additive_noise([0.0, 1.0], [1 - p, p], signal_std=0.2, gaussian_std=0.1)
    other = theory.additive_noise([shift, shift + scale], [1 - p, p], signal_std=0.2 * scale, gaussian_std=0.1 * scale)
    assert theory.zscore_overlap(other, n) == pytest.approx(theory.zscore_overlap(one, n), rel=1e-9)
    assert theory.rank_overlap(other) == pytest.approx(theory.rank_overlap(one), rel=1e-9)


def test_many_prompts_approach_the_gaussian():
    """A reward of many prompts is nearly Gaussian: rho c(N) with rho from the binomial variance."""
    model = theory.bernoulli_rewards(0.5, prompts=2000, signal_std=0.01)
    rho = 0.01 / math.sqrt(0.01**2 + (0.25 - 0.01**2) / 2000)
    assert model.correlation == pytest.approx(rho, rel=1e-6)
    assert theory.zscore_overlap(model, 30) == pytest.approx(rho * mean_population_std(30), rel=1e-3)


def test_bad_models_are_refused():
    with pytest.raises(ConfigError, match="sum to 1"):
        theory.additive_noise([0.0, 1.0], [0.5, 0.6], signal_std=0.1)
    with pytest.raises(ConfigError, match=">= 0"):
        theory.additive_noise([0.0], [1.0], signal_std=-0.1)
    with pytest.raises(ConfigError, match="success probabilities"):
        theory.bernoulli_rewards(1.2, prompts=3, signal_std=0.1)
    with pytest.raises(ConfigError, match="prompts"):
        theory.bernoulli_rewards(0.2, prompts=0, signal_std=0.1)
    with pytest.raises(ConfigError, match="same reward"):
        theory.zscore_overlap(theory.bernoulli_rewards(1.0, prompts=3, signal_std=0.0), 5)
    with pytest.raises(ConfigError, match="population"):
        theory.zscore_overlap(theory.bernoulli_rewards(0.5, prompts=3, signal_std=0.0), 1)
