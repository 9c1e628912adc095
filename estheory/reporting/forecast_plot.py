"""A forecast drawn along the steps: ``estheory predict --plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from estheory.quantities import Quantity
from estheory.reporting.save_figure import save_figure
from estheory.theory.predictions import Forecast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = (Quantity.DISPLACEMENT_NORM, Quantity.REWARD, Quantity.KL_DRIFT, Quantity.OFF_TASK_REWARD_CHANGE)


def plot_forecast(forecast: Forecast, path: Path, level: float) -> None:
    """Draw mean and interval of the norm, and of reward, KL and off-task change where predicted, against the step."""
    series = {q: [p for p in forecast.predictions if p.quantity is q] for q in DRAWN}
    series = {q: found for q, found in series.items() if found}

    def draw(figure: Figure) -> None:
        axes = figure.subplots(len(series), 1, squeeze=False)[:, 0]
        for ax, (quantity, found) in zip(axes, series.items(), strict=True):
            steps = [p.step or 0 for p in found]
            intervals = [p.law.interval(level) for p in found]
            low = [a - p.systematic * abs(p.law.mean) for (a, _), p in zip(intervals, found, strict=True)]
            high = [b + p.systematic * abs(p.law.mean) for (_, b), p in zip(intervals, found, strict=True)]
            ax.fill_between(steps, low, high, alpha=0.3, label=f"{level:.0%} interval and declared band")
            ax.plot(steps, [p.law.mean for p in found], "o-", markersize=3, label="mean")
            ax.set_ylabel(f"{quantity}\n({quantity.unit})", fontsize=8)
        axes[0].legend(fontsize=8)
        axes[-1].set_xlabel("step")

    save_figure(path, draw, size=(7.0, 2.4 * len(series)))
