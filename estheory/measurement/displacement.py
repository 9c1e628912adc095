"""How far and in which direction checkpoints moved from a base, in one streaming pass over their files.

Only the files are read, never a model built. Memory is bounded by one chunk of every checkpoint; differences
and sums are taken in float64. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estheory.errors import ConfigError
from estheory.models.checkpoints import open_comparable
from estheory.quantities import Measurement, Quantity

CHUNK = 1 << 16
"""Entries of each checkpoint held at a time: 0.5 MiB in float64, which stays in cache."""


@dataclass(frozen=True, kw_only=True)
class Displacements:
    """Inner products of the displacements of K checkpoints from one base.

    Attributes
    ----------
    labels, steps
        Name and training step (None if unknown) of each checkpoint, length K.
    tensors
        Number of entries by tensor name.
    gram : ndarray, shape (tensors, K, K)
        Inner products of the displacements, tensor by tensor (weight^2).
    """

    labels: tuple[str, ...]
    steps: tuple[int | None, ...]
    tensors: Mapping[str, int]
    gram: NDArray[np.float64]

    @property
    def total_gram(self) -> NDArray[np.float64]:
        """Inner products over all tensors, shape (K, K)."""
        return np.asarray(self.gram.sum(axis=0))

    @property
    def norms(self) -> NDArray[np.float64]:
        """||delta|| of each checkpoint over all tensors, shape (K,)."""
        return np.sqrt(np.diagonal(self.total_gram))

    @property
    def tensor_norms(self) -> NDArray[np.float64]:
        """||delta|| tensor by tensor, shape (K, tensors)."""
        return np.sqrt(np.diagonal(self.gram, axis1=1, axis2=2)).T

    @property
    def cosines(self) -> NDArray[np.float64]:
        """Cosines between displacements, shape (K, K); NaN beside a checkpoint that did not move."""
        norms = self.norms
        with np.errstate(invalid="ignore"):
            return self.total_gram / np.outer(norms, norms)

    def effective_dimension_ratios(self, variances: Sequence[float]) -> NDArray[np.float64]:
        """||delta||^2 / (v n) tensor by tensor; a pure walk gives 1 +- sqrt(2/n).

        Parameters
        ----------
        variances
            v of each checkpoint, length K: alpha^2 T / N, or (alpha^2 / N^2) times the sum of the squared
            logged coefficients (weight^2).

        Returns
        -------
        ndarray, shape (K, tensors)
            NaN for a tensor without entries.

        Raises
        ------
        ConfigError
            If there is not one positive variance for each checkpoint.
        """
        if len(variances) != len(self.labels) or not all(v > 0 and math.isfinite(v) for v in variances):
            raise ConfigError("each checkpoint needs one positive walk variance", "give alpha^2 T / N of each")
        sizes = np.array(list(self.tensors.values()), dtype=np.float64)
        with np.errstate(invalid="ignore"):
            return np.asarray(self.tensor_norms**2 / np.outer(variances, sizes))

    def measurements(self) -> list[Measurement]:
        """Norms (total, then tensor by tensor) of each checkpoint, then the cosine of each pair."""
        source = "checkpoints"
        rows = []
        for k, (label, step) in enumerate(zip(self.labels, self.steps, strict=True)):
            places = [f"total:{label}", *(f"tensor:{label}:{name}" for name in self.tensors)]
            values = [self.norms[k], *self.tensor_norms[k]]
            rows += [
                Measurement(
                    quantity=Quantity.DISPLACEMENT_NORM,
                    value=float(value),
                    step=step,
                    where=place,
                    source=source,
                )
                for place, value in zip(places, values, strict=True)
            ]
        cosines = self.cosines
        for a, b in combinations(range(len(self.labels)), 2):
            rows.append(
                Measurement(
                    quantity=Quantity.DISPLACEMENT_COSINE,
                    value=float(cosines[a, b]),
                    step=self.steps[a] if self.steps[a] == self.steps[b] else None,
                    where=f"{self.labels[a]}|{self.labels[b]}",
                    source=source,
                )
            )
        return rows


def measure_displacements(
    base: str | Path,
    checkpoints: Sequence[str | Path] | Mapping[str, str | Path],
    *,
    names: Collection[str] | None = None,
    chunk: int = CHUNK,
) -> Displacements:
    """Compare checkpoints with a base, tensor by tensor, in one pass.

    Parameters
    ----------
    base
        A ``.safetensors`` file or Hugging Face folder.
    checkpoints
        Paths, or paths by label.
    names
        The tensors to compare; None: all, and then every checkpoint must hold exactly the base's tensors.
    chunk
        Entries of each checkpoint held at a time.

    Raises
    ------
    ConfigError
        If there is no checkpoint, or two have the same label.
    DataError
        If a file is damaged, holds NaN or infinite entries, or does not match the base.
    """
    labelled = dict(checkpoints) if isinstance(checkpoints, Mapping) else {str(p): p for p in checkpoints}
    if not labelled or len(labelled) != len(checkpoints):
        raise ConfigError("checkpoints are missing or given twice", "give one or more different checkpoints")
    reference, others = open_comparable(base, labelled, names=None if names is None else frozenset(names))
    tensors = {name: entry.size for name, entry in reference.tensors.items()}
    gram = np.zeros((len(tensors), len(others), len(others)))
    buffer = np.empty((len(others), chunk))
    for row, (name, size) in enumerate(tensors.items()):
        for start in range(0, size, chunk):
            stop = min(start + chunk, size)
            origin = reference.read(name, start, stop)
            deltas = buffer[:, : stop - start]
            for k, other in enumerate(others):
                np.subtract(other.read(name, start, stop), origin, out=deltas[k])
            gram[row] += deltas @ deltas.T
    return Displacements(
        labels=tuple(labelled), steps=tuple(other.step for other in others), tensors=tensors, gram=gram
    )
