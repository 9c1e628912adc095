"""ES against gradient descent on one quadratic, against brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.theory.curved import comparison as theory
from estheory.theory.curved import dynamics
from tests.statistics import agrees, variance_agrees
from tests.theory.quadratic_es import config, expand, landscape, one_step, within
from tests.variants import variants

ROWS = (4, 3, 0.4), (1, 20, 0.2), (0, 2, 0.0)
WHERE = landscape(*ROWS, reward_std=0.05, dim=200)
ES = config(dim=200, sigma=0.05, alpha=0.03, population=30)


def sgd(rng, where, lr, noise, steps, replicas):
    """Signed distances theta - theta* after SGD with gradient noise of covariance noise * Lam."""
    lam = expand(where.eigenvalue, where)
    distance = np.tile(-expand(where.offset, where), (replicas, 1))
    for _ in range(steps):
        gradient = -lam * distance + np.sqrt(noise * lam) * rng.standard_normal(distance.shape)
        distance = distance + lr * gradient
    return distance


def test_interpolation_curve_is_the_reward_along_the_line():
    rng = np.random.default_rng(1)
    lam, a, b = (rng.random(7), *rng.standard_normal((2, 7)))
    u = np.linspace(0, 1, 11)
    points = (1 - u)[:, None] * a + u[:, None] * b
    curve = theory.interpolation_curve(
        u, start=-0.5 * lam @ a**2, end=-0.5 * lam @ b**2, curvature=float((a - b) ** 2 @ lam)
    )
    assert curve == pytest.approx(-0.5 * points**2 @ lam, rel=1e-12)
    assert np.all(curve >= (1 - u) * curve[0] + u * curve[-1] - 1e-15)


@pytest.mark.slow
def test_interpolation_gain_between_es_and_sgd():
    rng = np.random.default_rng(2)
    lam = expand(WHERE.eigenvalue, WHERE)
    replicas, steps = 3000, 40
    distance = np.tile(-expand(WHERE.offset, WHERE), (replicas, 1))
    for _ in range(steps):
        distance = distance + one_step(rng, ES, WHERE, distance)
    other = sgd(rng, WHERE, 0.05, 0.02, 25, replicas)
    gain = (distance - other) ** 2 @ lam / 8
    middle = -0.5 * (0.5 * distance + 0.5 * other) ** 2 @ lam
    chord = -0.25 * (distance**2 + other**2) @ lam
    assert gain == pytest.approx(middle - chord)
    first = theory.es_end_point(ES, WHERE, steps)
    second = theory.sgd_end_point(WHERE, lr=0.05, steps=25, noise=0.02)
    law = theory.interpolation_gain(WHERE, first, second)
    assert within(gain, law.mean, 2 / 30)
    assert not within(gain, 2 * law.mean, 2 / 30)
    deviations = (gain - gain.mean()) ** 2
    assert within(deviations, law.std**2, 8 / 30)
    assert not within(deviations, 2 * law.std**2, 8 / 30)
    same = theory.interpolation_gain(WHERE, second, second)
    assert same.mean == pytest.approx(float(WHERE.multiplicity @ (WHERE.eigenvalue * second.variance)) / 4)
    still = theory.sgd_end_point(WHERE, lr=0.05, steps=25)
    assert theory.interpolation_gain(WHERE, still, still).mean == 0


def test_sgd_end_point():
    rng = np.random.default_rng(3)
    distance = sgd(rng, WHERE, 0.3, 0.02, 12, 20_000)
    end = theory.sgd_end_point(WHERE, lr=0.3, steps=12, noise=0.02)
    for row, columns in enumerate((slice(0, 3), slice(3, 23), slice(23, 25))):
        part = distance[:, columns]
        if row == 2:
            assert np.all(part == 0)  # flat directions keep exactly theta_0
            assert end.variance[row] == 0
            continue
        assert agrees(-part.mean(1), end.mean[row])
        squares = ((part + end.mean[row]) ** 2).mean(1)
        assert agrees(squares, end.variance[row])
        assert not agrees(squares, 1.05 * end.variance[row])
    rewards = -0.5 * distance**2 @ expand(WHERE.eigenvalue, WHERE)
    assert agrees(rewards, end.reward(WHERE))
    moved = np.sum((distance + expand(WHERE.offset, WHERE)) ** 2, axis=1)
    assert agrees(moved, end.displacement_square(WHERE))
    assert not agrees(moved, 1.05 * end.displacement_square(WHERE))


@given(lr=h.floats(1e-3, 0.45), noise=h.just(0.0) | h.floats(1e-9, 1))
def test_sgd_forgets_its_start(lr, noise):
    """Stationary variance lr noise / (2 - lr lam); nothing left of the start; flat directions untouched."""
    end = theory.sgd_end_point(WHERE, lr=lr, steps=200_000, noise=noise)
    assert end.mean[:2] == pytest.approx([0, 0], abs=1e-12)
    assert end.variance[:2] == pytest.approx(lr * noise / (2 - lr * np.array([4, 1])), rel=1e-9)
    assert end.variance[2] == 0


@pytest.mark.parametrize("shaping", variants(["zscore", "raw"], fast={"zscore"}))
def test_es_displacement_square(shaping):
    where, steps = landscape(*ROWS, (0, 25, 0.0), reward_std=0.05, dim=50), 20
    c = config(dim=50, sigma=0.05, alpha=0.03 if shaping == "zscore" else 0.02, population=30, shaping=shaping)
    rng = np.random.default_rng(4)
    start = -expand(where.offset, where)
    distance = np.tile(start, (3000, 1))
    for _ in range(steps):
        distance = distance + one_step(rng, c, where, distance)
    end = theory.es_end_point(c, where, steps)
    square = np.sum((distance - start) ** 2, axis=1)
    assert within(square, end.displacement_square(where), 2 / 30)
    flat = distance[:, -25:]
    assert agrees((flat**2).mean(1), end.flat_variance)
    assert not agrees((flat**2).mean(1), end.flat_variance * 30 / 29)
    assert variance_agrees(flat[:, 0], end.variance[-1])
    fewer = landscape(*ROWS, reward_std=0.05, dim=50)  # the same flat directions, outside the rows
    assert theory.es_end_point(c, fewer, steps).displacement_square(fewer) == pytest.approx(
        end.displacement_square(where)
    )


def test_matched_progress():
    """Same reward: ES has walked in the flat directions, SGD has not."""
    target = -0.1 * WHERE.gap
    match = theory.matched_progress(ES, WHERE, reward=target, lr=0.05, noise=0.01)
    assert dynamics.mean_field(ES, WHERE, match.es_steps).reward[-1] >= target
    assert dynamics.mean_field(ES, WHERE, match.es_steps).reward[-2] < target
    assert theory.sgd_end_point(WHERE, lr=0.05, steps=match.sgd_steps, noise=0.01).reward(WHERE) >= target
    assert theory.sgd_end_point(WHERE, lr=0.05, steps=match.sgd_steps - 1, noise=0.01).reward(WHERE) < target
    flat = (200 - 23) * 0.03**2 * match.es_steps / 30
    assert match.es_share_flat == pytest.approx(flat / match.es_displacement_square)
    assert match.price_ratio > 1
    es_cost, sgd_cost = match.off_task_cost(0.2)
    assert es_cost / sgd_cost == pytest.approx(match.price_ratio)
    assert es_cost == pytest.approx(0.1 * match.es_displacement_square)
    wider = theory.matched_progress(ES, landscape(*ROWS, reward_std=0.05, dim=2000), reward=target, lr=0.05, noise=0.01)
    assert (wider.es_steps, wider.sgd_steps) == (match.es_steps, match.sgd_steps)
    assert wider.sgd_displacement_square == pytest.approx(match.sgd_displacement_square)  # the task sees no width
    assert wider.es_displacement_square - match.es_displacement_square == pytest.approx(
        1800 * 0.03**2 * match.es_steps / 30
    )


def test_larger_populations_pay_less():
    """Off-task price at the same reward falls with N: the walk's variance is alpha^2 T / N."""
    prices = [
        theory.matched_progress(
            config(dim=200, sigma=0.05, alpha=0.03, population=n), WHERE, reward=-0.1 * WHERE.gap, lr=0.05
        ).price_ratio
        for n in (10, 30, 100, 1000)
    ]
    assert prices == sorted(prices, reverse=True)


def test_what_cannot_be_matched_is_said():
    with pytest.raises(ConfigError, match="no better than the start"):
        theory.matched_progress(ES, WHERE, reward=-10.0, lr=0.05)
    with pytest.raises(ConfigError, match="ES reaches"):
        theory.matched_progress(ES, WHERE, reward=-1e-9, lr=0.05, max_steps=1000)
    with pytest.raises(ConfigError, match="SGD reaches"):
        theory.matched_progress(ES, WHERE, reward=-0.1 * WHERE.gap, lr=1e-6, max_steps=1000)
    with pytest.raises(ConfigError, match="SGD diverges"):
        theory.sgd_end_point(WHERE, lr=0.6, steps=3)
    with pytest.raises(ConfigError, match="noise"):
        theory.sgd_end_point(WHERE, lr=0.1, steps=3, noise=-1.0)
