"""Which weights the emulator of rounding takes: strata of magnitude, sampled within each random group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estheory._special import Array
from estheory.theory.rounding.weights import WeightHistogram

_CELLS = 32
"""Strata per binade: the residue of restore pairs depends on the distance from the binade's edge."""


@dataclass(frozen=True, kw_only=True)
class SampledWeights:
    """The magnitudes of a model's weights, tensor by tensor. Rounding is symmetric: signs do not matter.

    Attributes
    ----------
    names
        The tensors, k of them.
    magnitudes
        Distinct |w|, ascending, shape (m,).
    counts
        How many weights of each tensor have each magnitude, shape (k, m).
    """

    names: tuple[str, ...]
    magnitudes: Array
    counts: Array

    @property
    def histogram(self) -> WeightHistogram:
        """The histogram of all tensors together."""
        pooled = self.counts.sum(axis=0)
        return WeightHistogram(self.magnitudes, pooled / pooled.sum())

    @staticmethod
    def of(histogram: WeightHistogram, name: str = "weights") -> SampledWeights:
        """Return a model of one tensor with this histogram.

        Examples
        --------
        >>> from estheory.theory.rounding.weights import normal_weights
        >>> weights = SampledWeights.of(normal_weights(0.02))
        >>> rms = (weights.counts[0] @ weights.magnitudes**2) ** 0.5
        >>> weights.names, round(float(rms), 4)
        (('weights',), 0.02)
        """
        order = np.argsort(histogram.magnitudes)
        return SampledWeights(
            names=(name,), magnitudes=histogram.magnitudes[order], counts=histogram.shares[order][None]
        )


@dataclass(frozen=True, kw_only=True)
class Design:
    """A stratified sample: strata by magnitude (32 a binade), weights drawn systematically within each.

    A tensor's estimate weights the strata by the tensor's own shares, so all tensors share one sample.

    Attributes
    ----------
    names, sizes
        Tensors and their numbers of weights.
    shares, tensor_shares
        Shares of the strata in the whole model (h,), and in each tensor (k, h).
    taken
        Weights of each stratum in a group, (h,).
    edges, magnitudes, cumulative
        Where each stratum begins among the magnitudes (h + 1,), the magnitudes, and their cumulative counts (m + 1,).
    """

    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    shares: Array
    tensor_shares: Array
    taken: NDArray[np.int64]
    edges: NDArray[np.int64]
    magnitudes: Array
    cumulative: Array

    @staticmethod
    def of(weights: SampledWeights, size: int, floor: float) -> Design:
        """Return the design of a group of about ``size`` weights.

        Half of the group is shared out in proportion to the strata's shares, half evenly, so that tensors of unusual
        magnitudes are not left out. Strata next to empty in every tensor join the one below.

        `floor`: magnitude (weight) below which all are one stratum.
        """
        pooled = weights.counts.sum(axis=0)
        mantissa, exponent = np.frexp(np.maximum(weights.magnitudes, floor))
        cell = (exponent * _CELLS + np.floor((2 * mantissa - 1) * _CELLS)).astype(np.int64)
        sizes = weights.counts.sum(axis=1)
        begins = np.flatnonzero(np.diff(cell, prepend=cell[0] - 1))
        per_tensor = np.add.reduceat(weights.counts, begins, axis=1) / sizes[:, None]
        share = np.add.reduceat(pooled, begins) / pooled.sum()
        kept = (share > 1e-6) | (per_tensor.max(axis=0) > 1e-3)
        kept[0] = True
        edges = np.append(begins[kept], len(pooled))
        tensor_shares = np.add.reduceat(weights.counts, edges[:-1], axis=1) / sizes[:, None]
        shares = np.add.reduceat(pooled, edges[:-1]) / pooled.sum()
        taken = np.maximum(4, np.round(size * (0.5 * shares + 0.5 / len(shares)))).astype(np.int64)
        return Design(
            names=weights.names,
            sizes=np.round(sizes).astype(np.int64),
            shares=shares,
            tensor_shares=tensor_shares,
            taken=taken,
            edges=edges,
            magnitudes=weights.magnitudes,
            cumulative=np.concatenate([[0.0], np.cumsum(pooled)]),
        )

    @property
    def size(self) -> int:
        """Number of weights in a group."""
        return int(self.taken.sum())

    def draw(self, rng: np.random.Generator) -> Array:
        """Return one group's magnitudes, stratum by stratum: a systematic sample with a random start."""
        low, high = self.cumulative[self.edges[:-1]], self.cumulative[self.edges[1:]]
        places = [
            a + (b - a) * (np.arange(n) + rng.random()) / n for a, b, n in zip(low, high, self.taken, strict=True)
        ]
        index = np.searchsorted(self.cumulative, np.concatenate(places), side="right") - 1
        return np.asarray(self.magnitudes[np.minimum(index, len(self.magnitudes) - 1)])

    def means(self, values: Array) -> Array:
        """Return the mean of values over each stratum.

        `values`: of a group's weights, in the order of `draw`, shape (size, k).
        """
        begins = np.concatenate([[0], np.cumsum(self.taken)[:-1]])
        return np.asarray(np.add.reduceat(values, begins, axis=0) / self.taken[:, None])
