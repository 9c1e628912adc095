"""Tables and paragraphs as text, Markdown and HTML, and numbers as people read them.

Written by hand: rendering by rich took a third of the time that the program needs beyond its imports.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath

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


_COLOURS = dict.fromkeys(("consistent", "learns", "earning"), 32)
_COLOURS |= dict.fromkeys(("refuted", "stalls", "sliding"), 31)
_COLOURS |= dict.fromkeys(("within", "underpowered", "undecided"), 33)
"""ANSI colour of a line of the column ``verdict`` by its first word."""


class Table:
    """Rows below a ruled head.

    Parameters
    ----------
    *columns
        Heads; a leading ``>`` aligns a column right. Where there is too little room, columns move closer together;
        where that leaves too little, cells are wrapped at marks inside
        names (right-aligned ones at spaces alone), never inside a word or a number; where even that leaves too little,
        each row becomes a list of heads and cells.
    title
        Above the head.
    gap
        Spaces between two columns, where there is room.

    Attributes
    ----------
    rows
        The cells of each row.
    """

    def __init__(self, *columns: str, title: str | None = None, gap: int = 3) -> None:
        self._heads = [column.lstrip(">") for column in columns]
        self._right = [column.startswith(">") for column in columns]
        self._title = title
        self._gap = gap
        self.rows: list[Sequence[str]] = []

    def add_row(self, *cells: str) -> None:
        """Append a row."""
        self.rows.append(cells)

    def lines(self, width: int, *, styled: bool = False) -> Iterator[str]:
        """Yield the lines of the table, of at most `width` columns where no word is longer.

        Parameters
        ----------
        styled
            Whether heads are bold and verdicts coloured.
        """
        weight = "\x1b[1m{}\x1b[0m" if styled else "{}"
        if self._title:
            yield weight.format(self._title)
        yield ""
        layout = self._layout(width)
        if layout is None:
            yield from self._records(width)
            return
        widths, gap = layout
        for line in self._row(self._heads, widths, gap):
            yield weight.format(line)
        yield " " + "─" * _total(widths, gap)
        for row in self.rows:
            yield from self._row(row, widths, gap, styled=styled)
        yield ""

    def _layout(self, width: int) -> tuple[Sequence[int], int] | None:
        """Return the columns' widths and the gap: the widest gap where nothing is wrapped, or the fewest lines."""
        whole = self._whole_widths()
        gaps = list(dict.fromkeys((self._gap, 2, 1)))
        for gap in gaps:
            if 1 + _total(whole, gap) <= width:
                return whole, gap
        wrapped = [(self._wrapped_widths(whole, width, gap), gap) for gap in gaps]
        fitting = [layout for layout in wrapped if 1 + _total(*layout) <= width]
        return min(
            fitting, key=lambda layout: sum(1 for row in self.rows for _ in self._row(row, *layout)), default=None
        )

    def _columns(self) -> Iterator[tuple[str, ...]]:
        return zip(self._heads, *self.rows, strict=True)

    def _whole_widths(self) -> list[int]:
        """Return the widths of the columns where no cell is wrapped."""
        return [max(len(line) for cell in column for line in cell.split("\n")) for column in self._columns()]

    def _wrapped_widths(self, whole: Sequence[int], width: int, gap: int) -> list[int]:
        """Return the widths of the columns: words give way first, the widest first, then numbers with their notes."""
        widths = list(whole)
        least = [
            max(len(piece.rstrip()) for cell in column for piece in _pieces(cell, right))
            for column, right in zip(self._columns(), self._right, strict=True)
        ]
        for side in (False, True):
            while (over := 1 + _total(widths, gap) - width) > 0:
                give = [k for k, right in enumerate(self._right) if right is side and widths[k] > least[k]]
                if not give:
                    break
                order = sorted((widths[k] for k in give), reverse=True)
                widest = max(give, key=widths.__getitem__)
                step = order[0] - order[1] if len(order) > 1 else over
                widths[widest] -= max(1, min(over, step, widths[widest] - least[widest]))
        return widths

    def _row(self, cells: Sequence[str], widths: Sequence[int], gap: int, *, styled: bool = False) -> Iterator[str]:
        wrapped = [_wrapped(cell, room, right) for cell, room, right in zip(cells, widths, self._right, strict=True)]
        for part in range(max(map(len, wrapped))):
            line = []
            for lines, room, right, head in zip(wrapped, widths, self._right, self._heads, strict=True):
                cell = lines[part] if part < len(lines) else ""
                text = cell.rjust(room) if right else cell.ljust(room)
                colour = _COLOURS.get(lines[0].split(" ")[0]) if styled and head == "verdict" else None
                line.append(f"\x1b[{colour}m{text}\x1b[0m" if colour else text)
            yield " " + (" " * gap).join(line)

    def _records(self, width: int) -> Iterator[str]:
        """Yield each row as its first cell and a paragraph of heads and cells, for terminals too narrow for columns."""
        wrapper = textwrap.TextWrapper(max(width, 10), break_long_words=False, break_on_hyphens=False)
        for first, *rest in self.rows:
            told = zip(self._heads[1:], rest, strict=True)
            text = ", ".join(f"{' '.join(head.split())} {' '.join(cell.split())}" for head, cell in told if cell)
            wrapper.initial_indent, wrapper.subsequent_indent = " ", " "
            yield from wrapper.wrap(first)
            wrapper.initial_indent = wrapper.subsequent_indent = "   "
            yield from wrapper.wrap(text)
        yield ""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rule = ["---:" if right else "---" for right in self._right]
        rows = [self._heads, rule, *self.rows]
        lines = ["| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
        return "\n".join([f"**{self._title}**\n"] * bool(self._title) + lines)

    def html(self) -> str:
        """Return the table as HTML."""
        from html import escape  # a cold start needs none

        sides = ["right" if right else "left" for right in self._right]

        def row(cells: Sequence[str], tag: str) -> str:
            shown = (
                f'<{tag} style="text-align: {side}">{escape(_one_line(cell))}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )
            return f"<tr>{''.join(shown)}</tr>"

        title = f"<caption>{escape(self._title)}</caption>" if self._title else ""
        body = "\n".join(row(cells, "td") for cells in self.rows)
        return f"<table>{title}<thead>{row(self._heads, 'th')}</thead><tbody>\n{body}\n</tbody></table>"


def _one_line(cell: str) -> str:
    return " ".join(cell.split("\n"))


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _pieces(cell: str, right: bool) -> list[str]:
    """Return what may stand on lines of its own."""
    found = re.findall(r"[^ \n]+[ \n]*", cell) if right else _PIECES.findall(cell)
    return [piece for piece in found if piece] or [""]


def _wrapped(cell: str, width: int, right: bool) -> list[str]:
    """Return the lines of a cell."""
    lines: list[str] = []
    for part in cell.split("\n"):
        lines.append("")
        for piece in [part] if len(part) <= width else _pieces(part, right):
            if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
                lines.append(piece)
            else:
                lines[-1] += piece
    return [line.rstrip(" ") for line in lines]


class Sheet:
    """Tables and paragraphs in their order: what a command or a notebook shows of a result.

    Parameters
    ----------
    *parts
        Tables, and paragraphs whose line breaks are kept.
    """

    def __init__(self, *parts: Table | str) -> None:
        self.parts = parts

    def __add__(self, other: Sheet) -> Sheet:
        return Sheet(*self.parts, *other.parts)

    def text(self) -> str:
        """Return the sheet as text: as wide as the terminal, where stdout is one, with bold heads and colours."""
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size((WIDTH, 40)).columns if terminal else WIDTH
        styled = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        wrapper = textwrap.TextWrapper(
            width, break_on_hyphens=False, break_long_words=False, replace_whitespace=False, expand_tabs=False
        )
        lines: list[str] = []
        for part in self.parts:
            if isinstance(part, Table):
                lines.extend(part.lines(width, styled=styled))
            else:
                lines.extend(wrapped for line in part.split("\n") for wrapped in wrapper.wrap(line) or [""])
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def markdown(self) -> str:
        """Return the sheet as Markdown."""
        parts = (part.markdown() if isinstance(part, Table) else part.rstrip() for part in self.parts)
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """Return the sheet as a piece of HTML."""
        from html import escape

        parts = (part.html() if isinstance(part, Table) else f"<p>{escape(part.rstrip())}</p>" for part in self.parts)
        return "\n".join(parts)
