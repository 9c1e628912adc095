"""``estheory forecast``: a run's ledger, what comes next, and when to stop."""

# no postponed annotations: see options.py

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from estheory.cli.emit import cite, show, warn
from estheory.cli.options import Command, TableOptions, options, program
from estheory.errors import DataError
from estheory.rules import Shaping

app = program()


@dataclass(frozen=True, kw_only=True)
class ForecastOptions:
    """What a log does not say of its run, and what is asked."""

    panel: ClassVar[str] = "The run and the question"

    at: Annotated[int | None, typer.Option(help="Last update to read (default the last one).")] = None
    until: Annotated[int | None, typer.Option(help="Last update to predict (default half as many again).")] = None
    stop_net: Annotated[float, typer.Option(help="Net reward per update that is worth going on for.")] = 0.0
    sigma: Annotated[float | None, typer.Option(help="Perturbation scale, where the log has none.")] = None
    alpha: Annotated[float | None, typer.Option(help="Step size, where the log has none.")] = None
    population: Annotated[int | None, typer.Option(help="N, where the log has none.")] = None
    shaping: Annotated[Shaping | None, typer.Option(help="How rewards became weights, where the log is silent")] = None
    mirrored: Annotated[
        Literal["interleaved", "halves"] | None,
        typer.Option(help="Members are theta + sigma eps and theta - sigma eps, where the log is silent"),
    ] = None
    prompts_fixed: Annotated[bool, typer.Option("--prompts-fixed", help="Every update had the same prompts.")] = False


@app.command(cls=Command, epilog="estheory forecast log.jsonl --sigma 0.001 --alpha 0.0005 --population 30")
@options(ForecastOptions, TableOptions)
def forecast(
    asked: ForecastOptions,
    common: TableOptions,
    run: Annotated[Path, typer.Argument(help="A run directory, or a log of one JSON object an update.")],
    plot: Annotated[Path | None, typer.Option(help="Draw earned, paid and measured reward to this file.")] = None,
) -> None:
    """Say what each update of a run earned and paid, where it stands, what comes next, and whether to stop."""
    from estheory.measurement.run_log import run_log
    from estheory.reporting.text.ledger import outlook_json, outlook_sheet
    from estheory.runs.read import read_run
    from estheory.runs.view import Given
    from estheory.theory.economy.forecast import outlook

    given = Given(
        sigma=asked.sigma,
        alpha=asked.alpha,
        population=asked.population,
        shaping=asked.shaping,
        antithetic=True if asked.mirrored == "interleaved" else None,
    )
    problems: list[str] = []
    record = read_run(run, given, problems)
    try:
        log = run_log(record, at=asked.at, mirrored=asked.mirrored, fixed=asked.prompts_fixed or None)
    except DataError as error:
        if problems:  # what is damaged is why
            raise DataError(f"{problems[0]}; {error.what}", error.remedy) from error
        raise
    until = asked.until
    if until is None and log.planned is not None and log.planned > log.updates[-1].step:
        until = log.planned
    found = outlook(
        log.updates,
        log.rules,
        at=asked.at,
        until=until,
        worth=asked.stop_net,
        floor=log.floor,
        ceiling=log.ceiling,
        dim=log.dim,
        drift=log.drift,
        held_out=log.held_out,
    )
    if plot is not None:
        from estheory.reporting.pictures.ledger import outlook_picture

        outlook_picture(found).save(plot)
    show(common, lambda: outlook_json(found), lambda: outlook_sheet(found))
    warn(common, problems)
    cite(common, found.predictions)
