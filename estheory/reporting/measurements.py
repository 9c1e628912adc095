"""Measurements as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estheory.quantities import Measurement
from estheory.reporting.text import plain_table, render, short


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


def measurements_text(measurements: Sequence[Measurement]) -> str:
    """Return the measurements as one table."""
    table = plain_table("where", "quantity", ">step", ">value", "unit")
    for m in measurements:
        table.add_row(m.where, str(m.quantity), str(m.step or ""), short(m.value, 8), m.quantity.unit)
    return render(table)
