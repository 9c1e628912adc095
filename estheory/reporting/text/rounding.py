"""What rounding does to each tensor and layer, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from estheory.reporting.text.tables import Sheet, Table, short
from estheory.tensor_names import block_of
from estheory.theory.rounding.precision import RoundingEffect

Tensors = Mapping[str, Mapping[int, RoundingEffect]]


def effect_json(effect: RoundingEffect) -> dict[str, float]:
    """Return one effect as JSON numbers."""
    return {
        "variance": effect.variance,
        "variance_stderr": effect.variance_stderr,
        "signal": effect.signal,
        "signal_stderr": effect.signal_stderr,
        "swallowed": effect.swallowed,
    }


def rounding_json(tensors: Tensors, layers: Tensors) -> dict[str, Any]:
    """Return the keys ``rounding`` and ``rounding_layers``: a row a tensor, and a block, and step."""
    rows = [
        {"tensor": name, "layer": block_of(name), "step": step, **effect_json(effect)}
        for name, by_step in tensors.items()
        for step, effect in by_step.items()
    ]
    blocks = [
        {"layer": name, "step": step, **effect_json(effect)}
        for name, by_step in layers.items()
        for step, effect in by_step.items()
    ]
    return {"rounding": rows, "rounding_layers": blocks}


def rounding_sheet(tensors: Tensors, layers: Tensors) -> Sheet:
    """Return a table of blocks and one of tensors, at the last step."""
    step = max(next(iter(tensors.values())))
    parts = []
    for title, effects in (("layer", layers), ("tensor", tensors)):
        table = Table(
            title, ">variance factor", ">+-", ">kept of the update", ">+-", title=f"rounding after {step} steps"
        )
        for name, by_step in effects.items():
            e = by_step[step]
            errors = short(e.variance_stderr, 2), short(e.signal_stderr, 2)
            table.add_row(name, short(e.variance), errors[0], short(e.signal), errors[1])
        parts.append(table)
    return Sheet(*parts)
