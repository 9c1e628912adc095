"""Gradient, curvature products, trace and largest eigenvalue against the full Hessian of a small model."""

from __future__ import annotations

import pytest
import torch

from estheory.errors import ConfigError, DataError
from estheory.measurement.curvature import curvature_probe, curvature_product, ggn_product, reward_gradient
from estheory.models.parameters import FlatParameters
from tests.statistics import Z


@pytest.fixture
def problem():
    """A small network in float64 throughout; language models take norms in float32 whatever their dtype."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.Tanh(), torch.nn.Linear(7, 4)).double()
    parameters = FlatParameters(model)
    inputs, labels = torch.randn(20, 3, dtype=torch.float64), torch.randint(0, 4, (20,))

    def reward():
        """Mean log-probability of the labels."""
        return torch.log_softmax(model(inputs), -1)[torch.arange(20), labels].mean()

    reward.inputs, reward.labels = inputs, labels
    return model, parameters, reward


def difference(parameters, direction, evaluate, step):
    start = parameters.vector.clone()
    ends = []
    for sign in (1, -1):
        parameters.vector.copy_(start + sign * step * direction)
        ends.append(evaluate())
    parameters.vector.copy_(start)
    return (ends[0] - ends[1]) / (2 * step)


def test_gradient_and_products_agree_with_differences(problem):
    model, parameters, reward = problem
    direction = torch.randn(parameters.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradient = reward_gradient(model, parameters, reward)
    slope = difference(parameters, direction, lambda: float(reward().detach()), 1e-5)
    assert float(gradient @ direction) == pytest.approx(slope, rel=1e-6)
    product = curvature_product(model, parameters, reward, direction)
    slopes = difference(parameters, direction, lambda: reward_gradient(model, parameters, reward), 1e-5)
    torch.testing.assert_close(product, -slopes, rtol=1e-5, atol=1e-7)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(product, slopes, rtol=1e-5, atol=1e-7)  # the sign is that of minus the Hessian


def test_trace_and_eigenvalue_are_those_of_the_full_matrix(problem):
    model, parameters, reward = problem
    columns = [curvature_product(model, parameters, reward, row) for row in torch.eye(parameters.dim).double()]
    matrix = torch.stack(columns)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-9, atol=1e-12)
    probe = curvature_probe(model, parameters, reward, directions=64, eigenvalues=3)
    exact = float(matrix.trace())
    # Hutchinson with signs: variance 2 (||A||_F^2 - sum of squared diagonal entries)
    std = (2 * float(matrix.square().sum() - matrix.diagonal().square().sum())) ** 0.5 / 8
    assert abs(probe.trace.value - exact) < Z * std
    assert abs(probe.trace.value + exact) > Z * std  # the trace of the Hessian itself
    assert probe.trace.stderr == pytest.approx(std, rel=0.5)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    top = eigenvalues[eigenvalues.abs().argsort(descending=True)[:3]]
    for found, value in zip(probe.eigenvalues, top.tolist(), strict=True):
        assert abs(found.value - value) <= found.stderr + 1e-12
        assert found.stderr < 1e-3 * abs(value)
    assert probe.gradient_norm.value == pytest.approx(float(reward_gradient(model, parameters, reward).norm()))
    assert probe.trace.products == 64
    assert all(found.products > 20 for found in probe.eigenvalues)


def test_gauss_newton_is_the_curvature_without_that_of_the_outputs(problem):
    model, parameters, reward = problem
    weights = list(model.parameters())
    inputs, labels = reward.inputs, reward.labels

    def score(z):
        return torch.log_softmax(z, -1)[torch.arange(20), labels].mean()

    z = model(inputs)
    rows = [torch.cat([p.flatten() for p in torch.autograd.grad(v, weights, retain_graph=True)]) for v in z.flatten()]
    jacobian = torch.stack(rows)
    hessian = torch.autograd.functional.hessian(lambda x: score(x.reshape(20, 4)), z.detach().flatten())
    expected = -jacobian.T @ hessian @ jacobian
    direction = torch.randn(parameters.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    product = ggn_product(model, parameters, lambda: model(inputs), score, direction)
    torch.testing.assert_close(product, expected @ direction, rtol=1e-9, atol=1e-12)
    whole = curvature_product(model, parameters, reward, direction)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(product, whole, rtol=1e-2, atol=1e-4)
    assert float(direction @ product) > 0


def test_language_models(make_llama, prompts):
    """Lam is symmetric to the resolution of the float32 in which Llama takes its norms; a random matrix is not."""
    model = make_llama().double()
    model.set_attn_implementation("eager")
    parameters = FlatParameters(model)
    tokens = torch.tensor([prompts[0]])

    def reward():
        return torch.log_softmax(model(input_ids=tokens).logits[0], -1)[:-1].gather(1, tokens[0, 1:, None]).mean()

    a, b = torch.randn(2, parameters.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    products = [curvature_product(model, parameters, reward, v) for v in (a, b)]
    scale = float(products[0].norm() * b.norm())
    assert abs(float(products[0] @ b - products[1] @ a)) < 1e3 * torch.finfo(torch.float32).eps * scale
    assert abs(float(products[0] @ b)) > 1e3 * torch.finfo(torch.float32).eps * scale
    model.set_attn_implementation("sdpa")
    with pytest.raises(ConfigError, match="eager attention"):
        curvature_product(model, parameters, reward, a)


def test_bad_input(problem):
    model, parameters, reward = problem
    for options in ({"directions": 1}, {"eigenvalues": 0}):
        with pytest.raises(ConfigError, match="too few"):
            curvature_probe(model, parameters, reward, **options)
    with pytest.raises(DataError, match="not finite"):
        reward_gradient(model, parameters, lambda: reward() * float("nan"))
