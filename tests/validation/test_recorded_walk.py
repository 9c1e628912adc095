"""The conditioned law of ||Delta||^2 for every noise structure against brute force, tensor by tensor and in all."""

import math

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.validation.recorded_walk import RecordedWalk
from tests.recorded_runs import own_run
from tests.statistics import agrees, variance_agrees
from tests.variants import variants

SHAPES = {"a.embed": (12, 4), "b.mlp": (6, 8), "b.norm": (9,)}  # a and b.mlp have as many entries
ALPHA, N, T, REPLICAS = 0.02, 6, 5, 20_000


def record(coefficients, **options):
    rows = tuple({"step": t, "coefficients": list(map(float, z))} for t, z in enumerate(coefficients, start=1))
    dim = sum(math.prod(shape) for shape in SHAPES.values())
    return own_run(rows, dim=dim, alpha=ALPHA, population=N, **options)


def coefficients(seed=0):
    z = np.random.default_rng(seed).normal(size=(T, N))
    z -= z.mean(axis=1, keepdims=True)
    return z / z.std(axis=1, keepdims=True)


def draw(rng, shape, kind):
    """Return the noise of one member for one tensor in every replica, shape (replicas, size)."""
    if kind.startswith("low-rank") and len(shape) == 2:
        rank = int(kind.split(":")[1])
        left, right = (rng.standard_normal((REPLICAS, n, rank)) for n in shape)
        return (np.einsum("rik,rjk->rij", left, right) / math.sqrt(rank)).reshape(REPLICAS, -1)
    return rng.standard_normal((REPLICAS, math.prod(shape)))


def squared_norms(z, *, kind="gaussian", factors=None, l1=0.0, form="before", l2=0.0, momentum=0.0, antithetic=False):
    """Return ||Delta||^2 of each tensor, shape (replicas,), from the definitions."""
    rng = np.random.default_rng(7)
    factors = factors or {}
    place = {name: np.zeros((REPLICAS, math.prod(shape))) for name, shape in SHAPES.items()}
    speed = {name: np.zeros_like(x) for name, x in place.items()}
    for row in z:
        update = {name: np.zeros_like(x) for name, x in place.items()}
        for k in range(0, N, 2 if antithetic else 1):
            weight = ALPHA / N * (row[k] - row[k + 1] if antithetic else row[k])
            drawn = {}
            for name, shape in SHAPES.items():
                key = math.prod(shape) if kind == "shared-seed" else name
                if key not in drawn:
                    drawn[key] = draw(rng, shape, kind)
                update[name] += weight * factors.get(name, 1.0) * drawn[key]
        for name, x in place.items():
            speed[name] = momentum * speed[name] + (1 - momentum) * update[name]
            if form == "before":
                place[name] = x + speed[name] - l2 * x - l1 * np.sign(x)
            else:
                moved = x + speed[name]
                place[name] = np.sign(moved) * np.maximum(np.abs(moved) - l1, 0.0) - l2 * moved
    return {name: np.sum(x**2, axis=1) for name, x in place.items()}


CASES = {
    "gaussian": ({}, {}),
    "low-rank": ({"noise": "low-rank:1"}, {"kind": "low-rank:1"}),
    "low-rank, momentum": ({"noise": "low-rank:2", "momentum": 0.6}, {"kind": "low-rank:2", "momentum": 0.6}),
    "shared-seed": ({"noise": "shared-seed"}, {"kind": "shared-seed"}),
    "modules": ({"module_sigma": ("mlp=2", "norm=0.5")}, {"factors": {"b.mlp": 2.0, "b.norm": 0.5}}),
    "shared-seed, modules": (
        {"noise": "shared-seed", "module_sigma": ("mlp=2",)},
        {"kind": "shared-seed", "factors": {"b.mlp": 2.0}},
    ),
    "antithetic, L2": ({"antithetic": True, "anchor_l2": 0.2}, {"antithetic": True, "l2": 0.2}),
}


@pytest.mark.parametrize("name", variants(CASES, fast={"low-rank, momentum", "shared-seed, modules", "antithetic, L2"}))
def test_squared_norms_of_a_recorded_walk(name):
    options, brute = CASES[name]
    z = coefficients()
    walk, found = RecordedWalk.of(record(z, **options)), squared_norms(z, **brute)
    factors = walk.factors(SHAPES)
    for tensor, shape in SHAPES.items():
        law = walk.tensor(T, shape, factors[tensor])
        assert agrees(found[tensor], law.mean)
        assert variance_agrees(found[tensor], 2 * law.mean**2 / law.freedom)
        assert law.error == 0.0
    law, total = walk.total(T, SHAPES), sum(found.values())
    assert agrees(total, law.mean)
    assert variance_agrees(total, 2 * law.mean**2 / law.freedom)
    assert not agrees(total, 1.02 * law.mean)
    if not walk.plain:  # what independent entries of one variance would do
        size = sum(math.prod(shape) for shape in SHAPES.values())
        assert not variance_agrees(total, 2 * (size * walk.variance(T)) ** 2 / size)


@pytest.mark.parametrize("form", variants(["before", "after"], fast={"after"}))
def test_l1_anchor_within_its_declared_error(form):
    pull, z = 0.1 * ALPHA / math.sqrt(N), coefficients()
    walk = RecordedWalk.of(record(z, anchor_l1=pull, anchor_form=form))
    found = squared_norms(z, l1=pull, form=form)
    law, total = walk.total(T, SHAPES), sum(found.values())
    assert law.error < 0.02
    assert any(agrees(total, law.mean * (1 + k * law.error)) for k in np.linspace(-1, 1, 9))
    assert not agrees(total, sum(map(math.prod, SHAPES.values())) * walk.variance(T))  # no pull
    assert variance_agrees(total, 2 * law.mean**2 / law.freedom)


def test_l1_anchor_needs_independent_entries():
    with pytest.raises(DataError, match="low-rank"):
        RecordedWalk.of(record(coefficients(), anchor_l1=1e-3, noise="low-rank:1"))


def test_l1_anchor_needs_steps_of_one_length():
    z = coefficients() * np.arange(1, T + 1)[:, None]
    with pytest.raises(DataError, match="unequal length"):
        RecordedWalk.of(record(z, anchor_l1=1e-3))
