"""Plans: the identity behind them, an exhaustive search, and brute force with the recommended hyper-parameters."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as h
from scipy.stats import binom, chi2, norm

from estheory.errors import ConfigError
from estheory.landscape import linear_signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.curved.dynamics import mean_field
from estheory.theory.curved.predictions import OffTask
from estheory.theory.estimators.zscores import mean_population_std
from estheory.theory.planning.budgets import DriftBudget
from estheory.theory.planning.choices import Choices, default_sigmas, linear_arms
from estheory.theory.planning.search import Planner
from estheory.theory.planning.spectrum_target import SpectrumTarget
from estheory.theory.planning.targets import LocalTarget, arm
from estheory.theory.predictions import predict
from tests.statistics import agrees, brute_force_steps
from tests.theory.quadratic_es import config, landscape, run, within
from tests.variants import variants

LANGUAGE_MODEL = ESConfig(dim=4_022_468_096, sigma=1e-3, population=30)


def planner(dim, budget, target, *, gradient_norm=2.0, reward_std=1.0, changes=None, **choices):
    base = replace(LANGUAGE_MODEL, dim=dim, **(changes or {}))
    picked = Choices(**choices)
    return Planner(
        arms=linear_arms(base, picked, gradient_norm, reward_std), choices=picked, budget=budget, target=target
    )


def progress(value):
    return LocalTarget(name="target-progress", value=value)


@settings(max_examples=60, deadline=None)
@given(
    dim=h.integers(10**4, 10**12),
    sigma=h.floats(1e-4, 1e-2),
    noise=h.just(0.0) | h.floats(1e-9, 10),
    target=h.floats(1e-3, 10),
    spread=h.floats(0.5, 1e3),
)
def test_evaluations_are_squared_progress_over_drift_and_reliability(dim, sigma, noise, target, spread):
    """N T = P^2 / (v c^2 rho^2), and the plan is within its rounding of (d / c^2 rho^2) / (B^2 / P^2 - 1), c = 1."""
    budget = math.hypot(target, spread * target)
    plan = planner(
        dim,
        DriftBudget(max_norm=budget, confidence=0.5),
        progress(target),
        gradient_norm=1.0,
        reward_std=noise * sigma,
        sigmas=(sigma,),
        max_evaluations=10**15,
    ).plan(scales=())
    best = plan.recommendation
    if best is None:  # alpha <= sigma: even the largest population needs more steps than that
        return
    c, rho_square = mean_population_std(best.arm.population), 1 / (1 + noise**2)
    variance = best.alpha**2 * best.steps / best.arm.population
    assert best.evaluations == pytest.approx(target**2 / (variance * c**2 * rho_square), rel=1e-9)
    assert best.alpha <= sigma * (1 + 1e-9)
    least = dim / rho_square / spread**2
    if least > 1000:  # the median of chi^2_d is above d - 1
        assert best.evaluations > least * (1 - 2 / dim - 1e-6)
    assert best.used["max-norm"] <= budget * (1 + 1e-8)


def test_no_exhaustive_search_finds_a_cheaper_run():
    populations, sigmas, target, limit = (10, 16, 30, 64), (0.001, 0.0015), 0.05, 60.0
    dim = 10**9
    found = planner(dim, DriftBudget(max_norm=limit), progress(target), sigmas=sigmas, populations=populations,
                    reward_std=0.004).plan().recommendation  # fmt: skip
    cheapest = math.inf
    for sigma in sigmas:
        rho = 2.0 * sigma / math.hypot(2.0 * sigma, 0.004)
        for n in populations:
            for steps in range(1, 1000):
                alpha = target / (mean_population_std(n) * rho * steps)
                square = alpha**2 * steps / n * chi2.ppf(0.95, dim) + target**2
                if alpha <= sigma and square <= limit**2:
                    cheapest = min(cheapest, n * steps)
                    break
    assert found.evaluations == cheapest


def test_evaluations_fall_with_the_square_of_the_budget_and_rise_with_that_of_progress():
    def cost(limit, target):  # in evaluations at c(N) = 1
        plan = planner(10**9, DriftBudget(max_norm=limit), progress(target), sigmas=(0.0015,), reward_std=0.004)
        best = plan.plan(scales=()).recommendation
        return best.evaluations * mean_population_std(best.arm.population) ** 2, 1 / best.steps

    base, rounding = cost(60, 0.05)
    for other, more in (cost(30, 0.05), cost(60, 0.1)):
        assert abs(other / (4 * base) - 1) < 2 * max(rounding, more)  # T is whole: one step more or less
        assert abs(other / (2 * base) - 1) > 0.5


def test_front_trades_evaluations_for_drift_and_holds_the_recommendation():
    plan = planner(10**9, DriftBudget(max_norm=40.0), progress(0.05), reward_std=0.004).plan()
    evaluations = [c.evaluations for _, c in plan.front]
    drift = [c.used["max-norm"] for _, c in plan.front]
    assert len(plan.front) == 8
    assert evaluations == sorted(set(evaluations), reverse=True)
    assert drift == sorted(set(drift))
    assert dict(plan.front)[1.0] is plan.recommendation
    assert plan.binding == ("max-norm",)


def exceedances(count, replicas, share):
    """Whether at most a ``share`` of runs can be over the budget: false-failure rate 1e-6."""
    return count <= binom.isf(1e-6, replicas, share)


def brute_runs(seed, best, replicas, *, steps, alpha, slope=2.0, noise=1.0):
    """Displacements of whole runs, (replicas, dim)."""
    c = best.config
    updates = brute_force_steps(
        np.random.default_rng(seed),
        replicas=replicas,
        dim=c.dim,
        population=c.population,
        sigma=c.sigma,
        alpha=alpha,
        steps=steps,
        shaping=c.shaping,
        antithetic=c.antithetic,
        slope=slope,
        noise=noise,
    )
    return updates.sum(axis=0)


BUDGETS = {
    "norm": (DriftBudget(max_norm=1.0), {}, lambda x: np.linalg.norm(x, axis=1)),
    "norm, antithetic": (DriftBudget(max_norm=1.0), {"antithetic": True}, lambda x: np.linalg.norm(x, axis=1)),
    "norm, ranks": (DriftBudget(max_norm=1.0), {"shaping": "centered-rank"}, lambda x: np.linalg.norm(x, axis=1)),
    "KL": (  # F = 3 on 20 coordinates across the gradient
        DriftBudget(max_kl=0.15, fisher_trace=60.0, fisher_square_trace=180.0),
        {},
        lambda x: 1.5 * np.sum(x[:, 1:21] ** 2, axis=1),
    ),
    "off-task loss, at 90 %": (
        DriftBudget(max_off_task_loss=0.2, off_task_gradient_norm=1.7, confidence=0.9),
        {},
        lambda x: 1.7 * x[:, 1],
    ),
}


@pytest.mark.parametrize("name", variants(BUDGETS, fast={"norm, antithetic", "KL", "off-task loss, at 90 %"}))
def test_brute_force_meets_the_plan_and_a_fifth_fewer_evaluations_do_not(name):
    """The target in the mean, the budget with its confidence; fewer steps miss one or the other."""
    budget, changes, drift = BUDGETS[name]
    [limit] = budget.limits.values()
    # a normal loss has the shorter tail: more runs, of fewer coordinates, to tell 10 % from 12.6 %
    dim, replicas = (4, 30_000) if budget.max_off_task_loss else (60, 2500)
    target, share = 0.6, 1 - budget.confidence
    best = planner(dim, budget, progress(target), sigmas=(0.5,), populations=(12,), changes=changes).plan(scales=())
    best = best.recommendation
    moved = brute_runs(21, best, replicas, steps=best.steps, alpha=best.alpha)
    assert agrees(moved[:, 0], target)
    if name == "norm":
        assert abs(moved[:, 0].std() / best.progress_std - 1) < 4.89 / math.sqrt(2 * replicas)
    over = int(np.sum(drift(moved) > limit))
    assert exceedances(over, replicas, share)
    fewer = round(0.8 * best.steps)
    assert not agrees(0.8 * moved[:, 0], target)
    hurried = brute_runs(22, best, replicas, steps=fewer, alpha=best.alpha * best.steps / fewer)
    assert agrees(hurried[:, 0], target)
    assert not exceedances(int(np.sum(drift(hurried) > limit)), replicas, share)


def test_a_budget_met_in_the_mean_alone_is_broken_by_many_seeds():
    budget = DriftBudget(max_norm=1.0, confidence=0.5)
    best = planner(60, budget, progress(0.6), sigmas=(0.5,), populations=(12,)).plan(scales=()).recommendation
    moved = np.linalg.norm(brute_runs(23, best, 2500, steps=best.steps, alpha=best.alpha), axis=1)
    assert not exceedances(int(np.sum(moved > 1.0)), 2500, 0.05)
    law = best.predictions[0].law
    assert agrees(moved**2, law.mean**2 + law.std**2)
    assert not agrees(moved**2, (law.mean**2 + law.std**2) * 11 / 12)


def test_confidence_enters_as_the_quantile_of_the_law():
    for confidence in (0.9, 0.99):
        budget = DriftBudget(max_off_task_loss=0.2, off_task_gradient_norm=1.7, confidence=confidence)
        best = planner(10**6, budget, progress(0.6), sigmas=(0.5,)).plan(scales=()).recommendation
        variance = best.alpha**2 * best.steps / best.arm.population
        assert best.used["max-off-task-loss"] == pytest.approx(1.7 * math.sqrt(variance) * norm.ppf(confidence))


def test_gain_of_one_step_is_the_sheet_s():
    n, g, trace, u, alpha = 30, 2.0, 40.0, 3.0, 0.02
    one = arm(ESConfig(dim=1000, sigma=0.1, population=n), linear_signal(sigma=0.1, gradient_norm=g, reward_std=0.5))
    target = LocalTarget(name="target-gain", value=1.0, gradient_norm=g, trace=trace, gradient_curvature=u)
    big_s = math.hypot(0.1 * g, 0.5)
    noise = alpha**2 / (2 * n) * (trace + (n - 2) * 0.01 * g * g * u / big_s**2)
    expected = alpha * mean_population_std(n) * 0.1 * g * g / big_s - noise
    assert target.attained(one, alpha, 1).value == pytest.approx(expected, rel=1e-12)


def gain_plan():
    where = landscape((0.5, 1, 2.0), (0.25, 40, 0.0), reward_std=1.0)  # g = 1, u = 0.5, tr Lam = 10.5
    target = LocalTarget(name="target-gain", value=0.2, gradient_norm=1.0, trace=10.5, gradient_curvature=0.5)
    made = planner(10**6, DriftBudget(max_norm=900.0), target, gradient_norm=1.0, sigmas=(0.1,), populations=(40,))
    return where, made.plan(scales=()).recommendation


@pytest.mark.slow
def test_gain_agrees_with_the_mean_field_and_with_brute_force():
    where, best = gain_plan()
    c = best.config
    curve = mean_field(c, where, best.steps)
    shrink = c.step_size * best.arm.progress / 1.0 * 0.5 * best.steps  # a lam T of the sharpest direction
    cost = 0.5 * c.step_size**2 * best.steps / 40 * 10.5
    gain = curve.reward[-1] - curve.reward[0]
    # the plan lets every direction diffuse freely, which overstates the cost by at most a lam T
    band = 2 * shrink * cost + best.arm.signal.reliability * 0.2
    assert -band < best.attained.value - gain < band
    rewards = run(31, c, where, 1500, (best.steps,))[best.steps] + where.gap
    assert within(rewards, gain, 2 / 40)
    assert within(rewards, 0.2, 2 / 40 + band / 0.2)
    free = LocalTarget(name="target-gain", value=0.2, gradient_norm=1.0)  # as if curvature cost nothing
    alpha = free.smallest_alpha(best.arm, best.steps, 1.0)
    short = run(32, replace(c, alpha=alpha), where, 1500, (best.steps,))[best.steps] + where.gap
    assert not within(short, 0.2, 2 / 40 + band / 0.2)


def test_spectrum_target_is_met_by_brute_force():
    where = landscape((10.0, 5, 0.3), (0.05, 400, 0.0), reward_std=0.02, dim=1005)
    choices = Choices(sigmas=(0.01,), populations=(30, 60), max_evaluations=20_000)
    base = config(dim=1005, sigma=0.01, population=30)
    arms = tuple(arm(replace(base, population=n), where.signal(0.01)) for n in (30, 60))
    made = Planner(
        arms=arms, choices=choices, budget=DriftBudget(max_norm=2.0), target=SpectrumTarget(value=2.2, landscape=where)
    )
    best = made.plan(scales=()).recommendation
    c = best.config
    curve = mean_field(c, where, best.steps)
    assert curve.reward[-1] + where.gap >= 2.2 > curve.reward[-2] + where.gap
    fewer = round(0.8 * best.steps)
    rewards = run(33, c, where, 60, (fewer, best.steps))
    # the gap left is what the mean-field predicts: declared O(1/N), and O(1/r) over five directions
    assert within(rewards[best.steps], curve.reward[-1], 0.25)
    assert within(rewards[best.steps] + where.gap, 2.2, 0.25 * 0.053 / 2.2)
    assert not within(rewards[fewer] + where.gap, 2.2, 0.25 * 0.053 / 2.2)
    out_of_reach = replace(made, target=made.target.scaled(1.1)).plan()  # above the gap of 2.25
    assert out_of_reach.recommendation is None
    assert 0.9 < out_of_reach.share < 0.94


def test_fixed_alpha_and_steps_are_kept():
    made = planner(
        *(10**9, DriftBudget(max_norm=60.0), progress(0.05)), reward_std=0.004, alphas=(7.5e-4,), sigmas=(0.0015,)
    )
    best = made.plan().recommendation
    assert best.alpha == 7.5e-4
    assert best.attained.progress >= 0.05
    assert set(made.plan().binding) >= {"target-progress"}
    steps = planner(
        *(10**9, DriftBudget(max_norm=60.0), progress(0.05)), reward_std=0.004, steps=(300,), sigmas=(0.0015,)
    )
    assert steps.plan().recommendation.steps == 300
    assert steps.plan().recommendation.attained.progress == pytest.approx(0.05)


def test_what_cannot_be_met_says_how_far_it_goes_and_what_it_would_take():
    made = planner(10**9, DriftBudget(max_norm=10.0), progress(1.0), reward_std=0.004, sigmas=(0.0015,))
    plan = made.plan()
    assert plan.recommendation is None
    assert set(plan.binding) >= {"max-norm", "max-evaluations"}
    assert plan.best.evaluations <= 10**7 < plan.needed.evaluations
    # at a given budget progress goes with the root of the evaluations (the walk is nearly all of the norm)
    assert plan.needed.evaluations == pytest.approx(plan.best.evaluations / plan.share**2, rel=0.03)
    beyond = replace(made, target=made.target.scaled(1.01 * plan.share))
    assert beyond.search(10**7) is None
    too_far = planner(10**9, DriftBudget(max_norm=0.9), progress(1.0), reward_std=0.004, sigmas=(0.0015,)).plan()
    assert too_far.needed is None
    assert "max-norm" in too_far.binding


def test_default_sigmas():
    assert default_sigmas(0.02) == pytest.approx((5e-4, 1e-3, 2e-3, 4e-3))
    assert min(default_sigmas(None)) == 5e-4


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"max_norm": 0.0},
        {"max_norm": math.nan},
        {"max_kl": 0.1},
        {"max_kl": 0.1, "fisher_trace": -1.0},
        {"max_kl": 0.1, "fisher_trace": 1.0, "fisher_square_trace": 2.0},
        {"max_off_task_loss": 0.1},
        {"max_off_task_loss": 0.1, "off_task_trace": -1.0},
        {"max_norm": 1.0, "confidence": 1.0},
    ],
)
def test_bad_budgets(bad):
    with pytest.raises(ConfigError):
        DriftBudget(**bad)


def test_kl_and_off_task_loss_are_not_promised_where_the_signal_moves_the_run():
    traces = {"fisher_trace": 10.0, "fisher_square_trace": 1.0, "off_task_trace": 10.0, "off_task_square_trace": 1.0}
    budget = DriftBudget(max_norm=50.0, max_kl=1e6, max_off_task_loss=1e6, **traces)
    for dim, promised in ((20, False), (10**8, True)):
        made = planner(dim, budget, progress(1.0 if promised else 0.5), sigmas=(0.5,))
        best = made.plan().recommendation
        named = {p.quantity for p in best.predictions}
        assert ({Quantity.KL_DRIFT, Quantity.OFF_TASK_REWARD_CHANGE} <= named) is promised
        assert any("not promised" in warning for warning in made.warnings(best, False)) is not promised
        # by the criterion of predict
        known = predict(best.config, reward=best.arm.signal, off_task=OffTask(fisher_trace=10.0))
        assert any(p.quantity is Quantity.KL_DRIFT for p in known.predictions) is promised


def test_a_behaviour_of_the_gradient_s_direction_breaks_a_limit_that_counts_the_walk_alone():
    """F = 60 along the gradient, of the same traces as 60 on any one direction that the run only walks along."""
    budget = DriftBudget(max_kl=0.15, fisher_trace=60.0, fisher_square_trace=3600.0)
    made = planner(60, budget, progress(0.6), sigmas=(0.5,), populations=(12,))
    best = made.plan(scales=()).recommendation
    moved = brute_runs(21, best, 2500, steps=best.steps, alpha=best.alpha)
    assert any("not promised" in warning for warning in made.warnings(best, False))
    across, along = (int(np.sum(30 * moved[:, k] ** 2 > 0.15)) for k in (1, 0))
    assert exceedances(across, 2500, 0.05)
    assert not exceedances(along, 2500, 0.05)


@pytest.mark.parametrize(
    ("dim", "population", "steps", "pairs"), [(100, 6, 1, True), (2, 6, 2, False), (100, 4, 2, True)]
)
def test_plan_and_predict_give_one_law_of_a_run_s_norm(dim, population, steps, pairs):
    made = planner(
        dim,
        DriftBudget(max_norm=5.0),
        progress(0.01),
        sigmas=(0.1,),
        populations=(population,),
        steps=(steps,),
        changes={"antithetic": pairs},
    )
    best = made.plan(scales=()).recommendation
    known = predict(best.config, reward=best.arm.signal)
    mine, theirs = (
        [p.law for p in found if p.quantity is Quantity.DISPLACEMENT_NORM]
        for found in (best.predictions, known.predictions)
    )
    assert mine == theirs
    assert len(mine) == (0 if pairs and steps > 1 else 1)  # two steps of two pairs have no law
    assert any("has no law" in warning for warning in made.warnings(best, False)) is (not mine)


def test_a_limit_in_few_coordinates_is_that_of_the_exact_law():
    """Two pairs in two coordinates: the chi law of the same moments keeps the limit, the exact law is 3 % beyond it."""
    made = planner(
        2, DriftBudget(max_norm=0.5), progress(1e-3), sigmas=(0.5,), populations=(4,), changes={"antithetic": True}
    )
    one = made.arms[0]
    found = made.target.attained(one, 1.0, 1)
    moments = made.budget.used(one.walk(1.0, 1), found.progress, one.spread)["max-norm"]
    alpha = 0.4999 / moments
    assert made.budget.exceeded(one.walk(alpha, 1), alpha * found.progress, one.spread) == ()
    assert made.obstacles(one, alpha, 1) == ("max-norm",)
    exact = made.candidate(one, alpha, 1).used["max-norm"]
    assert exact > 0.5
    assert made.obstacles(one, alpha * 0.4999 / exact, 1) == ()
