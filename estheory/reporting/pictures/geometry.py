"""A measured geometry: displacement and drift, lines between end points, rewards along directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from estheory.reporting.pictures.picture import Picture
from estheory.reporting.text.geometry import NAMES, start_distance
from estheory.simulation.geometry_results import LINE, METHODS, PROBES, Geometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def geometry_picture(geometry: Geometry) -> Picture:
    """Draw displacement and drift, cosines, the lines between end points and rewards along directions."""
    return Picture(draw=lambda figure: _draw(geometry, figure.subplots(4, 1)), height=760)


def _draw(geometry: Geometry, axes: Any) -> None:
    split, drift, line, probe = axes
    _split_axes(split, geometry)
    names = list(geometry.methods)
    drift.boxplot([geometry.methods[n].off_task_change for n in names], tick_labels=[NAMES[n] for n in names])
    drift.axhline(0.0, color="0.7", linewidth=0.8)
    drift.set_ylabel("off-task reward change (reward)")
    for name in METHODS:
        between = geometry.between[name].line.mean(axis=0)
        (drawn,) = line.plot(LINE, between, "o-", markersize=3, label=f"ES to {NAMES[name]}")
        line.plot(LINE[[0, -1]], between[[0, -1]], "--", linewidth=0.8, color=drawn.get_color())
    line.set_xlabel("position on the line (dashed: chord)")
    line.set_ylabel("R - R* (reward)")
    line.legend()
    distance = PROBES * start_distance(geometry)
    for name in names:
        probe.plot(distance, geometry.methods[name].probe.mean(axis=0), "o-", markersize=3, label=NAMES[name])
    probe.plot(distance, geometry.random_probe.mean(axis=0), "k--", label="random direction")
    probe.set_xlabel("distance along the normalised displacement (weight)")
    probe.set_ylabel("R - R* (reward)")
    probe.legend()


def _split_axes(axes: Axes, geometry: Geometry) -> None:
    names = list(geometry.methods)
    on = np.array([np.mean(geometry.methods[n].on_task_square) for n in names])
    off = np.array([np.mean(geometry.methods[n].off_task_square) for n in names])
    at = np.arange(len(names))
    axes.bar(at, on, label="curved directions (on-task)")
    axes.bar(at, off, bottom=on, label="flat directions (off-task)")
    axes.set_xticks(at, [NAMES[n] for n in names])
    axes.set_ylabel("E ||Delta||^2 (weight^2)")
    axes.legend()
