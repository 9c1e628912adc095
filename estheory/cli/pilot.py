"""``estheory pilot``: from one iteration's rewards, whether ES will learn, and with which sigma, alpha and N."""

# no postponed annotations: see options.py

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from estheory.cli.emit import cite, show, warn
from estheory.cli.options import Command, TableOptions, options, program
from estheory.cli.price import PriceOptions
from estheory.rules import Shaping

if TYPE_CHECKING:
    from estheory.quantities import Prediction

app = program()


@dataclass(frozen=True, kw_only=True)
class PilotOptions:
    """The run that the pilot is for, and how the file is read."""

    panel: ClassVar[str] = "The pilot and the planned run"

    sigma: Annotated[float | None, typer.Option(help="Perturbation scale of the members, where the file has none.")] = (
        None
    )
    alpha: Annotated[float | None, typer.Option(help="Step size of the run (default sigma/2).")] = None
    population: Annotated[int | None, typer.Option(help="N of the run (default the pilot's).")] = None
    prompts: Annotated[int | None, typer.Option(help="B of each update of the run (default the pilot's).")] = None
    steps: Annotated[int | None, typer.Option(help="T of the run.")] = None
    dim: Annotated[int | None, typer.Option(help="Number of parameters, for the norm of the run.")] = None
    shaping: Annotated[Shaping, typer.Option(help="How rewards become weights of the members (default zscore)")] = (
        "zscore"
    )
    mirrored: Annotated[
        Literal["interleaved", "halves"] | None, typer.Option(help="Rows are theta + sigma eps and theta - sigma eps")
    ] = None
    centre: Annotated[Path | None, typer.Option(help="File with theta's own reward on each prompt.")] = None
    prompts_fixed: Annotated[bool, typer.Option("--prompts-fixed", help="The run trains on these very prompts.")] = (
        False
    )
    rollouts: Annotated[int | None, typer.Option(help="N times B of an update, to be split anew.")] = None


VERDICTS = {"learns": 0, "stalls": 3, "undecided": 4}
"""Exit codes."""


@app.command(cls=Command, epilog="estheory pilot rewards.json --sigma 0.001")
@options(PilotOptions, PriceOptions, TableOptions)
def pilot(
    asked: PilotOptions,
    price: PriceOptions,
    common: TableOptions,
    rewards: Annotated[
        Path, typer.Argument(help="Rewards, members by prompts: .json .npy .npz .csv .jsonl .parquet -")
    ],
    plot: Annotated[Path | None, typer.Option(help="Draw net gain against alpha for several N to this file.")] = None,
) -> None:
    """Say from one iteration's member rewards, of any code, whether it will learn, and with which sigma, alpha and N.

    Exit code 0 if it learns, 3 if it stalls, 4 if the rewards cannot tell.
    """
    from estheory.measurement.reward_files import read_rewards
    from estheory.reporting.text.pilot import pilot_json, pilot_sheet
    from estheory.theory.economy.pilot import pilot as read_pilot
    from estheory.theory.economy.scale import PlannedRun
    from estheory.theory.predictions import predict

    read = read_rewards(rewards, sigma=asked.sigma, mirrored=asked.mirrored, centre=asked.centre)
    planned = PlannedRun(
        alpha=read.alpha if asked.alpha is None else asked.alpha,
        population=asked.population,
        prompts=asked.prompts,
        steps=asked.steps,
        dim=asked.dim,
        shaping=asked.shaping,
        rollouts=asked.rollouts,
        fixed=asked.prompts_fixed,
    )
    found = read_pilot(read.iterations, planned)
    moved: tuple[Prediction, ...] = ()
    if planned.dim is not None:
        wanted = ("displacement_norm",)
        forecast = predict(found.scale.config, reward=found.scale.planned_signal())
        moved = tuple(p for p in forecast.predictions if p.quantity in wanted)
    hours = price.hours(found.scale.config.population * found.scale.prompts * found.scale.config.steps)
    if plot is not None:
        from estheory.reporting.pictures.pilot import pilot_picture

        pilot_picture(found).save(plot)
    show(common, lambda: pilot_json(found, moved, hours), lambda: pilot_sheet(found, moved, hours), found.warnings)
    if common.form == "json":
        warn(common, found.warnings)
    cite(common, moved)
    raise typer.Exit(VERDICTS[found.verdict])
