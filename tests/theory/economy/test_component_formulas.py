"""Variance components of pilots against sums over pairs of prompts, written out: no sampling, every term counts."""

import math

import numpy as np
import pytest
from scipy.stats import chi2
from scipy.stats import t as student

from estheory.rules import ESConfig
from estheory.theory.economy.intervals import (
    Interval,
    known,
    normal_interval,
    pooled,
    recovered,
    square_interval,
    variance_interval,
)
from estheory.theory.economy.iteration import Iteration
from estheory.theory.economy.pilot import pilot
from estheory.theory.economy.pooled_members import members_of
from estheory.theory.economy.scale import PlannedRun
from estheory.theory.economy.update import update_cost, update_gain
from estheory.theory.economy.variance_components import Component, noise_of_prompts, smoothing_gap

RNG = np.random.default_rng(1)
SLOPES, LOUD = RNG.lognormal(0, 1, 7), RNG.lognormal(0, 1, 7)
EFFECTS = RNG.standard_normal((12, 1)) * SLOPES + LOUD * RNG.standard_normal((12, 7)) + RNG.standard_normal(7)
QUIET = 0.05 * RNG.standard_normal((12, 7)) + RNG.standard_normal((12, 1)) * SLOPES


def covariances(values, centred):
    """(B, B) covariances of prompts over members."""
    values = values - values.mean(axis=0) if centred else values
    return values.T @ values / (len(values) - centred)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("effects", [EFFECTS, QUIET, EFFECTS[:3], EFFECTS[:2]])
def test_a_component_is_a_mean_over_pairs_of_prompts(effects, centred):
    members, prompts = effects.shape
    df = members - centred
    pairs = covariances(effects, centred)
    true = (pairs.sum() - np.trace(pairs)) / (prompts * (prompts - 1))
    found = Component.of(effects, centred=centred, fixed=False)
    assert found.seen.value == pytest.approx(pairs.mean())
    assert found.seen.value - found.noise.value == pytest.approx(true)
    # error of the choice of prompts: of each with all others, less what members' noise makes of it
    with_others = (pairs.sum(axis=1) - np.diag(pairs)) / (prompts - 1)
    scatter = with_others.var(ddof=1) - found.noise.value * prompts * found.seen.value / df
    assert found.prompts == pytest.approx(2 * math.sqrt(max(scatter, 0.0) / prompts))
    assert found.noise.stderr == pytest.approx(0) or found.noise.low < found.noise.value < found.noise.high
    freedom = df * (prompts - 1)
    assert found.noise.high == pytest.approx(found.noise.value * freedom / chi2.ppf(0.025, freedom))
    # error between members: Gaussian, or the jackknife of the members at hand if that is larger
    means = effects.mean(axis=1)
    if centred and members < 3:
        jackknife = 0.0
    elif centred:
        without = np.array([np.delete(means, k).var(ddof=1) for k in range(members)])
        jackknife = math.sqrt((members - 1) * without.var())
    else:
        jackknife = (means**2).std(ddof=1) / math.sqrt(members)
    stderr = max(jackknife, pairs.mean() * math.sqrt(2 / df))
    expected = variance_interval(pairs.mean(), stderr)
    assert (found.seen.low, found.seen.high) == pytest.approx((expected.low, expected.high))
    fixed = Component.of(effects, centred=centred, fixed=True)
    assert (fixed.seen.value, fixed.noise.value, fixed.prompts) == (pytest.approx(pairs.mean()), 0.0, 0.0)


def test_one_of_the_two_has_prompts_that_scatter():
    assert Component.of(QUIET, centred=True, fixed=False).prompts > 0.5


def test_the_noise_of_other_prompts():
    for effects in (EFFECTS, QUIET, -EFFECTS):
        pairs = covariances(effects, True)
        prompts = len(pairs)
        with_others, own = (pairs.sum(axis=1) - np.diag(pairs)) / (prompts - 1), np.diag(pairs) / prompts
        together = np.cov(with_others, own)[0, 1]
        expected = math.sqrt((4 * max(together, 0.0) + own.var(ddof=1)) / prompts)
        assert noise_of_prompts(effects) == pytest.approx(expected)
    assert np.sign(together) in (-1, 1)


def test_intervals_of_variances_means_and_squares():
    found = variance_interval(3.0, 1.0)  # 18 degrees of freedom
    assert (found.low, found.high) == pytest.approx((54 / chi2.ppf(0.975, 18), 54 / chi2.ppf(0.025, 18)))
    assert (variance_interval(0.0, 1.0).low, variance_interval(0.0, 1.0).high) == (0.0, 0.0)
    assert normal_interval(1.0, 0.5, 7).high == pytest.approx(1 + 0.5 * student.ppf(0.975, 7))
    assert normal_interval(1.0, 0.5, 7).low == pytest.approx(1 - 0.5 * student.ppf(0.975, 7))
    assert normal_interval(1.0, 0.5, 0).high == math.inf
    reach = 0.5 * student.ppf(0.975, 7)
    for square in (5.0, 0.51 * reach, 0.49 * reach, 0.1, 0.0, -2.0):
        found = square_interval(square, 0.5, 7)
        root = math.sqrt(max(square, 0.0))
        if reach < 2 * square:  # the root +- its own t s, squared
            half = reach / (2 * root)
            assert found.low == pytest.approx((root - half) ** 2 - square)
            assert found.high == pytest.approx((root + half) ** 2 - square)
        else:
            assert found.low == pytest.approx(-max(square, 0.0))
            assert found.high == pytest.approx(1.5 * reach)
        assert found.value == 0


def test_ends_are_recovered_from_those_of_the_parts():
    """Of lopsided parts, each moved alone: changes add as squares, downwards and upwards apart."""
    parts = [
        Interval(value=2.0, stderr=0.3, low=1.5, high=3.5),
        Interval(value=1.0, stderr=0.2, low=0.7, high=1.1),
        Interval(value=5.0, stderr=0.0, low=5.0, high=5.0),
    ]
    found = recovered(lambda x: float(x[0] ** 2 - 3 * x[1] + x[2]), parts)
    assert found.value == 6.0
    assert found.stderr == pytest.approx(math.hypot((2.3**2 - 1.7**2) / 2, 3 * 0.2))
    assert found.low == pytest.approx(6 - math.hypot(2**2 - 1.5**2, 3 * 0.1))
    assert found.high == pytest.approx(6 + math.hypot(3.5**2 - 2**2, 3 * 0.3))
    bent = recovered(lambda x: float((x[0] - 2.1) ** 2), parts[:1])  # both ends are above
    assert (bent.low, bent.high) == pytest.approx((0.01, 0.01 + max(0.6**2 - 0.01, 1.4**2 - 0.01)))
    total = pooled([parts[0], parts[1]], lambda value, stderr: normal_interval(value, stderr, 9))
    assert (total.value, total.stderr) == pytest.approx((1.5, math.hypot(0.3, 0.2) / 2))
    assert (known(3.0).low, known(3.0).high, known(3.0).stderr) == (3.0, 3.0, 0.0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_parts_of_pooled_members(mirrored):
    """Two iterations: values are means, errors those of means; functions of the parts are the components'."""
    rng = np.random.default_rng(2)
    rewards = [EFFECTS + 0.1 * rng.standard_normal(EFFECTS.shape), QUIET + 0.3 * rng.standard_normal(QUIET.shape)]
    centres = [each.mean(axis=0) + 0.5 for each in rewards]
    each = [Iteration(rewards=r, sigma=1.0, mirrored=mirrored, centre=c) for r, c in zip(rewards, centres, strict=True)]
    found = members_of(each)
    x = np.array([part.value for part in found.parts])
    if mirrored:
        kinds = [(lambda r: (r[0::2] - r[1::2]) / 2, False), (lambda r: (r[0::2] + r[1::2]) / 2, True)]
    else:
        kinds = [(lambda r: r, True)]
    parts = [[Component.of(of(r), centred=centred, fixed=False) for r in rewards] for of, centred in kinds]
    seen = [np.mean([c.seen.value for c in both]) for both in parts]
    noise = [np.mean([c.noise.value for c in both]) for both in parts]
    assert found.seen(x) == pytest.approx(sum(seen))
    assert found.noise(x) == pytest.approx(sum(noise))
    assert found.true(x) == pytest.approx(sum(seen) - sum(noise))
    assert found.signal(x) == pytest.approx(seen[0] - noise[0])
    assert found.share(1.0, x) == pytest.approx(1 / sum(seen))
    if mirrored:
        assert found.even(x) == pytest.approx(seen[1] - noise[1])
    # which parts each is a sum of: seen and noise, what the choice of prompts adds to v, and what it adds to the noise
    offset = 3 if mirrored else 0
    each_its_own = 2.0 ** np.arange(x.size)
    used = {found.seen: (0, 2, 3, 5, 6), found.noise: (1, 4, 6), found.signal: (0, 2)}
    if not mirrored:
        used = {found.seen: (0, 2, 3), found.noise: (1, 3)}
    for function, places in used.items():
        less = 2.0 if function == found.signal else 0.0
        moved = function(x + each_its_own) - function(x)
        assert moved == pytest.approx(sum(2.0**k for k in places) - less)
    if mirrored:
        assert found.even(x + each_its_own) - found.even(x) == pytest.approx(2.0**3 + 2.0**5 - 2.0**4)
    chosen = [math.hypot(*(c.prompts for c in both)) / 2 for both in parts]
    for k in range(len(parts)):
        square = square_interval(seen[k] - noise[k], chosen[k], 6)
        assert (found.parts[3 * k + 2].low, found.parts[3 * k + 2].high) == pytest.approx((square.low, square.high))
    unlike = math.hypot(*map(noise_of_prompts, rewards)) / 2
    assert found.parts[3 + offset].high == pytest.approx(unlike * student.ppf(0.975, 6))
    gaps = [smoothing_gap(r, c, mirrored=mirrored, fixed=False) for r, c in zip(rewards, centres, strict=True)]
    assert found.gap.value == pytest.approx(np.mean([g for g, _ in gaps]))
    reach = student.ppf(0.975, min(5 if mirrored else 11, 6)) * math.hypot(*(s for _, s in gaps)) / 2
    assert found.gap.high - found.gap.value == pytest.approx(reach)
    small = members_of([Iteration(rewards=0.01 * EFFECTS, sigma=1.0, mirrored=mirrored)])
    y = np.array([part.value for part in small.parts])
    assert small.share(1.0, y) == pytest.approx(1 / small.seen(y))
    few = members_of([Iteration(rewards=EFFECTS[:4], sigma=1.0, mirrored=mirrored, centre=centres[0])]).gap
    assert few.high - few.value == pytest.approx(student.ppf(0.975, 1 if mirrored else 3) * few.stderr)
    assert members_of(each, fixed=True).parts[3 + offset].stderr == 0


@pytest.mark.parametrize("scatter", [0.0, 3.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_gap_and_its_error(mirrored, scatter):
    """The centre's own noise counts as that of one draw where the differences scatter less."""
    centre = EFFECTS.mean(axis=0) + 0.5 + np.linspace(-scatter, scatter, 7)
    gap, stderr = smoothing_gap(EFFECTS, centre, mirrored=mirrored, fixed=False)
    assert gap == pytest.approx(centre.mean() - EFFECTS.mean())
    sums = (EFFECTS[0::2] + EFFECTS[1::2]) / 2 if mirrored else EFFECTS
    pairs = covariances(sums, True)
    true = max((pairs.sum() - np.trace(pairs)) / 42, 0.0)
    scatter = max((centre - EFFECTS.mean(axis=0)).var(ddof=1), np.diag(covariances(EFFECTS, True)).mean())
    assert stderr == pytest.approx(math.sqrt(true / len(sums) + scatter / 7))
    fixed = smoothing_gap(EFFECTS, centre, mirrored=mirrored, fixed=True)
    assert fixed == pytest.approx((gap, math.sqrt(pairs.mean() / len(sums))))


def test_a_planned_update_is_predicted_from_the_components():
    """Gain, cost, net and best alpha at other N and B than the pilot's."""
    centre = EFFECTS.mean(axis=0) + 0.5
    found = pilot(
        [Iteration(rewards=EFFECTS, sigma=0.1, mirrored=True, centre=centre)],
        PlannedRun(alpha=0.02, population=40, prompts=21),
    ).scale
    x, members = found.centre, found.members
    seen = members.seen(x) - members.noise(x) * (1 - 7 / 21)
    kappa = (members.signal(x) - members.even(x)) / seen
    config = ESConfig(dim=1, sigma=0.1, alpha=0.02, population=40, antithetic=True)
    gain = update_gain(config, members.signal(x), seen, kappa)
    cost = update_cost(config, 0.5, seen, kappa)
    assert (found.gain(x), found.cost(x), found.net(x)) == pytest.approx((gain, cost, gain - cost))
    assert found.best(x) == pytest.approx((0.02 * gain / (2 * cost), gain**2 / (4 * cost)))
    assert found.net_interval.low == pytest.approx(recovered(found.net, members.parts).low)


def test_without_pairs_a_gain_may_be_nothing_and_a_net_gain_all_of_its_cost():
    centre = EFFECTS.mean(axis=0) + 0.5
    found = pilot([Iteration(rewards=EFFECTS, sigma=0.1, centre=centre)], PlannedRun(alpha=0.02)).scale
    low = {str(row.quantity): row.low for row in found.predictions()}
    assert low["reward_gain_per_step"] == 0
    assert low["net_gain_per_step"] == pytest.approx(-recovered(found.cost, found.members.parts).high)
    assert low["optimal_alpha"] == low["best_net_gain"] == 0


def test_rollouts_are_split_anew_where_something_is_paid():
    rewards = 0.05 * EFFECTS
    for gap, split in ((0.4, True), (-0.4, False)):
        each = Iteration(rewards=rewards, sigma=0.1, mirrored=True, centre=rewards.mean(axis=0) + gap)
        found = pilot([each], PlannedRun(alpha=0.02, rollouts=4096)).recommendation
        assert ((found.population, found.prompts) == (512, 8)) == split
