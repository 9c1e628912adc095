"""What rounding does to each tensor and layer, as a table and as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from estheory.reporting.text import plain_table, render, short
from estheory.theory.precision import RoundingEffect

Tensors = Mapping[str, Mapping[int, RoundingEffect]]

_LAYER = re.compile(r"^(.*?(?:layers|h|blocks|layer)\.\d+)\.")


def layer_of(tensor: str) -> str:
    """Return the transformer block that a tensor's name puts it in, or the name itself."""
    found = _LAYER.match(tensor)
    return found.group(1) if found else tensor


def effect_json(effect: RoundingEffect) -> dict[str, float]:
    """Return one effect as JSON numbers."""
    return {
        "variance": effect.variance,
        "variance_stderr": effect.variance_stderr,
        "signal": effect.signal,
        "signal_stderr": effect.signal_stderr,
        "swallowed": effect.swallowed,
    }


def rounding_json(tensors: Tensors) -> dict[str, Any]:
    """Return the key ``rounding``: a row a tensor and step."""
    rows = [
        {"tensor": name, "layer": layer_of(name), "step": step, **effect_json(effect)}
        for name, by_step in tensors.items()
        for step, effect in by_step.items()
    ]
    return {"rounding": rows}


def rounding_text(tensors: Tensors) -> str:
    """Return a table of tensors at the last step."""
    step = max(next(iter(tensors.values())))
    table = plain_table(
        "tensor", ">variance factor", ">+-", ">kept of the update", ">+-", title=f"rounding after {step} steps"
    )
    for name, by_step in tensors.items():
        e = by_step[step]
        table.add_row(name, short(e.variance), short(e.variance_stderr, 2), short(e.signal), short(e.signal_stderr, 2))
    return render(table)
