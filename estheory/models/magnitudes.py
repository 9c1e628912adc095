"""The magnitudes of a checkpoint's weights as a 16-bit format stores them: all rounding needs. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.floats import FORMATS, from_magnitude_codes, magnitude_codes
from estheory.models.checkpoints import open_checkpoint

_CHUNK = 1 << 22
_CODES = 1 << 15


def magnitude_counts(
    path: str | Path, dtype: str, names: Collection[str] | None = None
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Count the magnitudes |w| of a checkpoint, tensor by tensor. Exact: a 16-bit format has 32768 of them.

    `path`: a ``.safetensors`` file or a model folder; read in pieces.
    `dtype`: ``bfloat16`` or ``float16``: how the run stores the weights.
    """
    to = FORMATS[dtype]
    checkpoint = open_checkpoint(path)
    chosen = tuple(name for name in checkpoint.tensors if (names is None or name in names))
    if names is not None and (missing := sorted(set(names) - set(chosen))):
        raise DataError(f"{path} has no tensor {missing[0]}", "give the weights of the model that is trained")
    chosen = tuple(name for name in chosen if checkpoint.tensors[name].size)
    table = np.zeros((len(chosen), _CODES), dtype=np.int64)
    for row, name in zip(table, chosen, strict=True):
        for begin in range(0, checkpoint.tensors[name].size, _CHUNK):
            piece = checkpoint.read(name, begin, begin + _CHUNK)
            with np.errstate(over="ignore"):
                row += np.bincount(magnitude_codes(piece, to), minlength=_CODES)
    occupied = np.flatnonzero(table.any(axis=0))
    magnitudes = from_magnitude_codes(occupied, to).astype(np.float64)
    if not np.isfinite(magnitudes[-1]):
        raise DataError(f"{path} holds weights beyond the range of {dtype}", "use bfloat16")
    return chosen, magnitudes, table[:, occupied].astype(np.float64)
