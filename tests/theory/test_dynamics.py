"""Mean curve, spread over runs and stationary state against brute-force runs, with dropped terms that must fail."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.laws import PointLaw
from estheory.theory.curved import dynamics, fluctuations, long_runs, recursion, stationary
from estheory.theory.curved import spectra as landscapes
from estheory.theory.estimators import estimator_of
from tests.statistics import agrees, ks_agrees
from tests.theory.quadratic_es import config, landscape, run, std_within, within
from tests.variants import variants

TWO_SCALE = landscapes.two_scale()
PAPER_LIKE = config(dim=1005, sigma=0.01, alpha=0.01, population=30, steps=400)


def test_reference_values_of_the_two_scale_example():
    """Rewards at t = 20, 100, 200, 400, a peak at 125, and the spread of the 40 runs that checked them."""
    curve = dynamics.mean_field(PAPER_LIKE, TWO_SCALE)
    for step, value, digits in (
        (20, -1.1864, 5e-5),
        (100, -0.00775, 1e-5),
        (200, -0.00725, 1e-5),
        (400, -0.01302, 1e-5),
    ):
        assert curve.at(step) == pytest.approx(value, abs=digits)
    assert curve.peak == (125, pytest.approx(-0.005248, abs=1e-6))
    assert curve.at(0) == -2.25
    assert curve.time_to(-1.1864) == 20
    assert curve.time_to(-0.001) is None
    assert dynamics.mean_field(PAPER_LIKE, TWO_SCALE, 100).peak is None  # still rising
    measured = {20: (-1.1916, 0.0048), 100: (-0.00786, 0.00027), 200: (-0.00740, 0.00012), 400: (-0.01279, 0.00019)}
    for spread in fluctuations.reward_spread(PAPER_LIKE, TWO_SCALE, list(measured)):
        value, stderr = measured[spread.step]  # the sheet's Monte Carlo, 40 replicas
        assert abs(value - spread.mean) < 3 * stderr
        # and its standard errors, whose own relative error is 1/sqrt(2 * 39) = 11 %
        assert spread.std / math.sqrt(40) == pytest.approx(stderr, rel=0.35)


RUNS = {
    # name: (rows, s, config, steps)
    "noise dominated": (
        [(1, 20, 0.3)],
        0.05,
        {"sigma": 0.1, "alpha": 0.1, "population": 30},
        (1, 5, 10, 40),
    ),
    "two scales": (
        [(4, 3, 0.5), (1, 30, 0.1)],
        0.05,
        {"sigma": 0.05, "alpha": 0.03, "population": 16},
        (1, 10, 40),
    ),
    "x = .1": ([(1, 20, 0.3)], 0.05, {"sigma": 0.5, "alpha": 0.2, "population": 30}, (4, 60)),
    "start at the optimum": (
        [(2, 5, 0.0), (1, 20, 0.0)],
        0.5,
        {"sigma": 0.1, "alpha": 0.1, "population": 30},
        (1, 2, 8),
    ),
    "noiseless": ([(1, 10, 0.5)], 0.0, {"sigma": 0.05, "alpha": 0.05, "population": 30}, (1, 10, 30)),
    "raw": (
        [(1, 10, 0.3)],
        0.05,
        {"sigma": 0.1, "alpha": 0.2, "population": 30, "shaping": "raw"},
        (1, 5, 10, 40),
    ),
    "ranks": (
        [(1, 10, 0.3)],
        0.05,
        {"sigma": 0.1, "alpha": 0.2, "population": 30, "shaping": "centered-rank"},
        (1, 10, 20),
    ),
}


@pytest.mark.parametrize("name", variants(RUNS, fast={"two scales", "raw", "ranks"}))
def test_mean_and_spread_of_runs(name):
    rows, reward_std, changes, steps = RUNS[name]
    where, c = landscape(*rows, reward_std=reward_std), config(**changes)
    rewards = run(5, c, where, 3000, set(steps))
    n = c.population
    for spread in fluctuations.reward_spread(c, where, steps):
        samples = rewards[spread.step]
        assert within(samples, spread.mean, spread.systematic)
        # first order in fluctuations: twice the declared error of the mean
        assert std_within(samples, spread.std, 2 * (2 / n + spread.spread_of_square**2))
        assert not std_within(samples, 1.6 * spread.std, 2 * (2 / n + spread.spread_of_square**2))
    last = fluctuations.reward_spread(c, where, steps[-1:])[0]
    wrong = config(**(changes | {"sigma": c.sigma**2, "alpha": c.step_size}))
    assert not within(rewards[steps[-1]], dynamics.mean_field(wrong, where, steps[-1]).at(steps[-1]), last.systematic)


@pytest.mark.parametrize("offset", variants([0.0, 0.3], fast={0.3}))
def test_sample_variance_of_raw_rewards_is_a_common_factor(offset):
    """It moves noise (a loss) and progress (a gain) together; 60 directions, N = 30, spread to 5 %."""
    where = landscape((1, 60, offset), reward_std=0.0 if offset else 0.3)
    c = config(sigma=0.1, alpha=0.3 if offset else 0.05, population=30, shaping="raw")
    for step, samples in run(7, c, where, 6000, {1, 3}).items():
        spread = fluctuations.reward_spread(c, where, [step])[0]
        assert agrees(samples, spread.mean)
        assert std_within(samples, spread.std, 0.05)
        assert not std_within(samples, 1.2 * spread.std, 0.05)


def test_raw_mean_is_exact():
    """Raw rewards close the moments: no tolerance at all, at N = 4 and with one dominating direction."""
    where = landscape((4, 1, 0.3), (1, 9, 0.1), reward_std=0.05)
    c = config(sigma=0.3, alpha=0.05, population=4, shaping="raw")
    rewards = run(6, c, where, 40_000, {1, 5, 30})
    curve = dynamics.mean_field(c, where, 30)
    assert curve.label == "exact"
    for step, samples in rewards.items():
        assert agrees(samples, curve.at(step))
        # a population of N for N - 1 in the progress
        wrong = config(sigma=0.3, alpha=0.05 * 4 / 3, population=4, shaping="raw")
        assert not agrees(samples, dynamics.mean_field(wrong, where, step).at(step))


def test_quadratic_share_matters_in_the_stationary_state():
    """Near the optimum S shrinks and x grows: without its term the gap is too small by half (the sheet: r = 3)."""
    where, c = landscape((1, 3, 0.0), reward_std=0.05), config(sigma=1.0, alpha=0.2, population=30)
    state = stationary.stationary_state(c, where)
    samples = run(5, c, where, 6000, {40})[40]
    spread = fluctuations.reward_spread(c, where, [40])[0]
    assert within(-samples, state.gap, spread.systematic)
    x = state.quadratic_share[0]
    assert x > 0.6
    dropped = state.gap / (1 + estimator_of(c).moments().quadratic * x)
    assert not within(-samples, dropped, spread.systematic)


def test_law_of_a_single_run():
    where, c = landscape((1, 20, 0.3), reward_std=0.05), config(sigma=0.1, alpha=0.1, population=30)
    spread = fluctuations.reward_spread(c, where, [40])[0]
    samples = run(5, c, where, 2000, {40})[40]
    assert ks_agrees(samples, lambda v: spread.law.tails(v)[0])
    twice = fluctuations.RewardSpread(step=40, mean=spread.mean, std=2 * spread.std, spread_of_square=0, systematic=0)
    assert not ks_agrees(samples, lambda v: twice.law.tails(v)[0])
    start = fluctuations.reward_spread(c, where, [0])[0]
    assert start.law == PointLaw(-where.gap)


def test_feedback_through_the_common_spread_is_in_the_variance():
    """Far from the optimum S follows the distance: with S held constant the spread would come out wrong."""
    where, c = landscape((1, 10, 0.5)), config(sigma=0.05, alpha=0.05, population=30)
    spread = fluctuations.reward_spread(c, where, [10])[0]
    held = []
    for state in recursion.states(c, where):
        held.append(math.sqrt(state.member_square))
        if state.step == 10:
            break
    variance = 0.0
    for member_std in held[:-1]:
        rate = recursion.step_rule(c).rate(member_std**2)
        variance = (1 - rate) ** 2 * variance + 0.05**2 / 30
    alone = math.sqrt(10 * (0.5 * variance**2 + state.mean[0] ** 2 * variance))
    samples = run(7, c, where, 4000, {10})[10]
    assert std_within(samples, spread.std, 2 / 30)
    assert not std_within(samples, alone, 2 / 30)


@pytest.mark.slow
def test_two_scale_trajectory_by_brute_force():
    """The sheet's own Monte Carlo, again: 405 curved directions, 400 steps, 40 replicas."""
    rewards = run(1, PAPER_LIKE, TWO_SCALE, 40, {20, 100, 200, 400})
    for spread in fluctuations.reward_spread(PAPER_LIKE, TWO_SCALE, list(rewards)):
        samples = rewards[spread.step]
        assert abs(samples.mean() - spread.mean) < 4.9 * spread.std / math.sqrt(40)
        assert np.var(samples, ddof=1) / spread.std**2 == pytest.approx(1, abs=4.9 * math.sqrt(2 / 39))


def test_coordinate_variance_is_that_of_a_constant_spread():
    where = landscape((0.02, 5, 0.0), reward_std=2.0)
    c = config(sigma=0.1, alpha=0.3, population=12)
    member_std = where.member_std(0.1)
    rewards = run(8, c, where, 4000, {3, 200})
    for step, samples in rewards.items():
        variance = dynamics.coordinate_variance(c, 0.02, member_std, step)
        assert within(-samples, 0.5 * 0.02 * 5 * variance, 0.01)
    assert not within(-rewards[200], 0.5 * 0.02 * 5 * 0.3**2 * 200 / 12, 0.01)  # the walk
    rate = 1 / dynamics.relaxation_time(c, 0.02, member_std)
    assert rate == pytest.approx(0.3 * estimator_of(c).moments().progress * 0.1 * 0.02 / member_std)


@given(eigenvalue=h.floats(1e-12, 1e-9), step=h.integers(1, 1000), population=h.integers(2, 1000))
def test_vanishing_eigenvalue_recovers_the_walk(eigenvalue, step, population):
    c = config(sigma=0.1, alpha=0.05, population=population)
    walk = 0.05**2 * step / population
    assert dynamics.coordinate_variance(c, eigenvalue, 0.3, step) == pytest.approx(walk, rel=1e-6)
    assert dynamics.coordinate_variance(c, 0.0, 0.3, step) == pytest.approx(walk, rel=1e-14)
    state = long_runs.state_after(c, landscape((eigenvalue, 3, 0.0), reward_std=0.3), min(step, 30))
    assert state.variance[0] == pytest.approx(0.05**2 * min(step, 30) / population, rel=1e-6)


@given(shrink=h.floats(1e-6, 1.9), step=h.integers(0, 300))
def test_coordinate_variance_solves_its_recursion(shrink, step):
    c = config(sigma=1.0, alpha=1.0, population=10)
    eigenvalue = shrink / recursion.step_rule(c).rate(1.0)
    now, after = (dynamics.coordinate_variance(c, eigenvalue, 1.0, t) for t in (step, step + 1))
    assert after == pytest.approx((1 - shrink) ** 2 * now + 0.1, rel=1e-9)


@given(
    sharp=h.floats(0.1, 20),
    soft=h.floats(0.01, 1),
    noise=h.just(0.0) | h.floats(1e-9, 1),
    population=h.integers(10, 500),
    shaping=h.sampled_from(["zscore", "centered-rank"]),
)
def test_stationary_state_is_the_fixed_point_of_the_recursion(sharp, soft, noise, population, shaping):
    rows = (sharp, 3), (soft, 20), (0, 7)
    c = config(sigma=0.1, alpha=0.05, population=population, shaping=shaping)
    state = stationary.stationary_state(c, landscape(*((*row, 0.0) for row in rows), reward_std=noise))
    assert math.isinf(state.square[2])
    offsets = [*np.sqrt(state.square[:2]), 0.0]
    there = landscape(*((*row, offset) for row, offset in zip(rows, offsets, strict=True)), reward_std=noise)
    assert there.gap == pytest.approx(state.gap)
    assert there.member_std(0.1) == pytest.approx(state.member_std)
    after = long_runs.state_after(c, there, 1)
    assert after.square[:2] == pytest.approx(state.square[:2], rel=1e-9)


def test_recursion_converges_to_the_stationary_state():
    where, c = landscape((5, 3, 0.2), (1, 20, 0.0), reward_std=0.1), config(sigma=0.1, alpha=0.05, population=20)
    state = stationary.stationary_state(c, where)
    curve = dynamics.mean_field(c, where, int(20 / state.contraction[1]))
    assert curve.reward[-1] == pytest.approx(-state.gap, rel=1e-6)
    assert curve.member_std[-1] == pytest.approx(state.member_std, rel=1e-6)


def test_stationary_values_of_the_sheet():
    """-.0148, -.0691 and -.0119, to the (N-1)/N of the x term that the sheet lacks."""
    for r, sigma, alpha, value, digits in (
        (3, 1.0, 0.2, -0.0148, 1e-4),
        (20, 0.5, 0.2, -0.0691, 4e-4),
        (20, 0.1, 0.1, -0.0119, 5e-5),
    ):
        c = config(sigma=sigma, alpha=alpha, population=30)
        gap = stationary.stationary_state(c, landscape((1, r, 0.0), reward_std=0.05)).gap
        assert -gap == pytest.approx(value, abs=digits)


def test_equipartition_and_where_it_fails():
    # the sheet: 1.600e-4 for both, Monte Carlo 1.633e-4 and 1.637e-4
    rows = (4, 10, 0.0), (1, 30, 0.0)
    where, c = landscape(*rows, reward_std=0.05), config(sigma=0.02, alpha=0.01, population=40)
    cost = stationary.equipartition_cost(c, where)
    assert cost == pytest.approx(1.600e-4, abs=5e-8)
    state = stationary.stationary_state(c, where)
    assert 0.5 * where.eigenvalue * state.square == pytest.approx(np.full(2, cost), rel=0.02)
    assert not stationary.equipartition_range(state)
    # x not small: 2.59e-4 and 1.76e-4 jointly against 1.63e-4 for both, Monte Carlo 2.55e-4 and 1.74e-4
    where, c = landscape(*rows), config(sigma=0.05, alpha=0.05, population=40)
    state = stationary.stationary_state(c, where)
    assert 0.5 * where.eigenvalue * state.square == pytest.approx([2.59e-4, 1.76e-4], rel=0.01)
    assert stationary.equipartition_cost(c, where) == pytest.approx(1.63e-4, rel=0.005)
    assert {"contraction", "quadratic"} == {str(w).split()[2] for w in stationary.equipartition_range(state)}


def test_equal_eigenvalues_without_noise():
    """s = 0 and sigma small: a lam = 2 c^2 N / (r + N - 2); equal costs are off by 2, 6 and 35 (the sheet: 33)."""
    for population, factor in ((10, 2), (30, 6), (100, 35)):
        where, c = landscape((1, 20, 0.0)), config(sigma=1e-5, alpha=1.0, population=population)
        state = stationary.stationary_state(c, where)
        c_square = estimator_of(c).moments().progress ** 2
        assert state.contraction[0] == pytest.approx(2 * c_square * population / (20 + population - 2), rel=1e-6)
        assert state.gap / (20 * stationary.equipartition_cost(c, where)) == pytest.approx(factor, rel=0.05)


def test_equal_costs_by_brute_force():
    where, c = landscape((4, 5, 0.0), (1, 15, 0.0), reward_std=0.05), config(sigma=0.05, alpha=0.05, population=40)
    state = stationary.stationary_state(c, where)
    samples = run(9, c, where, 1500, {100})[100]
    assert within(-samples, state.gap, 2 / 40)
    assert not within(-samples, 2 * state.gap, 2 / 40)
    assert not within(-samples, state.gap * 40 / 30, 2 / 40)


def test_divergence_is_reported_as_a_step():
    where, c = landscape((1, 40, 0.1), reward_std=0.1), config(sigma=0.1, alpha=1.5, population=10, shaping="raw")
    curve = dynamics.mean_field(c, where, 500)
    assert curve.diverged_at is not None
    assert curve.reward.size == curve.diverged_at
    assert np.all(np.isfinite(curve.reward))
    with pytest.raises(ConfigError, match=f"diverges at step {curve.diverged_at}"):
        curve.at(500)
    with pytest.raises(ConfigError, match="diverges at step"):
        fluctuations.reward_spread(c, where, [500])
    with pytest.raises(ConfigError, match="does not settle"):
        stationary.stationary_state(c, where)
    # brute force agrees that it grows without bound, and that a fifth of the step does not
    assert -run(1, c, where, 100, {20})[20].mean() > 100 * where.gap
    calm = config(sigma=0.1, alpha=0.3, population=10, shaping="raw")
    assert dynamics.mean_field(calm, where, 500).diverged_at is None


@given(alpha=h.floats(1e-4, 10), sigma=h.floats(1e-3, 1), population=h.integers(2, 100))
def test_normalised_steps_never_diverge(alpha, sigma, population):
    """z-scores bound a step, whatever alpha: the curve stays finite and at or below the optimum."""
    curve = dynamics.mean_field(config(sigma=sigma, alpha=alpha, population=population), TWO_SCALE, 60)
    assert curve.diverged_at is None
    assert np.all(curve.reward <= 0)


def test_ten_thousand_steps_of_a_thousand_rows_are_quick():
    rows = np.stack([np.geomspace(1e-3, 10, 1000), np.full(1000, 10**8), np.full(1000, 1e-6)], axis=1)
    where = landscape(*rows, reward_std=0.02, dim=10**12)
    started = time.process_time()
    dynamics.mean_field(config(dim=10**12, sigma=1e-3, population=30), where, 10_000)
    assert time.process_time() - started < 1.0


def test_what_cannot_be_followed_is_said():
    c = config(sigma=0.1, population=8)
    with pytest.raises(ConfigError, match="same reward"):
        dynamics.mean_field(c, landscape((0, 1, 0.0)), 3)
    with pytest.raises(ConfigError, match="flat landscape"):
        stationary.stationary_state(c, landscape((0, 1, 0.0), reward_std=0.1))
    with pytest.raises(ConfigError, match="beyond the 3"):
        dynamics.mean_field(c, TWO_SCALE, 3).at(4)
    with pytest.raises(ConfigError, match="too many"):
        dynamics.mean_field(config(sigma=0.1, population=8, anchor_l1=0.1), TWO_SCALE, 10**8)
    with pytest.raises(ConfigError, match=">= 2"):
        dynamics.coordinate_variance(config(sigma=1.0, alpha=1.0, population=8), 10.0, 1.0, 3)
    with pytest.raises(ConfigError, match="raw"):
        stationary.equipartition_cost(config(sigma=0.1, population=8, shaping="raw"), TWO_SCALE)
    with pytest.raises(ConfigError, match="L1 anchor"):
        fluctuations.reward_spread(config(sigma=0.1, population=8, anchor_l1=0.1), TWO_SCALE, [3])


def recursion_until(c, ground, steps):
    for state in recursion.states(c, ground):
        yield state
        if state.step == steps:
            return


@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.9}, {"anchor_l2": 0.01}, {"shaping": "raw", "alpha": 0.001}, {"antithetic": True}]
)
def test_strides_of_a_long_run_are_its_single_steps(changes, monkeypatch):
    c = config(**{"sigma": 0.01, "alpha": 0.01, "population": 30} | changes)
    ground = recursion.with_flat_row(TWO_SCALE)
    singly = long_runs.state_after(c, ground, 3000)
    monkeypatch.setattr(long_runs, "MOST_SINGLE_STEPS", 200)
    *_, strode = long_runs.sparse_states(c, ground, [3000])
    assert strode.step == 3000
    assert strode.square == pytest.approx(singly.square, rel=5e-4)
    assert strode.member_square == pytest.approx(singly.member_square, rel=5e-4)
    monkeypatch.setattr(long_runs, "TOLERANCE", 1e9)  # strides under coefficients that have long changed
    monkeypatch.setattr(long_runs, "MOST_SINGLE_STEPS", 2)
    early = long_runs.state_after(c, ground, 60).square
    *_, exact = (state for state in recursion_until(c, ground, 60))
    assert early != pytest.approx(exact.square, rel=5e-4)


def test_a_run_of_very_many_steps_has_settled_but_for_its_flat_directions():
    c = config(sigma=0.01, alpha=0.01, population=30)
    curve = dynamics.mean_field(c, TWO_SCALE, 10**12)
    assert curve.at(10**12) == pytest.approx(-stationary.stationary_state(c, TWO_SCALE).gap, rel=1e-3)
    ground = recursion.with_flat_row(TWO_SCALE)
    assert long_runs.state_after(c, ground, 10**12).variance[-1] == pytest.approx(1e-4 / 30 * 10**12, rel=1e-9)
