"""One self-contained HTML page: the verdict table first, then sections that each say what they show.

No script, no network, no file beside it; the page's own security policy forbids all three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from estheory.quantities import Verdict, VerdictKind
from estheory.reporting.page.style import STYLE
from estheory.reporting.page.svg import NAMESPACE, printable
from estheory.reporting.text.tables import short
from estheory.reporting.text.verdicts import group_words, is_quiet_tensor, says, shown_ratio, worst_ratio
from estheory.reporting.text.verdicts import summary as tally

MOST_VERDICTS = 30
"""More verdicts than this are shown by quantity first, one by one on demand."""
SYMBOLS: dict[VerdictKind, str] = {"consistent": "✓", "refuted": "✗", "underpowered": "?"}
MEANING: dict[VerdictKind, str] = {
    "consistent": "not rejected, and an error of 5 % in the predicted mean would have been noticed.",
    "refuted": "rejected at the family-wise level.",
    "underpowered": "not rejected, but an error of 5 % might have gone unnoticed; “within 50 %”: one of 50 % would not "
    "have.",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text.

    Attributes
    ----------
    header
        Of each column; a leading ``>`` aligns it right.
    rows
        One text a column.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of the page.

    Attributes
    ----------
    title
        The heading.
    sentence
        What the section shows, in one sentence.
    figure_svg
        An ``<svg>`` element of :mod:`estheory.reporting.page.figures`, put in as it is; empty for none.
    table
        A table under the figure.
    points
        A list under the sentence.
    """

    title: str
    sentence: str
    figure_svg: str = ""
    table: Table | None = None
    points: tuple[str, ...] = ()


def html_page(
    *,
    title: str,
    summary: str,
    verdicts: Sequence[Verdict],
    plain: Sequence[Verdict],
    level: float,
    sections: Sequence[Section],
    opening: Sequence[Section] = (),
) -> str:
    """Return the page as HTML.

    `title`, `summary`: heading and opening paragraphs (separated by blank lines).
    `verdicts`: the judged pairs, in the order of the table, which leaves single tensors out unless refuted.
    `plain`: the same pairs judged with every systematic band set to 0.
    `opening`: sections before the verdicts.
    """
    body = [
        f"<h1>{_text(title)}</h1>",
        *(f"<p>{_text(paragraph.strip())}</p>" for paragraph in summary.split("\n\n") if paragraph.strip()),
        *(line for number, section in enumerate(opening, start=1) for line in _section(section, f"o{number}")),
        *_verdict_section(verdicts, plain, level),
        *(line for number, section in enumerate(sections, start=1) for line in _section(section, f"s{number}")),
        *_definitions(verdicts),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'; img-src data:\">",
            '<link rel="icon" href="data:,">',
            f"<title>{_text(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *body,
            "</main>",
            "<footer>Written by estheory. This file is complete: it loads nothing.</footer>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _verdict_section(verdicts: Sequence[Verdict], plain: Sequence[Verdict], level: float) -> Iterable[str]:
    yield '<section aria-labelledby="verdicts">'
    yield '<h2 id="verdicts">Verdicts</h2>'
    if not verdicts:
        yield "<p>No prediction was judged.</p>"
    else:
        banded = any(v.prediction.systematic for v in verdicts)
        yield '<ul class="tally">'
        yield from (f"<li>{_kind(kind, f'{count} {kind}')}</li>" for kind, count in _counts(verdicts))
        yield "</ul>"
        head = ["verdict", "quantity", "where", ">step", ">predicted", ">measured", ">ratio", ">p-value"]
        differs = any(v.kind != w.kind for v, w in zip(verdicts, plain, strict=True))
        head += ["without band"] * differs
        shown = [(v, w) for v, w in zip(verdicts, plain, strict=True) if not is_quiet_tensor(v)]
        rows = [_verdict_cells(v) + ((_kind(w.kind, _text(says(w))),) if differs else ()) for v, w in shown]
        if len(rows) > MOST_VERDICTS:
            yield from _verdict_groups([v for v, _ in shown])
            yield f"<details><summary>All {len(rows)} verdicts, one by one</summary>"
            yield from _table(head, rows, "verdicts")
            yield "</details>"
        elif rows:
            yield from _table(head, rows, "verdicts")
        if quiet := len(verdicts) - len(rows):
            yield f"<p>{quiet} more are of single tensors, none refuted: counted above, and not listed.</p>"
        words = " ".join(f"<b>{kind}</b>: {text}" for kind, text in MEANING.items())
        note = f"{words} Family-wise level {level:g}; p-values are before the correction for many tests."
        if banded:
            counts = ", ".join(f"{count} {kind}" for kind, count in _counts(plain))
            note += (
                " “± %” is a systematic uncertainty, kept apart from the spread: a measurement inside it "
                "counts as agreement; "
                f"without it: {counts}."
            )
        yield f'<p class="note">{note}</p>'
    yield "</section>"


def _verdict_groups(verdicts: Sequence[Verdict]) -> Iterable[str]:
    """Yield a table with a row a quantity, as the command line summarizes them."""
    rows = []
    for quantity in dict.fromkeys(v.prediction.quantity for v in verdicts):
        group = [v for v in verdicts if v.prediction.quantity is quantity]
        words = [_kind(kind, _text(text)) for kind, text in group_words(group)]
        rows.append([_breakable(quantity, 8), ", ".join(words), _text(worst_ratio(group)), str(len(group))])
    yield from _table(["quantity", "what they say", ">worst ratio", ">rows"], rows, "verdicts")  # a phone shows two


def _verdict_cells(verdict: Verdict) -> tuple[str, ...]:
    p, m = verdict.prediction, verdict.measurement
    spread = f" ± {short(p.law.std, 2)}" if p.law.std else ""
    band = f" ± {100 * p.systematic:.2g} %" if p.systematic else ""
    error = f" ± {short(m.stderr, 2)}" if m.stderr else ""
    unit = "" if p.quantity.unit == "1" else f' <span class="unit">{_text(p.quantity.unit)}</span>'
    return (
        _kind(verdict.kind, _text(says(verdict))),
        _breakable(p.quantity, 8) + unit,
        _breakable(m.where if m.source in m.where else ", ".join(part for part in (m.where, m.source) if part), 8),
        "" if m.step is None else str(m.step),
        _text(short(p.law.mean, 5) + spread + band),
        _text(short(m.value, 5) + error),
        _text(shown_ratio(verdict)),
        _text("< 1e-300" if verdict.pvalue == 0 else short(verdict.pvalue, 2)),
    )


def _section(section: Section, key: str) -> Iterable[str]:
    pictured = ' class="pictured"' if section.figure_svg else ""
    yield f'<section{pictured} aria-labelledby="{key}">'
    yield f'<h2 id="{key}">{_text(section.title)}</h2>'
    yield f"<p>{_text(section.sentence)}</p>"
    if section.points:
        yield "<ul>" + "".join(f"<li>{_breakable(point, 15)}</li>" for point in section.points) + "</ul>"
    if section.figure_svg:  # HTML needs no namespace, so a search of the page for an address finds none
        yield "<figure>" + section.figure_svg.replace(f' xmlns="{NAMESPACE}"', "") + "</figure>"
    if section.table:
        yield from _table(section.table.header, [[_breakable(c, 15) for c in row] for row in section.table.rows], key)
    yield "</section>"


def _definitions(verdicts: Sequence[Verdict]) -> Iterable[str]:
    """Yield what each judged quantity is, how far its prediction holds, on what grounds."""
    if not verdicts:
        return
    yield '<section aria-labelledby="definitions">'
    yield '<h2 id="definitions">What was judged</h2>'
    yield "<dl>"
    for quantity in dict.fromkeys(v.prediction.quantity for v in verdicts):
        yield f"<dt>{_text(quantity)}</dt>"
        unit = "" if quantity.unit == "1" else f" ({quantity.unit})"
        yield f"<dd>{_text(quantity.definition + unit)}.</dd>"
        grounds = (v.prediction for v in verdicts if v.prediction.quantity is quantity)
        for label, source, assumptions in dict.fromkeys((p.label, p.source, p.assumptions) for p in grounds):
            words = f"Prediction: {label}; {source}" + ("; assumes " * bool(assumptions)) + "; ".join(assumptions)
            yield f'<dd class="note">{_text(words)}.</dd>'
    yield "</dl>"
    yield "</section>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], key: str) -> Iterable[str]:
    """Yield a table in a box of its own that scrolls; the cells of ``rows`` are HTML already."""
    classes = ["number" if head.startswith(">") else "where" if head == "where" else "" for head in header]
    attributes = [f' class="{name}"' if name else "" for name in classes]
    yield f'<div class="scroll" role="group" tabindex="0" aria-labelledby="{key}">'
    yield "<table>"
    heads = [f'<th scope="col"{a}>{_text(h.removeprefix(">"))}</th>' for a, h in zip(attributes, header, strict=True)]
    yield "<thead><tr>" + "".join(heads) + "</tr></thead>"
    yield "<tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td{a}>{c}</td>" for a, c in zip(attributes, row, strict=True)) + "</tr>"
    yield "</tbody>"
    yield "</table>"
    yield "</div>"


def _kind(kind: VerdictKind, text: str = "") -> str:
    return f'<span class="kind {kind}"><span aria-hidden="true">{SYMBOLS[kind]}</span>{text or kind}</span>'


def _counts(verdicts: Sequence[Verdict]) -> list[tuple[VerdictKind, int]]:
    counts = tally(verdicts)
    return [(kind, counts[kind]) for kind in SYMBOLS]


def _breakable(text: str, length: int) -> str:
    """Return escaped text whose lines may end at the marks inside a name, when ``length`` characters are on them."""
    return re.sub(rf"(.{{{length},}}?[_/|:.])(?=[A-Za-z])", r"\1<wbr>", _text(text))


def _text(text: str) -> str:
    return escape(printable(text))
