"""What mirrored members say of a reward around a model, forward-only: signal, noise and curvature. Imports no torch.

A pair theta + sigma eps, theta - sigma eps splits a member's reward into an odd part, (R+ - R-)/2, which holds the
linear signal, and an even part, (R+ + R-)/2, which holds the curvature. What two different prompts agree on is no
accident of the prompts, so the covariance of two prompts' odd parts is sigma^2 ||g||^2 and that of their even parts
1/2 sigma^4 tr Lam^2, to leading order in sigma. Over P prompts the mean covariance of two different ones is the mean
over all halvings of the covariance of two halves: split halves, already corrected for their length (Spearman-Brown).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.estimates import Estimate, propagated

LINEAR, EVEN, VARIANCE, GAP, MIXED = range(5)
"""Columns of the moments, to leading order in sigma.

sigma^2 ||g||^2; 1/2 sigma^4 tr Lam^2; S^2; R(theta) - E R(theta + sigma eps) = 1/2 sigma^2 tr Lam; and minus the
covariance of the squared odd part with the even part, sigma^4 g'Lam g.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairMoments:
    """Five moments of member rewards in independent batches of prompts and members.

    Each batch's moments are unbiased, so their mean is, and its standard error counts prompts and members together.

    Attributes
    ----------
    batches : ndarray, shape (B, 5)
        The moments of each batch, in the order of LINEAR, EVEN, VARIANCE (reward^2), GAP (reward), MIXED (reward^3).
    sigma
        Perturbation scale (weight).
    """

    batches: Array
    sigma: float

    @property
    def mean(self) -> Array:
        """The estimated moments, shape (5,)."""
        return np.asarray(self.batches.mean(axis=0))

    @property
    def covariance(self) -> Array:
        """Covariance of the estimates, shape (5, 5)."""
        return np.asarray(np.cov(self.batches.T) / len(self.batches))

    def resolved(self, column: int, errors: float = 2.0) -> bool:
        """Return whether a moment lies clearly above 0.

        `column`: which moment: LINEAR, EVEN, VARIANCE, GAP or MIXED.
        """
        return bool(self.mean[column] > errors * math.sqrt(self.covariance[column, column]))

    def estimate(self, function: Callable[[Array], float]) -> Estimate:
        """Return a function of the moments with its standard error (see `estheory.estimates.propagated`)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return propagated(function, self.mean, self.covariance)

    @property
    def member_std(self) -> Estimate:
        """S (reward)."""
        return self.estimate(lambda m: math.sqrt(max(m[VARIANCE], 0.0)))

    @property
    def noise_std(self) -> Estimate:
        """s, the part of S that two prompts do not share (reward): 0 where the estimate is negative."""
        return self.estimate(lambda m: math.sqrt(max(m[VARIANCE] - m[LINEAR] - m[EVEN], 0.0)))

    @property
    def reliability(self) -> Estimate:
        """Share of S^2 that all prompts agree on, odd and even: what split halves of a run's own rewards estimate."""
        return self.estimate(lambda m: float((m[LINEAR] + m[EVEN]) / m[VARIANCE]))

    @property
    def linear_reliability(self) -> Estimate:
        """rho^2, the share of the odd part alone: the linear signal, and odd powers of it beyond the first."""
        return self.estimate(lambda m: float(m[LINEAR] / m[VARIANCE]))

    @property
    def gradient_norm(self) -> Estimate:
        """||g|| = sqrt(LINEAR) / sigma (reward / weight); NaN where the estimate of the square is negative."""
        return self.estimate(lambda m: math.sqrt(m[LINEAR]) / self.sigma if m[LINEAR] > 0 else math.nan)

    @property
    def trace(self) -> Estimate:
        """The trace of Lam = 2 GAP / sigma^2, the smoothing gap (reward / weight^2)."""
        return self.estimate(lambda m: float(2 * m[GAP] / self.sigma**2))

    @property
    def square_trace(self) -> Estimate:
        """The trace of Lam^2 = 2 EVEN / sigma^4 (reward^2 / weight^4)."""
        return self.estimate(lambda m: float(2 * m[EVEN] / self.sigma**4))

    @property
    def gradient_curvature(self) -> Estimate:
        """The mean curvature along the gradient, g' Lam g / ||g||^2 (reward / weight^2); of either sign."""
        return self.estimate(lambda m: float(m[MIXED] / (self.sigma**2 * m[LINEAR])))


def pair_moments(centre: Array, plus: Array, minus: Array) -> Array:
    """Return the five moments of one batch, each unbiased.

    `centre`: shape (P,), rewards of the unperturbed model on P prompts, P at least 3.
    `plus`, `minus`: shape (m, P), rewards of theta + sigma eps_i and theta - sigma eps_i on the same prompts, m at
    least 2.
    Result: shape (5,), in the order of LINEAR, EVEN, VARIANCE (reward^2), GAP (reward), MIXED (reward^3).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.standard_normal((1000, 1)) + np.zeros(8)  # linear, and the same on every prompt
    >>> moments = pair_moments(np.zeros(8), signal, -signal)
    >>> bool(np.isclose(moments[LINEAR], moments[VARIANCE]))  # no noise: all of the variance is signal
    True
    """
    centre, plus, minus = (np.asarray(a, dtype=np.float64) for a in (centre, plus, minus))
    pairs, prompts = plus.shape if plus.ndim == 2 else (0, 0)
    finite = all(np.isfinite(a).all() for a in (centre, plus, minus))
    if plus.shape != minus.shape or centre.shape != (prompts,) or pairs < 2 or prompts < 3 or not finite:
        what = f"rewards of shape {centre.shape}, {plus.shape} and {minus.shape} are no probe, or not finite"
        raise DataError(what, "give 2 or more finite mirrored pairs on the centre's own 3 or more prompts")
    odd, even = (plus - minus) / 2, (plus + minus) / 2
    gap = centre.mean() - even.mean()
    even = even - even.mean(axis=0)  # the odd part has mean 0 by symmetry
    agreed, total = [], 0.0
    for part, freedom in ((odd, pairs), (even, pairs - 1)):
        sums, each = (part.sum(axis=1) ** 2).sum() / freedom, (part**2).sum() / freedom
        agreed.append((sums - each) / (prompts * (prompts - 1)))
        total += sums / prompts**2
    pick = prompts * (prompts - 1) * (prompts - 2)  # sums over three different prompts p, q, r of odd_p odd_q even_r
    whole, other = odd.sum(axis=1), even.sum(axis=1)
    own, square = (odd * even).sum(axis=1), (odd**2).sum(axis=1)
    triples = whole**2 * other - square * other - 2 * whole * own + 2 * (odd**2 * even).sum(axis=1)
    return np.array([*agreed, total, gap, -triples.sum() / ((pairs - 1) * pick)])
