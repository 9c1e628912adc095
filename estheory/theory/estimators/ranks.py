"""Centred ranks: rank/(N-1) - 1/2, equal rewards sharing their mean rank."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from estheory._special import Array, chi_mean
from estheory.cosine_laws import CosineLaw
from estheory.landscape import Landscape, Signal
from estheory.quantities import Label
from estheory.theory.estimators.estimator import (
    PURE_NOISE,
    SIGNAL,
    WALK,
    CurvedShares,
    Estimator,
    ShapingMoments,
    StepVariance,
    projected_cosine,
)
from estheory.theory.reward_model import RewardModel, rank_overlap, tie_probability
from estheory.theory.ties import Lengths, added_lengths

MEAN_OVERLAP = 0.5 / math.sqrt(math.pi)
"""E of (1/N) sum u_(i) e_(i) for centred ranks u of N normals e, for every N."""
FEW_MEMBERS = 8
"""Members up to which the law of the length of ranks sums over the numbers that are equal, however many values."""
_SKEW = 0.3675526
"""24 times -int (F - 1/2) f^2 of a density of unit skewness and variance, by its first-order Edgeworth expansion."""


def mean_difference_variance(population: int) -> float:
    """Return the variance of Gini's mean difference of N standard normals (Nair 1936).

    Parameters
    ----------
    population
        N, at least 2.

    Returns
    -------
    float
        Pure number, O(1/N).

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    n = population
    return 4 / (n * (n - 1)) * ((n + 1) / 3 + (2 * math.sqrt(3) * (n - 2) - 2 * (2 * n - 3)) / math.pi)


def tied_square(population: int, probabilities: Array) -> tuple[float, float]:
    """Return mean and relative variance of (1/N) sum u_i^2 for centred ranks of N independent rewards that tie.

    t equal rewards take (t^3 - t) / 12 from the sum of the squared ranks, so the mean is
    (N + 1 - (N-2) sum p^3 - 3 sum p^2) / (12 (N-1)).

    Parameters
    ----------
    population
        N, at least 2.
    probabilities
        Of each value of a reward, shape (m,); empty where rewards never tie.

    Returns
    -------
    mean : float
        Pure number.
    spread : float
        Variance over squared mean; 0 where nothing ties.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md.

    Examples
    --------
    >>> mean, _ = tied_square(30, np.array([0.5, 0.5]))
    >>> round(mean / tied_square(30, np.array([]))[0], 3)
    0.726
    """
    n = population
    power = [float(np.sum(probabilities**k)) for k in range(7)]

    def falling(k: int) -> float:
        return math.prod(float(n - i) for i in range(k))

    def product(a: int, b: int) -> float:
        """Covariance of sum t^(a) and sum t^(b), with falling powers t^(a) of the multinomial numbers t."""
        apart = (falling(a + b) - falling(a) * falling(b)) * power[a] * power[b]
        return apart + sum(
            math.factorial(j) * math.comb(a, j) * math.comb(b, j) * falling(a + b - j) * power[a + b - j]
            for j in range(1, min(a, b) + 1)
        )

    lost = falling(3) * power[3] + 3 * falling(2) * power[2]  # of sum (t^3 - t), t^3 - t = t^(3) + 3 t^(2)
    left = falling(2) * (n + 1) - lost
    spread = product(3, 3) + 6 * product(3, 2) + 9 * product(2, 2)
    return left / (12 * n * (n - 1) ** 2), max(spread, 0.0) / left**2 if left > 0 else 0.0


def rank_overlaps(sigma: float, landscape: Landscape) -> Array:
    """Return E[F(R) eps_k] with F the distribution function of a reward: the displacement of ranks over alpha.

    (1/pi) int_0^inf |phi_R(t)|^2 sigma g_k / (1 + t^2 sigma^4 lam_k^2) dt with phi_R the characteristic function of a
    reward. Trapezoids in t = exp(u - exp(-u)) / S: the integrand is analytic and falls off at both ends doubly
    exponentially, or like a power of t where neither noise nor gradient is there to damp it.

    Parameters
    ----------
    sigma
        Perturbation scale, weight units.
    landscape
        The quadratic.

    Returns
    -------
    ndarray
        Of one direction of each row, shape (m,).

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/quadratic.md.
    """
    big_s = landscape.member_std(sigma)
    u = np.linspace(-4.0, 12.0, 641)
    t = np.exp(u - np.exp(-u)) / big_s
    jacobian = t * (1 + np.exp(-u)) * (u[1] - u[0])
    log_square = -((landscape.reward_std * t) ** 2)
    damping = np.empty((landscape.eigenvalue.size, t.size))
    for row, (lam, count, g) in enumerate(
        zip(landscape.eigenvalue, landscape.multiplicity, landscape.gradient, strict=True)
    ):
        curved = (sigma**2 * lam * t) ** 2
        damping[row] = 1 / (1 + curved)
        log_square -= count * (0.5 * np.log1p(curved) + (sigma * g * t) ** 2 * damping[row])
    return np.asarray(sigma * landscape.gradient * (damping @ (np.exp(log_square) * jacobian)) / math.pi)


class CentredRanks(Estimator):
    """Centred ranks of independent members."""

    title: ClassVar[str] = "centered-rank shaping"
    order_alone: ClassVar[bool] = True
    cosine_label: ClassVar[Label] = "large-N"
    quadratic_share_limit: ClassVar[float] = 0.3

    @property
    def weight_kurtosis(self) -> float:
        """That of the ranks without ties."""
        n = self.population
        ranks = np.arange(n) / (n - 1) - 0.5 if n < 10_000 else np.linspace(-0.5, 0.5, 10_000)
        return float(np.mean(ranks**4) / np.mean(ranks**2) ** 2)

    def shape(self, rewards: Array) -> Array:
        """Return centred ranks; t equal rewards have the mean of t successive ranks."""
        n, order = rewards.shape[-1], np.argsort(rewards, axis=-1, kind="stable")
        ordered = np.take_along_axis(rewards, order, axis=-1)
        changes = ordered[..., 1:] != ordered[..., :-1]
        edge = np.ones((*rewards.shape[:-1], 1), dtype=bool)
        place = np.arange(n)
        first = np.maximum.accumulate(np.where(np.concatenate([edge, changes], axis=-1), place, 0), axis=-1)
        ends = np.where(np.concatenate([changes, edge], axis=-1), place, n - 1)
        last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
        ranks = np.empty(rewards.shape)
        np.put_along_axis(ranks, order, (first + last) / 2, axis=-1)
        return np.asarray(ranks / (n - 1) - 0.5)

    def length_faults(self) -> list[tuple[str, float]]:
        """Return those of every step, and of the scale of ranks."""
        n = self.population
        return [
            *super().length_faults(),
            ("ranks are not divided by N-1", n - 1),
            ("ranks are divided by N, not N-1", (n - 1) / n),
        ]

    def spread_faults(self, rewards: Array) -> list[tuple[str, float]]:
        """Return none: ranks do not see the spread of the rewards."""
        return []

    @property
    def _flat(self) -> float:
        """Mean square of the ranks without ties."""
        return (self.population + 1) / (12 * (self.population - 1))

    def _gaussian_variance(self, signal: Signal) -> StepVariance:
        return StepVariance(
            value=self.alpha**2 / self.population * self._flat,
            mixing_df=math.inf,
            fourth_moment=self.weight_kurtosis,
            label="exact",
            source=WALK,
            assumptions=("no ties among the rewards",),
        )

    def _discrete_variance(self, rewards: RewardModel) -> StepVariance:
        if rewards.gaussian_std:
            return self._gaussian_variance(Signal())
        stays, p = tie_probability(rewards, self.population), rewards.probabilities
        mean, spread = tied_square(self.population, p)
        lengths = self._lengths(rewards)
        moving = (1 - stays) * (1 + spread) - 1  # relative variance between the steps that move
        rising = p[np.argsort(rewards.values)]
        middle = np.cumsum(rising) - rising / 2 - 0.5  # ranks of many members
        return StepVariance(
            value=self.alpha**2 / self.population * mean,
            mixing_df=2 / moving if moving > 1e-12 else math.inf,
            fourth_moment=float(rising @ middle**4) / float(rising @ middle**2) ** 2 if p.size > 1 else 3.0,
            label="exact" if lengths else "large-N",
            source=SIGNAL,
            assumptions=("equal rewards share their mean rank",),
            tie_probability=stays,
            lengths=lengths,
        )

    def _lengths(self, rewards: RewardModel) -> Lengths:
        """Return the squared lengths of a step, of few members from the numbers that are equal alone.

        The numbers t of equal rewards are multinomial and take sum (t^3 - t)/12 from that of the squared ranks: sums
        and their probabilities follow value by value.
        """
        n = self.population
        if rewards.gaussian_std or n > FEW_MEMBERS:
            return super()._lengths(rewards)
        found = {(0, 0): 1.0}
        for chance in rewards.probabilities:
            longer: dict[tuple[int, int], float] = {}
            for (members, lost), weight in found.items():
                for t in range(n - members + 1):
                    place = (members + t, lost + t**3 - t)
                    longer[place] = longer.get(place, 0.0) + weight * float(chance) ** t / math.factorial(t)
            found = longer
        square = {n**3 - n - lost: math.factorial(n) * w for (members, lost), w in found.items() if members == n}
        mean = sum(length * chance for length, chance in square.items())
        return added_lengths(tuple((length / mean, chance) for length, chance in sorted(square.items())), 1) or ()

    def moments(self, odd_share: float = PURE_NOISE) -> ShapingMoments:
        """Return the coefficients of one step's moments on a quadratic."""
        n = self.population
        return ShapingMoments(
            progress=MEAN_OVERLAP,
            flat=self._flat,
            quadratic=(n - 2) / (n - 1) / (2 * math.pi * math.sqrt(3)),
            signal=n * MEAN_OVERLAP**2 + n / 16 * mean_difference_variance(n) - self._flat,
            scale_power=0,
        )

    def overlap(self, rewards: RewardModel) -> float:
        """Return E[u_1 x_1]; a mean rank has the mean of any order among equals."""
        return rank_overlap(rewards)

    def own_projection(self, reliability: float) -> tuple[float, float]:
        """Return mean and variance of A: rho L + sqrt(1-rho^2) Z, L = sum u_i R_i / sqrt(sum u_i^2).

        Parameters
        ----------
        reliability
            rho^2 of one member, in [0, 1].

        Returns
        -------
        tuple of float
            In units of the standard deviation of a flat coordinate.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/signal.md. Gaussian rewards.
        """
        n = self.population
        squares = n * self._flat
        # sum u_i R_i = N G / 4 with G the mean difference
        variance = (n / 4) ** 2 * mean_difference_variance(n) / squares
        return math.sqrt(reliability) * n * MEAN_OVERLAP / math.sqrt(squares), 1 - reliability + reliability * variance

    def projection(self, reliability: float, even_share: float = 0.0) -> tuple[float, float, float]:
        """Return (a, m, b), a chi_m with the mean and variance of L.

        L is exactly a chi variable for two members, and close to one beyond.
        """
        mean, variance = self.own_projection(1.0)
        spread = variance / mean**2
        low, high = 1.0, 1.0 + 1.0 / spread
        for _ in range(100 if spread > 1e-7 else 0):  # the relative variance of a chi variable falls with its degrees
            middle = (low + high) / 2
            low, high = (middle, high) if middle / chi_mean(middle) ** 2 - 1.0 > spread else (low, middle)
        df = (low + high) / 2 if spread > 1e-7 else 0.5 / spread
        return math.sqrt(reliability) * mean / chi_mean(df), df, math.sqrt(1.0 - reliability)

    def projection_moments(self, reliability: float, even_share: float) -> tuple[float, float, float]:
        """Return the moments of A, taken as normal in the fourth."""
        mean, variance = self.own_projection(reliability)
        second = mean**2 + variance
        return second, second, mean**4 + 6 * mean**2 * variance + 3 * variance**2

    def _discrete_cosine(self, dim: int, rewards: RewardModel) -> CosineLaw:
        square, move = self._flat, 1.0
        if not rewards.gaussian_std:
            move = 1 - tie_probability(rewards, self.population)
            square = tied_square(self.population, rewards.probabilities)[0]
        mean = math.sqrt(self.population) * rank_overlap(rewards) / math.sqrt(square * move)
        return projected_cosine(mean, self.own_projection(rewards.correlation**2)[1], dim)

    def bound(self) -> float | None:
        """Return alpha / (2 sqrt(pi)): equal rewards, whose ranks are a mean of orders, have no larger overlap."""
        return self.alpha * MEAN_OVERLAP

    def corrections(self, shares: CurvedShares, odd_share: float) -> tuple[Array, Array]:
        """Return the exact displacement less that of Gaussian rewards, and the same of its square with the skewness.

        Rewards that curvature skews have their mode above their median: large eps_k^2, which lower a reward, then take
        off more of its squared rank than they add, sqrt(x_k) |skewness| at first order.
        """
        n = self.population
        gaussian = self.alpha * MEAN_OVERLAP * shares.correlation
        exact = self.alpha * rank_overlaps(self.sigma, shares.landscape)
        skewed = (n - 2) / (n - 1) * _SKEW / 12 * np.sqrt(shares.quadratic) * shares.skewness
        return exact - gaussian, exact**2 - gaussian**2 - self.alpha**2 / n * skewed

    def neglected(self, largest: float, excess: float, skewness: float) -> tuple[float, float]:
        """Return max(|X/16 - x/2|, x/4) of the progress and 0.3676 sqrt(x) |skewness| of the noise, for every N."""
        return max(abs(excess / 16 - largest / 2), largest / 4), _SKEW * math.sqrt(largest) * skewness
