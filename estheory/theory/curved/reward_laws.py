"""The law of a quadratic function of a Gaussian displacement: rewards and off-task costs (docs/concepts/drift.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from estheory._special import (
    Array,
    chi_nodes,
    chi_square_tails,
    chi_square_tails_array,
    legendre_nodes,
    normal_tails,
)
from estheory.laws import Law, VarianceFactor

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
    mixing_df, most
        Of an independent factor (:class:`estheory.laws.VarianceFactor`); the first is infinite without one.

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
    most: float = math.inf

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
        """Return upper limits of P(X <= x) and P(X > x): about the median they add up to more than 1.

        Of sum and factor, the wider exactly and the narrower by quadrature.
        """
        weight, ratio, factor = 1 / math.sqrt(self.df), max(x, 0.0) / self.value, self._factor
        if factor is not None and self.df > self.mixing_df:
            (length, chance), (one, one_chance) = chi_nodes(self.df), chi_nodes(1.0)
            sums = (length**2 / self.df, chance), (1 - weight + weight * one**2, one_chance)
            even, single = (factor.tails(ratio / of) @ weights for of, weights in sums)
        else:
            values, weights = (np.ones(1), np.ones(1)) if factor is None else factor.nodes
            ratios = ratio / values
            even = chi_square_tails_array(ratios * self.df, self.df) @ weights
            single = chi_square_tails_array(np.maximum((ratios - 1 + weight) / weight, 0.0), 1.0) @ weights
        return float(max(even[0], single[0])), float(max(even[1], single[1]))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws of equal weights, shape (n,)."""
        mixing = 1.0 if self._factor is None else self._factor.sample(rng, n)
        return np.asarray(self.value * rng.chisquare(self.df, n) / self.df * mixing)

    @property
    def _factor(self) -> VarianceFactor | None:
        return None if math.isinf(self.mixing_df) else VarianceFactor(self.mixing_df, self.most)


@dataclass(frozen=True)
class MixedNormalLaw(Law):
    """``quadratic_mean`` V plus normals of standard deviation ``quadratic_std`` V and ``linear_std`` sqrt(V).

    V is the fluctuation of the walk's variance (:class:`estheory.laws.VarianceFactor`); without it the law is normal.

    Attributes
    ----------
    quadratic_mean, quadratic_std, linear_std
        In the quantity's unit.
    mixing_df, most
        Of V; the first is finite.

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
    most: float = math.inf

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
        """Return (P(X <= x), P(X > x)) by quadrature over V, in parts about the V whose mean is x."""
        factor, weights = self._nodes(x)
        low, high = (
            normal_tails((x - self.quadratic_mean * factor) / np.maximum(self._spread(factor), 1e-300)) @ weights
        )
        return float(low), float(high)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        factor = VarianceFactor(self.mixing_df, self.most).sample(rng, n)
        return np.asarray(self.quadratic_mean * factor + self._spread(factor) * rng.standard_normal(n))

    def _spread(self, factor: Array) -> Array:
        """Return the standard deviation given V."""
        return np.sqrt((self.quadratic_std * factor) ** 2 + self.linear_std**2 * factor)

    def _nodes(self, x: float) -> tuple[Array, Array]:
        """Return nodes and weights, which sum to 1, of V, dense where the normal tail turns."""
        factor = VarianceFactor(self.mixing_df, self.most)
        turn = np.array([max(x / self.quadratic_mean, 0.0) if self.quadratic_mean else 0.0])
        width = _REACH * float(self._spread(turn)[0] / abs(self.quadratic_mean)) if self.quadratic_mean else 0.0
        if not math.isinf(self.most):
            ends = np.clip(turn[0] + width * np.array([-1.0, 1.0]), 0.0, self.most)
            parts = [_within(a, b) for a, b in pairwise((0.0, *factor.tails(ends)[0].tolist(), 1.0)) if b > a]
            level, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
            return factor.quantiles(level), weights / weights.sum()
        m = self.mixing_df  # in the fourth root of m V, whose density has no power at 0
        peak = math.sqrt(max(m - 1, 0.0))
        low, high = math.sqrt(max(peak - _REACH, 0.0)), math.sqrt(peak + _REACH)
        inner = (max(turn[0] + side * width, 0.0) * m for side in (-1, 1))
        edges = (low, *(min(max(v**0.25, low), high) for v in inner), high)
        parts = [_within(a, b) for a, b in pairwise(edges) if b > a]
        root, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
        log = (2 * m - 1) * np.log(root) - 0.5 * root**4
        weights = weights * np.exp(log - log.max())
        return root**4 / m, weights / weights.sum()


def _within(low: float, high: float) -> tuple[Array, Array]:
    """Return nodes and weights of quadrature between two points."""
    unit, weights = legendre_nodes()
    return 0.5 * (low + high) + 0.5 * (high - low) * unit, 0.5 * (high - low) * weights
