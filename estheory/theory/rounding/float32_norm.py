"""How much too small a norm is whose squares are added up in float32: a trap of measuring, not of training."""

from __future__ import annotations

import math

import numpy as np

LANES = 8
"""Sums that a vector unit of 256 bits keeps side by side: torch's norm on one thread of a CPU."""
_MANTISSA = 23
_FINE = 13
"""Power of two below which a sum rounds next to nothing away."""


def float32_norm_share(entries: float, lanes: int = LANES) -> float:
    """Return the norm of normal entries over the exact one where their squares are added up one by one in float32.

    A sum in [2^e, 2^(e+1)) has the spacing u = 2^(e-23). Rounded to it, a square x ~ chi^2_1 adds
    u sum_k P(x > (k - 1/2) u) on average, less than its mean of 1 since most squares are small.

    Parameters
    ----------
    entries
        n, of one sum.
    lanes
        Sums that are kept side by side and added at the end.

    Returns
    -------
    float
        In (0, 1].

    Notes
    -----
    Label: mean-field. Source: ours: docs/validation/published.md. Entries in no order; pairwise sums, and sums in
    float64, lose nothing.

    Examples
    --------
    >>> [round(float32_norm_share(n), 4) for n in (4e6, 5.9e7, 5.3e8)]
    [0.9999, 0.9953, 0.9049]
    """
    from scipy.special import erfc

    left = entries / lanes
    total = min(left, 2.0**_FINE)
    left -= total
    power = _FINE
    while left > 0:
        spacing = 2.0 ** (power - _MANTISSA)
        edges = (np.arange(1, math.ceil(100 / spacing) + 1) - 0.5) * spacing
        rate = spacing * float(np.sum(erfc(np.sqrt(0.5 * edges))))
        added = min(left * rate, 2.0 ** (power + 1) - total)
        if rate <= 0 or added <= 0:
            break
        total, left, power = total + added, left - added / rate, power + 1
    return math.sqrt(total * lanes / entries)
