"""One step after the other on a quadratic reward: the rule of a step, and the moments that it carries along.

Every direction's mean and variance (with momentum its velocity's too) are followed under one spread of the rewards,
that which the average over directions has (docs/concepts/dynamics.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.anchor_l1 import pulled_after, pulled_before
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.estimator import PURE_NOISE, Estimator, ShapingMoments


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCoefficients:
    """What the update of one step is along a direction at distance delta from its optimum, before anchor and momentum.

    Its mean is -rate lam delta and its second moment noise + curvature lam^2 + slope lam^2 delta^2. Also used for the
    derivatives of these four with respect to V.

    Attributes
    ----------
    rate
        a, weight^2 / reward.
    noise
        Second moment in a flat direction, weight^2.
    curvature, slope
        Factors of lam^2 (weight^6 / reward^2) and of lam^2 delta^2 (weight^4 / reward^2).
    """

    rate: float
    noise: float
    curvature: float
    slope: float

    @property
    def extra(self) -> float:
        """Return slope - rate^2: the part of the second moment along the gradient that is variance."""
        return self.slope - self.rate**2


@dataclass(frozen=True, kw_only=True, eq=False)
class StepRule:
    """What one step does to a direction, as functions of V.

    V is S^2, the variance of a member's reward; with two-point shaping that of half a pair's difference, to which the
    even part of the rewards adds nothing.

    Attributes
    ----------
    config
        The run.
    estimator
        Its estimator.
    fixed
        Coefficients of the shaping; for antithetic pairs those of pure noise.
    even
        Variance of the even part (R+ + R-)/2 of antithetic pairs, reward^2: the same everywhere on a quadratic. None
        where rewards are pure noise, of which it is half.
    """

    config: ESConfig
    estimator: Estimator
    fixed: ShapingMoments
    even: float | None = None

    def odd_share(self, square: float) -> float:
        """Return w, the share of V in the odd part of a pair.

        Parameters
        ----------
        square
            V, reward^2.

        Returns
        -------
        float
            In [0, 1]; 1/2 for pure noise.
        """
        return PURE_NOISE if self.even is None else 1.0 - self.even / square

    def moments(self, square: float) -> ShapingMoments:
        """Return the coefficients of the shaping; V enters them for antithetic pairs alone.

        Parameters
        ----------
        square
            V, reward^2.

        Returns
        -------
        ShapingMoments
            Pure numbers.
        """
        return self.fixed if self.even is None else self.estimator.moments(self.odd_share(square))

    def at(self, square: float) -> StepCoefficients:
        """Return the coefficients of a step.

        Parameters
        ----------
        square
            V, reward^2.

        Returns
        -------
        StepCoefficients
            Of mean and second moment of the update.
        """
        c, alpha, sigma = self.moments(square), self.config.step_size, self.config.sigma
        each = alpha**2 / self.config.population
        scale = square / sigma**2 if c.scale_power else 1.0
        return StepCoefficients(
            rate=alpha * c.progress * sigma / math.sqrt(square) * math.sqrt(scale),
            noise=each * scale * c.flat,
            curvature=each * scale * c.quadratic * sigma**4 / square,
            slope=each * scale * c.signal * sigma**2 / square,
        )

    def derivative(self, square: float) -> StepCoefficients:
        """Return the derivatives of :meth:`at` with respect to V.

        Parameters
        ----------
        square
            V, reward^2.

        Returns
        -------
        StepCoefficients
            Each per reward^2.
        """
        now, c = self.at(square), self.moments(square)
        if c.scale_power:
            return StepCoefficients(rate=0.0, noise=now.noise / square, curvature=0.0, slope=0.0)
        rate, noise, slope = -0.5 * now.rate / square, 0.0, -now.slope / square
        if self.even is not None:
            alpha, sigma, n = self.config.step_size, self.config.sigma, self.config.population
            per_share = self.estimator.slopes(self.odd_share(square))
            share = self.even / square**2
            rate += alpha * sigma / math.sqrt(square) * per_share[0] * share
            noise += alpha**2 / n * per_share[1] * share
            slope += alpha**2 / n * sigma**2 / square * per_share[2] * share
        return StepCoefficients(rate=rate, noise=noise, curvature=-now.curvature / square, slope=slope)

    def rate(self, square: float) -> float:
        """Return a: alpha p sigma / S, or alpha p for raw and two-point rewards.

        Parameters
        ----------
        square
            V, reward^2.

        Returns
        -------
        float
            weight^2 / reward.
        """
        return self.at(square).rate

    @property
    def keep(self) -> float:
        """What a step keeps of the displacement from the start, 1 - kappa of an L2 anchor."""
        return 1.0 - self.config.anchor_l2

    @property
    def fresh(self) -> float:
        """What the pull of an L2 anchor leaves of the new step: 1 - kappa in the ``after`` form, else 1."""
        return self.keep if self.config.anchor_form == "after" else 1.0


def step_rule(config: ESConfig, landscape: Landscape | None = None) -> StepRule:
    """Return the rule of a step.

    Parameters
    ----------
    config
        The run.
    landscape
        Its quadratic; without one, rewards are nearly pure noise.

    Returns
    -------
    StepRule
        As functions of V.
    """
    estimator = estimator_of(config)
    even = None if landscape is None else estimator.even_variance(landscape)
    return StepRule(config=config, estimator=estimator, fixed=estimator.moments(), even=even)


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Moments of the directions after a number of steps; per direction of each row, shape (m,) each.

    Attributes
    ----------
    step
        Number of steps taken.
    mean
        E(theta_k - theta*_k), in units of weight, positive as the offset.
    variance
        Its variance, weight^2.
    velocity, velocity_variance, covariance
        Mean and variance of the last update, momentum in it, and its covariance with theta_k; zero without momentum.
    member_square
        V of the next step, reward^2 (:class:`StepRule`).
    """

    step: int
    mean: Array
    variance: Array
    velocity: Array
    velocity_variance: Array
    covariance: Array
    member_square: float

    @property
    def square(self) -> Array:
        """q_k = E(theta_k - theta*_k)^2, shape (m,), weight^2."""
        return self.mean**2 + self.variance


def states(config: ESConfig, landscape: Landscape) -> Iterator[State]:
    """Yield the state before any step, after one step, and so on without end; O(rows) a step.

    Parameters
    ----------
    config, landscape
        The run.

    Yields
    ------
    State
        After 0, 1, 2, ... steps.

    Raises
    ------
    ConfigError
        If all members have the same reward.

    Notes
    -----
    Label: mean-field; exact for raw rewards and two-point shaping without an L1 anchor. Source: ours:
    docs/concepts/dynamics.md.
    """
    rule, lam, start = step_rule(config, landscape), landscape.eigenvalue, np.array(landscape.offset)
    lam2 = lam**2
    weight = config.sigma**2 * landscape.multiplicity * lam2
    constant = rule.estimator.constant_variance(landscape)
    keep, fresh, beta, pull = rule.keep, rule.fresh, config.momentum, config.anchor_l1
    after = config.anchor_form == "after"
    home = (1.0 - keep) * start
    mean, variance, nothing = start, np.zeros_like(lam), np.zeros_like(lam)
    velocity = velocity_variance = covariance = nothing
    step = 0
    while True:
        square = mean * mean + variance
        v = constant + float(weight @ square)
        yield State(
            step=step,
            mean=mean,
            variance=variance,
            velocity=velocity,
            velocity_variance=velocity_variance,
            covariance=covariance,
            member_square=v,
        )
        if v == 0:
            raise ConfigError("every member has the same reward", "give a reward-std, or a curved spectrum")
        c = rule.at(v)
        noise = c.noise + lam2 * (c.curvature + c.extra * square)
        if pull:
            pulled = pulled_after if after else pulled_before
            mean, variance = pulled(mean, variance, start, pull=pull, contraction=1.0 - c.rate * lam, noise=noise)
        elif beta:
            shrink = (1.0 - beta) * c.rate * lam
            crossed = beta * covariance - shrink * variance  # theta before the step with the velocity after it
            velocity = beta * velocity - shrink * mean
            velocity_variance = (
                beta * (beta * velocity_variance - 2.0 * shrink * covariance)
                + shrink * shrink * variance
                + (1.0 - beta) ** 2 * noise
            )
            mean = keep * mean + home + fresh * velocity
            variance = keep * keep * variance + fresh * (2.0 * keep * crossed + fresh * velocity_variance)
            covariance = keep * crossed + fresh * velocity_variance
        else:
            kept = keep - fresh * c.rate * lam
            variance = kept * kept * variance + fresh * fresh * noise
            mean = kept * mean + home
        step += 1


def with_flat_row(landscape: Landscape) -> Landscape:
    """Return the landscape with one more row: what its rows leave out, or one direction of multiplicity 0, flat.

    Parameters
    ----------
    landscape
        The quadratic.

    Returns
    -------
    Landscape
        Its last row is flat.
    """
    rest = landscape.dim - float(np.sum(landscape.multiplicity))
    return replace(
        landscape,
        eigenvalue=np.append(landscape.eigenvalue, 0.0),
        multiplicity=np.append(landscape.multiplicity, rest),
        offset=np.append(landscape.offset, 0.0),
    )
