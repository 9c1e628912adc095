"""Run directories of other people's code, as their records tell them: JSON, JSON lines and TensorBoard only.

Every reader returns one :class:`ForeignRun`: what each step added to the variance of a flat coordinate (ES), or its
learning rate (gradient methods), and where the checkpoints lie. What the code does not log is taken from its
hyper-parameters, or from the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.parsing import parse_json
from estheory.rules import LARGEST, LARGEST_COUNT
from estheory.validation.records import reading

Array = NDArray[np.float64]
Format = Literal["ESvsGRPO ES", "ESvsGRPO GRPO", "es-awd", "es-at-scale", "TRL"]
Problems = list[str]

STD_FLOOR = 1e-8
"""What these codes add to the rewards' standard deviation: equal rewards move nothing."""

MOST_STEPS = 10**7
"""No run has more; a larger count is a damaged record."""

BY_COEFFICIENTS = "conditioned on the logged coefficients: v = (alpha^2/N^2) sum z^2"
BY_REWARDS = "conditioned on the logged reward spreads: a step of equal rewards moves nothing"
BY_HYPERPARAMETERS = "no step with equal rewards (nothing is logged of them)"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller says of a run whose directory does not: ES step size and population."""

    alpha: float | None = None
    population: int | None = None


@dataclass(frozen=True, kw_only=True)
class ForeignRun:
    """What a foreign run directory tells.

    Attributes
    ----------
    path, format
        The folder, and whose code wrote it.
    base
        The base weights inside the folder; None if it has none.
    checkpoints
        Files or folders of weights by the number of steps behind them, in order.
    increments : ndarray, shape (T,)
        Variance that each ES step added to a flat coordinate (weight^2); empty for gradient methods.
    condition
        What the increments are conditioned on, as an assumption.
    keep
        1 - kappa of an L2 anchor that also pulls the new step; 1 without an anchor.
    rates
        Learning rates of each optimiser's steps (weight); empty for ES.
    logged_norms
        Logged displacement norms by step, each with the number of entries it counts.
    low_precision
        Whether the log says that the weights were stored in 16 bits.
    unjudged
        What the theory cannot judge here and why, one line each.
    """

    path: Path
    format: Format
    base: Path | None = None
    checkpoints: Mapping[int, Path] = field(default_factory=dict)
    increments: Array = field(default_factory=lambda: np.zeros(0))
    condition: str = ""
    keep: float = 1.0
    rates: tuple[Array, ...] = ()
    logged_norms: Mapping[int, tuple[float, int]] = field(default_factory=dict)
    low_precision: bool = False
    unjudged: tuple[str, ...] = ()

    @property
    def variances(self) -> Array:
        """Variance of a flat coordinate after 0, 1, ..., T steps (weight^2), shape (T + 1,)."""
        values = np.zeros(len(self.increments) + 1)
        for step, increment in enumerate(self.increments, start=1):
            values[step] = self.keep**2 * (values[step - 1] + increment)
        return values


def foreign_format(path: Path) -> Format | None:
    """Return whose code wrote a run directory; None if it is none that is known."""
    if (path / "metrics_baseline.jsonl").is_file():
        return "ESvsGRPO ES"
    if (path / "metrics_grpo_baseline.jsonl").is_file():
        return "ESvsGRPO GRPO"
    if (path / "args.json").is_file() and (path / "iteration_updates").is_dir():
        return "es-awd"
    if (path / "trainer_state.json").is_file() or any(path.glob("checkpoint-*/trainer_state.json")):
        return "TRL"
    if any(path.glob("events.out.tfevents*")) or _finals(path):
        return "es-at-scale"
    return None


def read_foreign(path: Path, given: Given | None = None, problems: Problems | None = None) -> ForeignRun:
    """Read a run directory of another code.

    Parameters
    ----------
    path
        The folder.
    given
        What the caller says of it; wins over the folder's own hyper-parameters.
    problems
        Where to note damaged lines and steps that are missing or doubled; None raises.

    Raises
    ------
    DataError
        If the folder is none of the known formats, or its records are damaged or incomplete.
    """
    kind = foreign_format(path)
    if kind is None:
        known = "this package, ESvsGRPO, es-awd, es-at-scale or TRL"
        raise DataError(f"{path} is no run directory of {known}", "give such a folder, or BASE CHECKPOINT ...")
    readers: dict[Format, Callable[[Path, Given, Problems | None], ForeignRun]] = {
        "ESvsGRPO ES": _esvsgrpo_es,
        "ESvsGRPO GRPO": _esvsgrpo_grpo,
        "es-awd": _es_awd,
        "TRL": _trl,
        "es-at-scale": _es_at_scale,
    }
    with reading(path), np.errstate(over="ignore", invalid="ignore"):
        run = readers[kind](path, given or Given(), problems)
        for values in (run.increments, *run.rates, np.array([norm for norm, _ in run.logged_norms.values()])):
            if not (np.abs(values) <= LARGEST).all():
                raise ValueError("a step size, a coefficient or a norm is no usable number")
        return run


def _esvsgrpo_es(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    config = _object(path / "config.json")
    shared = config["es_hyperparameters"]
    rows = [row for row in _lines(path / "metrics_baseline.jsonl", problems) if row.get("type") == "train"]
    by_step = _by_step(rows, "global_step", path / "metrics_baseline.jsonl", problems)
    increments, ends, done = [], {}, 0
    for cycle in range(_count(config.get("num_cycles", 1))):
        for index, task in enumerate(config["tasks"]):
            settings = {**shared, **task}
            alpha = float(given.alpha or settings["alpha"])
            population = int(given.population or settings["population_size"])
            for step in range(done + 1, done + _count(settings["num_iterations"]) + 1):
                row = by_step.get(step)
                increments.append(alpha**2 / population * (_moves(float(row["fitness_std"])) if row else 1.0))
            done = len(increments)
            folder = path / f"c{cycle}_t{index}_{task['name']}"
            if folder.is_dir():
                ends[done] = folder
    known = max(by_step, default=0)
    if known < done:  # interrupted: the steps that were never made are no part of the walk
        increments = increments[:known]
        if problems is not None:
            problems.append(f"{path} stopped at step {known} of {done}")
    return ForeignRun(
        path=path,
        format="ESvsGRPO ES",
        base=_first_weights(path / "baseline", path / "model_saves/base_model"),
        checkpoints={step: folder for step, folder in ends.items() if step <= len(increments)},
        increments=np.array(increments),
        condition=BY_REWARDS,
        unjudged=("KL of its log: nothing measured tr F before the run",) if "kl_mean" in (rows or [{}])[0] else (),
    )


def _esvsgrpo_grpo(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    file = path / "metrics_grpo_baseline.jsonl"
    legs: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in _lines(file, problems):
        if row.get("type", "train") == "train" and "lr" in row:
            legs.setdefault((int(row.get("cycle", 0)), str(row.get("task", ""))), []).append(row)
    order = {str(task["name"]): index for index, task in enumerate(_object(path / "config.json")["tasks"])}
    rates, ends, done = [], {}, 0
    for (cycle, task), rows in legs.items():
        first = min(int(row["step"]) for row in rows)
        numbered = [{**row, "step": int(row["step"]) - first + 1} for row in rows]
        steps = _by_step(numbered, "step", file, problems)
        rates.append(np.array([float(steps[step]["lr"]) for step in sorted(steps)]))
        done += len(steps)
        folder = path / f"c{cycle}_t{order.get(task, 0)}_{task}"
        if folder.is_dir():
            ends[done] = folder
    return ForeignRun(
        path=path,
        format="ESvsGRPO GRPO",
        base=_first_weights(path / "baseline", path / "model_saves/base_model"),
        checkpoints=ends,
        rates=tuple(rates),
    )


def _es_awd(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    args = _object(path / "args.json")
    alpha, population = float(given.alpha or args["alpha"]), int(given.population or args["population_size"])
    rows = [_object(file) for file in sorted((path / "iteration_updates").glob("iteration_*.json"))]
    by_step = _by_step(rows, "iteration", path / "iteration_updates", problems)
    plain = alpha**2 / population
    increments = np.array(
        [
            (alpha / population) ** 2 * float(np.sum(np.square(by_step[step]["update_coefficients"])))
            if step in by_step
            else plain
            for step in range(1, max(by_step, default=0) + 1)
        ]
    )
    decay = str(args.get("weight_decay_type", "none"))
    kappa = alpha * float(args.get("weight_decay_lambda", 0.0))
    unjudged = []
    if decay == "l1" and kappa:
        unjudged.append("its L1 anchor: no closed form is conditioned on coefficients")
    logged = {}
    file = path / "weight_change.jsonl"
    if file.is_file() and not unjudged:
        rows = [row for row in _lines(file, problems) if row.get("step")]
        norms = _by_step(rows, "step", file, problems, consecutive=False)
        logged = {
            step: (float(row["frobenius_norm"]), _count(row["total_elements_compared"], LARGEST_COUNT))
            for step, row in norms.items()
            if step <= len(increments)
        }
    final = path / "final_model_weights.pt"
    ends = {len(increments): final} if final.is_file() and not unjudged else {}
    return ForeignRun(
        path=path,
        format="es-awd",
        checkpoints=ends,
        increments=increments,
        condition=BY_COEFFICIENTS,
        keep=1.0 - kappa if decay == "l2" else 1.0,
        logged_norms=logged,
        low_precision=args.get("precision", "float16") != "float32",
        unjudged=tuple(unjudged),
    )


def _es_at_scale(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    ends = dict(sorted((int(folder.name.rpartition("_")[2]), folder) for folder in _finals(path)))
    base = _first_weights(path / "model_saves/base_model")
    if given.alpha is None or given.population is None:
        why = "its step size and population are not logged; give --alpha and --population"
        return ForeignRun(path=path, format="es-at-scale", base=base, checkpoints=ends, unjudged=(why,))
    spreads, problem = _tensorboard(path, "reward/std")
    steps = max(ends, default=len(spreads))
    if spreads and len(spreads) != steps:
        problem = f"{path} logs reward/std at {len(spreads)} of {steps} steps"
        if problems is None:
            raise DataError(problem, "restore its event files")
        spreads = []
    if problem and problems is not None:
        problems.append(problem)
    plain = given.alpha**2 / given.population
    moves = [_moves(std) for std in spreads] or [1.0] * steps
    return ForeignRun(
        path=path,
        format="es-at-scale",
        base=base,
        checkpoints=ends,
        increments=plain * np.array(moves),
        condition=BY_REWARDS if spreads else BY_HYPERPARAMETERS,
        unjudged=(problem,) if problem and problems is None else (),
    )


def _trl(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    folders = {int(folder.name.rpartition("-")[2]): folder for folder in path.glob("checkpoint-*") if folder.is_dir()}
    states = [path / "trainer_state.json", *(folders[step] / "trainer_state.json" for step in sorted(folders)[::-1])]
    state = _object(next(file for file in states if file.is_file()))
    total = _count(state["global_step"])
    rows = [row for row in state["log_history"] if "learning_rate" in row]
    by_step = _by_step(rows, "step", path / "trainer_state.json", problems, consecutive=False)
    if not by_step:
        raise DataError(f"{path} logs no learning rate", "log it with logging_steps")
    steps = sorted(by_step)
    rates = np.interp(np.arange(1, total + 1), steps, [float(by_step[step]["learning_rate"]) for step in steps])
    return ForeignRun(path=path, format="TRL", checkpoints=dict(sorted(folders.items())), rates=(rates,))


def _count(value: Any, most: int = MOST_STEPS) -> int:
    """Return a number of steps, or of something else."""
    number = int(value)
    if not 0 <= number <= most:
        raise ValueError(f"{str(value)[:20]} is no number from 0 to {most}")
    return number


def _moves(spread: float) -> float:
    """Return sum z^2 / N of a step whose rewards have this standard deviation."""
    return (spread / (spread + STD_FLOOR)) ** 2


def _finals(path: Path) -> list[Path]:
    found = [*path.glob("final_model_iteration_*"), *path.glob("model_saves/final_model_iteration_*")]
    return [folder for folder in found if re.search(r"_\d+$", folder.name)]


def _first_weights(*folders: Path) -> Path | None:
    patterns = ("*.safetensors", "pytorch_model*")
    return next((folder for folder in folders if any(any(folder.glob(p)) for p in patterns)), None)


def _tensorboard(path: Path, tag: str) -> tuple[list[float], str]:
    """Return a scalar's values in order of its steps, and what kept it from being read."""
    if not any(path.glob("events.out.tfevents*")):
        return [], f"{path} has no event file: the walk is taken from its hyper-parameters"
    try:
        reader: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    except ImportError:
        return [], f"{path}: its event files need the package tensorboard; the walk is taken from its hyper-parameters"
    accumulator = reader.EventAccumulator(str(path), size_guidance={"scalars": 0})
    accumulator.Reload()
    if tag not in accumulator.Tags()["scalars"]:
        return [], f"{path} logs no {tag}: the walk is taken from its hyper-parameters"
    values = {event.step: float(event.value) for event in accumulator.Scalars(tag)}
    return [values[step] for step in sorted(values)], ""


def _object(file: Path) -> dict[str, Any]:
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", "restore the files of the run") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no JSON object", "restore the files of the run")
    return content


def _lines(file: Path, problems: Problems | None) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file; a torn last line is an interrupted write and is left out."""
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
            _problem(f"{file}: line {number} is damaged", "restore the file, or cut it before that line", problems)
    return rows


def _by_step(
    rows: Iterable[dict[str, Any]], key: str, file: Path, problems: Problems | None, *, consecutive: bool = True
) -> dict[int, dict[str, Any]]:
    """Return rows by step; the last of a doubled step counts, and steps must be 1, 2, 3, ... if ``consecutive``."""
    found: dict[int, dict[str, Any]] = {}
    for row in rows:
        step = _count(row[key])
        if step in found:
            _problem(f"{file} has step {step} twice", "keep one of them", problems)
        found[step] = row
    last = max(found, default=0)
    missing = last - sum(1 <= step <= last for step in found) if consecutive else 0
    if missing:
        first = next(step for step in range(1, last) if step not in found)
        _problem(f"{file} lacks step {first} ({missing} missing)", "restore the file", problems)
    return found


def _problem(what: str, remedy: str, problems: Problems | None) -> None:
    if problems is None:
        raise DataError(what, remedy)
    problems.append(what)
