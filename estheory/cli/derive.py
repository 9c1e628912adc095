"""``estheory derive``: a named result, derived step by step."""

# no postponed annotations: see options.py

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from estheory.cli import complete
from estheory.cli.emit import cite, emit, json_text
from estheory.cli.options import Command, CommonOptions, options, program
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.derivations.derivation import Derivation

app = program()


@app.command(cls=Command, epilog="estheory derive flat-variance --format python")
@options(CommonOptions)
def derive(
    common: CommonOptions,
    name: Annotated[
        str | None, typer.Argument(help="A result; --list shows their names.", autocompletion=complete.derivations)
    ] = None,
    list: Annotated[bool, typer.Option("--list", help="List the results.")] = False,
    format: Annotated[
        Literal["text", "latex", "python", "table", "markdown", "csv", "json"] | None,
        typer.Option("--format", help="How it is written (default text; table and csv write the --list)"),
    ] = None,
) -> None:
    """Derive a result of the theory symbolically: steps with their justification, as text, LaTeX or Python."""
    from estheory.derivations import printing
    from estheory.derivations.catalogue import derivations
    from estheory.derivations.catalogue import derive as derived

    if common.json and format not in (None, "json"):
        raise ConfigError(f"--json and --format {format} contradict one another", "give one of them")
    form = "json" if common.json else format or "text"
    if list:
        if name is not None:
            raise ConfigError(f"--list shows every result, and '{name}' names one", "give one of the two")
        if form in ("latex", "python"):
            raise ConfigError(f"--format {form} writes one result", "give its NAME in place of --list")
        known = derivations().values()
        emit(common, _list_text([*known], form))
        cite(common, known)
        return
    if name is None:
        raise ConfigError("which result is not said", "give its NAME, or --list for all names")
    if form in ("table", "csv"):
        raise ConfigError(f"--format {form} writes the --list", "give text, markdown, latex, python or json")
    derivation = derived(name)
    writers = {
        "json": lambda: json_text(printing.document(derivation)),
        "python": lambda: printing.python_text(derivation),
        "latex": lambda: printing.latex(derivation),
        "markdown": lambda: printing.markdown(derivation) + "\n",
        "text": lambda: printing.text(derivation),
    }
    emit(common, writers[form]())
    cite(common, [derivation])


def _list_text(known: "Sequence[Derivation]", form: str) -> str:
    """Return the names of the results as a table, as Markdown, CSV or JSON."""
    from estheory.reporting.records import csv_text
    from estheory.reporting.text.tables import Sheet, Table

    rows = [{"name": d.name, "title": d.title, "label": d.label, "source": d.source} for d in known]
    document = {"schema": "estheory/derivations/1", "derivations": rows}
    if form in ("json", "csv"):
        return json_text(document) if form == "json" else csv_text(document)
    if form == "text":  # a line each, for grep
        width = max(len(d.name) for d in known)
        return "".join(f"{d.name:<{width}}  {d.label:<10}  {d.title}\n" for d in known)
    table = Table("name", "label", "result")
    for d in known:
        table.add_row(d.name, d.label, d.title)
    return Sheet(table).markdown() if form == "markdown" else Sheet(table).text()
