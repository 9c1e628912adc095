"""The rows of other people's logs by step, and the values in them, with their damage named."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast, get_args

from estheory.errors import DataError
from estheory.files import Problems, note
from estheory.rules import Dtype

STD_FLOOR = 1e-8
"""What these codes add to the rewards' standard deviation: equal rewards move nothing."""

MOST_STEPS = 10**7
"""No run has more; a larger count is a damaged record."""


def by_step(
    rows: Iterable[dict[str, Any]], key: str, file: Path, problems: Problems | None, *, consecutive: bool = True
) -> dict[int, dict[str, Any]]:
    """Return rows by step; the last of a doubled step counts, and steps must be 1, 2, 3, ... if ``consecutive``.

    `problems`: where to note steps that are missing or doubled; None raises.
    """
    found: dict[int, dict[str, Any]] = {}
    times: Counter[int] = Counter()
    for row in rows:
        step = count(row[key])
        times[step] += 1
        found[step] = row
    doubled = [step for step, often in times.items() if often > 1]
    if doubled:
        often = "twice" if times[doubled[0]] == 2 else f"in {times[doubled[0]]} rows"
        note(DataError(f"{file} has step {doubled[0]} {often}{and_more(len(doubled))}", "keep one of them"), problems)
    last = max(found, default=0)
    missing = last - sum(1 <= step <= last for step in found) if consecutive else 0
    if missing:
        first = next(step for step in range(1, last) if step not in found)
        note(DataError(f"{file} lacks step {first} ({missing} missing)", "restore the file"), problems)
    return found


def and_more(steps: int) -> str:
    """Return what is said beside the first of so many steps with one fault."""
    others = steps - 1
    return f", and {others} more step{'s' * (others > 1)} alike" if others else ""


def count(value: Any, most: int = MOST_STEPS) -> int:
    """Return a number of steps, or of something else."""
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError(f"{value} is no whole number")
    if not 0 <= number <= most:
        raise ValueError(f"{str(value)[:20]} is no number from 0 to {most}")
    return number


def moves(spread: Any, where: str, problems: Problems | None) -> float:
    """Return sum z^2 / N of a step whose rewards have this standard deviation: 0 where all are equal, else next to 1.

    A spread that is no number is a problem; with ``problems`` the step counts as one that moved.

    `spread`: standard deviation of a step's rewards, as it was logged (reward).
    `problems`: where to note what is no number; None raises.
    """
    value = float(spread)
    if math.isfinite(value) and value >= 0:
        return (value / (value + STD_FLOOR)) ** 2
    note(DataError(f"{where}: {spread} is no spread of rewards", "restore the log, or leave the step out"), problems)
    return 1.0


def shown(value: Any) -> float | None:
    """Return a logged figure that no law is conditioned on; None where it is no finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def storage(value: Any) -> Dtype:
    """Return a storage format by its name."""
    if value not in get_args(Dtype):
        raise ValueError(f"precision {str(value)[:20]} is unknown")
    return cast(Dtype, value)


def first_weights(*folders: Path) -> Path | None:
    """Return the first of some folders that holds weights."""
    patterns = ("*.safetensors", "pytorch_model*")
    return next((folder for folder in folders if any(any(folder.glob(p)) for p in patterns)), None)


def served(members: int, engines: int) -> range:
    """Return how many members the first of some engines may have served, when whichever is free takes the next.

    Result: from one fewer than an equal share to one more.
    """
    share = members / max(engines, 1)
    return range(max(0, math.floor(share) - 1), math.ceil(share) + 2)
