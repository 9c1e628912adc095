"""Forecasts drawn along the steps: one configuration with its intervals, or a family of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from estheory.errors import ConfigError
from estheory.quantities import Prediction, Quantity
from estheory.reporting.page.figures import entry, legend, style
from estheory.reporting.page.theme import LIGHT
from estheory.reporting.pictures.picture import Picture
from estheory.theory.predictions import Forecast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BOUND = Quantity.COHERENT_DISPLACEMENT_BOUND
PANELS = {
    Quantity.DISPLACEMENT_NORM: "distance from the start (weight)",
    Quantity.REWARD: "reward R − R* (reward)",
    Quantity.ES_GRPO_COSINE_BOUND: "bound on the cosine with GRPO",
    Quantity.KL_DRIFT: "KL from the start (nat/token)",
    Quantity.OFF_TASK_REWARD_CHANGE: "change of another task's reward",
}
"""Quantities that are drawn where they are predicted, and what heads their panel."""
CURVE_POINTS = 60
MOST_CURVES = 8


def curve_steps(last: int, listed: Sequence[int]) -> tuple[int, ...]:
    """Return steps at which a smooth curve up to the last one is drawn, those that were listed among them."""
    spread = np.linspace(max(1, last // CURVE_POINTS), last, CURVE_POINTS)
    return tuple(sorted({1, *listed, *(int(step) for step in spread)}))


def forecast_picture(curves: Mapping[str, Forecast], listed: Sequence[int], level: float) -> Picture:
    """Draw norm, reward, cosine bound, KL and off-task change, as far as they are predicted, against the step.

    `curves`: by what tells them apart: one, or a family.
    `listed`: steps that are marked by dots.
    `level`: of the interval; the declared band stands around it.
    """
    shown = [q for q in PANELS if any(p.quantity is q for found in curves.values() for p in found.predictions)]
    if not shown:
        raise ConfigError("there is no curve to draw", "the warnings of predict say what is missing")

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0]
        for ax, quantity in zip(panels, shown, strict=True):
            for index, (name, forecast) in enumerate(curves.items()):
                found = [p for p in forecast.predictions if p.quantity is quantity]
                _curve(ax, found, name, index, listed, level)
                if quantity is Quantity.DISPLACEMENT_NORM:
                    _bound(ax, [p for p in forecast.predictions if p.quantity is BOUND], index, len(curves))
            ax.set_title(PANELS[quantity])
            if quantity is not Quantity.REWARD and quantity is not Quantity.OFF_TASK_REWARD_CHANGE:
                ax.set_ylim(bottom=0)
        panels[-1].set_xlabel("step")
        panels[-1].set_xlim(left=0)
        legend(figure, panels[0])

    return Picture(draw=draw, height=60 + 150 * len(shown))


def _curve(ax: Axes, found: Sequence[Prediction], name: str, index: int, listed: Sequence[int], level: float) -> None:
    if not found:
        return
    colour, line = style(index)
    steps = [p.step or 0 for p in found]
    intervals = [p.law.interval(level) for p in found]
    bands = [p.systematic * abs(p.law.mean) for p in found]
    low = [a - band for (a, _), band in zip(intervals, bands, strict=True)]
    high = [b + band for (_, b), band in zip(intervals, bands, strict=True)]
    means = [p.law.mean for p in found]
    ax.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
    ax.plot(steps, means, color=colour, linestyle=line, label=entry(name))
    marked = [(step, mean) for step, mean in zip(steps, means, strict=True) if step in listed]
    if marked:
        ax.plot(*zip(*marked, strict=True), "o", color=colour, markersize=3.5)


def _bound(ax: Axes, found: Sequence[Prediction], index: int, family: int) -> None:
    """Draw how much of the norm can be signal: one line for a single run, one of its colour in a family."""
    if found:
        colour = style(index)[0] if family > 1 else LIGHT["bad"]
        label = "at most this much of it is signal" if index == 0 else None
        ax.plot(
            [p.step or 0 for p in found], [p.law.mean for p in found], ":", color=colour, linewidth=1.2, label=label
        )
