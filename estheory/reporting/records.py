"""Results as flat rows, for CSV files and data frames: the main list of a result's JSON document."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Row = dict[str, Any]


def records(document: Mapping[str, Any]) -> list[Row]:
    """Return a result's rows, whose columns are its JSON keys: ``interval`` becomes ``interval_low`` and ``_high``.

    `document`: as the command prints it with ``--json``.
    """
    return [_flat(row) for row in _ROWS[document["schema"]](document)]


def csv_text(document: Mapping[str, Any]) -> str:
    """Return a result's rows as CSV."""
    rows = records(document)
    columns = dict.fromkeys(name for row in rows for name in row)
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def _predictions(document: Mapping[str, Any]) -> Iterator[Row]:
    """Yield each prediction after its configuration."""
    for one in document.get("rows", [document]):
        yield from ({f"config_{name}": value for name, value in one["config"].items()} | p for p in one["predictions"])


def _lines(document: Mapping[str, Any]) -> Iterator[Row]:
    """Yield each point of each line between two solutions."""
    for curve in document["lines"]:
        line = curve["line"]
        for values in zip(*line.values(), strict=True):
            about = {name: curve[name] for name in ("score", "start", "end")}
            yield about | dict(zip(line, values, strict=True))


def _stages(document: Mapping[str, Any]) -> Iterator[Row]:
    """Yield accuracy and KL of each task before the first stage of each sequence and after each."""
    for sequence in document["sequences"]:
        about = {name: sequence[name] for name in ("method", "seed")}
        for stage, values in enumerate(zip(sequence["accuracy"], sequence["kl"], strict=True)):
            after = document["tasks"][stage - 1] if stage else "base"
            for task, accuracy, kl in zip(document["tasks"], *values, strict=True):
                yield about | {"stage": stage, "after": after, "task": task, "accuracy": accuracy, "kl": kl}


_ROWS: dict[str, Any] = {
    "estheory/prediction/1": _predictions,
    "estheory/plan/1": lambda d: d["front"],
    "estheory/validation/1": lambda d: d["verdicts"],
    "estheory/measurement/1": lambda d: d["measurements"],
    "estheory/pilot/1": lambda d: d["estimates"] + d["predictions"],
    "estheory/forecast/1": lambda d: d["ledger"],
    "estheory/probe/1": lambda d: d["probes"],
    "estheory/lines/1": _lines,
    "estheory/models/1": lambda d: d["models"],
    "estheory/check/1": lambda d: d["checks"],
    "estheory/derivations/1": lambda d: d["derivations"],
    "estheory/demo/1": lambda d: d["validation"]["verdicts"],
    "estheory/sequence/1": _stages,
}
"""By schema, what yields the rows of a document."""


def _flat(row: Mapping[str, Any]) -> Row:
    flat: Row = {}
    for name, value in row.items():
        if name == "interval":
            flat |= dict(zip(("interval_low", "interval_high"), value, strict=True))
        elif isinstance(value, Mapping):
            flat |= {f"{name}_{key}": part for key, part in _flat(value).items()}
        elif not _is_list(value):
            flat[name] = value
        elif all(isinstance(item, str) for item in value):
            flat[name] = "; ".join(value)
    return flat


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)
