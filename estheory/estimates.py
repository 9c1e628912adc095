"""Numbers with standard errors, and what those leave in functions of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estheory._special import Array


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and its standard error; NaN where the data do not give one."""

    value: float
    stderr: float


def propagated(function: Callable[[Array], float], mean: Array, covariance: Array) -> Estimate:
    """Return function(mean) and the standard error that an error of `covariance` in its argument leaves.

    Differences of one standard error along each axis of the error ellipsoid, added in squares: the delta method at
    the scale of the errors themselves. NaN where the function is not defined that far away.
    """
    values, vectors = np.linalg.eigh(covariance)
    square = 0.0
    for length, axis in zip(np.sqrt(np.maximum(values, 0.0)), vectors.T, strict=True):
        square += ((function(mean + length * axis) - function(mean - length * axis)) / 2) ** 2
    return Estimate(value=float(function(mean)), stderr=math.sqrt(square))
