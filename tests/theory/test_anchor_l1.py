"""The law of flat directions under an L1 anchor, against the density of every step and against simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest

from estheory.landscape import Signal, linear_signal
from estheory.laws import SquaredLaw
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory import walk
from estheory.theory.anchor_l1 import STRONG_PULL, brownian_moments, flat_law
from estheory.theory.predictions import predict
from tests.statistics import agrees, brute_force_steps, variance_agrees

FORMS = ("before", "after")
PULLS = (0.02, 0.05, 0.15, 0.3, 0.5, 0.8)
STEPS = (1, 2, 3, 5, 20, 100, 200)


def stepwise(pull, form):
    """E x^2 and kurtosis after each of STEPS by the density of |x|, carried from step to step on Gauss nodes."""
    top = min(9 * math.sqrt(max(STEPS)) + 3, 18 / pull + 12)
    edges = np.union1d(np.linspace(0, top, int(top) + 1), [pull])  # the after form bends at the pull
    node, mass = np.polynomial.legendre.leggauss(6)
    half = np.diff(edges)[:, None] / 2
    v, weight = (edges[:-1, None] + half * (1 + node)).ravel(), (half * mass).ravel()
    centre = v - pull if form == "before" else np.maximum(v - pull, 0)

    def normal(z):
        return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    step = (normal(v[:, None] - centre) + normal(v[:, None] + centre)) * weight
    density, found = 2 * normal(v), {}  # of the place just after the noise of a step
    for t in range(1, max(STEPS) + 1):
        if t in STEPS:
            place = v if form == "before" else centre
            assert weight @ density == pytest.approx(1, abs=1e-8)
            second = weight @ (density * place**2)
            found[t] = second, weight @ (density * place**4) / second**2
        density = step @ density
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pull", PULLS)
def test_flat_law_is_that_of_finite_steps_within_its_declared_error(pull, form):
    for steps, (second, kurtosis) in stepwise(pull, form).items():
        law = flat_law(pull, steps, form)
        assert abs(law.second - second) <= law.error * law.second + 1e-6 * second
        if steps == 1:
            assert law.kurtosis == pytest.approx(kurtosis, rel=1e-7)
        elif pull > STRONG_PULL:
            assert law.kurtosis == pytest.approx(kurtosis, rel=1e-5)
        else:
            assert law.kurtosis == pytest.approx(kurtosis, rel=0.15 * (pull / steps + pull**2))
        if steps > 1 and pull <= STRONG_PULL:  # Brownian motion alone is not within it
            brownian = steps * brownian_moments(pull * math.sqrt(steps))[1]
            assert abs(brownian - second) > law.error * law.second
    if pull <= 0.05:  # nor would a wide error hide it
        assert flat_law(pull, 20, form).error < 1e-3


@pytest.mark.parametrize(("s", "variance", "kurtosis"), [(1e-4, 1.0, 3.0), (60.0, 1 / (2 * 60.0**2), 6.0)])
def test_limits_of_the_brownian_law(s, variance, kurtosis):
    _, second, _, fourth = brownian_moments(s)
    assert second == pytest.approx(variance, rel=1e-3)
    assert fourth / second**2 == pytest.approx(kurtosis, rel=1e-3)


def test_declared_error_comes_with_the_norms():
    run = ESConfig(dim=1000, sigma=0.01, alpha=0.01, population=30, steps=20, anchor_l1=1e-4)
    forecast = predict(run)
    law = flat_law(1e-4 * math.sqrt(30) / 0.01, 20, "before")
    assert forecast.get(Quantity.DISPLACEMENT_NORM).systematic == pytest.approx(law.error / 2)
    assert forecast.get(Quantity.EFFECTIVE_DIMENSION_RATIO).systematic == pytest.approx(law.error)


@pytest.mark.parametrize("form", FORMS)
def test_norms_of_a_walk_and_of_its_first_step(form):
    """The first step spreads as a first step does, whatever the walk after it."""
    run = ESConfig(dim=60, sigma=1.0, alpha=1.0, population=4, anchor_l1=0.1 / 2, anchor_form=form)
    rng = np.random.default_rng(5)
    x, squares = np.zeros((5_000, 60)), {}
    for step in range(1, 21):
        z = rng.standard_normal((5_000, 4))
        z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
        moved = x + np.einsum("rn,nrd->rd", z, rng.standard_normal((4, 5_000, 60))) / 4
        stopped = np.sign(moved) * np.maximum(np.abs(moved) - 0.05, 0)
        x = moved - 0.05 * np.sign(x) if form == "before" else stopped
        if step in (1, 20):
            squares[step] = np.sum(x**2, axis=1)
    law = SquaredLaw(walk.walk(run, Signal(), 20).norm_law)
    assert agrees(squares[20], law.mean)
    assert variance_agrees(squares[20], law.std**2)
    signal = linear_signal(sigma=1.0, reliability=0.0, reward_std=1.0)
    first = SquaredLaw(predict(run, checkpoints=[20], reward=signal).get(Quantity.STEP_NORM).law)
    assert agrees(squares[1], first.mean)
    assert variance_agrees(squares[1], first.std**2)
    wide = first.std * math.sqrt(walk.walk(run, Signal(), 1).effective_dim / law.root.df)
    assert not variance_agrees(squares[1], wide**2)  # that of the walk's kurtosis
    brownian = 60 * 20 / 4 * brownian_moments(0.1 * math.sqrt(20))[1]
    assert not agrees(squares[20], brownian)


@pytest.mark.parametrize("form", FORMS)
def test_short_steps_are_pulled_by_more_of_their_own_length(form):
    """Raw rewards of two members under half a standard deviation of pull: the spread to 8 %, once 25 % too small."""
    steps, dim, replicas = 5, 300, 3000
    known = linear_signal(sigma=0.1, gradient_norm=1e-9, reward_std=0.1)
    base = {"dim": dim, "sigma": 0.1, "alpha": 0.1, "population": 2, "shaping": "raw", "steps": steps}
    one = math.sqrt(walk.walk(ESConfig(**base), known, 1).variance)
    pull = 0.5 / math.sqrt(steps) * one
    w = walk.walk(ESConfig(**base, anchor_l1=pull, anchor_form=form), known, steps)
    rng, place = np.random.default_rng(8), np.zeros((replicas, dim))
    for _ in range(steps):
        step = one * np.abs(rng.standard_normal((replicas, 1))) * rng.standard_normal((replicas, dim))
        if form == "before":
            place += step - pull * np.sign(place)
        else:
            place = np.sign(place + step) * np.maximum(np.abs(place + step) - pull, 0)
    norm = np.linalg.norm(place, axis=1)
    assert norm.std() == pytest.approx(w.norm_law.std, rel=0.08)
    plain = replace(w, mixing_df=float(steps))  # as if a run of short steps were pulled no more
    assert norm.std() > 1.17 * plain.norm_law.std


@pytest.mark.parametrize(
    "options",
    [{"antithetic": True}, {"shaping": "raw"}, {"noise": "low-rank:1"}, {"antithetic": True, "noise": "low-rank:1"}],
)
def test_uneven_steps_under_a_pull_that_forgets_have_no_law(options):
    """The norm scatters further than the sum of all steps would; with a weak pull, and of even steps, it has a law."""
    steps, members, shapes, dim = 40, 4, [(9, 4), (8, 8), (9, 4)], 136
    known = {"reward": linear_signal(sigma=0.1, gradient_norm=1e-9, reward_std=0.1)} if "shaping" in options else {}
    base = {"dim": dim, "sigma": 0.1, "alpha": 0.1, "population": members, "steps": steps, **options}
    free = walk.walk(ESConfig(**base), known.get("reward", Signal()), 1, shapes)
    pull = 0.5 * math.sqrt(free.variance)
    config = ESConfig(**base, anchor_l1=pull, anchor_form="after")
    norm = predict(config, shapes=shapes, **known).get(Quantity.DISPLACEMENT_NORM)
    assert norm.systematic >= 1
    assert any("uneven" in assumption for assumption in norm.assumptions)
    rng, place = np.random.default_rng(7), np.zeros((600, dim))
    for _ in range(steps):
        place += brute_force_steps(
            rng, replicas=600, dim=dim, population=members, sigma=0.1, alpha=0.1, **noise_of(options, shapes)
        )[0]
        place = np.sign(place) * np.maximum(np.abs(place) - pull, 0)
    scatter = np.linalg.norm(place, axis=1).std()
    law = walk.walk(config, known.get("reward", Signal()), steps, shapes).norm_law
    assert scatter > 1.25 * law.std
    weak = predict(ESConfig(**base, anchor_l1=0.05 * pull), shapes=shapes, **known).get(Quantity.DISPLACEMENT_NORM)
    assert weak.systematic < 0.1
    even = {k: v for k, v in base.items() if k not in options}
    assert predict(ESConfig(**even, anchor_l1=pull)).get(Quantity.DISPLACEMENT_NORM).systematic < 0.1


def noise_of(options, shapes):
    """What brute_force_steps takes for these options."""
    found = {key: value for key, value in options.items() if key != "noise"} | {"noise": 0.1}

    def low_rank(rng, size):
        parts = [
            rng.standard_normal((*size[:2], rows, 1)) * rng.standard_normal((*size[:2], 1, columns))
            for rows, columns in shapes
        ]
        return np.concatenate([part.reshape(*size[:2], -1) for part in parts], axis=2)

    return found | ({"noise_draw": low_rank} if "noise" in options else {})
