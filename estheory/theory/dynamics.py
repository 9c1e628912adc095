"""T steps on a quadratic reward: the mean curve of the reward, its peak, and when it reaches a target.

Mean-field: every direction's mean and variance are followed under the spread of rewards that the average over
directions has (docs/concepts/dynamics.md). The spread of a single run around the curve is in
:mod:`estheory.theory.fluctuations`, the end state in :mod:`estheory.theory.stationary`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.quantities import Label
from estheory.rules import ESConfig, require_count
from estheory.theory.shaping import ShapingMoments, shaping_moments

OURS = "ours: docs/concepts/dynamics.md"
DIVERGENCE_FACTOR = 1e6
"""The recursion has diverged when the gap is this many times what its start and an unchanged noise would make it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepRule:
    """What one step does to a direction, as functions of V = S^2.

    A direction at distance delta from its optimum moves by -a lam delta on average, with variance
    B flat + (B/V)(quadratic sigma^4 lam^2 + (signal - N p^2) sigma^2 lam^2 delta^2).
    """

    moments: ShapingMoments
    config: ESConfig

    def rate(self, square: float) -> float:
        """Return a, weight^2 / reward: alpha p sigma / S, or alpha p for raw rewards."""
        power = self.moments.scale_power
        return self.config.step_size * self.moments.progress * (self.config.sigma / math.sqrt(square)) ** (1 - power)

    def noise(self, square: float) -> float:
        """Return B, weight^2: alpha^2/N, times S^2/sigma^2 for raw rewards."""
        scale = square / self.config.sigma**2 if self.moments.scale_power else 1.0
        return self.config.step_size**2 / self.config.population * scale

    @property
    def extra_signal(self) -> float:
        """Return signal - N p^2: the part of the second moment along the gradient that is variance, over B rho^2."""
        return self.moments.signal - self.config.population * self.moments.progress**2


def step_rule(config: ESConfig) -> StepRule:
    """Return the rule of ``config``; ConfigError where it has none (two-point, antithetic, anchored, momentum)."""
    return StepRule(moments=shaping_moments(config), config=config)


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Moments of the directions after a number of steps.

    Attributes
    ----------
    step
        Number of steps taken.
    mean
        E(theta_k - theta*_k) of one direction of each row, shape (m,), in units of weight, positive as the offset.
    variance
        Its variance, shape (m,), weight^2.
    member_square
        S^2, reward^2.
    """

    step: int
    mean: Array
    variance: Array
    member_square: float

    @property
    def square(self) -> Array:
        """q_k = E(theta_k - theta*_k)^2, shape (m,), weight^2."""
        return self.mean**2 + self.variance


def states(config: ESConfig, landscape: Landscape) -> Iterator[State]:
    """Yield the state before any step, after one step, and so on without end; O(rows) a step."""
    rule, sigma = step_rule(config), config.sigma
    c, extra = rule.moments, rule.extra_signal * config.sigma**2
    lam = landscape.eigenvalue
    lam2 = lam**2
    weight = sigma**2 * landscape.multiplicity * lam2
    quadratic = c.quadratic * sigma**4 * lam2
    constant = landscape.constant_variance(sigma)
    mean, variance = np.array(landscape.offset), np.zeros_like(lam)
    step = 0
    while True:
        square = mean * mean + variance
        v = constant + float(weight @ square)
        yield State(step=step, mean=mean, variance=variance, member_square=v)
        if v == 0:
            raise ConfigError("every member has the same reward", "give a reward-std, or a curved spectrum")
        keep, b = 1.0 - rule.rate(v) * lam, rule.noise(v)
        variance = keep * keep * variance + b * c.flat + (b / v) * (quadratic + extra * lam2 * square)
        mean = keep * mean
        step += 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """The mean curve of a run.

    Attributes
    ----------
    reward
        E R_t - R* for t = 0..T, shape (T + 1,), reward units; shorter when the recursion diverged.
    member_std
        S at those steps, shape (T + 1,).
    diverged_at
        The step at which the recursion was found to diverge, or None.
    label
        ``exact`` for raw rewards (whose moments close), else ``mean-field``.
    """

    reward: Array
    member_std: Array
    diverged_at: int | None
    label: Label

    def at(self, step: int) -> float:
        """Return E R - R* after ``step`` steps; ConfigError beyond the curve."""
        require_count("step", step, 0)
        if self.diverged_at is not None and step >= self.diverged_at:
            raise ConfigError(f"the reward diverges at step {self.diverged_at}", "lower alpha, or raise the population")
        if step >= self.reward.size:
            raise ConfigError(f"step {step} is beyond the {self.reward.size - 1} that were followed", "ask for more")
        return float(self.reward[step])

    @property
    def peak(self) -> tuple[int, float] | None:
        """Step and E R - R* of the highest point; None while the curve has not come down from it."""
        best = int(np.argmax(self.reward))
        # a plateau: the stationary state is approached from below, up to rounding
        if self.reward[best] - self.reward[-1] <= 1e-9 * abs(self.reward[best]):
            return None
        return best, float(self.reward[best])

    def time_to(self, reward: float) -> int | None:
        """Return the first step at which E R - R* is at least ``reward`` (<= 0); None if it never is."""
        reached = np.flatnonzero(self.reward >= reward)
        return int(reached[0]) if reached.size else None


def mean_field(config: ESConfig, landscape: Landscape, steps: int | None = None) -> Trajectory:
    """Return the mean curve of the reward over ``steps`` steps (``config.steps`` when not given).

    q_k <- q_k - 2 a lam_k q_k + (alpha^2/N)(1 + 2 x_k (N-1)(N-2)/(N(N+1)) + (N-2) sigma^2 lam_k^2 q_k / S^2) for
    z-scores, with S^2 = sigma^2 sum_k lam_k^2 q_k + 1/2 sigma^4 tr Lam^2 + s^2. Error O(1/N), and O(1/r) in the number
    r of directions that S is averaged over (:func:`estheory.theory.fluctuations.reward_spread` gives its size).

    Parameters
    ----------
    config
        z-score, centred-rank or raw shaping of independent members.
    landscape
        Offsets are those of the start.
    steps
        T.

    Returns
    -------
    Trajectory

    Raises
    ------
    ConfigError
        If the configuration has no result here, or all members have the same reward.
    """
    total = config.steps if steps is None else steps
    require_count("steps", total, 0)
    weight = -0.5 * landscape.multiplicity * landscape.eigenvalue
    reward, square = np.empty(total + 1), np.empty(total + 1)
    allowed = growth = 0.0
    diverged_at = None
    for state in states(config, landscape):
        t = state.step
        reward[t], square[t] = weight @ state.square, state.member_square
        if t == 1:
            growth = abs(reward[1] - reward[0]) + float(-weight @ state.variance)
        allowed = DIVERGENCE_FACTOR * (abs(reward[0]) + t * growth)
        if t > 1 and not abs(reward[t]) <= allowed:
            diverged_at = t
            reward, square = reward[:t], square[:t]
            break
        if t == total:
            break
    return Trajectory(
        reward=reward,
        member_std=np.sqrt(square),
        diverged_at=diverged_at,
        label="exact" if config.shaping == "raw" else "mean-field",
    )


def state_after(config: ESConfig, landscape: Landscape, steps: int) -> State:
    """Return the state after ``steps`` steps."""
    require_count("steps", steps, 0)
    return next(state for state in states(config, landscape) if state.step == steps)


def coordinate_variance(config: ESConfig, eigenvalue: float, member_std: float, step: int) -> float:
    """Return the variance of a direction of constant ``member_std`` S after ``step`` steps, weight^2.

    (alpha^2/N)(1 - (1-a lam)^(2t)) / (1 - (1-a lam)^2), a = alpha c sigma / S: an AR(1) process, in the limit of
    small a lam an Ornstein-Uhlenbeck one. lam -> 0 is the walk, alpha^2 t / N. Good where S is constant (noise
    dominates the rewards) and x_k is small; label large-N.

    Raises
    ------
    ConfigError
        If a lam >= 2, where the direction diverges, or the configuration has no result here.
    """
    rule = step_rule(config)
    shrink = rule.rate(member_std**2) * eigenvalue
    noise = rule.noise(member_std**2) * rule.moments.flat
    if shrink >= 2:
        raise ConfigError(f"a lam = {shrink:.3g} >= 2: the direction diverges", "lower alpha")
    if shrink == 0:
        return noise * step
    if shrink < 1:  # no cancellation at small a lam
        log_keep = 2 * math.log1p(-shrink)
        return noise * math.expm1(step * log_keep) / math.expm1(log_keep)
    keep = (1 - shrink) ** 2
    return noise * (1 - keep**step) / (1 - keep)


def relaxation_time(config: ESConfig, eigenvalue: float, member_std: float) -> float:
    """Return 1/(a lam): the number of steps in which a direction forgets its start at constant S; inf when flat."""
    shrink = step_rule(config).rate(member_std**2) * eigenvalue
    return 1 / shrink if shrink else math.inf
