"""Run directories of other people's code: their checkpoints measured, and joined with what theory says of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from estheory.errors import DataError, EstheoryError
from estheory.floats import FORMATS
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.models.headers import tensor_entries
from estheory.models.magnitudes import magnitude_counts
from estheory.models.shapes import tensor_shapes
from estheory.models.torch_files import AdamRules, adam_rules
from estheory.models.weight_files import is_adapter
from estheory.rules import Dtype
from estheory.runs.foreign import read_foreign
from estheory.runs.view import ForeignRun, Given
from estheory.simulation.emulator.checkpoint_weights import checkpoint_weights
from estheory.validation.claims import Claims
from estheory.validation.explanations import findings
from estheory.validation.foreign_pairs import Adam, MeasuredPath, foreign_pairs
from estheory.validation.foreign_rounding import Roundings, adamw_factors, roundings
from estheory.validation.judge import Evidence
from estheory.validation.recorded_faults import recorded_findings

_STORED: dict[str, Dtype] = {"BF16": "bfloat16", "F16": "float16"}


def foreign_displacements(
    run: ForeignRun, base: Path | None = None, *, keep_going: bool = False, repeat_head: bool = False
) -> Displacements:
    """Measure the checkpoints of a foreign run against ``base``, or against the base weights in its folder.

    `base`: file or folder of the weights it began with.
    Result: labels are ``step N``, in order; of ES from the base as its checkpoints store weights.
    """
    origin = base or run.base
    if not run.checkpoints:
        raise DataError(f"{run.path} has no checkpoint", "let the run finish, or give BASE CHECKPOINT ...")
    if origin is None:
        raise DataError(f"{run.path} does not hold its base weights", "give BASE CHECKPOINT ..., or --model BASE")
    files = {f"step {step}": path for step, path in run.checkpoints.items()}
    stored = FORMATS.get(_stored(list(run.checkpoints.values())[-1])) if len(run.increments) else None
    measured = measure_displacements(origin, files, repeat_head=repeat_head, keep_going=keep_going, stored=stored)
    return replace(measured, steps=tuple(int(label.removeprefix("step ")) for label in measured.labels))


def foreign_evidence(
    path: Path,
    base: Path | None = None,
    given: Given | None = None,
    *,
    keep_going: bool = False,
    repeat_head: bool = False,
) -> Evidence:
    """Return what a run directory of another code says of the theory.

    `base`: file or folder of the weights it began with, where the folder does not hold them.
    `given`: what the caller says of the run; wins over the folder's own hyper-parameters.
    `keep_going`: note what is damaged, and judge the rest.
    `repeat_head`: count a tied output head again, as a state dict does.
    Result: norms, cosines and exponents, given the coefficients, reward spreads or hyper-parameters that the folder
    tells; unpredicted is what its own evaluations measured.
    """
    problems: list[str] | None = [] if keep_going else None
    run = read_foreign(path, given, problems)
    notes = [*(problems or ()), *(f"not judged: {reason}" for reason in run.unjudged)]
    origin, measured = base or run.base, None
    displacements: Displacements | None = None
    run, rules, said = _optimised(run)
    notes += said
    adapters = [file for file in run.checkpoints.values() if is_adapter(file)]
    if adapters and not len(run.increments):
        why = f"{adapters[0]} is an adapter, whose factors walk, not the weights"
        notes.append(f"not judged: {why}")
        run = replace(run, unjudged=(*run.unjudged, why))
    elif run.checkpoints and origin:
        try:
            displacements = foreign_displacements(run, origin, keep_going=keep_going, repeat_head=repeat_head)
        except DataError as error:
            if not keep_going:
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
            if rules != AdamRules():
                raise DataError(
                    "rounding of AdamW is emulated with betas 0.9 and 0.999 and no weight decay", "judge a float32 run"
                )
            adamw = adamw_factors(run, measured.dtype, measured.steps, checkpoint_weights(origin, measured.dtype))
    except DataError as error:
        why = f"{error.what}; {error.remedy}"
        notes.append(f"not judged: norms in 16 bits: {why}")
        run, measured = replace(run, logged_norms={}, logged_layers={}, unjudged=(*run.unjudged, why)), None
    adam = Adam(rules=rules, base_square=_base_square(origin) if rules.weight_decay and origin else 0.0)
    pairs = foreign_pairs(run, measured, rounded, shapes, adamw, adam)
    claims = _claims(run, displacements, origin, measured.dtype if measured else run.dtype)
    found = (*(findings(claims) if claims else ()), *recorded_findings(run.steps, run.settings))
    return Evidence(
        pairs=pairs, unpredicted=run.shown, notes=notes, claims=claims, findings=found, measured=displacements
    )


def _base_square(origin: Path) -> float:
    """Return ||theta_0||^2 (weight^2), to a rounding of a percent of each weight that decay does not see."""
    _, magnitudes, counts = magnitude_counts(origin, "bfloat16")
    return float(counts.sum(axis=0) @ magnitudes**2)


def _claims(run: ForeignRun, measured: Displacements | None, base: Path | None, stored: Dtype) -> Claims | None:
    """Return what an ES run claims to be; None where its hyper-parameters or the size of its model are not told."""
    counted = next((count for _, count in run.logged_norms.values()), None)
    dim = sum(measured.tensors.values()) if measured else counted
    if run.settings.method != "es" or dim is None:
        return None
    try:
        rule = replace(run.settings, dim=dim).rules()
    except EstheoryError:
        return None
    return Claims(rule=rule, measured=measured, base=base, stored=stored)


def _optimised(run: ForeignRun) -> tuple[ForeignRun, AdamRules, list[str]]:
    """Return the run, without rates where its optimiser is not AdamW; its rule; and what to say of both."""
    usual = AdamRules()
    if run.optimizer is None or not len(run.rates):
        return run, usual, []
    try:
        rules = adam_rules(run.optimizer)
    except DataError as error:
        return run, usual, [f"the optimiser is taken for AdamW, betas 0.9 and 0.999: {error.what}"]
    if rules is None or (rules.weight_decay and not rules.decoupled):
        why = f"the optimiser of {run.optimizer} is not AdamW, whose walk alone is predicted"
        run = replace(run, rates=np.zeros(0), unjudged=(*run.unjudged, why))
        return run, usual, [f"not judged: {why}"]
    (beta1, beta2), decay = rules.betas, rules.weight_decay
    told = f"the optimiser's betas are {beta1:g} and {beta2:g}, its weight decay {decay:g} ({run.optimizer})"
    return run, rules, [] if rules == usual else [told]


def _rounding(run: ForeignRun, measured: MeasuredPath | None, origin: Path | None) -> Roundings | None:
    """Return what rounding does to an ES run, None in float32; `DataError` if that is not known."""
    steps: Collection[int] = {*run.logged_norms, *(measured.steps if measured else ())}
    steps = [step for step in steps if 0 < step < len(run.variances)]
    dtype = measured.dtype if measured else run.dtype
    if not steps or dtype == "float32":
        return None
    return roundings(run, dtype, steps, None if origin is None else checkpoint_weights(origin, dtype))


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
