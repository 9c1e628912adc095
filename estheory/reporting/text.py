"""Rich tables rendered to text, and numbers as people read them."""

from __future__ import annotations

import io
import math
import os
import shutil
import sys

from rich.console import Console
from rich.table import Table


def short(value: float, digits: int = 4) -> str:
    """Return a number in few digits.

    Parameters
    ----------
    value
        NaN gives a dash.
    digits
        Significant ones.

    Returns
    -------
    str
    """
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


def render(*parts: Table | str) -> str:
    """Return tables and paragraphs as text, with colour when stdout is a terminal.

    Parameters
    ----------
    *parts
        In order; markup in a paragraph is not read.

    Returns
    -------
    str
        Wrapped to the terminal, but not under 100 columns; to 120 elsewhere.
    """
    terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = shutil.get_terminal_size((120, 40)).columns if terminal else 120
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=max(width, 100), highlight=False)
    for part in parts:
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def plain_table(*columns: str, title: str | None = None) -> Table:
    """Return a table with a ruled head.

    Parameters
    ----------
    *columns
        Heads; a leading ``>`` aligns a column right.
    title
        Above the table.

    Returns
    -------
    Table
        Without rows.
    """
    from rich.box import SIMPLE_HEAD

    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        wrap = column == "where"  # the one column that may be longer than its neighbours
        table.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=not wrap, overflow="fold")
    return table
