"""One rule of shaping: every place that shapes has the same bits, and theory's variance is that of the rule, with ties.

The oracle of this page is written from the definitions with scipy's mean ranks, and knows nothing of the estimators.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as h
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.simulation.update_steps import step_weights
from estheory.theory.estimators import CentredRanks, MirroredPairs, RawRewards, TwoPoint, ZScores, estimator_of
from estheory.theory.estimators.estimator import sample_fourth_moment
from estheory.theory.estimators.ranks import tied_square
from estheory.theory.predictions import predict
from estheory.theory.prompt_batch import PromptBatch
from estheory.theory.reward_model import additive_noise, bernoulli_rewards
from tests.statistics import agrees, ks_agrees, variance_agrees

KINDS = {
    "zscore": {},
    "centered-rank": {"shaping": "centered-rank"},
    "raw": {"shaping": "raw"},
    "two-point": {"shaping": "two-point"},
    "antithetic": {"antithetic": True},
}
EXTREMES = [0.0, 1.0, -1.0, 1e-300, 5e-324, 1e300, -1e300, 1.0 + 2**-52, 0.1, 0.3, 1e17]
REWARDS = h.integers(2, 12).flatmap(
    lambda n: arrays(
        np.float64,
        2 * n,
        elements=h.one_of(h.integers(0, 3).map(float), h.sampled_from(EXTREMES), h.floats(-1e9, 1e9)),
    )
)


def run_of(kind, evaluations):
    """A run of that kind with so many evaluations a step."""
    population = evaluations // 2 if kind == "two-point" else evaluations
    return ESConfig(dim=3, sigma=0.1, alpha=0.3, population=population, **KINDS[kind])


def oracle(rewards, kind):
    """Coefficients by their definitions, and the weights of the noise vectors."""
    n = rewards.size
    if kind == "two-point":
        z = (rewards[0::2] - rewards[1::2]) / 0.2
        return z, z
    if np.all(rewards == rewards[0]):
        z = np.zeros(n)
    elif kind == "centered-rank":
        z = (rankdata(rewards) - 1) / (n - 1) - 0.5
    else:
        scale = np.max(np.abs(rewards)) if kind != "raw" else 1.0
        centred = rewards / scale - np.mean(rewards / scale)
        z = centred / (0.1 if kind == "raw" else np.std(rewards / scale))
    return z, z[0::2] - z[1::2] if kind == "antithetic" else z


@pytest.mark.parametrize("kind", KINDS)
@given(rewards=REWARDS)
@example(rewards=np.full(6, 0.1))
@example(rewards=np.array([1e300, -1e300, 1e300, 0.0]))
@example(rewards=np.array([0.0, 1e-300, 0.0, 0.0]))
@example(rewards=np.array([1.0, 1.0 + 2**-52, 1.0, 1.0]))
def test_the_rule_is_its_definition(kind, rewards):
    estimator = estimator_of(run_of(kind, rewards.size))
    z, w = oracle(rewards, kind)
    found = estimator.shape(rewards)
    size = np.max(np.abs(z), initial=1.0)
    assert np.all(np.isfinite(found))
    if kind != "raw" and np.ptp(rewards) > 1e-6 * np.max(np.abs(rewards)):  # else the oracle itself is rounding
        assert found == pytest.approx(z, abs=1e-9 * size)
        assert estimator.noise_weights(found) == pytest.approx(w, abs=1e-9 * size)
    if kind != "two-point" and np.ptp(rewards) == 0:
        assert not found.any()
    if estimator.scale_free:  # ties are equal in their weights too
        for value in np.unique(rewards):
            assert np.unique(found[rewards == value]).size == 1


@pytest.mark.parametrize("kind", KINDS)
@given(rewards=REWARDS)
def test_every_place_that_shapes_has_the_same_bits(kind, rewards):
    """The estimator, a batch of it, a simulated step, the configuration of a training run, and a recorded one."""
    from estheory.runs.config import ESRunConfig

    run = run_of(kind, rewards.size)
    estimator = estimator_of(run)
    z = estimator.shape(rewards)
    batch = np.stack([rewards[::-1], rewards, np.zeros_like(rewards)])
    assert np.array_equal(estimator.shape(batch)[1], z)
    assert np.array_equal(estimator.shape(np.asfortranarray(batch))[1], z)
    nothing = np.zeros((3, estimator.directions))
    simulated = step_weights(run, nothing, nothing, 0.0, np.random.default_rng(0), lambda varying: batch)
    assert np.array_equal(simulated[1], 0.3 / run.population * estimator.noise_weights(z))
    trained = ESRunConfig(model="m", task="t", steps=1, sigma=0.1, alpha=0.3, population=run.population, **KINDS[kind])
    logged = trained.estimator.shape(np.asarray(rewards.tolist())).tolist()
    assert logged == z.tolist()
    assert trained.estimator.noise_weights(np.asarray(logged)).tolist() == estimator.noise_weights(z).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_evaluated_in_the_order_of_their_directions(kind):
    estimator = estimator_of(run_of(kind, 8))
    noise = np.arange(1.0, estimator.directions + 1)
    in_turn = estimator.in_turn(noise[None], 100.0 + noise[None])[0]
    for evaluation in range(estimator.evaluations):
        direction, sign = estimator.direction_of(evaluation)
        assert in_turn[evaluation] == 100.0 + noise[direction] + sign * noise[direction]
    assert len({estimator.direction_of(e) for e in range(estimator.evaluations)}) == estimator.evaluations


# --- variance under ties ---

SIGMA, ALPHA, REPLICAS = 0.5, 0.25, 60_000


def squares(kind, n, values, p, seed):
    """N^-2 alpha^2 sum w^2 of many steps: the variance of a flat coordinate given the rewards, by the rule itself."""
    rewards = np.random.default_rng(seed).choice(values, p=p, size=(REPLICAS, n))
    estimator = estimator_of(ESConfig(dim=3, sigma=SIGMA, alpha=ALPHA, population=n, **KINDS[kind]))
    return (ALPHA / n) ** 2 * np.sum(estimator.shape(rewards) ** 2, axis=1), estimator


def mean_is(samples, expected):
    """Whether the mean is as expected, of samples that may all be the same but for rounding."""
    samples = np.asarray(samples, dtype=np.float64)
    if np.ptp(samples) <= 1e-9 * np.max(samples):
        return abs(np.mean(samples) - expected) < 1e-6
    return agrees(samples, expected)


@pytest.mark.parametrize("kind", ["zscore", "centered-rank", "raw"])
@pytest.mark.parametrize(
    ("success", "prompts", "n"), [(0.5, 1, 30), (0.5, 8, 30), (0.1, 8, 30), (0.1, 1, 6), (0.3, 2, 2)]
)
def test_variance_of_rewards_that_tie(kind, success, prompts, n):
    """False-failure rate 1e-6 a comparison; ranks in the order of the members must fail."""
    model = bernoulli_rewards(success, prompts=prompts, signal_std=0.0)
    drawn, estimator = squares(kind, n, model.values, model.probabilities, seed=n + prompts)
    one = estimator.variance(Signal(), model)
    assert mean_is(drawn, one.value)
    assert mean_is(drawn == 0, one.tie_probability)
    moving = drawn[drawn > 0]
    mean = one.value / (1 - one.tie_probability)
    if math.isfinite(one.mixing_df):
        assert variance_agrees(moving, 2 / one.mixing_df * mean**2)
    else:
        assert np.allclose(moving, mean, rtol=1e-9)
    if kind == "centered-rank":
        untied = estimator.variance(Signal()).value
        assert not agrees(drawn, untied)
        assert one.label == ("exact" if one.lengths else "large-N")


@pytest.mark.parametrize(("success", "prompts", "ratio"), [(0.5, 1, 0.725), (0.5, 8, 0.941), (0.1, 8, 0.841)])
def test_figures_of_ties(success, prompts, ratio):
    p = bernoulli_rewards(success, prompts=prompts, signal_std=0.0).probabilities
    assert tied_square(30, p)[0] / tied_square(30, np.empty(0))[0] == pytest.approx(ratio, abs=2e-3)


@given(n=h.integers(2, 9), counts=h.lists(h.integers(1, 9), min_size=1, max_size=3))
def test_ties_by_enumeration(n, counts):
    """Mean and spread of the squared ranks over every population of a few values."""
    p = np.array(counts) / sum(counts)
    values = np.array(np.meshgrid(*[np.arange(p.size)] * n, indexing="ij")).reshape(n, -1).T
    chance = np.prod(p[values], axis=1)
    ranks = (rankdata(values, axis=1) - 1) / (n - 1) - 0.5
    square = np.mean(ranks**2, axis=1)
    mean = float(chance @ square)
    found = tied_square(n, p)
    assert found[0] == pytest.approx(mean, abs=1e-12)
    if mean > 1e-9:
        assert found[1] == pytest.approx(float(chance @ square**2) / mean**2 - 1, abs=1e-9)


def test_the_forecast_of_ranks_has_ties():
    """Norms of whole displacements by mean ranks; the forecast of a run without ties must fail."""
    batch, steps, dim, n = PromptBatch(success=0.2, prompts=2), 3, 50, 8
    run = ESConfig(dim=dim, sigma=SIGMA, alpha=ALPHA, population=n, steps=steps, shaping="centered-rank")
    told = batch.signal(sigma=SIGMA)
    found, without = predict(run, reward=told, batch=batch), predict(run, reward=told)
    rng = np.random.default_rng(8)
    moved = np.zeros((40_000, dim))
    for _ in range(steps):
        weights = estimator_of(run).shape(rng.binomial(2, 0.2, (40_000, n)) / 2)
        moved += ALPHA / n * np.einsum("rn,rnd->rd", weights, rng.standard_normal((40_000, n, dim)))
    square = np.sum(moved**2, axis=1)
    norm = found.get(Quantity.DISPLACEMENT_NORM)
    assert agrees(square, dim * found.get(Quantity.COORDINATE_STD).law.mean ** 2)
    assert not agrees(square, dim * without.get(Quantity.COORDINATE_STD).law.mean ** 2)
    assert variance_agrees(np.sqrt(square), norm.law.std**2)
    assert ks_agrees(np.sqrt(square), lambda x: norm.law.tails(x)[0])
    assert norm.label == "exact"
    assert not any("no ties" in text for p in found.predictions for text in p.assumptions)
    assert without.get(Quantity.DISPLACEMENT_NORM).label == "exact"


def test_kurtosis_of_a_sample():
    rng = np.random.default_rng(4)
    n, p = 7, 0.2
    rewards = (rng.random((200_000, n)) < p).astype(float)
    centred = rewards - rewards.mean(1, keepdims=True)
    second, fourth = (centred**2).mean(1), (centred**4).mean(1)
    beta = (1 - 3 * p * (1 - p)) / (p * (1 - p))
    mean = (n - 1) / n * p * (1 - p)
    assert agrees(second, mean)
    assert agrees(fourth, sample_fourth_moment(n, beta) * mean**2)
    assert not agrees(fourth, sample_fourth_moment(n, 3.0) * mean**2)


@pytest.mark.parametrize("gaussian", [0.0, 0.3])
def test_rewards_with_a_gaussian_part_do_not_tie(gaussian):
    model = additive_noise([0.0, 1.0], [0.7, 0.3], signal_std=0.0, gaussian_std=gaussian)
    rng = np.random.default_rng(6)
    rewards = (rng.random((300_000, 5)) < 0.3) + gaussian * rng.standard_normal((300_000, 5))
    for kind in (ZScores, CentredRanks, RawRewards):
        estimator = kind(population=5, sigma=SIGMA, alpha=1.0)
        one = estimator.variance(Signal(), model)
        drawn = np.sum(estimator.shape(rewards) ** 2, axis=1) / 25
        assert mean_is(drawn, one.value)
        assert (one.tie_probability == 0) == bool(gaussian)
        if kind is RawRewards:
            moving = drawn[drawn > 0]
            assert variance_agrees(moving, 2 / one.mixing_df * moving.mean() ** 2)


@pytest.mark.parametrize("kind", [MirroredPairs, TwoPoint])
def test_rewards_of_pairs_that_are_not_gaussian_are_refused(kind):
    model = bernoulli_rewards(0.3, prompts=2, signal_std=0.1)
    estimator = kind(population=8, sigma=0.1, alpha=0.1)
    for asked in (lambda: estimator.variance(Signal(), model), lambda: estimator.progress(Signal(), model)):
        with pytest.raises(ConfigError, match="paired"):
            asked()


def test_what_flat_coordinates_see_of_a_signal():
    known = Signal(reliability=0.3, member_std=1.0, even_share=0.1)
    for kind in KINDS:
        seen = estimator_of(run_of(kind, 8)).walked_signal(known)
        assert seen == (known if kind == "antithetic" else replace(known, reliability=None))


def test_the_even_part_of_pairs_is_curvature_and_half_the_noise():
    land = Landscape(dim=9, eigenvalue=[2.0], multiplicity=[3], offset=[0.1], reward_std=0.4)
    curved = 0.5 * 0.1**4 * 3 * 2.0**2
    pairs, both = estimator_of(run_of("antithetic", 8)), estimator_of(run_of("two-point", 8))
    assert pairs.even_variance(land) == pytest.approx(curved + 0.08, rel=1e-12)
    assert pairs.constant_variance(land) == pytest.approx(curved + 0.16, rel=1e-12)
    assert (both.even_variance(land), both.constant_variance(land)) == (None, pytest.approx(0.08))
