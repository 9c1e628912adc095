"""Formulas against their definitions: sums written out, quadrature, matrix recursions. Deterministic and fast.

What the Monte Carlo tests can tell only to a few per cent is pinned here to rounding, so that a wrong factor in a
small term cannot hide behind sampling noise (docs/validation/mutation.md).
"""

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from estheory import _special
from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.laws import SquaredLaw
from estheory.rules import ESConfig
from estheory.theory import signal, walk
from estheory.theory.anchor_l1 import flat_law
from estheory.theory.curved import dynamics, long_runs, recursion
from estheory.theory.curved import step as quadratic
from estheory.theory.effective_dimension import low_rank_dimension
from estheory.theory.estimators import estimator_of

SHAPINGS = ("zscore", "centered-rank", "raw", "two-point", "antithetic")


def config(kind="zscore", **changes):
    """A run of that shaping, ``antithetic`` among them."""
    plain = {"dim": 40, "sigma": 0.5, "alpha": 0.3, "population": 8}
    how = {"antithetic": True} if kind == "antithetic" else {"shaping": kind}
    return ESConfig(**(plain | how | changes))


def rows(*table, dim=40, reward_std=0.2):
    """A landscape of (eigenvalue, multiplicity, offset) rows."""
    columns = np.array(table, dtype=float)
    return Landscape(
        dim=dim, eigenvalue=columns[:, 0], multiplicity=columns[:, 1], offset=columns[:, 2], reward_std=reward_std
    )


def chi_square_rule(df, count=60):
    """Nodes and weights of the expectation over a chi-square variable."""
    from scipy.special import roots_genlaguerre

    nodes, weights = roots_genlaguerre(count, df / 2 - 1)
    return 2 * nodes, weights / weights.sum()


def normal_rule(count=60):
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


# --- walk ---


def impulse(c, steps):
    """What is left of one step's noise after 0, 1, ... steps more, by the update rule."""
    theta = velocity = 0.0
    found = []
    for t in range(steps):
        velocity = c.momentum * velocity + (1 - c.momentum) * (t == 0)
        keep = 1 - c.anchor_l2
        theta = keep * (theta + velocity) if c.anchor_form == "after" else keep * theta + velocity
        found.append(theta)
    return np.array(found)


MEMORY = [
    {"anchor_l2": 0.2},
    {"anchor_l2": 0.2, "anchor_form": "after"},
    {"momentum": 0.7},
    {"momentum": 0.7, "anchor_l2": 0.1, "anchor_form": "after"},
    {"momentum": 0.7, "anchor_l2": 0.3},
    {"momentum": 0.7, "anchor_l2": 0.29},
]


@pytest.mark.parametrize("changes", MEMORY)
def test_response_is_the_update_rule_of_one_step(changes):
    c = config(**changes)
    assert walk.response(c, 9) == pytest.approx(impulse(c, 9), rel=1e-12)
    assert walk.response(config(), 9) is None


@pytest.mark.parametrize("changes", MEMORY)
def test_a_walk_adds_up_what_is_left_of_its_steps(changes):
    c = config("raw", **changes)
    known = Signal(member_std=0.9)
    h = impulse(c, 6)
    found = walk.walk(c, known, 6)
    one = 0.3**2 * 0.9**2 * 7 / 8**2 / 0.5**2  # N - 1 degrees of freedom, over N^2 sigma^2
    assert found.variance == pytest.approx(one * np.sum(h**2), rel=1e-12)
    assert found.coherent_steps == pytest.approx(np.sum(h), rel=1e-12)
    assert found.independent_steps == pytest.approx(np.sum(h**2) ** 2 / np.sum(h**4), rel=1e-12)
    assert found.mixing_df == pytest.approx(7 * found.independent_steps, rel=1e-12)
    early = impulse(c, 4)
    overlap = sum(early[3 - j] * h[5 - j] for j in range(4))
    expected = overlap / math.sqrt(np.sum(early**2) * np.sum(h**2))
    assert walk.checkpoint_correlation(c, 4, 6) == pytest.approx(expected, rel=1e-12)
    assert walk.checkpoint_correlation(c, 6, 4) == pytest.approx(expected, rel=1e-12)


def test_the_variance_of_one_step():
    def one(kind, known=None, **changes):
        return estimator_of(config(kind, **changes)).variance(known or Signal())

    plain = one("zscore")
    assert (plain.value, plain.mixing_df) == (pytest.approx(0.09 / 8, rel=1e-14), math.inf)
    # z-scores of two members are +-1, of three sqrt(2) times the cosine of a uniform angle
    assert one("zscore", population=2).fourth_moment == pytest.approx(1, rel=1e-14)
    assert one("zscore", population=3).fourth_moment == pytest.approx(1.5, rel=1e-14)
    ranks = np.array([-0.5, -0.25, 0, 0.25, 0.5])
    ranked = one("centered-rank", population=5)
    assert ranked.value == pytest.approx(0.09 * np.mean(ranks**2) / 5, rel=1e-14)
    assert ranked.fourth_moment == pytest.approx(np.mean(ranks**4) / np.mean(ranks**2) ** 2, rel=1e-14)
    assert ranked.mixing_df == math.inf
    for many in (9_999, 10_000, 10**9):  # a uniform law
        assert one("centered-rank", population=many).fourth_moment == pytest.approx(1.8, rel=1e-3)
    known = Signal(member_std=0.9, gradient_norm=0.7, even_share=0.25)
    assert one("raw", known).value == pytest.approx(0.09 * 0.81 * 7 / 64 / 0.25, rel=1e-14)
    assert (one("raw", known).mixing_df, one("raw", known).fourth_moment) == (7, 3)
    # (R+ - R-)/(2 sigma): its signal is g, the noise of two members over 2 sigma
    noise = 0.81 * 0.75 - 0.25 * 0.49
    assert one("two-point", known).value == pytest.approx(0.09 / 8 * (0.49 + noise / 0.5), rel=1e-14)
    assert one("two-point", known).mixing_df == 8
    pure = one("two-point", Signal(member_std=0.9))
    assert pure.value == pytest.approx(0.09 / 8 * 0.81 / 0.5, rel=1e-14)


@pytest.mark.parametrize("kappa", [-0.4, 0.0, 0.6])
@pytest.mark.parametrize("population", [40, 42])
def test_the_variance_of_one_step_of_pairs(kappa, population):
    (x, wx), (y, wy) = chi_square_rule(population / 2), chi_square_rule(population / 2 - 1)
    share = 2 * (1 + kappa) * x[:, None] / ((1 + kappa) * x[:, None] + (1 - kappa) * y)
    mean = wx @ share @ wy
    variance = wx @ (share - mean) ** 2 @ wy
    known = Signal(reliability=max(kappa, 0), even_share=max(-kappa, 0))
    found = estimator_of(config("antithetic", population=population)).variance(known)
    assert found.value == pytest.approx(0.09 / population * mean, rel=1e-7)
    assert found.mixing_df == pytest.approx(2 * mean**2 / variance, rel=1e-6)
    assert found.fourth_moment == pytest.approx(3 * (population - 1) / (population + 1), rel=1e-14)


def test_odd_rewards_of_pairs_alone_fix_the_variance():
    found = estimator_of(config("antithetic")).variance(Signal(reliability=1.0))
    assert (found.value, found.mixing_df) == (pytest.approx(0.09 / 8 * 2, rel=1e-12), math.inf)


def test_low_rank_noise_by_the_variance_of_its_squared_norm():
    """Var ||E||^2 = (2mn/rank)(m + n + rank + 1) of one m x n member, 2n of a vector; only the excess is shared out."""
    matrix = 2 * 6 * (2 + 3 + 1 + 1)
    assert low_rank_dimension([(2, 3), (4,)], 1, 1.0, 1.0) == pytest.approx(2 * 100 / (matrix + 8), rel=1e-14)
    second = 2 * 6 / 2 * (2 + 3 + 2 + 1)
    assert low_rank_dimension([(2, 3), (4,)], 2, 1.0, 1.0) == pytest.approx(2 * 100 / (second + 8), rel=1e-14)
    excess = (matrix - 12) * 3 / 6
    assert low_rank_dimension([(2, 3), (4,)], 1, 3.0, 6.0) == pytest.approx(200 / (12 + excess + 8), rel=1e-14)
    tensor = 2 * 30 * (2 + 15 + 1 + 1)
    assert low_rank_dimension([(2, 3, 5)], 1, 1.0, 1.0) == pytest.approx(2 * 900 / tensor, rel=1e-14)
    c = config(noise="low-rank:1", momentum=0.5)
    found = walk.walk(c, Signal(), 5, [(5, 8)])
    terms = 8 * found.independent_steps
    assert found.effective_dim == pytest.approx(low_rank_dimension([(5, 8)], 1, 3 * 7 / 9, terms), rel=1e-14)
    assert found.norm_law.scale == pytest.approx(math.sqrt(found.variance * 40 / found.effective_dim), rel=1e-14)
    assert walk.walk(c, Signal(), 5).effective_dim == 40


def test_an_l1_anchor_is_the_flat_law_in_units_of_a_step():
    c = config(anchor_l1=0.02)
    one = 0.09 / 8
    flat = flat_law(0.02 / math.sqrt(one), 7, "before")
    found = walk.walk(c, Signal(), 7)
    assert found.variance == pytest.approx(one * flat.second, rel=1e-14)
    assert found.effective_dim == pytest.approx(2 * 40 / (flat.kurtosis - 1), rel=1e-14)
    assert (found.declared_error, found.label) == (flat.error, "small-step")
    assert walk.walk(c, Signal(), 1).label == "exact"


def test_too_many_steps_with_memory_are_refused(monkeypatch):
    monkeypatch.setattr(walk, "MAX_RESPONSE_STEPS", 5)
    assert walk.response(config(momentum=0.5), 5).size == 5
    with pytest.raises(ConfigError, match="too many"):
        walk.response(config(momentum=0.5), 6)


# --- one step along a linear gradient ---


def c_of_n(n):
    return float(mpmath.sqrt(mpmath.mpf(2) / n) * mpmath.gamma(mpmath.mpf(n) / 2) / mpmath.gamma(mpmath.mpf(n - 1) / 2))


def test_progress_of_one_step():
    known = Signal(reliability=0.49, gradient_norm=1.3, member_std=0.9)
    expected = {
        "zscore": 0.3 * 0.7 * c_of_n(8),
        "centered-rank": 0.3 * 0.7 / (2 * math.sqrt(math.pi)),
        "raw": 0.3 * 1.3 * 7 / 8,
        "two-point": 0.3 * 1.3,
    }
    for kind, value in expected.items():
        assert signal.progress_per_step(config(kind), known) == pytest.approx(value, rel=1e-13)
        late = config(kind, momentum=0.25, anchor_l2=0.2, anchor_form="after")
        assert signal.progress_per_step(late, known) == pytest.approx(0.75 * 0.8 * value, rel=1e-13)
    assert signal.first_step_share(config(anchor_l2=0.2)) == 1


@pytest.mark.parametrize("even_share", [0.0, 0.7])
def test_progress_of_one_step_of_pairs(even_share):
    """alpha E sum O_i x_i / sqrt(sum of all): its even parts have one degree of freedom less."""
    known = Signal(reliability=0.49, even_share=even_share)
    kappa = 0.49 - even_share
    (x, wx), (y, wy) = chi_square_rule(4), chi_square_rule(3)
    odd, even = (1 + kappa) * x[:, None], (1 - kappa) * y[None, :]
    mean = wx @ (odd / np.sqrt(odd + even)) @ wy
    expected = 0.3 * 0.7 * 2 / ((1 + kappa) * math.sqrt(8)) * mean
    assert signal.progress_per_step(config("antithetic"), known) == pytest.approx(expected, rel=1e-4)
    moments = estimator_of(config("antithetic")).moments((1 + kappa) / 2)
    assert signal.progress_per_step(config("antithetic"), known) == pytest.approx(
        0.3 * 0.7 * moments.progress, rel=1e-7
    )


def test_laws_of_the_cosine_of_one_step():
    def fields(law):
        return law.signal, law.signal_df, law.noise, law.rest_df

    root = math.sqrt(0.3)
    assert fields(signal.gradient_cosine(config(), 0.3)) == pytest.approx((root, 7, math.sqrt(0.7), 39), rel=1e-14)
    assert fields(signal.gradient_cosine(config("raw"), 0.3)) == pytest.approx((root, 7, math.sqrt(0.7), 39), rel=1e-14)
    paired = math.sqrt(0.6 / (1 + 0.3 - 0.1))
    for kind, df in (("two-point", 8), ("antithetic", 4)):
        found = fields(signal.gradient_cosine(config(kind), 0.3, 0.1))
        assert found == pytest.approx((paired, df, math.sqrt(1 - paired**2), 39), rel=1e-14)
    assert fields(signal.gradient_cosine(config(dim=2), 1.0)) == (1, 7, 0, 1)
    ranked = signal.gradient_cosine(config("centered-rank"), 0.3)
    scale, df, noise, rest = fields(ranked)
    mean, variance = estimator_of(config("centered-rank")).own_projection(0.3)
    chi = stats.chi(df)
    assert (scale * chi.mean(), scale**2 * chi.var() + noise**2) == pytest.approx((mean, variance), rel=1e-12)
    assert (noise, rest) == (math.sqrt(0.7), 39)
    two = estimator_of(config("centered-rank", population=2)).projection(1.0)
    assert two == pytest.approx((1, 1, 0), rel=1e-12)  # |R_1 - R_2| / sqrt(2)
    many = (5_000_000, 50_000_000)  # by search and by its limit
    large = [estimator_of(config("centered-rank", population=n)).projection(1.0)[1] / n for n in many]
    assert large[0] == pytest.approx(large[1], rel=1e-6)


@pytest.mark.parametrize("kind", ["zscore", "raw", "two-point", "antithetic"])
def test_the_norm_of_one_step_has_the_moments_of_its_parts(kind):
    """||Delta||^2 = v V (A^2 + chi^2_rest), A = a chi_m + b Z, and V what its shaping makes of chi_m^2."""
    reliability, even_share = 0.3, 0.1
    known = Signal(reliability=reliability, even_share=even_share, member_std=0.9, gradient_norm=0.9 * 0.3**0.5 / 0.5)
    c, effective = config(kind), 25.0
    law = SquaredLaw(signal.step_norm(c, known, effective))
    v = estimator_of(c).variance(known)
    cosine = signal.gradient_cosine(c, reliability, even_share)
    a, m, b = cosine.signal, cosine.signal_df, cosine.noise
    (x, wx), (z, wz) = chi_square_rule(m, 40), normal_rule(40)
    y, wy = chi_square_rule(max(m - 1, 1), 40)
    if kind == "antithetic":
        odd = (1 + 0.2) * x[:, None]
        share = odd / (odd + (1 - 0.2) * y[None, :])
        share = share / (wx @ share @ wy)
    else:
        share = np.ones((x.size, y.size)) if kind == "zscore" else np.repeat(x[:, None] / m, y.size, axis=1)
    along = (a * np.sqrt(x)[:, None] + b * z[None, :]) ** 2  # A^2 by (chi_m^2, Z)
    second, fourth = along @ wz, along**2 @ wz
    first, square = wx @ share @ wy, wx @ share**2 @ wy
    one = wx @ (share * second[:, None]) @ wy
    two = wx @ (share**2 * second[:, None]) @ wy
    four = wx @ (share**2 * fourth[:, None]) @ wy
    rest = 39.0
    assert law.mean == pytest.approx(v.value * (one + rest * first), rel=2e-5)
    spread = 2 * rest * 40 / effective
    whole = v.value**2 * (four + 2 * rest * two + square * (rest**2 + spread))
    expected = whole if kind != "zscore" else whole + 0
    # the law's own spread of V stands for that of V here
    factor = (1 + 2 / law.root.df) * (1 + 2 / law.root.mixing_df)
    assert law.mean**2 * factor == pytest.approx(_joint(expected, kind, v, one, two, four, rest, spread), rel=2e-5)


def _joint(expected, kind, v, one, two, four, rest, spread):
    """The second moment as the law states it: moments of A under V^2, times E V^2."""
    if kind == "zscore":
        return expected
    square = 1 + 2 / v.mixing_df
    under = two / square
    fourth = four / square
    inside = (rest + one) ** 2 + spread + 2 * rest * (under - one) + fourth - one**2
    return v.value**2 * square * inside


def test_bounds_of_the_coherent_displacement():
    def bound(kind):
        return signal.coherent_displacement_bound(config(kind), 7.0)

    assert bound("zscore") == pytest.approx(0.3 * 7 * c_of_n(8), rel=1e-13)
    assert bound("centered-rank") == pytest.approx(0.3 * 7 / (2 * math.sqrt(math.pi)), rel=1e-13)
    half = math.sqrt(2 / 8) * math.sqrt(2) * math.gamma(2.5) / math.gamma(2)
    assert bound("antithetic") == pytest.approx(0.3 * 7 * half, rel=1e-13)
    assert bound("raw") is None
    assert bound("two-point") is None


def test_pairs_tell_signal_from_common_noise():
    """The difference of a pair has the signal twice and the noise of both members."""
    assert estimator_of(config("antithetic")).pair_correlation(0.5, 0.2) == pytest.approx(math.sqrt(1 / 1.3), rel=1e-14)
    with pytest.raises(ConfigError, match="paired"):
        estimator_of(config()).pair_correlation(0.5)


# --- the rule of a step on a quadratic, and its recursion ---


@pytest.mark.parametrize("kind", SHAPINGS)
def test_coefficients_of_a_step(kind):
    """Those of the sheet, from the definition of each shaping: p, flat, quadratic and signal at N = 8."""
    where = rows((2.0, 3, 0.4), (0.5, 10, 0.2))
    rule, square = recursion.step_rule(config(kind), where), 0.7
    found = rule.at(square)
    each, c = 0.09 / 8, rule.moments(square)
    unit = square / 0.25 if kind in ("raw", "two-point") else 1.0
    assert found.rate == pytest.approx(0.3 * c.progress * 0.5 * math.sqrt(unit / square), rel=1e-14)
    assert found.noise == pytest.approx(each * unit * c.flat, rel=1e-14)
    assert found.curvature == pytest.approx(each * unit * c.quadratic * 0.5**4 / square, rel=1e-14)
    assert found.slope == pytest.approx(each * unit * c.signal * 0.25 / square, rel=1e-14)
    assert found.extra == pytest.approx(found.slope - found.rate**2, rel=1e-14)
    assert rule.rate(square) == found.rate
    expected = {"zscore": c_of_n(8), "centered-rank": 0.5 / math.sqrt(math.pi), "raw": 7 / 8, "two-point": 1.0}
    if kind in expected:
        assert c.progress == pytest.approx(expected[kind], rel=1e-13)
    else:  # the even part of a pair: all of the curvature's, and half of the noise
        even = 0.5 * 0.5**4 * where.square_trace + 0.02
        assert rule.odd_share(square) == pytest.approx(1 - even / square, rel=1e-14)
        assert recursion.step_rule(config(kind)).odd_share(square) == 0.5


@pytest.mark.parametrize("kind", SHAPINGS)
def test_derivatives_of_the_coefficients(kind):
    where = rows((2.0, 3, 0.4), (0.5, 10, 0.2))
    for rule in (recursion.step_rule(config(kind), where), recursion.step_rule(config(kind))):
        h = 1e-5
        high, low, slope = rule.at(0.7 + h), rule.at(0.7 - h), rule.derivative(0.7)
        for name in ("rate", "noise", "curvature", "slope"):
            numeric = (getattr(high, name) - getattr(low, name)) / (2 * h)
            assert getattr(slope, name) == pytest.approx(numeric, rel=1e-6, abs=1e-11)


@pytest.mark.parametrize("kind", SHAPINGS)
@pytest.mark.parametrize("changes", [{}, *MEMORY])
def test_the_recursion_is_that_of_its_moment_matrix(kind, changes):
    """Mean and covariance of (distance, velocity) of each direction by matrices, under the same spread V."""
    where, c = rows((2.0, 3, 0.4), (0.5, 10, 0.2), (0.0, 5, 0.1)), config(kind, **changes)
    rule, lam, start = recursion.step_rule(c, where), where.eigenvalue, where.offset
    keep, beta = 1 - c.anchor_l2, c.momentum
    fresh = keep if c.anchor_form == "after" else 1.0
    means = [np.array([d, 0.0]) for d in start]
    covariances = [np.zeros((2, 2)) for _ in start]
    constant = 0.02 if kind == "two-point" else 0.5 * 0.5**4 * where.square_trace + 0.04
    for state in recursion.states(c, where):
        square = np.array([m[0] ** 2 + s[0, 0] for m, s in zip(means, covariances, strict=True)])
        v = constant + 0.25 * float(where.multiplicity @ (lam**2 * square))
        assert state.member_square == pytest.approx(v, rel=1e-12)
        assert state.square == pytest.approx(square, rel=1e-12)
        assert state.mean == pytest.approx([m[0] for m in means], rel=1e-12)
        assert state.variance == pytest.approx([s[0, 0] for s in covariances], rel=1e-12)
        if beta:
            assert state.velocity == pytest.approx([m[1] for m in means], rel=1e-12)
            assert state.velocity_variance == pytest.approx([s[1, 1] for s in covariances], rel=1e-12)
            assert state.covariance == pytest.approx([s[0, 1] for s in covariances], rel=1e-11)
        if state.step == 5:
            break
        step = rule.at(v)
        for k in range(lam.size):
            pull = (1 - beta) * step.rate * lam[k]
            matrix = np.array([[keep - fresh * pull, fresh * beta], [-pull, beta]])
            noise = step.noise + lam[k] ** 2 * (step.curvature + (step.slope - step.rate**2) * square[k])
            entry = (1 - beta) * np.array([fresh, 1.0])
            means[k] = matrix @ means[k] + np.array([(1 - keep) * start[k], 0.0])
            covariances[k] = matrix @ covariances[k] @ matrix.T + noise * np.outer(entry, entry)
    assert long_runs.state_after(c, where, 5).square == pytest.approx(square, rel=1e-12)


def test_an_l1_anchor_enters_the_recursion_through_its_closure():
    from estheory.theory.anchor_l1 import pulled_after, pulled_before

    where = rows((2.0, 3, 0.4), (0.5, 10, 0.2))
    for form, closure in (("before", pulled_before), ("after", pulled_after)):
        c = config(anchor_l1=0.01, anchor_form=form)
        first, second = (long_runs.state_after(c, where, t) for t in (1, 2))
        step = recursion.step_rule(c, where).at(first.member_square)
        noise = step.noise + where.eigenvalue**2 * (step.curvature + step.extra * first.square)
        mean, variance = closure(
            first.mean,
            first.variance,
            where.offset,
            pull=0.01,
            contraction=1 - step.rate * where.eigenvalue,
            noise=noise,
        )
        assert second.mean == pytest.approx(mean, rel=1e-14)
        assert second.variance == pytest.approx(variance, rel=1e-14)


def test_a_flat_row_takes_the_directions_that_are_left():
    wider = recursion.with_flat_row(rows((2.0, 3, 0.4), (0.5, 10, 0.2)))
    assert wider.eigenvalue.tolist() == [2.0, 0.5, 0.0]
    assert wider.multiplicity.tolist() == [3, 10, 27]
    assert wider.offset.tolist() == [0.4, 0.2, 0.0]


# --- the mean curve ---


def test_the_mean_curve_is_the_recursion_s():
    where, c = rows((2.0, 3, 0.4), (0.5, 10, 0.2)), config(steps=6)
    curve = dynamics.mean_field(c, where)
    assert curve.reward.size == curve.member_std.size == 7
    for step in (0, 1, 6):
        state = long_runs.state_after(c, where, step)
        assert curve.at(step) == pytest.approx(-0.5 * (3 * 2 * state.square[0] + 10 * 0.5 * state.square[1]), rel=1e-14)
        assert curve.member_std[step] == pytest.approx(math.sqrt(state.member_square), rel=1e-14)
    assert dynamics.mean_field(c, where, 2).reward == pytest.approx(curve.reward[:3], rel=1e-14)
    assert dynamics.mean_field(c, where, 0).reward.size == 1
    labels = {kind: dynamics.mean_field(config(kind), where, 1).label for kind in SHAPINGS}
    assert {kind for kind, label in labels.items() if label == "exact"} == {"raw", "two-point"}
    assert dynamics.mean_field(config("raw", anchor_l1=0.01), where, 1).label == "mean-field"


def curve_of(*rewards, diverged_at=None):
    values = np.array(rewards, dtype=float)
    return dynamics.Trajectory(
        reward=values, member_std=np.ones_like(values), diverged_at=diverged_at, label="mean-field"
    )


def test_peaks_plateaus_and_times_of_a_curve():
    assert curve_of(-3, -1, -2).peak == (1, -1)
    assert curve_of(-3, -2, -1).peak is None
    assert curve_of(-3, -1, -1 - 1e-12).peak is None  # a plateau, up to rounding
    assert curve_of(-3, -1, -1 - 1e-8).peak == (1, -1)
    assert curve_of(-3, -2, -1, -2).time_to(-2) == 1
    assert curve_of(-3, -2, -1, -2).time_to(-3) == 0
    assert curve_of(-3, -2).time_to(-1) is None
    cut = curve_of(-3, -2, diverged_at=2)
    assert cut.at(1) == -2
    with pytest.raises(ConfigError, match="diverges at step 2"):
        cut.at(2)
    with pytest.raises(ConfigError, match="beyond the 1"):
        curve_of(-3, -2).at(2)


@pytest.mark.parametrize("changes", [{}, {"anchor_l2": 0.1}, {"anchor_l2": 0.1, "anchor_form": "after"}])
@pytest.mark.parametrize("eigenvalue", [0.0, 0.3, 2.0, 4.0])
def test_a_direction_at_constant_spread_adds_up_its_steps(changes, eigenvalue):
    c = config(sigma=0.5, alpha=0.6, **changes)
    kappa = c.anchor_l2
    fresh = 1 - kappa if c.anchor_form == "after" else 1.0
    rate = 0.6 * c_of_n(8) * 0.5 / 0.8
    keep = 1 - kappa - fresh * rate * eigenvalue
    assert abs(keep) < 1 or keep == 1
    variance = 0.0
    for step in range(1, 8):
        variance = keep**2 * variance + fresh**2 * 0.36 / 8
        assert dynamics.coordinate_variance(c, eigenvalue, 0.8, step) == pytest.approx(variance, rel=1e-11)
    gone = kappa + fresh * rate * eigenvalue
    expected = 1 / gone if gone else math.inf
    assert dynamics.relaxation_time(c, eigenvalue, 0.8) == pytest.approx(expected, rel=1e-13)


def test_a_direction_whose_step_overshoots_twice_diverges():
    c = config(sigma=1.0, alpha=1.0)
    rate = recursion.step_rule(c).rate(1.0)
    assert math.isfinite(dynamics.coordinate_variance(c, 1.999999 / rate, 1.0, 9))
    assert dynamics.coordinate_variance(c, 1 / rate, 1.0, 9) == pytest.approx(1 / 8, rel=1e-12)  # forgets all
    with pytest.raises(ConfigError, match=">= 2"):
        dynamics.coordinate_variance(c, 2 / rate, 1.0, 9)
    for changes in ({"momentum": 0.5}, {"anchor_l1": 0.1}):
        with pytest.raises(ConfigError, match="no closed form"):
            dynamics.coordinate_variance(config(**changes), 0.1, 1.0, 2)


# --- one step on a quadratic ---


def pair_expectations(c, where):
    """Exact E Delta_k / alpha and N E Delta_k^2 / alpha^2 of antithetic z-scores in two directions, by quadrature.

    With O and E the odd and even part of a pair's rewards, Delta = alpha sum O eps / sqrt(n W) over the n pairs,
    W = sum O^2 + sum (E - mean E)^2. Powers of 1/W are integrals of exp(-s W) over s, and exp(s (sum E)^2 / n) is the
    mean of exp(u sqrt(2 s/n) sum E) over a normal u: pairs then factorise. Noise is integrated in closed form.
    """
    n, sigma, noise = c.population // 2, c.sigma, where.reward_std**2 / 2
    x, wx = normal_rule(48)
    weight = np.outer(wx, wx)
    eps = np.meshgrid(x, x, indexing="ij")
    lam, g = where.eigenvalue, where.gradient
    odd = sigma * (g[0] * eps[0] + g[1] * eps[1])
    even = -0.5 * sigma**2 * (lam[0] * (eps[0] ** 2 - 1) + lam[1] * (eps[1] ** 2 - 1))
    u, wu = normal_rule(24)
    width = 0.5
    scale = n * float(where.member_std(sigma)) ** 2
    first, second = np.zeros(2), np.zeros(2)
    for s in np.exp(np.arange(-40.0, 6.0, width)) / scale:
        damp = 1 + 2 * s * noise
        mean_odd, square_odd = odd / damp, noise / damp + (odd / damp) ** 2
        base = weight * np.exp(-s * odd**2 / damp) / damp
        for node, mass in zip(u, wu, strict=True):
            tilt = node * math.sqrt(2 * s / n)
            p = base * np.exp((-s * even**2 + tilt * even + tilt**2 * noise / 2) / damp)
            phi = float(p.sum())
            power = mass * width * s * phi ** (n - 2)
            for k in (0, 1):
                cross, square = float((p * mean_odd * eps[k]).sum()), float((p * square_odd * eps[k] ** 2).sum())
                first[k] += power * phi * n * cross / math.sqrt(s * math.pi * n)
                second[k] += power * 2 * (n * square * phi + n * (n - 1) * cross**2)
    return first, second


def first_order(found):
    """The coefficient of 1/N in values at N = 64, 128 and 256, by extrapolation of N times them: error O(1/N^3)."""
    one, two, three = (n * found[n] for n in (64, 128, 256))
    return (8 * three - 6 * two + one) / 3


def test_pairs_on_a_quadratic_are_right_to_the_first_order_in_one_over_n():
    """The expansion leaves nothing of order 1/N, beside which each of its terms of that order is large."""
    where = rows((1.6, 1, 0.5), (0.8, 1, 0.0), reward_std=0.25, dim=10**6)
    left, terms = {}, {}
    for n in (64, 128, 256):
        c = config("antithetic", sigma=0.4, population=n, dim=10**6)
        first, second = pair_expectations(c, where)
        moments = quadratic.step_moments(c, where)
        progress = moments.displacement[0] / 0.3 / first[0] - 1
        left[n] = np.array([progress, *(n * moments.second_moment / 0.09 / second - 1)])
        x, rho2 = moments.quadratic_share, moments.correlation**2
        even, mixed, crossed = np.sum(x**2), np.sum(rho2 * x), np.sqrt(x[1]) * np.sum(rho2 * np.sqrt(x))
        kappa = 2 * recursion.step_rule(c, where).odd_share(moments.member_std**2) - 1
        terms[n] = np.array(
            [
                *(2.25 * even / n, 3 * mixed / n, 2 * x[0] / n),  # of the progress
                *(rho2[0] * 6 * even / second[0], rho2[0] * 8 * mixed / second[0], 8 * rho2[0] * x[0] / second[0]),
                *(
                    v / n / second[1]
                    for v in ((1 + kappa) * 6 * even, (1 + kappa) * 4 * x[1], 8 * kappa * mixed, 8 * crossed)
                ),
            ]
        )
    # the extrapolation's own error is of order 1/N^3 of the terms left out, a few per cent of what it must show
    assert np.all(np.abs(first_order(left)) < 0.1 * np.min(first_order(terms)))


def cross_derivative(population):
    """The derivative by a and b of N times the mean square of a z-scored step along e, at a = b = 0.

    Rewards are r + a e^2 + b r^2, with r and e of independent normals; that square is A^2 / B with A = e.PR, B = |PR|^2
    and P the centring. It is 0 in the mean of r and does not depend on |Pr|: what is left of r is a direction of N - 1
    dimensions, averaged exactly on a circle or sphere, and e by Gauss quadrature.
    """
    n = population
    centring = np.eye(n) - 1 / n
    angles = 2 * math.pi * np.arange(12) / 12
    heights, masses = np.polynomial.legendre.leggauss(8) if n == 4 else (np.zeros(1), np.ones(1))
    x, wx = normal_rule(5)
    e = np.stack(np.meshgrid(*[x] * n), axis=-1).reshape(-1, n)
    weight = np.prod(np.stack(np.meshgrid(*[wx] * n), axis=-1).reshape(-1, n), axis=-1)
    basis = np.linalg.svd(centring)[0][:, : n - 1]
    total = 0.0
    for height, mass in zip(heights, masses / masses.sum(), strict=True):
        for angle in angles:
            flat = math.sqrt(1 - height**2)
            u = basis @ np.array([flat * math.cos(angle), flat * math.sin(angle), height][: n - 1])
            v, w = e**2 @ centring, centring @ u**2
            a, a_a, a_b = e @ u, np.sum(e * v, axis=1), e @ w
            b_a, b_b, b_ab = 2 * v @ u, 2 * u @ w, 2 * v @ w
            both = 2 * a_a * a_b - 2 * a * (a_a * b_b + a_b * b_a) - a**2 * b_ab + 2 * a**2 * b_a * b_b
            total += mass / angles.size * float(weight @ both)
    return total


@pytest.mark.parametrize("population", [3, 4])
def test_curvature_along_the_gradient_lowers_the_noise_of_z_scores_across(population):
    n = population
    found = cross_derivative(n)
    assert found == pytest.approx(-24 * (n - 1) * (n - 2) / (n * (n + 1) * (n + 3)), rel=1e-12)
    c = config(sigma=1.0, alpha=1.0, population=n)
    curved, flat = (rows((1e-4, 1, 0.0), (lam, 1, 1 / lam), reward_std=1.0) for lam in (1e-4, 1e-12))
    moments = quadratic.step_moments(c, curved)
    term = n * (moments.second_moment[0] - quadratic.step_moments(c, flat).second_moment[0])
    x, rho = moments.quadratic_share, moments.correlation
    assert term == pytest.approx(found * math.sqrt(x[0] * x[1]) / 2 * rho[1] ** 2 / 2, rel=1e-6, abs=0)


@pytest.mark.parametrize(
    ("population", "mean", "variance"),
    [
        (2, math.sqrt(2 / math.pi), 1 - 2 / math.pi),  # the larger of two: half the distance of two normals
        (3, 3 / math.sqrt(2 * math.pi), (2 + 3 * math.sqrt(3) / math.pi - 9 / math.pi) / 2),  # the range of three
    ],
)
def test_ranks_of_two_and_three_members_on_a_pure_signal(population, mean, variance):
    """At rho = 1 the second moment of a step is that of the ranks' overlap with their own normals."""
    c = estimator_of(config("centered-rank", population=population)).moments()
    ranks = np.arange(population) / (population - 1) - 0.5
    flat = float(ranks @ ranks) / population
    assert c.flat == pytest.approx(flat, rel=1e-13)
    assert c.flat + c.signal == pytest.approx(flat * (mean**2 + variance), rel=1e-12)
    assert c.progress == pytest.approx(mean * math.sqrt(flat / population), rel=1e-12)


@pytest.mark.parametrize("kind", ["raw", "two-point"])
def test_a_step_that_scales_with_its_rewards_fluctuates_with_their_variance(kind):
    """Given the rewards both the noise and the progress of a step are in proportion to their sample variance."""
    c = estimator_of(config(kind)).moments()
    df = estimator_of(config(kind)).variance(Signal(member_std=0.9, gradient_norm=0.7)).mixing_df
    assert df == (7 if kind == "raw" else 8)
    assert c.spread == pytest.approx(2 / df, rel=1e-14)
    assert c.tilt == c.spread
    for other in ("zscore", "centered-rank"):
        plain = estimator_of(config(other)).moments()
        assert (plain.spread, plain.tilt) == (0, 0)


def test_pairs_fluctuate_to_leading_order_with_the_share_of_their_odd_part():
    """V = 2 w X / (w X + (1-w) Y): its relative variance and its covariance with X / sqrt(w X + (1-w) Y), times N."""
    for w in (0.3, 0.7):
        n = 4000
        (x, wx), (y, wy) = _special.chi_nodes(n / 2), _special.chi_nodes(n / 2 - 1)
        x, y = x**2, y**2
        total = w * x[:, None] + (1 - w) * y[None, :]
        noise, progress = x[:, None] / total, x[:, None] / np.sqrt(total)
        noise, progress = (v / (wx @ v @ wy) - 1 for v in (noise, progress))
        c = estimator_of(config("antithetic", population=n)).moments(w)
        assert c.spread == pytest.approx(wx @ noise**2 @ wy, rel=10 / n)
        assert c.tilt == pytest.approx(wx @ (noise * progress) @ wy, rel=10 / n)


@pytest.mark.parametrize("population", [2, 3, 8])
def test_the_curvature_s_part_of_a_step_of_ranks(population):
    """To first order in x, E[h(v)(v^2 - 1)] with h(v) = E[u^2] of a member whose reward is v: ranks are binomial."""
    v, mass = normal_rule(80)
    below = np.array([_special.normal_cdf(float(node)) for node in v])
    h = below * (1 - below) / (population - 1) + (below - 0.5) ** 2
    c = estimator_of(config("centered-rank", population=population)).moments()
    assert c.quadratic == pytest.approx(float(mass @ (h * (v**2 - 1))), rel=1e-6, abs=1e-12)
    assert c.flat == pytest.approx(float(mass @ h), rel=1e-6)


def test_the_curvature_s_part_of_a_step_of_two_z_scores_is_nothing():
    """Their z-scores are +-1 whatever the rewards are."""
    assert estimator_of(config(population=2)).moments().quadratic == 0
    assert estimator_of(config(population=2)).moments().signal == 0
    two = estimator_of(config("raw", population=2)).moments()
    assert two.quadratic == 2 * 0.25
