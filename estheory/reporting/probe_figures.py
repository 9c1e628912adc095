"""Figures of behaviour: KL over tasks and runs, scores along directions. Needs matplotlib (the ``plots`` extra)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from estheory.errors import ConfigError
from estheory.reporting.figures import Series, Values, columns, entry, legend, style
from estheory.reporting.svg import clean, new_figure, to_svg
from estheory.reporting.text import short
from estheory.reporting.theme import LIGHT


def kl_matrix(tasks: Sequence[str], runs: Sequence[str], values: Sequence[Values]) -> str:
    """Draw KL from the base as a table whose cells are darker the larger they are, on a logarithmic scale.

    Parameters
    ----------
    tasks, runs
        Names of rows and columns.
    values
        Nats per token, one row a task; NaN where nothing was measured.
    """
    matrix = np.array([np.asarray(row, dtype=np.float64) for row in values])
    if matrix.shape != (len(tasks), len(runs)) or not matrix.size:
        raise ConfigError(f"a figure was given {matrix.shape} values", "give one value a task and run")
    known = matrix[np.isfinite(matrix) & (matrix > 0)]
    low, high = (np.log(known.min()), np.log(known.max())) if known.size else (0.0, 0.0)
    with new_figure(60 + 24 * len(tasks)) as figure:
        from matplotlib.patches import Rectangle

        ax = figure.subplots()
        for (i, j), value in np.ndenumerate(matrix):
            share = (np.log(value) - low) / (high - low) if value > 0 and high > low else 0.0
            box = Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, color=style(0)[0], alpha=0.04 + 0.4 * float(share))
            ax.add_patch(box)
            ax.text(j, i, short(float(value), 2) if np.isfinite(value) else "–", ha="center", va="center", fontsize=8)
        ax.set_xlim(-0.5, len(runs) - 0.5)
        ax.set_ylim(len(tasks) - 0.5, -0.5)
        longest = max(6, 46 // len(runs))
        ax.set_xticks(range(len(runs)), [clean(run, longest) for run in runs])
        ax.set_yticks(range(len(tasks)), [clean(task, 14) for task in tasks])
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        ax.set_title("KL(base || tuned), nats per token")
        words = [
            f"{task}, {run}: {short(float(matrix[i, j]), 3)}"
            for i, task in enumerate(tasks)
            for j, run in enumerate(runs)
        ]
        return to_svg(figure, "KL from the base, tasks by runs", "; ".join(words) + ".")


def direction_lines(series: Sequence[Series], *, score: str = "accuracy") -> str:
    """Draw a score at distances from the base along directions, with standard errors: a line a direction.

    What was predicted of a direction is dotted in its colour; where it leaves the measured range it is cut off.
    """
    words = []
    with new_figure(250) as figure:
        ax = figure.subplots()
        for index, one in enumerate(series):
            radii, values, errors = columns(one.steps, one.values, one.stderrs)
            colour, line = style(index)
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
        limits = ax.get_ylim()
        curves = [(index, one) for index, one in enumerate(series) if one.predicted is not None]
        for index, one in curves:
            radii, expected = columns(one.steps, one.predicted.mean if one.predicted else ())
            fine = np.linspace(radii[0], radii[-1], 101)
            parabola = np.polyval(np.polyfit(radii, expected, 2), fine)
            ax.plot(fine, parabola, ":", color=style(index)[0], linewidth=2.2)
            words[index] += f", predicted there {short(float(expected[-1]), 3)}"
        if curves:
            ax.plot([], [], ":", color=LIGHT["text"], linewidth=2.2, label="predicted: quadratic from the base")
            ax.set_ylim(limits)
        ax.set_title(f"{score} ± standard error")
        ax.set_xlabel("distance from the base (weight units)")
        legend(figure, ax)
        return to_svg(figure, f"{score[0].upper()}{score[1:]} along directions from the base", "; ".join(words) + ".")
