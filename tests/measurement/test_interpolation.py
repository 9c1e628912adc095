"""The line between two checkpoints, on a quadratic whose rise over the chord is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from estheory.errors import ConfigError, DataError
from estheory.measurement.interpolation import (
    Interpolation,
    checkpoint_vector,
    interpolate,
    interpolate_checkpoints,
)
from estheory.models.checkpoints import open_checkpoint
from estheory.models.parameters import FlatParameters

Z = 5.0


@pytest.fixture
def flat(make_llama):
    return FlatParameters(make_llama(0))


def ends(flat):
    generator = torch.Generator().manual_seed(1)
    return [flat.vector + 0.1 * torch.randn(flat.dim, generator=generator) for _ in range(2)]


def test_quadratic_rise_is_half_u_times_one_minus_u_times_curvature(flat):
    start, end = ends(flat)
    eigenvalues = torch.linspace(0, 3, flat.dim, dtype=torch.float64)
    weights = np.linspace(0.5, 1.5, 20)  # prompts of unequal sensitivity, mean 1

    def evaluate():
        return -0.5 * float((eigenvalues * flat.vector.double() ** 2).sum()) * weights

    line = interpolate(flat, start, end, evaluate)
    curvature = float((eigenvalues * (end.double() - start.double()) ** 2).sum())
    u = np.linspace(0, 1, 11)
    # theta(u) is rounded to float32: 6e-8 of each weight, averaged over 800 of them
    np.testing.assert_allclose(line.rises, 0.5 * u * (1 - u) * curvature, atol=1e-6 * curvature)
    rise, stderr, fraction = line.largest_rise
    assert (rise, fraction) == (pytest.approx(curvature / 8, rel=1e-5), 0.5)
    assert line.middle_rise[0] == pytest.approx(curvature / 8, rel=1e-5)
    spread = np.std(weights, ddof=1) / math.sqrt(20) * curvature / 8
    assert stderr == pytest.approx(spread, rel=1e-5)
    assert line.middle_rise[1] == pytest.approx(spread, rel=1e-5)


def test_ends_are_exact_and_the_model_is_put_back_also_after_an_error(flat):
    start, end = ends(flat)
    before, seen = flat.vector.clone(), []

    def evaluate():
        seen.append(flat.vector.clone())
        return [0.0, 1.0]

    interpolate(flat, start, end, evaluate, points=5)
    assert len(seen) == 5
    assert torch.equal(seen[0].view(torch.int32), start.view(torch.int32))
    assert torch.equal(seen[-1].view(torch.int32), end.view(torch.int32))
    torch.testing.assert_close(seen[2], (start + end) / 2)
    assert torch.equal(flat.vector.view(torch.int32), before.view(torch.int32))

    def fail():
        raise RuntimeError("evaluation failed")

    with pytest.raises(RuntimeError):
        interpolate(flat, start, end, fail)
    assert torch.equal(flat.vector.view(torch.int32), before.view(torch.int32))


def test_pairing_the_prompts_gives_the_true_error_of_a_rise():
    """500 lines of 50 prompts of unequal difficulty: the rise's spread is that of the paired differences."""
    rng, u = np.random.default_rng(0), np.linspace(0, 1, 11)
    rises, claims, unpaired, middles, middle_claims = [], [], [], [], []
    for _ in range(500):
        difficulty = 3 * rng.normal(size=50)
        scores = difficulty + 0.8 * (u * (1 - u))[:, None] + 0.3 * rng.normal(size=(11, 50))
        line = Interpolation(fractions=u, scores=scores)
        rises.append(line.rises[5])
        claims.append(line.rise_stderrs[5] ** 2)
        unpaired.append(line.stderrs[5] ** 2 + (line.stderrs[0] ** 2 + line.stderrs[-1] ** 2) / 4)
        middles.append(line.middle_rise[0])
        middle_claims.append(line.middle_rise[1] ** 2)
    for values, squares in ((rises, claims), (middles, middle_claims)):
        assert abs(np.mean(values) - 0.2) < Z * np.std(values) / math.sqrt(500)
        assert abs(np.mean(squares) / np.var(values) - 1) < Z * math.sqrt(2 / 500)
    assert np.mean(unpaired) > 10 * np.var(rises)


def test_largest_of_noisy_rises_is_high_and_the_fitted_one_is_not():
    """No rise at all: the best of nine points is positive on average, which is why the fit is offered."""
    rng, u = np.random.default_rng(1), np.linspace(0, 1, 11)
    lines = [Interpolation(fractions=u, scores=rng.normal(size=(11, 50))) for _ in range(400)]
    best, fitted = [
        np.array([f(line) for line in lines]) for f in (lambda x: x.largest_rise[0], lambda x: x.middle_rise[0])
    ]
    assert best.mean() > Z * best.std() / 20
    assert abs(fitted.mean()) < Z * fitted.std() / 20


def test_measurements_list_every_point_and_the_gain():
    scores = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    rows = Interpolation(fractions=np.array([0, 0.5, 1]), scores=scores).measurements(where="es|grpo")
    assert [(row.quantity, row.where, row.value) for row in rows] == [
        ("accuracy", "es|grpo:u=0", 0.5),
        ("accuracy", "es|grpo:u=0.5", 1.0),
        ("accuracy", "es|grpo:u=1", 0.5),
        ("interpolation_gain", "es|grpo:u=0.5", 0.5),
    ]


def test_checkpoints_are_read_into_the_order_of_the_parameters(make_llama, flat, tmp_path):
    flat.write_safetensors(tmp_path / "a.safetensors")
    make_llama(1).save_pretrained(tmp_path / "b")
    vector = checkpoint_vector(flat, open_checkpoint(tmp_path / "a.safetensors"))
    assert torch.equal(vector, flat.vector)
    seen = []

    def evaluate():
        seen.append(flat.vector.clone())
        return [0.0, 0.0]

    interpolate_checkpoints(flat, tmp_path / "a.safetensors", tmp_path / "b", evaluate, points=3)
    assert torch.equal(seen[0], flat.vector)
    assert torch.equal(seen[2], FlatParameters(make_llama(1)).vector)
    part = FlatParameters(make_llama(0), "last:1")
    with pytest.raises(DataError, match=r"trainable tensors \(first difference: model\.embed_tokens\.weight\)"):
        checkpoint_vector(part, open_checkpoint(tmp_path / "a.safetensors"))


def test_impossible_lines_are_refused(flat):
    start, end = ends(flat)
    with pytest.raises(ConfigError, match="2 points"):
        interpolate(flat, start, end, lambda: [0.0, 1.0], points=2)
    with pytest.raises(ConfigError, match="are no line"):
        interpolate(flat, start[:-1], end, lambda: [0.0, 1.0])
    for bad in ([1.0], [math.nan, 1.0]):
        with pytest.raises(DataError, match="scores"):
            interpolate(flat, start, end, lambda bad=bad: bad)
