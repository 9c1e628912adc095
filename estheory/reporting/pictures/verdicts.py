"""Verdicts as a forest plot: measured over predicted, a row a quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from estheory.errors import ConfigError
from estheory.quantities import Verdict, VerdictKind
from estheory.reporting.page.figures import legend
from estheory.reporting.page.svg import clean
from estheory.reporting.page.theme import LIGHT
from estheory.reporting.pictures.picture import Picture, log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS: dict[VerdictKind, tuple[str, str, str]] = {
    "consistent": ("o", LIGHT["good"], "full"),
    "underpowered": ("o", LIGHT["muted"], "none"),
    "refuted": ("X", LIGHT["bad"], "full"),
}
"""Marker, colour and filling of each kind, the most telling drawn last."""
CROWDED = 8
"""So many verdicts fit on a row of one line."""
WIDE = 1.5
"""Ratios further than this factor from 1 are drawn on a logarithmic axis."""
FURTHEST = 1e4


def verdicts_picture(verdicts: Sequence[Verdict]) -> Picture:
    """Draw each verdict at its ratio, with its 95 % uncertainty, on the line of its quantity.

    Those whose prediction is next to 0 have no ratio and are left out.
    """
    shown = [v for v in verdicts if not v.near_zero]
    if not shown:
        raise ConfigError("there is no ratio to draw", "every prediction is next to 0, or none was judged")
    return Picture(draw=lambda figure: forest(figure, shown), height=forest_height(shown))


def forest_height(verdicts: Sequence[Verdict]) -> float:
    """Return the height of a forest plot, in points."""
    return 64 + 22 * sum(_height(group) for group in _groups(verdicts).values())


def _groups(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(str(verdict.prediction.quantity), []).append(verdict)
    return groups


def _height(group: Sequence[Verdict]) -> float:
    """Return the height of a row, in that of a single verdict."""
    return max(1.0, len(group) / CROWDED)


def forest(figure: Figure, verdicts: Sequence[Verdict]) -> None:
    """Draw a forest plot of verdicts that have ratios."""
    ax = figure.subplots()
    groups = _groups(verdicts)
    ratios = np.array([v.ratio for v in verdicts])
    wide = bool(((ratios > WIDE) | (ratios < 1 / WIDE)).any())
    ends = ratios[(ratios > 1 / FURTHEST) & (ratios < FURTHEST)]
    low, high = min(1.0, *ends), max(1.0, *ends)
    if wide:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.3, high * 1.3)
    else:
        reach = 1.25 * max(high - 1, 1 - low, 0.01)
        ax.set_xlim(1 - reach, 1 + reach)
    left, right = ax.get_xlim()
    ax.axvline(1, color=LIGHT["text"], linewidth=0.8)
    top, middles = 0.0, []
    for group in groups.values():
        height = _height(group)
        middles.append(top + height / 2)
        _row(ax, middles[-1], 0.35 * height, group, left, right)
        top += height
    for kind, (marker, colour, filled) in MARKS.items():
        if any(v.kind == kind for v in verdicts):
            ax.plot([], [], marker, color=colour, fillstyle=filled, markersize=5, label=kind)
    ax.set_yticks(middles, [clean(name, 30) for name in groups])
    ax.set_ylim(top, 0)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("measured / predicted")
    if wide:
        log_ticks(ax.xaxis)
    legend(figure, ax)


def _row(ax: Axes, row: float, half: float, group: Sequence[Verdict], left: float, right: float) -> None:
    """Draw the verdicts of one quantity, one below another within its row; what lies outside stands at the edge."""
    places = row + half * (np.linspace(-1, 1, len(group)) if len(group) > 1 else np.zeros(1))
    order = list(MARKS)
    for place, verdict in sorted(zip(places.tolist(), group, strict=True), key=lambda pair: order.index(pair[1].kind)):
        marker, colour, filled = MARKS[verdict.kind]
        p = verdict.prediction
        spread = 1.96 * float(np.hypot(p.law.std, verdict.measurement.stderr)) / abs(p.law.mean) + p.systematic
        at = min(max(verdict.ratio, left), right)
        if spread:
            ends = max(verdict.ratio - spread, left), min(verdict.ratio + spread, right)
            ax.plot(ends, (place, place), color=colour, linewidth=1, alpha=0.6)
        ax.plot(at, place, marker, color=colour, fillstyle=filled, markersize=4, clip_on=False)
