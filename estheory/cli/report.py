"""``estheory report``: one self-contained HTML page from run directories."""

# no postponed annotations: see options.py

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

import typer

from estheory.cli import complete
from estheory.cli.emit import cite, emit, json_text, narrate, warn
from estheory.cli.options import Command, CommonOptions, MeasureOptions, options, program
from estheory.cli.values import level as probability
from estheory.errors import ConfigError
from estheory.files import write_text

if TYPE_CHECKING:
    from estheory.line_scores import LineStudy
    from estheory.measurement.displacement import Displacements
    from estheory.runs.view import OwnRun

app = program()


@app.command(cls=Command, epilog="estheory report runs --out report.html")
@options(MeasureOptions, CommonOptions)
def report(
    how: MeasureOptions,
    common: CommonOptions,
    targets: Annotated[
        list[Path], typer.Argument(metavar="RUN_DIR...", help="Folders of runs, of sequences, or of several runs.")
    ],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    level: Annotated[float, typer.Option(help="Family-wise level (Holm), over all runs.", parser=probability)] = 0.05,
    evaluate: Annotated[
        int, typer.Option(help="Prompts for accuracy between and along an ES and a GRPO run (0: none).")
    ] = 0,
    model: Annotated[
        str | None, typer.Option(help="Base of runs whose folder does not hold it.", autocompletion=complete.models)
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="ES step size of runs that do not log it.")] = None,
    population: Annotated[int | None, typer.Option(help="ES population of runs that do not log it.")] = None,
) -> None:
    """Judge runs and show them on one HTML page that loads nothing: verdicts first, then figures.

    Exit code 3 if any prediction is refuted, 4 if none is consistent.
    """
    from estheory.cli.measuring import given_of
    from estheory.measurement.run_log import ledgers
    from estheory.reporting.line_results import line_sections
    from estheory.reporting.page.report import BETWEEN, Report, report_page
    from estheory.reporting.page.weight_sections import pair_cosines
    from estheory.reporting.text.verdicts import summary
    from estheory.validation.collected import Reading, collected
    from estheory.validation.judge import exit_code, judge, without_band
    from estheory.validation.line_pairs import line_pairs

    if evaluate < 0 or evaluate == 1:
        raise ConfigError(f"--evaluate needs 2 or more prompts, got {evaluate}", "0 evaluates nothing")
    described = {"alpha": alpha, "population": population}
    given = given_of(targets[0], {n: v for n, v in described.items() if v is not None})
    reading = Reading(base=model, given=given, keep_going=how.keep_going, repeat_head=how.head_twice)
    what = collected(targets, reading, lambda name: narrate(common, f"measured {name}"))
    found, notes, runs = dict(what.pairs), what.notes, what.runs
    studies = _studies(runs, evaluate, common.seed or 0)
    if studies:
        found[BETWEEN] = [pair for study in studies for pair in line_pairs(study)]
    elif evaluate:
        notes.append("--evaluate: there is no ES and GRPO run of one base with checkpoints to score between")
    verdicts = judge([pair for pairs in found.values() for pair in pairs], level)
    rest = iter(verdicts)
    ends = _ends({name: run for name, run in runs.items() if name not in what.staged}, how)
    page = Report(
        judged={name: [next(rest) for _ in pairs] for name, pairs in found.items()},
        plain=without_band(verdicts, level),
        level=level,
        runs=runs,
        ledgers=ledgers({name: run for name, run in runs.items() if name not in what.staged}),
        cosines=pair_cosines(ends.labels, ends.cosines) if ends else {},
        dim=sum(ends.tensors.values()) if ends else 1,
        evaluated=line_sections(studies) if studies else (),
        sequences=what.sequences,
        missing=what.missing,
        notes=notes,
    )
    write_text(out, report_page(page))
    counts = summary(verdicts)
    if common.json:
        document = {
            "schema": "estheory/report/1",
            "page": str(out),
            "summary": counts,
            "warnings": [*what.missing, *notes],
        }
        emit(common, json_text(document))
    else:
        emit(common, f"{', '.join(f'{n} {kind}' for kind, n in counts.items())}; page: {out}\n")
    warn(common, [*what.missing, *notes])
    cite(common, [used for v in verdicts for used in (v.prediction, v.measurement)])
    raise typer.Exit(exit_code(verdicts))


def _ends(runs: dict[str, "OwnRun"], how: MeasureOptions) -> Union["Displacements", None]:
    """Measure the last checkpoints of the runs that share the first one's base and train all of it."""
    from estheory.measurement.displacement import measure_displacements
    from estheory.models.builtin import model_folder

    alike = _alike(runs)
    if len(alike) < 2:
        return None
    base = model_folder(next(iter(alike.values())).config.model)
    files = {name: list(run.checkpoints.values())[-1] for name, run in alike.items()}
    return measure_displacements(base, files, keep_going=how.keep_going)


def _alike(runs: dict[str, "OwnRun"]) -> dict[str, "OwnRun"]:
    whole = {n: run for n, run in runs.items() if run.checkpoints and run.config.trainable == "all"}
    models = [run.config.model for run in whole.values()]
    return {name: run for name, run in whole.items() if run.config.model == models[0]}


def _studies(runs: dict[str, "OwnRun"], prompts: int, seed: int) -> list["LineStudy"]:
    """Score the model between and along the first ES and the first GRPO run of one base."""
    alike = _alike({name: run for name, run in runs.items() if not (run.method == "es" and run.es.permute_rewards)})
    first = {run.method: name for name, run in reversed(alike.items())}
    if not prompts or not {"es", "grpo"} <= set(first):
        return []
    from estheory.measurement.line_study import LineDesign, studies_of

    names = (first["es"], first["grpo"])
    ends = (alike[names[0]].path, alike[names[1]].path)
    task = alike[names[0]].config.task
    return studies_of(ends, labels=names, task=task, prompts=prompts, design=LineDesign(seed=seed))
