"""Curved ground for every configuration: pairs, anchors, momentum, against brute force and against the flat laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.theory import shared_seed, walk
from estheory.theory.anchor_l1 import CLOSURE_ERROR
from estheory.theory.curved import comparison, dynamics, fluctuations, long_runs, recursion, stationary
from estheory.theory.curved import step as quadratic
from estheory.theory.curved.ranges import step_range
from estheory.theory.estimators import MirroredPairs, estimator_of
from estheory.theory.signal import progress_per_step
from tests.statistics import agrees, shape_rewards
from tests.theory.quadratic_es import config, landscape, moved, run, std_within, steps_from_start, within
from tests.variants import variants

PAIRED = {
    "antithetic": {"antithetic": True},
    "two-point": {"shaping": "two-point"},
}
MEMORY = {
    "none": {},
    "L2": {"anchor_l2": 0.05},
    "L2 after": {"anchor_l2": 0.05, "anchor_form": "after"},
    "momentum": {"momentum": 0.7},
    "momentum, L2": {"momentum": 0.7, "anchor_l2": 0.05},
    "momentum, L2 after": {"momentum": 0.7, "anchor_l2": 0.05, "anchor_form": "after"},
}
CURVED = landscape((4, 3, 0.3), (1, 12, 0.1), reward_std=0.05)
RUN = {"sigma": 0.1, "alpha": 0.03, "population": 20}
L2_FORMS = ("before", "after")


@pytest.mark.parametrize("population", [4, 30])
@pytest.mark.parametrize(
    ("where", "sigma"),
    [
        (landscape((4, 1, 0.3), (1, 5, 0.5), reward_std=0.35), 0.3),
        (landscape((3, 1, 0.5), reward_std=2.5), 0.7),
        (landscape((10, 1, 0.05), (1, 19, 0.5), reward_std=2.7), 0.4),
    ],
    ids=["mixed", "noisy, one direction", "sharp"],
)
def test_moments_of_a_step_of_pairs(where, sigma, population):
    edges = np.cumsum(where.multiplicity.astype(int))[:-1]
    for name, changes in PAIRED.items():
        c = config(sigma=sigma, alpha=0.3, population=population, **changes)
        moments = quadratic.step_moments(c, where)
        tolerance = 0.0 if name == "two-point" else 0.05
        if population > 10:
            assert not step_range(c, where)
        elif name == "antithetic" and step_range(c, where):
            continue
        updates = np.split(steps_from_start(1, c, where, 600_000 // population), edges, axis=1)
        for k, update in enumerate(updates):
            first, second = update.mean(axis=1), (update**2).mean(axis=1)
            assert within(first, moments.displacement[k], tolerance)
            assert within(second, moments.second_moment[k], tolerance)
            assert not within(second, 1.4 * moments.second_moment[k], tolerance)
        if name == "antithetic" and sigma == 0.3:  # as if the members were independent
            alone = quadratic.step_moments(config(sigma=sigma, alpha=0.3, population=population), where)
            assert not within((updates[-1] ** 2).mean(axis=1), alone.second_moment[-1], tolerance)


def test_two_point_moments_are_exact_at_any_curvature():
    """One sharp direction, N = 2: no tolerance; the even part of the rewards must not enter."""
    where = landscape((3, 2, 0.5), (1, 10, 0.2), reward_std=0.1)
    c = config(sigma=0.5, alpha=0.3, population=2, shaping="two-point")
    moments = quadratic.step_moments(c, where)
    assert moments.label == "exact"
    update = steps_from_start(3, c, where, 300_000, batch=50_000)[:, :2]
    square = (update**2).mean(1)
    assert agrees(update.mean(1), moments.displacement[0])
    assert agrees(square, moments.second_moment[0])
    even = 0.3**2 / 2 * 0.5 * 0.5**2 * where.square_trace / 2  # alpha^2/N of half the even variance over sigma^2
    assert not agrees(square, moments.second_moment[0] + even)
    assert not agrees(square, moments.second_moment[0] - 0.3**2 / 2 * where.gradient[0] ** 2)  # N g^2 for (N+1) g^2
    assert not agrees(update.mean(1), moments.displacement[0] * 1.05)


def test_even_parts_correct_the_antithetic_step():
    """Two sizes of curvature, N = 30: without the O(1/N) terms of the even parts' own law the step is refuted."""
    where = landscape((4, 1, 0.3), (1, 5, 0.5), reward_std=0.35)
    c = config(sigma=0.3, alpha=1.0, population=30, antithetic=True)
    moments = quadratic.step_moments(c, where)
    updates = steps_from_start(4, c, where, 150_000)
    share = recursion.step_rule(c, where).odd_share(moments.member_std**2)
    gaussian = estimator_of(c).moments(share)
    leading = (gaussian.flat + gaussian.signal * moments.correlation**2) / 30
    for square, expected, without in (
        (updates[:, 0] ** 2, moments.second_moment[0], leading[0]),
        ((updates[:, 1:] ** 2).mean(1), moments.second_moment[1], leading[1]),
    ):
        assert within(square, expected, 0.006)
        assert not within(square, without, 0.006)


@given(population=h.integers(2, 2000).map(lambda n: 2 * n), share=h.floats(0.02, 0.999))
def test_antithetic_coefficients_are_those_of_the_walk_and_the_linear_signal(population, share):
    pairs = MirroredPairs(population=population, sigma=1.0, alpha=1.0)
    c = pairs.moments(share)
    kappa = 2 * share - 1
    mean, spread = pairs.odd_variance(kappa)
    assert c.flat == pytest.approx(mean, rel=1e-12)
    if population > 200:
        assert c.spread == pytest.approx(spread, rel=20 / population, abs=1e-9)
    if kappa > 0:  # a linear reward: kappa = rho^2
        linear = Signal(reliability=kappa, gradient_norm=1.0, member_std=1.0)
        run_of = config(sigma=1.0, alpha=1.0, population=population, antithetic=True)
        assert math.sqrt(kappa) * c.progress == pytest.approx(progress_per_step(run_of, linear), rel=1e-12)
    up, down = (pairs.moments(share + e) for e in (1e-5, -1e-5))
    slopes = pairs.slopes(share)
    for slope, name in zip(slopes, ("progress", "flat", "signal"), strict=True):
        ends = getattr(up, name), getattr(down, name)
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-4 * population)


CASES = [
    *((name, {**changes}) for name, changes in MEMORY.items() if name != "none"),
    *((f"antithetic, {name}", {"antithetic": True, **MEMORY[name]}) for name in ("none", "momentum, L2")),
    *((f"two-point, {name}", {"shaping": "two-point", **MEMORY[name]}) for name in ("none", "momentum, L2 after")),
    ("raw, momentum, L2", {"shaping": "raw", **MEMORY["momentum, L2"]}),
    ("ranks, momentum", {"shaping": "centered-rank", "alpha": 0.1, **MEMORY["momentum"]}),
]


@pytest.mark.parametrize(
    "name",
    variants(dict(CASES), fast={"momentum, L2", "antithetic, momentum, L2", "two-point, none", "ranks, momentum"}),
)
def test_mean_and_spread_of_runs(name):
    changes = dict(CASES)[name]
    c = config(**(RUN | changes))
    steps = (1, 3, 10, 60)
    rewards = run(5, c, CURVED, 1500, set(steps))
    exact = c.shaping in ("raw", "two-point")
    for spread in fluctuations.reward_spread(c, CURVED, steps):
        samples = rewards[spread.step]
        assert spread.systematic == 0 if exact else spread.systematic < 0.15
        assert within(samples, spread.mean, spread.systematic)
        band = 2 * (2 / c.population + spread.spread_of_square**2)  # first order in fluctuations
        assert std_within(samples, spread.std, band)
        assert not std_within(samples, 1.7 * spread.std, band)
    bare = config(**(RUN | {k: v for k, v in changes.items() if k in ("shaping", "alpha")}))
    without = dynamics.mean_field(bare, CURVED, 60)
    assert not all(within(rewards[t], without.at(t), 0 if exact else 0.05) for t in steps) or name == "two-point, none"


@pytest.mark.parametrize("changes", [c for _, c in CASES], ids=[name for name, _ in CASES])
def test_the_recursion_settles_where_the_stationary_state_says(changes):
    c = config(**(RUN | changes))
    state = stationary.stationary_state(c, CURVED)
    curve = dynamics.mean_field(c, CURVED, 4000)
    assert curve.reward[-1] == pytest.approx(-state.gap, rel=1e-7)
    assert curve.member_std[-1] == pytest.approx(state.member_std, rel=1e-7)


@given(
    kappa=h.sampled_from([0.0, 1e-3, 0.2, 0.9]),
    beta=h.sampled_from([0.0, 0.3, 0.95]),
    form=h.sampled_from(L2_FORMS),
    population=h.integers(2, 100).map(lambda n: 2 * n),
    antithetic=h.booleans(),
    steps=h.integers(1, 60),
)
def test_flat_rows_walk_as_the_walk_says(kappa, beta, form, population, antithetic, steps):
    """lambda -> 0: the anchored, momentum and antithetic laws of the walk, to rounding."""
    c = config(
        sigma=0.1, alpha=0.05, population=population, anchor_l2=kappa, anchor_form=form, momentum=beta,
        antithetic=antithetic,
    )  # fmt: skip
    where = landscape((0, 5, 0.0), reward_std=0.7)
    law = walk.walk(c, Signal(member_std=0.7), steps)
    state = long_runs.state_after(c, where, steps)
    # the walk's own quadrature over pairs is good to 1e-7 at four members
    assert state.variance[0] == pytest.approx(law.variance, rel=1e-12)
    assert comparison.es_end_point(c, where, steps).flat_variance == pytest.approx(state.variance[0], rel=1e-14)


@given(name=h.sampled_from(["zscore", "centered-rank", "raw", "two-point"]), steps=h.integers(1, 30))
def test_vanishing_anchor_and_momentum_change_nothing(name, steps):
    bare = config(**RUN, shaping=name)
    plain = long_runs.state_after(bare, CURVED, steps)
    for changes in ({"anchor_l2": 1e-14}, {"momentum": 1e-14}, {"anchor_l1": 1e-15}):
        state = long_runs.state_after(config(**RUN, shaping=name, **changes), CURVED, steps)
        assert state.mean == pytest.approx(plain.mean, rel=1e-11)
        assert state.variance == pytest.approx(plain.variance, rel=1e-11)


@given(
    shaping=h.sampled_from(["zscore", "centered-rank", "raw", "two-point", "antithetic"]),
    sigma=h.floats(0.05, 2),
    noise=h.floats(0.01, 1),
    population=h.integers(2, 100).map(lambda n: 2 * n),
    kappa=h.sampled_from([0.0, 0.3]),
    beta=h.sampled_from([0.0, 0.6]),
    form=h.sampled_from(L2_FORMS),
)
def test_derivative_of_a_step(shaping, sigma, noise, population, kappa, beta, form):
    """The covector that carries the variance against finite differences of the mean of one step of the recursion."""
    kind = {"antithetic": True} if shaping == "antithetic" else {"shaping": shaping}
    c = config(sigma=sigma, alpha=0.1, population=population, anchor_l2=kappa, momentum=beta, anchor_form=form, **kind)
    where = landscape((4, 3, 0.4), (1, 20, 0.2), (0.1, 50, 0.7), reward_std=noise)
    rng = np.random.default_rng(0)
    lam, count, start = where.eigenvalue, where.multiplicity, where.offset
    rule, constant = recursion.step_rule(c, where), estimator_of(c).constant_variance(where)
    begin = [start**2 + 0.02, 0.1 * start, 0.3 * np.ones(3), 0.8 * start, 0.2 * start]  # E d^2, E du, E u^2, E d, E u

    def after(now):  # mean of the five after a step, written out
        square, cross, velocity_square, mean, velocity = now
        v = constant + sigma**2 * float(count @ (lam**2 * square))
        k, keep, fresh, b = rule.at(v), rule.keep, rule.fresh, beta
        a = (1 - b) * k.rate * lam
        noise = (1 - b) ** 2 * (k.noise + lam**2 * (k.curvature + k.extra * square))
        new_velocity = b * velocity - a * mean
        new_square = b * b * velocity_square - 2 * a * b * cross + a * a * square + noise
        with_velocity = b * cross - a * square  # E d u'
        home = (1 - keep) * start
        cross_after = keep * with_velocity + home * new_velocity + fresh * new_square
        square_after = (
            keep**2 * square + home**2 + fresh**2 * new_square
            + 2 * (keep * home * mean + keep * fresh * with_velocity + home * fresh * new_velocity)
        )  # fmt: skip
        return square_after, cross_after, new_square, keep * mean + home + fresh * new_velocity, new_velocity

    weights = rng.standard_normal((5, 3)) * [[1], [beta > 0], [beta > 0], [kappa > 0], [kappa * beta > 0]]
    scale = np.array([np.ones(3), 2 * np.ones(3), np.ones(3), 2 * start, 2 * start])

    def worth(now):
        return float(np.sum(count * weights * scale * np.array(after(now))))

    state = recursion.State(
        step=0,
        mean=begin[3],
        variance=begin[0] - begin[3] ** 2,
        velocity=begin[4],
        velocity_variance=begin[2] - begin[4] ** 2,
        covariance=begin[1] - begin[3] * begin[4],
        member_square=constant + sigma**2 * float(count @ (lam**2 * begin[0])),
    )
    pulled = fluctuations.pull_back(rule, where, fluctuations.Covector(*weights), state)
    for component in range(5):
        for k in range(3):
            change = np.zeros((5, 3))
            change[component, k] = 1e-6
            slope = (worth(np.array(begin) + change) - worth(np.array(begin) - change)) / 2e-6
            found = pulled[component][k] * scale[component][k] * count[k]
            assert found == pytest.approx(slope, rel=1e-5, abs=1e-5 * float(np.abs(weights).max()) * count[k])


@pytest.mark.parametrize("form", L2_FORMS)
def test_l1_anchor_on_curved_ground(form):
    where = landscape((4, 3, 0.5), (1, 15, 0.1), (0, 6, 0.0), reward_std=0.05)
    c = config(sigma=0.05, alpha=0.03, population=30, anchor_l1=0.001, anchor_form=form)
    rewards = run(5, c, where, 600, {1, 10, 40, 100})
    curve = dynamics.mean_field(c, where, 100)
    for step, samples in rewards.items():
        assert within(samples, curve.at(step), 2 / 30 + CLOSURE_ERROR)
    without = dynamics.mean_field(config(sigma=0.05, alpha=0.03, population=30), where, 100)
    assert not within(rewards[40], without.at(40), 2 / 30 + CLOSURE_ERROR)
    wrong = config(sigma=0.05, alpha=0.03, population=30, anchor_l1=0.0015, anchor_form=form)
    assert not within(rewards[40], dynamics.mean_field(wrong, where, 40).at(40), 2 / 30 + CLOSURE_ERROR)


@pytest.mark.parametrize("scaled_time", variants([0.1, 0.5, 1.0, 1.5, 2.0, 4.0], fast={0.1, 1.0}))
def test_l1_closure_on_flat_ground_against_its_exact_law(scaled_time):
    """In units of the noise the pull is .02 a step: the law of the walk is that of Brownian motion."""
    c = config(sigma=0.1, alpha=1.0, population=16, anchor_l1=0.02 / 4)
    steps = round((scaled_time / 0.02) ** 2)
    closed = long_runs.state_after(c, landscape((0, 1, 0.0), reward_std=1.0), steps).variance[0]
    law = walk.walk(c, Signal(), steps).variance
    assert closed == pytest.approx(law, rel=0.02)
    if scaled_time == 4.0:  # a Gaussian closure ends at pi/4 of it
        assert closed > 0.97 * law


def test_first_step_with_an_anchor_that_comes_after_it():
    where = landscape((2, 4, 0.4), reward_std=0.3)
    c = config(sigma=0.2, alpha=0.2, population=16, anchor_l1=0.02, anchor_form="after")
    updates = steps_from_start(5, config(sigma=0.2, alpha=0.2, population=16), where, 40_000)
    moments = quadratic.step_moments(c, where)
    there, _ = moved(c, np.zeros_like(updates), np.zeros_like(updates), updates)
    assert within(there.mean(1), moments.displacement[0], 0.02)
    assert within((there**2).mean(1), moments.second_moment[0], 0.05)
    assert not within(there.mean(1), updates.mean(), 0.02)


@pytest.mark.parametrize("kind", ["repeated", "one tensor", "random"])
def test_shared_seed_noise_on_curved_ground(kind):
    """Two tensors share their noise. Whitened theory for eigenvectors that repeat in both; else independent noise."""
    rng, size = np.random.default_rng(3), 20_000
    lam, offset = np.repeat([3.0, 1.0], [2, 6]), np.repeat([0.3, 0.1], [2, 6])
    basis = np.linalg.qr(rng.standard_normal((size, 8)))[0].T
    seen = {  # the sum of an eigenvector's parts in the two tensors: what shared noise projects on
        "repeated": math.sqrt(2) * basis,
        "one tensor": basis,
        "random": (basis + np.linalg.qr(rng.standard_normal((size, 8)))[0].T) / math.sqrt(2),
    }[kind]
    root = np.linalg.cholesky(seen @ seen.T)  # eps along the eigenvectors has covariance V'CV
    where = landscape((3, 2, 0.3), (1, 6, 0.1), reward_std=0.05)
    c = config(sigma=0.1, alpha=0.05, population=20, noise="shared-seed")
    distance = np.tile(-offset, (2000, 1))
    for _ in range(4):
        eps = rng.standard_normal((2000, 20, 8)) @ root.T
        rewards = -0.5 * (distance[:, None, :] + c.sigma * eps) ** 2 @ lam + 0.05 * rng.standard_normal((2000, 20))
        distance = distance + 0.05 / 20 * np.einsum("rn,rnk->rk", shape_rewards(rewards, "zscore", 1.0), eps)
    reward = -0.5 * distance**2 @ lam
    band = 0.02 + (0.03 if kind == "random" else 0)  # v'Cv of random vectors is 1 to about 1/sqrt of a tensor's size
    independent = dynamics.mean_field(c, where, 4).at(4)
    repeated = dynamics.mean_field(c, shared_seed.whitened(where, np.array([2.0, 2.0])), 4).at(4)
    assert within(reward, repeated if kind == "repeated" else independent, band)
    assert not within(reward, independent if kind == "repeated" else repeated, band)


def test_whitening_changes_no_reward_and_ratios_are_bounded():
    where = landscape((3, 2, 0.3), (1, 6, 0.1))
    seen = shared_seed.whitened(where, np.array([2.0, 0.5]))
    assert seen.gap == pytest.approx(where.gap)
    assert seen.gradient_norm**2 == pytest.approx(where.multiplicity @ (where.gradient**2 * [2.0, 0.5]))  # g'Cg
    assert shared_seed.largest_ratio([(4, 5), (20,), (5, 4), (30,)]) == 3
    for ratio in ([1.0], [1.0, 0.0], [1.0, math.nan]):
        with pytest.raises(ConfigError, match="v'Cv"):
            shared_seed.whitened(where, np.array(ratio))


@pytest.mark.parametrize("spread_out", [True, False])
def test_low_rank_noise_on_curved_ground(spread_out):
    """Rank 1: the moments of Gaussian noise for a curved direction spread over the matrix, not for a single entry."""
    rng, rows, members = np.random.default_rng(4), 16, 16
    vector = np.zeros((rows, rows))
    if spread_out:
        vector = rng.choice([-1.0, 1.0], (rows, rows)) / rows
    else:
        vector[0, 0] = 1.0
    eps = np.einsum("rni,ij,rnj->rn", rng.standard_normal((20_000, members, rows)), vector,
                    rng.standard_normal((20_000, members, rows)))  # fmt: skip
    rewards = 0.2 * eps - 0.15 * (eps**2 - 1) + 0.2 * rng.standard_normal(eps.shape)
    update = np.mean(shape_rewards(rewards, "zscore", 1.0) * eps, axis=1)
    where = landscape((0.3, 1, 0.2 / 0.3), reward_std=0.2)
    moments = quadratic.step_moments(config(sigma=1.0, alpha=1.0, population=members), where)
    band = 0.05 if spread_out else 0.1  # rank 1 leaves the spread-out half a little of its own; the control twice that
    assert within(update**2, moments.second_moment[0], band) == spread_out
    assert within(update, moments.displacement[0], band) == spread_out


def test_where_nothing_settles():
    with pytest.raises(ConfigError, match="L1"):
        stationary.stationary_state(config(**RUN, anchor_l1=0.1), CURVED)
    with pytest.raises(ConfigError, match="does not settle"):
        stationary.stationary_state(config(**(RUN | {"alpha": 5.0}), shaping="two-point"), CURVED)
    for changes, what in (({"antithetic": True}, "antithetic"), ({"anchor_l2": 0.1}, "anchor")):
        with pytest.raises(ConfigError, match=what):
            stationary.equipartition_cost(config(**RUN, **changes), CURVED)
    with pytest.raises(ConfigError, match="momentum"):
        dynamics.coordinate_variance(config(**RUN, momentum=0.5), 1.0, 1.0, 3)


def test_anchored_coordinate_variance_is_that_of_the_recursion():
    where = landscape((0.5, 1, 0.0), reward_std=3.0)
    for form in L2_FORMS:
        c = config(sigma=0.01, alpha=0.05, population=12, anchor_l2=0.03, anchor_form=form)
        state = long_runs.state_after(c, where, 40)
        closed = dynamics.coordinate_variance(c, 0.5, where.member_std(0.01), 40)
        assert closed == pytest.approx(state.variance[0], rel=1e-3)
        assert dynamics.relaxation_time(c, 0.0, 1.0) == pytest.approx(1 / 0.03)
