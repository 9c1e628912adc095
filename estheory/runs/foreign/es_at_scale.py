"""Runs of es-at-scale, the code of arXiv:2509.24372, in its three versions.

Round robin (``countdown_nccl_TIME``: event files, base and final weights; no hyper-parameters), static
(``countdown_nccl_static_TIME``: event files, args.json) and the package's trainer (hyper-parameters in the folder's
name, ``checkpoint-es_fine_tuned_iteration_N``).
"""

from __future__ import annotations

import math
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from estheory.errors import DataError
from estheory.files import Problems, read_object
from estheory.rules import Dtype, UpdatePath
from estheory.runs.foreign.rows import count, first_weights, moves, shown, storage
from estheory.runs.view import BY_HYPERPARAMETERS, BY_REWARDS, ForeignRun, Given, Implementation, Settings, Step

_NAME = re.compile(r"-sigma([0-9.e-]+)-alpha([0-9.e-]+)-pop(\d+)-")
_FINAL = re.compile(r"^(final_model|checkpoint-es_fine_tuned)_iteration_(\d+)$")


def final_weights(path: Path) -> dict[int, Path]:
    """Return the folders of final weights.

    The package's trainer makes one step more than it names.

    Result: by the number of steps behind them, in order.
    """
    found = {}
    for folder in (*path.glob("*_iteration_*"), *path.glob("model_saves/*_iteration_*")):
        if (match := _FINAL.match(folder.name)) and folder.is_dir():
            found[count(match[2]) + (match[1] == "checkpoint-es_fine_tuned")] = folder
    return dict(sorted(found.items()))


def read_es(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    """Read a run: its hyper-parameters where it tells them, the spread of rewards from its event files.

    DataError where its event files lack steps and nothing collects problems.

    Parameters and result as of :func:`estheory.runs.foreign.read_foreign`.
    """
    ends = final_weights(path)
    if not ends and (tags := _tags(path)) and not {"reward/mean", "reward/std"} & set(tags):
        what = f"{path} holds event files of another code than es-at-scale (they log {', '.join(tags[:3])})"
        raise DataError(what, "write its steps as a JSONL log: step, and rewards, reward_std or norm")
    base = first_weights(path / "model_saves/base_model")
    told = _told(path)
    alpha, population = given.alpha or told.get("alpha"), given.population or told.get("population_size")
    if alpha is None or population is None:
        why = "its step size and population are not logged; give --alpha and --population"
        return ForeignRun(path=path, format="es-at-scale", base=base, checkpoints=ends, unjudged=(why,))
    spreads, why = _tensorboard(path, "reward/std")
    steps = max(ends, default=len(spreads))
    if spreads and len(spreads) != steps:
        why = f"{path} logs reward/std at {len(spreads)} of {steps} steps"
        if problems is None:
            raise DataError(why, "restore its event files")
        spreads = []
    if why and problems is not None:
        problems.append(why)
    rewards, _ = _tensorboard(path, "reward/mean")
    if len(rewards) != steps:
        rewards = []
    moved = [moves(std, f"{path}, reward/std", problems) for std in spreads] or [1.0] * steps
    return ForeignRun(
        path=path,
        format="es-at-scale",
        steps=tuple(
            Step(
                step=step,
                reward_mean=shown(rewards[step - 1]) if rewards else None,
                reward_std=shown(spreads[step - 1]) if spreads else None,
            )
            for step in range(1, steps + 1)
        ),
        told=Settings(
            method="es",
            steps=steps,
            sigma=given.sigma or told.get("sigma"),
            alpha=float(alpha),
            population=int(population),
            shaping="zscore",
            antithetic=False,
            dtype=storage(told.get("precision", "float16")),
        ),
        base=base,
        checkpoints=ends,
        increments=float(alpha) ** 2 / int(population) * np.array(moved),
        population=int(population),
        condition=BY_REWARDS if spreads else BY_HYPERPARAMETERS,
        dtype=storage(told.get("precision", "float16")),
        sigma=given.sigma or told.get("sigma"),
        implementations=_implementations(given, told, int(population)),
        uncounted=1 if any(f.name.startswith("checkpoint-") for f in ends.values()) else 0,
        unjudged=(why,) if why and problems is None else (),
    )


def _told(path: Path) -> dict[str, Any]:
    """Return the hyper-parameters in args.json or in the folder's name; empty where there are none."""
    if (path / "args.json").is_file():
        return read_object(path / "args.json")
    match = _NAME.search(path.resolve().name)
    if match is None:
        return {}
    precision: Dtype = "bfloat16"
    values = {"sigma": float(match[1]), "alpha": float(match[2]), "population_size": int(match[3])}
    return values | {"precision": precision, "package": True}


def _implementations(given: Given, told: dict[str, Any], population: int) -> tuple[Implementation, ...]:
    """Return the ways in which the version may round: a newer one adds each step at once."""
    paths: tuple[UpdatePath, ...] = ("accumulated",) if told else ("sequential", "accumulated")
    pairs: tuple[int, ...] = (1, population)
    if "num_engines" in told:
        pairs = (math.ceil(population / max(count(told["num_engines"]), 1)),)
    if given.restore_pairs is not None:
        pairs = (given.restore_pairs,)
    chosen = (given.update_path,) if given.update_path else paths
    return tuple(Implementation(update_path=p, restore_pairs=n) for p in chosen for n in dict.fromkeys(pairs))


def _tensorboard(path: Path, tag: str) -> tuple[list[float], str]:
    """Return a scalar's values in order of its steps, and what kept it from being read."""
    if not any(path.glob(_EVENTS)):
        return [], f"{path} has no event file: the walk is taken from its hyper-parameters"
    accumulator = _events(path)
    if accumulator is None:
        return [], f"{path}: its event files need the package tensorboard; the walk is taken from its hyper-parameters"
    if tag not in accumulator.Tags()["scalars"]:
        return [], f"{path} logs no {tag}: the walk is taken from its hyper-parameters"
    values = {event.step: float(event.value) for event in accumulator.Scalars(tag)}
    return [values[step] for step in sorted(values)], ""


_EVENTS = "events.out.tfevents*"


def _events(path: Path) -> Any:
    """Return the reader of a folder's event files; None without the package tensorboard."""
    try:
        reader: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    except ImportError:
        return None
    accumulator = reader.EventAccumulator(str(path), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def _tags(path: Path) -> list[str]:
    """Return the names of the scalars in a folder's event files; empty where there are none or they cannot be read."""
    accumulator = _events(path) if any(path.glob(_EVENTS)) else None
    return [] if accumulator is None else [str(tag) for tag in accumulator.Tags()["scalars"]]
