"""Cosines of displacements that are not those of a walk alone: a signal or curvature gives them a mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.cosine_laws import CorrelationLaw

FEWEST = 30.0
"""Effective number of coordinate pairs below which the delta method says too little of a cosine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DisplacementPair:
    """Two displacements, as independent Gaussian pairs of coordinates; per coordinate of each row, shape (m,) each.

    Attributes
    ----------
    count
        Number of coordinates of the row.
    first_mean, second_mean
        Of either displacement, weight units.
    first, second, cross
        Their variances and covariance, weight^2.
    """

    count: Array
    first_mean: Array
    second_mean: Array
    first: Array
    second: Array
    cross: Array

    @property
    def law(self) -> CorrelationLaw | None:
        """The law of the cosine: mean and, by the delta method, spread of its ratio; None where that says nothing.

        Notes
        -----
        Label: large-N, in the number of coordinates that carry the two squared norms. Source: ours:
        docs/concepts/walk.md.
        """
        a, b, x, y, c = self.first_mean, self.second_mean, self.first, self.second, self.cross
        product, left, right = (float(self.count @ v) for v in (a * b + c, a * a + x, b * b + y))
        if not (left > 0 and right > 0 and math.isfinite(left * right)):
            return None
        scatter = {
            (0, 0): x * y + c * c + a * a * y + b * b * x + 2 * a * b * c,
            (1, 1): 2 * x * x + 4 * a * a * x,
            (2, 2): 2 * y * y + 4 * b * b * y,
            (0, 1): 2 * x * c + 2 * a * a * c + 2 * a * b * x,
            (0, 2): 2 * y * c + 2 * b * b * c + 2 * a * b * y,
            (1, 2): 2 * c * c + 4 * a * b * c,
        }
        root = math.sqrt(left) * math.sqrt(right)
        correlation = product / root
        # the derivatives of product / sqrt(left right)
        slope = np.array([1 / root, -0.5 * correlation / left, -0.5 * correlation / right])
        covariance = np.empty((3, 3))
        for (i, j), value in scatter.items():
            covariance[i, j] = covariance[j, i] = float(self.count @ value)
        variance = float(slope @ covariance @ slope)
        if not (abs(correlation) < 1 and variance > 0):
            return None
        df = (1 - correlation**2) ** 2 / variance
        return CorrelationLaw(correlation, df) if df >= FEWEST else None
