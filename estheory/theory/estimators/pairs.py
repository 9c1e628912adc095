"""Mirrored (antithetic) pairs: z-scores of N members that are N/2 pairs theta +- sigma eps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np

from estheory._special import Array, chi_mean, chi_nodes
from estheory.landscape import Landscape, Signal
from estheory.rules import SMALLEST_MIRRORED
from estheory.theory.estimators.estimator import (
    PURE_NOISE,
    WALK,
    CurvedShares,
    Estimator,
    ShapingMoments,
    StepVariance,
)
from estheory.theory.estimators.zscores import ZScores, mean_population_std
from estheory.theory.norm_laws import NormLaw, PairNormLaw, SteeredPairNormLaw, odd_part_nodes
from estheory.theory.reward_model import RewardModel

_NO_EVEN_PART = 1e-9


class MirroredPairs(ZScores):
    """z-scores of mirrored pairs."""

    title: ClassVar[str] = "antithetic pairs"
    paired: ClassVar[bool] = True
    members_per_direction: ClassVar[int] = 2
    fixed_variance: ClassVar[bool] = False
    chi_square_variance: ClassVar[bool] = False
    even_share_limit: ClassVar[float] = 0.9
    independent_zscores: ClassVar[bool] = False

    @property
    def weight_kurtosis(self) -> float:
        """That of a point on a sphere: no mean is taken off the directions' weights."""
        return 3 * self.directions / (self.directions + 2)

    @property
    def odd_parts(self) -> int:
        """One of each pair."""
        return self.directions

    @staticmethod
    def noise_weights(shaped: Array) -> Array:
        """Return z+ - z- of each pair."""
        return shaped[..., 0::2] - shaped[..., 1::2]

    def length_faults(self) -> list[tuple[str, float]]:
        """Return those of z-scores, and of counting pairs."""
        return [
            *super().length_faults(),
            ("the sum is divided by the number of pairs, not of members", 2.0),
            ("one member of each pair is left out of the sum", 0.5),
        ]

    def _odd_part(self, odd_share: float) -> tuple[float, Array, Array, Array]:
        """Return w, nodes and weights of the odd parts' share B, and D = w B + (1-w)(1-B)."""
        w = max(odd_share, 1e-12)  # rewards without odd part do not move at all
        share, weight = odd_part_nodes(self.directions)
        return w, share, weight, w * share + (1 - w) * (1 - share)

    def odd_variance(self, kappa: float) -> tuple[float, float]:
        """Return mean and relative variance of V, where a step's flat variance is (alpha^2/N) V.

        V = 2 (1+kappa) X / ((1+kappa) X + (1-kappa) Y), X ~ chi^2_{N/2}, Y ~ chi^2_{N/2-1}: the odd part of the
        members' rewards over all of it. Its mean expands as (1+kappa)(1 + (1-kappa)(1-2 kappa)/N).

        Parameters
        ----------
        kappa
            Minus the correlation of R+ and R- of one pair, in (-1, 1].

        Returns
        -------
        mean : float
            E V.
        spread : float
            Var V / (E V)^2.

        Notes
        -----
        Label: exact, for Gaussian rewards. Source: ours: docs/concepts/walk.md.
        """
        part, weight = odd_part_nodes(self.directions)
        odd = (1 + kappa) * part
        share = 2 * odd / (odd + (1 - kappa) * (1 - part))
        mean = float(weight @ share)
        return mean, float(weight @ (share - mean) ** 2) / mean**2

    def _gaussian_variance(self, signal: Signal) -> StepVariance:
        n, kappa = self.population, signal.kappa
        mean, spread = self.odd_variance(kappa)
        return StepVariance(
            value=self.alpha**2 / n * mean,
            mixing_df=2 / spread if spread > 1e-12 else math.inf,
            fourth_moment=3 * (n - 1) / (n + 1),
            label="exact",
            source=WALK,
            assumptions=(
                "Gaussian rewards" if signal.even_share else "Gaussian rewards without even part",
                f"{kappa = :g}",
            ),
            most=2 / mean,
        )

    def of_equal_noise(self, population: float, signal: Signal) -> float | None:
        """Return N with V(N)/N as small as ``population`` with this V; V is interpolated between even N, in 1/N."""

        def mean_variance(members: float) -> float:
            low = max(SMALLEST_MIRRORED, 2 * int(members / 2))
            first, second = (replace(self, population=n).odd_variance(signal.kappa)[0] for n in (low, low + 2))
            weight = (1 / low - 1 / max(members, low)) / (1 / low - 1 / (low + 2))
            return first + weight * (second - first)

        own, found = mean_variance(self.population), population
        for _ in range(60):  # V falls slowly: the map contracts
            found = population * mean_variance(found) / own
        return found if found >= SMALLEST_MIRRORED else None

    def step_norm(self, length: float, df: float, signal: Signal) -> NormLaw:
        """Return the law that the odd parts of the pairs' rewards give."""
        return PairNormLaw(length * self.alpha / math.sqrt(self.population), self.directions, signal.kappa, df)

    def steered_step_norm(self, length: float, df: float, dim: int, signal: Signal) -> NormLaw | None:
        """Return the law that the odd parts of the pairs' rewards give: of their length and of what lies along g."""
        a, _, b = self.projection(signal.reliability or 0.0, signal.even_share)
        if signal.kappa > 1 - _NO_EVEN_PART:
            return None
        share = math.sqrt(df / dim)  # of a step of low-rank noise, whose coordinates are fewer and as much larger
        scale = length * self.alpha / math.sqrt(self.population)
        rest = df * (dim - 1) / dim
        return SteeredPairNormLaw(scale, self.directions, signal.kappa, a * share, b * share, rest)

    def _discrete_variance(self, rewards: RewardModel) -> StepVariance:
        return Estimator._discrete_variance(self, rewards)

    def overlap(self, rewards: RewardModel) -> float:
        """Refuse: what a pair shares of its prompts is not modelled."""
        return Estimator.overlap(self, rewards)

    def moments(self, odd_share: float = PURE_NOISE) -> ShapingMoments:
        """Return the coefficients of one step's moments on a quadratic, integrals over the odd parts' share B."""
        n = self.population
        w, share, weight, inside = self._odd_part(odd_share)
        over = share / inside
        mean = float(weight @ over)
        return ShapingMoments(
            progress=math.sqrt(2) * mean_population_std(n) * float(weight @ (share / np.sqrt(inside))),
            flat=2 * w * mean,
            quadratic=0.0,
            signal=2 * ((n - 1) * float(weight @ (share * over)) - mean),
            scale_power=0,
            spread=8 * (1 - w) ** 2 / n,
            tilt=4 * (1 - w) * (1.5 - w) / n,
        )

    def slopes(self, odd_share: float) -> tuple[float, float, float]:
        """Return the derivatives of progress, flat and signal with respect to w.

        With D = w B + (1-w)(1-B): progress = sqrt(2) c(N) E[B / sqrt D], flat = 2 w E[B/D],
        signal = 2 ((N-1) E[B^2/D] - E[B/D]).
        """
        w, share, weight, inside = self._odd_part(odd_share)
        over, slope = share / inside, share * (1 - 2 * share) / inside**2
        mean, mean_slope = float(weight @ over), float(weight @ slope)
        scale = math.sqrt(2) * mean_population_std(self.population)
        return (
            0.5 * scale * float(weight @ (slope * np.sqrt(inside))),
            2 * (mean + w * mean_slope),
            2 * ((self.population - 1) * float(weight @ (share * slope)) - mean_slope),
        )

    def projection(self, reliability: float, even_share: float = 0.0) -> tuple[float, float, float]:
        """Return (a, N/2, sqrt(1 - a^2)), a the correlation of a pair's difference with its signal."""
        a = self.pair_correlation(reliability, even_share)
        return a, float(self.directions), math.sqrt(max(1.0 - a * a, 0.0))

    def projection_moments(self, reliability: float, even_share: float) -> tuple[float, float, float]:
        """Return the moments of A, which depends as V does on the odd part of the rewards."""
        a, m, b = self.projection(reliability, even_share)
        kappa = max(reliability - even_share, 1e-12 - 1.0)
        x, wx = chi_nodes(m)
        y, wy = chi_nodes(m - 1)
        square = x[:, None] ** 2
        v = (1 + kappa) * square / ((1 + kappa) * square + (1 - kappa) * y[None, :] ** 2)
        squared = a * a * square + b * b
        to_fourth = a**4 * square**2 + 6 * a * a * b * b * square + 3 * b**4
        one, two = wx @ v @ wy, wx @ v**2 @ wy
        return (
            float(wx @ (v * squared) @ wy / one),
            float(wx @ (v**2 * squared) @ wy / two),
            float(wx @ (v**2 * to_fourth) @ wy / two),
        )

    def bound(self) -> float | None:
        """Return alpha sqrt(2/N) E chi_{N/2}."""
        return self.alpha * math.sqrt(2 / self.population) * chi_mean(self.directions)

    def walked_signal(self, signal: Signal) -> Signal:
        """Return the signal itself: kappa enters the walk."""
        return signal

    def even_variance(self, landscape: Landscape) -> float | None:
        """Return that of the quadratic part and of half the noise."""
        return self.constant_variance(landscape) - 0.5 * landscape.reward_std**2

    def corrections(self, shares: CurvedShares, odd_share: float) -> tuple[Array, Array]:
        """Return the O(1/N) terms of the even parts' own law: alpha rho_k (3 Y/8 - 2 x_k)/N in the displacement.

        Y = sum (6 x_k^2 + 8 rho_k^2 x_k).
        """
        n, each = self.population, self.alpha**2 / self.population
        rho, x, kappa = shares.correlation, shares.quadratic, 2 * odd_share - 1
        pair = shares.total(6 * x**2 + 8 * rho**2 * x)
        even, mixed = shares.total(x**2), shares.total(rho**2 * x)
        progress = self.alpha * rho * (3 * pair / 8 - 2 * x) / n
        second = each * rho**2 * (pair - 8 * x)
        # a member's O^2 and eps_k^2 meet in the cross term of its own E^2, where O has curvature along it
        crossed = (1 + kappa) * (6 * even - 4 * x) + 8 * kappa * mixed - 8 * shares.crossed
        return progress, second + each / n * crossed
