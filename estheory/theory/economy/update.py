"""What one update gains, what it costs, and the step at which the difference is largest (docs/concepts/economy.md)."""

from __future__ import annotations

import math
from dataclasses import replace

from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of
from estheory.theory.signal import progress_per_step

OURS = ours("economy")
FEWEST_PROMPTS = 8
"""Prompts below which means of 0/1 rewards take too few values to rank members."""


def update_signal(*, sigma: float, signal_variance: float, member_variance: float, kappa: float = 0.0) -> Signal:
    """Return the signal of an update from variances of the members' rewards.

    Parameters
    ----------
    sigma
        Perturbation scale, weight units.
    signal_variance
        v_lin = sigma^2 ||g||^2, reward^2; an unbiased estimate may be negative, and its size enters.
    member_variance
        S^2, reward^2.
    kappa
        Odd minus even share of S^2, each with its half of the noise; enters for mirrored members.

    Returns
    -------
    Signal
        Of a linear reward with the rest as noise.
    """
    size = min(abs(signal_variance), member_variance)
    share = size / member_variance
    return Signal(
        reliability=share,
        gradient_norm=math.sqrt(size) / sigma,
        member_std=math.sqrt(member_variance),
        even_share=share - kappa,
    )


def update_gain(config: ESConfig, signal_variance: float, member_variance: float, kappa: float = 0.0) -> float:
    """Return the expected gain of one update on fresh prompts: (alpha/sigma) c(N) v_lin / S for z-scores.

    Parameters
    ----------
    config
        The update; any shaping.
    signal_variance, member_variance, kappa
        As for :func:`update_signal`. The result has the sign of ``signal_variance``.

    Returns
    -------
    float
        Reward units.

    Notes
    -----
    Label: exact, for a linear reward and Gaussian noise; large-N else. Source: ours: docs/concepts/economy.md.

    Examples
    --------
    >>> run = ESConfig(dim=1000, sigma=0.002, alpha=0.001, population=16)
    >>> round(update_gain(run, 0.8 * 0.13**2, 0.13**2), 5)
    0.04952
    """
    if not member_variance > 0:
        return 0.0
    signal = update_signal(
        sigma=config.sigma, signal_variance=signal_variance, member_variance=member_variance, kappa=kappa
    )
    assert signal.gradient_norm is not None
    return math.copysign(progress_per_step(config, signal) * signal.gradient_norm, signal_variance)


def update_cost(config: ESConfig, gap: float, member_variance: float = 1.0, kappa: float = 0.0) -> float:
    """Return what the random part of one update costs: (alpha^2/(N sigma^2)) gap for z-scores, 1/2 q tr Lam.

    q is the variance of one coordinate of the update, and gap = 1/2 sigma^2 tr Lam the smoothing gap.

    Parameters
    ----------
    config
        The update; any shaping.
    gap
        R(theta) minus the members' mean reward, reward units.
    member_variance, kappa
        As for :func:`update_signal`.

    Returns
    -------
    float
        Reward units.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md. Isotropic noise; to first order in the reliability.

    Examples
    --------
    >>> run = ESConfig(dim=1000, sigma=5e-4, alpha=5e-4, population=16)
    >>> round(update_cost(run, 0.067), 5)
    0.00419
    """
    if not member_variance > 0:
        return 0.0
    signal = update_signal(sigma=config.sigma, signal_variance=0.0, member_variance=member_variance, kappa=kappa)
    return estimator_of(config).variance(signal).value / config.sigma**2 * gap


def best_step(gain: float, cost: float) -> tuple[float, float]:
    """Return the factor of alpha at which the net gain of an update is largest, and that net gain.

    Parameters
    ----------
    gain, cost
        Of one update at some alpha, reward units: the gain grows as alpha, the cost as alpha^2.

    Returns
    -------
    factor : float
        gain / (2 cost): alpha* = N sigma c v_lin / (2 S gap) over alpha; infinite without cost.
    net : float
        gain^2 / (4 cost), reward units: N c^2 v_lin^2 / (4 S^2 gap), proportional to N.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md.

    Examples
    --------
    >>> best_step(0.02, 0.005)
    (2.0, 0.02)
    """
    if gain <= 0:
        return 0.0, 0.0
    if cost <= 0:
        return math.inf, math.inf
    return gain / (2 * cost), gain**2 / (4 * cost)


def largest_measured_alpha(*, sigma: float, population: int, reliability: float) -> float:
    """Return the alpha beyond which an update leaves what its members measured.

    Its random part is then longer than a member's perturbation, alpha = sigma sqrt(N), or its progress along the
    gradient beyond two of a member's standard deviations there, alpha = 2 sigma / rho.

    Parameters
    ----------
    sigma
        Perturbation scale, weight units.
    population
        N.
    reliability
        rho^2, in [0, 1].

    Returns
    -------
    float
        Weight units.

    Notes
    -----
    No label: a declared choice.

    Examples
    --------
    >>> round(largest_measured_alpha(sigma=0.001, population=30, reliability=0.2), 5)
    0.00447
    """
    straight = 2 * sigma / math.sqrt(reliability) if reliability else math.inf
    return min(sigma * math.sqrt(population), straight)


def best_split(
    rollouts: int,
    *,
    sigma: float,
    signal_variance: float,
    true_variance: float,
    noise_variance: float,
    gap: float,
    fewest_prompts: int = FEWEST_PROMPTS,
) -> tuple[int, int, float]:
    """Return how to split the rollouts of one update over members and prompts, each split at its best alpha.

    The net gain is M c(N)^2 v_lin^2 / (4 gap (v B + w)): the fewer prompts the better, until a member's overhead stops
    it. Prompts are weighed against members here without overhead.

    Parameters
    ----------
    rollouts
        M = N B.
    sigma
        Perturbation scale, weight units.
    signal_variance, true_variance, noise_variance
        v_lin, v and w, reward^2.
    gap
        Smoothing gap, reward units.
    fewest_prompts
        Least B considered: below it the means of 0/1 rewards tie.

    Returns
    -------
    population, prompts : int
        The best of the divisions of M with at least 4 members.
    net : float
        Net gain of an update at its best alpha, reward units.

    Raises
    ------
    ConfigError
        For fewer rollouts than 4 members on ``fewest_prompts``, or no signal or gap.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md. Independent members, z-scores.

    Examples
    --------
    >>> population, prompts, net = best_split(
    ...     512, sigma=1e-3, signal_variance=0.01, true_variance=0.01, noise_variance=0.2, gap=0.05
    ... )
    >>> population, prompts
    (64, 8)
    """
    if rollouts < 4 * fewest_prompts or not signal_variance > 0 or not gap > 0:
        raise ConfigError(
            f"{rollouts} rollouts with signal {signal_variance:g} and gap {gap:g} have no best split",
            f"give {4 * fewest_prompts} rollouts or more, a signal and a gap",
        )
    config = ESConfig(dim=1, sigma=sigma, population=4)
    found = []
    for prompts in range(fewest_prompts, rollouts // 4 + 1):
        population = rollouts // prompts
        run = replace(config, population=population)
        seen = true_variance + noise_variance / prompts
        found.append(
            (best_step(update_gain(run, signal_variance, seen), update_cost(run, gap))[1], population, prompts)
        )
    net, population, prompts = max(found)
    return population, prompts, net


def turning_cosine(*, walk_variance: float, sigma: float, even_variance: float, linear_variance: float) -> float:
    """Return the cosine of the gradient with what it was before a walk: [1 + 2 (v_t/sigma^2) v_even/v_lin]^(-1/2).

    Parameters
    ----------
    walk_variance
        v_t = alpha^2 t / N, weight^2.
    sigma
        Perturbation scale, weight units.
    even_variance, linear_variance
        v_even = 1/2 sigma^4 tr Lam^2 and v_lin = sigma^2 ||g||^2, reward^2.

    Returns
    -------
    float
        In (0, 1]; learning turns the gradient more.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md. A quadratic reward, isotropic steps.

    Examples
    --------
    >>> round(turning_cosine(walk_variance=1e-6, sigma=1e-3, even_variance=0.01, linear_variance=0.02), 4)
    0.7071
    """
    return 1 / math.sqrt(1 + 2 * walk_variance / sigma**2 * even_variance / linear_variance)
