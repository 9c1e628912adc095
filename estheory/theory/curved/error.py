"""How far off the mean-field curve is: a declared relative half-width, derived and then measured.

Two things are neglected. (1) Rewards are not Gaussian: one step's mean and noise are off by terms of first order in
x_k and in the skewness and kurtosis of a member's reward, over N for z-scores, at any N for ranks. (2) S scatters
between runs. Derivation in docs/concepts/dynamics.md, measurement in experiments/mean-field-error.
"""

from __future__ import annotations

import math

import numpy as np

from estheory._special import Array
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.curved.recursion import step_rule
from estheory.theory.curved.stationary import StationaryState
from estheory.theory.estimators import estimator_of


def is_derived(config: ESConfig) -> bool:
    """Return whether the terms here are those of ``config``: independent members, no anchor, no momentum.

    Parameters
    ----------
    config
        The run.

    Returns
    -------
    bool
        True for z-scores, centred ranks and raw rewards of independent members.
    """
    return not (estimator_of(config).paired or config.anchor_l2 or config.anchor_l1 or config.momentum)


def one_step_error(config: ESConfig, landscape: Landscape, square: Array, member_square: float) -> tuple[float, float]:
    """Return the relative errors of a step's progress and of its noise that the recursion leaves out.

    z-scores: (3 x + 3 X / 8) / N for both, the terms of O(1/N) of a step (:mod:`estheory.theory.curved.step`), by size.
    Centred ranks: max(|X/16 - x/2|, x/4) of the progress, 0.3676 sqrt(x) |skewness| of the noise, for every N.

    Parameters
    ----------
    config, landscape
        The run.
    square
        q_k, shape (m,), weight^2.
    member_square
        S^2, reward^2.

    Returns
    -------
    progress : float
        Relative error of the progress; 0 for raw rewards.
    noise : float
        That of the noise.

    Notes
    -----
    Label: large-N, and to first order in x_k. Source: ours: docs/concepts/dynamics.md.
    """
    curved = (landscape.eigenvalue > 0) & (landscape.multiplicity > 0)
    lam, count, q = landscape.eigenvalue[curved], landscape.multiplicity[curved], square[curved]
    x = config.sigma**4 * lam**2 / member_square
    rho2 = config.sigma**2 * lam**2 * q / member_square
    excess = float(count @ (3 * x**2 + 12 * rho2 * x))
    skewness = float(count @ (x**1.5 + 3 * rho2 * np.sqrt(x)))
    return estimator_of(config).neglected(float(np.max(x)), excess, skewness)


def declared_error(
    config: ESConfig,
    landscape: Landscape,
    *,
    mean: Array,
    square: Array,
    member_square: float,
    earlier_member_square: Array,
    relative_std: float,
) -> float:
    """Return the declared relative half-width of the mean-field reward gap at one step.

    A wrong progress per step has multiplied what is left of the start by its error times the log of the decay; it and
    the noise's error act on what has settled, twice where S follows the gap. Scatter of S adds e + 2 e^2,
    e = 1/2 Var(gap)/gap^2 times the share of S^2 that is signal, the largest of the last two relaxation times.

    Parameters
    ----------
    config, landscape
        The run.
    mean, square
        E delta_k and q_k, shapes (m,), weight and weight^2.
    member_square, earlier_member_square
        S^2 now, and before each of the steps so far, shape (t,); reward^2.
    relative_std
        Standard deviation of a run's gap over its mean, to first order.

    Returns
    -------
    float
        Relative to the gap; 0 for raw rewards.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md. Measured in experiments/mean-field-error.
    """
    estimator = estimator_of(config)
    if not estimator.scale_free:
        return 0.0
    cost = landscape.multiplicity * landscape.eigenvalue
    gap = float(cost @ square)
    if gap == 0:
        return 0.0
    progress, noise = one_step_error(config, landscape, square, member_square)
    left = cost * mean**2 / gap
    with np.errstate(divide="ignore", invalid="ignore"):
        decay = np.log(np.where(left > 0, landscape.offset**2 / mean**2, 1.0))
    settled = 1 - float(np.sum(left))
    constant = landscape.constant_variance(config.sigma)
    signal = 1 - constant / member_square
    error = progress * float(left @ np.abs(decay)) + (progress + noise) * settled * (1 + signal)
    if estimator.errors_are_one:  # the same terms, counted once
        error -= noise * settled * (1 + signal)
    pull = step_rule(config, landscape).rate(member_square) * float((cost * landscape.eigenvalue) @ square) / gap
    window = math.ceil(2 / pull) if pull > 0 else 0
    recent = earlier_member_square[-min(window, earlier_member_square.size) :] if window else np.empty(0)
    largest = max(member_square, float(np.max(recent, initial=0.0)))
    scatter = 0.5 * relative_std**2 * (1 - constant / largest)
    return error + scatter + 2 * scatter**2


def stationary_declared_error(config: ESConfig, landscape: Landscape, state: StationaryState) -> float:
    """Return the declared relative half-width of the stationary reward gap: nothing of the start is left.

    The gap's relative variance is taken as 2 sum (c_k^2) / (sum c_k)^2 over the curved directions' costs c_k.

    Parameters
    ----------
    config, landscape
        The run.
    state
        Its stationary state.

    Returns
    -------
    float
        Relative to the gap; 0 for raw rewards and two-point shaping, 2/N where :func:`is_derived` says no.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md.
    """
    if not estimator_of(config).scale_free:
        return 0.0
    if not is_derived(config):
        return 2 / config.population
    cost = np.where(np.isfinite(state.square), landscape.eigenvalue * np.nan_to_num(state.square, posinf=0.0), 0.0)
    directions = float(landscape.multiplicity @ cost) ** 2 / float(landscape.multiplicity @ cost**2)
    return declared_error(
        config,
        landscape,
        mean=np.zeros_like(cost),
        square=np.where(np.isfinite(state.square), state.square, 0.0),
        member_square=state.member_std**2,
        earlier_member_square=np.empty(0),
        relative_std=math.sqrt(2 / directions),
    )
