"""AdamW's way where gradients keep a common part, against AdamW itself on gradients drawn so."""

import math

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.theory.adamw import kept_mean, learning_rates, steered_mean_square, walk_factor
from estheory.theory.gradient_path import GradientPath, point_times
from tests.statistics import Z
from tests.variants import variants

DIM, STEPS = 20_000, 60
TIMES = np.array([0.0, 20.0, 60.0])
FADING = np.array([[0.16, 0.10, 0.03], [0.10, 0.09, 0.04], [0.03, 0.04, 0.04]])
CASES = {
    "fading and turning": FADING,
    "straight": np.full((3, 3), 0.1),
    "noise": np.zeros((3, 3)),
}


def displacements(shared, rates, rng):
    """Displacements after each step of a mean gradient of this covariance between points and unit noise beside it."""
    weights = np.array([np.interp(np.arange(STEPS), TIMES, row) for row in np.eye(3)])
    values, vectors = np.linalg.eigh(shared)
    means = rng.standard_normal((DIM, 3)) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    first = second = position = 0.0
    found = []
    for t, rate in enumerate(rates, start=1):
        common = means @ weights[:, t - 1]
        gradient = common + np.sqrt(np.maximum(1 - common**2, 0.0)) * rng.standard_normal(DIM)  # mean square 1 each
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        position = position + rate * (first / (1 - 0.9**t)) / np.sqrt(second / (1 - 0.999**t))
        found.append(position)
    return np.array(found), means[:, 0]


def path_of(shared):
    length = math.sqrt(max(shared[0, 0], 1e-12) * DIM)
    return GradientPath(dim=DIM, times=TIMES, shared=shared, squares=np.ones(3), along=shared[0] * DIM / length)


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("name", variants(CASES, fast={"fading and turning"}))
def test_norm_path_and_direction_are_those_of_adamw(name, schedule):
    rates = learning_rates(STEPS, schedule)
    moved, start = displacements(CASES[name], rates, np.random.default_rng(3))
    path = path_of(CASES[name])
    band = 0.02  # mean-field: means are not small beside the noise, and the walk's own path is left out of cosines
    for step in (20, 60):
        norm = float(np.linalg.norm(moved[step - 1]))
        told = math.sqrt(path.mean_square(rates, step))
        assert abs(norm / told - 1) < band
        if CASES[name].any():  # control: the walk alone
            assert norm > 1.3 * math.sqrt(path_of(CASES["noise"]).mean_square(rates, step))
    between = float(moved[19] @ moved[59] / np.linalg.norm(moved[19]) / np.linalg.norm(moved[59]))
    assert abs(between - path.checkpoint_cosine(rates, 20, 60)) < 2.5 * band
    if CASES[name].any():
        cosine = float(moved[59] @ start / np.linalg.norm(moved[59]) / np.linalg.norm(start))
        assert abs(cosine - path.gradient_cosine(rates, 60)) < band + Z / math.sqrt(DIM)
        assert abs(0.8 * cosine - path.gradient_cosine(rates, 60)) > band + Z / math.sqrt(DIM)


def test_a_gradient_that_stays_is_the_steered_law():
    path = GradientPath(dim=9, times=np.zeros(1), shared=np.full((1, 1), 0.3), squares=np.ones(1), along=np.ones(1))
    for schedule in ("constant", "linear", "cosine"):
        rates = 0.01 * learning_rates(50, schedule)
        expected = steered_mean_square(9, 0.01, 50, schedule, kappa=0.3)
        assert path.mean_square(rates, 50) == pytest.approx(expected, rel=1e-12)
    assert path.kappa == 0.3


def test_two_displacements_written_out():
    """What they share of noise that fades is that of the gradients of both; of a pure common part there is no noise."""
    rates, first, second = learning_rates(12, "linear"), 5, 12
    squares, shared = np.array([1.0, 0.3]), np.array([[0.2, 0.05], [0.05, 0.1]])
    path = GradientPath(dim=7, times=np.array([0.0, 8.0]), shared=shared, squares=squares, along=np.ones(2))

    def weights(last):
        found = np.zeros(last)
        for s in range(last):
            for t in range(s, last):
                found[s] += rates[t] * kept_mean(t + 1) * 0.1 * 0.9 ** (t - s) / (1 - 0.9 ** (t + 1))
        return found

    def at(s):
        return np.array([1 - min(s / 8, 1), min(s / 8, 1)])

    noise = np.array([squares @ at(s) - at(s) @ shared @ at(s) for s in range(second)])
    early, late = weights(first), weights(second)
    common = sum(early[s] * late[t] * (at(s) @ shared @ at(t)) for s in range(first) for t in range(second))
    parts = []
    for last, each in ((first, early), (second, late)):
        walk = walk_factor(rates[:last]) * float(rates[:last] ** 2 @ noise[:last])
        parts.append((walk, each * np.sqrt(noise[:last])))
    (one, a), (other, b) = parts
    overlap = math.sqrt(one * other) * float(a @ b[:first]) / math.sqrt(float(a @ a) * float(b @ b))
    assert path.covariance(rates, first, second) == pytest.approx(7 * (common + overlap), rel=1e-12)
    alone = GradientPath(dim=7, times=np.zeros(1), shared=np.ones((1, 1)), squares=np.ones(1), along=np.ones(1))
    expected = 7 * early.sum() * late.sum()
    assert alone.covariance(rates, first, second) == pytest.approx(expected, rel=1e-12)


def test_the_error_of_the_mean_square_is_that_of_its_entries():
    rng, rates = np.random.default_rng(4), learning_rates(STEPS, "linear")
    drawn = []
    for _ in range(4000):
        noise = np.triu(0.01 * rng.standard_normal((3, 3)), 1)
        noise += noise.T + np.diag(0.02 * rng.standard_normal(3))
        known = path_of(FADING + noise)
        drawn.append(known.mean_square(rates, 60))
    told = GradientPath(**{**vars(path_of(FADING)), "error": 0.01}).mean_square_error(rates, 60)
    assert abs(np.std(drawn) / told - 1) < 0.06
    assert abs(np.std(drawn) / told - 1.2) > 0.06


def test_fewer_points_keep_the_ends():
    path = path_of(FADING)
    fewer = path.thinned()
    assert fewer.times.tolist() == [0.0, 60.0]
    assert fewer.shared.tolist() == [[0.16, 0.03], [0.03, 0.04]]
    assert fewer.thinned().times.tolist() == [0.0, 60.0]
    close = {"times": np.array([0.0, 1.0]), "shared": FADING[:2, :2], "squares": np.ones(2), "along": np.ones(2)}
    assert GradientPath(dim=9, **close).times[1] == 1.0


def test_points_lie_at_equal_shares_of_the_learning_rates():
    assert point_times(np.ones(30), 4) == [0, 10, 20, 30]
    rates = learning_rates(1000, "linear")
    behind = [rates[:t].sum() / rates.sum() for t in point_times(rates, 5)]
    assert behind == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=2e-3)
    assert point_times(np.ones(2), 4) == [0, 1, 2]


@pytest.mark.parametrize(
    "changed",
    [
        {"shared": np.ones((2, 3))},
        {"times": np.array([0.0, 20.0, 20.0])},
        {"times": np.array([1.0, 20.0, 60.0])},
        {"squares": np.array([1.0, np.nan, 1.0])},
    ],
)
def test_what_is_no_path_is_refused(changed):
    good = {"dim": DIM, "times": TIMES, "shared": FADING, "squares": np.ones(3), "along": np.ones(3)}
    with pytest.raises(ConfigError):
        GradientPath(**{**good, **changed})
