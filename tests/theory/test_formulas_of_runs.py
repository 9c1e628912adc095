"""Formulas of whole runs on a quadratic against explicit matrices, numeric derivatives and long recursions."""

import math

import numpy as np
import pytest

from estheory.theory.curved import error as mean_field_error
from estheory.theory.curved import fluctuations, long_runs, ranges, recursion, stationary
from estheory.theory.estimators import CentredRanks, ZScores
from tests.theory.test_formulas import MEMORY, SHAPINGS, config, rows

WHERE = rows((2.0, 3, 0.4), (0.5, 10, 0.2), (0.0, 5, 0.1))
QUIET = rows((2.0, 3, 0.4), (0.5, 10, 0.2), reward_std=400.0)


def moments_after(rule, where, moments, constant):
    """Second moments (delta^2, delta u, u^2, delta_0 delta, delta_0 u) of each row after a step, by its matrix."""
    lam, offset = where.eigenvalue, where.offset
    c = rule.config
    v = constant + c.sigma**2 * float(where.multiplicity @ (lam**2 * moments[0]))
    step, keep, beta = rule.at(v), 1 - c.anchor_l2, c.momentum
    fresh = keep if c.anchor_form == "after" else 1.0
    found = np.empty_like(moments)
    for k in range(lam.size):
        pull = (1 - beta) * step.rate * lam[k]
        matrix = np.array([[keep - fresh * pull, fresh * beta, 1 - keep], [-pull, beta, 0], [0, 0, 1]])
        square, cross, velocity, start, start_velocity = moments[:, k]
        before = np.array(
            [[square, cross, start], [cross, velocity, start_velocity], [start, start_velocity, offset[k] ** 2]]
        )
        noise = step.noise + lam[k] ** 2 * (step.curvature + (step.slope - step.rate**2) * square)
        entry = (1 - beta) * np.array([fresh, 1.0, 0.0])
        after = matrix @ before @ matrix.T + noise * np.outer(entry, entry)
        found[:, k] = after[0, 0], after[0, 1], after[1, 1], after[0, 2], after[1, 2]
    return found


@pytest.mark.parametrize("kind", SHAPINGS)
@pytest.mark.parametrize("changes", [{}, *MEMORY])
def test_pulling_back_is_the_derivative_of_a_step(kind, changes):
    c = config(kind, **changes)
    rule, count = recursion.step_rule(c, WHERE), WHERE.multiplicity
    state = long_runs.state_after(c, WHERE, 3)
    mixed = state.covariance + state.mean * state.velocity
    velocity = state.velocity_variance + state.velocity**2
    now = np.array([state.square, mixed, velocity, WHERE.offset * state.mean, WHERE.offset * state.velocity])
    constant = state.member_square - c.sigma**2 * float(count @ (WHERE.eigenvalue**2 * state.square))
    parts = np.random.default_rng(0).uniform(0.5, 1.5, (5, 3))
    if not c.momentum:
        parts[[1, 2, 4]] = 0.0
    twice = np.array([1, 2, 1, 2, 2])[:, None]

    def worth(moments):
        return float(np.sum(count * twice * parts * moments_after(rule, WHERE, moments, constant)))

    found = fluctuations.pull_back(rule, WHERE, fluctuations.Covector(*parts), state)
    checked = range(5) if c.momentum else (0, 3)
    for i in checked:
        for k in range(3):
            h = 1e-5
            high, low = now.copy(), now.copy()
            high[i, k] += h
            low[i, k] -= h
            numeric = (worth(high) - worth(low)) / (2 * h) / (count[k] * twice[i, 0])
            assert found[i][k] == pytest.approx(numeric, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("kind", SHAPINGS)
@pytest.mark.parametrize("changes", [{}, {"anchor_l2": 0.2, "anchor_form": "after"}, {"momentum": 0.6}])
def test_the_spread_after_one_step_by_its_covariance_matrix(kind, changes):
    """R is 2 h.xi + xi'B xi in the noise xi of the step, of covariance C = noise 1 + extra g g'."""
    c = config(kind, **changes)
    rule, start = recursion.step_rule(c, WHERE), long_runs.state_after(c, WHERE, 0)
    step, moments = rule.at(start.member_square), rule.moments(start.member_square)
    each = np.repeat(np.arange(3), WHERE.multiplicity.astype(int))
    lam, offset = WHERE.eigenvalue[each], WHERE.offset[each]
    fresh = (1 - c.anchor_l2) if c.anchor_form == "after" else 1.0
    fresh *= 1 - c.momentum
    gradient = lam * offset
    noise = step.noise + step.curvature * lam**2
    covariance = np.diag(noise) + step.extra * np.outer(gradient, gradient)
    for worth, found in (
        (-0.5 * lam, fluctuations.reward_spread(c, WHERE, [1])[0].std ** 2),
        (c.sigma**2 * lam**2, None),
    ):
        after = offset - fresh * step.rate * gradient  # an anchor has nothing to pull back yet
        h, bend = worth * fresh * after, worth * fresh**2
        expected = 4 * h @ covariance @ h + 2 * np.sum((bend[:, None] * covariance) * (bend[:, None] * covariance).T)
        common = float(bend @ noise)
        if moments.spread:
            along = float(h @ gradient)
            expected += moments.spread * common**2 - 4 * moments.tilt * common * step.rate * along
        spread = fluctuations.reward_spread(c, WHERE, [1])[0]
        if found is None:
            square = long_runs.state_after(c, WHERE, 1).member_square
            found = (spread.spread_of_square * square) ** 2
        assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("changes", [{}, *MEMORY])
def test_the_spread_of_many_steps_where_noise_hides_the_gradient(changes):
    """At constant S a direction is Gaussian, and its reward's variance that of a Gaussian's square."""
    c = config(**changes, population=50, alpha=30.0)
    for step in (0, 1, 2, 7):
        state = long_runs.state_after(c, QUIET, step)
        assert c.sigma**2 * float(QUIET.multiplicity @ (QUIET.eigenvalue**2 * state.square)) < 1e-2 * 400**2
        cost = 0.5 * QUIET.eigenvalue
        variance = cost**2 * (2 * state.variance**2 + 4 * state.mean**2 * state.variance)
        (found,) = fluctuations.reward_spread(c, QUIET, [step])
        assert found.std == pytest.approx(math.sqrt(float(QUIET.multiplicity @ variance)), rel=5e-3)
        assert found.mean == pytest.approx(-float(QUIET.multiplicity @ (cost * state.square)), rel=1e-12)
        variance = (c.sigma**2 * QUIET.eigenvalue**2 / cost) ** 2 * variance
        scatter = math.sqrt(float(QUIET.multiplicity @ variance)) / state.member_square
        assert found.spread_of_square == pytest.approx(scatter, rel=5e-3)
        assert found.step == step


def test_what_a_spread_declares():
    (pairs,) = fluctuations.reward_spread(config("antithetic"), WHERE, [4])
    assert pairs.systematic == pytest.approx(2 / 8 + pairs.spread_of_square**2, rel=1e-14)
    for kind in ("raw", "two-point"):
        assert fluctuations.reward_spread(config(kind), WHERE, [4])[0].systematic == 0
    (plain,) = fluctuations.reward_spread(config(), WHERE, [4])
    states = [long_runs.state_after(config(), WHERE, t) for t in range(5)]
    expected = mean_field_error.declared_error(
        config(),
        WHERE,
        mean=states[4].mean,
        square=states[4].square,
        member_square=states[4].member_square,
        earlier_member_square=np.array([s.member_square for s in states[:4]]),
        relative_std=plain.std / abs(plain.mean),
    )
    assert plain.systematic == pytest.approx(expected, rel=1e-14)
    law = plain.law
    assert (law.mean, law.std) == pytest.approx((plain.mean, plain.std), rel=1e-12)
    several = fluctuations.reward_spread(config(), WHERE, [4, 2])
    assert several[0] == plain
    assert several[1] == fluctuations.reward_spread(config(), WHERE, [2])[0]


@pytest.mark.parametrize("changes", [{}, {"momentum": 0.5}])
def test_the_history_that_is_kept_is_bounded(monkeypatch, changes):
    numbers = 5 * 3 * (5 if changes else 2)  # five states of three rows
    c = config(**changes)
    monkeypatch.setattr(fluctuations, "MAX_HISTORY", numbers)
    fluctuations.reward_spread(c, WHERE, [4])
    monkeypatch.setattr(fluctuations, "MAX_HISTORY", numbers - 1)
    with pytest.raises(Exception, match="too many"):
        fluctuations.reward_spread(c, WHERE, [4])


# --- declared error of the mean curve ---

CURVED = rows((2.0, 3, 0.4), (0.5, 10, 0.2), (9.0, 0, 1.0), (0.0, 5, 0.1))


def shares(square, v):
    lam, count = np.array([2.0, 0.5]), np.array([3, 10])
    x = 0.5**4 * lam**2 / v
    rho2 = 0.5**2 * lam**2 * np.array(square[:2]) / v
    return x, rho2, float(count @ (3 * x**2 + 12 * rho2 * x)), count


def test_errors_of_one_step_that_the_recursion_leaves_out():
    square, v = np.array([0.1, 0.03, 5.0, 7.0]), 0.8  # rows without directions or curvature have no part
    x, rho2, excess, count = shares(square, v)
    both = (3 * x[0] + 3 * excess / 8) / 8
    assert mean_field_error.one_step_error(config(), CURVED, square, v) == pytest.approx((both, both), rel=1e-13)
    skew = float(count @ (x**1.5 + 3 * rho2 * np.sqrt(x)))
    progress, noise = mean_field_error.one_step_error(config("centered-rank"), CURVED, square, v)
    assert progress == pytest.approx(max(abs(excess / 16 - x[0] / 2), x[0] / 4), rel=1e-13)
    assert noise == pytest.approx(0.3675526 * math.sqrt(x[0]) * skew, rel=1e-13)
    far = np.array([9.0, 0.03, 5.0, 7.0])  # there the kurtosis decides
    x, rho2, excess, _ = shares(far, v)
    assert excess / 16 - x[0] / 2 > x[0] / 4
    progress, _ = mean_field_error.one_step_error(config("centered-rank"), CURVED, far, v)
    assert progress == pytest.approx(excess / 16 - x[0] / 2, rel=1e-13)
    assert mean_field_error.one_step_error(config("raw"), CURVED, square, v) == (0, 0)


@pytest.mark.parametrize("kind", ["zscore", "centered-rank"])
def test_the_declared_error_by_hand(kind):
    c = config(kind)
    mean, square, v = np.array([0.2, 0.1, 0.0, 0.1]), np.array([0.1, 0.03, 0.0, 0.2]), 0.8
    earlier = np.array([50.0, 2.0, 1.1, 0.9])
    found = mean_field_error.declared_error(
        c, CURVED, mean=mean, square=square, member_square=v, earlier_member_square=earlier, relative_std=0.4
    )
    gap = 3 * 2 * 0.1 + 10 * 0.5 * 0.03
    left = np.array([3 * 2 * 0.2**2, 10 * 0.5 * 0.1**2]) / gap
    decay = np.log(np.array([0.4, 0.2]) ** 2 / np.array([0.2, 0.1]) ** 2)
    settled = 1 - left.sum()
    constant = 0.5 * 0.5**4 * (3 * 4 + 10 * 0.25) + 0.04
    progress, noise = mean_field_error.one_step_error(c, CURVED, square, v)
    error = progress * float(left @ decay) + progress * settled * (2 - constant / v)
    if kind == "centered-rank":
        error += noise * settled * (2 - constant / v)
    rate = recursion.step_rule(c, CURVED).rate(v)
    pull = rate * (3 * 4 * 0.1 + 10 * 0.25 * 0.03) / gap
    window = math.ceil(2 / pull)
    largest = max(v, earlier[-min(window, 4) :].max())
    scatter = 0.5 * 0.16 * (1 - constant / largest)
    assert found == pytest.approx(error + scatter + 2 * scatter**2, rel=1e-12)


def test_the_window_of_a_declared_error_is_two_relaxation_times():
    """One step short of it the large spread counts, one step beyond it does not."""
    c, mean = config(alpha=0.05), np.zeros(4)
    square, v = np.array([0.1, 0.03, 0.0, 0.2]), 0.8
    rate = recursion.step_rule(c, CURVED).rate(v)
    window = math.ceil(2 / (rate * (3 * 4 * 0.1 + 10 * 0.25 * 0.03) / (3 * 2 * 0.1 + 10 * 0.5 * 0.03)))

    def declared(*earlier):
        return mean_field_error.declared_error(
            c,
            CURVED,
            mean=mean,
            square=square,
            member_square=v,
            earlier_member_square=np.array(earlier),
            relative_std=0.4,
        )

    calm = [0.1] * (window - 1)
    assert declared(50.0, *calm) > 1.01 * declared(*calm)
    assert declared(50.0, *calm, 0.1) == declared(*calm)
    assert declared() == declared(*calm)


def test_stationary_declared_error_by_hand():
    c = config()
    state = stationary.stationary_state(c, CURVED)
    cost = np.array([2 * state.square[0], 0.5 * state.square[1], 0, 0])
    directions = (3 * cost[0] + 10 * cost[1]) ** 2 / (3 * cost[0] ** 2 + 10 * cost[1] ** 2)
    expected = mean_field_error.declared_error(
        c,
        CURVED,
        mean=np.zeros(4),
        square=np.where(np.isfinite(state.square), state.square, 0.0),
        member_square=state.member_std**2,
        earlier_member_square=np.empty(0),
        relative_std=math.sqrt(2 / directions),
    )
    assert mean_field_error.stationary_declared_error(c, CURVED, state) == pytest.approx(expected, rel=1e-12)
    pairs = config("antithetic")
    assert mean_field_error.stationary_declared_error(
        pairs, CURVED, stationary.stationary_state(pairs, CURVED)
    ) == pytest.approx(2 / 8, rel=1e-14)
    for kind in ("raw", "two-point"):
        assert mean_field_error.stationary_declared_error(config(kind), CURVED, state) == 0


# --- the stationary state ---


@pytest.mark.parametrize("kind", SHAPINGS)
@pytest.mark.parametrize("changes", [{}, *MEMORY])
def test_the_stationary_state_is_where_the_recursion_ends(kind, changes):
    c = config(kind, alpha=0.1, population=20, **changes)
    where = rows((2.0, 3, 0.04), (0.5, 10, 0.02), (0.0, 5, 0.01))
    state = stationary.stationary_state(c, where)
    end = long_runs.state_after(c, where, 1500)
    settled = slice(None) if c.anchor_l2 else slice(2)
    assert state.square[settled] == pytest.approx(end.square[settled], rel=1e-6)
    assert state.member_std == pytest.approx(math.sqrt(end.member_square), rel=1e-6)
    assert state.gap == pytest.approx(0.5 * float(where.multiplicity @ (where.eigenvalue * end.square)), rel=1e-6)
    rate = recursion.step_rule(c, where).rate(end.member_square)
    assert state.contraction == pytest.approx(rate * where.eigenvalue, rel=1e-6)
    assert state.quadratic_share == pytest.approx(0.5**4 * where.eigenvalue**2 / end.member_square, rel=1e-6)
    if not c.anchor_l2:
        assert math.isinf(state.square[2])


def test_a_diverging_direction_has_no_stationary_variance():
    assert stationary.momentum_gain(config(), [0.0, 0.5, 1.0, 1.999, 2.0, 2.5]).tolist()[:3] == [
        math.inf,
        pytest.approx(1 / (0.5 * 1.5)),
        pytest.approx(1.0),
    ]
    assert np.isfinite(stationary.momentum_gain(config(), 1.999))
    assert np.isinf(stationary.momentum_gain(config(), [2.0, 2.5])).all()
    assert stationary.rest(config(), 0.3, [0.0, 1.0], [0.2, 0.2]).tolist() == [0, 0]
    anchored = config(anchor_l2=0.1, anchor_form="after")
    assert stationary.rest(anchored, 0.3, 2.0, 0.5) == pytest.approx(0.1 / (0.1 + 0.9 * 0.6) * 0.5, rel=1e-14)


def test_equal_costs_solve_their_quadratic():
    c, where = config(), rows((2.0, 3, 0.4), (0.5, 10, 0.2))
    progress = recursion.step_rule(c).fixed.progress
    b = 0.3 * 0.5 * where.trace / (2 * 8 * progress)
    s = (b + math.sqrt(b * b + 4 * where.constant_variance(0.5))) / 2
    assert stationary.equipartition_cost(c, where) == pytest.approx(0.3 * s / (4 * 8 * progress * 0.5), rel=1e-13)


# --- ranges ---


def test_limits_of_one_step_are_passed_one_by_one():
    def names(c, where, **given):
        return [(found.name.split(",")[0], found.value) for found in ranges.step_range(c, where, **given)]

    where = rows((2.0, 1, 0.0), (9.0, 0, 0.3), reward_std=0.5)
    big = where.member_std(0.5)
    x = (0.25 * 2 / big) ** 2
    assert 0.3 < x < 0.9
    found = names(config(population=100), where)
    assert found == ([("the largest quadratic share x_k", pytest.approx(x))] if x > 0.5 else [])
    small = names(config(population=8), where)
    assert small[-1] == ("the largest quadratic share x_k at N = 8 <= 10", pytest.approx(x))
    assert names(config("centered-rank", population=8), where)[0][1] == pytest.approx(x)
    excess = 3 * x**2 / 2
    assert ("the excess kurtosis of the rewards per member", pytest.approx(excess)) in names(
        config(population=2), where
    )
    assert names(config("raw"), where) == names(config("two-point"), where) == []
    assert not ranges.step_range(config(), rows((0.0, 1, 0.0), reward_std=0.0))
    between = rows((1.0, 1, 0.0), reward_std=0.35)  # of the limits of ranks and of z-scores, 0.3 and 0.5
    x = (0.25 / between.member_std(0.5)) ** 2
    assert 0.3 < x < 0.5
    assert names(config(population=100), between) == []
    assert names(config("centered-rank"), between) == [("the largest quadratic share x_k", pytest.approx(x))]
    steep = rows((2.0, 1, 3.0), reward_std=0.5)
    rho2, x = (0.5 * 6 / steep.member_std(0.5)) ** 2, (0.5 / steep.member_std(0.5)) ** 2
    expected = (3 * x**2 + 12 * rho2 * x) / 2
    assert names(config(population=2), steep) == [
        ("the excess kurtosis of the rewards per member", pytest.approx(expected))
    ]
    # at a stated spread there is no gradient
    x = (0.5 / 0.6) ** 2
    assert names(config(population=100), steep, member_std=0.6) == [
        ("the largest quadratic share x_k", pytest.approx(x))
    ]


def test_numbers_at_a_limit_are_within_it(monkeypatch):
    where = rows((2.0, 1, 0.0), reward_std=0.5)
    x = float((0.5**2 * where.eigenvalue[0] / where.member_std(0.5)) ** 2)
    monkeypatch.setattr(ranges, "SMALL_POPULATION_SHARE", x)
    for kind in (ZScores, CentredRanks):
        monkeypatch.setattr(kind, "quadratic_share_limit", x)
    monkeypatch.setattr(ranges, "KURTOSIS_LIMIT", 3 * x**2 / 8)
    assert ranges.step_range(config(), where) == ()
    assert ranges.step_range(config("centered-rank"), where) == ()
    monkeypatch.setattr(ranges, "SMALL_POPULATION_SHARE", x / 2)
    assert len(ranges.step_range(config(population=10), where)) == 1
    assert len(ranges.step_range(config(population=11), where)) == 0


def test_ground_that_no_noise_reaches_is_refused():
    from estheory.theory.shared_seed import largest_ratio, whitened

    where = rows((2.0, 3, 0.4), (0.5, 10, 0.2))
    seen = whitened(where, np.array([4.0, 1.0]))
    assert seen.eigenvalue.tolist() == [8, 0.5]
    assert seen.offset.tolist() == [0.2, 0.2]
    assert seen.gap == pytest.approx(where.gap)
    for bad in ([0.0, 1.0], [1.0], [math.inf, 1.0]):
        with pytest.raises(Exception, match="one number > 0"):
            whitened(where, np.array(bad))
    assert largest_ratio([(4, 5), (20,), (30,), (5, 4)]) == 3
