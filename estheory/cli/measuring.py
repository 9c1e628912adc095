"""Displacements, and their predictions, from what the command line names: a run, or a base and its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from estheory.cli.es_options import cases, forecast_of
from estheory.cli.options import ESOptions
from estheory.errors import ConfigError, DataError
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.models.builtin import builtin_names, get_builtin
from estheory.models.shapes import tensor_shapes
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.validation.records import RunRecord, is_run, read_run
from estheory.validation.runs import run_pairs, step_pairs


def model_folder(name: str) -> Path:
    """Return the folder of a built-in model, or the path itself."""
    return get_builtin(name) if name in builtin_names() else Path(name)


def displacements_of(targets: Sequence[Path]) -> Displacements:
    """Measure a run directory (one target), or checkpoints against the base named first.

    Raises
    ------
    DataError
        If a file is missing or damaged, or a run has no checkpoint.
    """
    if len(targets) == 1:
        return run_displacements(read_run(targets[0]))
    return measure_displacements(model_folder(str(targets[0])), list(targets[1:]))


def run_displacements(run: RunRecord) -> Displacements:
    """Measure every checkpoint of a run against its base, over the trained tensors."""
    if not run.checkpoints:
        raise DataError(f"{run.path} has no checkpoint", "let the run finish, or set --checkpoint-every")
    trained = None
    if run.config.get("trainable", "all") != "all":
        trained = set(tensor_shapes(next(iter(run.checkpoints.values()))))
    files = {f"step {step}": file for step, file in run.checkpoints.items()}
    return measure_displacements(model_folder(str(run.config["model"])), files, names=trained)


def recorded_pairs(path: Path) -> list[tuple[Prediction, Measurement]]:
    """Return predictions and measurements of a recorded run."""
    if not is_run(path):
        raise ConfigError(f"{path} is no run directory", "give 'published', RUN_DIR, or BASE CHECKPOINT ...")
    run = read_run(path)
    measured = run_displacements(run)
    index = {int(label.removeprefix("step ")): k for k, label in enumerate(measured.labels)}
    cosines = {(a, b): float(measured.cosines[index[a], index[b]]) for a, b in step_pairs(run)}
    last = measured.tensor_norms[-1] if len(run.steps) in index else ()
    tensors = {
        name: (size, float(norm)) for (name, size), norm in zip(measured.tensors.items(), last, strict=False) if size
    }
    return run_pairs(run, tensors, cosines)


def checkpoint_pairs(targets: Sequence[Path], es: ESOptions) -> list[tuple[Prediction, Measurement]]:
    """Return predictions from ES options for checkpoints of one run, given in the order of ``--steps``."""
    measured = displacements_of(targets)
    if es.dim is None and es.model is None:
        es = replace(es, dim=str(sum(measured.tensors.values())))
    [case, *more] = cases(es)[0]
    if more:
        raise ConfigError("validate takes one configuration", "give one number for each option but --steps")
    if len(case.checkpoints) != len(measured.labels):
        raise ConfigError(
            f"{len(measured.labels)} checkpoints but {len(case.checkpoints)} steps", "give --steps with one for each"
        )
    forecast = forecast_of(case)
    pairs = []
    for step, label, norm in zip(case.checkpoints, measured.labels, measured.norms, strict=True):
        quantity = Quantity.DISPLACEMENT_NORM
        where = f"total:{label}"
        pairs.append(
            (
                forecast.get(quantity, step),
                Measurement(quantity=quantity, value=float(norm), step=step, where=where, source=str(targets[0])),
            )
        )
    for a, b in np.argwhere(np.triu(np.ones_like(measured.cosines), 1)):
        first, second = case.checkpoints[a], case.checkpoints[b]
        prediction = next(
            (p for p in forecast.predictions if p.where in (f"{first}|{second}", f"{second}|{first}")), None
        )
        if prediction is not None:
            pairs.append(
                (
                    prediction,
                    Measurement(
                        quantity=prediction.quantity,
                        value=float(measured.cosines[a, b]),
                        step=prediction.step,
                        where=f"{measured.labels[a]}|{measured.labels[b]}",
                        source=str(targets[0]),
                    ),
                )
            )
    return pairs
