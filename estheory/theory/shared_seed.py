"""Curved ground under noise that tensors share (docs/concepts/quadratic.md#shared-seed-noise).

Noise of covariance C is C^(1/2) times independent noise: in the coordinates C^(-1/2) theta a run is one of independent
noise, on the curvature C^(1/2) Lam C^(1/2). Where the eigenvectors v_k of Lam have v_j'C v_k = 0 for j != k, that is
the same landscape with lam_k c_k for lam_k and offsets shorter by sqrt(c_k), where c_k = v_k'C v_k.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.theory.effective_dimension import Shapes, tensors_by_size


def whitened(landscape: Landscape, ratio: Array) -> Landscape:
    """Return the landscape that noise of covariance C sees as if it were independent.

    Rewards are the same, and so are their laws; distances along a row come out shorter by sqrt(ratio).

    Parameters
    ----------
    landscape
        Its rows, in the true coordinates.
    ratio
        v'Cv > 0 of each row's directions, shape (m,): 1 for an eigenvector that lies in one tensor of each group, or as
        if at random; m for one that repeats in the m tensors that share their noise.

    Returns
    -------
    Landscape
        With lam_k c_k and offset / sqrt(c_k).

    Raises
    ------
    ConfigError
        If a ratio is not a positive number, or there is not one per row.

    Notes
    -----
    Label: exact, where C is diagonal in the eigenvectors. Source: ours: docs/concepts/quadratic.md.
    """
    c = np.asarray(ratio, dtype=np.float64)
    if c.shape != landscape.eigenvalue.shape or not np.all(np.isfinite(c) & (c > 0)):
        raise ConfigError("v'Cv must be one number > 0 for each row", "0 means that no noise reaches the direction")
    return replace(landscape, eigenvalue=landscape.eigenvalue * c, offset=landscape.offset / np.sqrt(c))


def largest_ratio(shapes: Shapes) -> int:
    """Return the largest eigenvalue of C: the most tensors that share their noise; no v'Cv is beyond it.

    Parameters
    ----------
    shapes
        Tensor shapes.

    Returns
    -------
    int
        1 where no two tensors have the same element count.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/quadratic.md.
    """
    return max(tensors_by_size(shapes).values())
