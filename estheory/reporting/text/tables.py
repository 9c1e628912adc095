"""Tables and paragraphs as text, and numbers as people read them.

Written by hand: rendering by rich took a third of the time that the program needs beyond its imports.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from textwrap import TextWrapper

WIDTH = 120
_PIECES = re.compile(r"[^\s_/|:.]*[\s_/|:.]*")


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


class Table:
    """Rows below a ruled head.

    Parameters
    ----------
    *columns
        Heads; a leading ``>`` aligns a column right. The column ``where`` may be longer than there is room: its cells
        are then wrapped, at marks inside a name and not inside a word.
    title
        Above the head.
    gap
        Columns between two columns.

    Attributes
    ----------
    rows
        The cells of each row.
    """

    def __init__(self, *columns: str, title: str | None = None, gap: int = 3) -> None:
        self._heads = [column.lstrip(">") for column in columns]
        self._right = [column.startswith(">") for column in columns]
        self._title = title
        self._gap = " " * gap
        self.rows: list[Sequence[str]] = []

    def add_row(self, *cells: str) -> None:
        """Append a row."""
        self.rows.append(cells)

    def lines(self, width: int, *, bold: bool = False) -> Iterator[str]:
        """Yield the lines of the table, of at most `width` columns if the cells that may not wrap leave room."""
        widths = [max(map(len, column)) for column in zip(self._heads, *self.rows, strict=True)]
        if "where" in self._heads:
            at = self._heads.index("where")
            longest = max(
                len(piece.rstrip()) for row in self.rows or [self._heads] for piece in _PIECES.findall(row[at])
            )
            room = width - 1 - sum(widths) - len(self._gap) * (len(widths) - 1) + widths[at]
            widths[at] = min(widths[at], max(room, longest))
        weight = "\x1b[1m{}\x1b[0m" if bold else "{}"
        if self._title:
            yield weight.format(self._title)
        yield ""
        yield weight.format(self._line(self._heads, widths))
        yield " " + "─" * (sum(widths) + len(self._gap) * (len(widths) - 1))
        for row in self.rows:
            wrapped = [_wrapped(cell, room) for cell, room in zip(row, widths, strict=True)]
            for part in range(max(map(len, wrapped))):
                yield self._line([lines[part] if part < len(lines) else "" for lines in wrapped], widths)
        yield ""

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        aligned = zip(cells, widths, self._right, strict=True)
        return " " + self._gap.join(cell.rjust(room) if right else cell.ljust(room) for cell, room, right in aligned)


def _wrapped(cell: str, width: int) -> list[str]:
    """Return the lines of a cell."""
    if len(cell) <= width:
        return [cell]
    lines = [""]
    for piece in _PIECES.findall(cell):
        if len((lines[-1] + piece).rstrip()) <= width:
            lines[-1] += piece
        else:
            lines.append(piece)
    return [line.rstrip(" ") for line in lines if line]


def render(*parts: Table | str) -> str:
    """Return tables and paragraphs as text, with bold heads when stdout is a terminal.

    Tables are 120 columns wide even on a narrower one: its own wrapping loses nothing, a squeezed column loses digits.

    Parameters
    ----------
    *parts
        In order.
    """
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((WIDTH, 40)).columns if terminal else WIDTH
    bold = terminal and "NO_COLOR" not in os.environ
    wrapper = TextWrapper(width, break_on_hyphens=False, replace_whitespace=False, expand_tabs=False)
    lines: list[str] = []
    for part in parts:
        if isinstance(part, Table):
            lines.extend(part.lines(max(width, WIDTH), bold=bold))
        else:
            lines.extend(wrapped for line in part.split("\n") for wrapped in wrapper.wrap(line) or [""])
    return "\n".join(line.rstrip() for line in lines) + "\n"
