"""The law of a quadratic function of a Gaussian displacement: rewards and off-task costs (docs/concepts/drift.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, chi_nodes, chi_square_tails, chi_square_tails_array, legendre_nodes, normal_tails
from estheory.laws import Law

_REACH = 9.0  # standard deviations of the normal part that are integrated


@dataclass(frozen=True)
class LinearQuadraticLaw(Law):
    """The law of ``quadratic_mean`` chi^2_df / df + ``linear_std`` Z.

    A weighted sum of squares by a gamma variable of its mean and variance, plus an independent normal first-order
    part.

    Attributes
    ----------
    quadratic_mean
        In the quantity's unit; may be negative (a cost), not zero.
    df
        Degrees of freedom > 0: 2 mean^2 / variance of the quadratic part.
    linear_std
        Standard deviation >= 0 of the normal part, in the quantity's unit.

    Notes
    -----
    Label: small-step, as the quadratic itself. Source: ours: docs/concepts/drift.md.

    Examples
    --------
    >>> law = LinearQuadraticLaw(quadratic_mean=-2.0, df=8.0, linear_std=0.0)
    >>> law.mean, law.std
    (-2.0, 1.0)
    """

    quadratic_mean: float
    df: float
    linear_std: float

    @property
    def _quadratic_std(self) -> float:
        return abs(self.quadratic_mean) * math.sqrt(2 / self.df)

    @property
    def mean(self) -> float:
        """The mean, that of the quadratic part."""
        return self.quadratic_mean

    @property
    def std(self) -> float:
        """The standard deviation."""
        return math.hypot(self._quadratic_std, self.linear_std)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)): the wider part exactly, the narrower by quadrature."""
        scale = self.quadratic_mean / self.df
        if self.linear_std == 0.0:
            low, high = chi_square_tails(x / scale, self.df)
        elif self._quadratic_std <= self.linear_std:
            nodes, weights = chi_nodes(self.df)
            low, high = (float(tail) for tail in normal_tails((x - scale * nodes**2) / self.linear_std) @ weights)
            return low, high
        else:
            kink = min(max(x / self.linear_std, -_REACH), _REACH)  # where the chi-square reaches 0
            unit, unit_weights = legendre_nodes()
            low = high = 0.0
            for start, stop in ((-_REACH, kink), (kink, _REACH)):
                z = 0.5 * (start + stop) + 0.5 * (stop - start) * unit
                weights = 0.5 * (stop - start) * unit_weights * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
                square = (x - self.linear_std * z) / scale
                tails = chi_square_tails_array(np.maximum(square, 0.0), self.df) @ weights
                low, high = low + float(tails[0]), high + float(tails[1])
        return (low, high) if scale > 0 else (high, low)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        return self.quadratic_mean / self.df * rng.chisquare(self.df, n) + self.linear_std * rng.standard_normal(n)
