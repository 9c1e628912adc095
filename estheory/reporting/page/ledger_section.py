"""The first picture of a page about runs: what each earned and paid, and what its reward did."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from estheory.reporting.page.figures import columns, legend, style
from estheory.reporting.page.page import Section, Table
from estheory.reporting.page.svg import clean, new_figure, to_svg
from estheory.reporting.page.theme import LIGHT
from estheory.reporting.text.tables import short
from estheory.theory.economy.ledger import Ledger, Sum

MOST_RUNS = 4
"""Of more runs than this the others are in the table alone."""


def ledger_section(books: Mapping[str, Ledger]) -> Section:
    """Show cumulative earned and paid and the measured reward of each run, and the totals of all."""
    header = ("run", ">earned", ">paid", ">net between the ends", ">reward rose by")
    rows = []
    for name, book in books.items():
        at_most = "at most " if book.bound else ""
        net = book.total("net", book.between_ends())
        sums = [(at_most, book.total("earned")), ("", book.total("paid")), (at_most, net), ("", book.risen())]
        rows.append((name, *(mark + _told(total) for mark, total in sums)))
    bounded = " Without mirrored members or partners, what was earned is an upper bound."
    return Section(
        title="What the run earned and paid" if len(books) == 1 else "What the runs earned and paid",
        sentence="Earned less paid, summed over the updates, is the change of the reward; nothing is fitted."
        + (bounded if any(book.bound for book in books.values()) else ""),
        figure_svg=ledger_path(dict(list(books.items())[:MOST_RUNS])),
        table=Table(header=header, rows=tuple(rows)),
    )


def ledger_path(books: Mapping[str, Ledger]) -> str:
    """Draw earned and paid, summed up, with two standard errors, and the measured change of the reward."""
    words = []
    with new_figure(60 + 170 * len(books)) as figure:
        panels = figure.subplots(len(books), 1, squeeze=False)[:, 0]
        for ax, (name, book) in zip(panels, books.items(), strict=True):
            steps = [entry.step for entry in book.entries]
            rewards = np.array([entry.reward for entry in book.entries])
            words.append(f"{name}: reward changed by {short(book.risen().value, 3)}")
            for index, what in enumerate(("earned", "paid")):
                values = np.array([getattr(entry, what) for entry in book.entries])
                errors = np.array([getattr(entry, f"{what}_stderr") for entry in book.entries])
                if np.isnan(values).any():
                    continue
                x, total, spread = columns(steps, np.cumsum(values), 2 * np.sqrt(np.cumsum(errors**2)))
                colour, line = style(index)
                label = what + (" (at most)" if what == "earned" and book.bound else "")
                ax.plot(x, total, line, color=colour, label=label)
                if np.isfinite(spread).all():
                    ax.fill_between(x, total - spread, total + spread, color=colour, alpha=0.15, linewidth=0)
                words[-1] += f", {label} {short(float(total[-1]), 3)}"
            change = rewards - rewards[: book.ends].mean()
            ax.plot(steps, change, ".", color=LIGHT["text"], markersize=4, label="measured change of the reward")
            ax.axhline(0, color=LIGHT["muted"], linewidth=0.8)
            ax.set_title(clean(name, 60))
            ax.locator_params(axis="x", integer=True)
        panels[-1].set_xlabel("update")
        legend(figure, panels[0])
        return to_svg(figure, "What the runs earned and paid", "; ".join(words) + ".")


def _told(total: Sum) -> str:
    if math.isnan(total.value):
        return "-"
    error = "" if math.isnan(total.stderr) else f" ± {short(total.stderr, 1)}"
    return short(total.value, 3) + error
