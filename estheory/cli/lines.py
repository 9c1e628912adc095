"""``estheory lines``: rewards between two solutions and along their directions, measured and predicted."""

# no postponed annotations: see options.py

from pathlib import Path
from typing import Annotated

import typer

from estheory.cli import complete
from estheory.cli.emit import cite, show
from estheory.cli.options import Command, TableOptions, options, program
from estheory.cli.values import level as probability

app = program()


@app.command(cls=Command, epilog="estheory lines runs/es runs/grpo --prompts 200")
@options(TableOptions)
def lines(
    common: TableOptions,
    start: Annotated[Path, typer.Argument(help="Run directory or checkpoint at u = 0, e.g. of ES.")],
    end: Annotated[Path, typer.Argument(help="Run directory or checkpoint at u = 1, e.g. of GRPO.")],
    model: Annotated[
        str | None, typer.Option(help="Their base; a run directory names it.", autocompletion=complete.models)
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task to score; a run directory names it.", autocompletion=complete.tasks)
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of JSONL or Parquet files, or hf:ID, with the task.")] = None,
    prompts: Annotated[int, typer.Option(help="Held-out prompts, the same at every point.")] = 400,
    points: Annotated[int, typer.Option(help="Points of the line between them.")] = 11,
    directions: Annotated[int, typer.Option(help="Random directions of each probe.")] = 32,
    level: Annotated[float, typer.Option(help="Family-wise level (Holm).", parser=probability)] = 0.05,
) -> None:
    """Score a model between two solutions and along their directions; predict and judge both.

    Exit code 3 if any prediction is refuted, 4 if none is consistent.
    """
    from estheory.cli.progress import counted
    from estheory.measurement.line_study import LineDesign, left_out_of, studies_of
    from estheory.measurement.remarks import left_out_rows, left_out_sentences
    from estheory.reporting.line_results import lines_json, lines_sheet
    from estheory.reporting.text.tables import Sheet
    from estheory.runs.directory import is_run
    from estheory.runs.read import read_own
    from estheory.validation.judge import exit_code, judge
    from estheory.validation.line_pairs import line_pairs

    design = LineDesign(points=points, directions=directions, seed=common.seed or 0)
    with counted(common, "scoring", design.evaluations) as done:
        studies = studies_of(
            (start, end),
            model=model,
            task=task,
            data=data,
            prompts=prompts,
            design=design,
            done=done,
        )
    runs = [read_own(path) for path in (start, end) if is_run(path)]
    verdicts = judge([pair for study in studies for pair in line_pairs(study, runs)], level)
    left_out = left_out_of((start, end))
    show(
        common,
        lambda: lines_json(studies, verdicts, level) | {"left_out": left_out_rows(left_out)},
        lambda: lines_sheet(studies, verdicts, level) + Sheet(*left_out_sentences(left_out)),
    )
    cite(common, [used for v in verdicts for used in (v.prediction, v.measurement)])
    raise typer.Exit(exit_code(verdicts))
