"""Figures with a row a name, each one function from plain arrays to an inline SVG string.

Needs matplotlib (the ``plots`` extra).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from estheory._special import Array
from estheory.reporting.page.figures import Values, columns, legend, note, style
from estheory.reporting.page.svg import clean, new_figure, to_svg
from estheory.reporting.page.theme import LIGHT
from estheory.reporting.text.tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Mask = NDArray[np.bool_]

MOST_NAMED_TENSORS = 40
"""Of more tensors than this only those outside their interval are named."""


@dataclass(frozen=True, kw_only=True)
class _Ratios:
    """Ratios of tensors with their shown names, and the interval of each at a level."""

    names: list[str]
    ratios: Array
    low: Array
    high: Array
    level: float

    @property
    def outside(self) -> Mask:
        """Whether each lies outside its interval."""
        return (self.ratios < self.low) | (self.ratios > self.high)

    def dots(self, ax: Axes, x: Array, y: Array) -> None:
        """Draw a dot for each, hollow outside its interval."""
        outside = self.outside
        ax.plot(x[~outside], y[~outside], "o", color=style(0)[0], markersize=3.5, label="measured")
        if outside.any():
            ax.plot(x[outside], y[outside], "D", color=style(1)[0], fillstyle="none", markersize=6, label="outside")


def tensor_ratios(names: Sequence[str], ratios: Values, low: Values, high: Values, *, level: float = 0.99) -> str:
    """Draw each tensor's effective-dimension ratio and the interval it should lie in, hollow where it does not.

    More than :data:`MOST_NAMED_TENSORS` tensors share one axis, each on the scale of its own interval.

    `names`, `ratios`: the tensors and N ||Delta||^2 / (alpha^2 T n) of each.
    """
    _, ratios, low, high = columns(np.arange(len(names)), ratios, low, high)
    rows = _Ratios(names=_without_common_parts(names), ratios=ratios, low=low, high=high, level=level)
    outside = rows.outside
    description = f"{int(outside.sum())} of {len(names)} tensors lie outside their {level:.0%} interval"
    if outside.any():
        strays = [f"{names[i]} ({short(float(ratios[i]), 4)})" for i in np.flatnonzero(outside)[:10].tolist()]
        description += ": " + ", ".join(strays) + (", ..." if outside.sum() > len(strays) else "")
    draw = _ratio_rows if len(names) <= MOST_NAMED_TENSORS else _ratio_strip
    return draw(rows, description + ".")


def cosines(names: Sequence[str], values: Values, floor: float, bounds: Values = ()) -> str:
    """Draw measured cosines against those of unrelated directions, on a scale that is linear only inside +-2 floor.

    `floor`: 1/sqrt(d), the standard deviation of the cosine of two unrelated directions.
    `bounds`: a bound on each absolute cosine, NaN where theory gives none; empty for none at all.
    """
    rows, values, limits = columns(
        np.arange(len(names)), values, bounds if len(bounds) else np.full(len(names), np.nan)
    )
    with new_figure(66 + 26 * len(names)) as figure:
        ax = figure.subplots()
        ax.set_xscale("symlog", linthresh=2 * floor, linscale=0.6)
        blue, orange = style(0)[0], style(1)[0]
        label = f"unrelated directions: ±2/√d = ±{short(2 * floor, 2)}"
        ax.axvspan(-2 * floor, 2 * floor, color=blue, alpha=0.18, linewidth=0, label=label)
        ax.plot(values, rows, "o", color=blue, markersize=6, label="measured")
        known = np.isfinite(limits)
        if known.any():
            ends, at = np.concatenate([limits[known], -limits[known]]), np.tile(rows[known], 2)
            ax.plot(ends, at, "|", color=orange, markersize=12, markeredgewidth=2, label="bound")
        for row, value in zip(rows.tolist(), values.tolist(), strict=True):
            note(ax, value, row - 0.1, f"{value:#.2g}".replace("-", "−"))
        _name_rows(ax, [clean(name, 28) for name in names])
        decades = [10.0**-k for k in range(12) if 10.0**-k > 4 * floor]
        ticks = [*(-x for x in decades), 0.0, *decades[::-1]]
        ax.set_xticks(ticks, [f"{x:g}".replace("-", "−") for x in ticks])
        ax.minorticks_off()
        ax.set_xlim(min(-4 * floor, 2.0 * float(values.min())), 1.5)
        ax.set_xlabel("cosine (logarithmic outside the band)")
        legend(figure, ax)
        words = [
            f"{name}: {short(value, 2)}" + (f" (bound {short(limit, 2)})" if np.isfinite(limit) else "")
            for name, value, limit in zip(names, values.tolist(), limits.tolist(), strict=True)
        ]
        description = "; ".join(words) + f". Unrelated directions: within ±{short(2 * floor, 2)} in 95 % of cases."
        return to_svg(figure, "Cosines between displacements", description)


def _ratio_rows(of: _Ratios, description: str) -> str:
    rows = np.arange(len(of.names), dtype=np.float64)
    with new_figure(72 + 12.5 * len(of.names)) as figure:
        ax = figure.subplots()
        label = f"predicted {of.level:.0%} interval"
        ax.hlines(rows, of.low, of.high, color=style(0)[0], alpha=0.35, linewidth=5, label=label)
        ax.axvline(1, color=LIGHT["text"], linewidth=0.8)
        of.dots(ax, of.ratios, rows)
        _name_rows(ax, [clean(name, 30) for name in of.names])
        ax.set_xlabel("effective dimension / number of entries")
        legend(figure, ax)
        return to_svg(figure, "Effective-dimension ratio of each tensor", description)


def _ratio_strip(of: _Ratios, description: str) -> str:
    places = np.arange(len(of.names), dtype=np.float64)
    half = np.where(of.ratios < 1, 1 - of.low, of.high - 1)
    scaled = (of.ratios - 1) / half
    with new_figure(240) as figure:
        ax = figure.subplots()
        label = f"predicted {of.level:.0%} interval"
        ax.axhspan(-1, 1, color=style(0)[0], alpha=0.18, linewidth=0, label=label)
        ax.axhline(0, color=LIGHT["text"], linewidth=0.8)
        of.dots(ax, places, scaled)
        for index in np.flatnonzero(of.outside)[:10].tolist():
            note(ax, float(places[index]), float(scaled[index]), clean(of.names[index], 30))
        ax.set_yscale("symlog", linthresh=2)  # one stray must not flatten the others
        reach = max(2.0, 2 * float(np.abs(scaled).max()))
        ticks = [0.0, *(sign * 10.0**k for k in range(13) for sign in (-1, 1) if 10.0**k < reach)]
        ax.set_yticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
        ax.minorticks_off()
        ax.set_ylim(-reach if scaled.min() < -1 else -2, reach)
        ax.set_title("ratio − 1, in half-widths of each tensor's interval")
        ax.set_xlabel("tensor, in the model's order")
        legend(figure, ax)
        return to_svg(figure, "Effective-dimension ratio of each tensor", description)


def _name_rows(ax: Axes, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def _without_common_parts(names: Sequence[str]) -> list[str]:
    """Return dotted names without the parts that begin or end all that have them (``model.``, ``.weight``)."""
    parts = [name.split(".") for name in names]
    while len({tuple(p[:1]) for p in parts}) == 1 and all(len(p) > 1 for p in parts):
        parts = [p[1:] for p in parts]
    while len({tuple(p[-1:]) for p in parts}) == 1 and all(len(p) > 1 for p in parts):
        parts = [p[:-1] for p in parts]
    return [".".join(p) for p in parts]
