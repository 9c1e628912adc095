"""The tensors over a vocabulary in several checkpoints: heads tied in one and trained apart in another, padded rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from estheory.models.entry_kinds import Kind, LeftOut, is_embedding
from estheory.models.fused import Rows
from estheory.models.headers import Listing
from estheory.models.sources import Source
from estheory.tensor_names import layer_of

_HEAD = "lm_head.weight"


def untied(listings: Sequence[Listing], declared: Sequence[bool | None], repeat: bool) -> list[Listing]:
    """Give every checkpoint a head of its own where one has it; a tied head is then its embedding.

    `listings`: the base first, all under its names.
    `declared`: whether each config.json ties the head; decides only where a head is in no file of that checkpoint.
    `repeat`: count a head that is tied everywhere a second time, as a state dict lists it.
    """
    base = listings[0]
    heads = {name for one in listings for name in one.weights if any(name not in other.weights for other in listings)}
    heads = {name for name in heads if layer_of(name) is None}
    result = []
    for one, word in zip(listings, declared, strict=True):
        added: dict[str, str] = {}
        for name in sorted(heads - one.weights.keys()):
            shapes = {other.weights[name].shape for other in listings if name in other.weights}
            if name in one.copies:
                added[name] = one.copies[name]
            elif (word if one is not base and name in base.weights else word is not False) and not is_embedding(name):
                kept = _embedding(one)
                if kept and one.weights[kept].shape[1:] in {shape[1:] for shape in shapes}:
                    added[name] = kept
        result.append(_with_heads(one, added, "is trained apart in another checkpoint; here it is"))
    if not repeat:
        return result
    copies = {copy: kept for one in result for copy, kept in one.copies.items() if copy not in base.weights}
    if not copies and not any(_is_head(base, name) for name in result[0].weights):
        copies = {_HEAD: _embedding(base)} if declared[0] is not False else {}
    return [_with_heads(one, {c: k for c, k in copies.items() if k in one.weights}, "counts again:") for one in result]


def common_rows(listings: Sequence[Listing]) -> list[Listing]:
    """Cut embeddings and heads to the rows that all checkpoints have: a padded or extended vocabulary has more."""
    cut: dict[str, int] = {}
    for name in listings[0].weights:
        shapes = [one.weights[name].shape for one in listings if name in one.weights]
        widths = {shape[1:] for shape in shapes}
        over_words = is_embedding(name) or (layer_of(name) is None and "head" in name) or name.startswith("output.")
        if over_words and len({len(s) for s in shapes}) == 1 and len(widths) == 1 and len(set(shapes)) > 1:
            cut[name] = min(shape[0] for shape in shapes)
    return [_cut(one, cut) for one in listings]


def _cut(one: Listing, cut: dict[str, int]) -> Listing:
    weights, left_out = dict(one.weights), list(one.left_out)
    for name, rows in cut.items():
        entry = weights.get(name)
        if entry is not None and 0 < rows < entry.shape[0]:
            width = math.prod(entry.shape[1:])
            why = f"rows {rows} to {entry.shape[0] - 1} of a vocabulary that is smaller in another checkpoint"
            size = (entry.shape[0] - rows) * width
            left_out.append(LeftOut(name=name, kind=Kind.ROWS, why=why, entries=size, file=entry.file))
            weights[name] = Rows(whole=entry, first=0, shape=(rows, *entry.shape[1:]))
    return replace(one, weights=weights, left_out=tuple(left_out))


def _with_heads(one: Listing, added: dict[str, str], why: str) -> Listing:
    """Return a listing in which some heads are weights, each the embedding that it is tied to."""
    if not added:
        return one
    heads: dict[str, Source] = {name: one.weights[kept] for name, kept in added.items()}
    rest = tuple(row for row in one.left_out if row.kind is not Kind.TIED or row.name not in added)
    notes = tuple(f"{name} {why} {kept}" for name, kept in added.items())
    return replace(one, weights={**one.weights, **heads}, left_out=rest, notes=(*one.notes, *notes))


def _embedding(one: Listing) -> str:
    """Return the name of the one embedding of a model; empty if that is not clear."""
    found = [name for name, entry in one.weights.items() if is_embedding(name) and len(entry.shape) == 2]
    return found[0] if len(found) == 1 else ""


def _is_head(one: Listing, name: str) -> bool:
    """Whether a tensor has the shape of an embedding and is none."""
    kept = _embedding(one)
    same = bool(kept) and one.weights[name].shape == one.weights[kept].shape
    return same and not is_embedding(name) and layer_of(name) is None
