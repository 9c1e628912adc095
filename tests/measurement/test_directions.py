"""Scores along directions, against a reward whose value at each point is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from estheory.errors import ConfigError, DataError
from estheory.measurement.directions import probe_directions, random_direction
from estheory.models.parameters import FlatParameters


@pytest.fixture
def parameters(make_llama):
    return FlatParameters(make_llama().double())


def test_scores_are_those_at_the_points_of_the_line(parameters):
    start = parameters.vector.clone()
    up = torch.zeros_like(start)
    up[3] = 5.0
    side = random_direction(start, seed=1)
    offsets = np.array([0.0, 1.0, -2.0])

    def evaluate():
        return float(parameters.vector[3] - start[3]) + offsets

    calls = []
    probe = probe_directions(
        parameters, {"up": up, "side": side}, [0.0, 0.5, 2.0], lambda: calls.append(1) or evaluate()
    )
    np.testing.assert_allclose(probe.means[0] - probe.means[0, 0], [0.0, 0.5, 2.0], atol=1e-12)  # length 1, not 5
    np.testing.assert_allclose(probe.means[1] - probe.means[1, 0], float(side[3]) * probe.radii, atol=1e-12)
    np.testing.assert_allclose(probe.stderrs, offsets.std(ddof=1) / np.sqrt(3))
    assert len(calls) == 5  # the start once
    assert torch.equal(parameters.vector, start)


def test_random_directions_have_length_one_and_differ(parameters):
    a, b = (random_direction(parameters.vector, seed) for seed in (0, 1))
    assert float(a.norm()) == pytest.approx(1)
    assert abs(float(a @ b)) < 5 / parameters.dim**0.5
    assert torch.equal(a, random_direction(parameters.vector, 0))


def test_bad_input_leaves_the_model_alone(parameters):
    start = parameters.vector.clone()
    good = random_direction(start)
    for directions, radii in (({}, [1.0]), ({"a": good}, []), ({"a": good[:-1]}, [1.0]), ({"a": 0 * good}, [1.0])):
        with pytest.raises(ConfigError):
            probe_directions(parameters, directions, radii, lambda: np.ones(3))
    for scores in (np.array([np.nan, 1.0]), np.array([1.0])):
        with pytest.raises(DataError, match="along the line are not finite"):
            probe_directions(parameters, {"a": good}, [1.0], lambda scores=scores: scores)
    assert torch.equal(parameters.vector, start)
