"""Output folders of general trainers: TRL (transformers) and verl."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.files import Problems, read_object
from estheory.runs.foreign.es_awd import evaluations
from estheory.runs.foreign.rows import by_step, count, first_weights, shown
from estheory.runs.view import ForeignRun, Given, Settings, Step

_NUMBERED = re.compile(r"checkpoint-(\d+)")
_STEP = re.compile(r"(?:^|_)global_step_(\d+)$")
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin")


def read_trl(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    """Read the output folder of a TRL or transformers trainer: trainer_state.json and checkpoint-N.

    DataError where no learning rate was logged.

    Parameters and result as of :func:`estheory.runs.foreign.read_foreign`.
    """
    found = sorted(folder for folder in path.glob("checkpoint-*") if folder.is_dir())
    folders = {count(match[1]): folder for folder in found if (match := _NUMBERED.fullmatch(folder.name))}
    unnumbered = [folder for folder in found if folder not in folders.values()]
    newest = [folders[step] for step in sorted(folders)[::-1]]
    states = [folder / "trainer_state.json" for folder in (path, *newest, *unnumbered)]
    state = read_object(next(file for file in states if file.is_file()))
    rows = [row for row in state["log_history"] if "learning_rate" in row]
    logged = by_step(rows, "step", path / "trainer_state.json", problems, consecutive=False)
    if not logged:
        raise DataError(f"{path} logs no learning rate", "log it with logging_steps")
    rates = _rates({step: float(row["learning_rate"]) for step, row in logged.items()}, count(state["global_step"]))
    figures: dict[int, dict[str, Any]] = {}
    for row in state["log_history"]:
        figures.setdefault(count(row["step"]), {}).update(row)
    return ForeignRun(
        path=path,
        format="TRL",
        steps=tuple(_step(step, rate, figures.get(step, {})) for step, rate in enumerate(rates.tolist(), start=1)),
        told=Settings(method="grpo", steps=len(rates)),
        checkpoints=dict(sorted(folders.items())),
        rates=rates,
        optimizer=next((file for folder in newest for name in _OPTIMIZERS if (file := folder / name).is_file()), None),
        unjudged=tuple(f"{folder}: its name tells no step; rename it to checkpoint-N" for folder in unnumbered),
    )


def _step(step: int, rate: float, row: Mapping[str, Any]) -> Step:
    mean, spread, kl = (shown(row.get(name)) for name in ("reward", "reward_std", "kl"))
    return Step(step=step, lr=rate, reward_mean=mean, reward_std=spread, kl=kl)


def _rates(logged: dict[int, float], total: int) -> Array:
    """Return the rate of every step, shape (total,): between logged ones by interpolation, before them along the line.

    A rate of 0 at the last step is the mark of versions that log a step's rate after the schedule went on (newer ones
    log it before): all rates are then one step late.
    """
    late = total > 1 and logged.get(total) == 0.0
    steps = np.array(sorted(logged), dtype=np.float64)
    values = np.array([logged[int(step)] for step in steps])
    steps += late
    wanted = np.arange(1, total + 1)
    rates = np.interp(wanted, steps, values)
    if len(steps) > 1:
        slope = (values[1] - values[0]) / (steps[1] - steps[0])
        early = wanted < steps[0]
        rates[early] = np.maximum(values[0] + slope * (wanted[early] - steps[0]), 0.0)
    return np.asarray(rates)


def verl_folders(path: Path) -> dict[int, Path]:
    """Return the checkpoints of a verl run: merged to Hugging Face folders, or as verl nests them.

    `path`: folder of a run, which need not exist.
    """
    found = {}
    for folder in path.iterdir() if path.is_dir() else ():
        if folder.is_dir() and (match := _STEP.search(folder.name)):
            nested = folder / "actor" / "huggingface"
            found[count(match[1])] = nested if nested.is_dir() else folder
    return dict(sorted(found.items()))


def read_verl(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    """Read a verl run as es-awd evaluates it: ``model.txt`` names the base, ``*_global_step_N`` are its checkpoints.

    No file holds learning rates or the optimiser's steps within a global one, so no norm is predicted.

    Parameters and result as of :func:`estheory.runs.foreign.read_foreign`.
    """
    named = path / "model.txt"
    base = Path(named.read_text(encoding="utf-8").strip()) if named.is_file() else None
    return ForeignRun(
        path=path,
        format="verl",
        told=Settings(method="grpo"),
        base=base if base is not None and base.is_dir() and first_weights(base) else None,
        checkpoints={step: folder for step, folder in verl_folders(path).items() if first_weights(folder)},
        shown=tuple(evaluations(path, problems)),
        unjudged=("verl keeps no learning rates: AdamW's walk is not predicted",),
    )
