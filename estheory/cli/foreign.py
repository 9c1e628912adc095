"""Run directories of other people's code: their checkpoints measured, and joined with what theory says of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast, get_args

from estheory.cli.measure import MeasureOptions
from estheory.cli.options import ESOptions, choice, number
from estheory.errors import ConfigError, DataError
from estheory.floats import FORMATS
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.models.headers import tensor_entries
from estheory.models.magnitudes import magnitude_counts
from estheory.models.shapes import tensor_shapes
from estheory.models.weight_files import is_adapter
from estheory.quantities import Measurement, Prediction
from estheory.rules import Dtype, UpdatePath
from estheory.simulation.strata import SampledWeights
from estheory.validation.foreign import ForeignRun, Given, Shown, read_foreign
from estheory.validation.foreign.pairs import MeasuredPath, foreign_pairs
from estheory.validation.foreign.rounded import Roundings, adamw_factors, roundings

DESCRIBING = ("model", "alpha", "population", "sigma", "update_path", "restore_pairs")
"""The ES options that may say what a foreign run directory does not."""

_STORED: dict[str, Dtype] = {"BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True, kw_only=True)
class ForeignRecord:
    """Predictions with measurements of a foreign run, what it shows without a prediction, and what was left out."""

    pairs: list[tuple[Prediction, Measurement]]
    shown: tuple[Shown, ...]
    notes: list[str]


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
    stored = FORMATS.get(_stored(list(run.checkpoints.values())[-1])) if len(run.increments) else None
    measured = measure_displacements(origin, files, repeat_head=twice, keep_going=how.keep_going, stored=stored)
    return replace(measured, steps=tuple(int(label.removeprefix("step ")) for label in measured.labels))


def recorded_foreign(path: Path, base: Path | None, es: ESOptions, how: MeasureOptions) -> ForeignRecord:
    """Return what a foreign run says of the theory.

    Raises
    ------
    ConfigError
        If options are given that do not describe such a run.
    DataError
        If the folder is no known run directory, is damaged, or holds nothing that can be judged.
    """
    problems: list[str] | None = [] if how.keep_going else None
    run = read_foreign(path, _given(path, es), problems)
    notes = [*(problems or ()), *(f"not judged: {reason}" for reason in run.unjudged)]
    origin, measured = base or run.base, None
    adapters = [file for file in run.checkpoints.values() if is_adapter(file)]
    if adapters and not len(run.increments):
        notes.append(f"not judged: {adapters[0]} is an adapter, whose factors walk, not the weights")
    elif run.checkpoints and origin:
        try:
            displacements = foreign_displacements(run, origin, how)
        except DataError as error:
            if not how.keep_going:
                raise
            notes.append(f"not judged: the checkpoints of {path}: {error.what}")
        else:
            notes += displacements.problems
            measured = _path(run, displacements)
    elif run.checkpoints:
        notes.append(f"not judged: the checkpoints of {path}: no base weights; give --model BASE")
    held = origin or next(iter(run.checkpoints.values()), None)
    shapes = tensor_shapes(held) if run.logged_norms and held else None
    rounded, adamw, why = None, None, ""
    try:
        if len(run.increments):
            rounded = _rounding(run, measured, origin)
        elif measured is not None and origin is not None and measured.dtype != "float32" and len(run.rates):
            adamw = adamw_factors(run, measured.dtype, measured.steps, _sampled(origin, measured.dtype))
    except DataError as error:
        why = f"{error.what}; {error.remedy}"
        notes.append(f"not judged: norms in 16 bits: {why}")
        run, measured = replace(run, logged_norms={}, logged_layers={}, unjudged=(*run.unjudged, why)), None
    return ForeignRecord(pairs=foreign_pairs(run, measured, rounded, shapes, adamw), shown=run.shown, notes=notes)


def _given(path: Path, es: ESOptions) -> Given:
    unset = asdict(ESOptions())
    other = [name for name, value in asdict(es).items() if value != unset[name] and name not in DESCRIBING]
    if other:
        allowed = ", --".join(name.replace("_", "-") for name in DESCRIBING)
        raise ConfigError(f"--{other[0].replace('_', '-')} does not describe the run in {path}", f"use --{allowed}")
    population, paths = number("population", es.population), get_args(UpdatePath)
    pairs = number("restore-pairs", es.restore_pairs)
    return Given(
        alpha=number("alpha", es.alpha),
        population=None if population is None else int(population),
        sigma=number("sigma", es.sigma),
        update_path=None
        if es.update_path is None
        else cast(UpdatePath, choice("update-path", es.update_path, paths, "")),
        restore_pairs=None if pairs is None else int(pairs),
    )


def _rounding(run: ForeignRun, measured: MeasuredPath | None, origin: Path | None) -> Roundings | None:
    """Return what rounding does to an ES run, None in float32; `DataError` if that is not known."""
    steps: Collection[int] = {*run.logged_norms, *(measured.steps if measured else ())}
    steps = [step for step in steps if 0 < step < len(run.variances)]
    dtype = measured.dtype if measured else run.dtype
    if not steps or dtype == "float32":
        return None
    return roundings(run, dtype, steps, None if origin is None else _sampled(origin, dtype))


def _sampled(origin: Path, dtype: Dtype) -> SampledWeights:
    names, magnitudes, counts = magnitude_counts(origin, dtype)
    return SampledWeights(names=names, magnitudes=magnitudes, counts=counts)


def _stored(path: Path) -> Dtype:
    """Return how a checkpoint stores its weights: in 16 bits if any tensor is."""
    found = {entry.dtype for entry in tensor_entries(path).values()}
    return next((dtype for code, dtype in _STORED.items() if code in found), "float32")


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
        dtype=_stored(last),
    )
