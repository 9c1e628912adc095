"""JSON and TOML as files hold them: whatever is wrong with the text is one kind of error. Imports no numpy."""

from __future__ import annotations

import json
import math
import tomllib
from typing import Any

_DEEP = "its brackets are nested too deeply"


def parse_json(raw: bytes | str, *, finite: bool = False) -> Any:
    """Return what JSON says.

    Parameters
    ----------
    finite
        Refuse NaN, infinities and numbers too large for a float: no file of this package holds any.
    """
    try:
        return json.loads(raw, parse_constant=_finite, parse_float=_finite) if finite else json.loads(raw)
    except RecursionError:
        raise ValueError(_DEEP) from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def parse_toml(raw: bytes | str) -> dict[str, Any]:
    """Return what TOML says."""
    try:
        return tomllib.loads(raw if isinstance(raw, str) else raw.decode("utf-8"))
    except RecursionError:
        raise ValueError(_DEEP) from None
