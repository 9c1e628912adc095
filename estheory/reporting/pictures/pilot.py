"""A pilot's net gain of one update against alpha, for several N."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from estheory.reporting.page.figures import legend, style
from estheory.reporting.page.theme import LIGHT
from estheory.reporting.pictures.picture import Picture, log_ticks
from estheory.theory.economy.pilot import Pilot
from estheory.theory.economy.scale import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACTORS = (1, 4, 16)
"""Multiples of the planned N."""


def pilot_picture(pilot: Pilot) -> Picture:
    """Draw the net gain of an update against alpha, with its interval, for the planned N and multiples of it."""
    scale = pilot.scale

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        for index, factor in enumerate(FACTORS):
            _curve(ax, scale, scale.config.population * factor, index)
        ax.axhline(0, color=LIGHT["text"], linewidth=0.8)
        ax.axvline(scale.config.step_size, color=LIGHT["muted"], linewidth=1, linestyle="--", label="planned alpha")
        ax.set_xscale("log")
        log_ticks(ax.xaxis)
        ax.set_xlabel("alpha (weight)")
        bound = ", at most" if scale.bound else ""
        ax.set_title(("net gain" if scale.members.gap else "gain") + f" of one update (reward{bound})")
        legend(figure, ax)

    return Picture(draw=draw, height=250)


def _curve(ax: Axes, scale: Scale, population: int, index: int) -> None:
    """Draw the curve of one N with its interval, up to twice its best alpha or ten times the planned one."""
    colour, line = style(index)
    alpha = scale.config.step_size
    wide = scale.with_update(alpha, population, scale.prompts)
    best = wide.best(wide.centre)[0] if wide.members.gap else math.inf
    top = min(10 * alpha, 2 * best) if best > 0.2 * alpha else 2 * alpha
    alphas = np.geomspace(alpha / 10, max(top, alpha), 60)
    found = [scale.with_update(float(a), population, scale.prompts).net_interval for a in alphas]
    ax.plot(alphas, [f.value for f in found], color=colour, linestyle=line, label=f"N = {population}")
    ax.fill_between(alphas, [f.low for f in found], [f.high for f in found], color=colour, alpha=0.15, linewidth=0)
