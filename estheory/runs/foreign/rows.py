"""The rows of other people's logs: JSON objects and JSON lines, by step, with their damage named."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast, get_args

from estheory.errors import DataError
from estheory.parsing import parse_json
from estheory.rules import Dtype

Problems = list[str]

STD_FLOOR = 1e-8
"""What these codes add to the rewards' standard deviation: equal rewards move nothing."""

MOST_STEPS = 10**7
"""No run has more; a larger count is a damaged record."""


def json_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", "restore the files of the run") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no JSON object", "restore the files of the run")
    return content


def json_lines(file: Path, problems: Problems | None) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file; a torn last line is an interrupted write and is left out.

    Returns
    -------
    list of dict
        In the order of the lines; blank lines are left out.
    """
    rows = []
    lines = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line) if line.strip() else None
        except ValueError:
            row = () if number < len(lines) else None
        if isinstance(row, dict):
            rows.append(row)
        elif row is not None:
            problem(f"{file}: line {number} is damaged", "restore the file, or cut it before that line", problems)
    return rows


def by_step(
    rows: Iterable[dict[str, Any]], key: str, file: Path, problems: Problems | None, *, consecutive: bool = True
) -> dict[int, dict[str, Any]]:
    """Return rows by step; the last of a doubled step counts, and steps must be 1, 2, 3, ... if ``consecutive``.

    Parameters
    ----------
    problems
        Where to note steps that are missing or doubled; None raises.
    """
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        step = count(row[key])
        if step in found:
            problem(f"{file} has step {step} twice", "keep one of them", problems)
        found[step] = row
    last = max(found, default=0)
    missing = last - sum(1 <= step <= last for step in found) if consecutive else 0
    if missing:
        first = next(step for step in range(1, last) if step not in found)
        problem(f"{file} lacks step {first} ({missing} missing)", "restore the file", problems)
    return found


def problem(what: str, remedy: str, problems: Problems | None) -> None:
    """Note what is wrong, or raise it where nothing collects problems.

    Parameters
    ----------
    problems
        Where to note the first half; None raises.
    """
    if problems is None:
        raise DataError(what, remedy)
    problems.append(what)


def count(value: Any, most: int = MOST_STEPS) -> int:
    """Return a number of steps, or of something else."""
    number = int(value)
    if not 0 <= number <= most:
        raise ValueError(f"{str(value)[:20]} is no number from 0 to {most}")
    return number


def moves(spread: Any, where: str, problems: Problems | None) -> float:
    """Return sum z^2 / N of a step whose rewards have this standard deviation: 0 where all are equal, else next to 1.

    A spread that is no number is a problem; with ``problems`` the step counts as one that moved.

    Parameters
    ----------
    spread
        Standard deviation of a step's rewards, as it was logged (reward).
    problems
        Where to note what is no number; None raises.
    """
    value = float(spread)
    if math.isfinite(value) and value >= 0:
        return (value / (value + STD_FLOOR)) ** 2
    problem(f"{where}: {spread} is no spread of rewards", "restore the log, or leave the step out", problems)
    return 1.0


def storage(value: Any) -> Dtype:
    """Return a storage format by its name."""
    if value not in get_args(Dtype):
        raise ValueError(f"precision {str(value)[:20]} is unknown")
    return cast(Dtype, value)


def first_weights(*folders: Path) -> Path | None:
    """Return the first of some folders that holds weights."""
    patterns = ("*.safetensors", "pytorch_model*")
    return next((folder for folder in folders if any(any(folder.glob(p)) for p in patterns)), None)
