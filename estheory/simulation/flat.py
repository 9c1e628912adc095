"""Displacements of the flat directions, drawn at the records alone."""

from __future__ import annotations

import numpy as np

from estheory._special import Array
from estheory.rules import ESConfig
from estheory.theory.walk import response


def flat_gram(
    config: ESConfig, square_weights: Array, steps: tuple[int, ...], dim: int, rng: np.random.Generator
) -> Array:
    """Draw the inner products of the flat displacements at ``steps``.

    Given the weights a flat coordinate is Gaussian with covariance C_ab = sum_t h(a-t) h(b-t) sum_i w_ti^2, so the
    Gram matrix is Wishart: L A A' L' with C = L L' and A its Bartlett factor. Exact in law.

    `config`: the run; its anchor and momentum fix h.
    """
    replicas, k = square_weights.shape[0], len(steps)
    h = response(config, steps[-1])
    h = np.ones(steps[-1]) if h is None else h
    covariance = np.empty((replicas, k, k))
    for a, early in enumerate(steps):
        for b, late in enumerate(steps[a:], start=a):
            covariance[:, a, b] = square_weights[:, :early] @ (h[:early][::-1] * h[late - early : late][::-1])
            covariance[:, b, a] = covariance[:, a, b]
    factor = np.zeros((replicas, k, k))  # Bartlett
    for i in range(k):
        for j in range(min(i, dim)):
            factor[:, i, j] = rng.standard_normal(replicas)
        if dim > i:
            factor[:, i, i] = np.sqrt(rng.chisquare(float(dim - i), replicas))
    root = np.matmul(_cholesky(covariance), factor)
    return np.asarray(np.matmul(root, root.transpose(0, 2, 1)))


def _cholesky(covariance: Array) -> Array:
    """Return the lower Cholesky factors of a stack, zero columns where a variance is left at zero."""
    k = covariance.shape[1]
    root = np.zeros_like(covariance)
    for j in range(k):
        left = covariance[:, j:, j] - np.einsum("ril,rl->ri", root[:, j:, :j], root[:, j, :j])
        pivot = np.sqrt(np.maximum(left[:, 0], 0.0))
        root[:, j:, j] = np.divide(left, pivot[:, None], out=np.zeros_like(left), where=pivot[:, None] > 0)
    return root
