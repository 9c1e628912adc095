"""Measurements as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from estheory.measurement.displacement import Displacements
from estheory.measurement.remarks import left_out_rows, renamed_rows
from estheory.quantities import Measurement, Quantity
from estheory.reporting.text.forecast import unit
from estheory.reporting.text.tables import Sheet, Table, short, short_names


def measurement_json(measurement: Measurement) -> dict[str, Any]:
    """Return one measurement as a JSON object.

    `measurement`: its value and standard error are in the unit of its quantity.
    """
    return {
        "quantity": str(measurement.quantity),
        "step": measurement.step,
        "value": measurement.value,
        "stderr": measurement.stderr,
        "unit": measurement.quantity.unit,
        "where": measurement.where,
    }


def measurement_sheet(measurement: Measurement) -> Sheet:
    """Return one measurement as a row, with where it comes from."""
    table = Table("quantity", ">step", ">value", ">standard error", "unit", "where")
    table.add_row(
        str(measurement.quantity),
        str(measurement.step or ""),
        short(measurement.value, 6),
        short(measurement.stderr, 2) if measurement.stderr else "",
        unit(measurement),
        measurement.where,
    )
    return Sheet(table, *([f"Source: {measurement.source}."] if measurement.source else []))


def displacements_json(
    measured: Displacements, measurements: Sequence[Measurement], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return what was measured of checkpoints as one JSON document."""
    return {
        "schema": "estheory/measurement/1",
        "measurements": [measurement_json(m) for m in measurements],
        "warnings": list(warnings),
        "left_out": left_out_rows(measured.left_out),
        "renamed": renamed_rows(measured),
    }


COLUMNS = {
    Quantity.DISPLACEMENT_NORM: "norm",
    Quantity.EFFECTIVE_DIMENSION_RATIO: "ratio",
    Quantity.UNCHANGED_FRACTION: "unchanged",
    Quantity.DISPLACEMENT_KURTOSIS: "kurtosis",
    Quantity.LARGEST_CHANGE: "largest",
}
"""Quantities of a whole checkpoint, and what heads their column."""

MOST_GROUPS, MOST_CHECKPOINTS, MOST_PAIRS = 16, 4, 15
"""More than this are left to the JSON."""


def measurements_sheet(
    measurements: Sequence[Measurement], labels: Sequence[str], size: int, remarks: Sequence[str] = ()
) -> Sheet:
    """Return a row a checkpoint, the cosines between them, norms by module and layer where few, and a sentence.

    `measurements`: what was measured of checkpoints, one by one and pair by pair.
    `remarks`: sentences on how it was measured.
    """
    value = {(m.quantity, m.where): m.value for m in measurements}
    steps = {m.where: m.step for m in measurements}
    names = short_names(labels)
    totals = [f"total:{label}" for label in labels]
    columns = {head: [short(value.get((q, place), math.nan), 5) for place in totals] for q, head in COLUMNS.items()}
    if any(steps[place] and name != f"step {steps[place]}" for place, name in zip(totals, names, strict=True)):
        columns = {"step": [str(steps[place] or "") for place in totals], **columns}
    columns = {head: cells for head, cells in columns.items() if set(cells) != {"-"}}
    table = Table("where", *(f">{head}" for head in columns))
    for cells in zip(names, *columns.values(), strict=True):
        table.add_row(*cells)
    parts: list[Table | str] = [table]
    cosines = {
        f"{names[a]} and {names[b]}": value[Quantity.DISPLACEMENT_COSINE, f"{labels[a]}|{labels[b]}"]
        for a, b in combinations(range(len(labels)), 2)
    }
    if 0 < len(cosines) <= MOST_PAIRS:
        between = Table("where", ">cosine")
        for pair, cosine in cosines.items():
            between.add_row(pair, short(cosine, 5))
        parts.append(between)
    if len(labels) <= MOST_CHECKPOINTS and (groups := _by_group(value, labels, names)).rows:
        parts.append(groups)
    norms = [value[Quantity.DISPLACEMENT_NORM, place] for place in totals]
    sentences = [*_sentences(dict(zip(names, norms, strict=True)), list(cosines.values()), size)]
    exponents = [m.value for m in measurements if m.quantity is Quantity.DISPLACEMENT_EXPONENT]
    sentences += [f"The squared norm grows as T^{x:.3g} (1: a walk, 2: straight motion)." for x in exponents]
    return Sheet(*parts, " ".join(sentences), *remarks, "Every quantity by module, layer and tensor: --json.")


def _by_group(value: Mapping[tuple[Quantity, str], float], labels: Sequence[str], names: Sequence[str]) -> Table:
    """Return norms by type of module and by layer, without the level of which there are too many."""
    table = Table("where", *(f">norm, {name}" for name in names))
    norm = Quantity.DISPLACEMENT_NORM
    for level, shown in (("module", ""), ("layer", "layer ")):
        start = f"{level}:{labels[0]}:"
        groups = [
            where.removeprefix(start) for quantity, where in value if quantity is norm and where.startswith(start)
        ]
        if len(groups) <= MOST_GROUPS:
            for group in groups:
                table.add_row(shown + group, *(short(value[norm, f"{level}:{label}:{group}"], 5) for label in labels))
    return table


def _sentences(norms: Mapping[str, float], cosines: Sequence[float], size: int) -> Iterator[str]:
    """Yield which checkpoints moved how far and in which directions, as far as it is known."""
    yield from (f"{name} did not move." for name, norm in norms.items() if norm == 0)
    moved = sorted((norm, name) for name, norm in norms.items() if 0 < norm < math.inf)
    if len(moved) == 1:
        [(norm, name)] = moved
        yield f"{name} moved {short(norm)} from the base, over {size:,} weights."
    if len(moved) < 2:
        return
    (least, near), (most, far) = moved[0], moved[-1]
    known = [cosine for cosine in cosines if math.isfinite(cosine)]
    unrelated = f"(unrelated directions: 0 +- {1 / math.sqrt(size):.2g})"
    if len(moved) == 2:
        ratio = f"{most / least:.2g}"
        yield f"{far} moved as far as {near};" if ratio == "1" else f"{far} moved {ratio} times as far as {near};"
        yield f"their cosine is {known[0]:.2g} {unrelated}."
    else:
        yield f"{far} moved farthest, {short(most)}, and {near} least, {short(least)}."
        yield f"Their cosines lie from {min(known):.2g} to {max(known):.2g} {unrelated}."
