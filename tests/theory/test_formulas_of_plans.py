"""Targets, budgets and plans against recursions and searches written out."""

import math
from dataclasses import replace

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.landscape import Signal, linear_signal
from estheory.laws import ChiLaw, SquaredLaw
from estheory.quantities import Quantity
from estheory.theory.curved.dynamics import mean_field
from estheory.theory.curved.long_runs import state_after
from estheory.theory.drift import kl_law, off_task_loss_quantile, off_task_reward_law
from estheory.theory.planning.budgets import DriftBudget
from estheory.theory.planning.choices import Choices
from estheory.theory.planning.search import Planner
from estheory.theory.planning.spectrum_target import SpectrumTarget
from estheory.theory.planning.targets import LocalTarget, arm
from estheory.theory.run_norm import RunNorm, steered_norm
from estheory.theory.walk import walk
from tests.theory.test_formulas import c_of_n, config, rows

KNOWN = linear_signal(sigma=0.5, gradient_norm=2.0, reward_std=0.8)
RHO = 1.0 / math.hypot(1.0, 0.8)
ONE = arm(config(), KNOWN)


def goal(name="target-gain", value=1.0, trace=6.0, along=1.5):
    return LocalTarget(name=name, value=value, gradient_norm=2.0, trace=trace, gradient_curvature=along)


def test_an_arm_is_a_step_of_size_one():
    assert ONE.progress == pytest.approx(RHO * c_of_n(8), rel=1e-13)
    assert ONE.variance == pytest.approx(1 / 8, rel=1e-14)
    # the projection is rho chi_(N-1) + sqrt(1 - rho^2) Z in units of a flat coordinate's standard deviation
    assert ONE.spread == pytest.approx(1 - RHO**2 + RHO**2 * (7 - 8 * c_of_n(8) ** 2), rel=1e-12)
    assert (ONE.config.step_size, ONE.population) == (1.0, 8)
    # raw rewards of exactly this spread: the step's own length scatters along with its projection
    assert arm(config("raw"), KNOWN).spread > 1.0
    raw = arm(config("raw"), KNOWN)
    found = raw.walk(0.3, 5)
    whole = walk(config("raw"), KNOWN, 5)
    assert found.variance == pytest.approx(whole.variance, rel=1e-14)
    assert found.mixing_df == pytest.approx(whole.mixing_df, rel=1e-14)


@pytest.mark.parametrize("shrink", [0.0, 0.3, 1.0, 1.4, 1.99])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_what_a_run_attains_step_by_step(shrink, steps):
    """The distance along the gradient falls by the factor 1 - a u a step; the other directions walk."""
    g, along = 2.0, 1.5 if shrink else 0.0
    alpha = shrink * g / (ONE.progress * along) if shrink else 0.2
    progress = gain = 0.0
    if along:
        left = g / along
        for _ in range(steps):
            left -= alpha * ONE.progress * along / g * left
        progress = g / along - left
        gain = 0.5 * along * ((g / along) ** 2 - left**2)
    else:
        progress = alpha * ONE.progress * steps
        gain = g * progress
    cost = 0.5 * alpha**2 * steps / 8 * (6.0 - along * (1 - ONE.spread))
    found = goal(along=along).attained(ONE, alpha, steps)
    assert found.progress == pytest.approx(progress, rel=1e-12)
    assert found.value == pytest.approx(gain - cost, rel=1e-12)
    wanted = LocalTarget(name="target-progress", value=1.0, gradient_norm=2.0)
    assert wanted.attained(ONE, 0.2, steps).value == pytest.approx(0.2 * ONE.progress * steps, rel=1e-14)


def test_a_step_that_overshoots_twice_attains_nothing():
    alpha = 2 * 2.0 / (ONE.progress * 1.5)
    assert goal().attained(ONE, alpha * (1 + 1e-12), 3) is None
    assert goal()._value(ONE, 1.1 * alpha, 3) == -math.inf
    assert goal(value=2.0).scaled(0.5) == goal(value=1.0)


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("along", [0.0, 0.1, 1.5])
def test_the_smallest_alpha_is_the_first_of_a_fine_grid(steps, along):
    target = goal(value=0.4, along=along)
    found = target.smallest_alpha(ONE, steps, 0.9)
    grid = [a for a in np.linspace(0, 0.9, 4001)[1:] if target._value(ONE, a, steps) >= 0.4]
    if not grid:
        assert found is None
    else:
        assert grid[0] - 0.9 / 4000 < found <= grid[0]
        assert target._value(ONE, found, steps) == pytest.approx(0.4, rel=1e-9)


def test_the_smallest_alpha_in_closed_form():
    straight = LocalTarget(name="target-progress", value=0.6)
    needed = 0.6 / (ONE.progress * 4)
    assert straight.smallest_alpha(ONE, 4, 9.0) == pytest.approx(needed, rel=1e-14)
    assert straight.smallest_alpha(ONE, 4, needed) == pytest.approx(needed, rel=1e-14)
    assert straight.smallest_alpha(ONE, 4, needed * (1 - 1e-9)) is None
    linear = goal(value=0.6, trace=0.0, along=0.0)
    assert linear.smallest_alpha(ONE, 4, 9.0) == pytest.approx(needed / 2.0, rel=1e-14)
    blind = arm(config(), Signal(reliability=0.0))
    assert straight.smallest_alpha(blind, 4, 9.0) is None
    # the value is concave only up to a u = 1: more than the whole way is not asked for
    assert goal(value=0.4).smallest_alpha(ONE, 400, 1e6) < 2.0 / (ONE.progress * 1.5)


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("value", [0.05, 0.2, 0.6, 2.0])
@pytest.mark.parametrize("limit", [1, 7, 200])
def test_the_smallest_number_of_steps_is_the_first(alpha, value, limit):
    target = goal(value=value)
    reached = [t for t in range(1, limit + 1) if target._value(ONE, alpha, t) >= value]
    assert target.smallest_steps(ONE, alpha, limit) == (reached[0] if reached else None)


def test_what_a_local_target_refuses():
    with pytest.raises(ConfigError, match="no part in"):
        goal("target-progress")
    with pytest.raises(ConfigError, match="exceeds curvature-trace"):
        goal(trace=1.0, along=1.5)
    assert goal(trace=1.5).alphas(1.0) is None


# --- budgets ---


@pytest.mark.parametrize("kind", ["zscore", "raw"])
def test_the_norm_of_a_walk_that_also_moved(kind):
    """||D||^2 = v (chi^2_(d-1) + (P/sqrt v + sqrt w Z)^2), v fluctuating by its own degrees of freedom."""
    one = walk(config(kind), KNOWN, 5)
    one = replace(one, effective_dim=25.0)
    law = SquaredLaw(steered_norm(one, 0.7, 0.4))
    v, m = one.variance, one.mixing_df
    flat = 2 * 39 * 40 / 25  # of a chi-square of 39 coordinates of which fewer are independent
    assert law.mean == pytest.approx(v * (39 + 0.4) + 0.49, rel=1e-13)
    square = (1 + 2 / m) * (flat + 39**2) - 39**2
    tilt = one.tilt / one.independent_steps  # raw steps are the longer, the farther they go along the gradient
    assert (tilt > 0) == (kind == "raw")
    expected = v**2 * square + 4 * 0.49 * v * (0.4 + 39 * tilt) + 2 * (v * 0.4) ** 2
    assert law.std**2 == pytest.approx(expected, rel=1e-12)


BUDGET = DriftBudget(
    max_norm=2.0,
    max_kl=0.5,
    max_off_task_loss=0.3,
    fisher_trace=9.0,
    fisher_square_trace=12.0,
    off_task_trace=3.0,
    off_task_gradient_norm=0.4,
    confidence=0.9,
)


def test_a_budget_is_used_up_to_the_quantile_of_each_law():
    one = walk(config(), Signal(), 5)
    used = BUDGET.used(one, 0.7, 0.4)
    assert used["max-norm"] == steered_norm(one, 0.7, 0.4).quantile(0.9)
    assert used["max-kl"] == kl_law(one, fisher_trace=9.0, fisher_square_trace=12.0).quantile(0.9)
    loss = off_task_loss_quantile(one, trace=3.0, square_trace=None, gradient_norm=0.4, level=0.9)
    assert used["max-off-task-loss"] == loss
    assert loss > -off_task_reward_law(one, trace=3.0, gradient_norm=0.4).quantile(1 - 0.9)
    limits = dict(zip(BUDGET.limits, used.values(), strict=True))
    names = {name: name.replace("-", "_") for name in limits}
    met = replace(BUDGET, **{names[name]: value for name, value in limits.items()})
    assert met.exceeded(one, 0.7, 0.4) == ()
    for name, value in limits.items():
        assert replace(met, **{names[name]: value * (1 - 1e-6)}).exceeded(one, 0.7, 0.4) == (name,)
    mean = replace(BUDGET, fisher_square_trace=None).used(one, 0.7, 0.4)
    assert mean["max-kl"] == pytest.approx(0.5 * one.variance * 9.0, rel=1e-14)
    alone = DriftBudget(max_off_task_loss=0.3, off_task_trace=3.0).used(one, 0.7, 0.4)
    # one direction that carries the whole trace: a chi-square of one degree of freedom
    worst = 0.5 * one.variance * 3.0 * ChiLaw(1.0, 1.0).quantile(0.95) ** 2
    assert alone == {"max-off-task-loss": pytest.approx(worst, rel=1e-9)}


def test_a_scaled_budget_is_as_far_and_as_much_squared():
    wider = BUDGET.scaled(3.0)
    assert (wider.max_norm, wider.max_kl, wider.max_off_task_loss) == pytest.approx((6, 4.5, 2.7), rel=1e-14)
    assert DriftBudget(max_norm=2.0).scaled(3.0).limits == {"max-norm": 6.0}
    assert DriftBudget(max_norm=1.0, confidence=0.5).confidence == 0.5
    with pytest.raises(ConfigError, match="needs the Fisher trace"):
        DriftBudget(max_norm=1.0, fisher_square_trace=2.0)


def test_the_predictions_of_a_budget():
    one = walk(config(), Signal(), 5)
    norm, strong = RunNorm.of_walk(one), steered_norm(one, 0.7, 0.4)
    found = {p.quantity: p for p in BUDGET.predictions(one, norm, 5)}
    assert set(found) == {Quantity.DISPLACEMENT_NORM, Quantity.KL_DRIFT, Quantity.OFF_TASK_REWARD_CHANGE}
    assert found[Quantity.DISPLACEMENT_NORM].law == one.norm_law
    assert {p.step for p in found.values()} == {5}
    assert len(list(DriftBudget(max_norm=2.0).predictions(one, norm, 5))) == 1
    moved = replace(norm, law=strong, matched=strong)
    assert [p.quantity for p in BUDGET.predictions(one, moved, 5)] == [Quantity.DISPLACEMENT_NORM]
    assert list(DriftBudget(max_norm=2.0).predictions(one, replace(norm, missing="no law"), 5)) == []
    only = DriftBudget(max_norm=2.0, off_task_gradient_norm=0.4).predictions(one, norm, 5)
    assert [p.quantity for p in only] == [Quantity.DISPLACEMENT_NORM, Quantity.OFF_TASK_REWARD_CHANGE]


# --- targets on a whole spectrum ---

WHERE = rows((2.0, 3, 0.4), (0.05, 30, 0.0), reward_std=0.2)
PULLED = arm(config(), WHERE.signal(0.5))


def spectrum(value):
    return SpectrumTarget(value=value, landscape=WHERE)


def test_what_a_run_attains_on_a_spectrum():
    found = spectrum(0.1).attained(PULLED, 0.1, 6)
    state = state_after(config(alpha=0.1), WHERE, 6)
    gain = mean_field(config(alpha=0.1), WHERE, 6).reward
    assert found.value == pytest.approx(gain[-1] - gain[0], rel=1e-12)
    moved = float(WHERE.multiplicity @ (WHERE.offset - state.mean) ** 2)
    assert found.progress == pytest.approx(math.sqrt(moved), rel=1e-12)
    assert spectrum(0.1).alphas(0.8) == (0.8, 0.4, 0.2, 0.1, 0.05, 0.025)
    assert spectrum(0.1).scaled(3.0).value == pytest.approx(0.3)


def test_a_loss_is_told_up_to_a_million_times_what_there_is_to_gain():
    where = rows((2.0, 3, 40.0), (0.5, 10, 20.0))
    curve = mean_field(config(alpha=600.0), where, 6).reward
    loss = curve[-1] - curve[0]
    assert -where.gap > loss > -1e6 * where.gap
    assert loss < -1e6 / where.gap  # the limit is a multiple of the gap
    found = SpectrumTarget(value=0.1, landscape=where).attained(arm(config(), where.signal(0.5)), 600.0, 6)
    assert found.value == pytest.approx(loss, rel=1e-12)


def test_the_first_step_that_gains_enough():
    curve = mean_field(config(alpha=0.1, steps=400), WHERE).reward
    gain = curve - curve[0]
    best = int(np.argmax(gain))
    for step in (1, 3, best):
        value = gain[step] * (1 - 1e-9)
        first = int(np.argmax(gain >= value))
        assert spectrum(value).smallest_steps(PULLED, 0.1, 400) == first
        assert spectrum(value).smallest_steps(PULLED, 0.1, first) == first
        if first > 1:
            assert spectrum(value).smallest_steps(PULLED, 0.1, first - 1) is None
    beyond = spectrum(gain[best] * 1.001)
    assert beyond.smallest_steps(PULLED, 0.1, 400) is None
    assert beyond.smallest_steps(PULLED, 0.1, 500) is None
    known = spectrum(gain[3] * (1 - 1e-9))
    assert known.smallest_steps(PULLED, 0.1, 2) is None
    assert known.smallest_steps(PULLED, 0.1, 50) == 3  # sought again, within more steps
    assert known.smallest_steps(PULLED, 0.1, 2) is None


def test_the_smallest_step_size_that_serves_on_a_spectrum():
    target = spectrum(0.2)
    serving = [a for a in target.alphas(0.5) if target.attained(PULLED, a, 6).value >= 0.2]
    assert 0 < len(serving) < 6
    assert target.smallest_alpha(PULLED, 6, 0.5) == min(serving)
    assert spectrum(0.47).smallest_alpha(PULLED, 6, 0.5) is None


def test_a_diverging_run_attains_nothing():
    wild = arm(config("raw"), WHERE.signal(0.5))
    assert spectrum(0.1).attained(wild, 50.0, 300) is None
    assert spectrum(0.1).smallest_steps(wild, 50.0, 300) is None
    far = spectrum(0.1).alphas(50.0)
    assert spectrum(0.1).smallest_alpha(wild, 40, 50.0) in (*far, None)


# --- planning ---


def planner(budget, target, arms=(ONE,), **choices):
    picked = Choices(**({"sigmas": (0.5,), "max_evaluations": 4000} | choices))
    return Planner(arms=arms, choices=picked, budget=budget, target=target)


STRAIGHT = LocalTarget(name="target-progress", value=0.6)
ROOMY = DriftBudget(max_norm=1.2)


def fewest(limit, budget=ROOMY, target=STRAIGHT):
    """Steps and alpha of the first that serves, tried one by one."""
    for steps in range(1, limit + 1):
        alpha = target.smallest_alpha(ONE, steps, 0.5)
        if alpha is None:
            continue
        found = target.attained(ONE, alpha, steps)
        if not budget.exceeded(ONE.walk(alpha, steps), found.progress, ONE.spread):
            return alpha, steps
    return None


def test_a_plan_is_the_first_number_of_steps_that_serves():
    made = planner(ROOMY, STRAIGHT, populations=(8,))
    alpha, steps = fewest(500)
    best = made.plan(scales=()).recommendation
    assert (best.alpha, best.steps) == (pytest.approx(alpha), steps)
    assert best.evaluations == 8 * steps
    assert best.config == replace(ONE.config, alpha=best.alpha, steps=steps)
    assert best.progress_std == pytest.approx(best.alpha * math.sqrt(steps / 8 * ONE.spread), rel=1e-13)
    assert best.used == ROOMY.used(ONE.walk(alpha, steps), best.attained.progress, ONE.spread)
    assert made.cheapest_of(ONE, steps - 1) is None
    assert made.cheapest_of(ONE, steps) == (pytest.approx(alpha), steps)
    assert made.search(8 * steps - 1) is None
    assert made.plan(scales=()).binding[0] == "max-norm"
    single = planner(DriftBudget(max_norm=9.0), LocalTarget(name="target-progress", value=0.1), populations=(8,))
    assert single.plan(scales=()).recommendation.steps == 1
    assert single.plan(scales=()).binding == ("steps",)


def test_obstacles_are_named():
    made = planner(ROOMY, STRAIGHT, populations=(8,))
    assert made.obstacles(ONE, None, 1) == ("alpha<=sigma",)
    assert made.obstacles(ONE, 0.01, 3) == ("target-progress",)
    assert made.obstacles(ONE, 0.4, 3)[0] == "max-norm"
    assert made.obstacles(ONE, *fewest(500)) == ()
    curved = planner(ROOMY, goal(value=50.0), populations=(8,))
    assert curved.obstacles(ONE, None, 3) == ("target-gain",)
    assert curved.candidate(ONE, 1e3, 3) is None


def test_given_step_sizes_and_step_counts_are_tried_in_turn():
    sized = planner(ROOMY, STRAIGHT, populations=(8,), alphas=(0.05, 0.02))
    serving = {}
    for alpha in (0.05, 0.02):
        steps = STRAIGHT.smallest_steps(ONE, alpha, 500)
        used = ROOMY.exceeded(ONE.walk(alpha, steps), STRAIGHT.attained(ONE, alpha, steps).progress, ONE.spread)
        if not used:
            serving[steps] = alpha
    best = sized.plan(scales=()).recommendation
    assert (best.steps, best.alpha) == min(serving.items())
    _, steps = fewest(500)
    counted = planner(ROOMY, STRAIGHT, populations=(8,), steps=(steps + 9, steps + 2, steps - 1))
    plan = counted.plan(scales=())
    assert plan.recommendation.steps == steps + 2
    assert plan.binding[0] == "steps"
    assert planner(ROOMY, STRAIGHT, populations=(8,), steps=(steps - 1,)).plan(scales=()).recommendation is None


def test_a_front_has_fewer_evaluations_for_more_drift():
    made = planner(ROOMY, STRAIGHT, populations=(8,), max_evaluations=10**6)
    front = made.plan(scales=(2.0, 1.0, 0.9, 0.1)).front  # nothing attains the target within a tenth of the budget
    for scale, found in front:
        alpha, steps = fewest(10**5, ROOMY.scaled(scale))
        assert (found.alpha, found.steps) == (pytest.approx(alpha), steps)
    assert [scale for scale, _ in front] == [0.9, 1.0, 2.0]


def test_populations_near_the_best_are_tried_too():
    arms = tuple(arm(config(population=n), KNOWN) for n in (8, 64))
    made = planner(ROOMY, STRAIGHT, arms=arms)
    best = made.plan(scales=()).recommendation
    every = [made.cheapest_of(arm(config(population=n), KNOWN), 4000 // n) for n in range(4, 80, 2)]
    costs = {n: n * found[1] for n, found in zip(range(4, 80, 2), every, strict=True) if found}
    assert best.evaluations <= min(costs[8], costs[64])
    near = {n for n in costs if 0.8 * 8 <= n <= 1.2 * 8 or 0.84 * 64 <= n <= 1.19 * 64}
    assert best.evaluations == min(costs[n] for n in near) or best.arm.population not in near


def test_what_is_out_of_reach_says_what_it_would_take():
    made = planner(DriftBudget(max_norm=0.61), STRAIGHT, populations=(8,), max_evaluations=4000)
    plan = made.plan()
    assert plan.recommendation is None
    tight = DriftBudget(max_norm=0.61)
    assert fewest(500, tight, STRAIGHT.scaled(plan.share * (1 - 1e-4)))
    assert fewest(500, tight, STRAIGHT.scaled(plan.share * (1 + 1e-4))) is None
    assert plan.best.evaluations <= 4000
    assert plan.needed.evaluations > 4000
    assert plan.binding[-1] == "max-evaluations"
    blind = arm(config(), replace(KNOWN, reliability=0.0))
    nothing = planner(ROOMY, STRAIGHT, arms=(blind,), populations=(8,)).plan()
    assert (nothing.recommendation, nothing.best, nothing.share) == (None, None, 0.0)
    assert nothing.binding == ("target-progress",)
    assert nothing.needed is None


def test_a_step_size_whose_gain_ends_below_the_target():
    made = planner(DriftBudget(max_norm=50.0), goal(value=2.0), populations=(8,), alphas=(0.3,))
    highest = max(goal()._value(ONE, 0.3, t) for t in range(1, 500))
    assert 0 < highest < 2
    plan = made.plan()
    assert plan.share == pytest.approx(highest / 2, rel=1e-6)
    assert plan.binding[0] == "target-gain"
    assert plan.best.alpha == 0.3


def test_a_step_size_that_needs_more_evaluations():
    made = planner(DriftBudget(max_norm=50.0), STRAIGHT, populations=(8,), alphas=(0.01,), max_evaluations=80)
    plan = made.plan()
    assert plan.binding == ("max-evaluations",)
    assert plan.best.steps == 10
    assert plan.share == pytest.approx(0.01 * ONE.progress * 10 / 0.6, rel=1e-9)
    assert plan.needed.steps == STRAIGHT.smallest_steps(ONE, 0.01, 10**6)


def test_a_spectrum_that_ends_below_its_target_is_said():
    made = planner(DriftBudget(max_norm=50.0), spectrum(0.6), arms=(PULLED,), populations=(8,))
    plan = made.plan()
    assert plan.recommendation is None
    assert plan.binding == ("target-gain",)
    assert 0 < plan.share < 1
    assert plan.needed is None
    served = planner(DriftBudget(max_norm=50.0), spectrum(0.2), arms=(PULLED,), populations=(8,))
    best = served.plan(scales=()).recommendation
    counts = [spectrum(0.2).smallest_steps(PULLED, a, 500) for a in spectrum(0.2).alphas(0.5)]
    assert best.steps == min(c for c in counts if c)


def test_warnings_of_a_plan():
    made = planner(DriftBudget(max_kl=0.5, fisher_trace=9.0), STRAIGHT, populations=(8,))
    best = made.candidate(ONE, 0.6, 4)
    words = " ".join(made.warnings(best, True))
    for part in (
        "largest of the default list",
        "alpha is above sigma",
        "only 4 large steps",
        "spread of KL is unknown",
    ):
        assert part in words
    calm = planner(ROOMY, STRAIGHT, populations=(8,))
    assert calm.warnings(calm.candidate(ONE, 0.5, 5), False) == ()
    curved = planner(ROOMY, spectrum(0.2), arms=(PULLED,), populations=(8,))
    assert any("x_k" in word for word in curved.warnings(curved.candidate(PULLED, 0.1, 5), False))
