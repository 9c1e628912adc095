"""``estheory derive``: a named result, derived step by step."""

from __future__ import annotations

from typing import Annotated

import typer

from estheory.cli.emit import cite, emit, json_text
from estheory.cli.options import CommonOptions, choice, options
from estheory.errors import ConfigError

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command()
@options(CommonOptions)
def derive(
    common: CommonOptions,
    name: Annotated[str | None, typer.Argument(help="A result; --list shows their names.")] = None,
    list: Annotated[bool, typer.Option("--list", help="List the results.")] = False,
    format: Annotated[str | None, typer.Option("--format", help="text | latex | python (default text).")] = None,
) -> None:
    """Derive a result of the theory symbolically: steps with their justification, as text, LaTeX or Python."""
    from estheory.derivations import printing
    from estheory.derivations.catalogue import derivations
    from estheory.derivations.catalogue import derive as derived

    style = choice("format", format, ("text", "latex", "python"), "text")
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
    elif style == "python":
        emit(common, printing.python_text(derivation))
    elif style == "latex":
        emit(common, printing.latex(derivation))
    else:
        emit(common, printing.text(derivation))
    cite(common, [derivation])
