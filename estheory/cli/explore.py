"""``estheory explore``: a what-if page that computes in the browser."""

# no postponed annotations: see options.py

from pathlib import Path
from typing import Annotated

import typer

from estheory.cli.emit import cite, emit, json_text
from estheory.cli.measured import pilot_document
from estheory.cli.options import Command, CommonOptions, options, program
from estheory.files import write_text

app = program()


@app.command(cls=Command, epilog="estheory explore --out explore.html")
@options(CommonOptions)
def explore(
    common: CommonOptions,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("explore.html"),
    pilot: Annotated[
        Path | None, typer.Option(help="JSON of estheory pilot, whose numbers the page starts with.")
    ] = None,
) -> None:
    """Write a page of sliders and curves: what would other sigma, alpha, N and T do? One file, no network."""
    from estheory.reporting.explore.controls import PRESETS
    from estheory.reporting.explore.page import explore_page

    page = explore_page(None if pilot is None else pilot_document(common, pilot))
    write_text(out, page)
    size = len(page.encode())
    if common.json:
        emit(common, json_text({"schema": "estheory/explore/1", "page": str(out), "bytes": size}))
    else:
        emit(common, f"page: {out} ({size / 1000:.0f} kB)\n")
    cite(common, [preset.source for preset in PRESETS])
