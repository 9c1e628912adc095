"""Numbers with standard errors, and what those leave in functions of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estheory._special import Array


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and its standard error.

    Attributes
    ----------
    value, stderr
        In one unit; the second NaN where the data do not give one.
    """

    value: float
    stderr: float


def propagated(function: Callable[[Array], float], mean: Array, covariance: Array) -> Estimate:
    """Return a function of an estimated vector, and the standard error that the error of the vector leaves.

    Differences of one standard error along each axis of the error ellipsoid, added in squares: the delta method at
    the scale of the errors themselves.

    Result: in the function's unit; NaN where it is not defined one standard error away.

    Examples
    --------
    >>> found = propagated(lambda v: float(v[0] + v[1]), np.array([1.0, 2.0]), np.diag([0.09, 0.16]))
    >>> found.value, round(found.stderr, 12)
    (3.0, 0.5)
    """
    values, vectors = np.linalg.eigh(covariance)
    square = 0.0
    for length, axis in zip(np.sqrt(np.maximum(values, 0.0)), vectors.T, strict=True):
        square += ((function(mean + length * axis) - function(mean - length * axis)) / 2) ** 2
    return Estimate(value=float(function(mean)), stderr=math.sqrt(square))
