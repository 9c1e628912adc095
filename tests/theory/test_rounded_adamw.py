"""AdamW on rounded parameters against brute force."""

import math

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.floats import FORMATS, rounded
from estheory.theory.rounding.adamw import adamw_rounding, correlated_gains
from estheory.theory.rounding.gains import rounding_gain
from estheory.theory.rounding.weights import normal_weights
from tests.statistics import agrees


@pytest.mark.parametrize("x", [0.15, 0.3, 0.6, 2.0])
def test_a_rounded_autocorrelated_walk(x):
    rng, steps, replicas, beta = np.random.default_rng(1), 400, 20_000, 0.9
    z = rng.standard_normal(replicas)
    moved = np.zeros(replicas)
    for _ in range(steps):
        moved += np.round(x * z)
        z = beta * z + math.sqrt(1 - beta**2) * rng.standard_normal(replicas)
    finite = 1 - 2 * beta / (steps * (1 - beta**2))  # edge of the sum over lags, order 1
    squares = moved**2 / (steps * x**2 * (1 + beta) / (1 - beta)) / finite
    expected = float(correlated_gains(np.array(x)))
    assert agrees(squares, expected)
    assert not agrees(squares, rounding_gain(x) if x < 1 else 1.1)  # as if steps were independent


def test_adamw_with_bfloat16_parameters():
    rng, d, steps, lr = np.random.default_rng(2), 60_000, 300, 2e-4
    start = rounded(0.02 * rng.standard_normal(d), FORMATS["bfloat16"])
    weights, m, v = start.copy(), np.zeros(d), np.zeros(d)
    for t in range(1, steps + 1):
        g = rng.standard_normal(d)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        update = lr * (m / (1 - 0.9**t)) / np.sqrt(v / (1 - 0.999**t))
        weights = rounded(weights - update, FORMATS["bfloat16"])
    effect = adamw_rounding(lr, steps, normal_weights(0.02), schedule="constant")
    measured = float(np.mean((weights - start).astype(np.float64) ** 2)) / (lr**2 * steps)
    assert abs(measured / effect.variance - 1) < 0.10  # the first steps are larger: k(300) = 1.04
    assert abs(measured - 1) > 0.10  # what a master copy would give


def test_small_updates_are_swallowed():
    effect = adamw_rounding(3e-6, 80, normal_weights(0.02))
    assert effect.signal < 0.1
    assert adamw_rounding(1e-2, 80, normal_weights(0.02), schedule="constant").variance == pytest.approx(1, abs=0.01)
    with pytest.raises(ConfigError):
        adamw_rounding(1e-5, 80, normal_weights(0.02), dtype="float32")
