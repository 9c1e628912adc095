"""Figures along steps, tasks and lines, each one function from plain arrays to an inline SVG string.

Needs matplotlib (the ``plots`` extra). Series differ in colour and in line style or hatch; every figure says in words,
for a screen reader, what it draws. Figures with a row a name are in :mod:`estheory.reporting.page.row_figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.line_scores import Interpolation
from estheory.reporting.page.svg import WIDTH, clean, new_figure, to_svg
from estheory.reporting.page.theme import LIGHT, SERIES
from estheory.reporting.text.tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Sequence[float] | NDArray[np.floating[Any]] | NDArray[np.integer[Any]]

LINES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "\\\\\\\\", "xxxx")
FEW_POINTS = 12
"""Paths of at most this many points are marked at each."""
MOST_LABELLED_BARS = 12
"""More bars than this do not get their values written above them."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One run over its steps, or one condition (before, after ES, ...) over tasks.

    Attributes
    ----------
    label
        What the legend calls it.
    values : array, shape (n,)
        The values.
    steps : array, shape (n,)
        The steps they belong to; empty over tasks.
    stderrs : array, shape (n,)
        Standard errors of the values; empty when there are none.
    predicted
        What theory says of the values, None where it says nothing.
    """

    label: str
    values: Values
    steps: Values = ()
    stderrs: Values = ()
    predicted: Band | None = None


@dataclass(frozen=True, kw_only=True)
class Band:
    """A prediction at each point of a series.

    Attributes
    ----------
    low, mean, high
        Mean and interval, of shape (n,) each, in the unit of the series.
    """

    low: Values
    mean: Values
    high: Values


def norm_path(runs: Sequence[Series], *, level: float = 0.95) -> str:
    """Draw displacement norms over steps and, below, how far each lies from its prediction.

    `runs`: norms (weight units) over steps, with the predicted band where there is one.
    """
    panels = 2 if any(run.predicted for run in runs) else 1
    words = []
    with new_figure(200 if panels == 1 else 300) as figure:
        axes = figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[3, 2][:panels])[:, 0]
        for index, run in enumerate(runs):
            steps, norms = columns(run.steps, run.values)
            colour, line = style(index)
            marker = "o" if len(steps) <= FEW_POINTS else ""
            axes[0].plot(steps, norms, line, marker=marker, markersize=4, color=colour, label=entry(run.label))
            words.append(f"{run.label}: {_last(norms)} at step {_last(steps)}")
            if run.predicted is None:
                continue
            band = run.predicted
            steps, norms, low, mean, high = columns(steps, norms, band.low, band.mean, band.high)
            words[-1] += f", predicted {_last(mean)} ({_last(low)} to {_last(high)})"
            mean = np.where(mean > 0, mean, np.nan)  # step 0: nothing moved
            off = [100 * (values / mean - 1) for values in (low, norms, high)]
            if marker:
                axes[1].vlines(steps, off[0], off[2], color=LIGHT["muted"], alpha=0.3, linewidth=6)
            else:
                axes[1].fill_between(steps, off[0], off[2], color=LIGHT["muted"], alpha=0.15, linewidth=0)
            axes[1].plot(steps, off[1], line, marker=marker, markersize=4, color=colour)
        axes[0].set_title("displacement norm (weight units)")
        axes[0].set_ylim(bottom=0)
        if panels == 2:
            axes[1].axhline(0, color=LIGHT["text"], linewidth=0.8)
            axes[1].set_title(f"distance from the prediction, % (shaded: {level:.0%} interval)")
        axes[-1].set_xlabel("step")
        axes[-1].locator_params(axis="x", integer=True)
        legend(figure, axes[0])
        return to_svg(figure, "Displacement norm over steps", "; ".join(words) + ".")


def reward_path(runs: Sequence[Series]) -> str:
    """Draw the mean reward of each run over its steps."""
    words = []
    with new_figure(220) as figure:
        ax = figure.subplots()
        for index, run in enumerate(runs):
            steps, rewards = columns(run.steps, run.values)
            colour, line = style(index)
            ax.plot(steps, rewards, line, color=colour, label=entry(run.label), linewidth=1.3)
            words.append(f"{run.label}: {short(float(rewards[0]), 3)} at first, {_last(rewards)} at last")
        ax.set_title("mean reward of the step's samples")
        ax.set_xlabel("step")
        ax.locator_params(axis="x", integer=True)
        legend(figure, ax)
        return to_svg(figure, "Mean reward over steps", "; ".join(words) + ".")


def interpolation(
    line: Interpolation,
    *,
    start: str = "ES",
    end: str = "GRPO",
    score: str = "accuracy",
    predicted_rises: Values | None = None,
) -> str:
    """Draw a score on the straight line from ``start`` (u = 0) to ``end`` (u = 1) against the chord.

    With predicted rises over the chord, one per point, a panel below shows them beside the measured ones.
    """
    u, accuracy, stderr, chord = columns(line.fractions, line.means, line.stderrs, line.chord)
    count = 1 if predicted_rises is None else 2
    with new_figure(100 + 120 * count) as figure:
        panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        ax = panels[0]
        ax.plot(u, chord, "--", color=style(1)[0], label="chord between the ends")
        label = f"{score} ± standard error"
        ax.errorbar(u, accuracy, stderr, fmt="-o", color=style(0)[0], markersize=4, capsize=2, label=label)
        ax.set_title(score)
        best = int(np.argmax(accuracy - chord))
        description = (
            f"{start}: {short(float(accuracy[0]), 3)}; {end}: {_last(accuracy)}; largest rise over the chord: "
            f"{short(float(accuracy[best] - chord[best]), 2)} at u = {short(float(u[best]), 2)}; "
            f"lowest point: {short(float(accuracy.min()), 3)}."
        )
        if predicted_rises is not None:
            values, errors, predicted = columns(line.rises, line.rise_stderrs, predicted_rises)
            panels[1].axhline(0, color=LIGHT["text"], linewidth=0.8)
            panels[1].errorbar(u, values, errors, fmt="o", color=style(0)[0], markersize=4, capsize=2)
            panels[1].plot(u, predicted, ":", color=style(2)[0], linewidth=2)
            ax.plot([], [], ":", color=style(2)[0], linewidth=2, label="predicted by the slopes at the ends")
            panels[1].set_title("over the chord ± paired standard error")
            description += (
                f" Half-way over the chord: predicted {short(float(predicted.max()), 3)}, "
                f"measured {short(float(values[values.size // 2]), 3)}."
            )
        panels[-1].set_xlabel(f"u, from {clean(start)} (0) to {clean(end)} (1)")
        legend(figure, ax)
        return to_svg(figure, f"{score[0].upper()}{score[1:]} between {start} and {end}", description)


def accuracy_bars(tasks: Sequence[str], series: Sequence[Series]) -> str:
    """Draw accuracies with their standard errors: a group of bars a task, a bar a series.

    `series`: ``before``, ``after ES``, ...: a value a task, NaN where nothing was measured.
    """
    places, width = np.arange(len(tasks), dtype=np.float64), 0.8 / max(len(series), 1)
    words: list[str] = []
    with new_figure(220) as figure:
        ax = figure.subplots()
        for index, one in enumerate(series):
            stderrs = one.stderrs if len(one.stderrs) else np.zeros(len(tasks))
            x, values, errors = columns(places + width * (index - (len(series) - 1) / 2), one.values, stderrs)
            colour, hatch = style(index)[0], HATCHES[index % len(HATCHES)]
            ax.bar(x, values, 0.9 * width, color=colour, alpha=0.3)
            ax.bar(x, values, 0.9 * width, color="none", edgecolor=colour, hatch=hatch, label=entry(one.label))
            if errors.any():
                ax.errorbar(x, values, errors, fmt="none", color=LIGHT["text"], linewidth=1, capsize=2)
            if len(tasks) * len(series) <= MOST_LABELLED_BARS:
                for place, value, error in zip(x, values, errors, strict=True):
                    note(ax, float(place), float(value + error), f"{value:.2f}")
            words.extend(f"{task}, {one.label}: {short(float(v), 3)}" for task, v in zip(tasks, values, strict=True))
        ax.set_title("accuracy")
        ax.set_xticks(places, [clean(task, 16) for task in tasks])
        ax.grid(visible=False, axis="x")
        ax.margins(y=0.12)
        ax.set_ylim(bottom=0)
        legend(figure, ax)
        return to_svg(figure, "Accuracy per task", "; ".join(words) + ".")


def columns(*values: Values) -> tuple[Array, ...]:
    """Return columns of a figure as float arrays."""
    arrays = tuple(np.asarray(column, dtype=np.float64).reshape(-1) for column in values)
    sizes = [array.size for array in arrays]
    if len(set(sizes)) > 1 or 0 in sizes:
        raise ConfigError(f"a figure was given columns of {sizes} entries", "give one value per point, and a point")
    return arrays


def style(index: int) -> tuple[str, str]:
    """Return how a series is drawn.

    `index`: its number, from 0; the first 16 look different.
    """
    return LIGHT[f"series-{index % SERIES + 1}"], LINES[(index + index // SERIES) % len(LINES)]


def entry(label: str) -> str:
    """Return a label as the legend's entry; matplotlib would leave out one that is empty or begins with ``_``."""
    return ("" if label and label[0] != "_" else "\N{ZERO WIDTH SPACE}") + clean(label)


def legend(figure: Figure, ax: Axes) -> None:
    """Put the legend of ``ax`` above the figure's axes, in as many columns as fit."""
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        raise ConfigError("a figure was given nothing to draw", "give at least one series")
    sizes = np.array([len(label) for label in labels])
    for ncols in range(len(labels), 0, -1):  # 38 units for a handle and its gaps, 5.2 a character
        if sum(38 + 5.2 * column.max() for column in np.array_split(sizes, ncols)) <= WIDTH:
            break
    figure.legend(handles, labels, loc="outside upper left", ncols=ncols, handlelength=2.4, columnspacing=1.2)


def note(ax: Axes, x: float, y: float, text: str) -> None:
    """Write ``text`` just above the point (x, y)."""
    at: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
    ax.annotate(text, (x, y), (0, 2), fontsize=8, **at)


def _last(values: Array) -> str:
    return short(float(values[-1]), 4)
