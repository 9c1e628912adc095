"""What bfloat16 parameters without a float32 master copy leave of AdamW's walk (docs/concepts/precision.md)."""

from __future__ import annotations

import math

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.floats import FORMATS
from estheory.theory.adamw import Schedule, learning_rates
from estheory.theory.rounding.gains import signal_gains, variance_gains
from estheory.theory.rounding.precision import RoundingEffect
from estheory.theory.rounding.weights import WeightHistogram

_ORDERS = 99


def correlated_gains(x: Array, beta1: float = 0.9) -> Array:
    """Return the long-run variance factor of rounding on a sum of Gaussian steps with autocorrelation beta1^lag.

    The rounding staircase is expanded in Hermite polynomials: E[round(x Z_s)
    round(x Z_t)] = sum_n h_n(x)^2 beta1^(n |s-t|) over odd n, h_n = (2/sqrt(n!)) sum_k phi(b_k) He_{n-1}(b_k),
    b_k = (k - 1/2)/x; the sum over lags multiplies order n by (1 + beta1^n)/(1 - beta1^n).

    Parameters
    ----------
    x
        Standard deviation of a step in grid spacings, > 0, any shape.
    beta1
        AdamW's momentum, in [0, 1).

    Returns
    -------
    ndarray
        Shape of ``x``. 1 for steps far above the spacing, and toward 0 far below it.

    Notes
    -----
    Label: exact, for many steps. Source: ours: docs/concepts/precision.md.
    """
    x = np.minimum(np.asarray(x, dtype=np.float64), 3.0)
    b = np.minimum((np.arange(1, 31) - 0.5) / x[..., None], 40.0)  # beyond 40 the density is 0
    density = 2 * np.exp(-0.5 * b * b) / math.sqrt(2 * math.pi)
    before, here = np.zeros_like(b), np.ones_like(b)  # He_m / sqrt(m!)
    found = np.zeros_like(x)
    total = np.zeros_like(x)
    for n in range(1, _ORDERS + 1):
        if n % 2:
            square = (density * here).sum(axis=-1) ** 2 / n
            found += square
            total += square * (1 + beta1**n) / (1 - beta1**n)
        before, here = here, (b * here - math.sqrt(n - 1) * before) / math.sqrt(n)
    total += np.maximum(variance_gains(x) * x * x - found, 0.0)  # higher orders: lags are forgotten
    return np.asarray((1 - beta1) / (1 + beta1) * total / (x * x))


def adamw_rounding(
    lr: float,
    steps: int,
    weights: WeightHistogram,
    *,
    schedule: Schedule = "linear",
    dtype: str = "bfloat16",
    beta1: float = 0.9,
) -> RoundingEffect:
    """Return what adding AdamW's updates to narrow parameters does to its walk; moments are kept in float32.

    An update has rms lr sqrt((1 - beta1)/(1 + beta1)) and autocorrelation beta1^lag.

    Parameters
    ----------
    lr
        Peak learning rate, weight units.
    steps
        Number of optimiser steps.
    weights
        Magnitudes of the weights, weight units.
    schedule
        Decay of the learning rate.
    dtype
        Name of the format, a key of :data:`estheory.floats.FORMATS`.
    beta1
        AdamW's momentum.

    Returns
    -------
    RoundingEffect
        Its ``variance`` is relative to d sum lr_t^2.

    Raises
    ------
    ConfigError
        For a format that is unknown.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/precision.md. Dense Gaussian gradient noise; many steps (the larger
    updates of the first 1/(1 - beta1) are neglected); weights keep their binade.

    Examples
    --------
    >>> from estheory.theory.rounding.weights import normal_weights
    >>> effect = adamw_rounding(3e-6, 80, normal_weights(0.02))
    >>> round(effect.variance, 2), round(effect.swallowed, 2)
    (0.01, 0.98)
    """
    if dtype not in FORMATS:
        raise ConfigError(f"dtype '{dtype}' has no rounding", f"choose one of {', '.join(FORMATS)}")
    rates = learning_rates(steps, schedule)
    spacing = FORMATS[dtype].spacing(weights.exponents)
    spacings, cell = np.unique(spacing, return_inverse=True)
    shares = np.bincount(cell, weights.shares)
    x = lr * math.sqrt((1 - beta1) / (1 + beta1)) * rates[:, None] / spacings
    power = rates**2 / float(rates @ rates)
    return RoundingEffect(
        variance=float(power @ correlated_gains(x, beta1) @ shares), signal=float(power @ signal_gains(x) @ shares)
    )
