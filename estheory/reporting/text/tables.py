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
from dataclasses import dataclass
from pathlib import PurePath

WIDTH = 120
_WORDS = re.compile(r"[^ \n]+[ \n]*")
_PARTS = re.compile(r"[^\s_/|:.]*[\s_/|:.]*")
"""Of a cell, what is never wrapped: words, and where there is too little room for names, their parts."""


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


_BOLD = "\x1b[1m{}\x1b[0m"
_INDENT = 3
"""Columns before a row whose names stand above it."""


@dataclass(frozen=True)
class _Layout:
    """How the rows of a table are written: `lead` columns above the others, whose widths are `widths[lead:]`."""

    lead: int
    widths: list[int]
    gap: int
    right: Sequence[bool]
    heads: Sequence[str]
    pieces: re.Pattern[str]
    room: int

    @property
    def total(self) -> int:
        """Columns of a line, without the space before it."""
        shown = self.widths[self.lead :]
        return max(sum(shown) + self.gap * (len(shown) - 1) + _INDENT * (self.lead > 0), *self.widths[: self.lead], 0)

    def row(self, cells: Sequence[str], above: Sequence[str], *, styled: bool = False) -> Iterator[str]:
        """Yield the lines of a row; names that are those of the row above it are not said again."""
        names = cells[: self.lead]
        if names and list(names) != list(above[: self.lead]):
            title = "  ".join(name for name in names if name)
            weight = _BOLD if styled else "{}"
            yield from (weight.format(" " + line) for line in _wrapped(title, self.room - 1, self.pieces))
        values = list(zip(cells, self.widths, self.right, self.heads, strict=True))[self.lead :]
        wrapped = [_wrapped(cell, room, _WORDS if right else self.pieces) for cell, room, right, _ in values]
        for part in range(max(map(len, wrapped))):
            line = []
            for lines, (_, room, right, head) in zip(wrapped, values, strict=True):
                cell = lines[part] if part < len(lines) else ""
                text = cell.rjust(room) if right else cell.ljust(room)
                colour = _COLOURS.get(lines[0].split(" ")[0]) if styled and head == "verdict" else None
                line.append(f"\x1b[{colour}m{text}\x1b[0m" if colour else text)
            yield " " * (1 + _INDENT * (self.lead > 0)) + (" " * self.gap).join(line)


class Table:
    """Rows below a ruled head.

    Parameters
    ----------
    *columns
        Heads; a leading ``>`` aligns a column right. Where there is too little room, columns move closer together;
        where that leaves too little, cells are wrapped at spaces, or the columns before the first right-aligned one
        take a line of their own, above the rows that share it; then names are wrapped at marks inside them; where even
        that leaves too little, each row becomes a list of heads and cells. No word or number is broken.
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

        `styled`: whether heads are bold and verdicts coloured.
        """
        weight = _BOLD if styled else "{}"
        if self._title:
            yield from map(weight.format, _wrapped(self._title, width, _WORDS))
        yield ""
        layout = self._layout(width)
        if layout is None:
            yield from self._records(width)
            return
        for line in layout.row(self._heads, ()):
            yield weight.format(line)
        yield " " + "─" * layout.total
        above: Sequence[str] = ()
        for row in self.rows:
            yield from layout.row(row, above, styled=styled)
            above = row
        yield ""

    def _layout(self, width: int) -> _Layout | None:
        """Return the widest gap where nothing is wrapped, or the fewest lines; names are wrapped where they must be."""
        names = self._right.index(True) if True in self._right else 1
        leads = (0, names) if names < len(self._heads) else (0,)
        for pieces in (_WORDS, _PARTS):
            fitting = []
            for lead in leads:
                for gap in dict.fromkeys((self._gap, 2, 1)):
                    layout = self._arranged(width, lead, gap, pieces)
                    if layout.total + 1 <= width:
                        fitting.append(layout)
            if fitting:
                return min(fitting, key=self._height)
        return None

    def _height(self, layout: _Layout) -> int:
        above = [(), *self.rows]
        return sum(1 for row, before in zip(self.rows, above, strict=False) for _ in layout.row(row, before))

    def _arranged(self, width: int, lead: int, gap: int, pieces: re.Pattern[str]) -> _Layout:
        """Return widths of the columns: words give way first, the widest first, then numbers with their notes.

        `lead`: so many columns take a line of their own.
        """
        columns = list(zip(self._heads, *self.rows, strict=True))
        widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]
        least = [
            max(len(piece.rstrip()) for cell in column for piece in _pieces(cell, _WORDS if right else pieces))
            for column, right in zip(columns, self._right, strict=True)
        ]
        widths[:lead] = least[:lead]  # that line is wrapped at the terminal's width
        layout = _Layout(lead, widths, gap, self._right, self._heads, pieces, width)
        for side in (False, True):
            while (over := 1 + layout.total - width) > 0:
                give = [k for k in range(lead, len(widths)) if self._right[k] is side and widths[k] > least[k]]
                if not give:
                    break
                order = sorted((widths[k] for k in give), reverse=True)
                widest = max(give, key=widths.__getitem__)
                step = order[0] - order[1] if len(order) > 1 else over
                widths[widest] -= max(1, min(over, step, widths[widest] - least[widest]))
        return layout

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


def _pieces(cell: str, pieces: re.Pattern[str]) -> list[str]:
    """Return what may stand on lines of its own."""
    return [piece for piece in pieces.findall(cell) if piece] or [""]


def _wrapped(cell: str, width: int, pieces: re.Pattern[str]) -> list[str]:
    """Return the lines of a cell."""
    lines: list[str] = []
    for part in cell.split("\n"):
        lines.append("")
        for piece in [part] if len(part) <= width else _pieces(part, pieces):
            if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
                lines.append(piece)
            else:
                lines[-1] += piece
    return [line.rstrip(" ") for line in lines]


class Sheet:
    """Tables and paragraphs in their order: what a command or a notebook shows of a result.

    `*parts`: tables, and paragraphs whose line breaks are kept.
    """

    def __init__(self, *parts: Table | str) -> None:
        self.parts = parts

    def __add__(self, other: Sheet) -> Sheet:
        return Sheet(*self.parts, *other.parts)

    def text(self) -> str:
        """Return the sheet as text: as wide as COLUMNS or the terminal says; bold heads and colours on a terminal."""
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size((WIDTH, 40)).columns
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
