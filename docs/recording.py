"""The recording of a terminal of 80 columns: what the tour's commands write, typed into a real terminal.

``python docs/recording.py`` writes it three times: ``terminal.cast`` for ``asciinema play``, ``terminal.svg`` as one
long picture, ``film.svg`` as a moving one. The output is the program's; when each line comes is set here.
``tests/test_docs_recording.py`` fails where a file is not what is written today.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
COLUMNS, ROWS = 80, 32
TYPED = re.compile(r"```bash\n(estheory (?:predict|plan|validate) .*?)\n```", re.DOTALL)
"""What is recorded of the tour: the commands that need no model."""
WORD, LINE, PAUSE = 0.15, 0.06, 5.0
"""Seconds from one typed word to the next, from one line of output to the next, and to read it."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """What appears at a time, in seconds."""

    time: float
    text: str


def written(command: str) -> str:
    """Return what a command writes to a terminal, colours included; a refuted prediction is no failure."""
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", *shlex.split(command.replace("\\\n", " "))]
    of_terminal = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm", "NO_COLOR": ""}
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=of_terminal) as process:
        os.close(theirs)
        with open(ours, "rb", buffering=0) as reading:
            output = b""
            try:
                while part := reading.read(4096):
                    output += part
            except OSError:  # Linux: the other end is closed
                pass
    if process.returncode not in (0, 3):
        raise RuntimeError(f"{command} exits with {process.returncode}")
    return output.decode("utf-8").replace("\r\n", "\n")


def recording(commands: Sequence[str]) -> list[Event]:
    """Return the events of a terminal in which the commands are typed, word by word, and answered, line by line."""
    events = []
    time = 0.0
    for command in commands:
        events.append(Event(time=time, text="$ "))
        typed = " ".join(command.replace("\\\n", " ").split())
        lines = textwrap.wrap(typed, COLUMNS - 4, subsequent_indent="    ", break_on_hyphens=False)
        for word in re.findall(r"\s*\S+(?: *\\\n)?", " \\\n".join(lines)):
            time += WORD
            events.append(Event(time=time, text=word))
        events.append(Event(time=time, text="\n"))
        for line in written(command).splitlines(keepends=True):
            time += LINE
            events.append(Event(time=time, text=line))
        events.append(Event(time=time, text="\n"))
        time += PAUSE
    return [*events, Event(time=time, text="$ ")]


def cast(events: Sequence[Event]) -> str:
    """Return the events as an asciicast, version 2."""
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "Two minutes with estheory"}
    lines = [json.dumps(head)]
    lines += [json.dumps([round(event.time, 2), "o", event.text.replace("\n", "\r\n")]) for event in events]
    return "\n".join(lines) + "\n"


CELL, HEIGHT, MARGIN = 8.4, 18, 12
STYLE = """
    svg { background: #16181d; border-radius: 6px }
    text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #e4e6eb;
           white-space: pre }
    .s1 { font-weight: bold; fill: #fff } .s31 { fill: #ff8080 } .s32 { fill: #6fdc8c } .s33 { fill: #f1c21b }"""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Text of one style at a place, in rows and columns, and when it comes."""

    time: float
    row: int
    column: int
    style: str
    text: str

    def svg(self) -> str:
        """Return the piece as an element of SVG."""
        place = f'x="{MARGIN + CELL * self.column:.1f}" y="{MARGIN + HEIGHT * (self.row + 0.75):.1f}"'
        length = f'textLength="{CELL * len(self.text):.1f}" lengthAdjust="spacingAndGlyphs"'
        return f'<text class="s{self.style} t{self.time * 100:.0f}" {place} {length}>{escape(self.text)}</text>'


def pieces(events: Sequence[Event]) -> Iterator[Piece]:
    """Yield the pieces of text that the events write, which hold no control sequence but colours."""
    row = column = 0
    style = ""
    for event in events:
        for part in re.findall(r"\x1b\[\d*m|\n|[^\x1b\n]+", event.text):
            if part == "\n":
                row, column = row + 1, 0
            elif part.startswith("\x1b"):
                style = part[2:-1].removeprefix("0")
            else:
                if part.strip():
                    lead = len(part) - len(part.lstrip())
                    yield Piece(time=event.time, row=row, column=column + lead, style=style, text=part.strip())
                column += len(part)


def still(events: Sequence[Event]) -> str:
    """Return all that was written as one picture."""
    shown = list(pieces(events))
    return _picture(shown, shown[-1].row + 1, "", "A terminal of 80 columns, from its first line to its last")


def film(events: Sequence[Event]) -> str:
    """Return a picture that moves as the terminal did; where no motion is wanted, its last screen."""
    shown = list(pieces(events))
    whole = events[-1].time + PAUSE
    rules, scrolled = [], []
    for time in sorted({piece.time for piece in shown}):
        share = f"{100 * time / whole:.3f}%"
        last = max(piece.row for piece in shown if piece.time <= time)
        offset = -HEIGHT * max(0, last + 1 - ROWS)
        if not scrolled or scrolled[-1][1] != offset:
            scrolled.append((share, offset))
        name = f"t{time * 100:.0f}"
        rules.append(f"@keyframes {name} {{ 0% {{ opacity: 0 }} {share} {{ opacity: 1 }} }}")
        rules.append(f".{name} {{ animation: {name} {whole:.2f}s step-end infinite }}" if time else "")
    steps = " ".join(f"{share} {{ transform: translateY({offset}px) }}" for share, offset in scrolled)
    rules.append(f"@keyframes roll {{ {steps} }} g {{ animation: roll {whole:.2f}s step-end infinite }}")
    rules.append(f"g {{ transform: translateY({scrolled[-1][1]}px) }}")
    rules.append("@media (prefers-reduced-motion: reduce) { g, text { animation: none !important } }")
    return _picture(shown, ROWS, "\n".join(filter(None, rules)), "A film of a terminal of 80 columns")


def _picture(shown: Sequence[Piece], rows: int, motion: str, title: str) -> str:
    width, height = round(2 * MARGIN + CELL * COLUMNS), 2 * MARGIN + HEIGHT * rows
    body = "\n".join(piece.svg() for piece in shown)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE}\n{motion}</style>\n"
        f'<svg x="0" y="{MARGIN}" width="{width}" height="{height - 2 * MARGIN}" viewBox="0 {MARGIN} {width} '
        f'{height - 2 * MARGIN}">\n<g>\n{body}\n</g>\n</svg>\n</svg>\n'
    )


def files() -> dict[str, str]:
    """Return the recording of the tour's commands, by the names of its files."""
    events = recording(re.findall(TYPED, (DOCS / "index.md").read_text(encoding="utf-8")))
    return {"terminal.cast": cast(events), "terminal.svg": still(events), "film.svg": film(events)}


if __name__ == "__main__":
    for name, text in files().items():
        (DOCS / name).write_text(text, encoding="utf-8")
