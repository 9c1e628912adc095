"""What storing weights in bfloat16 or float16 does to the variance of one step (docs/concepts/precision.md).

Adding a Gaussian update to a weight on the grid of its format moves it by a whole number of grid spacings. The factor
on the second moment depends only on the update's size over the spacing, so a model enters through the histogram of
its weights over binades.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, legendre_nodes, normal_cdf
from estheory.errors import ConfigError
from estheory.rules import ESConfig, require_positive

_FORMATS = {"bfloat16": (7, -126), "float16": (10, -14)}
"""Stored significand bits and smallest normal exponent."""


@dataclass(frozen=True)
class BinadeHistogram:
    """Share of the weights in each binade: ``exponents`` floor(log2 |w|), shape (m,), and ``shares``, sum 1, (m,)."""

    exponents: Array
    shares: Array


def normal_binades(std: float) -> BinadeHistogram:
    """Return the binade histogram of weights w ~ N(0, std^2). Exact."""
    require_positive("weight-std", std)
    top = math.floor(math.log2(std)) + 4
    exponents = np.arange(top - 40, top + 1)
    shares = np.array([2 * (normal_cdf(-(2.0**e) / std) - normal_cdf(-(2.0 ** (e + 1)) / std)) for e in exponents])
    return BinadeHistogram(exponents.astype(np.float64), shares / shares.sum())


def grid_spacing(exponents: Array, dtype: str) -> Array:
    """Return the spacing of ``dtype`` in each binade, weight units, same shape; subnormals share the smallest one."""
    bits, smallest = _FORMATS[dtype]
    return np.asarray(2.0 ** (np.maximum(exponents, smallest) - bits))


def rounding_gain(x: float) -> float:
    """Return E[round(x Z)^2] / x^2 for a standard normal Z: the gain of an update of ``x`` grid spacings. Exact.

    (1/x^2) sum_{k>=1} 2 (2k-1) Q((k - 1/2)/x), and 1 + 1/(12 x^2) from x = 3 on, where they agree to 1e-15.

    Examples
    --------
    >>> [round(rounding_gain(x), 3) for x in (0.2, 0.5, 1.0)]
    [0.31, 1.302, 1.083]
    """
    if x <= 0.0:
        return 0.0
    if x >= 3.0:
        return 1.0 + 1.0 / (12.0 * x * x)
    total = 0.0
    for k in range(1, math.ceil(9.5 * x) + 2):
        total += 2 * (2 * k - 1) * normal_cdf(-(k - 0.5) / x)
    return total / (x * x)


def step_gain(config: ESConfig, weights: BinadeHistogram) -> float:
    """Return the factor of rounding on the variance of one step of the walk. Exact for one step from a grid point.

    ``accumulated``: the step is summed in float32 and added once, E_w gain(alpha / (sqrt(N) u(w))). ``sequential``: N
    adds of alpha z_i eps_i / N, E_w E_z[z^2 gain(alpha |z| / (N u(w)))] with z^2/(N-1) ~ Beta(1/2, (N-2)/2), the law
    of a z-score of Gaussian rewards. Weights are taken to stay in their binade.

    Raises
    ------
    ConfigError
        For float32, shapings other than z-scores on the sequential path, or restore pairs (the emulator's work).
    """
    if config.dtype == "float32":
        raise ConfigError("precision_gain is for bfloat16 and float16", "set --dtype, or leave the weights out")
    if config.restore_pairs:
        raise ConfigError("the residue of perturb-restore pairs has no closed form", "leave --restore-pairs at 0")
    spacing = grid_spacing(weights.exponents, config.dtype)
    n, alpha = config.population, config.step_size
    if config.update_path == "accumulated":
        gains = [rounding_gain(alpha / math.sqrt(n) / u) for u in spacing]
        return float(weights.shares @ np.array(gains))
    if config.shaping != "zscore" or config.antithetic or n < 3:
        raise ConfigError(
            "sequential updates have a closed form for plain z-scores, N >= 3", "use --update-path accumulated"
        )
    nodes, quadrature = legendre_nodes()
    angle = 0.25 * math.pi * (nodes + 1)  # z = sqrt(N-1) cos(angle), density sin^(N-3)
    density = quadrature * np.sin(angle) ** (n - 3)
    density /= density.sum()
    z = math.sqrt(n - 1) * np.cos(angle)
    gains = [float(density @ (z**2 * np.array([rounding_gain(alpha * v / n / u) for v in z]))) for u in spacing]
    return float(weights.shares @ np.array(gains))
