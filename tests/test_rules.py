"""Configurations refuse what no result covers; conventions are checked against the updates they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.rules import ESConfig, UpdateConvention

GOOD = {"dim": 10, "sigma": 0.1, "population": 8}


def explicit_update(convention, step, sigma, z, eps):
    """The updates as the code bases write them, plain SGD as the outer optimiser."""
    n = len(z)
    if convention is UpdateConvention.CANONICAL:
        return step * np.mean(z[:, None] * eps, axis=0)
    if convention is UpdateConvention.SALIMANS:
        return step * (1 / (n * sigma)) * z @ eps
    return step * np.sqrt(n) * np.mean(z[:, None] * (sigma * eps), axis=0)


@pytest.mark.parametrize("convention", UpdateConvention)
@given(step=h.floats(1e-6, 10), sigma=h.floats(1e-4, 2), n=h.integers(2, 64), seed=h.integers(0, 2**32 - 1))
def test_conversions_make_the_same_update(convention, step, sigma, n, seed):
    rng = np.random.default_rng(seed)
    z, eps = rng.standard_normal(n), rng.standard_normal((n, 5))
    alpha = convention.canonical_alpha(step, sigma=sigma, population=n)
    canonical = explicit_update(UpdateConvention.CANONICAL, alpha, sigma, z, eps)
    assert canonical == pytest.approx(explicit_update(convention, step, sigma, z, eps), rel=1e-9, abs=1e-12 * step)
    assert convention.step_size(alpha, sigma=sigma, population=n) == pytest.approx(step, rel=1e-12)


def test_the_conventions_differ():
    alphas = {c.canonical_alpha(1.0, sigma=0.1, population=9) for c in UpdateConvention}
    assert sorted(alphas) == pytest.approx([0.3, 1.0, 10.0])


def test_alpha_defaults_to_half_sigma():
    assert ESConfig(**GOOD).step_size == 0.05


@pytest.mark.parametrize(
    "bad",
    [
        {"dim": 0},
        {"dim": 2.5},
        {"sigma": 0.0},
        {"sigma": float("inf")},
        {"alpha": -1.0},
        {"population": 1},
        {"population": 2.5},
        {"steps": 0},
        {"shaping": "softmax"},
        {"noise": "low-rank:-1"},
        {"anchor_l2": 1.0},
        {"anchor_l2": -0.1},
        {"anchor_l1": float("nan")},
        {"anchor_l1": 0.1, "momentum": 0.5},
        {"momentum": 1.0},
        {"antithetic": True, "population": 7},
        {"antithetic": True, "population": 2},
        {"antithetic": True, "shaping": "raw"},
        {"dtype": "float8"},
        {"update_path": "both"},
        {"anchor_form": "during"},
        {"restore_pairs": -1},
    ],
    ids=str,
)
def test_refused(bad):
    with pytest.raises(ConfigError):
        ESConfig(**GOOD | bad)


def test_two_point_may_have_one_direction():
    assert ESConfig(**GOOD | {"population": 1, "shaping": "two-point"}).population == 1
