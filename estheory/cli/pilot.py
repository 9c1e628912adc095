"""``estheory pilot``: from one iteration's rewards, whether ES will learn, and with which sigma, alpha and N."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from estheory.cli.emit import cite, emit, json_text, warn
from estheory.cli.options import CommonOptions, choice, number, options
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.quantities import Prediction

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@dataclass(frozen=True, kw_only=True)
class PilotOptions:
    """The run that the pilot is for, and how the file is read."""

    sigma: Annotated[str | None, typer.Option(help="Perturbation scale of the members, where the file has none.")] = (
        None
    )
    alpha: Annotated[str | None, typer.Option(help="Step size of the run (default sigma/2).")] = None
    population: Annotated[str | None, typer.Option(help="N of the run (default the pilot's).")] = None
    prompts: Annotated[str | None, typer.Option(help="B of each update of the run (default the pilot's).")] = None
    steps: Annotated[str | None, typer.Option(help="T of the run.")] = None
    dim: Annotated[str | None, typer.Option(help="Number of parameters, for the norm of the run.")] = None
    shaping: Annotated[str | None, typer.Option(help="zscore | centered-rank | raw | two-point.")] = None
    mirrored: Annotated[str | None, typer.Option(help="interleaved | halves: rows are theta +- sigma eps.")] = None
    centre: Annotated[Path | None, typer.Option(help="File with theta's own reward on each prompt.")] = None
    prompts_fixed: Annotated[bool, typer.Option("--prompts-fixed", help="The run trains on these very prompts.")] = (
        False
    )
    rollouts: Annotated[str | None, typer.Option(help="N times B of an update, to be split anew.")] = None
    seconds_per_evaluation: Annotated[str | None, typer.Option(help="Of one member on one prompt, for hours.")] = None
    workers: Annotated[str | None, typer.Option(help="How many evaluate at once (default 1).")] = None


VERDICTS = {"learns": 0, "stalls": 3, "undecided": 4}
"""Exit codes."""


@app.command()
@options(PilotOptions, CommonOptions)
def pilot(
    asked: PilotOptions,
    common: CommonOptions,
    rewards: Annotated[
        Path, typer.Argument(help="Rewards, members by prompts: .json .npy .npz .csv .jsonl .parquet -")
    ],
    plot: Annotated[Path | None, typer.Option(help="Draw net gain against alpha for several N to this file.")] = None,
) -> None:
    """Say from one iteration's member rewards, of any code, whether it will learn, and with which sigma, alpha and N.

    Exit code 0 if it learns, 3 if it stalls, 4 if the rewards cannot tell.
    """
    from estheory.measurement.rewards import Mirroring, read_rewards
    from estheory.reporting.text.pilot import pilot_json, pilot_text, plot_pilot
    from estheory.rules import Shaping
    from estheory.theory.economy.pilot import PlannedRun
    from estheory.theory.economy.pilot import pilot as read_pilot
    from estheory.theory.predictions import predict

    mirrored = asked.mirrored and choice("mirrored", asked.mirrored, get_args(Mirroring), "")
    shaping = cast(Shaping, choice("shaping", asked.shaping, get_args(Shaping), "zscore"))
    read = read_rewards(
        rewards,
        sigma=number("sigma", asked.sigma),
        mirrored=cast("Mirroring | None", mirrored),
        centre=asked.centre,
    )
    alpha = number("alpha", asked.alpha)
    planned = PlannedRun(
        alpha=read.alpha if alpha is None else alpha,
        population=_whole("population", asked.population),
        prompts=_whole("prompts", asked.prompts),
        steps=_whole("steps", asked.steps),
        dim=_whole("dim", asked.dim),
        shaping=shaping,
        rollouts=_whole("rollouts", asked.rollouts),
        fixed=asked.prompts_fixed,
    )
    found = read_pilot(read.iterations, planned)
    moved: tuple[Prediction, ...] = ()
    if planned.dim is not None:
        wanted = ("displacement_norm",)
        moved = tuple(p for p in predict(found.scale.config).predictions if p.quantity in wanted)
    hours = _hours(asked, found.scale.config.population * found.scale.prompts * found.scale.config.steps)
    if plot is not None:
        plot_pilot(found, plot)
    if common.json:
        emit(common, json_text(pilot_json(found, moved, hours)))
        warn(found.warnings)
    else:
        emit(common, pilot_text(found, moved, hours))
    cite(common, moved)
    raise typer.Exit(VERDICTS[found.verdict])


def _whole(name: str, text: str | None) -> int | None:
    from estheory.cli.es_options import whole

    value = number(name, text)
    return None if value is None else whole(name, value)


def _hours(asked: PilotOptions, evaluations: int) -> float | None:
    """Return how long the evaluations take; None where nobody said how long one takes."""
    seconds, workers = number("seconds-per-evaluation", asked.seconds_per_evaluation), _whole("workers", asked.workers)
    if seconds is None:
        if workers is not None:
            raise ConfigError("--workers needs the time of one evaluation", "give --seconds-per-evaluation")
        return None
    if not seconds > 0 or not (workers or 1) >= 1:
        raise ConfigError("an evaluation takes a time > 0 on 1 worker or more", "correct them")
    return evaluations * seconds / (workers or 1) / 3600
