"""What users type, against the committed list: exports with their parameters, commands and their options.

After a change that is meant, ``python -m tests.test_public_names`` writes the list again; the diff then shows it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import estheory
from estheory.cli.app import app

LIST = Path(__file__).with_name("public_names.txt")


def parameters(item: object) -> str:
    """Return the parameters of a function or class as ``(a, b, *, c)``; empty where it has no signature of its own."""
    if inspect.isclass(item) and issubclass(item, Exception | str):
        return ""
    try:
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(item).parameters.values()]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    shown = [p.replace(default=...) if p.default is not inspect.Parameter.empty else p for p in plain]
    return str(inspect.Signature(shown)).replace("=Ellipsis", "=...")


def commands(command: Any, name: str) -> Iterator[str]:
    """Yield a line for each command: its arguments and options."""
    context = typer.Context(command)
    if hasattr(command, "list_commands"):
        for inner in command.list_commands(context):
            yield from commands(command.get_command(context, inner), f"{name} {inner}")
    else:
        shown = [p for p in command.params if not getattr(p, "hidden", False)]
        options = sorted(word for p in shown for word in (*p.opts, *p.secondary_opts) if word.startswith("-"))
        arguments = [p.name.upper() for p in command.params if p.param_type_name == "argument"]
        yield " ".join([name, *arguments, *options])


def public_names() -> list[str]:
    """Return a line for each export and for each command."""
    exports = [f"{name}{parameters(getattr(estheory, name))}" for name in sorted(estheory.__all__)]
    return [*exports, *commands(typer.main.get_command(app), "estheory")]


def test_what_users_type_is_that_of_the_list():
    pytest.importorskip("transformers")
    assert public_names() == LIST.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    LIST.write_text("\n".join(public_names()) + "\n", encoding="utf-8")
