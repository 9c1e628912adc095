"""Run directories of other people's code: their checkpoints measured, and joined with what theory says of them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from estheory.cli.measure import MeasureOptions
from estheory.cli.options import ESOptions, choice, number
from estheory.errors import ConfigError, DataError
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.models.headers import tensor_entries
from estheory.models.shapes import tensor_shapes
from estheory.models.weight_files import is_adapter
from estheory.quantities import Measurement, Prediction
from estheory.validation.foreign import ForeignRun, Given, read_foreign
from estheory.validation.foreign_pairs import MeasuredPath, foreign_pairs

DESCRIBING = ("model", "alpha", "population")
"""The ES options that may say what a foreign run directory does not."""


def foreign_displacements(run: ForeignRun, base: Path | None, how: MeasureOptions) -> Displacements:
    """Measure the checkpoints of a foreign run against `base`, or against the base weights in its folder.

    Raises
    ------
    DataError
        If it has no checkpoint, or no base is known.
    """
    origin = base or run.base
    if not run.checkpoints:
        raise DataError(f"{run.path} has no checkpoint", "let the run finish, or give BASE CHECKPOINT ...")
    if origin is None:
        raise DataError(f"{run.path} does not hold its base weights", "give BASE CHECKPOINT ..., or --model BASE")
    files = {f"step {step}": path for step, path in run.checkpoints.items()}
    twice = choice("tied-head", how.tied_head, ("once", "twice"), "once") == "twice"
    measured = measure_displacements(origin, files, repeat_head=twice, keep_going=how.keep_going)
    return replace(measured, steps=tuple(int(label.removeprefix("step ")) for label in measured.labels))


def recorded_foreign(
    path: Path, base: Path | None, es: ESOptions, how: MeasureOptions
) -> tuple[list[tuple[Prediction, Measurement]], list[str]]:
    """Return predictions and measurements of a foreign run, and what could not be judged.

    Raises
    ------
    ConfigError
        If options are given that do not describe such a run.
    DataError
        If the folder is no known run directory, is damaged, or holds nothing that can be judged.
    """
    unset = asdict(ESOptions())
    other = [name for name, value in asdict(es).items() if value != unset[name] and name not in DESCRIBING]
    if other:
        raise ConfigError(
            f"--{other[0].replace('_', '-')} does not describe the run in {path}", f"use --{', --'.join(DESCRIBING)}"
        )
    population = number("population", es.population)
    given = Given(alpha=number("alpha", es.alpha), population=None if population is None else int(population))
    problems: list[str] | None = [] if how.keep_going else None
    run = read_foreign(path, given, problems)
    notes = [*(problems or ()), *(f"not judged: {reason}" for reason in run.unjudged)]
    measured = None
    adapters = [file for file in run.checkpoints.values() if is_adapter(file)]
    if adapters and run.rates:
        notes.append(f"not judged: {adapters[0]} is an adapter, whose factors walk, not the weights")
    elif run.checkpoints and (base or run.base):
        displacements = foreign_displacements(run, base, how)
        notes += displacements.problems
        measured = _path(run, displacements)
    elif run.checkpoints:
        notes.append(f"not judged: the checkpoints of {path}: no base weights; give --model BASE")
    return foreign_pairs(run, measured), notes


def _path(run: ForeignRun, measured: Displacements) -> MeasuredPath:
    steps = [step for step in measured.steps if step is not None]
    last = run.checkpoints[steps[-1]]
    rows = zip(measured.tensors.items(), measured.tensor_norms[-1].tolist(), strict=True)
    return MeasuredPath(
        steps=steps,
        shapes=list(tensor_shapes(last).values()),
        norms=measured.norms,
        cosines=measured.cosines,
        exponent=measured.exponent,
        tensors={name: (size, norm) for (name, size), norm in rows},
        low_precision=any(entry.dtype in ("BF16", "F16") for entry in tensor_entries(last).values()),
    )
