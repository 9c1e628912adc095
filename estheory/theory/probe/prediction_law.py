"""What a further random direction will show, from a few that were measured: their own spread is an estimate, too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from estheory._special import Array, chi_nodes, invert_increasing
from estheory.laws import Law

_DRAWS = 4000
"""Of the samples of a single direction, with a fixed seed; tails are averages of smooth functions over them."""


@lru_cache
def _single_direction(count: int) -> tuple[Array, Array]:
    """Return mean and standard deviation of ``count`` samples of chi^2_1, shapes (draws,)."""
    samples = np.random.default_rng(0).chisquare(1.0, (_DRAWS, count))
    return samples.mean(axis=1), samples.std(axis=1, ddof=1)


@lru_cache
def _freedom_nodes(count: int) -> tuple[Array, Array]:
    nodes, weights = chi_nodes(count - 1.0)
    return nodes**2 / (count - 1), weights


def largest_spread(count: int) -> float:
    """Return the upper 95 % limit of a standard deviation over that of ``count`` samples, whatever the spectrum.

    The worst spectrum is one large direction among many small ones, of which few samples show nothing.

    Parameters
    ----------
    count
        Number of directions, at least 2.

    Returns
    -------
    float
        Above 1.

    Notes
    -----
    Label: exact, to the error of 4,000 draws. Source: ours: docs/concepts/drift.md. Samples are b + a chi^2_1.

    Examples
    --------
    >>> largest_spread(4) > 2 * largest_spread(64)
    True
    """
    return math.sqrt(2) / float(np.quantile(_single_direction(count)[1], 0.05))


@dataclass(frozen=True)
class FewDirectionsLaw(Law):
    """The law of one more positive sample, given mean and relative standard deviation of ``count`` samples.

    Given D effective directions, one more sample over the mean of the others is F-distributed with D and ``count`` D
    degrees of freedom; D is that of the measured spread, which itself scatters like that of normal samples. What this
    leaves out is skewness: a large direction that few samples do not show. The upper tail is therefore at least that
    of a single one beside many, given the same mean and standard deviation of the samples.

    Attributes
    ----------
    value
        Mean of the samples, in the quantity's unit.
    relative_std
        Their relative standard deviation.
    count
        How many there are, at least 2.

    Raises
    ------
    ValueError
        If mean or spread are not positive and finite, or there are fewer than two.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/drift.md. At least two directions share the curvature; a single one
    is refuted in up to 10 % of cases at the 5 % level.

    Examples
    --------
    >>> few, many = (FewDirectionsLaw(1.0, 0.1, count) for count in (4, 64))
    >>> [round(law.interval(0.95)[0], 2) for law in (few, many)]
    [0.68, 0.81]
    """

    value: float
    relative_std: float
    count: int

    def __post_init__(self) -> None:
        positive = all(math.isfinite(x) and x > 0 for x in (self.value, self.relative_std))
        if not positive or self.count < 2:
            raise ValueError(f"{self.count} samples of mean {self.value} and relative spread {self.relative_std}")

    @property
    def mean(self) -> float:
        """The mean of the samples."""
        return self.value

    @property
    def std(self) -> float:
        """The standard deviation of one more sample about the mean of the others."""
        return self.value * self.relative_std * math.sqrt(1 + 1 / self.count)

    def tails(self, x: float) -> tuple[float, float]:
        """Return upper limits of P(X <= x) and P(X > x): about the median they add up to more than 1."""
        from scipy.special import erfc, fdtr, fdtrc

        if x <= 0:
            return 0.0, 1.0
        squares, weights = _freedom_nodes(self.count)
        directions = np.maximum(2 * squares / self.relative_std**2, 1.0)
        ratio = x / self.value
        low, high = (float(f(directions, self.count * directions, ratio) @ weights) for f in (fdtr, fdtrc))
        beyond = (ratio - 1) / self.relative_std
        if beyond > 0:
            means, spreads = _single_direction(self.count)
            high = max(high, float(np.mean(erfc(np.sqrt(0.5 * (means + beyond * spreads))))))
        return low, high

    def quantile(self, p: float) -> float:
        """Return the quantile; above the median of the wider tail."""

        def inside(x: float) -> float:
            low, high = self.tails(x)
            return low if p < 0.5 else 1 - high

        return invert_increasing(inside, p, self.value, self.std)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws without the allowance for one large direction, shape (n,)."""
        squares = rng.chisquare(self.count - 1, n) / (self.count - 1)
        directions = np.maximum(2 * squares / self.relative_std**2, 1.0)
        return np.asarray(self.value * rng.f(directions, self.count * directions))
