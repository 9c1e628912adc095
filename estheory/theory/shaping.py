"""How shaped rewards turn into moments of a step on a quadratic reward (docs/concepts/quadratic.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from estheory._special import chi_mean
from estheory.rules import ESConfig
from estheory.theory.signal import (
    mean_difference_variance,
    mean_largest_rank_overlap,
    mean_pair_overlap,
    mean_population_std,
)
from estheory.theory.step_variance import odd_part_nodes

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

    z-score: ``progress`` and ``signal`` exact for Gaussian rewards, ``quadratic`` exact to first order in x_k, any N,
    where no curved direction has gradient.
    Antithetic pairs: all exact for Gaussian even parts, any N; ``spread`` and ``tilt`` large-N. Centred rank: ``flat``
    exact, ``signal`` exact for Gaussian rewards, ``quadratic`` to first order in x_k. Raw and two-point: all exact on a
    quadratic with Gaussian noise, any N.

    Parameters
    ----------
    config
        Shaping, population and whether members are antithetic pairs; anchor, momentum and noise do not enter.
    odd_share
        w, for antithetic pairs: variance of the odd part (R+ - R-)/2 over that of a member's reward; kappa = 2 w - 1.

    Returns
    -------
    ShapingMoments
        Pure numbers.

    Notes
    -----
    Label: exact or large-N, by coefficient as above. Source: ours: docs/concepts/quadratic.md.
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
    flat = (n + 1) / (12 * (n - 1))
    return ShapingMoments(
        progress=overlap,
        flat=flat,
        quadratic=(n - 2) / (n - 1) / (2 * math.pi * math.sqrt(3)),
        signal=n * overlap**2 + n / 16 * mean_difference_variance(n) - flat,
        scale_power=0,
    )


def _antithetic(population: int, odd_share: float) -> ShapingMoments:
    """Return the coefficients of z-scored pairs; see :func:`antithetic_slopes` for the integrals."""
    w = max(odd_share, 1e-12)  # rewards without odd part do not move at all
    share, weight = odd_part_nodes(population // 2)
    over = share / (w * share + (1 - w) * (1 - share))
    mean = float(weight @ over)
    return ShapingMoments(
        progress=mean_pair_overlap(population, w),
        flat=2 * w * mean,
        quadratic=0.0,
        signal=2 * ((population - 1) * float(weight @ (share * over)) - mean),
        scale_power=0,
        spread=8 * (1 - w) ** 2 / population,
        tilt=4 * (1 - w) * (1.5 - w) / population,
    )


def antithetic_slopes(population: int, odd_share: float) -> tuple[float, float, float]:
    """Return the derivatives of ``progress``, ``flat`` and ``signal`` of antithetic pairs with respect to w.

    With D = w B + (1-w)(1-B): progress = sqrt(2) c(N) E[B / sqrt D], flat = 2 w E[B/D],
    signal = 2 ((N-1) E[B^2/D] - E[B/D]).

    Parameters
    ----------
    population
        N, even, at least 4.
    odd_share
        w, the share of the variance that is odd in the perturbation.

    Returns
    -------
    tuple of float
        The three derivatives.

    Notes
    -----
    Label: exact, for Gaussian even parts. Source: ours: docs/concepts/quadratic.md.
    """
    share, weight = odd_part_nodes(population // 2)
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
