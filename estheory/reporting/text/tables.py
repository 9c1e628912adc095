"""Rich tables rendered to text, and numbers as people read them."""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


def short(value: float, digits: int = 4) -> str:
    """Return a number in few digits."""
    return "-" if math.isnan(value) else f"{value:.{digits}g}"


_OF_A_RUN = re.compile(r"((global_)?step|checkpoint|iteration|(pytorch_|adapter_)?model)([-_]?\d+)?$")


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that tell them apart, without the suffix of a file of weights.

    A name that many runs have, like that of a step, keeps the folder before it, but for one called ``checkpoints``.

    Examples
    --------
    >>> short_names(["runs/es/checkpoints/step_10.safetensors", "runs/grpo/checkpoints/step_10.safetensors", "/tmp/ES"])
    ['es/step_10', 'grpo/step_10', 'ES']
    """
    folders = [[part for part in PurePath(path).parts if part not in ("checkpoints", "/")] or [path] for path in paths]
    for parts in folders:
        parts[-1] = re.sub(r"\.(safetensors|bin|pth?)$", "", parts[-1])
    kept = [1 + (_OF_A_RUN.match(parts[-1]) is not None) for parts in folders]
    for _ in range(1 + max(map(len, folders), default=0)):
        names = ["/".join(parts[-count:]) for parts, count in zip(folders, kept, strict=True)]
        times = Counter(names)
        kept = [count + (times[name] > 1) for name, count in zip(names, kept, strict=True)]
    return [path if times[name] > 1 else name for path, name in zip(paths, names, strict=True)]


def render(*parts: Table | str) -> str:
    """Return tables and paragraphs as text, with colour when stdout is a terminal.

    Tables are 120 columns wide even on a narrower one: its own wrapping loses nothing, a squeezed column loses digits.

    Parameters
    ----------
    *parts
        In order; markup in a paragraph is not read.
    """
    terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = shutil.get_terminal_size((120, 40)).columns if terminal else 120
    stream = io.StringIO()
    console = Console(
        file=stream,
        force_terminal=terminal,
        width=max(width, 120),
        highlight=False,
        markup=False,  # a name in a cell is none
        emoji=False,
    )
    for part in parts:
        console.print(part, width=width) if isinstance(part, str) else console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def plain_table(*columns: str, title: str | None = None) -> Table:
    """Return a table with a ruled head.

    Parameters
    ----------
    *columns
        Heads; a leading ``>`` aligns a column right.
    """
    from rich.box import SIMPLE_HEAD

    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        wrap = column == "where"  # the one column that may be longer than its neighbours
        table.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=not wrap, overflow="fold")
    return table


class Place:
    """A name in a table that is too long for its column ends its lines at marks inside it, not inside a word.

    Parameters
    ----------
    text
        The name.
    """

    def __init__(self, text: str) -> None:
        self.pieces = re.findall(r"[^\s_/|:.]*[\s_/|:.]*", text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        lines = [""]
        for piece in self.pieces:
            fits = len((lines[-1] + piece).rstrip()) <= options.max_width
            lines = [*lines[:-1], lines[-1] + piece] if fits else [*lines, piece]
        yield Text("\n".join(line.rstrip(" ") for line in lines if line), overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(max(len(piece.rstrip()) for piece in self.pieces), len("".join(self.pieces)))
