"""z-scores of independent members: (R - mean R) / std R with the population standard deviation."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from estheory._special import Array, chi_mean
from estheory.cosine_laws import CosineLaw
from estheory.landscape import Signal
from estheory.theory.estimators.estimator import (
    NO_TIES,
    PAPER,
    PURE_NOISE,
    SIGNAL,
    CurvedShares,
    Estimator,
    ShapingMoments,
    StepVariance,
    kurtosis_of,
    projected_cosine,
    sample_fourth_moment,
)
from estheory.theory.reward_model import RewardModel, tie_probability, zscore_overlap


def mean_population_std(population: int) -> float:
    """Return c(N) = sqrt(2/N) Gamma(N/2) / Gamma((N-1)/2): the mean population std of N standard normals.

    Parameters
    ----------
    population
        N, at least 2.

    Returns
    -------
    float
        In (0, 1), about 1 - 3/(4N).

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.

    Examples
    --------
    >>> round(mean_population_std(30), 4)
    0.9748
    """
    return chi_mean(population - 1) / math.sqrt(population)


_LEAST_VARIANCE = 0.5
"""Variance of the projection of a step of 0/1 rewards, to first order in the signal, down to which that order does."""


class ZScores(Estimator):
    """z-scores of independent members."""

    title: ClassVar[str] = "zscore shaping"
    divides_by_spread: ClassVar[bool] = True
    independent_zscores: ClassVar[bool] = True
    quadratic_share_limit: ClassVar[float] = 0.5
    errors_are_one: ClassVar[bool] = True

    def shape(self, rewards: Array) -> Array:
        """Return z-scores."""
        # a power of two changes no digit, and keeps the squares of rewards of any size from leaving the range of floats
        _, exponent = np.frexp(np.max(np.abs(rewards), axis=-1, keepdims=True))
        scaled = np.ascontiguousarray(np.ldexp(rewards, -exponent))
        centred = scaled - scaled.mean(axis=-1, keepdims=True)
        # the mean of equal numbers may differ from them by rounding, which must not become a step
        differ = np.ptp(rewards, axis=-1, keepdims=True) > 0
        spread = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True))
        return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=differ))

    def length_faults(self) -> list[tuple[str, float]]:
        """Return those of every step, and of the standard deviation."""
        sample = "the sample standard deviation (N-1) stands for the population's (N)"
        return [*super().length_faults(), (sample, math.sqrt(1 - 1 / self.population))]

    def spread_faults(self, rewards: Array) -> list[tuple[str, float]]:
        """Return what may stand for the standard deviation."""
        spread, deviations = float(rewards.std()), np.abs(rewards - rewards.mean())
        return [
            ("rewards are not divided by their standard deviation", spread),
            ("rewards are divided by sigma, not by their standard deviation", spread / self.sigma),
            ("rewards are divided by their standard deviation twice", 1 / spread),
            ("the mean absolute deviation stands for the standard one", spread / float(deviations.mean())),
            ("the largest deviation stands for the standard one", spread / float(deviations.max())),
            ("the range stands for the standard deviation", spread / float(np.ptp(rewards))),
        ]

    def _gaussian_variance(self, signal: Signal) -> StepVariance:
        n = self.population
        return StepVariance(
            value=self.alpha**2 / n,
            mixing_df=math.inf,
            fourth_moment=3 * (n - 1) / (n + 1),
            label="exact",
            source=PAPER,
            assumptions=(NO_TIES,),
        )

    def _discrete_variance(self, rewards: RewardModel) -> StepVariance:
        n, stays = self.population, tie_probability(rewards, self.population)
        return StepVariance(
            value=self.alpha**2 / n * (1 - stays),
            mixing_df=math.inf,
            fourth_moment=sample_fourth_moment(n, kurtosis_of(rewards)) * (n - 1) / (n + 1),
            label="exact",
            source=SIGNAL,
            assumptions=(),
            tie_probability=stays,
        )

    def moments(self, odd_share: float = PURE_NOISE) -> ShapingMoments:
        """Return the coefficients of one step's moments on a quadratic."""
        n = self.population
        return ShapingMoments(
            progress=mean_population_std(n),
            flat=1.0,
            quadratic=2 * (n - 1) * (n - 2) / (n * (n + 1)),
            signal=n - 2,
            scale_power=0,
        )

    def overlap(self, rewards: RewardModel) -> float:
        """Return E[z_1 x_1]."""
        return zscore_overlap(rewards, self.population)

    def projection(self, reliability: float, even_share: float = 0.0) -> tuple[float, float, float]:
        """Return (rho, N - 1, sqrt(1 - rho^2))."""
        return math.sqrt(reliability), self.population - 1.0, math.sqrt(max(1.0 - reliability, 0.0))

    def projection_moments(self, reliability: float, even_share: float) -> tuple[float, float, float]:
        """Return the moments of A, which V does not tilt."""
        a, m, b = self.projection(reliability, even_share)
        second = a * a * m + b * b
        return second, second, a**4 * m * (m + 2) + 6 * a * a * b * b * m + 3 * b**4

    def _discrete_cosine(self, dim: int, rewards: RewardModel) -> CosineLaw | None:
        """Return the cosine of a step that moves.

        The projection A = sum z_i x_i / sqrt(N) has the exact mean; its variance is to first order in rho^2, with the
        skewness gamma of the rewards: 1 + rho^2 ((N-1)/P(move) - 1 - gamma^2) - (E A)^2. Where that is far from 1 the
        signal is too strong for it, and there is no law.
        """
        n, move = self.population, 1 - tie_probability(rewards, self.population)
        mean = math.sqrt(n) * zscore_overlap(rewards, n) / move
        skewness = float(rewards.probabilities @ ((rewards.values - rewards.mean) / rewards.std) ** 3)
        variance = 1 + rewards.correlation**2 * ((n - 1) / move - 1 - skewness**2) - mean**2
        if variance < _LEAST_VARIANCE:
            return None
        return projected_cosine(mean, variance, dim)

    def bound(self) -> float | None:
        """Return alpha c(N)."""
        return self.alpha * mean_population_std(self.population)

    def corrections(self, shares: CurvedShares, odd_share: float) -> tuple[Array, Array]:
        """Return alpha rho_k (3 X/8 - 3 x_k)/N, and what kurtosis and skewness add to the second moment."""
        n, rho, x, excess = self.population, shares.correlation, shares.quadratic, shares.excess_kurtosis
        # eps_k^2 skews rewards that the curvature along the gradient has skewed already
        skewed = -6 * (n - 1) * (n - 2) / (n * (n + 1) * (n + 3))
        progress = self.alpha * rho * (3 * excess / 8 - 3 * x) / n
        return progress, self.alpha**2 / n * (rho**2 * (excess - 12 * x) + skewed * shares.crossed)

    def neglected(self, largest: float, excess: float, skewness: float) -> tuple[float, float]:
        """Return (3 x + 3 X / 8) / N for both, the terms of O(1/N) of a step, by size."""
        error = (3 * largest + 0.375 * excess) / self.population
        return error, error
