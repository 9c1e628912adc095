"""Runs of es-awd, the code of arXiv:2605.30148: ES with decay toward the weights at the start, replayable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.files import Problems, note, read_lines, read_object
from estheory.quantities import Measurement, Quantity
from estheory.rules import LARGEST_COUNT
from estheory.runs.foreign.rows import by_step, count, storage
from estheory.runs.view import BY_COEFFICIENTS, ForeignRun, Given, Implementation, Settings, Shown, Step

WEIGHT_CHANGE = "weight_change.jsonl"


def read_es(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    """Read a run: args.json, the coefficients of each step, and what its evaluation scripts wrote beside them.

    Parameters and result as of :func:`estheory.runs.foreign.read_foreign`.
    """
    args, updates = read_object(path / "args.json"), path / "iteration_updates"
    alpha, population = float(given.alpha or args["alpha"]), int(given.population or args["population_size"])
    mirrored, engines = bool(args.get("mirror_sampling")), count(args.get("num_engines", 1))
    vectors = population // 2 if mirrored else population
    rows = [read_object(file) for file in sorted(updates.glob("iteration_*.json"))]
    found = by_step(rows, "iteration", updates, problems)
    z = _coefficients(found, vectors, engines, updates, problems, blank=math.sqrt(population / max(vectors, 1)))
    weights = alpha / population * z
    decay = str(args.get("weight_decay_type", "none"))
    kappa = alpha * float(args.get("weight_decay_lambda", 0.0))
    pull, dtype = kappa if decay == "l1" else 0.0, storage(args.get("precision", "float16"))
    unjudged = []
    if pull and dtype == "float32":
        unjudged.append("its L1 anchor: no closed form is conditioned on coefficients, and only 16 bits are emulated")
    norms: dict[int, tuple[float, int]] = {}
    layers: dict[int, Mapping[str, float]] = {}
    if not unjudged:
        for step, row in _weight_changes(path, problems).items():
            if 0 < step <= len(weights):
                norms[step] = (float(row["frobenius_norm"]), count(row["total_elements_compared"], LARGEST_COUNT))
                layers[step] = {str(k): float(v) for k, v in row.get("weight_layer_frobenius_norm", {}).items()}
    final = path / "final_model_weights.pt"
    pairs = math.ceil(vectors / max(engines, 1)) * (2 if mirrored else 1)
    return ForeignRun(
        path=path,
        format="es-awd",
        steps=tuple(_step(found.get(step, {}), step, norms, mirrored) for step in range(1, len(weights) + 1)),
        told=Settings(
            method="es",
            steps=len(weights),
            sigma=float(given.sigma or args["sigma"]),
            alpha=alpha,
            population=population,
            shaping="zscore",
            antithetic=mirrored,
            anchor_l2=kappa if decay == "l2" else 0.0,
            anchor_l1=kappa if decay == "l1" else 0.0,
            anchor_form="after",
            dtype=dtype,
        ),
        checkpoints={len(weights): final} if final.is_file() and not unjudged else {},
        increments=np.sum(weights**2, axis=1),
        weights=weights,
        population=vectors,
        condition=BY_COEFFICIENTS,
        keep=1.0 - kappa if decay == "l2" else 1.0,
        logged_norms=norms,
        logged_layers=layers,
        pull=pull,
        dtype=dtype,
        sigma=float(given.sigma or args["sigma"]),
        mirrored=mirrored,
        implementations=(
            Implementation(
                update_path=given.update_path or "accumulated",
                arithmetic="rounded" if given.update_path == "sequential" else "es-awd",
                restore_pairs=pairs if given.restore_pairs is None else given.restore_pairs,
            ),
        ),
        shown=tuple(evaluations(path, problems)),
        unjudged=tuple(unjudged),
    )


def _step(row: Mapping[str, Any], step: int, norms: Mapping[int, tuple[float, int]], mirrored: bool) -> Step:
    """Return a logged step; mirrored members' coefficients are logged as differences only, which are no members'."""
    values = np.array(row.get("update_coefficients", []), dtype=np.float64)
    seeds = tuple(seed for seed in row.get("seeds", ()) if isinstance(seed, int))
    norm = norms[step][0] if step in norms else None
    return Step(step=step, coefficients=None if mirrored or not values.size else values, seeds=seeds, norm=norm)


def _coefficients(
    found: Mapping[int, dict[str, Any]],
    vectors: int,
    engines: int,
    updates: Path,
    problems: Problems | None,
    blank: float,
) -> Array:
    """Return the coefficients of each step, those of the first engine's members first, shape (T, vectors).

    A step that is missing or damaged counts as one whose squares sum to the population: all its coefficients `blank`.
    """
    served_first = sorted(range(vectors), key=lambda member: member % max(engines, 1))
    values = np.full((max(found, default=0), vectors), blank)
    for step, row in found.items():
        logged = np.array(row["update_coefficients"], dtype=np.float64)
        if logged.shape == (vectors,) and np.isfinite(logged).all():
            values[step - 1] = logged[served_first]
            continue
        what = f"{updates}: step {step} has {logged.size} coefficients, not {vectors} finite ones"
        note(DataError(what, "restore the file, or give --population"), problems)
    return values


def _weight_changes(path: Path, problems: Problems | None) -> dict[int, dict[str, Any]]:
    file = path / WEIGHT_CHANGE
    if not file.is_file():
        return {}
    return by_step((row for _, row in read_lines(file, problems)), "step", file, problems, consecutive=False)


def evaluations(path: Path, problems: Problems | None) -> Iterator[Shown]:
    """Yield the last KL and accuracy of every data set that the evaluation scripts scored.

    Yields: KL (nat/token) or accuracy (a share) of one data set: measured, and predicted by nothing.
    """
    for file in sorted(path.glob("*.jsonl")):
        rows = [row for _, row in read_lines(file, problems) if "step" in row]
        if file.name == WEIGHT_CHANGE or not rows:
            continue
        row = rows[-1]
        if "prompt_averaged_kl_divergence" in row:
            quantity, value = Quantity.KL_DRIFT, float(row["prompt_averaged_kl_divergence"])
            stderr = float(row["prompt_averaged_kl_std"]) / math.sqrt(max(count(row["num_examples"]), 1))
            reason, data = "nothing measured tr F before the run", file.stem.removesuffix("_kl")
        elif "accuracy" in row:
            quantity, value = Quantity.ACCURACY, float(row["accuracy"]) / 100
            stderr = math.sqrt(max(value * (1 - value), 0.0) / max(count(row["num_examples"]), 1))
            reason, data = "no curvature was probed that would predict it", file.stem
        else:
            continue
        measured = Measurement(
            quantity=quantity, value=value, stderr=stderr, step=count(row["step"]), where=data, source=path.name
        )
        yield Shown(measurement=measured, reason=reason)
