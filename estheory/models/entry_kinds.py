"""What each tensor of a checkpoint is: a weight, a second copy of one, a buffer, or part of a quantised weight.

The values decide where they can: a causal mask is constant above its diagonal, a table of positions counts up, rotary
frequencies fall as a geometric series, a tied output head equals the embedding. A name decides what the values cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estheory.models.sources import ITEM_BYTES, Source, read_entries
from estheory.tensor_names import layer_of


class Kind(StrEnum):
    """What a tensor, or a file, that is left out of a measurement is."""

    TIED = "tied"
    BUFFER = "buffer"
    QUANTISED = "quantised"
    OTHER = "other"
    ROWS = "rows"
    FILE = "file"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something in a checkpoint that no norm counts.

    Attributes
    ----------
    name
        Of the tensor or file.
    kind, why
        What it is, and how that was seen.
    entries
        How many; 0 for a file.
    file
        Where it stands.
    """

    name: str
    kind: Kind
    why: str
    entries: int
    file: Path


_BUFFERS = re.compile(
    r"(?:^|\.)(?:inv_freq|original_inv_freq|cos_cached|sin_cached|freqs_cos|freqs_sin|freqs_cis|masked_bias|alibi"
    r"|(?:alibi_)?slopes|running_mean|running_var|e_score_correction_bias|tokens_per_expert|expert_bias|embed_scale"
    r"|normalizer|(?:rotary_emb|rotary_pos_emb)\..*|_extra_state)$"
)
"""Floating-point tensors that no optimiser moves, and whose values need not show it."""
_SCALES = re.compile(r"(?:^|\.)(?:[qkv]|prob)_scale$")
_PARTS = re.compile(
    r"(?:^|[._])(?:qweight|qzeros|g_idx|scales|zeros|SCB|weight_format|weight_packed|weight_shape|weight_zero_point"
    r"|weight_scale\w*|input_scale|output_scale|[qkv]+_scale|absmax|nested_absmax|quant_map|nested_quant_map|blocks"
    r"|quant_state\..*)$"
)
"""What quantised weights consist of in GPTQ, AWQ, bitsandbytes, compressed-tensors, FP8 and MXFP4 files."""
_INTEGERS = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"}
_EMBEDDING = re.compile(r"^(?!.*(?:embed_out|unembed|lm_head|pos)).*(?:emb|wte|shared|tok|word)")


def left_out_of(entries: Mapping[str, Source]) -> list[LeftOut]:
    """List the tensors of a checkpoint that are no weights of their own."""
    packed = {n for n, e in entries.items() if e.dtype not in ITEM_BYTES and _is_packed(n, e)}
    found = []
    for name, entry in entries.items():
        if name in packed or (packed and _PARTS.search(name)):
            found.append(_left(name, entry, Kind.QUANTISED, f"part of a quantised weight ({entry.dtype})"))
        elif entry.dtype in ITEM_BYTES:
            if why := _buffer(name, entry):
                found.append(_left(name, entry, Kind.BUFFER, why))
        elif entry.dtype in _INTEGERS:
            found.append(_left(name, entry, Kind.BUFFER, f"a table of {entry.dtype}"))
        else:
            found.append(_left(name, entry, Kind.OTHER, f"elements of type {entry.dtype}"))
    return found


def tied_copies(weights: Mapping[str, Source]) -> dict[str, str]:
    """Return which matrices outside the transformer blocks repeat another one value by value, by copy.

    One of them may have more rows, as a padded vocabulary does. Blocks are not looked at: two of them may start as
    copies and still be trained apart.
    """
    groups: dict[tuple[int, bytes], list[str]] = {}
    for name, entry in weights.items():
        if layer_of(name) is None and len(entry.shape) == 2 and min(entry.shape) > 1:
            first = read_entries(entry, 0, min(entry.size, 64))
            if first.min() < first.max():
                groups.setdefault((entry.shape[1], first.tobytes()), []).append(name)
    copies: dict[str, str] = {}
    for names in groups.values():
        kept = next((name for name in names if is_embedding(name)), names[0])
        copies |= {name: kept for name in names if name != kept and _equal(weights[name], weights[kept])}
    return copies


def is_embedding(name: str) -> bool:
    """Whether a name is that of a vocabulary's embedding."""
    return bool(layer_of(name) is None and _EMBEDDING.search(name))


def tied_entry(name: str, entry: Source, kept: str) -> LeftOut:
    """Return the row of a tensor that repeats another, as far as both reach."""
    return _left(name, entry, Kind.TIED, f"equal to {kept}, which is counted")


def _left(name: str, entry: Source, kind: Kind, why: str) -> LeftOut:
    return LeftOut(name=name, kind=kind, why=why, entries=entry.size, file=entry.file)


def _is_packed(name: str, entry: Source) -> bool:
    """Whether a tensor that holds no plain floats holds the bits of weights."""
    weight = name == "weight" or name.endswith(".weight")
    return bool(_PARTS.search(name)) or (weight and entry.dtype != "BOOL") or entry.dtype.startswith(("F8", "F4", "F6"))


def _buffer(name: str, entry: Source) -> str:
    """Return what a floating-point tensor is if it is no weight; empty for a weight."""
    if _BUFFERS.search(name):
        return "a buffer by its name"
    if entry.size == 1 and _SCALES.search(name):
        return "a scale of a quantised cache by its name"
    if _is_mask(entry):
        return "a causal mask: constant above its diagonal"
    if _is_waves(entry):
        return "a table of sines and cosines of positions"
    if not 4 <= entry.size <= 1 << 22 or max(entry.shape) < entry.size:
        return ""
    ends = np.concatenate([read_entries(entry, 0, 4), read_entries(entry, entry.size - 1, entry.size)])
    if (ends == [0, 1, 2, 3, entry.size - 1]).all():
        return "a table of positions: it counts up from 0"
    if entry.size <= _MOST_FREQUENCIES and _falls_geometrically(read_entries(entry, 0, entry.size), entry):
        return "a table of frequencies: it falls as a geometric series"
    return ""


_MOST_FREQUENCIES = 4096


def _tolerance(entry: Source) -> float:
    """Return the relative error that storage leaves in an entry that was computed in float32."""
    return 1e-5 if entry.dtype in ("F64", "F32") else 1e-2


def _falls_geometrically(values: NDArray[np.float64], entry: Source) -> bool:
    """Whether each entry is the one before it times one factor below 0.99."""
    if not (values > 0).all():
        return False
    ratios = values[1:] / values[:-1]
    return bool(ratios[0] < 0.99 and np.ptp(ratios) <= 4 * _tolerance(entry) * ratios[0])


def _is_waves(entry: Source) -> bool:
    """Whether a matrix holds sines and cosines of the same angles, side by side or in two halves."""
    if len(entry.shape) < 2 or max(entry.shape[:-2], default=1) > 1:
        return False
    rows, width = entry.shape[-2:]
    if rows < 4 or width < 8 or width % 2:
        return False
    chosen = [read_entries(entry, row * width, (row + 1) * width) for row in (rows // 3, rows // 2, rows - 1)]
    squares = np.square(chosen)
    halves = squares[:, : width // 2] + squares[:, width // 2 :]
    turns = squares[:, 0::2] + squares[:, 1::2]
    return any(bool((np.abs(sums - 1) <= 2 * _tolerance(entry)).all()) for sums in (halves, turns))


def _is_mask(entry: Source) -> bool:
    """Whether a square matrix has one value above its diagonal, and that value or a single other one on and below."""
    if len(entry.shape) < 2 or entry.shape[-1] != entry.shape[-2] or max(entry.shape[:-2], default=1) > 1:
        return False
    size = entry.shape[-1]
    if size < 4:
        return False
    first = read_entries(entry, 0, size)
    inside, outside = first[0], first[1]
    if inside == outside or not (first[1:] == outside).all():
        return False
    for row in {1, size // 3, size // 2, size - 1}:
        values = read_entries(entry, row * size, (row + 1) * size)
        seen = values[: row + 1]
        if values[row] != inside or not (values[row + 1 :] == outside).all():
            return False
        if not ((seen == inside) | (seen == outside)).all():
            return False
    return True


def _equal(one: Source, other: Source) -> bool:
    size = min(one.size, other.size)
    pieces = zip(one.pieces(0, size, 1 << 20), other.pieces(0, size, 1 << 20), strict=True)
    return all(np.array_equal(a, b) for a, b in pieces)
