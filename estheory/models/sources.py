"""Where the values of one tensor come from, and how they are read in pieces. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


class Source(Protocol):
    """Where the values of one tensor come from; ``dtype`` is a safetensors code, ``file`` is for messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> str:
        """Its element type."""

    @property
    def file(self) -> Path:
        """The file it comes from."""

    @property
    def size(self) -> int:
        """Number of entries."""

    def pieces(self, start: int, stop: int, length: int) -> Iterator[NDArray[np.float64]]:
        """Yield entries in row-major order, widened exactly to float64.

        The reader may change a piece, and loses it when it asks for the next one: they share their memory.

        `start`, `stop`: the first entry, and the one after the last.
        """


def read_entries(source: Source, start: int, stop: int) -> NDArray[np.float64]:
    """Read entries of a tensor at once.

    `start`, `stop`: the first entry in row-major order, and the one after the last.
    """
    return next(source.pieces(start, stop, stop - start)) if stop > start else np.empty(0)


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """Where a tensor lies.

    Attributes
    ----------
    name, shape
        Of the tensor.
    dtype
        A safetensors code.
    file, offset
        Its file, and its first byte there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    offset: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def pieces(self, start: int, stop: int, length: int) -> Iterator[NDArray[np.float64]]:
        """Yield entries in row-major order, widened exactly to float64.

        Parameters and result as of :meth:`estheory.models.sources.Source.pieces`.
        """
        stored = np.empty(min(length, stop - start), dtype=_STORED[self.dtype])
        float32 = np.empty(len(stored) if self.dtype == "BF16" else 0, dtype="<u4")
        widened = np.empty(len(stored))
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.offset + start * stored.itemsize)
            for first in range(start, stop, length):
                count = min(length, stop - first)
                if _filled(stream, stored[:count]) < stored[:count].nbytes:
                    raise DataError(f"{self.file} got shorter while it was read", "copy or download it again")
                if self.dtype == "BF16":  # the upper half of a float32
                    np.copyto(float32[:count], stored[:count])
                    np.left_shift(float32[:count], np.uint32(16), out=float32[:count])
                    np.copyto(widened[:count], float32[:count].view("<f4"))
                else:
                    np.copyto(widened[:count], stored[:count])
                yield widened[:count]


def _filled(stream: RawIOBase, array: NDArray[Any]) -> int:
    """Fill an array from a file and return the number of bytes there were; one read may give less than asked for."""
    view, done = memoryview(array.view(np.uint8).data), 0
    while done < len(view) and (got := stream.readinto(view[done:])):
        done += got
    return done
