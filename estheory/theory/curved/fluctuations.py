"""The spread of a single run's reward around the mean curve (docs/concepts/dynamics.md).

The row sums Q_k = sum (theta_i - theta*_i)^2 follow a Markov chain whose step has a known mean and covariance; an L2
anchor and momentum add row sums of the distance and the velocity. To first order in their fluctuations that fixes
Var R, feedback through the common spread S of the rewards included; it is computed by carrying the covector of R
backwards in time, which costs O(rows) a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.laws import Law, PointLaw
from estheory.rules import ESConfig, require_count
from estheory.theory.curved.dynamics import mean_field
from estheory.theory.curved.error import declared_error, is_derived
from estheory.theory.curved.long_runs import MOST_SINGLE_STEPS, sparse_states
from estheory.theory.curved.recursion import State, StepRule, states, step_rule
from estheory.theory.curved.reward_laws import LinearQuadraticLaw

MAX_HISTORY = 60_000_000
"""Most numbers of a run's history that are kept (480 MB): two a row and step, five with momentum."""


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
        Declared relative half-width of the mean: :func:`estheory.theory.curved.error.declared_error` where that is
        derived, 2/N plus the square of ``spread_of_square`` with pairs, anchors and momentum; 0 for raw rewards and
        two-point shaping, whose mean is exact.
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

    Parameters
    ----------
    config, landscape
        The run.
    steps
        Numbers of steps, in any order.

    Returns
    -------
    tuple of RewardSpread
        One a number of steps, in their order; reward units.

    Raises
    ------
    ConfigError
        If the recursion diverges before the last step, with an L1 anchor, whose spread has no result here, or where the
        history does not fit into memory.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md. Exact in the fluctuations where S is constant, to first
    order in those of S otherwise; like the mean, O(1/N) corrections to the noise of curved directions are left out but
    for x_k.
    """
    if config.anchor_l1:
        raise ConfigError("the spread of single runs with an L1 anchor has no result here", "simulate it")
    for step in steps:
        require_count("steps", step, 0)
    last = max(steps)
    if last > MOST_SINGLE_STEPS:
        return _long_spread(config, landscape, steps)
    if (last + 1) * landscape.eigenvalue.size * (5 if config.momentum else 2) > MAX_HISTORY:
        raise ConfigError(f"{last} steps of {landscape.eigenvalue.size} rows are too many", "merge rows, or ask fewer")
    mean_field(config, landscape, last).at(last)  # says so when it diverges
    history = list(islice(states(config, landscape), last + 1))
    rule, nothing = step_rule(config, landscape), np.zeros_like(landscape.eigenvalue)
    reward, square = -0.5 * landscape.eigenvalue, config.sigma**2 * landscape.eigenvalue**2
    found = []
    for step in steps:
        before, now = history[:step], history[step]
        variances = [_variance(rule, landscape, Covector(c, *[nothing] * 4), before) for c in (reward, square)]
        wander = math.sqrt(variances[1]) / now.member_square
        mean = float(landscape.multiplicity @ (reward * now.square))
        std = math.sqrt(variances[0])
        if rule.fixed.scale_power:
            systematic = 0.0
        elif is_derived(config):
            systematic = declared_error(
                config,
                landscape,
                mean=now.mean,
                square=now.square,
                member_square=now.member_square,
                earlier_member_square=np.array([state.member_square for state in before]),
                relative_std=std / abs(mean) if mean else 0.0,
            )
        else:
            systematic = 2 / config.population + wander**2
        found.append(
            RewardSpread(
                step=step,
                mean=mean,
                std=std,
                spread_of_square=wander,
                systematic=systematic,
            )
        )
    return tuple(found)


def _long_spread(config: ESConfig, landscape: Landscape, steps: Sequence[int]) -> tuple[RewardSpread, ...]:
    """Return the spreads of a run too long to be carried back through: the directions as independent Gaussians.

    What the directions share through S is left out of the standard deviation.
    """
    cost = 0.5 * landscape.multiplicity * landscape.eigenvalue
    weight = config.sigma**2 * landscape.multiplicity * landscape.eigenvalue**2
    at = {state.step: state for state in sparse_states(config, landscape, steps) if state.step in set(steps)}
    exact_mean = bool(step_rule(config).fixed.scale_power)
    found = []
    for step in steps:
        state = at[step]
        # per direction, the variance of delta^2
        each = 2 * state.variance**2 + 4 * state.mean**2 * state.variance
        wander = math.sqrt(float((weight**2 / np.maximum(landscape.multiplicity, 1e-300)) @ each)) / state.member_square
        found.append(
            RewardSpread(
                step=step,
                mean=-float(cost @ state.square),
                std=math.sqrt(float((cost * 0.5 * landscape.eigenvalue) @ each)),
                spread_of_square=wander,
                systematic=0.0 if exact_mean else 2 / config.population + wander**2,
            )
        )
    return tuple(found)


def squared_norms(
    config: ESConfig, landscape: Landscape, steps: Sequence[int]
) -> tuple[tuple[Array, Array, float], ...]:
    """Return mean and mean square of theta_k - theta_k,0 of each row, and the variance of the squared norm.

    Parameters
    ----------
    config, landscape
        The run; a flat row stands for the directions without curvature
        (:func:`estheory.theory.curved.recursion.with_flat_row`).
    steps
        Numbers of steps, in any order.

    Returns
    -------
    tuple of tuple of ndarray, ndarray and float
        Shapes (m,), weight and weight^2, and weight^4; in the order of ``steps``.

    Raises
    ------
    ConfigError
        As of :func:`reward_spread`.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md. Beyond ``MOST_SINGLE_STEPS``, and with an L1 anchor, the
    directions count as independent Gaussians.
    """
    count = landscape.multiplicity
    if max(steps) > MOST_SINGLE_STEPS or config.anchor_l1:
        at = {state.step: state for state in sparse_states(config, landscape, steps) if state.step in set(steps)}
        return tuple((*_moved(landscape, at[step]), _gaussian_variance(landscape, at[step])) for step in steps)
    history = list(islice(states(config, landscape), max(steps) + 1))
    rule, one, nothing = step_rule(config, landscape), np.ones_like(count), np.zeros_like(count)
    away = Covector(square=one, cross=nothing, velocity=nothing, start=-one, start_velocity=nothing)
    return tuple(
        (*_moved(landscape, history[step]), _variance(rule, landscape, away, history[:step])) for step in steps
    )


def _moved(landscape: Landscape, state: State) -> tuple[Array, Array]:
    mean = state.mean - landscape.offset
    return mean, np.asarray(mean**2 + state.variance)


def _gaussian_variance(landscape: Landscape, state: State) -> float:
    away = (state.mean - landscape.offset) ** 2
    return float(landscape.multiplicity @ (2 * state.variance**2 + 4 * away * state.variance))


class Covector(NamedTuple):
    """What the result is worth in the moments of a step, per direction of each row.

    delta is the distance from the optimum, u the velocity and delta_0 the distance at the start. Without momentum and
    anchor only the first is ever not 0.

    Attributes
    ----------
    square, cross, velocity
        Derivatives with respect to delta^2, 2 delta u and u^2, shape (m,) each.
    start, start_velocity
        Derivatives with respect to 2 delta_0 delta and 2 delta_0 u, shape (m,) each.
    """

    square: Array
    cross: Array
    velocity: Array
    start: Array
    start_velocity: Array


class _Sensitivity(NamedTuple):
    """How the result reacts to a step's update eta of a direction: 2 h eta + bend eta^2, shapes (m,).

    h = (of_distance, of_velocity, of_start) . (delta, u, delta_0).
    """

    of_distance: Array
    of_velocity: Array
    of_start: Array
    bend: Array


def _transition(rule: StepRule, rate: float, lam: Array) -> tuple[Array, float, Array, float]:
    """Return (delta', u') in terms of (delta, u): their four coefficients, by rows of the matrix."""
    take, beta, fresh = 1 - rule.config.momentum, rule.config.momentum, rule.fresh
    shrink = take * rate * lam
    return rule.keep - fresh * shrink, fresh * beta, -shrink, beta


def _sensitivity(rule: StepRule, p: Covector, rate: float, lam: Array) -> _Sensitivity:
    take, fresh = 1 - rule.config.momentum, rule.fresh
    dd, du, ud, uu = _transition(rule, rate, lam)
    by_distance, by_velocity = take * (fresh * p.square + p.cross), take * (fresh * p.cross + p.velocity)
    return _Sensitivity(
        of_distance=by_distance * dd + by_velocity * ud,
        of_velocity=by_distance * du + by_velocity * uu,
        of_start=by_distance * (1 - rule.keep) + take * (fresh * p.start + p.start_velocity),
        bend=take**2 * (fresh**2 * p.square + 2 * fresh * p.cross + p.velocity),
    )


def _with_distance(h: _Sensitivity, state: State, offset: Array) -> Array:
    """Return E h delta, shape (m,)."""
    cross = state.covariance + state.mean * state.velocity
    return h.of_distance * state.square + h.of_velocity * cross + h.of_start * offset * state.mean


def _mean_square(h: _Sensitivity, state: State, offset: Array) -> Array:
    """Return E h^2, shape (m,)."""
    mean = h.of_distance * state.mean + h.of_velocity * state.velocity + h.of_start * offset
    spread = h.of_distance**2 * state.variance + h.of_velocity**2 * state.velocity_variance
    return mean**2 + spread + 2 * h.of_distance * h.of_velocity * state.covariance


def _variance(rule: StepRule, landscape: Landscape, covector: Covector, history: Sequence[State]) -> float:
    """Return the variance of what ``covector`` measures after the steps of ``history`` from a fixed start.

    Parameters
    ----------
    rule, landscape
        The run.
    covector
        After the last step.
    history
        The states before each step.
    """
    lam, count = landscape.eigenvalue, landscape.multiplicity
    lam2, p, total = lam * lam, covector, 0.0
    for state in reversed(history):
        v = state.member_square
        c, moments = rule.at(v), rule.moments(v)
        h = _sensitivity(rule, p, c.rate, lam)
        noise, row = c.noise + c.curvature * lam2, count * lam2 * state.square
        along = float(count @ (lam * _with_distance(h, state, landscape.offset)))
        # covariance of the update, given the state: diag(noise) plus extra times the gradient's own square
        total += float(count @ (4 * noise * _mean_square(h, state, landscape.offset) + 2 * (h.bend * noise) ** 2))
        total += c.extra * (
            4 * float(row @ (h.bend**2 * noise)) + 4 * along**2 + 2 * c.extra * float(row @ h.bend) ** 2
        )
        if moments.spread:  # a common factor of all noise, which the progress has a part in
            common = float(count @ (h.bend * noise))
            total += common * (moments.spread * common - 4 * moments.tilt * c.rate * along)
        p = pull_back(rule, landscape, p, state)
    return max(total, 0.0)


def pull_back(rule: StepRule, landscape: Landscape, covector: Covector, state: State) -> Covector:
    """Return ``covector`` times the derivative of the mean state after a step with respect to the state before it.

    The moments act on their own means directly, and the squares of the distances on all through V.

    Parameters
    ----------
    rule, landscape
        The run.
    covector
        After the step.
    state
        Before it.

    Returns
    -------
    Covector
        Before the step.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md.
    """
    v, lam, count = state.member_square, landscape.eigenvalue, landscape.multiplicity
    lam2, p = lam * lam, covector
    c, change = rule.at(v), rule.derivative(v)
    h = _sensitivity(rule, p, c.rate, lam)
    extra_change = change.slope - 2 * c.rate * change.rate
    noise_change = change.noise + lam2 * (change.curvature + extra_change * state.square)
    feedback = h.bend * noise_change - 2 * change.rate * lam * _with_distance(h, state, landscape.offset)
    dd, du, ud, uu = _transition(rule, c.rate, lam)
    home = 1 - rule.keep
    start, start_velocity = home * p.square + p.start, home * p.cross + p.start_velocity
    through = rule.config.sigma**2 * float(count @ feedback)
    return Covector(
        square=dd * (dd * p.square + 2 * ud * p.cross) + ud * ud * p.velocity + lam2 * (h.bend * c.extra + through),
        cross=dd * (du * p.square + uu * p.cross) + ud * (du * p.cross + uu * p.velocity),
        velocity=du * (du * p.square + 2 * uu * p.cross) + uu * uu * p.velocity,
        start=dd * start + ud * start_velocity,
        start_velocity=du * start + uu * start_velocity,
    )
