"""The lines between two runs or checkpoints of one model, scored on a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from estheory.errors import ConfigError, DataError
from estheory.line_scores import LineStudy
from estheory.measurement.accuracy import task_scorers
from estheory.measurement.held_out import held_out, task_for
from estheory.measurement.interpolation import checkpoint_vector
from estheory.measurement.lines import study_lines
from estheory.models.checkpoints import open_checkpoint
from estheory.models.load import load_model
from estheory.models.parameters import FlatParameters
from estheory.runs.directory import is_run
from estheory.runs.read import read_own


def studies_of(
    ends: tuple[Path, Path],
    *,
    labels: tuple[str, str] | None = None,
    model: str | None = None,
    task: str | None = None,
    data: str | None = None,
    prompts: int,
    points: int = 11,
    directions: int = 32,
    seed: int = 0,
) -> list[LineStudy]:
    """Study the lines around two run directories or checkpoints, by accuracy and by log-probability.

    Parameters
    ----------
    ends
        Run directories or checkpoints at u = 0 and u = 1.
    labels
        What they are called; their folders' names when None.
    task
        What is scored; a run directory tells it.
    data
        Folder of JSONL or Parquet files, or ``hf:ID``, with the task; a run directory tells it.
    """
    if prompts < 2:
        raise ConfigError(f"lines need 2 or more prompts, got {prompts}", "400 are common")
    files, told = zip(*(_end(path) for path in ends), strict=True)
    base = model or _agreed("model", told)
    scored = task or _agreed("task", told)
    trainable = _agreed("trainable", told, "all")
    if trainable.startswith("lora"):
        raise ConfigError("adapters have no straight line between them here", "merge them, or train whole tensors")
    loaded = load_model(base)
    parameters = FlatParameters(loaded.model, trainable)
    start, end = (checkpoint_vector(parameters, open_checkpoint(file)) for file in files)
    form = _agreed("form", told, "auto")
    read_as = task_for(loaded, scored, data or _agreed("data", told, ""), form)  # type: ignore[arg-type]
    held = held_out(loaded, read_as, prompts)
    names = labels or _names(ends)
    return [
        study_lines(
            parameters,
            start,
            end,
            task_scorers(loaded.model, loaded.tokenizer, held.task, held.examples, score),
            score=score,
            labels=names,
            points=points,
            directions=directions,
            local=score == "logprob",  # a greedy answer flips or does not: accuracy has no slope
            seed=seed,
        )
        for score in ("accuracy", "logprob")
    ]


def _end(path: Path) -> tuple[Path, dict[str, str]]:
    """Return the last checkpoint of a run, or the checkpoint itself, and what the run's configuration tells."""
    if not is_run(path):
        return path, {}
    run = read_own(path)
    if not run.checkpoints:
        raise DataError(f"{path} has no checkpoint", "let the run finish")
    told = {key: str(getattr(run.config, key)) for key in ("model", "task", "trainable", "data", "form")}
    return list(run.checkpoints.values())[-1], told


def _agreed(name: str, told: Sequence[dict[str, str]], default: str | None = None) -> str:
    values = {config[name] for config in told if name in config}
    if len(values) > 1:
        raise ConfigError(f"the two runs differ in {name}: {' and '.join(sorted(values))}", f"give --{name}, or others")
    if not values and default is None:
        raise ConfigError(f"two checkpoints do not tell their {name}", f"give --{name}")
    return values.pop() if values else str(default)


def _names(ends: tuple[Path, Path]) -> tuple[str, str]:
    first, second = (path.resolve() for path in ends)
    return (first.name, second.name) if first.name != second.name else (str(ends[0]), str(ends[1]))
