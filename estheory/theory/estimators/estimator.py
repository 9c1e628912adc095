"""What an estimator is: from the rewards of a step to the weights of its noise, and the moments that follow.

There is one class per kind. Theory, simulation, training and replay ask it, and nothing else shapes rewards.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar, Literal

import numpy as np

from estheory._special import Array, chi_mean
from estheory.citations import ours
from estheory.cosine_laws import CosineLaw
from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.laws import Law
from estheory.quantities import Label
from estheory.theory.norm_laws import NormLaw
from estheory.theory.reward_model import RewardModel
from estheory.theory.ties import Lengths, added_lengths

SIGNAL = ours("signal")
WALK = ours("walk")
PAPER = "arXiv:2604.01499"

NO_TIES = "not all rewards of a step equal"
_CONSTANT = 1e6
MOST_SHARINGS = 5000
"""Ways to share the members among the rewards' values up to which each one's length of a step is counted."""
PURE_NOISE = 0.5
"""Odd share of a pair whose two rewards are independent."""


@dataclass(frozen=True, kw_only=True)
class StepVariance:
    """Variance of one flat coordinate in one step.

    Attributes
    ----------
    value
        The mean variance, weight^2; steps that do not move are counted.
    mixing_df
        Degrees of freedom of its own fluctuation between the steps that move; infinite when it is fixed.
    most
        Its largest value over the mean; infinite where it has none.
    fourth_moment
        Mean of w^4 over (mean of w^2)^2 for the weights w that multiply the members' noise.
    label, source, assumptions
        As in :class:`estheory.quantities.Prediction`.
    tie_probability
        Share of the steps that do not move, because all rewards are equal.
    lengths
        Law of this variance over its mean, where it takes few values; else empty.
    """

    value: float
    mixing_df: float
    fourth_moment: float
    label: Label
    source: str
    assumptions: tuple[str, ...]
    tie_probability: float = 0.0
    lengths: Lengths = ()
    most: float = math.inf


@dataclass(frozen=True, kw_only=True)
class ShapingMoments:
    """Coefficients of one step's moments on a quadratic, in the scale U of the shaped rewards (1, or S/sigma).

    To leading order E[Delta_k] = alpha U p rho_k and
    N E[Delta_k^2] = (alpha U)^2 (flat + quadratic x_k + signal rho_k^2). For two-point shaping S, in U, rho_k and
    x_k, is the standard deviation of half a pair's difference, (R+ - R-)/2.

    Attributes
    ----------
    progress
        p: c(N) for z-scores, 1/(2 sqrt(pi)) for centred ranks, (N-1)/N for raw rewards, 1 for two-point.
    flat, quadratic, signal
        Of the second moment.
    scale_power
        1 where the step scales with S (raw, two-point), else 0.
    spread
        Relative variance, from step to step, of the variance of a flat coordinate given the rewards.
    tilt
        Its covariance with the relative fluctuation of the progress.
    """

    progress: float
    flat: float
    quadratic: float
    signal: float
    scale_power: Literal[0, 1]
    spread: float = 0.0
    tilt: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CurvedShares:
    """How the eigendirections of a quadratic share in the variance of one member's reward.

    Attributes
    ----------
    landscape
        The quadratic.
    member_std
        S, reward units.
    correlation
        rho_k = sigma g_k / S, of one direction of each row, shape (m,).
    quadratic
        x_k = sigma^4 lam_k^2 / S^2, shape (m,).
    """

    landscape: Landscape
    member_std: float
    correlation: Array
    quadratic: Array

    def total(self, each: Array) -> float:
        """Return the sum over all directions.

        Parameters
        ----------
        each
            A number for one direction of each row, shape (m,).

        Returns
        -------
        float
            In its unit.
        """
        return float(self.landscape.multiplicity @ each)

    @property
    def excess_kurtosis(self) -> float:
        """X of a member's reward."""
        return self.total(3 * self.quadratic**2 + 12 * self.correlation**2 * self.quadratic)

    @property
    def skewness(self) -> float:
        """Size of the skewness of a member's reward, which curvature makes negative."""
        return self.total(self.quadratic**1.5 + 3 * self.correlation**2 * np.sqrt(self.quadratic))

    @property
    def crossed(self) -> Array:
        """sqrt(x_k) sum_j rho_j^2 sqrt(x_j), shape (m,)."""
        return np.asarray(np.sqrt(self.quadratic) * self.total(self.correlation**2 * np.sqrt(self.quadratic)))


def projected_cosine(mean: float, variance: float, dim: int) -> CosineLaw:
    """Return the law of the cosine whose projection on the direction is normal.

    Parameters
    ----------
    mean, variance
        Of the projection, in units of the standard deviation of a flat coordinate and its square.
    dim
        d.

    Returns
    -------
    CosineLaw
        In [-1, 1]: a chi variable of so many degrees of freedom is a constant beside the normal part.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/signal.md.
    """
    scale = mean / chi_mean(_CONSTANT)
    return CosineLaw(scale, _CONSTANT, math.sqrt(variance - 0.5 * scale**2), dim - 1.0)


@dataclass(frozen=True, kw_only=True)
class Estimator(ABC):
    """One way from the rewards of a step to the update theta += (alpha/N) sum_k w_k eps_k, and what follows from it.

    Attributes
    ----------
    population
        N.
    sigma
        Perturbation scale, weight units.
    alpha
        Step size of the canonical convention (:class:`estheory.rules.ESConfig`).
    title
        What messages call it.
    paired
        Whether every noise vector is evaluated at both signs: evaluations 2k and 2k+1 are theta +- sigma eps_k.
    evaluations_per_member
        2 where N counts directions, each evaluated at both signs; else 1.
    members_per_direction
        2 where the N members are N/2 mirrored pairs, each of one noise vector; else 1.
    order_alone
        Whether only the order of the rewards counts.
    scale_free
        Whether the step stays the same when all rewards are multiplied by a number > 0. The step's moments on a
        quadratic then are expansions; of the others they are exact.
    fixed_variance
        Whether the variance of a flat coordinate is the same whatever the rewards are.
    chi_square_variance
        Whether that variance, where it is not fixed, is a chi-square over its degrees of freedom for Gaussian rewards.
    divides_by_spread
        Whether rewards are divided by their own standard deviation: z-scores, of pairs too.
    independent_zscores
        Whether it is z-scores of independent members, for which alone some closed forms are known.
    cosine_label
        Label of the law of the cosine with the gradient.
    quadratic_share_limit
        Largest x_k up to which the expansions of one step on a quadratic are good to 5 %.
    even_share_limit
        Largest share of the rewards' variance in their even part up to which a run on a quadratic has norms: beyond it
        the corrections of a step of pairs exceed the step.
    errors_are_one
        Whether the terms that the recursion on a quadratic neglects in progress and noise are the same.
    """

    population: int
    sigma: float
    alpha: float

    title: ClassVar[str]
    paired: ClassVar[bool] = False
    evaluations_per_member: ClassVar[int] = 1
    members_per_direction: ClassVar[int] = 1
    order_alone: ClassVar[bool] = False
    scale_free: ClassVar[bool] = True
    fixed_variance: ClassVar[bool] = True
    chi_square_variance: ClassVar[bool] = True
    divides_by_spread: ClassVar[bool] = False
    independent_zscores: ClassVar[bool] = False
    cosine_label: ClassVar[Label] = "exact"
    quadratic_share_limit: ClassVar[float] = math.inf
    even_share_limit: ClassVar[float] = math.inf
    errors_are_one: ClassVar[bool] = False

    @property
    def directions(self) -> int:
        """Number of independent noise vectors of a step."""
        return self.population // self.members_per_direction

    @property
    def weight_kurtosis(self) -> float:
        """Mean fourth power of the noise vectors' weights over their squared mean square, of Gaussian rewards.

        The weights of a step are uniform on a sphere: of one dimension less than there are members where their mean is
        taken off.
        """
        return 3 * (self.population - 1) / (self.population + 1)

    @property
    def odd_parts(self) -> int:
        """Number of odd parts of the rewards whose size a step's variance hangs on: N/2 of mirrored pairs, else 0."""
        return 0

    @property
    def evaluations(self) -> int:
        """Number of reward evaluations of a step."""
        return self.population * self.evaluations_per_member

    def direction_of(self, evaluation: int) -> tuple[int, float]:
        """Return the noise vector that an evaluation uses, and its sign.

        Parameters
        ----------
        evaluation
            Its number within the step, from 0.

        Returns
        -------
        direction : int
            From 0.
        sign : float
            1 or -1.
        """
        if self.paired:
            return evaluation // 2, -1.0 if evaluation % 2 else 1.0
        return evaluation, 1.0

    def in_turn(self, odd: Array, even: Array | float = 0.0) -> Array:
        """Return what each evaluation has of quantities that are odd and even in the noise, in the order of evaluation.

        Parameters
        ----------
        odd, even
            Of each noise vector, shape (replicas, directions, ...).

        Returns
        -------
        ndarray
            odd + even, or that and even - odd of each vector in turn, shape (replicas, evaluations, ...).
        """
        if not self.paired:
            return np.asarray(even + odd)
        both = np.stack([even + odd, even - odd], axis=2)
        return both.reshape(odd.shape[0], self.evaluations, *odd.shape[2:])

    @abstractmethod
    def shape(self, rewards: Array) -> Array:
        """Shape the rewards of a step. Equal rewards share their rank; if all are equal, nothing moves.

        Parameters
        ----------
        rewards
            Of each evaluation, shape (..., evaluations), any unit.

        Returns
        -------
        ndarray
            z_i, shape (..., N): of each member, or of each direction for two-point. All 0 where all rewards are equal.
        """

    @staticmethod
    def noise_weights(shaped: Array) -> Array:
        """Return the weights w_k of the noise vectors in a step.

        Parameters
        ----------
        shaped
            z_i, shape (..., N).

        Returns
        -------
        ndarray
            Shape (..., directions): z itself, or z+ - z- of mirrored pairs.
        """
        return shaped

    def length_faults(self) -> list[tuple[str, float]]:
        """Return mistakes in what shapes and sums the rewards that multiply a step by a fixed factor.

        Returns
        -------
        list of tuple
            What is wrong, as a clause, and its factor.

        Notes
        -----
        Label: exact. Source: the definition of the shaping. The base class has those of a step that sigma divides, or
        does not divide.
        """
        sigma = self.sigma
        if not self.scale_free:
            return [("1/sigma is missing", sigma), ("1/sigma is applied twice", 1 / sigma)]
        return [
            ("1/sigma is too much (the step of this rule does not contain it)", 1 / sigma),
            ("a factor sigma is too much (the step of this rule does not contain it)", sigma),
            ("1/sigma^2 is too much (the step of this rule does not contain sigma)", 1 / sigma**2),
            ("a factor sigma^2 is too much (the step of this rule does not contain sigma)", sigma**2),
        ]

    def spread_faults(self, rewards: Array) -> list[tuple[str, float]]:
        """Return mistakes in the shaping whose factor depends on the rewards of the step.

        Parameters
        ----------
        rewards
            Of each evaluation, shape (evaluations,), not all equal.

        Returns
        -------
        list of tuple
            As of :meth:`length_faults`.

        Notes
        -----
        Label: exact. Source: the definition of the shaping. The base class has those of rewards that are divided by
        sigma.
        """
        spread = float(rewards.std())
        return [
            ("rewards are divided by their standard deviation, not by sigma", self.sigma / spread),
            ("rewards are divided by their standard deviation as well as by sigma", 1 / spread),
        ]

    def variance(self, signal: Signal, rewards: RewardModel | None = None) -> StepVariance:
        """Return the variance of one flat coordinate in one step.

        Parameters
        ----------
        signal
            kappa of pairs, and the spread of the rewards with raw or two-point shaping; else it does not enter.
        rewards
            The law of a member's reward where it is not Gaussian, ties included.

        Returns
        -------
        StepVariance
            With its label and source.

        Raises
        ------
        ConfigError
            With raw or two-point shaping when the spread of the rewards is unknown; for rewards of pairs that are not
            Gaussian.

        Notes
        -----
        Label: exact; large-N for raw rewards and ranks that are not Gaussian, of which mean and variance of the
        squared step are exact. Source: arXiv:2604.01499 for z-scores; ours: docs/concepts/walk.md for the rest.
        """
        return self._gaussian_variance(signal) if rewards is None else self._discrete_variance(rewards)

    @abstractmethod
    def _gaussian_variance(self, signal: Signal) -> StepVariance:
        """Return the variance for Gaussian rewards."""

    def _discrete_variance(self, rewards: RewardModel) -> StepVariance:
        """Return the variance for rewards of few values."""
        raise ConfigError("0/1 rewards of paired members have no result here", "give --reward-std instead of --success")

    def of_equal_noise(self, population: float, signal: Signal) -> float | None:
        """Return the population with the variance per step that one of ``population`` would have if it fell as 1/N.

        Parameters
        ----------
        population
            N, where the variance of a flat coordinate times N stays that of this estimator.
        signal
            kappa of pairs.

        Returns
        -------
        float or None
            ``population`` itself but for mirrored pairs; None where it has no spread of rewards.

        Notes
        -----
        Label: exact, for z-scores. Source: ours: docs/concepts/es-and-grpo.md.
        """
        return population

    def step_norm(self, length: float, df: float, signal: Signal) -> NormLaw | None:
        """Return the law of the norm of one step without signal, where it is not the chi law of a walk.

        Parameters
        ----------
        length
            Factor on the step.
        df
            Effective number of independent coordinates.
        signal
            kappa of pairs.

        Returns
        -------
        Law or None
            Weight units; None where the walk has it.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/walk.md. Gaussian rewards.
        """
        return None

    def steered_step_norm(self, length: float, df: float, dim: int, signal: Signal) -> NormLaw | None:
        """Return the law of the norm of one step that its signal moves, where the variance has a law of its own.

        Parameters
        ----------
        length, df, signal
            As of :meth:`step_norm`; the reliability is known.
        dim
            Number of coordinates.

        Returns
        -------
        Law or None
            Weight units; None where the chi law of the square's moments stands for it.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/signal.md. Gaussian rewards, linear signal.
        """
        return None

    def _lengths(self, rewards: RewardModel) -> Lengths:
        """Return the squared lengths of the shaped rewards over their mean; empty where there are too many.

        Each way to share N members among the values has a length and a multinomial probability.
        """
        n, values = self.population, rewards.values
        if rewards.gaussian_std or math.comb(n + values.size - 1, values.size - 1) > MOST_SHARINGS:
            return ()
        bars = np.array(list(combinations(range(n + values.size - 1), values.size - 1)), dtype=np.int64)
        edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, n + values.size - 1)))
        counts = np.diff(edges, axis=1) - 1
        ways = np.array([math.lgamma(k + 1) for k in range(n + 1)])
        chance = np.exp(ways[n] - ways[counts].sum(axis=1) + counts @ np.log(rewards.probabilities))
        members = np.stack([np.repeat(values, each) for each in counts])
        square = np.sum(self.shape(members) ** 2, axis=1)
        return added_lengths(tuple(zip(square / float(chance @ square), chance, strict=True)), 1) or ()

    @abstractmethod
    def moments(self, odd_share: float = PURE_NOISE) -> ShapingMoments:
        """Return the coefficients of one step's moments on a quadratic.

        z-score: ``progress`` and ``signal`` exact for Gaussian rewards, ``quadratic`` exact to first order in x_k, any
        N, where no curved direction has gradient.
        Mirrored pairs: all exact for Gaussian even parts, any N; ``spread`` and ``tilt`` large-N. Centred rank:
        ``flat`` exact, ``signal`` exact for Gaussian rewards, ``quadratic`` to first order in x_k. Raw and two-point:
        all exact on a quadratic with Gaussian noise, any N.

        Parameters
        ----------
        odd_share
            w, for mirrored pairs: variance of the odd part (R+ - R-)/2 over that of a member's reward;
            kappa = 2 w - 1.

        Returns
        -------
        ShapingMoments
            Pure numbers.

        Notes
        -----
        Label: exact or large-N, by coefficient as above. Source: ours: docs/concepts/quadratic.md.
        """

    def knows_progress(self, signal: Signal) -> bool:
        """Say whether enough is known for :meth:`progress`.

        Parameters
        ----------
        signal
            What is known of the reward.

        Returns
        -------
        bool
            Whether its reliability (raw and two-point shaping: its gradient norm) is known.
        """
        return (signal.reliability if self.scale_free else signal.gradient_norm) is not None

    def progress(self, signal: Signal, rewards: RewardModel | None = None) -> float:
        """Return E[Delta . g_hat] of one plain step on a linear reward.

        Parameters
        ----------
        signal
            Its reliability (raw and two-point shaping: its gradient norm) must be known.
        rewards
            The law of a member's reward where it is not Gaussian; the signal then is in it.

        Returns
        -------
        float
            Weight units.

        Raises
        ------
        ConfigError
            If the reliability (or, for raw and two-point shaping, the gradient norm) is unknown, or all rewards are
            equal.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/signal.md. Linear signal, independent noise.
        """
        if rewards is not None:
            return self.alpha * self.overlap(rewards)
        w = (1 + signal.kappa) / 2
        if not self.scale_free:
            if signal.gradient_norm is None:
                raise ConfigError(f"progress with {self.title} needs the gradient norm", "give --gradient-norm")
            return self.alpha * signal.gradient_norm * self.moments(w).progress
        if signal.correlation is None:
            raise ConfigError(
                "progress needs the reliability", "give --reliability, or --gradient-norm and --reward-std"
            )
        return self.alpha * signal.correlation * self.moments(w).progress

    def overlap(self, rewards: RewardModel) -> float:
        """Return E[w_1 x_1]: progress along the gradient over alpha, for rewards of any law.

        Parameters
        ----------
        rewards
            The law of a member's reward and of its coordinate along the gradient.

        Returns
        -------
        float
            Pure number; reward / weight for raw rewards.

        Raises
        ------
        ConfigError
            For paired members, and if all rewards are equal.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/signal.md. Members independent given their perturbations.
        """
        raise ConfigError("0/1 rewards of paired members have no result here", "give --reward-std instead of --success")

    def pair_correlation(self, reliability: float, even_share: float = 0.0) -> float:
        """Return the correlation of a pair's reward difference with its signal, sqrt(2 rho^2 / (1 + kappa)).

        kappa = rho^2 - ``even_share``: the rest is independent noise of the two members.

        Parameters
        ----------
        reliability
            rho^2 of one member, in [0, 1].
        even_share
            As of :class:`estheory.landscape.Signal`.

        Returns
        -------
        float
            In [0, 1].

        Raises
        ------
        ConfigError
            For estimators without pairs.

        Notes
        -----
        Label: exact, for Gaussian rewards. Source: ours: docs/concepts/signal.md.
        """
        if not self.paired:
            raise ConfigError(
                "pair_correlation is for antithetic and two-point estimators", "use a paired configuration"
            )
        return math.sqrt(2 * reliability / max(1 + reliability - even_share, 1e-12))

    @abstractmethod
    def projection(self, reliability: float, even_share: float = 0.0) -> tuple[float, float, float]:
        """Return (a, m, b) of the projection A = a chi_m + b Z of a step on the gradient.

        Parameters
        ----------
        reliability
            rho^2 of one member, in [0, 1].
        even_share
            As of :class:`estheory.landscape.Signal`; enters for pairs alone.

        Returns
        -------
        tuple of float
            In units of the standard deviation of a flat coordinate.

        Notes
        -----
        Label: exact; large-N for centred ranks, where a chi variable has the exact mean and variance of the projection.
        Source: ours: docs/concepts/signal.md. Gaussian rewards, linear signal, independent noise.
        """

    def cosine(self, dim: int, signal: Signal, rewards: RewardModel | None = None) -> Law | None:
        """Return the law of the cosine of one step with the gradient; of a step that moves.

        Parameters
        ----------
        dim
            d, at least 2.
        signal
            Its reliability, 0 where unknown, and the even share of pairs.
        rewards
            The law of a member's reward where it is not Gaussian; the signal then is in it.

        Returns
        -------
        Law or None
            None where it has no result.

        Raises
        ------
        ConfigError
            In one dimension.

        Notes
        -----
        Label: exact; large-N for centred ranks and for rewards that are not Gaussian. Source: ours:
        docs/concepts/signal.md. Linear signal, independent noise.
        """
        if dim < 2:
            raise ConfigError("the cosine with the gradient needs at least 2 dimensions", "raise dim")
        if rewards is not None:
            return self._discrete_cosine(dim, rewards)
        return CosineLaw(*self.projection(signal.reliability or 0.0, signal.even_share), dim - 1.0)

    def _discrete_cosine(self, dim: int, rewards: RewardModel) -> Law | None:
        """Return the law of the cosine for rewards of few values."""
        return None

    @abstractmethod
    def projection_moments(self, reliability: float, even_share: float) -> tuple[float, float, float]:
        """Return E[V A^2]/E[V], E[V^2 A^2]/E[V^2] and E[V^2 A^4]/E[V^2] of the projection A on the gradient.

        V is the step's own variance over its mean. It is fixed for z-scores and ranks; for raw and two-point shaping it
        is chi_m^2 / m with the chi_m of A, which tilts the moments of chi_m^2 to m + 2 and m + 4 degrees of freedom;
        for mirrored pairs both depend on the odd part of the rewards.

        Parameters
        ----------
        reliability, even_share
            As for :meth:`projection`.

        Returns
        -------
        tuple of float
            Pure numbers.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/signal.md. Gaussian rewards.
        """

    def bound(self) -> float | None:
        """Return the bound on the mean displacement along a direction in one plain step: alpha c(N) for z-scores.

        The shaped rewards have a fixed length, so their overlap with the members' coordinates along one direction is
        largest when they are its own.

        Returns
        -------
        float or None
            Weight units; None for raw and two-point shaping, whose steps are unbounded.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/signal.md. Any reward, ties included; independent noise.
        """
        return None

    def walked_signal(self, signal: Signal) -> Signal:
        """Return the part of a signal that flat coordinates see.

        Parameters
        ----------
        signal
            What is known of the reward.

        Returns
        -------
        Signal
            Without reliability, but for mirrored pairs, whose walk it enters.
        """
        return replace(signal, reliability=None)

    def constant_variance(self, landscape: Landscape) -> float:
        """Return the part of the variance V of the shaped rewards that is the same everywhere on a quadratic.

        Parameters
        ----------
        landscape
            The quadratic.

        Returns
        -------
        float
            reward^2: 1/2 sigma^4 tr Lam^2 + s^2; s^2/2 for two-point, where V is that of half a pair's difference.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/dynamics.md. Quadratic reward.
        """
        return landscape.constant_variance(self.sigma)

    def even_variance(self, landscape: Landscape) -> float | None:
        """Return the variance of the even part (R+ + R-)/2 of mirrored pairs, the same everywhere on a quadratic.

        Parameters
        ----------
        landscape
            The quadratic.

        Returns
        -------
        float or None
            reward^2; None where it does not enter.
        """
        return None

    def slopes(self, odd_share: float) -> tuple[float, float, float]:
        """Return the derivatives of ``progress``, ``flat`` and ``signal`` of :meth:`moments` with respect to w.

        Parameters
        ----------
        odd_share
            w.

        Returns
        -------
        tuple of float
            0 but for mirrored pairs.

        Notes
        -----
        Label: exact, for Gaussian even parts. Source: ours: docs/concepts/quadratic.md.
        """
        return 0.0, 0.0, 0.0

    def corrections(self, shares: CurvedShares, odd_share: float) -> tuple[Array | float, Array | float]:
        """Return what one step on a quadratic has beyond :meth:`moments`, at finite N or curvature.

        Parameters
        ----------
        shares
            Of the eigendirections.
        odd_share
            w of mirrored pairs.

        Returns
        -------
        displacement, second_moment : ndarray or float
            To be added to E[Delta_k] (weight) and E[Delta_k^2] (weight^2) of one direction of each row, shape (m,).

        Notes
        -----
        Label: large-N; the displacement of centred ranks exact. Source: ours: docs/concepts/quadratic.md.
        """
        return 0.0, 0.0

    def curved_fluctuation(self, excess: float) -> float:
        """Return by what curvature multiplies the relative fluctuation of a step's variance.

        Parameters
        ----------
        excess
            X, the excess kurtosis of a member's reward.

        Returns
        -------
        float
            1 where a pair's difference or the scale drops it; of raw rewards 1 + X (N-1)/(2 N).

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/quadratic.md. The variance of a sample variance.
        """
        return 1.0

    def neglected(self, largest: float, excess: float, skewness: float) -> tuple[float, float]:
        """Return the relative errors of a step's progress and noise that the recursion on a quadratic leaves out.

        Parameters
        ----------
        largest
            The largest x_k.
        excess
            X, the excess kurtosis of a member's reward.
        skewness
            Its skewness.

        Returns
        -------
        progress, noise : float
            0 where nothing is left out; of mirrored pairs those of z-scores.

        Notes
        -----
        Label: large-N, and to first order in x_k. Source: ours: docs/concepts/dynamics.md.
        """
        return 0.0, 0.0


def sample_fourth_moment(population: int, kurtosis: float) -> float:
    """Return E m_4 / (E m_2)^2 of the central sample moments of N independent rewards.

    Parameters
    ----------
    population
        N, at least 2.
    kurtosis
        Fourth central moment of a reward over its squared variance, 3 for a Gaussian.

    Returns
    -------
    float
        ((N^2 - 3N + 3) kurtosis + 3 (2N - 3)) / (N (N-1)).

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md.
    """
    n = population
    return ((n * n - 3 * n + 3) * kurtosis + 3 * (2 * n - 3)) / (n * (n - 1))


def kurtosis_of(rewards: RewardModel) -> float:
    """Return the kurtosis of a member's reward.

    Parameters
    ----------
    rewards
        Its law.

    Returns
    -------
    float
        3 for a Gaussian.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    share = (rewards.gaussian_std / rewards.std) ** 2  # of the Gaussian part in the variance
    centred = (rewards.values - rewards.mean) / rewards.std
    return float(rewards.probabilities @ centred**4) + 6 * share * (1 - share) + 3 * share**2
