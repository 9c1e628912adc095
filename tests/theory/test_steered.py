"""Laws of runs that a signal moves, and laws whose spread is an estimate or a worst case: against plain simulation.

False-failure rate: 1e-6 per assertion (tests/statistics.py), fixed seeds; each has a control that must fail.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from estheory import Choices, DriftBudget, ESConfig, plan, predict
from estheory.errors import ConfigError
from estheory.landscape import Landscape, linear_signal
from estheory.measurement.fisher import FisherProbe
from estheory.quantities import Quantity
from estheory.theory.curved.reward_laws import MixedNormalLaw, UnevenSumLaw
from estheory.theory.norm_laws import PairNormLaw, StepNormLaw
from estheory.theory.probe.prediction_law import FewDirectionsLaw
from estheory.theory.prompt_batch import PromptBatch
from estheory.theory.steered_cosines import DisplacementPair
from tests.statistics import agrees, ks_agrees, variance_agrees
from tests.variants import variants

RNG = 3


def one_step(dim, members, rho2, raw, replicas=4000):
    """Norm of a step of z-scores, or of raw rewards over their spread, on R = rho x_1 + sqrt(1-rho^2) noise."""
    rng = np.random.default_rng(RNG)
    noise = rng.standard_normal((replicas, members, dim))
    rewards = math.sqrt(rho2) * noise[:, :, 0] + math.sqrt(1 - rho2) * rng.standard_normal((replicas, members))
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    weights = centred if raw else centred / rewards.std(axis=1, keepdims=True)
    return np.linalg.norm(np.einsum("rn,rnd->rd", weights, noise), axis=1)


STEPS = [(*signal, raw) for signal in ((2, 5, 0.9), (6, 4, 0.5), (3, 12, 1.0)) for raw in (False, True)]


@pytest.mark.parametrize("run", variants(STEPS, fast=[(3, 12, 1.0, False), (3, 12, 1.0, True)]), ids=str)
def test_the_norm_of_a_step_with_signal(run):
    dim, members, rho2, raw = run
    scale = math.sqrt(members - 1 if raw else members)
    law = StepNormLaw(scale, math.sqrt(rho2), members - 1.0, math.sqrt(1 - rho2), dim - 1.0, raw)
    x = one_step(dim, members, rho2, raw)
    assert agrees(x, law.mean)
    assert variance_agrees(x, law.std**2)
    assert ks_agrees(x, lambda v: law.tails(v)[0])
    assert sum(law.tails(law.mean)) == pytest.approx(1, abs=1e-6)
    walk = StepNormLaw(scale, 0.0, members - 1.0, 1.0, dim - 1.0, raw)
    assert not ks_agrees(x, lambda v: walk.tails(v)[0])


def test_the_norm_of_a_step_of_pairs():
    rng, pairs, kappa, dim = np.random.default_rng(RNG), 3, 0.4, 7
    odd, even = math.sqrt((1 + kappa) / 2), math.sqrt((1 - kappa) / 2)
    differences = odd * rng.standard_normal((4000, pairs))
    sums = even * rng.standard_normal((4000, pairs))
    rewards = np.concatenate([sums + differences, sums - differences], axis=1)
    weights = 2 * differences / rewards.std(axis=1, keepdims=True)
    x = np.linalg.norm(np.einsum("rp,rpd->rd", weights, rng.standard_normal((4000, pairs, dim))), axis=1)
    law = PairNormLaw(math.sqrt(2 * pairs), pairs, kappa, dim)
    assert agrees(x, law.mean)
    assert variance_agrees(x, law.std**2)
    assert ks_agrees(x, lambda v: law.tails(v)[0])
    assert not ks_agrees(x, lambda v: PairNormLaw(math.sqrt(2 * pairs), pairs, 0.0, dim).tails(v)[0])


def test_the_cosine_of_two_displacements_with_means():
    rng, replicas = np.random.default_rng(RNG), 4000
    count, mean, first, added = 400, 0.5, 1.0, 0.6
    a = mean + math.sqrt(first) * rng.standard_normal((replicas, count))
    b = a + 0.2 + math.sqrt(added) * rng.standard_normal((replicas, count))
    x = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    one = np.ones(1)
    law = DisplacementPair(
        count=count * one,
        first_mean=mean * one,
        second_mean=(mean + 0.2) * one,
        first=first * one,
        second=(first + added) * one,
        cross=first * one,
    ).law
    assert abs(x.mean() - law.mean) < 2 / count
    assert x.std() == pytest.approx(law.std, rel=0.06)
    assert x.mean() != pytest.approx(math.sqrt(first / (first + added)), rel=0.02)  # the walk's own


def test_an_uneven_sum_holds_what_it_says_whatever_its_weights():
    rng = np.random.default_rng(RNG)
    for weights in (np.ones(30), 1 / np.arange(1, 200.0), np.r_[1.0, np.full(500, 0.01)]):
        x = rng.standard_normal((20000, weights.size)) ** 2 @ weights
        df = weights.sum() ** 2 / (weights**2).sum()
        law = UnevenSumLaw(float(weights.sum()), float(df))
        assert law.std == pytest.approx(math.sqrt(2 * (weights**2).sum()))
        for tail in (0.025, 0.005):
            error = 5 * math.sqrt(tail / x.size)
            assert np.mean(x < law.quantile(tail)) < tail + error
            assert np.mean(x > law.quantile(1 - tail)) < tail + error
    even = law.mean / law.df
    assert np.mean(x > even * 22.0) > 0.01  # a chi-square of the last one's moments has 0.5 % beyond 22 degrees


def test_a_normal_whose_variance_fluctuates():
    law = MixedNormalLaw(-1.0, 0.3, 0.5, 6.0)
    x = law.sample(np.random.default_rng(RNG), 20000)
    assert agrees(x, law.mean)
    assert variance_agrees(x, law.std**2)
    assert ks_agrees(x[:4000], lambda v: law.tails(v)[0])
    assert not ks_agrees(x[:4000], lambda v: MixedNormalLaw(-1.0, 0.3, 0.5, 60.0).tails(v)[0])


SPECTRA = {
    "many alike": [(1.0, 1000)],
    "one large among many small": [(1.0, 1), (0.002, 1000)],
    "one large beside as much": [(1.0, 1), (0.02, 1000)],
    "three large": [(1.0, 3), (0.02, 1000)],
    "two": [(1.0, 2)],
    "falling": [(k**-2.0, 1) for k in range(1, 60)],
}


@pytest.mark.parametrize("count", variants([3, 4, 8, 64], fast={3, 64}))
def test_few_directions_refute_no_more_than_they_say(count):
    """Counts beyond the 95 and 99 % intervals: 1e-6 a comparison. The spread taken as known must fail, where few."""
    rng, replicas, worst = np.random.default_rng(RNG), 1000, 0.0
    for spectrum in SPECTRA.values():
        x = sum(f * rng.chisquare(multiplicity, (replicas, count + 1)) for f, multiplicity in spectrum)
        means, spreads = x[:, :count].mean(1), x[:, :count].std(1, ddof=1)
        rows = zip(means, spreads, x[:, count], strict=True)
        p = np.array([FewDirectionsLaw(m, s / m, count).pvalue(new) for m, s, new in rows])
        for level in (0.05, 0.01, 0.001):
            assert stats.binom.sf(np.sum(p < level) - 1, replicas, level) > 1e-6
        d = 2 * (means / spreads) ** 2
        known = 2 * np.minimum(stats.chi2.cdf(x[:, count] / means * d, d), stats.chi2.sf(x[:, count] / means * d, d))
        worst = max(worst, float(np.mean(known < 0.01)))
    assert stats.binom.sf(round(worst * replicas) - 1, replicas, 0.01) < 1e-6 or count == 64


def test_what_few_directions_refute():
    """The law has power: four directions exclude ten times their mean, sixty-four half of it."""
    assert FewDirectionsLaw(1.0, 0.1, 4).pvalue(10.0) < 0.01
    assert FewDirectionsLaw(1.0, 0.1, 64).pvalue(0.5) < 1e-3
    assert FewDirectionsLaw(1.0, 0.1, 64).pvalue(1.6) < 0.01
    law = FewDirectionsLaw(1.0, 0.3, 5)
    x = law.sample(np.random.default_rng(RNG), 20_000)
    assert agrees(x < law.quantile(0.2), 0.2)
    assert law.tails(law.quantile(0.99))[1] == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize("count", variants([4, 64], fast={4}))
def test_the_stated_spread_of_a_probe_is_an_upper_limit(count):
    rng, replicas = np.random.default_rng(RNG), 1500
    for spectrum in SPECTRA.values():
        f, multiplicity = np.array(spectrum).T
        exact = math.sqrt(2 * (multiplicity @ f**2)) / (multiplicity @ f)
        x = sum(f * rng.chisquare(multiplicity, (replicas, count)) for f, multiplicity in spectrum)
        probes = [FisherProbe(sigma=1, samples=tuple(row), seed=0, dim=9, tokens=1, seconds=0) for row in x]
        missed = sum(probe.relative_std < exact for probe in probes)
        assert stats.binom.sf(missed - 1, replicas, 0.05) > 1e-6
        estimates = sum(probe.estimated_relative_std < exact for probe in probes)
        assert stats.binom.sf(estimates - 1, replicas, 0.05) < 1e-6  # the estimate is no limit


def test_a_signal_of_another_sigma_is_refused():
    signal = linear_signal(sigma=0.01, gradient_norm=1.0, reward_std=0.1)
    predict(ESConfig(dim=100, sigma=0.01, population=8), reward=signal)
    with pytest.raises(ConfigError, match=r"sigma 0\.01"):
        predict(ESConfig(dim=100, sigma=0.02, population=8), reward=signal)


@pytest.mark.parametrize(
    ("success", "prompts", "asked"), [(0.1, 1, 0.1), (0.02, 4, 0.1), (0.5, 64, 0.3), (0.97, 32, 0.5)]
)
def test_0_1_rewards_have_the_reliability_that_was_asked(success, prompts, asked):
    found = PromptBatch(success=success, prompts=prompts).signal(sigma=0.01, reliability=asked)
    assert found.reliability == pytest.approx(asked, rel=1e-6)
    with pytest.raises(ConfigError, match="at most"):
        PromptBatch(success=0.02, prompts=1).signal(sigma=0.01, reliability=0.9)


def test_low_rank_noise_and_a_strong_signal_have_no_norm_in_few_coordinates():
    """Entries beside the gradient share its factors: the norm scatters far more than its two moments say."""
    rows, columns, members, share, replicas = 5, 4, 8, 0.9, 20_000
    shapes, dim = [(rows, columns)], rows * columns
    signal = linear_signal(sigma=0.1, reliability=share)
    config = ESConfig(dim=dim, sigma=0.1, alpha=0.1, population=members, noise="low-rank:1")
    forecast = predict(config, reward=signal, shapes=shapes)
    assert {Quantity.STEP_NORM, Quantity.DISPLACEMENT_NORM}.isdisjoint(p.quantity for p in forecast.predictions)
    assert any("no norms" in warning for warning in forecast.warnings)
    assert any("no gradient_cosine" in warning for warning in forecast.warnings)
    absent = {Quantity.GRADIENT_COSINE, Quantity.PROGRESS_PER_STEP, Quantity.REWARD_GAIN_PER_STEP}
    assert absent.isdisjoint(p.quantity for p in forecast.predictions)
    rng = np.random.default_rng(RNG)
    left, right = (
        rng.standard_normal((replicas, members, rows, 1)),
        rng.standard_normal((replicas, members, 1, columns)),
    )
    noise = (left @ right).reshape(replicas, members, dim)
    direction = np.zeros(dim)
    direction[0] = 1.0  # a concentrated gradient
    rewards = noise @ direction + math.sqrt(1 / share - 1) * rng.standard_normal((replicas, members))
    centred = rewards - rewards.mean(1, keepdims=True)
    moved = 0.1 / members * np.einsum("rn,rnd->rd", centred / rewards.std(1, keepdims=True), noise)
    norms = np.linalg.norm(moved, axis=1)
    plain = predict(replace(config, noise="gaussian"), reward=signal).get(Quantity.STEP_NORM).law
    assert norms.std() > 1.3 * plain.std  # what stays refused
    cosine = predict(replace(config, noise="gaussian"), reward=signal).get(Quantity.GRADIENT_COSINE).law
    assert not agrees(moved[:, 0] / norms, cosine.mean)
    weak = predict(config, reward=linear_signal(sigma=0.1, reliability=1e-6), shapes=shapes)
    assert weak.get(Quantity.STEP_NORM).label == "large-N"
    large = replace(config, dim=100 * 40)
    for quantity in (Quantity.STEP_NORM, Quantity.PROGRESS_PER_STEP, Quantity.GRADIENT_COSINE):
        assert predict(large, reward=signal, shapes=[(100, 40)]).get(quantity).label == "large-N"


def test_a_plan_and_a_prediction_of_one_run_have_one_norm():
    answer = plan(
        dim=40,
        budget=DriftBudget(max_norm=0.5),
        target_progress=0.2,
        reliability=0.6,
        choices=Choices(sigmas=(0.05,)),
    )
    best = answer.recommendation
    signal = linear_signal(sigma=best.config.sigma, reliability=0.6)
    norm = predict(best.config, checkpoints=[best.steps], reward=signal).get(Quantity.DISPLACEMENT_NORM)
    assert norm.law.quantile(0.95) == pytest.approx(best.used["max-norm"], rel=1e-6)


def test_raw_rewards_that_curvature_dominates_have_no_norm():
    """A step's square scatters with the kurtosis of the rewards, which the chi law of its two moments does not know."""
    members, sigma, dim, replicas = 16, 0.2, 300, 4000
    lam, offset = np.array([20.0, 1.0]), np.array([0.1, 0.0])
    ground = Landscape(dim=dim, eigenvalue=lam, multiplicity=[1, 20], offset=offset, reward_std=0.01)
    run = ESConfig(dim=dim, sigma=sigma, alpha=0.002, population=members, shaping="raw")
    rng = np.random.default_rng(11)
    eps = rng.standard_normal((replicas, members, dim))
    curved, start = np.repeat(lam, [1, 20]), np.repeat(offset, [1, 20])
    rewards = -0.5 * np.square(start + sigma * eps[:, :, :21]) @ curved
    rewards += 0.01 * rng.standard_normal(rewards.shape)
    weights = (rewards - rewards.mean(1, keepdims=True)) / sigma
    norms = np.linalg.norm(run.step_size / members * np.einsum("rn,rnd->rd", weights, eps), axis=1)
    forecast = predict(run, landscape=ground)
    assert {Quantity.STEP_NORM, Quantity.DISPLACEMENT_NORM}.isdisjoint(p.quantity for p in forecast.predictions)
    assert any("excess kurtosis" in warning for warning in forecast.warnings)
    gaussian = math.sqrt(0.5 * (2 / (members - 1) + 2 / dim) / 2)  # relative spread of the norm if rewards were normal
    assert norms.std() / norms.mean() > 1.5 * gaussian
    calm = predict(run, landscape=replace(ground, eigenvalue=lam / 20, reward_std=1.0))
    assert Quantity.STEP_NORM in {p.quantity for p in calm.predictions}


def test_one_direction_of_two_point_rewards_has_its_norms_on_curved_ground():
    ground = Landscape(dim=300, eigenvalue=[2.0, 0.5], multiplicity=[1, 20], offset=[0.1, 0.0], reward_std=0.1)
    run = ESConfig(dim=300, sigma=0.1, alpha=0.01, population=1, steps=3, shaping="two-point")
    found = predict(run, landscape=ground)
    assert Quantity.STEP_NORM in {p.quantity for p in found.predictions}
