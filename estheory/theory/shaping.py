"""How shaped rewards turn into moments of a step on a quadratic reward (docs/concepts/quadratic.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from estheory.errors import ConfigError
from estheory.rules import ESConfig
from estheory.theory.signal import mean_largest_rank_overlap, mean_population_std


@dataclass(frozen=True, kw_only=True)
class ShapingMoments:
    """Coefficients of one step's moments, in the scale U of the shaped rewards (1, or S/sigma for ``raw``).

    To leading order E[Delta_k] = alpha U p rho_k and
    N E[Delta_k^2] = (alpha U)^2 (flat + quadratic x_k + signal rho_k^2).

    Attributes
    ----------
    progress
        p: c(N) for z-scores, 1/(2 sqrt(pi)) for centred ranks, (N-1)/N for raw rewards.
    flat, quadratic, signal
        Of the second moment.
    scale_power
        1 where the step scales with S (raw), else 0.
    """

    progress: float
    flat: float
    quadratic: float
    signal: float
    scale_power: Literal[0, 1]


def shaping_moments(config: ESConfig) -> ShapingMoments:
    """Return the coefficients of one step's moments on a quadratic.

    z-score: ``progress`` and ``signal`` exact for Gaussian rewards, ``quadratic`` exact to first order in x_k, any N.
    Centred rank: ``flat`` exact, ``signal`` exact for Gaussian rewards, ``quadratic`` to first order in x_k. Raw: all
    exact on a quadratic with Gaussian noise, any N.

    Raises
    ------
    ConfigError
        For configurations with no result here: two-point, antithetic, anchored, momentum or shared-seed noise.
    """
    n = config.population
    unsupported = {
        "two-point shaping": config.shaping == "two-point",
        "antithetic members": config.antithetic,
        "an anchor": bool(config.anchor_l1 or config.anchor_l2),
        "momentum": bool(config.momentum),
        "shared-seed noise": config.noise == "shared-seed",
    }
    for what, present in unsupported.items():
        if present:
            raise ConfigError(f"{what} on a curved landscape has no result here", "leave it out, or simulate it")
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
