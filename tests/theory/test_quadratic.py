"""One step on a quadratic against brute force in every coordinate, with dropped terms that must fail."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory import signal
from estheory.theory.curved import step as theory
from estheory.theory.curved.ranges import step_range
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.zscores import mean_population_std
from tests.statistics import agrees
from tests.theory.quadratic_es import config, landscape, steps_from_start, within
from tests.variants import variants

TOLERANCE = 0.05  # what step_range promises of the expansions

LANDSCAPES = {
    "mixed": (landscape((4, 1, 0.3), (1, 5, 0.5), reward_std=0.35), 0.3),
    "noisy, one direction": (landscape((3, 1, 0.5), reward_std=2.5), 0.7),
    "sharp": (landscape((10, 1, 0.05), (1, 19, 0.5), reward_std=2.7), 0.4),
}


def rows_of(updates, where):
    """Split updates (replicas, r) by row, each averaged over the row's directions."""
    edges = np.cumsum(where.multiplicity.astype(int))[:-1]
    return np.split(updates, edges, axis=1)


@pytest.mark.parametrize("name", LANDSCAPES)
@pytest.mark.parametrize("shaping", ["zscore", "centered-rank", "raw"])
def test_moments_of_one_step(name, shaping):
    where, sigma = LANDSCAPES[name]
    c = config(sigma=sigma, alpha=0.3, population=30, shaping=shaping)
    moments = theory.step_moments(c, where)
    assert not step_range(c, where)
    exact = shaping == "raw"
    updates = rows_of(steps_from_start(1, c, where, 30_000), where)
    for k, update in enumerate(updates):
        first, second = update.mean(axis=1), (update**2).mean(axis=1)
        expected, expected_square = moments.displacement[k], moments.second_moment[k]
        if exact or shaping == "centered-rank":
            assert agrees(first, expected)
        assert within(first, expected, TOLERANCE)
        assert within(second, expected_square, 0 if exact else TOLERANCE)
        assert not within(second, 2 * expected_square, TOLERANCE)
        if exact and update.shape[1] > 1:
            assert not agrees(first, expected * 30 / 29)


def test_raw_moments_are_exact_at_small_populations():
    where = landscape((3, 2, 0.5), (1, 10, 0.2), reward_std=0.1)
    c = config(sigma=0.5, alpha=0.3, population=3, shaping="raw")
    moments = theory.step_moments(c, where)
    assert moments.label == "exact"
    update = steps_from_start(3, c, where, 300_000, batch=50_000)[:, :2]
    assert agrees(update.mean(1), moments.displacement[0])
    assert not agrees(update.mean(1), moments.displacement[0] * 3 / 2)
    square = (update**2).mean(1)
    assert agrees(square, moments.second_moment[0])
    x, rho = moments.quadratic_share[0], moments.correlation[0]
    unit = (0.3 * moments.member_std / 0.5) ** 2 / 3
    assert not agrees(square, moments.second_moment[0] - unit * 2 * (2 / 3) ** 2 * x)  # the x term dropped
    assert not agrees(square, unit * (2 / 3) ** 2 * (1.5 + 2 * x + 5 * rho**2))  # a term of the covariance dropped


def test_rank_displacement_is_exact_where_rewards_are_far_from_gaussian():
    """One sharp noiseless direction: the normal formula rho / (2 sqrt(pi)) is off by 10 %, the integral is not."""
    where = landscape((3, 1, 0.5))
    for population in (3, 12):
        c = config(sigma=0.5, alpha=0.3, population=population, shaping="centered-rank")
        moments = theory.step_moments(c, where)
        update = steps_from_start(4, c, where, 600_000 // population, batch=50_000)[:, 0]
        assert agrees(update, moments.displacement[0])
        assert not agrees(update, 0.3 * moments.correlation[0] / (2 * math.sqrt(math.pi)))
    noisy = theory.step_moments(c, landscape((3, 1, 0.5), reward_std=30.0))
    assert noisy.displacement[0] == pytest.approx(
        0.3 * noisy.correlation[0] / (2 * math.sqrt(math.pi)), rel=1e-3
    )  # Gaussian rewards


@pytest.mark.parametrize("population", [6, 10])
def test_quadratic_share_coefficient_is_exact_to_first_order(population):
    """N E[Delta^2]/alpha^2 = 1 + 2 x (N-1)(N-2)/(N(N+1)): second difference in the curvature, common random numbers.

    The factor (N-1)/N is not in the project's formula sheet, whose 2 x (N-2)/(N+1) must fail.
    """
    rng = np.random.default_rng(5)

    def second_moment(a, noise, eps):  # reward: unit noise plus a (eps^2 - 1), x = 4 a^2
        rewards = noise + a * (eps**2 - 1)
        z = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
        return np.mean(z * eps, axis=1) ** 2 * population

    a, slopes = 0.02, []
    for _ in range(6):
        draws = rng.standard_normal((2, 1_200_000 // population, population))
        change = second_moment(a, *draws) + second_moment(-a, *draws) - 2 * second_moment(0.0, *draws)
        slopes.append(change / (2 * 4 * a * a))
    slope = np.concatenate(slopes)
    c = estimator_of(config(sigma=1.0, population=population)).moments()
    assert within(slope, c.quadratic, 24 * 4 * a * a / population)  # second order in x: 24 x^2 / N
    assert not within(slope, 2 * (population - 2) / (population + 1), 24 * 4 * a * a / population)


@pytest.mark.parametrize("population", variants([6, 12], fast={6}))
def test_curvature_along_the_gradient_lowers_the_noise_across(population):
    """The term -6 (N-1)(N-2)/(N(N+1)(N+3)) sqrt(x_k) sum rho_j^2 sqrt(x_j): cross difference, common random numbers."""
    rng, n, step = np.random.default_rng(8), population, 0.02

    def second_moment(a, b, r, eps):
        rewards = r + a * (eps**2 - 1) + b * (r**2 - 1)
        z = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
        return np.mean(z * eps, axis=1) ** 2 * n

    def cross(h, r, eps):
        corners = ((sa * sb, second_moment(sa * h, sb * h, r, eps)) for sa in (1, -1) for sb in (1, -1))
        return sum(sign * value for sign, value in corners) / (4 * h * h)

    found = []
    for _ in range(8):
        draws = rng.standard_normal((2, 1_200_000 // n, n))
        found.append((4 * cross(step, *draws) - cross(2 * step, *draws)) / 3)  # what is left is of fourth order
    slope = np.concatenate(found)  # per ab; a = -sqrt(x_k)/2, b = -rho^2 sqrt(x_j)/2
    flat, curved = (landscape((1e-4, 1, 0.0), (lam, 1, 1 / lam), reward_std=1.0) for lam in (1e-9, 1e-4))
    run = config(sigma=1.0, alpha=1.0, population=n)
    moments = theory.step_moments(run, curved)
    term = n * (moments.second_moment[0] - theory.step_moments(run, flat).second_moment[0])
    x, rho = moments.quadratic_share, moments.correlation
    coefficient = 4 * term / (math.sqrt(x[0] * x[1]) * rho[1] ** 2)
    assert within(slope, coefficient, 0)
    assert not within(slope, 0.0, 0)
    assert not within(slope, -24 / n, 0)  # the large-N form


def test_quadratic_share_coefficient_of_ranks():
    """To first order in x: (N-2)/(N-1) x / (2 pi sqrt(3)) above the flat variance; the same draws with and without."""
    rng, n, a = np.random.default_rng(6), 10, 0.1
    noise, eps = rng.standard_normal((2, 300_000, n))

    def second_moment(rewards):
        return np.sum((rewards.argsort(1).argsort(1) / (n - 1) - 0.5) * eps, axis=1) ** 2 / n

    rewards = math.sqrt(1 - 2 * a * a) * noise
    change = second_moment(rewards + a * (eps**2 - 1)) - second_moment(rewards)
    share = estimator_of(config(sigma=1.0, population=n, shaping="centered-rank")).moments().quadratic
    assert within(change / (4 * a * a), share, 0.15)  # x = 0.04: second order
    assert not within(change / (4 * a * a), share / 2, 0.15)
    assert not within(change / (4 * a * a), 2 * share, 0.15)


def test_skewed_rewards_keep_the_ranks_of_large_perturbations_small():
    """Twenty curved directions: the noise of each to 1 %, its gain to 5 %; without the skewness 5 % and 25 % off."""
    rng, n, sigma, alpha = np.random.default_rng(12), 16, 0.1042, 0.2083
    rows = [[7.2754, 1, 0.1], [0.19794, 1, 0.05], [5.718, 20, 0.0]]
    eigenvalue, multiplicity, offset = (np.array(column) for column in zip(*rows, strict=True))
    ground = Landscape(dim=27, eigenvalue=eigenvalue, multiplicity=multiplicity, offset=offset, reward_std=0.02457)
    run = ESConfig(dim=27, sigma=sigma, alpha=alpha, population=n, shaping="centered-rank")
    lam, start = np.repeat(eigenvalue, multiplicity), np.repeat(offset, multiplicity)
    eps = rng.standard_normal((60_000, n, lam.size))
    rewards = -0.5 * (sigma * eps - start) ** 2 @ lam + 0.02457 * rng.standard_normal(eps.shape[:2])
    step = alpha / n * np.einsum("rn,rnk->rk", rewards.argsort(1).argsort(1) / (n - 1) - 0.5, eps)
    moments = theory.step_moments(run, ground)
    noise = np.mean(step[:, 2:] ** 2, axis=1)
    assert within(noise, moments.second_moment[2], 0.01)
    skewed = alpha**2 / n * (n - 2) / (n - 1) * 0.3675526 / 12 * math.sqrt(moments.quadratic_share[2])
    skewness = 20 * moments.quadratic_share[2] ** 1.5  # of the many directions alone
    assert not within(noise, moments.second_moment[2] + skewed * skewness, 0.01)
    gain = 0.5 * start**2 @ lam - 0.5 * (step - start) ** 2 @ lam
    assert within(gain, theory.expected_gain(run, ground), 0.05)
    lost = 0.5 * float(multiplicity[2] * eigenvalue[2]) * skewed * skewness
    assert not within(gain, theory.expected_gain(run, ground) - lost, 0.05)


def test_finite_population_corrections_of_the_displacement():
    """c - 3 x/N + 3 X/(8N): each term on its own, and the result without it."""
    rng, n = np.random.default_rng(7), 60
    c = mean_population_std(n)
    # a direction without curvature, in a reward of two quadratic ones (X = 6): E Delta = alpha rho S (N-2)/N E[1/std]
    where = landscape((1, 2, 0.0), (1e-9, 1, 1e6))
    moments = theory.step_moments(config(sigma=1.0, alpha=1.0, population=n), where)
    full = moments.displacement[1] / moments.correlation[1]
    assert moments.excess_kurtosis == pytest.approx(6, rel=1e-4)
    rewards = (rng.standard_normal((40_000, n, 2)) ** 2).sum(axis=2) / 2  # S = 1
    overlap = (n - 2) / n / rewards.std(axis=1)
    assert within(overlap, full, (6 / n) ** 2)
    assert not within(overlap, c, (6 / n) ** 2)
    # a curved direction with little signal: the slope of E[z eps] in rho, by the same draws at +-b
    n, x, b = 30, 0.3, 0.05
    noise, eps = rng.standard_normal((2, 60_000, n))
    even = math.sqrt(1 - x / 2) * noise - 0.5 * math.sqrt(x) * (eps**2 - 1)

    def overlap_at(slope):
        rewards = even + slope * eps
        z = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
        return np.mean(z * eps, axis=1)

    slopes = (overlap_at(b) - overlap_at(-b)) / (2 * b / math.sqrt(1 + b * b))
    where = landscape((math.sqrt(x), 1, 1e-6), reward_std=math.sqrt(1 - x / 2))
    moments = theory.step_moments(config(sigma=1.0, alpha=1.0, population=n), where)
    assert moments.quadratic_share[0] == pytest.approx(x)
    full = moments.displacement[0] / moments.correlation[0]
    assert within(slopes, full, 0.2 * 3 * x / n)
    assert not within(slopes, full + 3 * x / n, 0.2 * 3 * x / n)


@pytest.mark.parametrize("population", [30, 200])
def test_expected_gain(population):
    where = landscape((2, 3, 0.5), (0.5, 20, 0.4), reward_std=0.6)
    c = config(sigma=0.4, alpha=1.2 * population / 200, population=population)
    expected = theory.expected_gain(c, where)
    update = steps_from_start(6, c, where, 600_000 // population, batch=2_000)
    lam, offset = (np.repeat(v, [3, 20]) for v in (where.eigenvalue, where.offset))
    gain = update @ (lam * offset) - 0.5 * update**2 @ lam
    assert within(gain, expected, 1 / population)
    moments = theory.step_moments(c, where)
    without_noise = where.multiplicity @ (where.gradient * moments.displacement)
    assert not within(gain, without_noise, 1 / population)
    assert not within(gain, expected * population / (population - 3), 1 / population)


def test_quadratic_share_matters_for_the_gain():
    """One sharp direction near its optimum: dropping the x term errs by tens of percent (the sheet: 43 %)."""
    where = landscape((6, 1, 0.0), (1, 19, 0.3), reward_std=0.4)
    c = config(sigma=1.0, alpha=1.0, population=64)
    moments = theory.step_moments(c, where)
    assert 1.0 < moments.quadratic_share[0] < 1.6
    update = steps_from_start(7, c, where, 20_000, batch=2_000)
    lam = np.repeat(where.eigenvalue, [1, 19])
    cost = 0.5 * update**2 @ lam
    expected = 0.5 * where.multiplicity @ (where.eigenvalue * moments.second_moment)
    share = 0.5 * c.step_size**2 / 64 * where.multiplicity @ (where.eigenvalue * 2 * moments.quadratic_share)
    assert within(cost, expected, 2 * TOLERANCE)  # x beyond 0.5: twice the promise
    assert not within(cost, expected - share, 2 * TOLERANCE)
    assert share / expected > 0.3
    assert step_range(c, where)  # and the user is told


def test_optimal_alpha_and_critical_population():
    where = landscape((2, 3, 0.5), (0.5, 40, 0.4), reward_std=0.5)
    c = config(sigma=0.2, alpha=0.1, population=4000)
    best = theory.optimal_alpha(c, where)
    gains = [theory.expected_gain(config(sigma=0.2, alpha=f * best, population=4000), where) for f in (0.99, 1, 1.01)]
    assert max(gains) == gains[1]
    big_s, gg, along = where.member_std(0.2), where.gradient_norm**2, where.gradient_curvature
    a = theory.noise_curvature(c, where)
    leading = 4000 * mean_population_std(4000) * 0.2 * gg / big_s / (a + 3998 * 0.04 * along / big_s**2)
    assert best == pytest.approx(leading, rel=1e-3)
    # half of the limiting gain at N_crit: c^2 N / (N - 2 + N_crit), c^2 ~ 1
    critical = theory.critical_population(c, where)
    limit = gg**2 / (2 * along)
    n = round(critical)
    at_critical = config(sigma=0.2, alpha=0.1, population=n)
    at_critical = config(sigma=0.2, alpha=theory.optimal_alpha(at_critical, where), population=n)
    share = mean_population_std(n) ** 2 * n / (n - 2 + critical)
    assert theory.expected_gain(at_critical, where) / limit == pytest.approx(share, rel=2 / n)
    update = steps_from_start(8, at_critical, where, 1_500_000 // n, batch=4_000)
    lam, offset = (np.repeat(v, [3, 40]) for v in (where.eigenvalue, where.offset))
    gain = (update @ (lam * offset) - 0.5 * update**2 @ lam) / limit
    assert within(gain, share, 2 / n)
    assert not within(gain, share * (n - 2 + critical) / (n - 2 + 2 * critical), 2 / n)  # tr Lam twice too large


def test_critical_population_of_a_noiseless_flat_reward_is_an_effective_dimension():
    where = landscape((4, 2, 1.0), (1, 50, 1.0))
    c = config(sigma=1e-4, population=30)
    effective = where.trace * where.gradient_norm**2 / where.gradient_curvature
    assert theory.critical_population(c, where) == pytest.approx(effective, rel=1e-5)


def test_smoothing_gap():
    where, sigma = LANDSCAPES["mixed"]
    rng = np.random.default_rng(9)
    lam, offset = (np.repeat(v, [1, 5]) for v in (where.eigenvalue, where.offset))
    rewards = -0.5 * (offset + sigma * rng.standard_normal((200_000, 6))) ** 2 @ lam + where.gap
    assert agrees(-rewards, theory.smoothing_gap(sigma, where))
    assert not agrees(-rewards, theory.smoothing_gap(sigma, where) * sigma)


def test_shared_seed_progress():
    """Three tensors share their noise; the gradient lies in two of them."""
    rng = np.random.default_rng(10)
    c, replicas = config(sigma=0.5, alpha=0.3, population=8), 60_000
    shared = np.tile(rng.standard_normal((replicas, 8, 4)), 3)
    own = rng.standard_normal((replicas, 8, 3))
    eps = np.concatenate([shared, own], axis=2)
    g = np.array([1.0, -0.5, 0, 0.2, 0.7, 0, 0.3, 0, 0, 0, 0, 0, 0.4, 0, 0])
    covariance = np.zeros((15, 15))
    for i in range(4):
        covariance[np.ix_([i, i + 4, i + 8], [i, i + 4, i + 8])] = 1
    covariance[12:, 12:] = np.eye(3)
    rewards = 0.5 * eps @ g + 0.8 * rng.standard_normal((replicas, 8))
    z = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
    progress = 0.3 / 8 * np.einsum("rn,rnd,d->r", z, eps, g / np.linalg.norm(g))
    ratio = g @ covariance @ g / (g @ g)
    norm = float(np.linalg.norm(g))
    expected = theory.shared_seed_progress(c, gradient_norm=norm, covariance_ratio=ratio, other_std=0.8)
    assert agrees(progress, expected)
    independent = theory.shared_seed_progress(c, gradient_norm=norm, covariance_ratio=1.0, other_std=0.8)
    assert not agrees(progress, independent)
    assert not agrees(progress, expected / math.sqrt(ratio))


@given(
    population=h.integers(3, 500),
    noise=h.floats(0.1, 10),
    shaping=h.sampled_from(["zscore", "centered-rank", "raw"]),
)
def test_vanishing_curvature_recovers_linear_theory(population, noise, shaping):
    """lam -> 0 at a fixed gradient: progress and norm of the linear theory, and the walk in flat directions."""
    lam = 1e-7
    where = landscape((lam, 1, 2.0 / lam), (0, 1, 0.0), reward_std=noise)
    c = config(sigma=0.1, alpha=0.05, population=population, shaping=shaping)
    moments = theory.step_moments(c, where)
    linear = where.signal(0.1)
    assert moments.displacement[0] == pytest.approx(signal.progress_per_step(c, linear), rel=1e-6)
    assert moments.second_moment[1] == pytest.approx(estimator_of(c).variance(linear).value, rel=1e-9)
    if shaping == "zscore":
        square = 0.05**2 / population * (1 + (population - 2) * linear.reliability)
        assert moments.second_moment[0] == pytest.approx(square, rel=1e-6)


@given(population=h.integers(2, 10**6), sigma=h.floats(1e-3, 1))
def test_moments_satisfy_cauchy_schwarz_within_range(population, sigma):
    where = landscape((2, 3, 0.5), (0.5, 40, 0.4), reward_std=0.5)
    c = config(sigma=sigma, population=population)
    if not step_range(c, where):
        moments = theory.step_moments(c, where)
        assert np.all(moments.displacement**2 <= moments.second_moment)
        assert np.all(moments.displacement <= c.step_size * moments.correlation * 1.05)


def test_range_names_the_quantity():
    sharp = landscape((10, 1, 0.0), (1, 19, 0.2), reward_std=0.05)
    found = [str(warning) for warning in step_range(config(sigma=0.4, population=8), sharp)]
    assert any("x_k = 1.5" in line for line in found)
    assert any("X/N" in line for line in found)
    assert any("N = 8" in line for line in found)
    assert not step_range(config(sigma=0.4, population=8, shaping="raw"), sharp)
    assert not step_range(config(sigma=1e-3, population=8), sharp)


def test_what_has_no_result_is_refused():
    where = LANDSCAPES["mixed"][0]
    for changes, asked in (
        ({"momentum": 0.5}, theory.optimal_alpha),
        ({"anchor_l1": 0.1}, theory.optimal_alpha),
        ({"antithetic": True}, theory.critical_population),
        ({"momentum": 0.5}, theory.critical_population),
    ):
        with pytest.raises(ConfigError, match="no result here"):
            asked(config(sigma=0.1, population=8, **changes), where)
    c = config(sigma=0.1, population=8)
    with pytest.raises(ConfigError, match="same reward"):
        theory.step_moments(c, landscape((0, 1, 0.0)))
    with pytest.raises(ConfigError, match="gradient"):
        theory.optimal_alpha(c, landscape((1, 1, 0.0)))
    with pytest.raises(ConfigError, match="along the gradient"):
        theory.critical_population(c, landscape((1, 1, 0.0)))
    with pytest.raises(ConfigError, match="zscore"):
        theory.critical_population(config(sigma=0.1, population=8, shaping="raw"), where)
