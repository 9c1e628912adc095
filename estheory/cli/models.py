"""``estheory models``: the built-in language models, and adapters merged into their base."""

# no postponed annotations: see options.py

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from estheory.cli import complete
from estheory.cli.emit import cite, emit, json_text, narrate, show
from estheory.cli.options import Command, CommonOptions, TableOptions, options, program

app = program()


@app.callback()
def models() -> None:
    """List the built-in language models, get one, or merge an adapter into its base."""


@app.command("list", cls=Command, epilog="estheory models list")
@options(TableOptions)
def list_models(common: TableOptions) -> None:
    """List the built-in models: size, licence, where they come from, whether they are here."""
    from estheory.models.builtin import builtin_models
    from estheory.reporting.text.tables import Sheet, Table

    rows = builtin_models()
    listed = [dataclasses.asdict(row) | {"where": str(row.where)} for row in rows]
    table = Table("name", ">parameters", "licence", "where", "present")
    for row in rows:
        table.add_row(row.name, f"{row.parameters:,}", row.licence, str(row.where), "yes" if row.present else "no")
    show(common, lambda: {"schema": "estheory/models/1", "models": listed}, lambda: Sheet(table))
    cite(common)


@app.command("get", cls=Command, epilog="estheory models get tiny-lm")
@options(CommonOptions)
def get(
    common: CommonOptions,
    name: Annotated[str, typer.Argument(help="Name of a built-in model.", autocompletion=complete.models)],
) -> None:
    """Make a built-in model ready as a Hugging Face folder and print where it is."""
    from estheory.models.builtin import get_builtin

    folder = get_builtin(name, narrate=lambda line: narrate(common, line))
    if common.json:
        emit(common, json_text({"schema": "estheory/model/1", "name": name, "folder": str(folder)}))
    else:
        emit(common, f"{folder}\n")
    cite(common)


@app.command("merge", cls=Command, epilog="estheory models merge tiny-lm ADAPTER merged")
@options(CommonOptions)
def merge(
    common: CommonOptions,
    base: Annotated[
        str,
        typer.Argument(help="The adapter's base: a built-in name, folder or hub id.", autocompletion=complete.models),
    ],
    adapter: Annotated[Path, typer.Argument(help="Folder with adapter_config.json.")],
    folder: Annotated[Path, typer.Argument(help="The model folder to make.")],
) -> None:
    """Merge an adapter of any kind that peft knows into its base, in float32, so that it can be measured."""
    from estheory.models.peft_merge import merge_adapter

    merge_adapter(base, adapter, folder)
    if common.json:
        emit(common, json_text({"schema": "estheory/model/1", "name": str(adapter), "folder": str(folder)}))
    else:
        emit(common, f"{folder}\n")
    cite(common)
