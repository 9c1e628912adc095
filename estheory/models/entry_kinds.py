"""What each tensor of a checkpoint is: a weight, a second copy of one, a buffer, or part of a quantised weight.

The values decide where they can: a causal mask is constant above its diagonal, a table of positions counts up, rotary
frequencies fall as a geometric series, a tied output head equals the embedding. A name decides what the values cannot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

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
    r"|running_mean|running_var|e_score_correction_bias|(?:rotary_emb|rotary_pos_emb)\..*)$"
)
"""Floating-point tensors that no optimiser moves, and whose values need not show it."""
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

    Blocks are not looked at: two of them may start as copies and still be trained apart.
    """
    groups: dict[bytes, list[str]] = {}
    for name, entry in weights.items():
        if layer_of(name) is None and len(entry.shape) == 2 and min(entry.shape) > 1:
            ends = np.concatenate([read_entries(entry, *ends) for ends in _ends(entry.size)])
            if ends.min() < ends.max():
                groups.setdefault(np.array(entry.shape).tobytes() + ends.tobytes(), []).append(name)
    copies: dict[str, str] = {}
    for names in groups.values():
        kept = next((name for name in names if is_embedding(name)), names[0])
        copies |= {name: kept for name in names if name != kept and _equal(weights[name], weights[kept])}
    return copies


def is_embedding(name: str) -> bool:
    """Whether a name is that of a vocabulary's embedding."""
    return bool(layer_of(name) is None and _EMBEDDING.search(name))


def tied_entry(name: str, entry: Source, kept: str) -> LeftOut:
    """Return the row of a tensor that repeats another."""
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
    if _is_mask(entry):
        return "a causal mask: constant above its diagonal"
    if not 4 <= entry.size <= 1 << 22 or max(entry.shape) < entry.size:
        return ""
    ends = np.concatenate([read_entries(entry, 0, 4), read_entries(entry, entry.size - 1, entry.size)])
    if (ends == [0, 1, 2, 3, entry.size - 1]).all():
        return "a table of positions: it counts up from 0"
    return ""


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


def _ends(size: int) -> Iterable[tuple[int, int]]:
    return [(0, min(size, 64)), (max(0, size - 64), size)]


def _equal(one: Source, other: Source) -> bool:
    pieces = zip(one.pieces(0, one.size, 1 << 20), other.pieces(0, other.size, 1 << 20), strict=True)
    return all(np.array_equal(a, b) for a, b in pieces)
