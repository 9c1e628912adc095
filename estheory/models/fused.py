"""Projections that one checkpoint stores fused (as vLLM does) and another apart (as transformers does)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estheory.models.sources import Source

PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
_FUSED = re.compile(r"^(.*\.)(qkv_proj|gate_up_proj)(\..*)$")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Some consecutive rows of a tensor.

    Attributes
    ----------
    whole
        The tensor.
    first
        Row-major index of their first entry.
    shape
        Of the rows.
    """

    whole: Source
    first: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The element type of the whole."""
        return self.whole.dtype

    @property
    def file(self) -> Path:
        """The file of the whole."""
        return self.whole.file

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def pieces(self, start: int, stop: int, length: int) -> Iterator[NDArray[np.float64]]:
        """Yield entries of the rows.

        Parameters and result as of :meth:`estheory.models.sources.Source.pieces`.
        """
        return self.whole.pieces(self.first + start, self.first + stop, length)


def split_fused(checkpoints: Sequence[Mapping[str, Source]]) -> list[dict[str, Source]]:
    """Split fused projections where another of the checkpoints has them apart, by that one's shapes.

    A tensor that does not consist of those parts stays as it is.
    """
    apart = {name: entry.shape for tensors in checkpoints for name, entry in tensors.items()}
    return [_split(tensors, apart) for tensors in checkpoints]


def _split(tensors: Mapping[str, Source], apart: Mapping[str, tuple[int, ...]]) -> dict[str, Source]:
    result: dict[str, Source] = {}
    for name, entry in tensors.items():
        found = _FUSED.match(name)
        parts = [f"{found[1]}{part}{found[3]}" for part in PARTS[found[2]]] if found else []
        shapes = [apart[part] for part in parts if part in apart]
        if not found or len(shapes) < len(parts) or not _stack(shapes, entry.shape):
            result[name] = entry
            continue
        first = 0
        for part, shape in zip(parts, shapes, strict=True):
            result[part] = Rows(whole=entry, first=first, shape=shape)
            first += math.prod(shape)
    return result


def _stack(shapes: Sequence[tuple[int, ...]], whole: tuple[int, ...]) -> bool:
    """Whether tensors of these shapes, put below one another, have the shape of the whole."""
    return sum(shape[0] for shape in shapes) == whole[0] and all(shape[1:] == whole[1:] for shape in shapes)
