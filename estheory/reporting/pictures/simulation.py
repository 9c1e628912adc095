"""A simulation against theory: the trajectory, and the norms at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.laws import Law
from estheory.quantities import Prediction, Quantity
from estheory.reporting.pictures.picture import Picture
from estheory.reporting.text.simulation import SimulationReport
from estheory.theory.curved.dynamics import mean_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def simulation_picture(
    report: SimulationReport,
    *,
    curve: tuple[Array, Array],
    rewards: Sequence[Prediction],
    norms: Sequence[tuple[Prediction, Array]],
) -> Picture:
    """Draw the trajectory with the predicted mean and 95 % band, and the norms at the last step against their law.

    `curve`: mean and standard deviation over replicas of R - R* after 0..T steps, shapes (T + 1,).
    `norms`: displacement norms: the law of one run and the replicas' values, shape (replicas,), at each recorded step.
    """

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(2, 1)
        if report.landscape.trace > 0:
            _reward_axes(left, report, curve, rewards)
        else:
            _norm_axes(left, norms)
        if norms:
            _law_axes(right, *norms[-1])
        else:
            right.set_axis_off()

    return Picture(draw=draw, height=420)


def _reward_axes(
    axes: Axes, report: SimulationReport, curve: tuple[Array, Array], rewards: Sequence[Prediction]
) -> None:
    mean, spread = curve
    steps = np.arange(mean.size)
    axes.fill_between(steps, mean - 1.96 * spread, mean + 1.96 * spread, alpha=0.25, label="simulated, mean +-1.96 std")
    axes.plot(steps, mean, label="simulated mean")
    try:
        predicted = mean_field(report.config, report.landscape, report.config.steps).reward
        axes.plot(np.arange(predicted.size), predicted, "k--", label="predicted mean")
    except ConfigError:
        pass  # no mean-field result: the simulation stands alone
    if rewards:
        bands = np.array([p.law.interval(0.95) for p in rewards])
        axes.vlines([p.step or 0 for p in rewards], bands[:, 0], bands[:, 1], "k", label="predicted 95 % band")
    if float(np.max(mean)) < 0 and float(np.min(mean) / np.max(mean)) > 30:
        axes.set_yscale("symlog", linthresh=float(-np.max(mean)))
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("step")
    axes.set_ylabel("R - R* (reward)")
    axes.legend()


def _norm_axes(axes: Axes, norms: Sequence[tuple[Prediction, Array]]) -> None:
    steps = [prediction.step or 0 for prediction, _ in norms]
    low, high = zip(*(prediction.law.interval(0.95) for prediction, _ in norms), strict=True)
    axes.fill_between(steps, low, high, alpha=0.25, label="predicted 95 % band")
    axes.plot(steps, [prediction.law.mean for prediction, _ in norms], "k--", label="predicted mean")
    axes.plot(steps, [float(values.mean()) for _, values in norms], "o", label="simulated mean")
    axes.set_xlabel("step")
    axes.set_ylabel("||theta_T - theta_0|| (weight)")
    axes.legend()


def _density(law: Law, at: Array) -> Array:
    below = np.array([law.tails(float(x))[0] for x in at])
    return np.asarray(np.diff(below) / np.diff(at))


def _law_axes(axes: Axes, prediction: Prediction, values: Array) -> None:
    centre = prediction.law.mean
    axes.hist(values - centre, bins="auto", density=True, alpha=0.4, label="simulated")
    if prediction.law.std > 0:
        edges = np.linspace(centre - 4 * prediction.law.std, centre + 4 * prediction.law.std, 121)
        middle = 0.5 * (edges[1:] + edges[:-1]) - centre
        axes.plot(middle, _density(prediction.law, edges), "k--", label="predicted law")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"{Quantity.DISPLACEMENT_NORM} at step {prediction.step} minus {centre:.6g} (weight)")
    axes.set_ylabel("density")
    axes.legend()
