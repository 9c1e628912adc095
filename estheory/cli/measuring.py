"""From what the command line names, a run or a base and its checkpoints, to displacements and evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from estheory.cli.case import forecast_of
from estheory.cli.es_options import cases, require_given
from estheory.cli.options import MeasureOptions
from estheory.errors import ConfigError
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.models.builtin import model_folder
from estheory.models.headers import tensor_entries
from estheory.models.weight_files import adapter_file, adapter_folder, is_adapter
from estheory.rules import Dtype, require_count, require_positive
from estheory.runs.directory import is_run
from estheory.runs.foreign import read_foreign
from estheory.runs.read import read_own
from estheory.runs.view import Given
from estheory.validation.checkpoints import displacement_pairs
from estheory.validation.claims import Claims, tensors_alike
from estheory.validation.explanations import findings
from estheory.validation.foreign_runs import foreign_displacements
from estheory.validation.judge import Evidence
from estheory.validation.own_pairs import walk_variances
from estheory.validation.own_runs import evidence_of_runs, recorded_pairs, run_displacements

DESCRIBING = ("model", "alpha", "population", "sigma", "shaping", "antithetic", "update_path", "restore_pairs")
"""The ES options that may say what the run directory of another code does not."""


def _require_one_run(targets: Sequence[Path], remedy: str) -> None:
    """Raise ConfigError if a run directory is among several targets: it holds no weights at its top."""
    for target in targets:
        if len(targets) > 1 and is_run(target):
            raise ConfigError(f"{target} is a run directory, and one run is read at a time", remedy)


FACTORS_REMEDY = "give the adapter as it was at the start in the place of BASE"


def walking_factors(targets: Sequence[Path]) -> str:
    """Return which adapter is compared with full weights: its factors walk, and not they; empty where none is."""
    adapters = [target for target in targets[1:] if is_adapter(target)]
    mixed = bool(adapters) and not is_adapter(targets[0])
    return f"{adapters[0]} is an adapter: its factors walk, not the weights" if mixed else ""


def displacements_of(
    targets: Sequence[Path], how: MeasureOptions, *, steps: Sequence[int] = (), model: str | None = None
) -> Displacements:
    """Measure a run directory (one target), or checkpoints against the base named first.

    `steps`: of the checkpoints, one each; empty where their names tell them.
    `model`: the base of a run of another code, where its folder does not hold it.
    """
    if model is not None and (len(targets) > 1 or is_run(targets[0])):
        raise ConfigError("--model names the base of a run of another code", "leave it out here")
    twice = how.head_twice
    if len(targets) == 1:
        if is_run(targets[0]):
            return run_displacements(read_own(targets[0]), keep_going=how.keep_going)
        run = read_foreign(targets[0])
        origin = None if model is None else model_folder(model)
        return foreign_displacements(run, origin, keep_going=how.keep_going, repeat_head=twice)
    _require_one_run(targets, "give it alone, or BASE and files of its folder checkpoints")
    if len(set(targets[1:])) < len(targets) - 1:
        raise ConfigError("a checkpoint is given twice", "give one or more different checkpoints")
    base, *others = (model_folder(target, download=False) for target in targets)
    labelled = dict(zip(map(str, targets[1:]), others, strict=True))
    measured = measure_displacements(base, labelled, repeat_head=twice, keep_going=how.keep_going)
    if steps and len(steps) != len(measured.labels):
        raise ConfigError(
            f"{len(measured.labels)} checkpoints but {len(steps)} steps", "give --steps with one for each"
        )
    return replace(measured, steps=tuple(steps)) if steps else measured


def variances_of(
    targets: Sequence[Path], measured: Displacements, alpha: float | None, population: int | None
) -> list[float] | None:
    """Return the variance of the walk behind each checkpoint.

    A run of this package tells it by its logged coefficients; for other checkpoints it is alpha^2 T / N.

    `targets`: one run directory, or a base and its checkpoints.
    `alpha`, `population`: step size (weight) and population of the walk; None where the run tells them.
    Result: of one coordinate (weight^2); None where nothing tells it.
    """
    if (alpha is None) != (population is None):
        raise ConfigError("--alpha and --population belong together", "give both, or neither")
    steps = [step for step in measured.steps if step]
    if len(targets) == 1:
        walk = _recorded_walk(targets[0], Given(alpha=alpha, population=population))
        return [walk[step] for step in steps] if steps and all(walk.get(step) for step in steps) else None
    if alpha is None or population is None or walking_factors(targets):
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
    run = read_own(path)
    return walk_variances(run) if run.method == "es" else {}


def given_of(path: Path, es: Mapping[str, Any]) -> Given:
    """Return what the ES options that were given say of the run directory of another code."""
    for name, value in es.items():
        if name not in DESCRIBING:
            allowed = ", --".join(name.replace("_", "-") for name in DESCRIBING)
            raise ConfigError(f"--{name.replace('_', '-')} does not describe the run in {path}", f"use --{allowed}")
        if isinstance(value, tuple) and len(value) > 1:
            raise ConfigError(f"--{name.replace('_', '-')} has several values", "give one: they describe one run")
    one = {name: value[0] if isinstance(value, tuple) else value for name, value in es.items() if name != "model"}
    return Given(**one)


def evidence_of(targets: Sequence[Path], es: Mapping[str, Any], how: MeasureOptions) -> Evidence:
    """Return what a run directory, or a base and the checkpoints of one run, say of the theory.

    The ES options describe the run behind checkpoints, and what the run directory of another code leaves open; a run
    of this package leaves nothing open.

    `targets`: one run directory, several of this package, or a base and its checkpoints.
    `es`: those that were given, by name; for checkpoints, sigma and population at least.
    """
    twice = how.head_twice
    if len(targets) == 1:
        path, given = targets[0], None
        if not is_run(path):
            given = given_of(path, es)
        elif es:
            raise ConfigError("the ES options describe the run behind BASE CHECKPOINT", "leave them out here")
        return recorded_pairs(path, es.get("model"), given, keep_going=how.keep_going, repeat_head=twice)
    if all(map(is_run, targets)):
        if es:
            raise ConfigError("the ES options describe the run behind BASE CHECKPOINT", "leave them out here")
        return evidence_of_runs(targets, keep_going=how.keep_going)
    _require_one_run(
        targets,
        "give it alone, or only runs of this package; BASE CHECKPOINT ... are files of weights, with the ES options of "
        "their run",
    )
    require_given(es, ("sigma", "population"))  # before minutes of measuring
    if factors := walking_factors(targets):
        raise ConfigError(factors, FACTORS_REMEDY)
    measured = displacements_of(targets, how)
    if "dim" not in es and "model" not in es:
        counted = {"model": str(targets[0])} if "trainable" in es else {"dim": (sum(measured.tensors.values()),)}
        es = {**counted, **es}
    if "steps" not in es:
        es = {"steps": _named_steps(measured), **es}
    [case, *more] = cases(es)[0]
    if more:
        raise ConfigError("validate takes one configuration", "give one number for each option but --steps")
    if len(case.checkpoints) != len(measured.labels):
        raise ConfigError(
            f"{len(measured.labels)} checkpoints but {len(case.checkpoints)} steps", "give --steps with one for each"
        )
    pairs = displacement_pairs(measured, forecast_of(case), steps=case.checkpoints, source=f"against {targets[0]}")
    stored = _stored(targets[1])
    base, *others = (model_folder(target, download=False) for target in targets)
    claims = Claims(
        rule=case.config,
        signal=case.reward,
        measured=measured,
        base=base,
        stored=stored,
        alike=tensors_alike(base, others[-1], repeat_head=how.head_twice),
    )
    notes = [*measured.problems, *measured.notes, *_stored_notes(stored, es)]
    return Evidence(pairs=pairs, notes=notes, claims=claims, findings=findings(claims), measured=measured)


def _named_steps(measured: Displacements) -> tuple[int, ...]:
    """Return the steps that the checkpoints' names tell."""
    named = tuple(step for step in measured.steps if step is not None)
    if len(named) < len(measured.steps) or 0 in named:
        lacks = next(label for label, step in zip(measured.labels, measured.steps, strict=True) if not step)
        raise ConfigError(
            f"the step of {lacks} is in no name like step_20", "give --steps with one for each checkpoint"
        )
    return named


def _stored(checkpoint: Path) -> Dtype:
    """Return how a checkpoint stores all its weights; float32 where it mixes."""
    path = model_folder(checkpoint, download=False)
    folder = adapter_folder(path)
    stored = {entry.dtype for entry in tensor_entries(adapter_file(folder) if folder else path).values()}
    kinds: dict[str, Dtype] = {"BF16": "bfloat16", "F16": "float16"}
    return kinds.get(stored.pop(), "float32") if len(stored) == 1 else "float32"


def _stored_notes(dtype: Dtype, es: Mapping[str, Any]) -> list[str]:
    """Return what to say of a checkpoint in 16 bits that is judged without rounding since no --dtype was given."""
    if "dtype" in es or dtype == "float32":
        return []
    return [
        f"weights are stored in {dtype}: rounding is not in this prediction; give --dtype {dtype} --update-path ... "
        "--weights BASE if the run updated them so, --dtype float32 if they were only saved so"
    ]
