"""Trace and largest eigenvalues of a symmetric matrix that is known by its products with vectors alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estheory.errors import ConfigError

Product = Callable[[Tensor], Tensor]
"""A symmetric matrix as its product with a vector, shapes (dim,) to (dim,)."""


@dataclass(frozen=True, kw_only=True)
class ProbedMatrix:
    """A measured number with what it took.

    Attributes
    ----------
    value, stderr
        The number and its standard error; of an eigenvalue, how far at most an exact one lies from it.
    products
        Gradients, or products with the matrix (about two gradients each), that were taken.
    seconds
        Wall time.
    """

    value: float
    stderr: float
    products: int
    seconds: float


def trace_by_random_signs(product: Product, like: Tensor, *, directions: int = 16, seed: int = 0) -> ProbedMatrix:
    """Return the trace of a symmetric matrix by Hutchinson's estimator with random signs, unbiased.

    `directions`: number of random vectors, at least 2; the standard error is over them.

    Examples
    --------
    >>> weights = torch.tensor([1.0, 2.0, 3.0])
    >>> trace_by_random_signs(lambda v: weights * v, weights).value  # exact for a diagonal matrix
    6.0
    """
    if directions < 2:
        raise ConfigError(f"{directions} directions are too few", "use at least 2")
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(directions):
        signs = (torch.randint(0, 2, like.shape, generator=generator) * 2 - 1).to(like)
        samples.append(float((signs * product(signs)).double().sum()))
    values = torch.tensor(samples, dtype=torch.float64)
    return ProbedMatrix(
        value=float(values.mean()),
        stderr=float(values.std()) / math.sqrt(directions),
        products=directions,
        seconds=time.perf_counter() - started,
    )


def largest_eigenvalues(product: Product, like: Tensor, *, count: int = 4, seed: int = 0) -> tuple[ProbedMatrix, ...]:
    """Return the eigenvalues of largest magnitude of a symmetric matrix, by Lanczos (ARPACK).

    Their error is the residual ||A v - value v|| of the unit vector found: some exact eigenvalue lies that close.
    Those that have not converged after 30 restarts are left out.

    `count`: number of eigenvalues, at least 1 and below the dimension.
    Result: the largest first; products and seconds are those of all of them.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    dim = like.numel()
    if not 1 <= count < dim:
        raise ConfigError(
            f"{count} eigenvalues of {dim} are too few or too many", "use at least 1, below the dimension"
        )
    started, products = time.perf_counter(), 0

    def multiply(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        nonlocal products
        products += 1
        image = product(torch.from_numpy(np.ascontiguousarray(vector).reshape(-1)).to(like))
        return np.asarray(image.double().cpu().numpy())

    start = np.random.default_rng(seed).standard_normal(dim)
    operator = LinearOperator((dim, dim), matvec=multiply, dtype=np.float64)
    size = min(dim, max(2 * count + 1, 20))
    try:
        values, vectors = eigsh(operator, k=count, which="LM", v0=start, ncv=size, tol=1e-4, maxiter=30)
    except ArpackNoConvergence as error:
        values, vectors = np.real(error.eigenvalues), np.real(error.eigenvectors)
    order = np.argsort(-np.abs(values))
    residuals = [float(np.linalg.norm(multiply(vectors[:, k]) - values[k] * vectors[:, k])) for k in order]
    seconds = time.perf_counter() - started
    return tuple(
        ProbedMatrix(value=float(values[k]), stderr=residual, products=products, seconds=seconds)
        for k, residual in zip(order, residuals, strict=True)
    )
