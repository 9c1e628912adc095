"""The walk against brute force in every coordinate, each with a deliberately wrong formula that must fail."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.cosine_laws import CorrelationLaw
from estheory.errors import ConfigError
from estheory.landscape import Signal, linear_signal
from estheory.laws import SquaredLaw
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory import walk as theory
from estheory.theory.effective_dimension import shared_seed_dimension
from estheory.theory.estimators import MirroredPairs
from estheory.theory.predictions import predict
from tests.statistics import agrees, brute_force_steps, ks_agrees, variance_agrees
from tests.variants import variants

ALPHA, SIGMA, N, FLAT = 0.3, 0.5, 8, 49


def flat_square(updates):
    """Squared norm of the displacement in the flat coordinates, all but the first."""
    return np.sum(updates.sum(axis=0)[:, 1:] ** 2, axis=1)


def squared_law(config, signal=None, steps=1, shapes=None):
    """The law of the squared norm in FLAT flat coordinates."""
    return SquaredLaw(theory.walk(config, signal or Signal(), steps, shapes).norm_law)


def config(**changes):
    return ESConfig(**{"dim": FLAT, "sigma": SIGMA, "alpha": ALPHA, "population": N} | changes)


def skewed(x, rng):
    """A reward that is neither linear nor Gaussian: cubic, plus exponential noise."""
    return x**3 - np.abs(x) + rng.exponential(size=x.shape)


CASES = {
    "zscore, any reward": ({}, {"reward": skewed}, 1),
    "zscore, five steps": ({}, {"slope": 2.0, "noise": 1.0}, 5),
    "centred ranks": ({"shaping": "centered-rank"}, {"reward": skewed}, 2),
    "raw": ({"shaping": "raw"}, {"slope": 2.0, "noise": 1.0}, 1),
    "raw, three steps": ({"shaping": "raw"}, {"slope": 2.0, "noise": 1.0}, 3),
    "two-point": ({"shaping": "two-point"}, {"slope": 2.0, "noise": 0.7}, 2),
    "antithetic": ({"antithetic": True}, {"slope": 2.0, "noise": 1.0}, 1),
    "antithetic, pure noise": ({"antithetic": True}, {"slope": 0.0, "noise": 1.0}, 1),
}


@pytest.mark.parametrize(
    "name", variants(CASES, fast={"zscore, five steps", "centred ranks", "raw, three steps", "two-point", "antithetic"})
)
def test_squared_norm_has_the_predicted_mean_and_variance(name):
    changes, reward, steps = CASES[name]
    c = config(**changes)
    signal = Signal()
    if "reward" not in reward and reward["slope"]:
        signal = linear_signal(sigma=SIGMA, gradient_norm=reward["slope"], reward_std=reward["noise"])
    elif "reward" not in reward:
        signal = linear_signal(sigma=SIGMA, reliability=0.0)
    updates = brute_force_steps(
        np.random.default_rng(7),
        replicas=40_000 // steps,
        dim=FLAT + 1,
        population=N,
        sigma=SIGMA,
        alpha=ALPHA,
        steps=steps,
        shaping=c.shaping,
        antithetic=c.antithetic,
        **reward,
    )
    law = squared_law(c, signal, steps)
    x = flat_square(updates)
    assert agrees(x, law.mean)
    assert not agrees(x, law.mean * (N - 1) / N)
    assert variance_agrees(x, law.std**2)
    assert not variance_agrees(x, 1.15 * law.std**2)


def test_one_step_law_is_chi_square_for_any_reward():
    updates = brute_force_steps(
        np.random.default_rng(3),
        replicas=60_000,
        dim=FLAT + 1,
        population=N,
        sigma=SIGMA,
        alpha=ALPHA,
        reward=skewed,
    )
    x = flat_square(updates)
    law = squared_law(config())
    assert law.mean == pytest.approx(ALPHA**2 / N * FLAT, rel=1e-14)
    assert ks_agrees(x, lambda v: law.tails(v)[0])
    wrong = squared_law(config(alpha=ALPHA * math.sqrt((N - 1) / N)))  # a sample std where the population std belongs
    assert not ks_agrees(x, lambda v: wrong.tails(v)[0])


def test_raw_rewards_spread_eight_times_wider_than_chi_square():
    """theory sheet: at d = 50, N = 8 the variance of the squared norm is about 8 times that of a chi-square."""
    law = squared_law(config(dim=50, shaping="raw"), linear_signal(sigma=SIGMA, gradient_norm=2.0, reward_std=1.0))
    plain = 2 * law.mean**2 / 50
    assert 8 < law.std**2 / plain < 9


FLUCTUATING = {
    "raw": {"shaping": "raw"},
    "two-point": {"shaping": "two-point"},
    "antithetic": {"antithetic": True},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "antithetic" else pytest.mark.slow) for name in FLUCTUATING]
)
def test_cosine_of_checkpoints_where_the_variance_of_a_step_fluctuates(name):
    """Pure noise rewards; positions after 3 and 6 steps of runs in 200 coordinates, by the update rule itself."""
    dim, replicas = 200, 12_000
    c = config(dim=dim, **FLUCTUATING[name])
    signal = Signal(reliability=0.0, member_std=1.0)
    updates = brute_force_steps(
        np.random.default_rng(5),
        replicas=replicas,
        dim=dim,
        population=N,
        sigma=SIGMA,
        alpha=ALPHA,
        steps=6,
        **FLUCTUATING[name],
    )
    kept = updates.cumsum(axis=0)[[2, 5]]
    cosine = np.sum(kept[0] * kept[1], axis=1) / np.prod([np.linalg.norm(k, axis=1) for k in kept], axis=0)
    forecast = predict(c, checkpoints=[3, 6], reward=signal)
    law = forecast.get(Quantity.CHECKPOINT_COSINE).law
    assert agrees(cosine, law.mean)
    assert ks_agrees(cosine, lambda x: law.tails(x)[0])
    plain = CorrelationLaw(math.sqrt(3 / 6), float(dim))  # as if every step had the same variance
    assert not ks_agrees(cosine, lambda x: plain.tails(x)[0])


def test_no_cosine_of_checkpoints_of_a_few_pairs_and_steps():
    known = {"reward": Signal(reliability=0.0)}
    few = predict(config(population=4, antithetic=True), checkpoints=[2, 5], **known)
    assert not [p for p in few.predictions if p.quantity is Quantity.CHECKPOINT_COSINE]
    assert any("steps 2 and 5" in warning and "checkpoint_cosine" in warning for warning in few.warnings)
    enough = predict(config(population=4, antithetic=True), checkpoints=[5, 10], **known)
    assert enough.get(Quantity.CHECKPOINT_COSINE).step == 10


def pairs_of(population):
    return MirroredPairs(population=population, sigma=1.0, alpha=1.0)


@given(kappa=h.floats(-0.9, 0.99), pairs=h.integers(20, 3000))
def test_expansion_of_the_odd_variance(kappa, pairs):
    """The sheet's expansion (1+kappa)(1 + (1-kappa)(1-2 kappa)/N) holds to O(1/N^2)."""
    n = 2 * pairs
    mean, _ = pairs_of(n).odd_variance(kappa)
    expansion = (1 + kappa) * (1 + (1 - kappa) * (1 - 2 * kappa) / n)
    assert abs(mean - expansion) < 12 / n**2


@pytest.mark.parametrize("n", [4, 6, 40, 42])
@pytest.mark.parametrize("kappa", [-0.9, 0.0, 0.3, 0.95])
def test_the_odd_variance_is_its_integral(n, kappa):
    """Against the beta integrals at 30 digits."""
    with mpmath.workdps(30):
        a, b = mpmath.mpf(n) / 4, mpmath.mpf(n) / 4 - mpmath.mpf(1) / 2

        def moment(power):
            def integrand(u):  # B = 1 - u^2, which takes the end point's root away
                share = 2 * (1 + kappa) * (1 - u * u) / ((1 + kappa) * (1 - u * u) + (1 - kappa) * u * u)
                return share**power * 2 * (1 - u * u) ** (a - 1) * u ** (2 * b - 1)

            return mpmath.quad(integrand, mpmath.linspace(0, 1, 9)) / mpmath.beta(a, b)

        mean = moment(1)
        expected = float(mean), float(moment(2) / mean**2 - 1)
        # the overlap of z-scores with the coordinates: E[sqrt(X + Y)] E[B / sqrt(w B + (1-w)(1-B))] 2 / sqrt(2 N)
        w = (1 + mpmath.mpf(kappa)) / 2

        def projected(u):
            part = 1 - u * u
            return part / mpmath.sqrt(w * part + (1 - w) * u * u) * 2 * part ** (a - 1) * u ** (2 * b - 1)

        length = mpmath.sqrt(2) * mpmath.gammaprod([mpmath.mpf(n) / 2], [mpmath.mpf(n - 1) / 2])
        overlap = mpmath.quad(projected, mpmath.linspace(0, 1, 9)) / mpmath.beta(a, b) * length * mpmath.sqrt(2)
    assert pairs_of(n).odd_variance(kappa) == pytest.approx(expected, rel=1e-11)
    assert pairs_of(n).moments((1 + kappa) / 2).progress == pytest.approx(float(overlap) / math.sqrt(n), rel=1e-11)


def test_antithetic_pure_noise_is_exactly_one_over_n_minus_one():
    mean, _ = pairs_of(N).odd_variance(0.0)
    assert mean / N == pytest.approx(1 / (N - 1), rel=1e-12)
    assert pairs_of(N).odd_variance(1.0)[0] == pytest.approx(2.0, rel=1e-12)


ANCHORED = {
    "l2 before": {"anchor_l2": 0.2},
    "l2 after": {"anchor_l2": 0.2, "anchor_form": "after"},
    "momentum": {"momentum": 0.7},
    "momentum and l2": {"momentum": 0.7, "anchor_l2": 0.2, "anchor_form": "after"},
    "equal decay": {"momentum": 0.8, "anchor_l2": 0.2},
}


def run_anchored(c, steps, replicas=60_000):
    """Positions (steps, replicas) of one flat coordinate, by the update rule itself."""
    rng = np.random.default_rng(11)
    theta, velocity, path = np.zeros(replicas), np.zeros(replicas), []
    for _ in range(steps):
        step = ALPHA / math.sqrt(N) * rng.standard_normal(replicas)
        velocity = c.momentum * velocity + (1 - c.momentum) * step
        if c.anchor_form == "after":
            theta = (1 - c.anchor_l2) * (theta + velocity)
        else:
            theta = (1 - c.anchor_l2) * theta + velocity
        path.append(theta)
    return np.array(path)


@pytest.mark.parametrize("name", ANCHORED)
def test_anchor_and_momentum(name):
    c = config(dim=1, **ANCHORED[name])
    path = run_anchored(c, 12)
    for steps in (1, 3, 12):
        variance = theory.walk(c, Signal(), steps).variance
        assert agrees(path[steps - 1] ** 2, variance)
        assert not agrees(path[steps - 1] ** 2, 1.05 * variance)
    rho = theory.checkpoint_correlation(c, 3, 12)
    product = path[2] * path[11] / math.sqrt(np.mean(path[2] ** 2) * np.mean(path[11] ** 2))
    assert agrees(product, rho)
    assert not agrees(product, rho + 0.04)


def test_closed_forms_of_the_sheet():
    v = ALPHA**2 / N
    long = 4000
    kappa = 0.05
    stationary = v / (1 - (1 - kappa) ** 2)
    assert theory.walk(config(anchor_l2=kappa), Signal(), long).variance == pytest.approx(stationary, rel=1e-12)
    after = theory.walk(config(anchor_l2=kappa, anchor_form="after"), Signal(), long).variance
    assert after == pytest.approx((1 - kappa) ** 2 * stationary, rel=1e-12)
    t, b = 17, 0.6
    effective = t - 2 * b * (1 - b**t) / (1 - b) + b**2 * (1 - b ** (2 * t)) / (1 - b**2)
    assert theory.walk(config(momentum=b), Signal(), t).variance == pytest.approx(v * effective, rel=1e-12)


@given(kappa=h.floats(1e-9, 1e-7), steps=h.integers(1, 50))
def test_weak_anchor_recovers_the_walk(kappa, steps):
    anchored = theory.walk(config(anchor_l2=kappa), Signal(), steps).variance
    assert anchored == pytest.approx(ALPHA**2 * steps / N, rel=2 * kappa * steps + 1e-12)


def test_low_rank_noise_keeps_the_mean_and_widens_the_spread():
    rows, columns, rank, n = 6, 9, 1, 5

    def draw(rng, shape):
        a = rng.standard_normal((*shape[:2], rows, rank))
        b = rng.standard_normal((*shape[:2], columns, rank))
        signal = rng.standard_normal((*shape[:2], 1))  # the rewarded coordinate shares no factor with the matrix
        return np.concatenate([signal, (a @ np.swapaxes(b, 2, 3)).reshape(*shape[:2], -1) / math.sqrt(rank)], axis=2)

    updates = brute_force_steps(
        np.random.default_rng(4),
        replicas=60_000,
        dim=rows * columns + 1,
        population=n,
        sigma=SIGMA,
        alpha=ALPHA,
        slope=1.0,
        noise_draw=draw,
    )
    x = flat_square(updates)
    c = config(dim=rows * columns, population=n, noise=f"low-rank:{rank}")
    law = squared_law(c, shapes=[(rows, columns)])
    assert agrees(x, law.mean)
    assert variance_agrees(x, law.std**2)
    assert not variance_agrees(x, squared_law(config(dim=rows * columns, population=n)).std ** 2)
    wide = squared_law(config(dim=54, noise="low-rank:100000"), shapes=[(6, 9)])
    assert wide.std == pytest.approx(squared_law(config(dim=54)).std, rel=1e-4)  # rank -> infinity


def test_shared_seed_noise():
    """Three tensors of 20 entries share their noise; one of 30 has its own."""

    def draw(rng, shape):
        shared, own = rng.standard_normal((*shape[:2], 20)), rng.standard_normal((*shape[:2], 31))
        return np.concatenate([own[:, :, :1], shared, shared, shared, own[:, :, 1:]], axis=2)

    updates = brute_force_steps(
        np.random.default_rng(9),
        replicas=40_000,
        dim=91,
        population=N,
        sigma=SIGMA,
        alpha=ALPHA,
        slope=1.0,
        noise_draw=draw,
    )
    x = flat_square(updates)
    shapes = [(4, 5), (20,), (5, 4), (30,)]
    law = squared_law(config(dim=90, noise="shared-seed"), shapes=shapes)
    assert shared_seed_dimension(shapes) == pytest.approx(90**2 / (9 * 20 + 30))
    assert agrees(x, law.mean)
    assert variance_agrees(x, law.std**2)
    assert not variance_agrees(x, squared_law(config(dim=90)).std ** 2)


def test_what_is_missing_is_said():
    with pytest.raises(ConfigError, match="spread of the rewards"):
        theory.walk(config(shaping="raw"), Signal(), 1)
    with pytest.raises(ConfigError, match="shapes"):
        theory.walk(config(noise="shared-seed"), Signal(), 1)
    with pytest.raises(ConfigError, match="L1"):
        theory.checkpoint_correlation(config(anchor_l1=0.1), 1, 2)
    with pytest.raises(ConfigError, match="too many"):
        theory.response(config(momentum=0.5), 10**8)
