"""Two-point shaping: (R+ - R-) / (2 sigma) of each direction, uncentred, as MeZO."""

from __future__ import annotations

import math
from typing import ClassVar

from estheory._special import Array
from estheory.landscape import Landscape, Signal
from estheory.theory.estimators.estimator import PURE_NOISE, WALK, Estimator, ShapingMoments, StepVariance
from estheory.theory.estimators.raw import known_spread, tilted_moments


class TwoPoint(Estimator):
    """Differences of the two rewards of each of N directions."""

    title: ClassVar[str] = "two-point shaping"
    paired: ClassVar[bool] = True
    evaluations_per_member: ClassVar[int] = 2
    scale_free: ClassVar[bool] = False
    fixed_variance: ClassVar[bool] = False

    @property
    def weight_kurtosis(self) -> float:
        """That of a point on a sphere: no mean is taken off the directions' weights."""
        return 3 * self.directions / (self.directions + 2)

    def shape(self, rewards: Array) -> Array:
        """Return (R+ - R-) / (2 sigma) of each direction."""
        return (rewards[..., 0::2] - rewards[..., 1::2]) / (2 * self.sigma)

    def length_faults(self) -> list[tuple[str, float]]:
        """Return those of every step, and of counting pairs."""
        return [
            *super().length_faults(),
            ("1/sigma stands for 1/(2 sigma)", 2.0),
            ("the sum is divided by the number of evaluations, not of directions", 0.5),
        ]

    def _gaussian_variance(self, signal: Signal) -> StepVariance:
        slope, spread = signal.gradient_norm or 0.0, known_spread(signal, self.title)
        noise = max(spread**2 * (1 - signal.even_share) - (self.sigma * slope) ** 2, 0.0)
        return StepVariance(
            value=self.alpha**2 / self.population * (slope**2 + noise / (2 * self.sigma**2)),
            mixing_df=self.population,
            fourth_moment=3.0,
            label="exact",
            source=WALK,
            assumptions=("Gaussian rewards of constant spread",),
        )

    def moments(self, odd_share: float = PURE_NOISE) -> ShapingMoments:
        """Return the coefficients of one step's moments on a quadratic."""
        n = self.population
        return ShapingMoments(
            progress=1.0, flat=1.0, quadratic=0.0, signal=n + 1, scale_power=1, spread=2 / n, tilt=2 / n
        )

    def projection(self, reliability: float, even_share: float = 0.0) -> tuple[float, float, float]:
        """Return (a, N, sqrt(1 - a^2)), a the correlation of a pair's difference with its signal."""
        a = self.pair_correlation(reliability, even_share)
        return a, float(self.population), math.sqrt(max(1.0 - a * a, 0.0))

    def projection_moments(self, reliability: float, even_share: float) -> tuple[float, float, float]:
        """Return the moments of A, tilted by V."""
        return tilted_moments(*self.projection(reliability, even_share))

    def constant_variance(self, landscape: Landscape) -> float:
        """Return s^2/2: the even part of the rewards drops out of a pair's difference."""
        return 0.5 * landscape.reward_std**2
