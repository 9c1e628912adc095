"""``estheory lines``: rewards between two solutions and along their directions, measured and predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from estheory.cli.emit import emit, json_text, narrate
from estheory.cli.options import CommonOptions, options
from estheory.errors import ConfigError, DataError

if TYPE_CHECKING:
    from estheory.line_scores import LineStudy

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
@options(CommonOptions)
def lines(
    common: CommonOptions,
    start: Annotated[Path, typer.Argument(help="Run directory or checkpoint at u = 0, e.g. of ES.")],
    end: Annotated[Path, typer.Argument(help="Run directory or checkpoint at u = 1, e.g. of GRPO.")],
    model: Annotated[str | None, typer.Option(help="Their base; a run directory names it.")] = None,
    task: Annotated[str | None, typer.Option(help="Task to score; a run directory names it.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of JSONL or Parquet files, or hf:ID, with the task.")] = None,
    prompts: Annotated[int, typer.Option(help="Held-out prompts, the same at every point.")] = 400,
    points: Annotated[int, typer.Option(help="Points of the line between them.")] = 11,
    directions: Annotated[int, typer.Option(help="Random directions of each probe.")] = 32,
    level: Annotated[float, typer.Option(help="Family-wise level (Holm).")] = 0.05,
) -> None:
    """Score a model between two solutions and along their directions; predict and judge both.

    Exit code 3 if any prediction is refuted, 4 if none is consistent.
    """
    from estheory.reporting.lines import lines_json, lines_text
    from estheory.validation.judge import exit_code, judge
    from estheory.validation.lines import line_pairs

    if not 0 < level < 1:
        raise ConfigError(f"--level must lie between 0 and 1, got {level}", "0.05 is common")
    studies = studies_of(
        (start, end),
        model=model,
        task=task,
        data=data,
        prompts=prompts,
        points=points,
        directions=directions,
        seed=common.seed or 0,
    )
    narrate(common, f"scored {len(studies)} lines")
    verdicts = judge([pair for study in studies for pair in line_pairs(study)], level)
    text = json_text(lines_json(studies, verdicts, level)) if common.json else lines_text(studies, verdicts, level)
    emit(common, text)
    raise typer.Exit(exit_code(verdicts))


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

    Raises
    ------
    ConfigError
        If base or task are not told, the runs differ in them, or prompts, points or directions are too few.
    DataError
        If a checkpoint is missing, damaged, or of another model.
    """
    from estheory.measurement.accuracy import task_scorers
    from estheory.measurement.interpolation import checkpoint_vector
    from estheory.measurement.lines import study_lines
    from estheory.models.checkpoints import open_checkpoint
    from estheory.models.load import load_model
    from estheory.models.parameters import FlatParameters
    from estheory.training.evaluation import held_out, task_for

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
    from estheory.validation.records import is_run, read_run

    if not is_run(path):
        return path, {}
    run = read_run(path)
    if not run.checkpoints:
        raise DataError(f"{path} has no checkpoint", "let the run finish")
    told = {key: str(run.config[key]) for key in ("model", "task", "trainable", "data", "form") if key in run.config}
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
