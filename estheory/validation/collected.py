"""What a report is about: runs, sequences of stages, and folders that hold several, with what is missing of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from estheory.errors import ConfigError, DataError, EstheoryError
from estheory.files import reading
from estheory.measurement.remarks import remarks
from estheory.models.builtin import model_folder
from estheory.runs.directory import is_run
from estheory.runs.read import read_own
from estheory.runs.sequence import SequenceRecord, is_sequence, read_sequence
from estheory.runs.view import Given, OwnRun
from estheory.validation.foreign_runs import foreign_evidence
from estheory.validation.judge import Evidence, Pair
from estheory.validation.own_runs import run_evidence
from estheory.validation.run_against_run import between_runs
from estheory.validation.sequence_pairs import joint_pairs, renamed


@dataclass(kw_only=True)
class Collected:
    """Pairs by the name of their run, the records of runs, sequences, and what was left out.

    Attributes
    ----------
    pairs, runs
        Predictions with measurements, and the records of runs that this package made, by name.
    sequences
        By the name that precedes their stages'.
    staged
        Names of runs that are stages.
    missing
        What is not complete, one line each.
    notes
        What could not be measured or judged, and why.
    """

    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    runs: dict[str, OwnRun] = field(default_factory=dict)
    sequences: dict[str, SequenceRecord] = field(default_factory=dict)
    staged: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How run directories are read.

    Attributes
    ----------
    base, given
        Base weights and hyper-parameters of runs of another code whose folder does not tell them.
    keep_going
        Note what is damaged, and judge the rest.
    repeat_head
        Count a tied output head again, as a state dict does.
    """

    base: str | Path | None = None
    given: Given | None = None
    keep_going: bool = False
    repeat_head: bool = False

    def foreign(self, path: Path) -> Evidence:
        """Read and measure a run directory of another code; a note says what its log shows and nothing predicts."""
        base = None if self.base is None else model_folder(self.base)
        found = foreign_evidence(path, base, self.given, keep_going=self.keep_going, repeat_head=self.repeat_head)
        if not found.unpredicted:
            return found
        kinds = ", ".join(sorted({figure.quantity for figure in found.unpredicted}))
        seen = f"not judged: {kinds} in the log of {path}: estheory validate shows them"
        return replace(found, notes=[*found.notes, seen])


def collected(targets: Sequence[Path], how: Reading, said: Callable[[str], None]) -> Collected:
    """Read and measure what a report is about.

    A run named itself must be fit to be judged, unless ``--keep-going``; of a sequence, or of a folder of runs, what is
    there is taken and the rest is said to be missing.

    `said`: called with the name of each run that was measured.
    Result: with one run or stage at least that could be read.
    """
    found = Collected()
    for name, path in _named(targets).items():
        if is_sequence(path):
            _add_sequence(found, name, path, len(targets) > 1, how, said)
        elif inside := _runs_inside(path):
            for run in inside:
                _add(found, run.name if len(targets) == 1 else f"{name}/{run.name}", run, how, True)
                said(run.name)
        else:
            _add(found, name, path, how, how.keep_going)
            said(name)
    by_path = {run.path.name: name for name, run in found.runs.items()}
    for pair in between_runs(list(found.runs.values())) if len(by_path) == len(found.runs) else ():
        found.pairs[by_path[pair[1].source.partition("|")[0]]].append(pair)
    if not found.pairs:
        lacks = [*found.missing, *found.notes]
        more = f" (and {len(lacks) - 1} more)" if len(lacks) > 1 else ""
        raise DataError(f"no run can be judged: {lacks[0]}{more}", "check the folders, or let the runs make a step")
    return found


def _named(targets: Sequence[Path]) -> dict[str, Path]:
    """Name each folder by its last part, or by its whole path where two are called the same."""
    short = [path.resolve().name for path in targets]
    names = {name if short.count(name) == 1 else str(path): path for name, path in zip(short, targets, strict=True)}
    if len(names) < len(targets):
        raise ConfigError("a run is given twice", "give each folder once")
    return names


def _runs_inside(path: Path) -> list[Path]:
    """Return the run directories in a folder that is none itself; one of another code has no such folders."""
    if is_run(path) or not path.is_dir():
        return []
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and is_run(folder))


def _add(found: Collected, name: str, path: Path, how: Reading, keep_going: bool) -> None:
    try:
        run = read_own(path) if is_run(path) else None
        evidence = how.foreign(path) if run is None else run_evidence(run, keep_going=how.keep_going)
    except DataError as error:
        if not keep_going:
            raise
        found.missing.append(f"{name}: {error.what}")
        return
    found.pairs[name] = list(evidence.pairs)
    found.notes += _said(name, evidence)
    if run is not None:
        found.runs[name] = run
        if lack := _unfinished(run):
            found.missing.append(f"{name}: {lack}")


def _said(name: str, evidence: Evidence) -> list[str]:
    """Return what there is to say of a run beside its verdicts, a line each."""
    seen = remarks(evidence.measured) if evidence.measured else []
    return [f"{name}: {line}" for line in (*evidence.notes, *(found.text for found in evidence.findings), *seen)]


def _unfinished(run: OwnRun) -> str:
    """Return how far a run is that has neither all its steps nor a reason to stop early; empty if it is done."""
    planned, made = run.config.steps, len(run.steps)
    may_stop = math.isfinite(run.config.stop_reward) or math.isfinite(run.config.stop_drift)
    return "" if made >= planned or may_stop else f"at step {made} of {planned}, still running or cut off"


def _add_sequence(
    found: Collected, name: str, path: Path, several: bool, how: Reading, said: Callable[[str], None]
) -> None:
    sequence = read_sequence(path, f"{name}/" if several else "")
    found.sequences[name] = sequence
    for stage in sequence.stages:
        found.staged.add(stage.name)
        if stage.lack:
            found.missing.append(f"{stage.name}: {stage.lack}")
        if stage.run is None:
            continue
        found.runs[stage.name] = stage.run
        try:
            evidence = run_evidence(stage.run, keep_going=how.keep_going)
        except EstheoryError as error:
            found.notes.append(f"{stage.name}: {error.what}")
            continue
        found.pairs[stage.name] = renamed(evidence.pairs, stage.run, stage.name)
        found.notes += _said(stage.name, evidence)
        said(stage.name)
    with reading(path):
        for pair in joint_pairs(sequence):
            found.pairs.setdefault(pair[1].source, []).append(pair)
