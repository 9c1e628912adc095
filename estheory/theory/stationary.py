"""The state that a run on a quadratic reward settles in (docs/concepts/dynamics.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.dynamics import step_rule
from estheory.theory.ranges import OutOfRange

EQUIPARTITION_LIMIT = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class StationaryState:
    """Where the mean-field recursion stops moving.

    Attributes
    ----------
    square
        q_k of one direction of each row, shape (m,), weight^2; infinite in flat rows.
    member_std
        S, reward units.
    gap
        R* - E R, reward units.
    contraction
        a lam_k, shape (m,): share of its distance that a direction loses a step.
    quadratic_share
        x_k, shape (m,).
    """

    square: Array
    member_std: float
    gap: float
    contraction: Array
    quadratic_share: Array


def stationary_state(config: ESConfig, landscape: Landscape) -> StationaryState:
    """Return the stationary state, its spread S solved jointly with every q_k. Label mean-field.

    q_k = (alpha^2/N)(1 + 2 x_k (N-1)(N-2)/(N(N+1))) / (2 a lam_k - a^2 lam_k^2 h), h = (N-2)/(N c^2), for z-scores. It
    does not depend on the offsets, and flat directions have none: they keep walking.

    Raises
    ------
    ConfigError
        If there is no curved direction, or raw steps are too large to settle.
    """
    curved = (landscape.eigenvalue > 0) & (landscape.multiplicity > 0)
    if not curved.any():
        raise ConfigError("a flat landscape has no stationary state", "give a spectrum with a positive eigenvalue")
    rule, sigma = step_rule(config), config.sigma
    c, lam, count = rule.moments, landscape.eigenvalue[curved], landscape.multiplicity[curved]
    constant = landscape.constant_variance(sigma)

    def squares(v: float) -> Array:
        restoring = 2 * rule.rate(v) * lam - rule.noise(v) / v * c.signal * sigma**2 * lam**2
        noise = rule.noise(v) * (c.flat + c.quadratic * sigma**4 * lam**2 / v)
        with np.errstate(divide="ignore"):
            return np.asarray(np.where(restoring > 0, noise / np.maximum(restoring, 0.0), np.inf))

    def excess(log_v: float) -> float:
        """Implied S^2 over assumed S^2, minus 1: decreasing."""
        v = math.exp(log_v)
        return (constant + sigma**2 * float((count * lam**2) @ squares(v))) / v - 1

    low = math.log(constant)
    high = low + 1.0
    while excess(high) > 0:
        high += high - low
        if high > low + 300:
            raise ConfigError(
                f"the run does not settle: steps of alpha = {config.step_size:g} add more noise than they remove",
                "lower alpha, or raise the population",
            )
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        if high - low < 1e-15 * max(1.0, abs(high)):
            break
    v = math.exp(0.5 * (low + high))
    square = np.full(curved.shape, np.inf)
    square[curved] = squares(v)
    return StationaryState(
        square=square,
        member_std=math.sqrt(v),
        gap=0.5 * float((count * lam) @ square[curved]),
        contraction=rule.rate(v) * landscape.eigenvalue,
        quadratic_share=sigma**4 * landscape.eigenvalue**2 / v,
    )


def equipartition_cost(config: ESConfig, landscape: Landscape) -> float:
    """Return the reward that each curved direction costs in the stationary state, alpha S / (4 N c sigma).

    The limit of small a lam_k and x_k (:func:`equipartition_range`), where it is the same for all. S solves
    S^2 - b S - (s^2 + 1/2 sigma^4 tr Lam^2) = 0, b = alpha sigma tr Lam / (2 N c). Small-step.

    Raises
    ------
    ConfigError
        With raw rewards, whose steps scale with S.
    """
    rule, sigma, n = step_rule(config), config.sigma, config.population
    if rule.moments.scale_power:
        raise ConfigError("equipartition with raw shaping has no closed form here", "use stationary_state")
    share = config.step_size * rule.moments.flat / (2 * n * rule.moments.progress)
    b = share * sigma * landscape.trace
    member_std = 0.5 * (b + math.sqrt(b * b + 4 * landscape.constant_variance(sigma)))
    return 0.5 * share * member_std / sigma


def equipartition_range(state: StationaryState) -> tuple[OutOfRange, ...]:
    """Return what makes equal costs wrong by more than about 10 %: max a lam_k or max x_k above 0.1."""
    return tuple(
        OutOfRange(
            name=name,
            value=float(np.max(value)),
            limit=EQUIPARTITION_LIMIT,
            consequence="curved directions do not cost the same; use the joint stationary state",
        )
        for name, value in (
            ("the largest contraction a lam_k", state.contraction),
            ("the largest quadratic share x_k", state.quadratic_share),
        )
        if np.max(value) > EQUIPARTITION_LIMIT
    )
