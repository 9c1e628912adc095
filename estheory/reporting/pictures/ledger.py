"""A run's ledger along its updates: what was earned and paid, the measured reward, and what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from estheory.quantities import Prediction
from estheory.reporting.page.figures import legend, style
from estheory.reporting.page.theme import LIGHT
from estheory.reporting.pictures.picture import Picture
from estheory.theory.economy.forecast import Outlook
from estheory.theory.economy.intervals import LEVEL
from estheory.theory.economy.ledger import Ledger

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def outlook_picture(outlook: Outlook) -> Picture:
    """Draw a ledger, and the intervals of the rewards that are predicted."""
    ahead = [p for p in outlook.predictions if p.quantity in ("centre_reward", "mean_member_reward")]
    return Picture(draw=lambda figure: _draw(figure, outlook.ledger, ahead), height=260)


def ledger_picture(book: Ledger) -> Picture:
    """Draw a ledger."""
    return Picture(draw=lambda figure: _draw(figure, book, ()), height=260)


def _draw(figure: Figure, book: Ledger, ahead: Sequence[Prediction]) -> None:
    ax = figure.subplots()
    steps = [entry.step for entry in book.entries]
    rewards = np.array([entry.reward for entry in book.entries])
    start = rewards[: book.ends].mean()
    earned = [e.earned for e in book.entries]
    _total(ax, steps, earned, [e.earned_stderr for e in book.entries], 2, "earned" + " (at most)" * bool(book.bound))
    if not all(math.isnan(entry.paid) for entry in book.entries):
        paid = [-entry.paid for entry in book.entries]
        _total(ax, steps, paid, [entry.paid_stderr for entry in book.entries], 1, "paid")
    ax.plot(steps, rewards - start, ".", color=LIGHT["text"], markersize=4, label="measured change")
    predicted = [(p.step, p.law.interval(LEVEL)) for p in ahead if p.step is not None]
    if predicted:
        at = [step for step, _ in predicted]
        low, high = ([ends[side] - start for _, ends in predicted] for side in (0, 1))
        ax.vlines(at, low, high, color=style(0)[0], linewidth=1.5, label=f"predicted, {LEVEL:.0%}")
    ax.axhline(0, color=LIGHT["muted"], linewidth=0.8)
    ax.set_xlabel("update")
    ax.set_title("reward, summed over the updates")
    legend(figure, ax)


def _total(
    ax: Axes, steps: Sequence[int], values: Sequence[float], errors: Sequence[float], index: int, label: str
) -> None:
    """Draw a running total with two standard errors."""
    colour, line = style(index)
    total = np.cumsum(values)
    band = 2 * np.sqrt(np.cumsum(np.square(errors)))
    ax.plot(steps, total, color=colour, linestyle=line, label=label)
    if np.isfinite(band).all():
        ax.fill_between(steps, total - band, total + band, color=colour, alpha=0.15, linewidth=0)
