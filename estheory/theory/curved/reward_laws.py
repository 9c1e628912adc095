"""The law of a quadratic function of a Gaussian displacement: rewards and off-task costs (docs/concepts/drift.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import (
    Array,
    chi_nodes,
    chi_square_tails,
    chi_square_tails_array,
    legendre_nodes,
    normal_tails,
)
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


@dataclass(frozen=True)
class UnevenSumLaw(Law):
    """A positive weighted sum of squares of which mean and variance are known, and not how uneven the weights are.

    Both tails are the largest of two extremes of equal mean and variance: equal weights (a chi-square over its ``df``),
    and one weight of 1/sqrt(df) of the mean among very many small ones. An interval then holds at least what it says.

    Attributes
    ----------
    value
        The mean, in the quantity's unit.
    df
        2 mean^2 / variance, at least 1.
    mixing_df
        Degrees of freedom of an independent factor chi^2_m / m; infinite without one.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md.

    Examples
    --------
    >>> law = UnevenSumLaw(value=1.0, df=50.0)
    >>> law.mean, law.std
    (1.0, 0.2)
    >>> [round(law.quantile(p), 2) for p in (0.025, 0.975)]
    [0.65, 1.57]
    """

    value: float
    df: float
    mixing_df: float = math.inf

    @property
    def mean(self) -> float:
        """The mean."""
        return self.value

    @property
    def std(self) -> float:
        """The standard deviation, that of both extremes."""
        n, m = 2.0 / self.df, 2.0 / self.mixing_df
        return self.value * math.sqrt(n + m + n * m)

    def tails(self, x: float) -> tuple[float, float]:
        """Return upper limits of P(X <= x) and P(X > x): about the median they add up to more than 1."""
        nodes, weights = (np.ones(1), np.ones(1))
        if not math.isinf(self.mixing_df):
            nodes, weights = chi_nodes(self.mixing_df)
            nodes = nodes**2 / self.mixing_df
        ratio = max(x, 0.0) / self.value / nodes
        weight = 1 / math.sqrt(self.df)
        even = chi_square_tails_array(ratio * self.df, self.df) @ weights
        single = chi_square_tails_array(np.maximum((ratio - 1 + weight) / weight, 0.0), 1.0) @ weights
        return float(max(even[0], single[0])), float(max(even[1], single[1]))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws of equal weights, shape (n,)."""
        mixing = 1.0 if math.isinf(self.mixing_df) else rng.chisquare(self.mixing_df, n) / self.mixing_df
        return np.asarray(self.value * rng.chisquare(self.df, n) / self.df * mixing)


@dataclass(frozen=True)
class MixedNormalLaw(Law):
    """``quadratic_mean`` V plus normals of standard deviation ``quadratic_std`` V and ``linear_std`` sqrt(V).

    V = chi^2_m / m is the fluctuation of the walk's variance; without it (m infinite) the law is normal.

    Attributes
    ----------
    quadratic_mean, quadratic_std, linear_std
        In the quantity's unit.
    mixing_df
        m; finite.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md. Many directions share the curvature.

    Examples
    --------
    >>> law = MixedNormalLaw(quadratic_mean=-1.0, quadratic_std=0.1, linear_std=0.0, mixing_df=8.0)
    >>> law.mean, round(law.std, 4)
    (-1.0, 0.5123)
    """

    quadratic_mean: float
    quadratic_std: float
    linear_std: float
    mixing_df: float

    @property
    def mean(self) -> float:
        """The mean."""
        return self.quadratic_mean

    @property
    def std(self) -> float:
        """The standard deviation."""
        scatter = 2 / self.mixing_df
        curved = self.quadratic_std**2 * (1 + scatter) + self.quadratic_mean**2 * scatter
        return math.sqrt(curved + self.linear_std**2)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)) by quadrature over V."""
        nodes, weights = chi_nodes(self.mixing_df, 80)
        factor = nodes**2 / self.mixing_df
        spread = np.sqrt((self.quadratic_std * factor) ** 2 + self.linear_std**2 * factor)
        low, high = normal_tails((x - self.quadratic_mean * factor) / np.maximum(spread, 1e-300)) @ weights
        return float(low), float(high)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        factor = rng.chisquare(self.mixing_df, n) / self.mixing_df
        spread = np.sqrt((self.quadratic_std * factor) ** 2 + self.linear_std**2 * factor)
        return np.asarray(self.quadratic_mean * factor + spread * rng.standard_normal(n))
