"""Gradient of the log-probability reward of tiny-lm: against forward passes, and against what a probe estimates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from estheory.errors import ConfigError, DataError
from estheory.measurement.reward_curvature import _cosine, _logits, _norm, reward_curvature
from estheory.models.decode import answer_log_probabilities
from estheory.models.load import load_model
from estheory.models.parameters import FlatParameters
from estheory.tasks import get_task
from tests.statistics import Z, agrees


@pytest.fixture(scope="module")
def loaded():
    found = load_model("tiny-lm")
    found.model.set_attn_implementation("eager")
    return found


def test_the_reward_is_that_of_runs(loaded):
    examples = get_task("addition").examples("train", 12, 0)
    z, score = _logits(loaded, examples)
    expected = answer_log_probabilities(
        loaded.model, loaded.tokenizer, [e.prompt for e in examples], [e.reference for e in examples]
    )
    with torch.no_grad():
        assert float(score(z())) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_norm_and_cosine_are_unbiased_by_the_noise_of_groups():
    rng = np.random.default_rng(0)
    gradient = np.zeros(50)
    gradient[0] = 1.0
    step = torch.tensor(np.concatenate([[0.6, 0.8], np.zeros(48)]))
    squares, cosines, plain = [], [], []
    for _ in range(2000):
        groups = torch.tensor(gradient + 0.3 * rng.normal(size=(8, 50)))
        norm = _norm(groups, (8, 0.0))
        squares.append(norm.value**2)
        cosines.append(_cosine(groups, step, norm).value * norm.value)
        plain.append(float(groups.mean(0).norm()) ** 2)
    assert agrees(squares, 1.0)
    assert agrees(cosines, 0.6)
    assert not agrees(plain, 1.0)


def test_a_displacement_along_the_gradient_has_cosine_one(tmp_path, loaded):
    parameters = FlatParameters(loaded.model)
    base = parameters.vector.clone()
    examples = get_task("addition").examples("train", 32, 0)
    z, score = _logits(loaded, examples)
    gradients = torch.autograd.grad(score(z()), [dict(loaded.model.named_parameters())[n] for n in parameters.names])
    flat = torch.cat([g.reshape(-1) for g in gradients])
    parameters.write_safetensors(tmp_path / "up.safetensors", base + 1e-2 * flat)
    parameters.write_safetensors(tmp_path / "same.safetensors", base)
    options = {"prompts": 32, "groups": 8, "directions": 0}
    found = reward_curvature("tiny-lm", "addition", displacements={"up": tmp_path / "up.safetensors"}, **options)
    # the mean gradient's own cosine is 1; the norm has the groups' noise taken out
    assert found.cosines["up"].value == pytest.approx(float(flat.norm()) / found.gradient_norm.value, rel=1e-3)
    assert found.gradient_norm.products == 8
    assert math.isnan(found.trace.value)
    with pytest.raises(DataError, match="length 0"):
        reward_curvature("tiny-lm", "addition", displacements={"s": tmp_path / "same.safetensors"}, **options)
    with pytest.raises(ConfigError, match="divided"):
        reward_curvature("tiny-lm", "addition", prompts=10, groups=4)


@pytest.mark.slow
def test_a_probe_of_members_has_the_gradient_and_the_trace_that_derivatives_have():
    from estheory.runs.config import ESRunConfig
    from estheory.training.reward_probe import reward_probe
    from estheory.training.session import start_session

    sigma = 0.003  # small enough for a quadratic
    config = ESRunConfig(
        model="tiny-lm", task="addition", reward="logprob", steps=200, sigma=sigma, alpha=sigma / 2, prompts=64
    )
    estimates = reward_probe(start_session(config, evaluates=False))["reward"]["estimates"]
    exact = reward_curvature("tiny-lm", "addition", prompts=512, groups=16, directions=24, eigenvalues=1)
    for name, probed in (("gradient_norm", exact.gradient_norm), ("trace", exact.trace)):
        estimate = estimates[name]
        error = math.hypot(estimate["stderr"], probed.stderr)
        assert abs(estimate["value"] - probed.value) < Z * error, name
        assert error < 0.2 * probed.value, name  # a wrong factor of 2 would be seen
    assert exact.eigenvalues[0].value > exact.ggn_eigenvalues[0].value > 0
