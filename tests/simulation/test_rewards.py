"""Rewards beyond the quadratic: both engines in law, what theory is told, and where it is refuted."""

import math
from dataclasses import replace

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.coordinates import with_explicit_rows
from estheory.simulation.direct import DirectES, direct
from estheory.simulation.named_rewards import REWARDS, cubic_reward, heavy_tail_reward, named_reward, sigmoid_reward
from estheory.simulation.observed import observe, observed_pairs
from estheory.simulation.reduced import reduced
from estheory.simulation.rewards import evaluation, explicit_reward
from estheory.theory.reward_model import bernoulli_rewards, zscore_overlap
from estheory.validation.judge import exit_code, judge
from tests.simulation.test_engines import CURVED, SMALL, differences
from tests.statistics import agrees, shape_rewards
from tests.variants import variants

RUN = {"replicas": 8000, "steps": [5, 15]}


def ripples(x):
    """A reward that is no function of the quadratic: coordinates matter one by one."""
    return np.cos(2 * x[..., 0]) - np.abs(x[..., 1] - 0.3) + x[..., 0] * x[..., 2]


CASES = {
    "sigmoid": (lambda land: sigmoid_reward(land, start_accuracy=0.3), {}),
    "bernoulli": (lambda land: sigmoid_reward(land, prompts=4), {}),
    "bernoulli of ranks": (lambda land: sigmoid_reward(land, prompts=2), {"shaping": "centered-rank", "alpha": 0.9}),
    "bernoulli of pairs": (lambda land: sigmoid_reward(land, prompts=4), {"antithetic": True}),
    "heavy tail": (lambda land: heavy_tail_reward(replace(land, reward_std=0.3), noise_df=2.5), {}),
    "cubic": (lambda land: cubic_reward(land, cubic=1.0), {}),
    "cubic of two points": (lambda land: cubic_reward(land, cubic=1.0), {"shaping": "two-point", "alpha": 0.02}),
    "explicit": (lambda land: explicit_reward(land, ripples), {"anchor_l2": 0.1}),
}


@pytest.mark.parametrize("name", variants(CASES, fast={"bernoulli of ranks", "heavy tail", "cubic", "explicit"}))
def test_reduced_is_direct_in_law(name):
    make, change = CASES[name]
    config, reward = ESConfig(**(SMALL | change)), make(CURVED)
    one = direct(config, CURVED, seed=1, reward=reward, **RUN)
    two = reduced(config, CURVED, seed=2, reward=reward, **RUN)
    assert one.start_reward == pytest.approx(two.start_reward, abs=1e-12)
    assert differences(one, two) == []


WRONG = {
    "sigmoid": lambda land: sigmoid_reward(land, start_accuracy=0.4),
    "bernoulli": lambda land: sigmoid_reward(land, prompts=5),
    "heavy tail": lambda land: heavy_tail_reward(replace(land, reward_std=0.4), noise_df=2.5),
    "cubic": lambda land: replace(cubic_reward(land, cubic=0.0), optimum=cubic_reward(land, cubic=1.0).optimum),
    "explicit": lambda land: explicit_reward(land, lambda x: ripples(x) - x[..., 0] * x[..., 2]),
}


@pytest.mark.parametrize("name", variants(WRONG, fast={"bernoulli", "cubic"}))
def test_negative_control(name):
    """The same test tells noise that is a third wider, one prompt more, a dropped term, other saturation."""
    make, change = CASES[name]
    config = ESConfig(**(SMALL | change))
    one = direct(config, CURVED, seed=1, reward=make(CURVED), **RUN)
    two = reduced(config, CURVED, seed=2, reward=WRONG[name](CURVED), **RUN)
    different = differences(one, two)
    assert [found for found in different if not found.startswith("reward")]  # in the motion too, not in its price alone


@pytest.mark.parametrize("size", [10**6, 3 * 60])
@pytest.mark.parametrize("name", ["sigmoid", "cubic", "explicit"])
def test_direct_step_is_the_algorithm(name, size):
    """Two steps, member by member, from the engine's own noise; drawn at once, and in pieces."""
    flat_noise = replace(CURVED, reward_std=0.0)
    config, reward = ESConfig(**SMALL), CASES[name][0](flat_noise)
    seed = np.random.SeedSequence(4)
    es = DirectES(config, flat_noise, 2, seed, size, reward)
    twin = DirectES(config, flat_noise, 2, np.random.SeedSequence(4))
    lam = np.concatenate([[2.0], np.full(7, 0.5), np.full(8, 1.0)])
    optimum = np.concatenate([[0.1], np.full(7, 0.6), np.zeros(8)])
    theta = np.zeros((2, 60))

    def value(x):
        y = x[:16] - optimum
        q = -0.5 * np.sum(lam * y**2)
        along = np.array([y[0], y[1:8].sum() / math.sqrt(7), y[8:].sum() / math.sqrt(8)])
        if name == "sigmoid":
            best, start = math.log(0.95 / 0.05), math.log(0.3 / 0.7)
            return 1 / (1 + math.exp(-(best + (best - start) * q / CURVED.gap)))
        if name == "cubic":
            unit = lam * optimum / np.linalg.norm(lam * optimum)
            return q + CURVED.gap * ((unit @ y) / (unit @ optimum)) ** 3
        return ripples(along)

    for _ in range(2):
        np.testing.assert_allclose(es.reward() + reward.optimum, [value(t) for t in theta], rtol=1e-4, atol=1e-5)
        pieces = [16] if size > 16 * 60 else [3, 3, 2, 3, 3, 2]
        eps = np.concatenate([twin._draw(piece).copy() for piece in pieces]).reshape(2, 8, 60).astype(float)
        rewards = np.array([[value(t + config.sigma * e) for e in es_] for t, es_ in zip(theta, eps, strict=True)])
        theta = theta + config.alpha / 8 * np.einsum("rn,rnd->rd", shape_rewards(rewards, "zscore", 1.0), eps)
        es.step()
        np.testing.assert_allclose(es.displacement, theta, rtol=2e-4, atol=2e-5)


def test_explicit_rows_are_a_rotation():
    turned = with_explicit_rows(CURVED)
    for name in ("trace", "square_trace", "gradient_norm", "gradient_curvature", "gap"):
        assert getattr(turned, name) == pytest.approx(getattr(CURVED, name), rel=1e-12)
    assert turned.multiplicity.tolist() == [1, 1, 1, 6, 7]


def derivatives(reward, land, step=2e-4):
    """Value, gradient and Hessian of the mean reward at the start, coordinate by coordinate, by central differences."""
    count = land.multiplicity.astype(int)
    lam, at = np.repeat(land.eigenvalue, count), -np.repeat(land.offset, count)
    row = np.repeat(np.arange(count.size), count)

    def value(x):
        along = np.array([x[row == k].sum() / math.sqrt(count[k]) for k in range(count.size)])
        return float(reward.mean(np.array(-0.5 * np.sum(lam * x**2)), along if reward.explicit else np.zeros(0)))

    unit = step * np.eye(lam.size)
    gradient = np.array([value(at + u) - value(at - u) for u in unit]) / (2 * step)
    hessian = np.array(
        [[value(at + u + v) - value(at + u - v) - value(at - u + v) + value(at - u - v) for v in unit] for u in unit]
    )
    return value(at), gradient, hessian / (4 * step**2)


@pytest.mark.parametrize(
    "make",
    [
        lambda land: sigmoid_reward(land, start_accuracy=0.5),
        lambda land: sigmoid_reward(land, start_accuracy=0.8, best_accuracy=0.99),
        lambda land: cubic_reward(land, cubic=0.7),
        lambda land: heavy_tail_reward(land),
    ],
)
def test_theory_is_told_the_local_expansion(make):
    land = Landscape(dim=9, eigenvalue=[2.0, 0.5, 1.0], multiplicity=[1, 3, 2], offset=[0.4, 0.6, 0.0], reward_std=0.1)
    reward = make(land)
    start, gradient, hessian = derivatives(reward, land)
    told = reward.told
    assert start - reward.optimum == pytest.approx(-told.gap, abs=1e-12)
    assert told.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    curved = np.sort(np.repeat(told.eigenvalue, told.multiplicity.astype(int)))
    assert curved == pytest.approx(np.linalg.eigvalsh(-hessian), rel=1e-5)
    assert told.gradient_curvature == pytest.approx(-gradient @ hessian @ gradient, rel=1e-5)
    assert (told.reward_std, told.dim, reward.warnings) == (0.1, 9, ())


def test_upward_curvature_is_left_out_and_said():
    for reward in (sigmoid_reward(CURVED, start_accuracy=0.2), cubic_reward(CURVED, cubic=-0.3)):
        assert "upward" in reward.warnings[0]
        assert reward.told.multiplicity.tolist() == CURVED.multiplicity.tolist()


def test_noise_has_the_spread_that_theory_is_told():
    rng, land = np.random.default_rng(0), replace(CURVED, reward_std=0.2)
    for reward, wrong in (
        (sigmoid_reward(land, start_accuracy=0.3), 1.02),
        (sigmoid_reward(land, start_accuracy=0.3, prompts=5), 1.02),
        (heavy_tail_reward(land, noise_df=9.0), 1.02),
    ):
        config = ESConfig(**SMALL)
        centre, nothing = np.full(100, -land.gap), np.zeros((100, 0))
        evaluate = evaluation(reward, config, centre, nothing, np.zeros((100, 1000, 0)), rng)
        square = (evaluate(np.zeros((100, 1000))) - reward.optimum + reward.told.gap).ravel() ** 2
        assert agrees(square, reward.told.reward_std**2)
        assert not agrees(square, wrong**2 * reward.told.reward_std**2)


def test_bernoulli_progress_is_that_of_the_exact_form():
    """One prompt at p = .1: that of theory/reward_model.py where the accuracy is linear, not the Gaussian one."""
    land = Landscape(dim=10, eigenvalue=[1e-3], multiplicity=[1], offset=[100.0])  # a line over one step
    reward = sigmoid_reward(land, start_accuracy=0.1, prompts=1)
    signal = 0.03
    config = ESConfig(dim=10, sigma=signal / reward.told.gradient_norm, alpha=1.0, population=10)
    progress = reduced(config, land, replicas=400_000, seed=3, reward=reward).projection[:, 0]
    exact = zscore_overlap(bernoulli_rewards(0.1, prompts=1, signal_std=signal), 10)
    assert agrees(progress, exact)
    rho = reward.told.signal(config.sigma).correlation
    assert not agrees(progress, rho * 0.9228)  # alpha rho c(10)


def judged(config, land, reward, replicas=1500, seed=5, level=1e-3):
    records = reduced(config, land, replicas=replicas, steps=[config.steps], seed=seed, reward=reward)
    observed, _ = observe(config, reward.told if reward else land, records, [config.steps])
    return judge(observed_pairs(observed, level), level)


BROAD = Landscape(dim=400, eigenvalue=[1.0], multiplicity=[40], offset=[0.3], reward_std=0.02)


BROKEN = {
    "bernoulli": (lambda: sigmoid_reward(BROAD, prompts=4), 0.2),
    "sigmoid": (lambda: sigmoid_reward(BROAD), 0.6),
    "heavy tail": (lambda: heavy_tail_reward(replace(BROAD, reward_std=5.0), noise_df=2.1), 0.02),
    "cubic": (lambda: cubic_reward(BROAD, cubic=3.0), 0.6),
}


@pytest.mark.parametrize("name", variants(BROKEN, fast={"sigmoid", "heavy tail"}))
def test_broken_assumptions_are_refuted(name):
    """But for the flat walk, whose law holds for any reward."""
    make, sigma = BROKEN[name]
    config = ESConfig(dim=400, sigma=sigma, population=30, steps=10)
    found = judged(config, BROAD, make(), replicas=20_000)
    assert exit_code(found) == 3
    assert "progress_per_step" in {v.prediction.quantity for v in found if v.kind == "refuted"}
    assert [v for v in found if v.measurement.where.startswith("flat") and v.kind == "refuted"] == []


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [("sigmoid", {}), ("bernoulli", {}), ("heavy-tail", {"noise_df": 50.0}), ("cubic", {})],
)
def test_small_steps_are_consistent(kind, parameters):
    """With small perturbations and few steps every mean reward is its expansion."""
    config = ESConfig(dim=400, sigma=0.01, population=30, steps=3)
    found = judged(config, BROAD, named_reward(kind, BROAD, **parameters))
    assert exit_code(found) == 0


def test_a_population_of_ties_does_not_move():
    """At an accuracy of .98 most populations of 4 single outcomes tie: the walk is shorter by the share that moves."""
    land = Landscape(dim=10**6, eigenvalue=[1.0], multiplicity=[1], offset=[1.0])
    config = ESConfig(dim=10**6, sigma=1e-6, alpha=1e-6, population=4)
    reward = sigmoid_reward(land, start_accuracy=0.98, best_accuracy=0.99, prompts=1)
    records = reduced(config, land, replicas=20_000, seed=6, reward=reward)
    square = records.flat_gram[:, 0, 0] / (config.alpha**2 * (10**6 - 1) / 4)
    assert agrees(square, 1 - 0.98**4 - 0.02**4)
    assert not agrees(square, 1 - 0.98**5)
    found = {v.prediction.quantity: v.kind for v in judged(config, land, reward)}  # cosines of no motion are 0
    assert found["displacement_norm"] == "refuted"


@pytest.mark.parametrize(
    ("kind", "parameters", "says"),
    [
        ("linear", {}, "heavy-tail"),
        ("sigmoid", {"prompts": 4}, "bernoulli"),
        ("quadratic", {"cubic": 1.0}, "--cubic has no use"),
        ("bernoulli", {"prompts": 0}, "prompts"),
        ("bernoulli", {"start_accuracy": 0.96}, "start < best"),
        ("sigmoid", {"best_accuracy": math.nan}, "start < best"),
        ("heavy-tail", {"noise_df": 2.0}, "noise-df"),
        ("heavy-tail", {"noise_df": math.nan}, "noise-df"),
        ("cubic", {"cubic": -0.7}, "turns round"),
        ("cubic", {"cubic": math.inf}, "cubic"),
    ],
)
def test_bad_rewards(kind, parameters, says):
    with pytest.raises(ConfigError, match=says):
        named_reward(kind, CURVED, **parameters)


def test_rewards_that_the_landscape_cannot_carry():
    at_optimum = replace(CURVED, offset=np.zeros(4), reward_std=0.0)
    for kind in set(REWARDS) - {"quadratic"}:
        with pytest.raises(ConfigError, match="above 0"):
            named_reward(kind, at_optimum)
    assert named_reward("quadratic", at_optimum) is None


def test_every_other_member_is_mirrored():
    rng, sigma = np.random.default_rng(0), 0.3
    reward = explicit_reward(replace(CURVED, reward_std=0.0), lambda x: x[..., 0] ** 3)
    config = ESConfig(**(SMALL | {"antithetic": True}))
    centre, eps = rng.standard_normal((2, 1)), rng.standard_normal((2, 4, 1))
    got = evaluation(reward, config, np.zeros(2), centre, eps, rng)(np.zeros((2, 8)))
    expected = [(centre[:, None] + sign * sigma * eps)[:, :, 0] ** 3 for sign in (1, -1)]
    assert got == pytest.approx(np.stack(expected, axis=2).reshape(2, 8), rel=1e-12)
