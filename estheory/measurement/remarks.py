"""What to say beside measured displacements: what no norm counts, changed names, what storage alone moved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from estheory.measurement.displacement import Displacements
from estheory.models.entry_kinds import Kind, LeftOut


def remarks(measured: Displacements) -> list[str]:
    """Return one sentence for each kind of thing that was left out, renamed or rounded."""
    return [*left_out_sentences(measured.left_out), *_renamed(measured), *_rounded(measured)]


def left_out_rows(left_out: Iterable[tuple[str, LeftOut]]) -> list[dict[str, Any]]:
    """Return what no norm counts as JSON objects, each with the label of its checkpoint."""
    return [
        {"checkpoint": label, "name": row.name, "kind": str(row.kind), "entries": row.entries, "why": row.why}
        for label, row in left_out
    ]


def renamed_rows(measured: Displacements) -> list[dict[str, Any]]:
    """Return which parts of names were replaced as JSON objects."""
    return [{"checkpoint": label, **asdict(row)} for label, row in measured.renamed]


def left_out_sentences(left_out: Iterable[tuple[str, LeftOut]]) -> Iterator[str]:
    """Yield one sentence for each kind of thing in a checkpoint that no norm counts."""
    groups: dict[tuple[str, Kind, str], list[LeftOut]] = {}
    for label, row in left_out:
        groups.setdefault((label, row.kind, row.why), []).append(row)
    for (label, kind, why), rows in groups.items():
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        entries = sum(row.entries for row in rows)
        size = f", {entries:,} entries" if entries else ""
        yield f"Left out of {label}: {rows[0].name}{more} ({kind}{size}): {why}."


def _renamed(measured: Displacements) -> Iterator[str]:
    for label, row in measured.renamed:
        new = f"reads {row.after!r} there" if row.after else "is taken off"
        old = f"the prefix {row.before!r}" if row.before else "a missing prefix"
        yield f"Names of {label}: {old} {new} ({row.tensors} tensors)."


def _rounded(measured: Displacements) -> Iterator[str]:
    for label, square in zip(measured.labels, measured.storage.sum(axis=0).tolist(), strict=True):
        if square > 0:
            yield (
                f"{label} stores weights more coarsely than the base: it is measured from the base as rounded to its "
                f"format, and that rounding alone moves {math.sqrt(square):.4g}."
            )
