"""A run's log as the ledger reads it, whoever's code wrote it. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.parsing import parse_json, parse_toml
from estheory.rules import Shaping, require_choice, require_count, require_positive
from estheory.theory.economy.ledger import LedgerRules, LoggedUpdate

_NAMES = {
    "iteration": "step",
    "global_step": "step",
    "fitness": "rewards",
    "mean_fitness": "reward_mean",
    "fitness_mean": "reward_mean",
    "sd_fitness": "reward_std",
    "fitness_std": "reward_std",
    "center_reward": "centre_reward",
    "population_size": "population",
    "prompts_per_member": "prompts",
}
"""What other codes call what a log holds."""
_ARRAYS = {
    "rewards": 1,
    "half_rewards": 1,
    "prompt_rewards": 2,
    "centre_rewards": 1,
    "coefficients": 1,
    "mirror_rewards": 2,
}
_NUMBERS = ("centre_reward", "reward_mean", "reward_std", "norm", "kl")


@dataclass(frozen=True, kw_only=True)
class RunLog:
    """The rows of a run and what the ledger must know beside them.

    Attributes
    ----------
    rules, updates
        As the ledger takes them.
    planned
        Steps that the run was to make; None where not told.
    ceiling
        Largest reward there can be, where every reward by prompt is 0 or 1 or the task says so.
    """

    rules: LedgerRules
    updates: tuple[LoggedUpdate, ...]
    planned: int | None
    ceiling: float | None


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the caller says of a run, over what its log says.

    Attributes
    ----------
    sigma, alpha, population, shaping, mirrored, fixed
        As of :class:`estheory.theory.economy.ledger.LedgerRules`.
    """

    sigma: float | None = None
    alpha: float | None = None
    population: int | None = None
    shaping: Shaping | None = None
    mirrored: str | None = None
    fixed: bool | None = None


def read_run_log(path: Path, told: Told | None = None, *, at: int | None = None) -> RunLog:
    """Read a run directory or a JSONL log.

    Parameters
    ----------
    path
        The folder of a run, or a log of one object a step.
    told
        What the log does not say.
    at
        Last step to read; all where left out.

    Returns
    -------
    RunLog

    Raises
    ------
    DataError
        The log is missing or damaged, steps are missing in it, or sigma, alpha or the population are not known.
    """
    file = path if path.is_file() else next((p for name in _LOGS if (p := path / name).is_file()), path / _LOGS[0])
    rows = [_renamed(row) for row in _rows(file)]
    head = _beside(file)
    for row in rows:
        if "step" not in row:
            head |= row
    head |= {f.name: value for f in fields(Told) if (value := getattr(told or Told(), f.name)) is not None}
    steps = [row for row in rows if "step" in row and row.get("type", "train") == "train"]
    if at is not None:
        steps = [row for row in steps if not isinstance(row["step"], int) or row["step"] <= at]
    if not steps:
        before = "" if at is None else f" up to {at}"
        raise DataError(f"{file} holds no step{before}", "let the run make one, or read on")
    _require_all([row["step"] for row in steps], file)
    halves = head.get("mirrored") == "halves"
    prompts = head.get("prompts")
    updates = tuple(_update(row, prompts, halves, file) for row in steps)
    return RunLog(
        rules=_rules(head, updates, file),
        updates=updates,
        planned=head["steps"] if isinstance(head.get("steps"), int) else None,
        ceiling=_ceiling(updates, head),
    )


_LOGS = ("steps.jsonl", "log.jsonl", "metrics_baseline.jsonl")


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", "give a run directory or its log") from error
    except UnicodeDecodeError:
        raise DataError(f"{file} is no text", "give a log of one JSON object a line") from None
    lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    for number, line in lines:
        try:
            row = parse_json(line)
        except ValueError as error:
            if number == lines[-1][0] and not text.endswith("\n"):
                return  # torn by a crash
            raise DataError(f"{file}: line {number} is not JSON: {error}", "correct it") from None
        if not isinstance(row, dict):
            raise DataError(f"{file}: line {number} is no object", "give one JSON object a step")
        yield row


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {_NAMES.get(name, name): value for name, value in row.items()}


def _beside(file: Path) -> dict[str, Any]:
    """Return the hyper-parameters that stand in a file beside a log."""
    for name in ("config.toml", "config.json", "run.json"):
        path = file.with_name(name)
        if path.is_file():
            try:
                table = parse_toml(path.read_bytes()) if name.endswith("toml") else parse_json(path.read_bytes())
            except ValueError as error:
                raise DataError(f"{path} is damaged: {error}", "restore it") from None
            if not isinstance(table, dict):
                raise DataError(f"{path} is no object", "restore it")
            for inner in ("config", "es_hyperparameters"):
                if isinstance(table.get(inner), dict):
                    table = table | table[inner]
            return _renamed({key: value for key, value in table.items() if key != "step"})
    return {}


def _require_all(steps: Sequence[Any], file: Path) -> None:
    for before, step in pairwise(steps):
        if not isinstance(step, int) or step != before + 1:
            raise DataError(
                f"{file}: step {step} follows step {before}",
                f"restore the steps between, or read up to there: --at {before}",
            )


def _update(row: Mapping[str, Any], prompts: Any, halves: bool, file: Path) -> LoggedUpdate:
    where = f"{file}: step {row['step']}"
    values: dict[str, Any] = {"prompts": prompts if isinstance(prompts, int) else None}
    for name, axes in _ARRAYS.items():
        if row.get(name) is not None:
            values[name] = _array(row[name], axes, f"{where}: {name}")
            if halves and name in ("rewards", "half_rewards", "prompt_rewards", "coefficients"):
                size = len(values[name])
                values[name] = values[name][np.arange(size).reshape(2, -1).T.ravel()]
    for name in _NUMBERS:
        value = row.get(name)
        if value is not None:
            if not isinstance(value, (int, float)) or not np.isfinite(value):
                raise DataError(f"{where}: {name} is {str(value)[:20]!r}, no finite number", "correct it")
            values[name] = float(value)
    if isinstance(row.get("reward"), (int, float)) and "reward_mean" not in values and "rewards" not in values:
        values["reward_mean"] = float(row["reward"])
    return LoggedUpdate(step=row["step"], **values)


def _array(value: Any, axes: int, where: str) -> Array:
    try:
        found = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.array([])
    if found.ndim != axes or not found.size:
        raise DataError(f"{where} is no {'list' if axes == 1 else 'matrix'} of numbers", "correct it")
    bad = np.argwhere(~np.isfinite(found))
    if bad.size:
        row, column = (*(bad[0] + 1), 1)[:2]
        raise DataError(f"{where}: row {row}, column {column} is no finite number", "correct it")
    return found


def _rules(head: Mapping[str, Any], updates: Sequence[LoggedUpdate], file: Path) -> LedgerRules:
    first = updates[0]
    members = first.rewards if first.prompt_rewards is None else first.prompt_rewards
    population = head.get("population", None if members is None else len(members))
    numbers = {"sigma": head.get("sigma"), "alpha": head.get("alpha"), "population": population}
    for name, value in numbers.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise DataError(f"{file} does not say {name}", f"give --{name}")
    require_positive("sigma", numbers["sigma"])
    require_positive("alpha", numbers["alpha"])
    require_count("population", numbers["population"], 2)
    shaping = head.get("shaping", "zscore")
    require_choice("shaping", str(shaping), ("zscore", "centered-rank", "raw", "two-point"))
    mirrored = bool(head.get("mirrored", head.get("antithetic", False)))
    if mirrored and int(numbers["population"]) % 2:
        raise DataError(f"{file}: {numbers['population']} members are no mirrored pairs", "give an even --population")
    fixed = head.get("fixed")
    if fixed is None:
        fixed = isinstance(head.get("train_set"), int) and head.get("train_set") == head.get("prompts")
    return LedgerRules(
        sigma=float(numbers["sigma"]),
        alpha=float(numbers["alpha"]),
        population=int(numbers["population"]),
        shaping=shaping,
        mirrored=mirrored,
        fixed=bool(fixed),
    )


def _ceiling(updates: Sequence[LoggedUpdate], head: Mapping[str, Any]) -> float | None:
    """Return 1 where every reward by prompt is 0 or 1, or a run of this package scores answers; None elsewhere."""
    by_prompt = [update.prompt_rewards for update in updates if update.prompt_rewards is not None]
    if by_prompt and all(np.isin(matrix, (0.0, 1.0)).all() for matrix in by_prompt):
        return 1.0
    return 1.0 if head.get("reward", "accuracy") in ("accuracy", "partial") and "task" in head else None
