"""The state that a run on a quadratic reward settles in (docs/concepts/dynamics.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.curved.ranges import OutOfRange
from estheory.theory.curved.recursion import StepRule, step_rule
from estheory.theory.estimators import estimator_of

EQUIPARTITION_LIMIT = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class StationaryState:
    """Where the mean-field recursion stops moving.

    Attributes
    ----------
    square
        q_k of one direction of each row, shape (m,), weight^2; infinite in flat rows.
    member_std
        sqrt(V) of :class:`estheory.theory.curved.recursion.StepRule`: S, but for two-point shaping. Reward units.
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
    """Return the stationary state, its spread S solved jointly with every q_k.

    q_k = (alpha^2/N)(1 + 2 x_k (N-1)(N-2)/(N(N+1))) / (2 a lam_k - a^2 lam_k^2 h), h = (N-2)/(N c^2), for z-scores. It
    does not depend on the offsets, and flat directions have none: they keep walking. With an L2 anchor kappa (f =
    1-kappa in its ``after`` form, else 1) directions settle between start and optimum, at the share
    kappa / (kappa + f a lam_k) of the offset, and flat ones settle too. With momentum the variance is that of the two
    coupled equations of distance and velocity.

    Parameters
    ----------
    config, landscape
        The run.

    Returns
    -------
    StationaryState
        One entry per row of the landscape.

    Raises
    ------
    ConfigError
        If there is no curved direction, steps are too large to settle, or with an L1 anchor.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md.

    Examples
    --------
    >>> from estheory import ESConfig
    >>> from estheory.theory.curved.spectra import two_scale
    >>> state = stationary_state(ESConfig(dim=1005, sigma=0.01, alpha=0.01, population=30), two_scale())
    >>> round(state.gap, 4), round(state.member_std, 4)
    (0.0697, 0.0201)
    """
    curved = (landscape.eigenvalue > 0) & (landscape.multiplicity > 0)
    if not curved.any():
        raise ConfigError("a flat landscape has no stationary state", "give a spectrum with a positive eigenvalue")
    if config.anchor_l1:
        raise ConfigError("the stationary state with an L1 anchor has no result here", "follow the recursion")
    rule, sigma = step_rule(config, landscape), config.sigma
    settles = curved | (config.anchor_l2 > 0)
    lam, count, offset = (v[settles] for v in (landscape.eigenvalue, landscape.multiplicity, landscape.offset))
    constant = rule.estimator.constant_variance(landscape)

    def squares(v: float) -> Array:
        return _settled(rule, v, lam, offset)

    def excess(log_v: float) -> float:
        """Implied V over assumed V, minus 1: decreasing."""
        v = math.exp(log_v)
        return (constant + sigma**2 * float((count * lam**2) @ squares(v))) / v - 1

    if constant == 0:
        raise ConfigError("without reward noise there is no stationary state but the optimum", "give a reward-std")
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
    square[settles] = squares(v)
    return StationaryState(
        square=square,
        member_std=math.sqrt(v),
        gap=0.5 * float((count * lam) @ square[settles]),
        contraction=rule.rate(v) * landscape.eigenvalue,
        quadratic_share=sigma**4 * landscape.eigenvalue**2 / v,
    )


def rest(config: ESConfig, rate: float, eigenvalue: Array | float, offset: Array | float) -> Array:
    """Return the mean distance from the optimum at which an L2 anchor and the gradient balance.

    kappa / (kappa + f a lam) of the offset. Momentum does not move it.

    Parameters
    ----------
    config
        The run.
    rate
        a, weight^2 / reward.
    eigenvalue
        lam, reward / weight^2, a number or shape (m,).
    offset
        Distance of the start, weight units, of that shape.

    Returns
    -------
    ndarray
        Shape of ``eigenvalue``. Weight units; 0 without anchor.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md.
    """
    rule, lam = step_rule(config), np.asarray(eigenvalue, dtype=np.float64)
    pull = config.anchor_l2 + rule.fresh * rate * lam
    return np.divide(config.anchor_l2 * np.asarray(offset), pull, out=np.zeros(np.shape(pull)), where=pull > 0)


def momentum_gain(config: ESConfig, contraction: Array | float) -> Array:
    """Return the stationary variance of a direction over the noise of a plain step.

    With h = a lam, the distance is the AR(2) process of weights phi_1 = 1 - kappa + beta - f (1-beta) h and
    phi_2 = -beta (1-kappa); 1 / (h (2 - h)) without anchor and momentum.

    Parameters
    ----------
    config
        The run.
    contraction
        h = a lam, a number or shape (m,).

    Returns
    -------
    ndarray
        Shape of ``contraction``. Pure numbers; infinite where the direction diverges.

    Notes
    -----
    Label: exact, for noise that is the same everywhere. Source: ours: docs/concepts/dynamics.md.
    """
    rule, beta, take = step_rule(config), config.momentum, 1 - config.momentum
    shrink = rule.fresh * take * np.asarray(contraction, dtype=np.float64)
    first, second = rule.keep + beta - shrink, -beta * rule.keep
    left = config.anchor_l2 * take + shrink  # 1 - first - second
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = (rule.fresh * take) ** 2 * (1 - second) / ((1 + second) * left * (1 + first - second))
    return np.asarray(np.where((left > 0) & (1 + first - second > 0), gain, np.inf))


def _settled(rule: StepRule, v: float, lam: Array, offset: Array) -> Array:
    """Return q_k of directions that settle under V = ``v``, shape (m,); infinite where they do not."""
    c = rule.at(v)
    mean = rest(rule.config, c.rate, lam, offset)
    gain = momentum_gain(rule.config, c.rate * lam)
    noise = c.noise + lam**2 * (c.curvature + c.extra * mean**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        restoring = 1 / gain - c.extra * lam**2  # the variance itself brings noise
        return np.asarray(mean**2 + np.where(restoring > 0, noise / restoring, np.inf))


def equipartition_cost(config: ESConfig, landscape: Landscape) -> float:
    """Return the reward that each curved direction costs in the stationary state, alpha S / (4 N c sigma).

    The limit of small a lam_k and x_k (:func:`equipartition_range`), where it is the same for all. S solves
    S^2 - b S - (s^2 + 1/2 sigma^4 tr Lam^2) = 0, b = alpha sigma tr Lam / (2 N c).

    Parameters
    ----------
    config, landscape
        The run.

    Returns
    -------
    float
        Reward units, a direction.

    Raises
    ------
    ConfigError
        With raw or two-point shaping, whose steps scale with S, with antithetic pairs, whose coefficients change with
        S, and with an anchor.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/dynamics.md.
    """
    estimator, sigma, n = estimator_of(config), config.sigma, config.population
    c = estimator.moments()
    if not estimator.fixed_variance or config.anchor_l1 or config.anchor_l2:
        what = "an anchor" if estimator.fixed_variance else estimator.title
        raise ConfigError(f"equipartition with {what} has no closed form here", "use stationary_state")
    share = config.step_size * c.flat / (2 * n * c.progress)
    b = share * sigma * landscape.trace
    member_std = 0.5 * (b + math.sqrt(b * b + 4 * landscape.constant_variance(sigma)))
    return 0.5 * share * member_std / sigma


def equipartition_range(state: StationaryState) -> tuple[OutOfRange, ...]:
    """Return what makes equal costs wrong by more than about 10 %: max a lam_k or max x_k above 0.1.

    Parameters
    ----------
    state
        The stationary state.

    Returns
    -------
    tuple of OutOfRange
        Empty where costs are equal.
    """
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
