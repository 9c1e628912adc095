"""Where results go: stdout, or a file that is whole or not there."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from estheory.cli.options import CommonOptions, TableOptions
from estheory.errors import Interrupted
from estheory.files import UNPRINTABLE, write_text

if TYPE_CHECKING:
    from estheory.citations import Cited
    from estheory.reporting.text.tables import Sheet


def json_text(document: Any) -> str:
    """Return strict JSON."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def emit(common: CommonOptions, text: str) -> None:
    """Send the result to ``--output``, or to stdout."""
    if common.output is None:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, UNPRINTABLE).decode(encoding))
    else:
        write_text(common.output, text, "choose another path")
        narrate(common, f"wrote {common.output}")


def show(
    common: TableOptions,
    document: Callable[[], dict[str, Any]],
    sheet: Callable[[], Sheet],
    warnings: Sequence[str] = (),
) -> None:
    """Send a result as --format asks for it.

    `document`: makes it as JSON, whose main list is the rows of CSV.
    `sheet`: makes it as tables and sentences.
    `warnings`: those that both of them hold and CSV has no place for.
    """
    if common.form == "json":
        emit(common, json_text(document()))
    elif common.form == "csv":
        from estheory.reporting.records import csv_text

        emit(common, csv_text(_finite(document())))
        warn(common, warnings)
    else:
        emit(common, sheet().markdown() if common.form == "markdown" else sheet().text())


def warn(common: CommonOptions, problems: Sequence[str]) -> None:
    """Say on stderr what was left out, one line each, unless quiet was asked for; JSON has it in any case.

    `problems`: white space in them, newlines too, becomes a space.
    """
    if not common.quiet:
        for problem in problems:
            print("warning: " + " ".join(problem.split()), file=sys.stderr)


@contextlib.contextmanager
def interruptible(go_on: Callable[[], str]) -> Iterator[None]:
    """Tell a user who presses Ctrl-C how to go on.

    `go_on`: says it, as things then stand.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(go_on()) from None


def cite(common: CommonOptions, used: Iterable[Cited | str] = ()) -> None:
    """Say on stderr, where ``--cite`` asks for it, what to cite for a result."""
    if common.cite:
        from estheory.citations import bibtex

        print(bibtex(used), file=sys.stderr)


def narrate(common: CommonOptions, text: str) -> None:
    """Say something on stderr, when it is a terminal and nobody asked for quiet."""
    if not common.quiet and sys.stderr.isatty():
        print(text, file=sys.stderr)
