"""Runs of very many steps: many steps at once where the spread of the rewards hardly changes over them.

At a fixed spread a step is an affine map of the moments of a direction, whose k-th power doubling gives
(docs/concepts/dynamics.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig, require_count
from estheory.theory.curved.recursion import State, StepRule, states, step_rule

MOST_SINGLE_STEPS = 20_000
"""Steps that are followed one by one; what lies beyond them is followed in growing strides."""
MOST_PULLED_STEPS = 100_000
"""Most steps with an L1 anchor on curved ground: no stride follows them."""
TOLERANCE = 1e-3
"""Largest relative change of V over one stride. The coefficients are those of its middle: an error of its square."""


def sparse_states(config: ESConfig, landscape: Landscape, until: Iterable[int]) -> Iterator[State]:
    """Yield the states of a run that is too long to be followed step by step.

    Parameters
    ----------
    config, landscape
        The run.
    until
        Steps that must be among those that are yielded; the largest ends the run.

    Yields
    ------
    State
        After every one of the first steps, then in strides, by rising step.

    Raises
    ------
    ConfigError
        If all members have the same reward, or with an L1 anchor, whose steps are no affine map.

    Notes
    -----
    Label: mean-field; exact for raw rewards and two-point shaping. Source: ours: docs/concepts/dynamics.md. Strides
    add a relative error of about 1e-5 to the moments.
    """
    wanted = sorted(set(until))
    single = MOST_PULLED_STEPS if config.anchor_l1 else MOST_SINGLE_STEPS
    if config.anchor_l1 and wanted[-1] > MOST_PULLED_STEPS:
        raise ConfigError(
            f"{wanted[-1]} steps with an L1 anchor on curved ground are too many", f"use at most {MOST_PULLED_STEPS}"
        )
    state = None
    for state in states(config, landscape):
        yield state
        if state.step >= min(wanted[-1], single):
            break
    assert state is not None  # states has no end
    rule, stride = step_rule(config, landscape), 64
    weight = config.sigma**2 * landscape.multiplicity * landscape.eigenvalue**2
    constant = rule.estimator.constant_variance(landscape)
    while state.step < wanted[-1]:
        limit = next(step for step in wanted if step > state.step) - state.step
        stride = min(stride, limit)
        ahead = _strode(rule, landscape, state, stride, state.member_square)
        v = constant + float(weight @ ahead.square)
        if not np.isfinite(v):
            raise ConfigError(f"the recursion diverges after step {state.step}", "lower alpha, or raise the population")
        if stride > 1 and abs(v / state.member_square - 1) > TOLERANCE:
            stride //= 2
            continue
        ahead = _strode(rule, landscape, state, stride, 0.5 * (v + state.member_square))
        state = _with_square(ahead, constant + float(weight @ ahead.square))
        yield state
        stride *= 2


def state_after(config: ESConfig, landscape: Landscape, steps: int) -> State:
    """Return the state after ``steps`` steps.

    Parameters
    ----------
    config, landscape
        The run.
    steps
        T, at least 0.

    Returns
    -------
    State
        Moments of each row's directions.

    Raises
    ------
    ConfigError
        If all members have the same reward.

    Notes
    -----
    Label: that of :func:`states`, mean-field or exact. Source: ours: docs/concepts/dynamics.md.
    """
    require_count("steps", steps, 0)
    *_, last = sparse_states(config, landscape, [steps])
    return last


def _with_square(state: State, member_square: float) -> State:
    return State(
        step=state.step,
        mean=state.mean,
        variance=state.variance,
        velocity=state.velocity,
        velocity_variance=state.velocity_variance,
        covariance=state.covariance,
        member_square=member_square,
    )


def _strode(rule: StepRule, landscape: Landscape, state: State, stride: int, square: float) -> State:
    """Return the state ``stride`` steps on, with the coefficients that V = ``square`` gives.

    The moments of a direction are (variance, covariance, velocity variance, m^2, m u, u^2, m, u, 1), m and u the means
    of distance and velocity.
    """
    lam, start = landscape.eigenvalue, np.asarray(landscape.offset)
    c, beta, keep, fresh = rule.at(square), rule.config.momentum, rule.keep, rule.fresh
    shrink, home = (1 - beta) * c.rate * lam, (1 - keep) * start
    extra = (1 - beta) ** 2 * lam**2 * c.extra
    noise = (1 - beta) ** 2 * (c.noise + lam**2 * c.curvature)
    zero, one = np.zeros_like(lam), np.ones_like(lam)
    var, cov, vv, mm, mu, uu, m, u, unit = (np.eye(9)[i] for i in range(9))

    def combined(*terms: tuple[Array | float, Array]) -> Array:
        """Return a row of every direction's matrix: factors times rows of it, shape (m, 9)."""
        return np.asarray(sum((one * factor)[:, None] * row for factor, row in terms))

    new_u = combined((beta, u), (-shrink, m))
    new_vv = combined((beta**2, vv), (-2 * beta * shrink, cov), (shrink**2 + extra, var), (extra, mm), (noise, unit))
    crossed = combined((beta, cov), (-shrink, var))
    new_m = combined((keep, m), (home, unit), (fresh, new_u))
    new_var = combined((keep**2, var), (2 * keep * fresh, crossed), (fresh**2, new_vv))
    new_cov = combined((keep, crossed), (fresh, new_vv))
    new_uu = combined((beta**2, uu), (-2 * beta * shrink, mu), (shrink**2, mm))
    # m' = a m + b u + home, u' = beta u - shrink m
    a, b = keep - fresh * shrink, fresh * beta
    new_mm = combined((a**2, mm), (2 * a * b, mu), (b**2, uu), (2 * a * home, m), (2 * b * home, u), (home**2, unit))
    new_mu = combined(
        (-a * shrink, mm), (a * beta - b * shrink, mu), (b * beta, uu), (-shrink * home, m), (beta * home, u)
    )
    step = np.stack([new_var, new_cov, new_vv, new_mm, new_mu, new_uu, new_m, new_u, combined((one, unit))], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        power = np.linalg.matrix_power(step, stride)
        before = np.stack(
            [
                state.variance + zero,
                state.covariance + zero,
                state.velocity_variance + zero,
                state.mean**2,
                state.mean * state.velocity,
                state.velocity**2 + zero,
                state.mean,
                state.velocity + zero,
                one,
            ],
            axis=1,
        )
        after = np.einsum("kij,kj->ki", power, before)
    return State(
        step=state.step + stride,
        mean=after[:, 6],
        variance=np.maximum(after[:, 0], 0.0),
        velocity=after[:, 7],
        velocity_variance=after[:, 2],
        covariance=after[:, 1],
        member_square=square,
    )
