"""What one addition to a weight on a grid does to a Gaussian update (docs/concepts/precision.md)."""

from __future__ import annotations

import math

import numpy as np

from estheory._special import Array, normal_tails


def variance_gains(x: Array) -> Array:
    """Return E[round(x Z)^2] / x^2 for a standard normal Z.

    (1/x^2) sum_{k>=1} 2 (2k-1) Q((k - 1/2)/x), and 1 + 1/(12 x^2) from x = 3 on, where they agree to 1e-15.

    Parameters
    ----------
    x
        Standard deviation of the update in grid spacings, > 0, any shape.

    Returns
    -------
    ndarray
        Shape of ``x``. Toward 0 far below the spacing, 1 far above it.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/precision.md. Round to nearest, a weight on the grid, equal spacing around
    it.
    """
    x = np.asarray(x, dtype=np.float64)
    return np.where(x >= 3.0, 1 + 1 / (12 * x * x), _moment_gains(x, 2))


def fourth_gains(x: Array) -> Array:
    """Return E[round(x Z)^4] / x^4 for a standard normal Z.

    (1/x^4) sum_{k>=1} 2 (k^4 - (k-1)^4) Q((k - 1/2)/x), and that of a rounding error apart from Z from x = 3 on.

    Parameters
    ----------
    x
        Standard deviation of the update in grid spacings, > 0, any shape.

    Returns
    -------
    ndarray
        Shape of ``x``. Toward 0 far below the spacing, 3 far above it.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/precision.md. As for :func:`variance_gains`.
    """
    x = np.asarray(x, dtype=np.float64)
    return np.where(x >= 3.0, 3 + 1 / (2 * x**2) + 1 / (80 * x**4), _moment_gains(x, 4))


def _moment_gains(x: Array, power: int) -> Array:
    """Return E[round(x Z)^power] / x^power term by term, at x = 3 beyond it."""
    k = np.arange(1, 31)
    near = np.minimum(x, 3.0)[..., None]
    total = (2 * (k**power - (k - 1) ** power) * normal_tails((k - 0.5) / near)[1]).sum(axis=-1)
    return np.asarray(total / near[..., 0] ** power)


def signal_gains(x: Array) -> Array:
    """Return E[x Z round(x Z)] / x^2, the share of the update that is kept on average.

    (2/x) sum_{k>=1} phi((k - 1/2)/x), by parts; 1 to 1e-15 from x = 3 on (it is 1 - 2 exp(-2 pi^2 x^2) + ...).

    Parameters
    ----------
    x
        Standard deviation of the update in grid spacings, > 0, any shape.

    Returns
    -------
    ndarray
        Shape of ``x``. In [0, 1], up to rounding.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/precision.md. As for :func:`variance_gains`.
    """
    x = np.asarray(x, dtype=np.float64)
    k = np.arange(1, 31)
    near = np.minimum(x, 3.0)[..., None]
    total = np.exp(-0.5 * ((k - 0.5) / near) ** 2).sum(axis=-1) / math.sqrt(2 * math.pi)
    return np.where(x >= 3.0, 1.0, 2 * total / near[..., 0])


def unchanged_shares(x: Array) -> Array:
    """Return P(round(x Z) = 0): how often one addition leaves the stored weight as it was.

    Parameters
    ----------
    x
        Standard deviation of the update in grid spacings, > 0, any shape.

    Returns
    -------
    ndarray
        Shape of ``x``. In [0, 1].

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/precision.md. As for :func:`variance_gains`.
    """
    return np.asarray(1 - 2 * normal_tails(0.5 / np.asarray(x, dtype=np.float64))[1])


def rounding_gain(x: float) -> float:
    """Return :func:`variance_gains` of one number.

    Parameters
    ----------
    x
        Standard deviation of the update in grid spacings.

    Returns
    -------
    float
        0 at 0.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/precision.md.

    Examples
    --------
    >>> [round(rounding_gain(x), 3) for x in (0.2, 0.5, 1.0)]
    [0.31, 1.302, 1.083]
    """
    return float(variance_gains(np.array(x))) if x > 0 else 0.0


def signal_gain(x: float) -> float:
    """Return :func:`signal_gains` of one number.

    Parameters
    ----------
    x
        Standard deviation of the update in grid spacings.

    Returns
    -------
    float
        0 at 0.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/precision.md.

    Examples
    --------
    >>> [round(signal_gain(x), 3) for x in (0.1, 0.2, 0.5)]
    [0.0, 0.175, 0.986]
    """
    return float(signal_gains(np.array(x))) if x > 0 else 0.0
