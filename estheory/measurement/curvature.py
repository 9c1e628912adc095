"""Gradient and curvature of a differentiable reward, where gradients can be had: ||g||, tr Lam, largest eigenvalues.

Lam is minus the Hessian of the reward. Products with it are taken by differentiating twice backwards, which works on
Llama models with eager attention; the fused attention kernels have no second derivative.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from estheory.errors import ConfigError, DataError
from estheory.measurement.matrix_probes import ProbedMatrix, largest_eigenvalues, trace_by_random_signs
from estheory.models.parameters import FlatParameters

RewardCall = Callable[[], Tensor]
"""The reward of the model as it is now: a scalar that torch can differentiate."""


@dataclass(frozen=True, kw_only=True)
class CurvatureProbe:
    """What a gradient and products with the curvature say of a reward at one point.

    Attributes
    ----------
    gradient_norm
        ||g|| (reward / weight), exact.
    trace
        tr Lam by random directions (reward / weight^2).
    eigenvalues
        The eigenvalues of Lam of largest magnitude, the largest first.
    """

    gradient_norm: ProbedMatrix
    trace: ProbedMatrix
    eigenvalues: tuple[ProbedMatrix, ...]


def reward_gradient(model: nn.Module, parameters: FlatParameters, reward: RewardCall) -> Tensor:
    """Return the gradient of the reward with respect to the trainable parameters. Exact.

    `model`, `parameters`: the model in evaluation mode and its trainable parameters.
    """
    return _flat(_gradients(model, parameters, reward, graph=False))


def curvature_product(model: nn.Module, parameters: FlatParameters, reward: RewardCall, direction: Tensor) -> Tensor:
    """Return Lam times a direction, by differentiating (g . direction) once more. Exact.

    Result: shape (dim,), reward / weight^2 times the unit of the direction.
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


def ggn_product(
    model: nn.Module,
    parameters: FlatParameters,
    outputs: Callable[[], Tensor],
    score: Callable[[Tensor], Tensor],
    direction: Tensor,
) -> Tensor:
    """Return the Gauss-Newton part of Lam times a direction: minus J' H J v. Exact.

    J is the derivative of the outputs z with respect to the parameters and H the Hessian of the score with respect
    to z; the curvature of z itself is left out. For log-probabilities of a softmax it is positive semi-definite.

    `outputs`: the model's outputs z as it is now, of any shape.
    `score`: the reward as a differentiable function of z.
    Result: shape (dim,), reward / weight^2 times the unit of the direction.
    """
    weights = _weights(model, parameters)
    with torch.enable_grad():
        z = outputs()
        probe = torch.zeros_like(z, requires_grad=True)
        pulled = torch.autograd.grad(z, weights, probe, create_graph=True, materialize_grads=True)  # J' probe
        slope = torch.stack(
            [(p * v).sum() for p, (_, v) in zip(pulled, parameters.items(direction), strict=True)]
        ).sum()
        try:
            [pushed] = torch.autograd.grad(slope, probe, retain_graph=True)  # J v
        except RuntimeError as error:
            what = f"the outputs cannot be differentiated twice ({str(error).splitlines()[0]})"
            raise ConfigError(what, "load the model with eager attention") from error
        at = z.detach().requires_grad_()
        [first] = torch.autograd.grad(score(at), at, create_graph=True)
        [second] = torch.autograd.grad((first * pushed).sum(), at)  # H J v
        return -_flat(torch.autograd.grad(z, weights, second, materialize_grads=True))


def curvature_probe(
    model: nn.Module,
    parameters: FlatParameters,
    reward: RewardCall,
    *,
    directions: int = 16,
    eigenvalues: int = 4,
    seed: int = 0,
) -> CurvatureProbe:
    """Measure ||g||, tr Lam and the eigenvalues of Lam of largest magnitude.

    `model`, `parameters`: the model in evaluation mode and its trainable parameters.
    `directions`: random signs for the trace, at least 2.
    """

    def product(vector: Tensor) -> Tensor:
        return curvature_product(model, parameters, reward, vector)

    trace = trace_by_random_signs(product, parameters.vector, directions=directions, seed=seed)
    found = largest_eigenvalues(product, parameters.vector, count=eigenvalues, seed=seed)
    started = time.perf_counter()
    norm = float(reward_gradient(model, parameters, reward).double().norm())
    gradient = ProbedMatrix(value=norm, stderr=0.0, products=1, seconds=time.perf_counter() - started)
    return CurvatureProbe(gradient_norm=gradient, trace=trace, eigenvalues=found)


def _weights(model: nn.Module, parameters: FlatParameters) -> list[Tensor]:
    named = dict(model.named_parameters())
    return [named[name] for name in parameters.names]


def _gradients(model: nn.Module, parameters: FlatParameters, reward: RewardCall, *, graph: bool) -> tuple[Tensor, ...]:
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
