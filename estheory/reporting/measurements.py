"""Measurements as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from estheory.measurement.displacement import Displacements
from estheory.quantities import Measurement, Quantity
from estheory.reporting.text import plain_table, render, short, short_names
from estheory.tensor_names import layer_of, module_of

if TYPE_CHECKING:
    from rich.table import Table


def measurement_json(measurement: Measurement) -> dict[str, Any]:
    """Return one measurement as a JSON object."""
    return {
        "quantity": str(measurement.quantity),
        "step": measurement.step,
        "value": measurement.value,
        "stderr": measurement.stderr,
        "unit": measurement.quantity.unit,
        "where": measurement.where,
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


def measurements_text(measured: Displacements, variances: Sequence[float] | None = None) -> str:
    """Return a row a checkpoint, the cosines between them, norms by module and layer where few, and a sentence.

    Parameters
    ----------
    measured
        Displacements of K checkpoints.
    variances
        Variance of the walk behind each, length K (weight^2), for effective-dimension ratios; None leaves them out.
    """
    total = measured.grouped(lambda name: "")
    names = short_names(measured.labels)
    values: dict[Quantity, list[str]] = {}
    for m in total.measurements(variances):
        if m.quantity in COLUMNS and m.where.startswith("total:"):
            values.setdefault(m.quantity, []).append(short(m.value, 5))
    columns = {COLUMNS[quantity]: column for quantity, column in values.items() if set(column) != {"-"}}
    if any(step and name != f"step {step}" for step, name in zip(measured.steps, names, strict=True)):
        columns = {"step": [str(step or "") for step in measured.steps], **columns}
    totals = plain_table("where", *(f">{head}" for head in columns))
    for name, *row in zip(names, *columns.values(), strict=True):
        totals.add_row(name, *row)
    parts: list[Table | str] = [totals]
    pairs = [(a, b, float(measured.cosines[a, b])) for a, b in combinations(range(len(names)), 2)]
    if 0 < len(pairs) <= MOST_PAIRS:
        between = plain_table("where", ">cosine")
        for a, b, cosine in pairs:
            between.add_row(f"{names[a]} and {names[b]}", short(cosine, 5))
        parts.append(between)
    if len(names) <= MOST_CHECKPOINTS and (groups := _by_group(measured, names)).row_count:
        parts.append(groups)
    sentences = _sentences(measured, names, [cosine for _, _, cosine in pairs if math.isfinite(cosine)])
    return render(*parts, " ".join(sentences), "Every quantity by module, layer and tensor: --json.")


def _by_group(measured: Displacements, names: Sequence[str]) -> Table:
    """Return norms by type of module and by layer, without the level of which there are too many."""
    table = plain_table("where", *(f">norm, {name}" for name in names))
    for prefix, group_of in (("", module_of), ("layer ", layer_of)):
        level = measured.grouped(group_of)
        if len(level.tensors) <= MOST_GROUPS:
            for group, norms in zip(level.tensors, level.tensor_norms.T.tolist(), strict=True):
                table.add_row(prefix + group, *(short(norm, 5) for norm in norms))
    return table


def _sentences(measured: Displacements, names: Sequence[str], cosines: Sequence[float]) -> Iterator[str]:
    """Yield who moved how far and in which direction, as far as it is known."""
    norms = measured.norms.tolist()
    moved = sorted((norm, name) for norm, name in zip(norms, names, strict=True) if 0 < norm < math.inf)
    count = sum(measured.tensors.values())
    for norm, name in zip(norms, names, strict=True):
        if norm == 0:
            yield f"{name} did not move."
    if len(moved) == 1:
        [(norm, name)] = moved
        yield f"{name} moved {short(norm)} from the base, over {count:,} weights."
    if len(moved) < 2:
        return
    (least, near), (most, far) = moved[0], moved[-1]
    ratio = f"{most / least:.2g}"
    how = f"moved as far as {near}" if ratio == "1" else f"moved {ratio} times as far as {near}"
    shown = [f"{cosine:.2g}" for cosine in (min(cosines), max(cosines))]
    unrelated = f"(unrelated directions: 0 +- {1 / math.sqrt(count):.2g})"
    if len(moved) == 2:
        yield f"{far} {how}; their cosine is {shown[0]} {unrelated}."
    else:
        yield f"{far} moved farthest, {short(most)}, and {near} least, {short(least)}."
        yield f"Their cosines lie from {shown[0]} to {shown[1]} {unrelated}."
    if (exponent := measured.exponent) is not None and math.isfinite(exponent):
        yield f"The squared norm grows as T^{exponent:.3g} (1: a walk, 2: straight motion)."
