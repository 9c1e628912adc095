"""The cosine of a planned run with its gradient, against runs of every coordinate."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from estheory.landscape import Signal, linear_signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.curved.predictions import OffTask
from estheory.theory.economy.planned_motion import planned_gain, planned_predictions
from estheory.theory.economy.update import turning_cosine
from estheory.theory.estimators import estimator_of
from estheory.theory.predictions import predict
from estheory.theory.signal import progress_per_step
from tests.statistics import Z

RUN = ESConfig(dim=400, sigma=0.1, alpha=0.05, population=20, steps=30)
SIGNAL = linear_signal(sigma=0.1, gradient_norm=2.0, reward_std=0.3)


def told(config, signal, even, step):
    found = {p.quantity: p.law.mean for p in planned_predictions(config, signal, even, [step])}
    return found[Quantity.COHERENT_DISPLACEMENT], found[Quantity.GRADIENT_COSINE]


def test_a_straight_run_is_met():
    rng, cosines, along = np.random.default_rng(0), [], []
    for _ in range(200):
        theta = np.zeros(RUN.dim)
        for _ in range(30):
            eps = rng.standard_normal((20, RUN.dim))
            rewards = 0.1 * 2.0 * eps[:, 0] + 0.3 * rng.standard_normal(20)
            theta += 0.05 / 20 * ((rewards - rewards.mean()) / rewards.std()) @ eps
        along.append(theta[0])
        cosines.append(theta[0] / np.linalg.norm(theta))
    length, cosine = told(RUN, SIGNAL, 0.0, 30)
    assert abs(np.mean(along) - length) < Z * np.std(along) / math.sqrt(200)
    assert abs(np.mean(cosines) - cosine) < Z * np.std(cosines) / math.sqrt(200) + 0.01  # mean-field
    assert abs(np.mean(cosines) - 0.8 * cosine) > Z * np.std(cosines) / math.sqrt(200) + 0.01  # control


NARROW = replace(RUN, dim=40)


@cache
def narrow_runs():
    """Ends of a thousand runs of few coordinates along a gradient that stays, the first coordinate."""
    rng, theta = np.random.default_rng(3), np.zeros((1000, 40))
    for _ in range(30):
        eps = rng.standard_normal((1000, 20, 40))
        rewards = 0.1 * 2.0 * eps[:, :, 0] + 0.3 * rng.standard_normal((1000, 20))
        z = (rewards - rewards.mean(axis=1, keepdims=True)) / rewards.std(axis=1, keepdims=True)
        theta += 0.05 / 20 * np.einsum("rn,rnd->rd", z, eps)
    return theta


def test_two_runs_that_learn_the_same():
    theta = narrow_runs()
    one, other = theta[0::2], theta[1::2]
    cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    [law] = [
        p.law for p in planned_predictions(NARROW, SIGNAL, 0.0, [10, 30]) if p.quantity is Quantity.INDEPENDENT_COSINE
    ]
    error = Z * np.std(cosines) / math.sqrt(cosines.size)
    assert abs(np.mean(cosines) - law.mean) < 0.02 * law.mean + error  # mean-field
    assert abs(np.mean(cosines) - 0.7 * law.mean) > 0.02 * law.mean + error  # control
    assert abs(np.std(cosines) / law.std - 1) < Z / math.sqrt(2 * cosines.size)
    walks = (1 - law.mean) / math.sqrt(NARROW.dim)  # control: the walks' product alone
    assert abs(np.std(cosines) / walks - 1) > Z / math.sqrt(2 * cosines.size)


def test_kl_of_a_run_that_its_signal_moves():
    fisher, along = 0.2, 4.0
    known = OffTask(fisher_trace=fisher * 39 + along, signal_curvature=along)
    theta = narrow_runs()
    kls = 0.5 * fisher * (theta[:, 1:] ** 2).sum(axis=1) + 0.5 * along * theta[:, 0] ** 2
    told = predict(NARROW, reward=SIGNAL, off_task=known).get(Quantity.KL_DRIFT)
    error = Z * kls.std() / math.sqrt(kls.size)
    assert abs(kls.mean() - told.law.mean) < 0.03 * told.law.mean + error
    assert abs(kls.mean() - 0.8 * told.law.mean) > 0.03 * told.law.mean + error  # control
    walk = predict(NARROW, off_task=known).get(Quantity.KL_DRIFT).law.mean
    assert kls.mean() > 2 * walk  # control: the walk alone
    assert told.label == "small-step"


def test_kl_is_never_negative_and_says_where_it_is_not_known():
    noisy = OffTask(fisher_trace=3.0, signal_curvature=-50.0, signal_curvature_stderr=40.0)
    told = predict(NARROW, reward=SIGNAL, off_task=noisy).get(Quantity.KL_DRIFT)
    walk = predict(NARROW, off_task=noisy).get(Quantity.KL_DRIFT).law.mean
    assert told.law.mean > walk
    assert told.law.interval(0.95)[0] == 0.0
    unknown = predict(NARROW, reward=SIGNAL, off_task=OffTask(fisher_trace=3.0))
    assert not any(p.quantity is Quantity.KL_DRIFT for p in unknown.predictions)
    [warning] = [w for w in unknown.warnings if w.startswith("no kl_drift at step 30")]
    assert "estheory probe --mirrored" in warning
    both = predict(NARROW, reward=SIGNAL, off_task=replace(noisy, trace=1.0))
    assert [w for w in both.warnings if w.startswith("no off_task_reward_change")]


def test_the_cosine_scatters_along_the_gradient_and_with_the_length_of_the_walk():
    run, runs, theta = NARROW, 1000, narrow_runs()
    cosines = theta[:, 0] / np.linalg.norm(theta, axis=1)
    [law] = [p.law for p in planned_predictions(run, SIGNAL, 0.0, [30]) if p.quantity is Quantity.GRADIENT_COSINE]
    error = Z / math.sqrt(2 * runs)  # with 400 coordinates, where the cosine is 0.55, the law is 5 % too wide
    along = math.sqrt((1 - law.mean**2) ** 3 / run.dim)
    assert abs(np.std(cosines) / law.std - 1) < error
    assert abs(np.std(cosines) / along - 1) > error  # control: the projection's scatter alone


def test_the_walk_turns_the_gradient():
    steps, even = 200, 0.004
    length, cosine = told(RUN, SIGNAL, even, steps)
    straight, straight_cosine = told(RUN, SIGNAL, 0.0, steps)
    assert length < straight
    assert cosine < straight_cosine
    walk = estimator_of(RUN).variance(SIGNAL).value
    turned = turning_cosine(
        walk_variance=walk * (steps - 1), sigma=0.1, even_variance=even, linear_variance=(0.1 * 2.0) ** 2
    )
    assert turned < cosine / straight_cosine < 1  # its mean over the run


def test_two_updates_written_out():
    """The second follows a gradient that the walk of the first has turned."""
    even, walk = 0.01, estimator_of(RUN).variance(SIGNAL).value
    each = progress_per_step(RUN, SIGNAL)
    turned = turning_cosine(walk_variance=walk, sigma=0.1, even_variance=even, linear_variance=(0.1 * 2.0) ** 2)
    assert turned < 0.999
    laws = {p.quantity: p.law for p in planned_predictions(RUN, SIGNAL, even, [2])}
    square = each**2 * (2 + 2 * turned)
    assert laws[Quantity.COHERENT_DISPLACEMENT].mean == pytest.approx(math.sqrt(square), rel=1e-12)
    cosine = each * (1 + turned) / math.sqrt(2 * walk * RUN.dim + square)
    assert laws[Quantity.GRADIENT_COSINE].mean == pytest.approx(cosine, rel=1e-12)
    spread = (1 - cosine**2) * math.sqrt((1 - cosine**2 / 2) / RUN.dim)
    assert laws[Quantity.GRADIENT_COSINE].std == pytest.approx(spread, rel=1e-12)
    assert laws[Quantity.INDEPENDENT_COSINE].mean == pytest.approx(cosine**2, rel=1e-12)
    scatter = (1 - cosine**2) * math.sqrt((2 - (1 - cosine**2) ** 2) / RUN.dim)
    assert laws[Quantity.INDEPENDENT_COSINE].std == pytest.approx(scatter, rel=1e-12)
    assert told(RUN, SIGNAL, -even, 2)[0] == 2 * each  # an even part that was measured below 0 turns nothing


def test_the_exact_cosine_of_the_first_step_is_left_to_predict():
    found = [p.quantity for p in planned_predictions(RUN, SIGNAL, 0.0, [1, 2])]
    length, cosine, of_two = Quantity.COHERENT_DISPLACEMENT, Quantity.GRADIENT_COSINE, Quantity.INDEPENDENT_COSINE
    assert found == [length, length, cosine, of_two]


@pytest.mark.parametrize(
    "changed",
    [{"momentum": 0.9}, {"anchor_l2": 0.1}, {"noise": "low-rank:2"}, {"noise": "shared-seed"}, {"dtype": "bfloat16"}],
)
def test_where_updates_do_not_add_up_nothing_is_predicted(changed):
    config = ESConfig(dim=400, sigma=0.1, alpha=0.05, population=20, **changed)
    assert list(planned_predictions(config, SIGNAL, 0.0, [10])) == []
    assert list(planned_predictions(RUN, Signal(), 0.0, [10])) == []


@pytest.mark.parametrize("directions", [8, 100])
def test_the_rise_over_the_chord_to_the_optimum(directions):
    """One gap and one even variance, as a pilot measures them, stand for the curvature."""
    run, runs, curvature = replace(RUN, dim=120, steps=20, antithetic=True), 120, 0.8
    lam, rng = np.zeros(120), np.random.default_rng(4)
    lam[:directions] = curvature
    gradient = np.zeros(120)
    gradient[0] = 1.0
    apart = np.tile(-gradient / curvature, (runs, 1))
    for _ in range(20):
        half = rng.standard_normal((runs, 10, 120))
        eps = np.concatenate([half, -half], axis=1)
        moved = apart[:, None] + 0.1 * eps
        rewards = -0.5 * moved**2 @ lam + 0.05 * rng.standard_normal((runs, 20))
        z = (rewards - rewards.mean(axis=1, keepdims=True)) / rewards.std(axis=1, keepdims=True)
        apart += 0.05 / 20 * np.einsum("rn,rnd->rd", z, eps)
    rises = apart**2 @ lam / 8
    even = 0.5 * 0.1**4 * (lam**2).sum()
    signal = replace(
        linear_signal(sigma=0.1, gradient_norm=1.0, reward_std=math.hypot(0.05, math.sqrt(even))),
        even_share=even / (0.1**2 + 0.05**2 + even),
    )
    [told] = planned_gain(run, signal, even_variance=even, trace=lam.sum(), steps=[20])
    error = Z * rises.std() / math.sqrt(runs)
    assert abs(rises.mean() - told.law.mean) < 0.05 * told.law.mean + error
    assert abs(rises.mean() - told.law.mean * 1.3) > 0.05 * told.law.mean + error  # control
    straight = (1.0 / curvature - 20 * progress_per_step(run, signal)) ** 2 * curvature / 8
    assert rises.mean() - straight > error  # control: neither slows down nor walks
    assert list(planned_gain(replace(run, momentum=0.5), signal, even_variance=even, trace=80.0, steps=[20])) == []
    assert list(planned_gain(run, signal, even_variance=0.0, trace=80.0, steps=[20])) == []
    assert list(planned_gain(run, signal, even_variance=even, trace=0.0, steps=[20])) == []
    assert list(planned_gain(run, Signal(), even_variance=even, trace=80.0, steps=[20])) == []
