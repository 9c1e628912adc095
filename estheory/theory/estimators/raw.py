"""Raw rewards of independent members: (R - mean R) / sigma."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.theory.estimators.estimator import (
    PURE_NOISE,
    SIGNAL,
    WALK,
    Estimator,
    ShapingMoments,
    StepVariance,
    kurtosis_of,
    sample_fourth_moment,
)
from estheory.theory.reward_model import RewardModel, tie_probability


class RawRewards(Estimator):
    """Raw rewards, less their mean."""

    title: ClassVar[str] = "raw shaping"
    scale_free: ClassVar[bool] = False
    fixed_variance: ClassVar[bool] = False

    def shape(self, rewards: Array) -> Array:
        """Return (R - mean R) / sigma."""
        rewards = np.ascontiguousarray(rewards)
        centred = rewards - rewards.mean(axis=-1, keepdims=True)
        # the mean of equal numbers may differ from them by rounding, which must not become a step
        return np.where(np.ptp(rewards, axis=-1, keepdims=True) > 0, centred, 0.0) / self.sigma

    def length_faults(self) -> list[tuple[str, float]]:
        """Return those of every step, and of the baseline."""
        baseline = "1/(N-1) stands for 1/N, or the baseline leaves out the member itself"
        return [*super().length_faults(), (baseline, self.population / (self.population - 1))]

    def _mean_variance(self, member_std: float) -> float:
        n = self.population
        return self.alpha**2 * member_std**2 * (n - 1) / (n**2 * self.sigma**2)

    def _gaussian_variance(self, signal: Signal) -> StepVariance:
        return StepVariance(
            value=self._mean_variance(known_spread(signal, self.title)),
            mixing_df=self.population - 1,
            fourth_moment=3.0,
            label="exact",
            source=WALK,
            assumptions=("Gaussian rewards of constant spread",),
        )

    def _discrete_variance(self, rewards: RewardModel) -> StepVariance:
        n, stays, kurtosis = self.population, tie_probability(rewards, self.population), kurtosis_of(rewards)
        spread = 2 / (n - 1) + (kurtosis - 3) / n  # relative variance of a sample variance
        lengths = self._lengths(rewards)
        moving = (1 - stays) * (1 + spread) - 1
        return StepVariance(
            value=self._mean_variance(rewards.std),
            mixing_df=2 / moving if moving > 1e-12 else math.inf,
            fourth_moment=sample_fourth_moment(n, kurtosis),
            label="exact" if lengths else "large-N",
            source=SIGNAL,
            assumptions=("rewards of constant spread",),
            tie_probability=stays,
            lengths=lengths,
        )

    def moments(self, odd_share: float = PURE_NOISE) -> ShapingMoments:
        """Return the coefficients of one step's moments on a quadratic."""
        n, keep = self.population, (self.population - 1) / self.population
        return ShapingMoments(
            progress=keep,
            flat=keep,
            quadratic=2 * keep**2,
            signal=keep**2 * (n + 2 - (n - 2) / (n - 1)),
            scale_power=1,
            spread=2 / (n - 1),
            tilt=2 / (n - 1),
        )

    def curved_fluctuation(self, excess: float) -> float:
        """Return 1 + X (N-1)/(2 N), of a sample variance's relative variance 2/(N-1) + X/N."""
        return 1 + excess * (self.population - 1) / (2 * self.population)

    def overlap(self, rewards: RewardModel) -> float:
        """Return (N-1)/N rho S / sigma."""
        return (self.population - 1) / self.population * rewards.correlation * rewards.std / self.sigma

    def projection(self, reliability: float, even_share: float = 0.0) -> tuple[float, float, float]:
        """Return (rho, N - 1, sqrt(1 - rho^2)), as of z-scores."""
        return math.sqrt(reliability), self.population - 1.0, math.sqrt(max(1.0 - reliability, 0.0))

    def projection_moments(self, reliability: float, even_share: float) -> tuple[float, float, float]:
        """Return the moments of A, tilted by V."""
        return tilted_moments(*self.projection(reliability, even_share))


def known_spread(signal: Signal, title: str) -> float:
    """Return S, or refuse.

    Parameters
    ----------
    signal
        What is known of the reward.
    title
        Of the estimator that needs it.

    Returns
    -------
    float
        Reward units.

    Raises
    ------
    ConfigError
        Where it is unknown.

    Notes
    -----
    No label: a declared choice of the caller.
    """
    if signal.member_std is None:
        raise ConfigError(
            f"the walk with {title} needs the spread of the rewards",
            "give --gradient-norm with --reward-std, or --reliability with one of them",
        )
    return signal.member_std


def tilted_moments(a: float, m: float, b: float) -> tuple[float, float, float]:
    """Return E[V A^2], E[V^2 A^2]/E[V^2] and E[V^2 A^4]/E[V^2] of A = a chi_m + b Z with V = chi_m^2 / m.

    Parameters
    ----------
    a, m, b
        As of :meth:`estheory.theory.estimators.estimator.Estimator.projection`.

    Returns
    -------
    tuple of float
        Pure numbers.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    once, twice = m + 2, m + 4
    fourth = a**4 * twice * (twice + 2) + 6 * a * a * b * b * twice + 3 * b**4
    return a * a * once + b * b, a * a * twice + b * b, fourth
