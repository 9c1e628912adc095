"""``estheory forecast``: a run's ledger, what comes next, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from estheory.cli.emit import cite, emit, json_text
from estheory.cli.options import CommonOptions, choice, number, options

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@dataclass(frozen=True, kw_only=True)
class ForecastOptions:
    """What a log does not say of its run, and what is asked."""

    at: Annotated[str | None, typer.Option(help="Last update to read (default the last one).")] = None
    until: Annotated[str | None, typer.Option(help="Last update to predict (default half as many again).")] = None
    stop_net: Annotated[str | None, typer.Option(help="Net reward per update that is worth going on for (0).")] = None
    sigma: Annotated[str | None, typer.Option(help="Perturbation scale, where the log has none.")] = None
    alpha: Annotated[str | None, typer.Option(help="Step size, where the log has none.")] = None
    population: Annotated[str | None, typer.Option(help="N, where the log has none.")] = None
    shaping: Annotated[str | None, typer.Option(help="zscore | centered-rank | raw | two-point.")] = None
    mirrored: Annotated[str | None, typer.Option(help="interleaved | halves: members are theta +- sigma eps.")] = None
    prompts_fixed: Annotated[bool, typer.Option("--prompts-fixed", help="Every update had the same prompts.")] = False


@app.command()
@options(ForecastOptions, CommonOptions)
def forecast(
    asked: ForecastOptions,
    common: CommonOptions,
    run: Annotated[Path, typer.Argument(help="A run directory, or a log of one JSON object an update.")],
    plot: Annotated[Path | None, typer.Option(help="Draw earned, paid and measured reward to this file.")] = None,
) -> None:
    """Say what each update of a run earned and paid, where it stands, what comes next, and whether to stop."""
    from estheory.cli.es_options import whole
    from estheory.measurement.run_log import Told, read_run_log
    from estheory.reporting.text.ledger import outlook_json, outlook_text, plot_ledger
    from estheory.rules import Shaping
    from estheory.theory.economy.forecast import outlook

    def count(name: str, text: str | None) -> int | None:
        value = number(name, text)
        return None if value is None else whole(name, value)

    at = count("at", asked.at)
    shaping = asked.shaping and choice("shaping", asked.shaping, get_args(Shaping), "")
    log = read_run_log(
        run,
        Told(
            sigma=number("sigma", asked.sigma),
            alpha=number("alpha", asked.alpha),
            population=count("population", asked.population),
            shaping=cast("Shaping | None", shaping),
            mirrored=asked.mirrored and choice("mirrored", asked.mirrored, ("interleaved", "halves"), ""),
            fixed=asked.prompts_fixed or None,
        ),
        at=at,
    )
    until = count("until", asked.until)
    if until is None and log.planned is not None and log.planned > log.updates[-1].step:
        until = log.planned
    worth = number("stop-net", asked.stop_net) or 0.0
    found = outlook(log.updates, log.rules, at=at, until=until, worth=worth, ceiling=log.ceiling)
    if plot is not None:
        plot_ledger(found, plot)
    emit(common, json_text(outlook_json(found)) if common.json else outlook_text(found))
    cite(common, found.predictions)
