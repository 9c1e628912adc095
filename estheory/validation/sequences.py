"""A sequence of tasks as its folder tells it, finished or not: JSON and TOML only, no training code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from estheory.errors import DataError
from estheory.laws import ChiLaw
from estheory.parsing import parse_json
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.runs.view import DAMAGED, RunRecord, is_run, read_run, reading
from estheory.theory.walk import OURS
from estheory.validation.assumptions import CONDITIONED, FLAT
from estheory.validation.judge import Pair
from estheory.validation.recorded_walk import RecordedWalk, noise_weights


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a sequence.

    Attributes
    ----------
    name
        ``es/seed-0/1-countdown``, its folder below that of the sequence.
    method, seed, number, task
        What it is; stages are numbered from 1.
    run
        Its record; None if it has not begun or cannot be read.
    done
        done.json: norms, and accuracy and KL of every task before and after; empty while it is not finished.
    lack
        Why it is not complete, in words; empty if it is.
    """

    name: str
    method: str
    seed: int
    number: int
    task: str
    run: RunRecord | None
    done: Mapping[str, Any]
    lack: str


@dataclass(frozen=True, kw_only=True)
class SequenceRecord:
    """What the folder of a sequence holds.

    Attributes
    ----------
    path
        The folder.
    tasks, methods, seeds
        In order.
    stages
        Every planned stage, method by method and seed by seed.
    cosines
        Names of the last models' displacements from the base and their cosines, shape (K, K); None until all are done.
    """

    path: Path
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    stages: tuple[Stage, ...]
    cosines: tuple[tuple[str, ...], np.ndarray[Any, np.dtype[np.float64]]] | None

    def of(self, method: str, seed: int) -> list[Stage]:
        """Return the stages of one method and seed."""
        return [stage for stage in self.stages if (stage.method, stage.seed) == (method, seed)]

    def matrix(self, method: str, seed: int, quantity: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return what was evaluated before the first stage and after each.

        Returns
        -------
        ndarray, shape (stages + 1, tasks)
            NaN where nothing was evaluated; KL before the first stage is 0.
        """
        states = np.full((len(self.tasks) + 1, len(self.tasks)), np.nan)
        for stage in self.of(method, seed):
            for row, when in ((stage.number - 1, "before"), (stage.number, "after")):
                for column, task in enumerate(self.tasks):
                    known = stage.done.get(when, {}).get(task, {})
                    missing = 0.0 if (quantity, row) == ("kl", 0) and known else np.nan
                    value = known.get(quantity, missing)
                    states[row, column] = value if np.isnan(states[row, column]) else states[row, column]
        return states


def is_sequence(path: Path) -> bool:
    """Return whether a folder looks like that of a sequence."""
    return (path / "sequence.json").is_file()


def read_sequence(path: Path, prefix: str = "") -> SequenceRecord:
    """Read the folder of a sequence, whichever of its stages are there.

    Parameters
    ----------
    prefix
        What precedes the names of its stages, to tell them from another sequence's.

    Returns
    -------
    SequenceRecord
        With every planned stage; what one lacks is said in it.
    """
    with reading(path / "sequence.json"):
        plan = parse_json((path / "sequence.json").read_bytes())
        tasks, seeds = tuple(map(str, plan["tasks"])), tuple(map(int, plan["seeds"]))
        planned = {str(method): int(config["steps"]) for method, config in plan["configs"].items()}
        stages = tuple(
            _stage(path, prefix, method, seed, number, task, steps)
            for method, steps in planned.items()
            for seed in seeds
            for number, task in enumerate(tasks, start=1)
        )
        cosines = None
    with reading(path / "summary.json"):
        if (path / "summary.json").is_file():
            found = parse_json((path / "summary.json").read_bytes()).get("cosines")
            if found:
                names, values = tuple(map(str, found["of"])), np.array(found["values"], dtype=np.float64)
                if values.shape != (len(names), len(names)):
                    raise ValueError(f"cosines of shape {values.shape} for {len(names)} models")
                cosines = names, values
        return SequenceRecord(
            path=path, tasks=tasks, methods=tuple(planned), seeds=seeds, stages=stages, cosines=cosines
        )


def _stage(path: Path, prefix: str, method: str, seed: int, number: int, task: str, steps: int) -> Stage:
    below = f"{method}/seed-{seed}/{number}-{task}"
    folder, run, done, lack = path / below, None, {}, ""
    if not is_run(folder):
        lack = "not begun" if not folder.exists() else "its records are gone"
    else:
        try:
            run = read_run(folder)
        except DataError as error:
            lack = str(error)
        if (folder / "done.json").is_file():
            try:
                done = _done((folder / "done.json").read_bytes())
            except DAMAGED as error:
                lack = f"its done.json is damaged ({type(error).__name__}: {error})"
        elif run is not None:
            lack = f"at step {len(run.steps)} of {steps}, still running or cut off"
    return Stage(name=prefix + below, method=method, seed=seed, number=number, task=task, run=run, done=done, lack=lack)


def _done(raw: bytes) -> dict[str, Any]:
    """Return what done.json holds, its numbers as floats."""
    content = parse_json(raw, finite=True)
    states = {
        when: {
            str(task): {str(name): float(value) for name, value in known.items()}
            for task, known in content[when].items()
        }
        for when in ("before", "after")
    }
    return {**states, "norm": float(content["norm"]), "norm_from_base": float(content["norm_from_base"])}


def renamed(pairs: Iterable[Pair], run: RunRecord, name: str) -> list[Pair]:
    """Return pairs whose measurements name the stage ``name`` in place of the run's folder."""
    short = run.path.name
    return [
        (prediction, replace(m, where=m.where.replace(f":{short}", f":{name}"), source=name if m.source else ""))
        for prediction, m in pairs
    ]


def joint_pairs(sequence: SequenceRecord) -> Iterator[Pair]:
    """Yield the distance of every ES stage after the first from the base, given the coefficients of all of them.

    Members' noise is named by seed and step, so the stages of one seed draw the same vectors and their weights add
    before they are squared: v = (alpha/N)^2 sum_ti (sum_k z_kti)^2. Exact for flat directions of plain walks.

    Parameters
    ----------
    sequence
        With the records of its ES stages; a seed ends at the first that is unfinished or not additive.
    """
    for method, seed in ((m, s) for m in sequence.methods if m == "es" for s in sequence.seeds):
        weights: dict[tuple[int, int], np.ndarray[Any, np.dtype[np.float64]]] = {}
        for stage in sequence.of(method, seed):
            if stage.run is None or not stage.done or not RecordedWalk.of(stage.run).additive:
                break
            config = stage.run.config
            scale = float(config["alpha"]) / int(config["population"])
            for row in stage.run.steps:
                key = int(row["seeds"]["seed"]), int(row["seeds"]["step"])
                step = scale * noise_weights(row["coefficients"], bool(config.get("antithetic")))
                weights[key] = weights.get(key, 0.0) + step
            variance = sum(float(np.sum(step**2)) for step in weights.values())
            if stage.number == 1 or variance == 0:
                continue
            prediction = Prediction(
                quantity=Quantity.DISPLACEMENT_NORM,
                law=ChiLaw(math.sqrt(variance), stage.run.dim),
                label="exact",
                source=OURS,
                assumptions=(FLAT, CONDITIONED, "stages of one seed draw the same noise vectors"),
                step=len(stage.run.steps),
            )
            yield (
                prediction,
                Measurement(
                    quantity=Quantity.DISPLACEMENT_NORM,
                    value=float(stage.done["norm_from_base"]),
                    step=len(stage.run.steps),
                    where=f"from the base, after {stage.number} stages",
                    source=stage.name,
                ),
            )
