"""The spread of a single run's reward around the mean curve (docs/concepts/dynamics.md).

The row sums Q_k = sum (theta_i - theta*_i)^2 follow a Markov chain whose step has a known mean and covariance. To
first order in their fluctuations that fixes Var R, feedback through the common spread S of the rewards included; it
is computed by carrying the covector of R backwards in time, which costs O(rows) a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.laws import Law, PointLaw
from estheory.rules import ESConfig, require_count
from estheory.theory.dynamics import StepRule, mean_field, states, step_rule
from estheory.theory.mean_field_error import declared_error
from estheory.theory.quadratic_law import LinearQuadraticLaw

MAX_HISTORY = 50_000_000
"""Largest steps x rows whose history is kept (400 MB)."""


@dataclass(frozen=True, kw_only=True)
class RewardSpread:
    """The reward of a single run.

    Attributes
    ----------
    step
        Number of steps.
    mean, std
        Of R - R* over runs, reward units.
    spread_of_square
        Relative standard deviation of S^2 over runs, which the mean-field results neglect beyond first order.
    systematic
        Declared relative half-width of the mean (:func:`estheory.theory.mean_field_error.declared_error`); 0 for raw
        rewards, whose mean is exact.
    """

    step: int
    mean: float
    std: float
    spread_of_square: float
    systematic: float

    @property
    def law(self) -> Law:
        """The law of R - R*: minus a gamma variable of this mean and standard deviation."""
        if self.std == 0:
            return PointLaw(self.mean)
        return LinearQuadraticLaw(self.mean, 2 * (self.mean / self.std) ** 2, 0.0)


def reward_spread(config: ESConfig, landscape: Landscape, steps: Sequence[int]) -> tuple[RewardSpread, ...]:
    """Return mean and standard deviation of a single run's reward after each of ``steps`` steps.

    Label mean-field: exact in the fluctuations where S is constant, to first order in those of S otherwise; like the
    mean, O(1/N) corrections to the noise of curved directions are left out but for x_k.

    Raises
    ------
    ConfigError
        If the recursion diverges before the last step, or the configuration has no result here.
    """
    for step in steps:
        require_count("steps", step, 0)
    last = max(steps)
    if (last + 1) * landscape.eigenvalue.size > MAX_HISTORY:
        raise ConfigError(f"{last} steps of {landscape.eigenvalue.size} rows are too many", "merge rows, or ask fewer")
    mean_field(config, landscape, last).at(last)  # says so when it diverges
    squares, members = np.empty((last + 1, landscape.eigenvalue.size)), np.empty(last + 1)
    means: dict[int, Array] = {}
    for state in states(config, landscape):
        squares[state.step], members[state.step] = state.square, state.member_square
        if state.step in steps:
            means[state.step] = state.mean
        if state.step == last:
            break
    rule = step_rule(config)
    reward, spread = -0.5 * landscape.eigenvalue, config.sigma**2 * landscape.eigenvalue**2
    found = []
    for step in steps:
        before = squares[:step], members[:step]
        wander = math.sqrt(_variance(rule, landscape, spread, *before)) / float(members[step])
        mean = float(landscape.multiplicity @ (reward * squares[step]))
        std = math.sqrt(_variance(rule, landscape, reward, *before))
        found.append(
            RewardSpread(
                step=step,
                mean=mean,
                std=std,
                spread_of_square=wander,
                systematic=declared_error(
                    config,
                    landscape,
                    mean=means[step],
                    square=squares[step],
                    member_square=float(members[step]),
                    earlier_member_square=before[1],
                    relative_std=std / abs(mean) if mean else 0.0,
                ),
            )
        )
    return tuple(found)


def _variance(rule: StepRule, landscape: Landscape, covector: Array, squares: Array, members: Array) -> float:
    """Return the variance of ``covector`` . Q after len(squares) steps from a fixed start.

    Parameters
    ----------
    rule, landscape
        The run.
    covector
        Shape (m,).
    squares, members
        q_k and S^2 before each step, shapes (t, m) and (t,).
    """
    c, sigma2, n = rule.moments, rule.config.sigma**2, rule.config.population
    lam, count = landscape.eigenvalue, landscape.multiplicity
    lam2 = lam * lam
    p, total = covector, 0.0
    for q, v in zip(squares[::-1], members[::-1], strict=True):
        v = float(v)
        a, b = rule.rate(v), rule.noise(v)
        x, row = sigma2**2 * lam2 / v, count * q
        keep, noise = 1 - a * lam, b * (c.flat + c.quadratic * x)
        gamma, signal = b * rule.extra_signal, sigma2 * lam2 * row / v  # sum of rho_i^2 over a row
        # covariance of Q after the step, given Q before: noise of covariance diag(noise) + gamma rho rho'
        total += float(p**2 @ (4 * keep**2 * noise * row + 2 * count * noise**2 + 4 * gamma * noise * signal))
        total += 4 * gamma * sigma2 / v * float(p @ (keep * lam * row)) ** 2 + 2 * gamma**2 * float(p @ signal) ** 2
        if c.scale_power:  # raw: the rewards' sample variance scales the noise, and the progress that gamma is of
            common = float(p @ (count * noise))
            total += 2 / (n - 1) * common * (common - 4 * a * float(p @ (keep * lam * row)))
        p = pull_back(rule, landscape, p, q, v)
    return max(total, 0.0)


def pull_back(rule: StepRule, landscape: Landscape, covector: Array, square: Array, member_square: float) -> Array:
    """Return ``covector`` times the derivative of the mean of Q after a step with respect to Q before it, shape (m,).

    Q acts on its own mean directly, and on all through S^2.

    Parameters
    ----------
    rule, landscape
        The run.
    covector
        Shape (m,).
    square, member_square
        q_k, shape (m,), and S^2 before the step.
    """
    c, sigma2, v, e = rule.moments, rule.config.sigma**2, member_square, rule.moments.scale_power
    lam, count = landscape.eigenvalue, landscape.multiplicity
    a, b, row = rule.rate(v), rule.noise(v), count * square
    curved = sigma2 * lam * lam * (c.signal * row + c.quadratic * sigma2 * count)
    through = sigma2 * ((1 - e) * (a / v * lam * row - b / v**2 * curved) + e * b / v * c.flat * count)
    direct = 1 - 2 * a * lam + b / v * c.signal * sigma2 * lam * lam
    return np.asarray(covector * direct + lam * lam * float(through @ covector))
