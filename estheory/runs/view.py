"""A finished or interrupted run as its files tell it: JSON and TOML only, no training code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estheory.errors import DataError
from estheory.parsing import parse_json, parse_toml
from estheory.rules import LARGEST_COUNT

DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ZeroDivisionError, OSError)
"""What reading a record raises that does not hold what it should."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say of what a record does not hold that it is damaged, as `DataError`."""
    try:
        yield
    except DAMAGED as error:
        what = f"{path}: a record is missing or damaged ({type(error).__name__}: {error})"
        raise DataError(what, "restore the files of the run") from error


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run directory holds.

    Attributes
    ----------
    path
        The folder.
    method
        ``es`` or ``grpo``.
    config
        config.toml.
    dim
        Number of trained parameters, from environment.json.
    steps
        Rows of steps.jsonl, in order 1, 2, 3, ...
    probes
        probes.json; empty when nothing was probed.
    evaluations
        Rows of evaluations.jsonl.
    """

    path: Path
    method: str
    config: Mapping[str, Any]
    dim: int
    steps: tuple[dict[str, Any], ...]
    probes: Mapping[str, Any]
    evaluations: tuple[dict[str, Any], ...]

    @property
    def checkpoints(self) -> dict[int, Path]:
        """Checkpoint files by step, in order."""
        found = {int(file.stem.split("_")[1]): file for file in self.path.glob("checkpoints/step_*.safetensors")}
        return dict(sorted(found.items()))

    def evaluated(self, quantity: str) -> dict[tuple[int, str], tuple[float, float]]:
        """Return the values of one evaluated quantity.

        Returns
        -------
        dict
            Value and standard error, in the quantity's unit, by step and task.
        """
        return {
            (int(row["step"]), str(row["task"])): (float(row["value"]), float(row["stderr"]))
            for row in self.evaluations
            if row["quantity"] == quantity
        }


def is_run(path: Path) -> bool:
    """Return whether a folder looks like a run directory of this package."""
    return (path / "config.toml").is_file()


def read_run(path: Path) -> RunRecord:
    """Read a run directory.

    Returns
    -------
    RunRecord
        With at least one step; without its weights, which are not read.
    """
    try:
        config = parse_toml((path / "config.toml").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path / 'config.toml'} cannot be read: {error}", "give the folder of a run") from error
    environment = _object(path / "environment.json")
    try:
        dim, method = int(environment["model"]["dim"]), str(config["method"])
        if not all(isinstance(config[name], str) for name in ("model", "task")) or not 1 <= dim <= LARGEST_COUNT:
            raise ValueError("its model or its task")
    except DAMAGED as error:
        raise DataError(f"{path}: {error} is missing from its records", "restore the files of the run") from error
    steps = _lines(path / "steps.jsonl")
    if not steps:
        raise DataError(f"{path} has no finished step", "let the run make at least one")
    for number, row in enumerate(steps, start=1):
        if row.get("step") != number:
            raise DataError(f"{path / 'steps.jsonl'}: line {number} is step {row.get('step')}", "restore the file")
    return RunRecord(
        path=path,
        method=method,
        config=config,
        dim=dim,
        steps=tuple(steps),
        probes=_object(path / "probes.json") if (path / "probes.json").exists() else {},
        evaluations=tuple(_lines(path / "evaluations.jsonl")),
    )


def _object(file: Path) -> dict[str, Any]:
    try:
        content = parse_json(file.read_bytes(), finite=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", "restore it, or run again") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no JSON object", "restore it, or run again")
    return content


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a JSONL file; a torn last line is an interrupted write and is left out."""
    if not file.exists():
        return []
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = parse_json(line, finite=True)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{file}: line {number} is damaged", "restore the file, or cut it before that line")
        rows.append(row)
    return rows
