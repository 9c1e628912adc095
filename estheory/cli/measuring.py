"""Displacements, and their predictions, from what the command line names: a run, or a base and its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from estheory.cli.es_options import cases, forecast_of, whole
from estheory.cli.foreign import ForeignRecord, foreign_displacements, recorded_foreign
from estheory.cli.measure import MeasureOptions
from estheory.cli.options import ESOptions, choice
from estheory.errors import ConfigError, DataError
from estheory.floats import FORMATS
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.models.builtin import builtin_names, get_builtin
from estheory.models.shapes import tensor_shapes
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.rules import require_count, require_positive
from estheory.simulation.strata import SampledWeights
from estheory.validation.foreign import Given, read_foreign
from estheory.validation.records import RunRecord, is_run, read_run
from estheory.validation.reward_probe import unmeasured
from estheory.validation.rounding import rounded_grpo_pairs, rounded_pairs
from estheory.validation.runs import run_pairs, step_pairs, walk_variances


def model_folder(name: str) -> Path:
    """Return the folder of a built-in model, or the path itself."""
    return get_builtin(name) if name in builtin_names() else Path(name)


def displacements_of(targets: Sequence[Path], how: MeasureOptions, *, steps: Sequence[float] = ()) -> Displacements:
    """Measure a run directory (one target), or checkpoints against the base named first.

    Raises
    ------
    ConfigError
        If the one target is no run directory, or there is not one step for each checkpoint.
    DataError
        If a file is missing or damaged, or a run has no checkpoint.
    """
    twice = choice("tied-head", how.tied_head, ("once", "twice"), "once") == "twice"
    if len(targets) == 1:
        if is_run(targets[0]):
            return run_displacements(read_run(targets[0]), how)
        return foreign_displacements(read_foreign(targets[0]), None, how)
    if len(set(targets[1:])) < len(targets) - 1:
        raise ConfigError("a checkpoint is given twice", "give one or more different checkpoints")
    base, *others = (model_folder(str(target)) for target in targets)
    labelled = dict(zip(map(str, targets[1:]), others, strict=True))
    measured = measure_displacements(base, labelled, repeat_head=twice, keep_going=how.keep_going)
    if steps and len(steps) != len(measured.labels):
        raise ConfigError(
            f"{len(measured.labels)} checkpoints but {len(steps)} steps", "give --steps with one for each"
        )
    return replace(measured, steps=tuple(whole("steps", step) for step in steps)) if steps else measured


def run_displacements(run: RunRecord, how: MeasureOptions) -> Displacements:
    """Measure every checkpoint of a run against its base, over the trained tensors."""
    if not run.checkpoints:
        raise DataError(f"{run.path} has no checkpoint", "let the run finish, or set --checkpoint-every")
    if str(run.config.get("trainable")).startswith("lora"):
        raise DataError(f"{run.path} trains adapters, whose start is in no file", "estheory validate judges its norms")
    trained = None
    if run.config.get("trainable", "all") != "all":
        trained = set(tensor_shapes(next(iter(run.checkpoints.values()))))
    files = {f"step {step}": file for step, file in run.checkpoints.items()}
    base = model_folder(str(run.config["model"]))
    stored = FORMATS.get(str(run.config.get("dtype", "float32")))
    return measure_displacements(base, files, names=trained, keep_going=how.keep_going, stored=stored)


def variances_of(
    targets: Sequence[Path], measured: Displacements, alpha: float | None, population: int | None
) -> list[float] | None:
    """Return the variance of the walk behind each checkpoint; None where nothing tells it.

    A run of this package tells it by its logged coefficients; for other checkpoints it is alpha^2 T / N.
    """
    if (alpha is None) != (population is None):
        raise ConfigError("--alpha and --population belong together", "give both, or neither")
    steps = [step for step in measured.steps if step]
    if len(targets) == 1:
        walk = _recorded_walk(targets[0], Given(alpha=alpha, population=population))
        return [walk[step] for step in steps] if steps and all(walk.get(step) for step in steps) else None
    if alpha is None or population is None:
        return None
    if len(steps) < len(measured.steps):
        raise ConfigError("the step of a checkpoint is unknown", "give --steps with one for each")
    require_positive("alpha", alpha)
    require_count("population", population, 2)
    return [alpha**2 * step / population for step in steps]


def _recorded_walk(path: Path, given: Given) -> dict[int, float]:
    """Return the variance of a flat coordinate by step, as a run directory tells it; empty for gradient methods."""
    if not is_run(path):
        return dict(enumerate(read_foreign(path, given).variances.tolist()))
    run = read_run(path)
    return walk_variances(run) if run.method == "es" else {}


def foreign_record(path: Path, es: ESOptions, how: MeasureOptions) -> ForeignRecord:
    """Return what a run directory of another code says; ``--model`` names its base, a folder or a built-in model."""
    return recorded_foreign(path, None if es.model is None else model_folder(es.model), es, how)


def recorded_pairs(
    path: Path, es: ESOptions, how: MeasureOptions
) -> tuple[list[tuple[Prediction, Measurement]], list[str]]:
    """Return predictions and measurements of a recorded run, and what could not be judged.

    The ES options say what the run directory of another code leaves open; a run of this package leaves nothing open.
    """
    if not is_run(path):
        record = foreign_record(path, es, how)
        kinds = ", ".join(sorted({shown.quantity for shown in record.shown}))
        seen = [f"not judged: {kinds} in the log of {path}: estheory validate shows them"] if kinds else []
        return record.pairs, [*record.notes, *seen]
    if es != ESOptions():
        raise ConfigError("the ES options describe the run behind BASE CHECKPOINT", "leave them out here")
    run = read_run(path)
    cosines: dict[tuple[int, int], float] = {}
    tensors: dict[str, tuple[int, float]] = {}
    shapes, problems = None, [why] if (why := _unmeasurable(run)) else []
    if not problems:
        measured = run_displacements(run, how)
        index = {int(label.removeprefix("step ")): k for k, label in enumerate(measured.labels)}
        cosines = {(a, b): float(measured.cosines[index[a], index[b]]) for a, b in step_pairs(run)}
        last = measured.tensor_norms[-1] if len(run.steps) in index else ()
        sized = zip(measured.tensors.items(), last, strict=False)
        tensors = {name: (size, float(norm)) for (name, size), norm in sized if size}
        shapes = tensor_shapes(list(run.checkpoints.values())[-1])
        problems = list(measured.problems)
    if run.config.get("dtype", "float32") != "float32":
        weights = _base_weights(run)
        pairs = rounded_pairs(run, weights, tensors) if run.method == "es" else rounded_grpo_pairs(run, weights)
        return pairs, problems
    if cosines and run.config.get("anchor_l1"):
        problems.append("no law tells the cosines of checkpoints under an L1 anchor: they are not judged")
    return run_pairs(run, tensors, cosines, shapes), problems + unmeasured(run)


def _unmeasurable(run: RunRecord) -> str:
    """Return why a run's checkpoints cannot be measured, as a stage of a sequence that kept none; empty if they can."""
    base = str(run.config["model"])
    if str(run.config.get("trainable")).startswith("lora"):
        return f"{run.path} trains adapters, whose start is in no file: its tensors and cosines are not judged"
    if not run.checkpoints:
        return f"{run.path} has no checkpoint: its tensors and cosines are not judged"
    if base not in builtin_names() and not Path(base).exists():
        return f"the model {base} that {run.path} began with is gone: its tensors and cosines are not judged"
    return ""


def _base_weights(run: RunRecord) -> SampledWeights:
    """Return the magnitudes of the weights that a 16-bit run trains, as it stores them at its start."""
    from estheory.models.magnitudes import magnitude_counts
    from estheory.models.shapes import trainable_shapes

    trainable, dtype = str(run.config.get("trainable", "all")), run.config["dtype"]
    if dtype not in ("bfloat16", "float16"):
        raise DataError(f"{run.path}: dtype = {str(dtype)[:20]!r} is unknown", "restore config.toml")
    if trainable.startswith("lora"):
        raise DataError(f"{run.path}: rounding of adapters is not predicted", "train them in float32")
    base = model_folder(str(run.config["model"]))
    chosen = set(trainable_shapes(tensor_shapes(base), trainable))
    names, magnitudes, counts = magnitude_counts(base, dtype, chosen)
    return SampledWeights(names=names, magnitudes=magnitudes, counts=counts)


def checkpoint_pairs(
    targets: Sequence[Path], es: ESOptions, how: MeasureOptions
) -> tuple[list[tuple[Prediction, Measurement]], list[str]]:
    """Return predictions from ES options for checkpoints of one run, given in the order of ``--steps``."""
    measured = displacements_of(targets, how)
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
    return pairs, list(measured.problems)
