"""How large the weights of a model are: what rounding of its updates depends on (docs/concepts/precision.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, normal_tails
from estheory.rules import require_positive

SUBCELLS = 2048
"""Cells of a law's histogram per binade: two for each value of float16 there, so that cells rounded to any format here
give its values their own shares. With restore pairs ties to even make odd and even values differ."""


@dataclass(frozen=True)
class WeightHistogram:
    """How large a model's weights are.

    Attributes
    ----------
    magnitudes
        Representative |w| of each cell, shape (m,), weight units.
    shares
        Share of the weights in it, shape (m,); they sum to 1.
    """

    magnitudes: Array
    shares: Array

    @property
    def exponents(self) -> Array:
        """The binade of each cell, floor(log2 |w|), shape (m,)."""
        return np.frexp(self.magnitudes)[1].astype(np.float64) - 1


def weight_histogram(tail: Callable[[Array], Array], top: float) -> WeightHistogram:
    """Return the histogram of a symmetric law of weights.

    Parameters
    ----------
    tail
        P(|w| > x) for an array x, same shape.
    top
        A magnitude that next to no weight exceeds, weight units; 30 binades below it are resolved.

    Returns
    -------
    WeightHistogram
        ``SUBCELLS`` cells a binade, those that are empty left out.
    """
    last = math.ceil(math.log2(top))
    edges = 2.0 ** np.arange(last - 30, last, dtype=np.float64)
    edges = (edges[:, None] * (1 + np.arange(SUBCELLS) / SUBCELLS)).ravel()
    edges = np.append(edges, 2.0**last)
    outside = tail(edges)
    shares = outside[:-1] - outside[1:]
    kept = shares > 0
    return WeightHistogram((0.5 * (edges[:-1] + edges[1:]))[kept], shares[kept] / shares.sum())


def normal_weights(std: float) -> WeightHistogram:
    """Return the histogram of weights w ~ N(0, std^2), exact up to the width of its cells.

    Parameters
    ----------
    std
        Standard deviation, weight units.

    Returns
    -------
    WeightHistogram
        To nine standard deviations.

    Raises
    ------
    ConfigError
        If ``std`` is not > 0.
    """
    require_positive("weight-std", std)
    return weight_histogram(lambda x: 2 * normal_tails(x / std)[1], 9 * std)


def student_weights(rms: float, df: float) -> WeightHistogram:
    """Return the histogram of Student-t weights.

    Parameters
    ----------
    rms
        Root mean square, weight units.
    df
        Degrees of freedom, > 2.

    Returns
    -------
    WeightHistogram
        Exact up to the width of its cells.

    Raises
    ------
    ConfigError
        If ``rms`` is not > 0.
    """
    from scipy.special import stdtr

    require_positive("rms", rms)
    scale = rms * math.sqrt((df - 2) / df)
    return weight_histogram(
        lambda x: np.asarray(2 * stdtr(df, -x / scale), dtype=np.float64), scale * 1e-12 ** (-1 / df)
    )


def mixed_weights(parts: Iterable[tuple[float, WeightHistogram]]) -> WeightHistogram:
    """Return a mixture of histograms: modules of different scale.

    Parameters
    ----------
    parts
        (share, histogram) of each; the shares need not sum to 1.

    Returns
    -------
    WeightHistogram
        The cells of all parts.
    """
    parts = list(parts)
    total = sum(share for share, _ in parts)
    return WeightHistogram(
        np.concatenate([h.magnitudes for _, h in parts]),
        np.concatenate([share / total * h.shares for share, h in parts]),
    )


FAMILY_RMS = (0.01, 0.02, 0.03, 0.05)
"""Root mean squares of the weights that stand for an unknown model (language models of billions of parameters)."""


def weight_family() -> dict[str, WeightHistogram]:
    """Return the weights that stand for an unknown model: scales times shapes, declared and not fitted.

    Normal; Student-t with 4 degrees of freedom; and a mixture of modules (half at half the rms, a third at the rms, a
    sixth at twice the rms, scaled to the rms), each at every rms of ``FAMILY_RMS``.

    Returns
    -------
    dict
        Histograms by name.
    """
    family = {}
    for rms in FAMILY_RMS:
        parts = ((1 / 2, 0.5), (1 / 3, 1.0), (1 / 6, 2.0))
        unit = math.sqrt(sum(share * scale**2 for share, scale in parts))
        family[f"normal, rms {rms:g}"] = normal_weights(rms)
        family[f"Student-t 4, rms {rms:g}"] = student_weights(rms, 4)
        family[f"modules, rms {rms:g}"] = mixed_weights((p, normal_weights(rms * s / unit)) for p, s in parts)
    return family
