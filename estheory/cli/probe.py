"""``estheory probe``: a model's tasks probed forward-only, for predict and plan."""

# no postponed annotations: see options.py

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from estheory.cli.emit import cite, interruptible, show
from estheory.cli.options import Command, TableOptions, options, program
from estheory.errors import ConfigError

app = program()


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """What is probed."""

    panel: ClassVar[str] = "Probe"

    tasks: Annotated[
        tuple[str, ...], typer.Option(help="Tasks, comma list; predict takes the first as the trained one.")
    ] = ()
    sigma: Annotated[float | None, typer.Option(help="Perturbation scale, in weight units.")] = None
    members: Annotated[int, typer.Option(help="Members evaluated on each task.")] = 30
    prompts: Annotated[int, typer.Option(help="Prompts of each task.")] = 64
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="Members are theta + sigma eps and theta - sigma eps.")
    ] = False
    directions: Annotated[int, typer.Option(help="Random directions of the Fisher probe.")] = 8
    data: Annotated[str | None, typer.Option(help="Folder of JSONL or Parquet files, or hf:ID, with the tasks.")] = None
    keep: Annotated[
        Path | None, typer.Option(help="Keep rewards in this JSONL file as they come; go on from what it holds.")
    ] = None


@app.command(cls=Command, epilog="estheory probe tiny-lm --tasks addition,reversal --sigma 0.015 --mirrored")
@options(ProbeOptions, TableOptions)
def probe(
    asked: ProbeOptions,
    common: TableOptions,
    model: Annotated[str, typer.Argument(help="Built-in name, Hugging Face folder or hub id.")],
) -> None:
    """Probe tasks before a run, forward-only: tr F, smoothing gap, reliability, gradient norm (with --mirrored).

    predict --probes and plan --probes take the JSON document in place of the options that it measures.
    """
    from estheory.cli.progress import counted
    from estheory.cli.run_settings import es_config
    from estheory.reporting.text.tables import Sheet, Table, short
    from estheory.training.task_probe import probe_task

    if not asked.tasks:
        raise ConfigError("--tasks is missing", "e.g. --tasks addition,reversal")
    found, sigma, dtype = [], asked.sigma, ""
    go_on = "nothing was written; the same command starts over"
    if asked.keep is not None:
        go_on = f"the same command goes on with what {asked.keep} holds"
    for task in asked.tasks:
        given = {"model": model, "task": task, "population": asked.members, "prompts": asked.prompts}
        given |= {"antithetic": asked.mirrored, "seed": common.seed or 0, "steps": 1}
        optional = {"sigma": asked.sigma, "data": asked.data}
        config = es_config(given | {name: value for name, value in optional.items() if value is not None})
        sigma, dtype = config.sigma, config.dtype
        with interruptible(lambda: go_on), counted(common, f"probing {task}", asked.members + 2) as done:
            found += probe_task(config, asked.keep, asked.directions, done)
    rows = [dataclasses.asdict(row) for row in found]
    table = Table("task", "quantity", ">value", ">standard error")
    for row in found:
        table.add_row(row.task, row.quantity, short(row.value), short(row.stderr, 2))
    document = {"schema": "estheory/probe/1", "model": model, "dtype": dtype, "sigma": sigma, "probes": rows}
    show(common, lambda: document, lambda: Sheet(table))
    cite(common)
