"""Run directories: their checkpoints measured, and joined with what theory says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from estheory.errors import ConfigError, DataError
from estheory.floats import FORMATS
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.models.builtin import builtin_names, model_folder
from estheory.models.shapes import tensor_shapes
from estheory.runs.directory import is_run
from estheory.runs.read import read_own
from estheory.runs.view import Given, OwnRun
from estheory.simulation.emulator.checkpoint_weights import checkpoint_weights
from estheory.simulation.emulator.strata import SampledWeights
from estheory.validation.claims import Claims
from estheory.validation.foreign_runs import foreign_evidence
from estheory.validation.judge import Evidence, Pair
from estheory.validation.own_pairs import run_pairs, step_pairs
from estheory.validation.own_rounding import rounded_grpo_pairs, rounded_pairs
from estheory.validation.recorded_faults import recorded_findings
from estheory.validation.reward_probe_pairs import unmeasured
from estheory.validation.run_against_run import between_runs


def recorded_pairs(
    path: str | Path,
    base: str | Path | None = None,
    given: Given | None = None,
    *,
    keep_going: bool = False,
    repeat_head: bool = False,
) -> Evidence:
    r"""Measure a run directory and join it with what theory says of the run; :func:`judge` takes the pairs.

    Parameters
    ----------
    path
        A run directory of this package, or of another code (:mod:`estheory.runs.foreign`).
    base
        The weights that a run of another code began with, where its folder does not hold them.
    given
        What the caller says of a run of another code; a run of this package leaves nothing open.
    keep_going
        Note what is damaged, and judge the rest.
    repeat_head
        Count a tied output head again, as a state dict does.

    Returns
    -------
    Evidence
        Pairs to judge, figures that nothing predicts, and a note for each thing left out.

    Raises
    ------
    ConfigError
        If ``base`` or ``given`` describe a run of this package.
    DataError
        If the folder is no run directory, is damaged, or holds nothing that can be judged.

    Examples
    --------
    The records of one step of ES, written by hand; ``estheory run es`` writes them, and checkpoints too:

    >>> from tempfile import mkdtemp
    >>> from estheory.validation.judge import judge
    >>> folder = Path(mkdtemp())
    >>> from estheory.runs.config import ESRunConfig
    >>> run = ESRunConfig(model="tiny-lm", task="addition", steps=1, sigma=0.015, alpha=0.0075, population=4)
    >>> _ = (folder / "config.toml").write_text(run.to_toml())
    >>> _ = (folder / "environment.json").write_text('{"model": {"dim": 59184}}')
    >>> step = '{"step": 1, "norm": 0.911, "coefficients": [1.0, -1.0, 1.0, -1.0]}'
    >>> _ = (folder / "steps.jsonl").write_text(step + "\n")
    >>> evidence = recorded_pairs(folder)
    >>> [(verdict.prediction.quantity.value, verdict.kind) for verdict in judge(evidence.pairs)]
    [('step_norm', 'consistent')]
    >>> evidence.notes[0].endswith("has no checkpoint: its tensors and cosines are not judged")
    True
    """
    path = Path(path)
    if not is_run(path):
        origin = None if base is None else model_folder(base)
        return foreign_evidence(path, origin, given, keep_going=keep_going, repeat_head=repeat_head)
    if base is not None or (given is not None and given != Given()):
        raise ConfigError("the ES options describe the run behind BASE CHECKPOINT", "leave them out here")
    return run_evidence(read_own(path), keep_going=keep_going)


def run_evidence(run: OwnRun, *, keep_going: bool = False) -> Evidence:
    """Measure the checkpoints of a run of this package and join its records with what theory says of it.

    `keep_going`: note what cannot be compared, and judge the rest.
    Result: norms, cosines and rewards, as far as the run recorded them; a note for each thing left out.
    """
    cosines: dict[tuple[int, int], float] = {}
    tensors: dict[str, tuple[int, float]] = {}
    measured, shapes, notes = None, None, [why] if (why := _unmeasurable(run)) else []
    if not notes:
        measured = run_displacements(run, keep_going=keep_going)
        index = {int(label.removeprefix("step ")): k for k, label in enumerate(measured.labels)}
        cosines = {(a, b): float(measured.cosines[index[a], index[b]]) for a, b in step_pairs(run)}
        last = measured.tensor_norms[-1] if len(run.steps) in index else ()
        sized = zip(measured.tensors.items(), last, strict=False)
        tensors = {name: (size, float(norm)) for (name, size), norm in sized if size}
        shapes = tensor_shapes(list(run.checkpoints.values())[-1])
        notes = list(measured.problems)
    claims = Claims(rule=run.settings.rules(), measured=measured) if run.method == "es" else None
    honest = run.method == "es" and not run.es.permute_rewards  # a control's coefficients are of other rewards
    found = recorded_findings(run.steps, run.settings) if honest else ()
    if run.config.dtype != "float32":
        weights = _base_weights(run)
        pairs: list[Pair] = (
            rounded_pairs(run, weights, tensors) if run.method == "es" else rounded_grpo_pairs(run, weights)
        )
        return Evidence(pairs=pairs, notes=notes, claims=claims, findings=found, measured=measured)
    if cosines and run.settings.anchor_l1:
        notes.append("no law tells the cosines of checkpoints under an L1 anchor: they are not judged")
    pairs = run_pairs(run, tensors, cosines, shapes)
    return Evidence(pairs=pairs, notes=notes + unmeasured(run), claims=claims, findings=found, measured=measured)


def evidence_of_runs(paths: Sequence[Path], *, keep_going: bool = False) -> Evidence:
    """Judge several runs of this package, each by its own records, and what every two of them have in common.

    `keep_going`: note what cannot be compared, and judge the rest.
    Result: of one run after another, then of every two.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("a run is given twice", "give each folder once")
    runs = [read_own(path) for path in paths]
    each = [run_evidence(run, keep_going=keep_going) for run in runs]
    return Evidence(
        pairs=[*(pair for found in each for pair in found.pairs), *between_runs(runs)],
        notes=[note for found in each for note in found.notes],
        findings=[finding for found in each for finding in found.findings],
    )


def run_displacements(run: OwnRun, *, keep_going: bool = False) -> Displacements:
    """Measure every checkpoint of a run of this package against its base, over the trained tensors.

    `keep_going`: note what cannot be compared, and measure the rest.
    Result: labels are ``step N``; from the base as the run stores its weights.
    """
    if not run.checkpoints:
        raise DataError(f"{run.path} has no checkpoint", "let the run finish, or set --checkpoint-every")
    if run.config.trainable.startswith("lora"):
        raise DataError(f"{run.path} trains adapters, whose start is in no file", "estheory validate judges its norms")
    trained = None
    if run.config.trainable != "all":
        trained = set(tensor_shapes(next(iter(run.checkpoints.values()))))
    files = {f"step {step}": file for step, file in run.checkpoints.items()}
    base = model_folder(run.config.model)
    stored = FORMATS.get(run.config.dtype)
    return measure_displacements(base, files, names=trained, keep_going=keep_going, stored=stored)


def _unmeasurable(run: OwnRun) -> str:
    """Return why a run's checkpoints cannot be measured, as a stage of a sequence that kept none; empty if they can."""
    base = run.config.model
    if run.config.trainable.startswith("lora"):
        return f"{run.path} trains adapters, whose start is in no file: its tensors and cosines are not judged"
    if not run.checkpoints:
        return f"{run.path} has no checkpoint: its tensors and cosines are not judged"
    if base not in builtin_names() and not Path(base).exists():
        return f"the model {base} that {run.path} began with is gone: its tensors and cosines are not judged"
    return ""


def _base_weights(run: OwnRun) -> SampledWeights:
    """Return the magnitudes of the weights that a 16-bit run trains, as it stores them at its start."""
    if run.config.trainable.startswith("lora"):
        raise DataError(f"{run.path}: rounding of adapters is not predicted", "train them in float32")
    return checkpoint_weights(run.config.model, run.config.dtype, run.config.trainable)
