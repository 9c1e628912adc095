"""Gradient and curvature of a differentiable reward, where gradients can be had: ||g||, tr Lam, largest eigenvalue.

Lam is minus the Hessian of the reward. Products with it are taken by differentiating twice backwards, which works on
Llama models with eager attention; the fused attention kernels have no second derivative.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from estheory.errors import ConfigError, DataError
from estheory.models.parameters import FlatParameters

Reward = Callable[[], Tensor]
"""The reward of the model as it is now: a scalar that torch can differentiate."""


@dataclass(frozen=True, kw_only=True)
class CurvatureProbe:
    """What a gradient and products with the curvature say of a reward at one point.

    Attributes
    ----------
    gradient_norm
        ||g|| (reward / weight), exact.
    trace, trace_stderr
        tr Lam by random directions, and its standard error over them (reward / weight^2).
    top_eigenvalue
        The eigenvalue of Lam of largest magnitude, by power iteration: a lower bound on that magnitude.
    products
        Products with Lam that were taken; each costs about two gradients.
    seconds
        Wall time.
    """

    gradient_norm: float
    trace: float
    trace_stderr: float
    top_eigenvalue: float
    products: int
    seconds: float


def reward_gradient(model: nn.Module, parameters: FlatParameters, reward: Reward) -> Tensor:
    """Return the gradient of the reward with respect to the trainable parameters, shape (dim,). Exact.

    Raises
    ------
    DataError
        If it is not finite.
    """
    return _flat(_gradients(model, parameters, reward, graph=False))


def curvature_product(model: nn.Module, parameters: FlatParameters, reward: Reward, direction: Tensor) -> Tensor:
    """Return Lam times a direction, shape (dim,), by differentiating (g . direction) once more. Exact.

    Raises
    ------
    ConfigError
        If the model's attention cannot be differentiated twice.
    DataError
        If the product is not finite.
    """
    weights = _weights(model, parameters)
    gradients = _gradients(model, parameters, reward, graph=True)
    pieces = [view for _, view in parameters.items(direction)]
    slope = torch.stack([(g * v).sum() for g, v in zip(gradients, pieces, strict=True)]).sum()
    try:
        products = torch.autograd.grad(slope, weights, materialize_grads=True)
    except RuntimeError as error:
        what = f"the reward cannot be differentiated twice ({str(error).splitlines()[0]})"
        raise ConfigError(what, "load the model with eager attention") from error
    return -_flat(products)


def curvature_probe(
    model: nn.Module,
    parameters: FlatParameters,
    reward: Reward,
    *,
    directions: int = 16,
    iterations: int = 20,
    seed: int = 0,
) -> CurvatureProbe:
    """Measure ||g||, tr Lam and the largest eigenvalue of Lam.

    Parameters
    ----------
    model, parameters
        The model in evaluation mode and its trainable parameters.
    reward
        A differentiable scalar.
    directions
        Random signs for the trace (Hutchinson's estimator), at least 2.
    iterations
        Power iterations for the eigenvalue, at least 1.
    seed
        Seed of both.

    Raises
    ------
    ConfigError
        If there are too few directions or iterations, or the attention cannot be differentiated twice.
    DataError
        If a gradient is not finite.
    """
    if directions < 2 or iterations < 1:
        raise ConfigError(f"{directions} directions and {iterations} iterations are too few", "use at least 2 and 1")
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    like = parameters.vector
    samples = []
    for _ in range(directions):
        signs = (torch.randint(0, 2, (parameters.dim,), generator=generator) * 2 - 1).to(like)
        samples.append(float((signs * curvature_product(model, parameters, reward, signs)).double().sum()))
    values = torch.tensor(samples, dtype=torch.float64)
    vector, eigenvalue = torch.randn(parameters.dim, generator=generator).to(like), 0.0
    for _ in range(iterations):
        vector = vector / vector.norm()
        image = curvature_product(model, parameters, reward, vector)
        eigenvalue = float(vector.double() @ image.double())
        if float(image.norm()) == 0.0:
            break
        vector = image
    return CurvatureProbe(
        gradient_norm=float(reward_gradient(model, parameters, reward).double().norm()),
        trace=float(values.mean()),
        trace_stderr=float(values.std()) / math.sqrt(directions),
        top_eigenvalue=eigenvalue,
        products=directions + iterations,
        seconds=time.perf_counter() - started,
    )


def _weights(model: nn.Module, parameters: FlatParameters) -> list[Tensor]:
    named = dict(model.named_parameters())
    return [named[name] for name in parameters.names]


def _gradients(model: nn.Module, parameters: FlatParameters, reward: Reward, *, graph: bool) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        gradients: tuple[Tensor, ...] = torch.autograd.grad(
            reward(), _weights(model, parameters), create_graph=graph, materialize_grads=True
        )
    return gradients


def _flat(pieces: tuple[Tensor, ...]) -> Tensor:
    vector = torch.cat([piece.detach().reshape(-1) for piece in pieces])
    if not bool(torch.isfinite(vector).all()):
        raise DataError("the gradient of the reward is not finite", "use a smooth reward, and a model that runs")
    return vector
