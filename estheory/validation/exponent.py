"""How ||Delta||^2 grows over the checkpoints of one walk."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from estheory._special import Array
from estheory.laws import NormalLaw


def exponent_law(steps: Sequence[int], variances: Array, effective_dim: float) -> NormalLaw:
    """Return the law of the least-squares slope of log ||Delta_T||^2 in log T over checkpoints of one walk.

    Cov(log ||Delta_a||^2, log ||Delta_b||^2) = (2/d) v_a / v_b for a before b. Exact for large d; ours.

    Parameters
    ----------
    variances : ndarray, shape (K,)
        Variance of a coordinate at each (weight^2), without an anchor.

    Returns
    -------
    NormalLaw
        Of the slope: mean 1 where the variance is proportional to T.
    """
    weights = slope_weights(steps)
    shares = np.minimum.outer(variances, variances) / np.maximum.outer(variances, variances)
    spread = math.sqrt(2 / effective_dim * float(weights @ shares @ weights))
    return NormalLaw(float(weights @ np.log(variances)), spread)


def slope_weights(steps: Sequence[int]) -> Array:
    """Return what a least-squares slope in log T gives the value at each step."""
    x = np.log(np.asarray(steps, dtype=np.float64))
    return np.asarray((x - x.mean()) / np.sum((x - x.mean()) ** 2))
