"""Measurements as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estheory.quantities import Measurement, Quantity
from estheory.reporting.text import plain_table, render, short


def measurement_json(measurement: Measurement) -> dict[str, Any]:
    """Return one measurement as a JSON object.

    Parameters
    ----------
    measurement
        Its value and standard error are in the unit of its quantity.

    Returns
    -------
    dict
    """
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
"""Quantities of one place that share a row, and what heads their column."""


def measurements_text(measurements: Sequence[Measurement]) -> str:
    """Return what was measured of single checkpoints, a row a place, then what was measured of several.

    Parameters
    ----------
    measurements
        In the order of the rows.

    Returns
    -------
    str
    """
    places: dict[tuple[str, int | None], dict[Quantity, float]] = {}
    several = plain_table("where", "quantity", ">step", ">value")
    for m in measurements:
        if m.quantity in COLUMNS:
            places.setdefault((m.where, m.step), {})[m.quantity] = m.value
        else:
            several.add_row(m.where, str(m.quantity), str(m.step or ""), short(m.value, 8))
    shown = [quantity for quantity in COLUMNS if any(quantity in row for row in places.values())]
    table = plain_table("where", ">step", *(f">{COLUMNS[quantity]}" for quantity in shown))
    for (where, step), row in places.items():
        values = (short(row[q], 8 if q is Quantity.DISPLACEMENT_NORM else 5) if q in row else "" for q in shown)
        table.add_row(where, str(step or ""), *values)
    return render(table, several) if several.row_count else render(table)
