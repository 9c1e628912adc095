"""The reward around a model as a forward-only probe sees it (docs/concepts/signal.md).

The probe gives five moments of member rewards, with their covariance: sigma^2 ||g||^2, 1/2 sigma^4 tr Lam^2, S^2,
1/2 sigma^2 tr Lam and sigma^4 g'Lam g.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.rules import ESConfig
from estheory.theory.curved.dynamics import mean_field
from estheory.theory.estimators import estimator_of
from estheory.theory.signal import progress_per_step

FLATTEST = 1e-6
"""Curvature along the gradient, in units of ||g|| / (progress of the whole run), below which it is taken as none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbedReward:
    """What a probe says of the reward around a model.

    Attributes
    ----------
    mean, covariance : ndarray, shapes (5,) and (5, 5)
        The moments above and the covariance of their errors.
    ceiling
        How far the reward can rise from where it is (reward); infinite where it has no largest value.
    steered
        Whether rewards steer the run; False for the control whose coefficients are permuted between members.
    """

    mean: Array
    covariance: Array
    ceiling: float = math.inf
    steered: bool = True


def probed_signal(config: ESConfig, moments: Array) -> Signal:
    """Return the linear signal that a probe's moments have.

    Parameters
    ----------
    config
        The run; sigma alone enters.
    moments
        The five moments of :class:`ProbedReward`, shape (5,).

    Returns
    -------
    Signal
        Reliability, gradient norm, S and the even share.

    Raises
    ------
    ConfigError
        Where the moments have none.
    """
    linear, even, variance = moments[:3]
    if not (linear > 0 and variance > 0):
        raise ConfigError("the probe resolved no gradient", "probe more members or prompts")
    return Signal(
        reliability=min(linear / variance, 1.0),
        gradient_norm=math.sqrt(linear) / config.sigma,
        member_std=math.sqrt(variance),
        even_share=min(max(even / variance, 0.0), 1.0),
    )


def gradient_landscape(config: ESConfig, moments: Array, curvature: float) -> Landscape:
    """Return the landscape of the gradient's own direction; all else of S is noise, as at the start.

    Parameters
    ----------
    config
        The run; dim and sigma enter.
    moments
        The five moments, shape (5,).
    curvature
        That along the gradient, reward / weight^2, > 0.

    Returns
    -------
    Landscape
        Of one direction.

    Raises
    ------
    ConfigError
        Where the moments have no gradient.
    """
    signal = probed_signal(config, moments)
    assert signal.gradient_norm is not None
    noise = moments[2] - moments[0] - 0.5 * (config.sigma**2 * curvature) ** 2
    return Landscape(
        dim=config.dim,
        eigenvalue=np.array([curvature]),
        multiplicity=np.array([1.0]),
        offset=np.array([signal.gradient_norm / curvature]),
        reward_std=math.sqrt(max(noise, 0.0)),
    )


def mean_change(config: ESConfig, probe: ProbedReward, moments: Array, steps: int, *, straight: bool) -> Array:
    """Return E R_t - R_0 for t = 0..steps.

    The gradient is one direction of curvature g'Lam g / ||g||^2, the rest of tr Lam costs what a walk costs.

    Parameters
    ----------
    config
        The run.
    probe
        What it says besides its moments: whether rewards steer.
    moments
        The five moments, shape (5,).
    steps
        T.
    straight
        No curvature anywhere: the largest rise of a concave reward.

    Returns
    -------
    ndarray
        Shape (steps + 1,). Reward units.

    Raises
    ------
    ConfigError
        Where the moments have no gradient, or the curve diverges.

    Notes
    -----
    Label: mean-field; small-step where no reward steers. Source: ours: docs/concepts/signal.md.
    """
    signal = probed_signal(config, moments)
    assert signal.gradient_norm is not None
    walked = estimator_of(config).variance(signal).value * np.arange(steps + 1)
    if not probe.steered:
        return np.asarray(-walked * moments[3] / config.sigma**2)  # 1/2 v tr Lam
    flat = FLATTEST * signal.gradient_norm / (config.steps * progress_per_step(config, signal))
    measured = moments[4] / (config.sigma**2 * moments[0])
    curvature = flat if straight else max(measured, flat)
    curve = mean_field(config, gradient_landscape(config, moments, curvature), steps)
    rise = curve.reward - curve.reward[0]
    if rise.size <= steps:
        raise ConfigError(f"the reward diverges at step {curve.diverged_at}", "lower alpha")
    if not straight:
        rise = rise - walked * (moments[3] / config.sigma**2 - 0.5 * curvature)
    return np.asarray(rise)


def critical_population_and_alpha(config: ESConfig, moments: Array) -> tuple[float, float]:
    """Return N_crit = A S^2 / (sigma^2 g'Lam g) and alpha* = N c sigma (||g||^2/S) / (A + (N-2) sigma^2 g'Lam g / S^2).

    Parameters
    ----------
    config
        z-scores of independent members.
    moments
        The five moments, shape (5,).

    Returns
    -------
    population : float
        N_crit.
    alpha : float
        alpha*, weight units.

    Raises
    ------
    ConfigError
        For another configuration, or where the moments have no curvature along the gradient.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/quadratic.md. A is taken as tr Lam: the x terms need the spectrum
    (:func:`unseen_population`).
    """
    if not estimator_of(config).independent_zscores:
        raise ConfigError("only for z-scored independent members", "use --shaping zscore")
    n, sigma = config.population, config.sigma
    linear, _, variance, gap, mixed = moments
    trace, along = 2 * gap / sigma**2, mixed / sigma**2  # sigma^2 g'Lam g
    if not (trace > 0 and along > 0 and linear > 0 and variance > 0):
        raise ConfigError("the probe resolves no positive trace, or none along the gradient", "probe more")
    rise = estimator_of(config).moments().progress * linear / (sigma * math.sqrt(variance))
    return trace * variance / along, n * rise / (trace + (n - 2) * along / variance)


def unseen_population(moments: Array) -> float:
    """Return by how much curvature may change N_crit unseen: X/4 + 6 <x>_1 - 12 <x>_2, and 2 sum lam x in A.

    The moments give sum_k x_k = q, which one direction may have alone; q of the variance is curvature twice.

    Parameters
    ----------
    moments
        The five moments, shape (5,).

    Returns
    -------
    float
        A population: the largest size of what is left out.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/quadratic.md. x_k <= q, so that 12 q bounds the means and
    3 q^2/4 + 3 rho^2 q the kurtosis; sum_k lam_k x_k <= q tr Lam for curvatures of one sign.
    """
    q, linear = 2 * max(float(moments[1] / moments[2]), 0.0), float(moments[0] / moments[2])
    noise = 2 * q * float(2 * moments[3] * moments[2] / moments[4])  # of A = tr Lam (1 + 2 q)
    return max(12 * q, noise + 0.75 * q**2 + 3 * linear * q)
