"""Figures of behaviour: KL over tasks and runs, scores along directions. Needs matplotlib (the ``plots`` extra)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.reporting.page.figures import Series, Values, columns, entry, legend, style
from estheory.reporting.page.svg import clean, new_figure, to_svg
from estheory.reporting.page.theme import LIGHT
from estheory.reporting.text.tables import short


def kl_matrix(tasks: Sequence[str], runs: Sequence[str], values: Sequence[Values]) -> str:
    """Draw KL from the base as a table whose cells are darker the larger they are, on a logarithmic scale.

    `values`: nats per token, one row per task; NaN where nothing was measured.
    """
    return matrix(tasks, runs, values, None, title="KL(base || tuned), nats per token", logarithmic=True)


def matrix(
    rows: Sequence[str],
    heads: Sequence[str],
    values: Sequence[Values] | Array,
    spread: Sequence[Values] | Array | None,
    *,
    title: str,
    x_label: str = "",
    logarithmic: bool = False,
    digits: int = 2,
) -> str:
    """Draw a table whose cells are darker the larger their values are.

    `values`: one row per name; NaN where nothing was measured.
    `spread`: what is written after ± under each value; None for nothing.
    `title`, `x_label`: what the values are, and what the columns are.
    `logarithmic`: whether shades follow the logarithm of positive values; otherwise their magnitude.
    `digits`: significant digits of a logarithmic table, else decimals.
    """
    table = np.array([np.asarray(row, dtype=np.float64) for row in values])
    if table.shape != (len(rows), len(heads)) or not table.size:
        raise ConfigError(f"a figure was given {table.shape} values", "give one value per task and run")
    around = np.full(table.shape, np.nan) if spread is None else np.array([np.asarray(row) for row in spread])
    shades = _shades(table, logarithmic)
    extra = (14 if x_label else 0) + 12 * max(head.count("\n") for head in heads)

    def written(value: float) -> str:
        if not np.isfinite(value):
            return "–"
        return (short(value, digits) if logarithmic else f"{value:.{digits}f}").replace("-", "−")

    with new_figure(60 + extra + (24 if spread is None else 34) * len(rows)) as figure:
        from matplotlib.patches import Rectangle

        ax = figure.subplots()
        for (i, j), value in np.ndenumerate(table):
            box = Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, color=style(0)[0], alpha=0.04 + 0.4 * float(shades[i, j]))
            ax.add_patch(box)
            both = np.isfinite(around[i, j])
            text = written(float(value)) + (f"\n±{around[i, j]:.{digits}f}" if both else "")
            ax.text(j, i, text, ha="center", va="center", fontsize=9 if len(heads) <= 5 else 8)
        ax.set_xlim(-0.5, len(heads) - 0.5)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        longest = max(6, 46 // len(heads))
        labels = ["\n".join(clean(line, longest) for line in head.split("\n")) for head in heads]
        ax.set_xticks(range(len(heads)), labels)
        ax.set_yticks(range(len(rows)), [clean(row, 14) for row in rows])
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.set_title(title)
        ax.set_xlabel(x_label)
        words = [
            f"{row}, {head.replace(chr(10), ', ')}: {short(float(table[i, j]), 3)}"
            for i, row in enumerate(rows)
            for j, head in enumerate(heads)
        ]
        return to_svg(figure, title[0].upper() + title[1:], "; ".join(words) + ".")


def _shades(values: Array, logarithmic: bool) -> Array:
    """Return shades from 0 to 1; 0 where a value is unknown."""
    if not logarithmic:
        sizes = np.abs(np.where(np.isfinite(values), values, 0.0))
        return np.asarray(sizes / max(1.0, float(sizes.max())))
    known = np.isfinite(values) & (values > 0)
    shades = np.zeros(values.shape)
    if known.any() and (spread := np.ptp(np.log(values[known]))) > 0:
        shades[known] = (np.log(values[known]) - np.log(values[known]).min()) / spread
    return shades


def direction_lines(series: Sequence[Series], *, score: str = "accuracy") -> str:
    """Draw a score at distances from the base along directions, with standard errors: a line a direction.

    What was predicted of a direction is dotted in its colour; where it leaves the measured range it is cut off.

    `series`: a direction each, over distances from the base (weight).
    """
    words = []
    reach = _close_up(series)
    with new_figure(250 if reach is None else 390) as figure:
        panels = figure.subplots(1 if reach is None else 2, 1, sharex=True, squeeze=False)[:, 0]
        for index, one in enumerate(series):
            radii, values, errors = columns(one.steps, one.values, one.stderrs)
            colour, line = style(index)
            for ax in panels:
                ax.errorbar(
                    *(radii, values, errors),
                    fmt=line,
                    marker="osD^"[index % 4],
                    markersize=4,
                    capsize=2,
                    color=colour,
                    label=entry(one.label),
                )
            best = int(np.argmax(values))
            words.append(
                f"{one.label}: {short(float(values[0]), 3)} at distance {short(float(radii[0]), 3)}, at most "
                f"{short(float(values[best]), 3)} at {short(float(radii[best]), 3)}, "
                f"{short(float(values[-1]), 3)} at {short(float(radii[-1]), 3)}"
            )
        limits = panels[0].get_ylim()
        curves = [(index, one) for index, one in enumerate(series) if one.predicted is not None]
        for index, one in curves:
            radii, expected = columns(one.steps, one.predicted.mean if one.predicted else ())
            fine = np.linspace(radii[0], radii[-1], 101)
            parabola = np.polyval(np.polyfit(radii, expected, 2), fine)
            for ax in panels:
                ax.plot(fine, parabola, ":", color=style(index)[0], linewidth=2.2)
            words[index] += f", predicted there {short(float(expected[-1]), 3)}"
        if curves:
            panels[0].plot([], [], ":", color=LIGHT["text"], linewidth=2.2, label="predicted: quadratic from the base")
            panels[0].set_ylim(limits)
        panels[0].set_title(f"{score} ± standard error")
        if reach is not None:
            panels[1].set_ylim(reach)
            panels[1].set_title("the same, close up")
        panels[-1].set_xlabel("distance from the base (weight units)")
        legend(figure, panels[0])
        return to_svg(figure, f"{score[0].upper()}{score[1:]} along directions from the base", "; ".join(words) + ".")


def _close_up(series: Sequence[Series]) -> tuple[float, float] | None:
    """Return the range of all series but the widest, where that one would flatten them; else None."""
    if len(series) < 2:
        return None
    spans = [(float(np.min(one.values)), float(np.max(one.values)), one) for one in series]
    widest = max(spans, key=lambda span: span[1] - span[0])
    others = [span for span in spans if span is not widest]
    low, high = min(span[0] for span in others), max(span[1] for span in spans)
    if widest[1] - widest[0] < 4 * (high - low):
        return None
    margin = 0.15 * (high - low)
    return low - margin, high + margin
