"""How shaped rewards turn into moments of a step on a quadratic reward (docs/concepts/quadratic.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from estheory._special import Array, chi_mean, legendre_nodes
from estheory.rules import ESConfig
from estheory.theory.signal import mean_largest_rank_overlap, mean_population_std

PURE_NOISE = 0.5
"""Odd share of a pair whose two rewards are independent."""


@dataclass(frozen=True, kw_only=True)
class ShapingMoments:
    """Coefficients of one step's moments, in the scale U of the shaped rewards (1, or S/sigma for ``raw``).

    To leading order E[Delta_k] = alpha U p rho_k and
    N E[Delta_k^2] = (alpha U)^2 (flat + quadratic x_k + signal rho_k^2). For ``two-point`` shaping S, in U, rho_k and
    x_k, is the standard deviation of half a pair's difference, (R+ - R-)/2.

    Attributes
    ----------
    progress
        p: c(N) for z-scores, 1/(2 sqrt(pi)) for centred ranks, (N-1)/N for raw rewards, 1 for two-point.
    flat, quadratic, signal
        Of the second moment.
    scale_power
        1 where the step scales with S (raw, two-point), else 0.
    spread
        Relative variance, from step to step, of the variance of a flat coordinate given the rewards.
    tilt
        Its covariance with the relative fluctuation of the progress.
    """

    progress: float
    flat: float
    quadratic: float
    signal: float
    scale_power: Literal[0, 1]
    spread: float = 0.0
    tilt: float = 0.0


def shaping_moments(config: ESConfig, odd_share: float = PURE_NOISE) -> ShapingMoments:
    """Return the coefficients of one step's moments on a quadratic.

    z-score: ``progress`` and ``signal`` exact for Gaussian rewards, ``quadratic`` exact to first order in x_k, any N.
    Antithetic pairs: all exact for Gaussian even parts, any N; ``spread`` and ``tilt`` large-N. Centred rank: ``flat``
    exact, ``signal`` exact for Gaussian rewards, ``quadratic`` to first order in x_k. Raw and two-point: all exact on a
    quadratic with Gaussian noise, any N.

    Parameters
    ----------
    config
        Shaping, population and whether members are antithetic pairs; anchor, momentum and noise do not enter.
    odd_share
        w, for antithetic pairs: variance of the odd part (R+ - R-)/2 over that of a member's reward; kappa = 2 w - 1.
    """
    n = config.population
    if config.antithetic:
        return _antithetic(n, odd_share)
    if config.shaping == "zscore":
        return ShapingMoments(
            progress=mean_population_std(n),
            flat=1.0,
            quadratic=2 * (n - 1) * (n - 2) / (n * (n + 1)),
            signal=n - 2,
            scale_power=0,
        )
    if config.shaping == "raw":
        keep = (n - 1) / n
        return ShapingMoments(
            progress=keep,
            flat=keep,
            quadratic=2 * keep**2,
            signal=keep**2 * (n + 2 - (n - 2) / (n - 1)),
            scale_power=1,
            spread=2 / (n - 1),
            tilt=2 / (n - 1),
        )
    if config.shaping == "two-point":
        return ShapingMoments(
            progress=1.0, flat=1.0, quadratic=0.0, signal=n + 1, scale_power=1, spread=2 / n, tilt=2 / n
        )
    overlap = mean_largest_rank_overlap()
    # Nair's variance of Gini's mean difference of a normal sample; sum u_i R_i = N / 4 times it
    gini = 4 / (n * (n - 1)) * ((n + 1) / 3 + (2 * math.sqrt(3) * (n - 2) - 2 * (2 * n - 3)) / math.pi)
    flat = (n + 1) / (12 * (n - 1))
    return ShapingMoments(
        progress=overlap,
        flat=flat,
        quadratic=(n - 2) / (n - 1) / (2 * math.pi * math.sqrt(3)),
        signal=n * overlap**2 + n / 16 * gini - flat,
        scale_power=0,
    )


@lru_cache(maxsize=64)
def _odd_nodes(pairs: int) -> tuple[Array, Array]:
    """Return nodes and weights of B = X / (X + Y), X ~ chi^2_n and Y ~ chi^2_(n-1): the odd parts of n pairs.

    Gauss-Legendre in the angle of (sqrt X, sqrt Y), over twelve standard deviations about the mode.
    """
    mode = math.atan2(math.sqrt(pairs - 1), math.sqrt(pairs - 2))
    reach = 6.0 / math.sqrt(pairs)
    low, high = max(0.0, mode - reach), min(math.pi / 2, mode + reach)
    nodes, weights = legendre_nodes()
    angle = low + 0.5 * (high - low) * (nodes + 1)
    log_density = (pairs - 1) * np.log(np.sin(angle)) + (pairs - 2) * np.log(np.cos(angle))
    weights = weights * np.exp(log_density - log_density.max())
    return np.sin(angle) ** 2, weights / weights.sum()


def _antithetic(population: int, odd_share: float) -> ShapingMoments:
    """Return the coefficients of z-scored pairs; see :func:`antithetic_slopes` for the integrals."""
    share, weight = _odd_nodes(population // 2)
    w = max(odd_share, 1e-12)  # rewards without odd part do not move at all
    over = share / (w * share + (1 - w) * (1 - share))
    mean = float(weight @ over)
    return ShapingMoments(
        progress=math.sqrt(2 / population) * chi_mean(population - 1) * float(weight @ np.sqrt(share * over)),
        flat=2 * w * mean,
        quadratic=0.0,
        signal=2 * ((population - 1) * float(weight @ (share * over)) - mean),
        scale_power=0,
        spread=8 * (1 - w) ** 2 / population,
        tilt=4 * (1 - w) * (1.5 - w) / population,
    )


def antithetic_slopes(population: int, odd_share: float) -> tuple[float, float, float]:
    """Return the derivatives of ``progress``, ``flat`` and ``signal`` of antithetic pairs with respect to w.

    ``odd_share`` is w, the share of the variance that is odd in the perturbation.

    With D = w B + (1-w)(1-B): progress = sqrt(2) c(N) E[B / sqrt D], flat = 2 w E[B/D],
    signal = 2 ((N-1) E[B^2/D] - E[B/D]). Exact for Gaussian even parts.
    """
    share, weight = _odd_nodes(population // 2)
    w = max(odd_share, 1e-12)
    inside = w * share + (1 - w) * (1 - share)
    over, slope = share / inside, share * (1 - 2 * share) / inside**2
    mean, mean_slope = float(weight @ over), float(weight @ slope)
    scale = math.sqrt(2 / population) * chi_mean(population - 1)
    return (
        0.5 * scale * float(weight @ (slope * np.sqrt(inside))),
        2 * (mean + w * mean_slope),
        2 * ((population - 1) * float(weight @ (share * slope)) - mean_slope),
    )
