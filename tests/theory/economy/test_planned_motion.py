"""The cosine of a planned run with its gradient, against runs of every coordinate."""

import math
from dataclasses import replace

import numpy as np
import pytest

from estheory.landscape import Signal, linear_signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.economy.planned_motion import planned_predictions
from estheory.theory.economy.update import turning_cosine
from estheory.theory.estimators import estimator_of
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


def test_the_cosine_scatters_along_the_gradient_and_with_the_length_of_the_walk():
    run, runs = replace(RUN, dim=40), 1000
    rng, theta = np.random.default_rng(3), np.zeros((1000, 40))
    for _ in range(30):
        eps = rng.standard_normal((runs, 20, 40))
        rewards = 0.1 * 2.0 * eps[:, :, 0] + 0.3 * rng.standard_normal((runs, 20))
        z = (rewards - rewards.mean(axis=1, keepdims=True)) / rewards.std(axis=1, keepdims=True)
        theta += 0.05 / 20 * np.einsum("rn,rnd->rd", z, eps)
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


def test_the_exact_cosine_of_the_first_step_is_left_to_predict():
    found = [p.quantity for p in planned_predictions(RUN, SIGNAL, 0.0, [1, 2])]
    assert found == [Quantity.COHERENT_DISPLACEMENT, Quantity.COHERENT_DISPLACEMENT, Quantity.GRADIENT_COSINE]


@pytest.mark.parametrize(
    "changed",
    [{"momentum": 0.9}, {"anchor_l2": 0.1}, {"noise": "low-rank:2"}, {"noise": "shared-seed"}, {"dtype": "bfloat16"}],
)
def test_where_updates_do_not_add_up_nothing_is_predicted(changed):
    config = ESConfig(dim=400, sigma=0.1, alpha=0.05, population=20, **changed)
    assert list(planned_predictions(config, SIGNAL, 0.0, [10])) == []
    assert list(planned_predictions(RUN, Signal(), 0.0, [10])) == []
