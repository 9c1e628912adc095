"""One step on a quadratic reward (docs/concepts/quadratic.md).

A member's reward is linear plus quadratic in its noise. Each eigendirection k enters through its share of the linear
signal, rho_k = sigma g_k / S, and its share of the quadratic part, x_k = sigma^4 lam_k^2 / S^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.quantities import Label
from estheory.rules import ESConfig, require_positive
from estheory.theory.anchor_l1 import soft_threshold
from estheory.theory.curved.recursion import step_rule
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.estimator import CurvedShares
from estheory.theory.estimators.zscores import mean_population_std

OURS = ours("quadratic")


@dataclass(frozen=True, kw_only=True, eq=False)
class StepMoments:
    """Moments of one step along each eigendirection; positive displacement is toward the optimum.

    Attributes
    ----------
    displacement
        E[Delta_k] of one direction of each row, shape (m,), weight units.
    second_moment
        E[Delta_k^2], shape (m,), weight^2.
    correlation
        rho_k, shape (m,).
    quadratic_share
        x_k, shape (m,).
    excess_kurtosis
        X of a member's reward.
    member_std
        S, reward units.
    label
        ``exact`` for raw rewards and two-point shaping, else ``large-N``.
    """

    displacement: Array
    second_moment: Array
    correlation: Array
    quadratic_share: Array
    excess_kurtosis: float
    member_std: float
    label: Label


def step_moments(config: ESConfig, landscape: Landscape) -> StepMoments:
    """Return mean and second moment of one step from the landscape's offsets.

    z-score: E[Delta_k] = alpha rho_k (c - 3 x_k/N + 3 X/(8N)) and N E[Delta_k^2]/alpha^2 =
    1 + 2 x_k (N-1)(N-2)/(N(N+1)) + rho_k^2 (N - 2 + X - 12 x_k) - 6 (N-1)(N-2)/(N(N+1)(N+3)) sqrt(x_k) sum_j rho_j^2
    sqrt(x_j), good while x_k and X are small (:func:`estheory.theory.curved.ranges.step_range`).
    Centred rank: the displacement is exact, (alpha/pi) int_0^inf |phi_R(t)|^2 sigma g_k / (1 + t^2 sigma^4 lam_k^2)
    dt with phi_R the characteristic function of a reward, and the second moment loses (alpha^2/N) (N-2)/(N-1)
    0.3676/12 sqrt(x_k) |skewness| to the skewness of the rewards, at first order. Raw: both exact, E[Delta] = alpha
    (N-1)/N g. Two-point: both exact, E[Delta] = alpha g and N E[Delta_k^2]/alpha^2 = ||g||^2 + s^2/(2 sigma^2) +
    (N+1) g_k^2; the even part of the rewards, and with it every x_k, drops out. Antithetic pairs: those of Gaussian
    even parts (:meth:`estheory.theory.estimators.pairs.MirroredPairs.moments`) with the O(1/N) corrections of the
    even parts' own law, E[Delta_k] gaining alpha rho_k (3 Y/8 - 2 x_k)/N, Y = sum (6 x_k^2 + 8 rho_k^2 x_k).

    Step 1 of a run: momentum takes the share 1 - beta of it, and the ``after`` form of an anchor pulls it back.

    Parameters
    ----------
    config, landscape
        The run.

    Returns
    -------
    StepMoments
        With its label.

    Raises
    ------
    ConfigError
        If the reward is constant.

    Notes
    -----
    Label: large-N; exact for raw rewards and two-point shaping. Source: ours: docs/concepts/quadratic.md. Gaussian
    reward noise and perturbations. Low-rank noise has the same moments where eigenvectors are spread over many rows and
    columns (their fourth moments are then Gaussian); shared-seed noise see :mod:`estheory.theory.shared_seed`.
    """
    sigma, rule, big_s = config.sigma, step_rule(config, landscape), landscape.member_std(config.sigma)
    scale = math.sqrt((sigma * landscape.gradient_norm) ** 2 + rule.estimator.constant_variance(landscape))
    if scale == 0:
        raise ConfigError("every member has the same reward", "give a reward-std, or a curved spectrum")
    now = rule.at(scale**2)
    shares = CurvedShares(
        landscape=landscape,
        member_std=big_s,
        correlation=sigma * landscape.gradient / big_s,
        quadratic=(sigma**2 * landscape.eigenvalue / big_s) ** 2,
    )
    further, spread = rule.estimator.corrections(shares, rule.odd_share(scale**2))
    progress = now.rate * landscape.gradient + further
    second = now.noise + now.curvature * landscape.eigenvalue**2 + now.slope * landscape.gradient**2 + spread
    # the first step has no displacement for an anchor to pull back and no velocity to keep up
    first = rule.fresh * (1 - config.momentum)
    progress, second = first * progress, first**2 * second
    if config.anchor_l1 and config.anchor_form == "after":
        progress, second = soft_threshold(progress, second - progress**2, config.anchor_l1)
    return StepMoments(
        displacement=progress,
        second_moment=second,
        correlation=shares.correlation,
        quadratic_share=shares.quadratic,
        excess_kurtosis=shares.excess_kurtosis,
        member_std=big_s,
        label="exact" if rule.fixed.scale_power and not config.anchor_l1 else "large-N",
    )


def expected_gain(config: ESConfig, landscape: Landscape) -> float:
    """Return E[R(theta + Delta) - R(theta)] of one step: sum_k g_k E Delta_k - 1/2 lam_k E Delta_k^2.

    Parameters
    ----------
    config, landscape
        The run.

    Returns
    -------
    float
        Reward units.

    Raises
    ------
    ConfigError
        If the reward is constant.

    Notes
    -----
    Label: that of :func:`step_moments`, large-N or exact. Source: ours: docs/concepts/quadratic.md.
    """
    moments = step_moments(config, landscape)
    gain = landscape.gradient * moments.displacement - 0.5 * landscape.eigenvalue * moments.second_moment
    return float(landscape.multiplicity @ gain)


def smoothing_gap(sigma: float, landscape: Landscape) -> float:
    """Return R(theta) - E R(theta + sigma eps) = 1/2 sigma^2 tr Lam.

    Parameters
    ----------
    sigma
        Perturbation scale, weight units.
    landscape
        The quadratic.

    Returns
    -------
    float
        Reward units.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/quadratic.md. Quadratic reward.

    Examples
    --------
    >>> from estheory.theory.curved.spectra import two_scale
    >>> smoothing_gap(0.01, two_scale())
    0.0035
    """
    return 0.5 * sigma**2 * landscape.trace


def optimal_alpha(config: ESConfig, landscape: Landscape) -> float:
    """Return the step size of the largest expected gain, which is a parabola in alpha.

    For z-scores, to leading order, N c sigma (||g||^2/S) / (A + (N-2) sigma^2 g'Lam g / S^2) with A as in
    :func:`critical_population`.

    Parameters
    ----------
    config, landscape
        The run; its alpha does not matter.

    Returns
    -------
    float
        Weight units (weight^2 / reward for raw rewards).

    Raises
    ------
    ConfigError
        If the gradient or the curvature is zero, where there is no best step; with momentum, of which a single step's
        gain says little; with an L1 anchor, where the gain is no parabola.

    Notes
    -----
    Label: that of :func:`step_moments`, large-N or exact. Source: ours: docs/concepts/quadratic.md.

    Examples
    --------
    >>> from estheory import ESConfig
    >>> from estheory.theory.curved.spectra import two_scale
    >>> run = ESConfig(dim=1005, sigma=0.01, population=30)
    >>> round(optimal_alpha(run, two_scale()), 3), round(critical_population(run, two_scale()), 1)
    (0.575, 7.6)
    """
    if config.momentum or config.anchor_l1:
        what = "momentum" if config.momentum else "an L1 anchor"
        raise ConfigError(f"the best step size of one step with {what} has no result here", "compare whole runs")
    first, second = _gain_terms(config, landscape)
    return config.step_size * first / (2 * second)


def _gain_terms(config: ESConfig, landscape: Landscape) -> tuple[float, float]:
    """Return the first- and second-order parts of the expected gain at the configured alpha, both > 0."""
    moments = step_moments(config, landscape)
    first = float(landscape.multiplicity @ (landscape.gradient * moments.displacement))
    second = 0.5 * float(landscape.multiplicity @ (landscape.eigenvalue * moments.second_moment))
    if not (first > 0 and second > 0):
        raise ConfigError(
            "the best step needs a gradient and curvature within range of the expansion",
            "give a spectrum with an offset above 0 in a curved direction, or a larger population",
        )
    return first, second


def noise_curvature(config: ESConfig, landscape: Landscape) -> float:
    """Return A = tr Lam + 2 (N-1)(N-2)/(N(N+1)) sum_k lam_k x_k, for z-scores.

    The noise of a step costs alpha^2 A / (2 N) of reward.

    Parameters
    ----------
    config, landscape
        The run.

    Returns
    -------
    float
        Reward / weight^2.

    Notes
    -----
    Label: large-N; to first order in x_k exact where no curved direction has gradient. Source:
    ours: docs/concepts/quadratic.md.
    """
    c = estimator_of(config).moments()
    x = (config.sigma**2 * landscape.eigenvalue / landscape.member_std(config.sigma)) ** 2
    return float(landscape.multiplicity @ (landscape.eigenvalue * (c.flat + c.quadratic * x))) / c.flat


def critical_population(config: ESConfig, landscape: Landscape) -> float:
    """Return N_crit of the gain at the best step, c^2 N / (N - 2 + N_crit) of its limit for many members.

    N_crit = A S^2 / (sigma^2 g'Lam g) + X/4 + 6 <x>_1 - 12 <x>_2, <x>_j the mean of x_k weighted by g_k^2 and by
    lam_k g_k^2: what the O(1/N) terms of progress and second moment leave in the limit of many members. With rho = 1
    and x small it is tr Lam ||g||^2 / g'Lam g, an effective dimension.

    Parameters
    ----------
    config, landscape
        The run.

    Returns
    -------
    float
        A population, not rounded.

    Raises
    ------
    ConfigError
        If the gradient has no curvature along it, the configuration is not z-scores of independent members, or curved
        rewards of few members leave nothing of it.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/quadratic.md. Example at :func:`optimal_alpha`.
    """
    estimator = estimator_of(config)
    if not estimator.independent_zscores or config.momentum or config.anchor_l1:
        what = "momentum" if config.momentum else "an L1 anchor"
        what = what if estimator.independent_zscores else estimator.title
        raise ConfigError(f"critical_population with {what} has no result here", "use zscore")
    along = landscape.gradient_curvature
    if along == 0:
        raise ConfigError("no curvature along the gradient: no critical population", "give a spectrum with an offset")
    moments = step_moments(config, landscape)
    share = moments.quadratic_share
    weight = landscape.multiplicity * landscape.gradient**2
    by_gradient = float(weight @ share) / landscape.gradient_norm**2
    by_curvature = float((weight * landscape.eigenvalue) @ share) / along
    noise = noise_curvature(config, landscape) * (moments.member_std / config.sigma) ** 2 / along
    found = noise + moments.excess_kurtosis / 4 + 6 * by_gradient - 12 * by_curvature
    if found <= 0:
        raise ConfigError("the rewards are too curved for an expansion of critical_population", "lower sigma")
    return found


def shared_seed_progress(config: ESConfig, *, gradient_norm: float, covariance_ratio: float, other_std: float) -> float:
    """Return the progress along g_hat under noise of covariance C: alpha c sigma g'Cg / (S ||g||).

    S^2 = sigma^2 g'Cg + other_std^2.

    Parameters
    ----------
    config
        z-score shaping.
    gradient_norm
        ||g|| > 0, reward / weight.
    covariance_ratio
        g'Cg / ||g||^2: 1 for independent noise, up to the largest number of tensors that share their noise.
    other_std
        Standard deviation of a member's reward from everything else, reward units.

    Returns
    -------
    float
        Weight units.

    Raises
    ------
    ConfigError
        For other than z-scores of independent members, or a value that is not > 0.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/quadratic.md. Linear reward, Gaussian noise.
    """
    if not estimator_of(config).independent_zscores:
        raise ConfigError("shared-seed progress is for z-scores of independent members", "use zscore shaping")
    require_positive("gradient-norm", gradient_norm)
    require_positive("covariance-ratio", covariance_ratio)
    spread = config.sigma * gradient_norm * math.sqrt(covariance_ratio)
    overlap = config.step_size * mean_population_std(config.population) * spread / math.hypot(spread, other_std)
    return overlap * math.sqrt(covariance_ratio)
