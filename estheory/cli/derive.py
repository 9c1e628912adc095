"""``estheory derive``: a named result, derived step by step."""

# no postponed annotations: see options.py

from typing import Annotated, Literal

import typer

from estheory.cli import complete
from estheory.cli.emit import cite, emit, json_text
from estheory.cli.options import Command, CommonOptions, options, program
from estheory.errors import ConfigError

app = program()


@app.command(cls=Command, epilog="estheory derive flat-variance --format python")
@options(CommonOptions)
def derive(
    common: CommonOptions,
    name: Annotated[
        str | None, typer.Argument(help="A result; --list shows their names.", autocompletion=complete.derivations)
    ] = None,
    list: Annotated[bool, typer.Option("--list", help="List the results.")] = False,
    format: Annotated[Literal["text", "latex", "python"], typer.Option("--format", help="How it is written")] = "text",
) -> None:
    """Derive a result of the theory symbolically: steps with their justification, as text, LaTeX or Python."""
    from estheory.derivations import printing
    from estheory.derivations.catalogue import derivations
    from estheory.derivations.catalogue import derive as derived

    if list:
        if name is not None:
            raise ConfigError(f"--list shows every result, and '{name}' names one", "give one of the two")
        known = derivations().values()
        if common.json:
            rows = [{"name": d.name, "title": d.title, "label": d.label, "source": d.source} for d in known]
            emit(common, json_text({"schema": "estheory/derivations/1", "derivations": rows}))
        else:
            width = max(len(d.name) for d in known)
            emit(common, "".join(f"{d.name:<{width}}  {d.label:<10}  {d.title}\n" for d in known))
        cite(common, known)
        return
    if name is None:
        raise ConfigError("which result is not said", "give its NAME, or --list for all names")
    derivation = derived(name)
    if common.json:
        emit(common, json_text(printing.document(derivation)))
    elif format == "python":
        emit(common, printing.python_text(derivation))
    elif format == "latex":
        emit(common, printing.latex(derivation))
    else:
        emit(common, printing.text(derivation))
    cite(common, [derivation])
