"""A simulation judged: its table, its JSON and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.laws import Law
from estheory.quantities import Prediction, Quantity, Verdict
from estheory.reporting.save_figure import save_figure
from estheory.reporting.text.tables import Sheet, short
from estheory.reporting.text.verdicts import validation_json, verdicts_sheet
from estheory.rules import ESConfig
from estheory.theory.curved.dynamics import mean_field

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulationReport:
    """What is reported of a simulation.

    Attributes
    ----------
    config, landscape, reward, engine, replicas, seed, seconds
        What was simulated, and the time it took; ``landscape`` is what theory was told of the ``reward``.
    verdicts, plain
        The verdicts, and those of the same pairs without their systematic bands.
    level
        Family-wise level.
    warnings
        Theory's.
    device
        Torch device of the direct engine; None for numpy.
    """

    config: ESConfig
    landscape: Landscape
    reward: str
    engine: str
    replicas: int
    seed: int
    seconds: float
    verdicts: tuple[Verdict, ...]
    plain: tuple[Verdict, ...]
    level: float
    warnings: tuple[str, ...]
    device: str | None = None


def simulation_json(report: SimulationReport) -> dict[str, Any]:
    """Return the JSON document: a validation, and what was simulated."""
    config = report.config
    about = {
        "dim": config.dim,
        "sigma": config.sigma,
        "alpha": config.step_size,
        "population": config.population,
        "steps": config.steps,
        "shaping": config.shaping,
        "reward": report.reward,
        "told": _told(report),
        "engine": report.engine,
        "device": report.device,
        "replicas": report.replicas,
        "seed": report.seed,
    }
    document = validation_json(report.verdicts, report.plain, report.level)
    return {**document, "simulation": about, "warnings": list(report.warnings)}


def _told(report: SimulationReport) -> dict[str, float]:
    """Return what theory was told of the reward at the start."""
    where = report.landscape
    return {"gradient_norm": where.gradient_norm, "trace": where.trace, "reward_std": where.reward_std}


def simulation_sheet(report: SimulationReport, *, every: bool) -> Sheet:
    """Return what was simulated, then its verdicts: a summary by quantity, and every row where asked for."""
    device = f" on torch ({report.device})" if report.device else ""
    words = [
        f"{report.replicas} runs of {report.config.steps} steps in {report.config.dim:,} dimensions by the "
        f"{report.engine} engine{device}, seed {report.seed}, {report.seconds:.1f} s.",
    ]
    if report.reward != "quadratic":
        told = ", ".join(f"{name} {short(value, 3)}" for name, value in _told(report).items())
        words.append(f"Of the {report.reward} reward theory was told its expansion at the start: {told}.")
    band = "the declared O(1/N) error of mean-field results"
    if report.config.dtype != "float32":
        band = "three standard errors of the emulator of rounding, which all runs share"
    verdicts = verdicts_sheet(report.verdicts, report.plain, report.level, every=every, shown_by="--all", band=band)
    return verdicts + Sheet(*words, *(f"warning: {warning}" for warning in report.warnings))


def plot_simulation(
    report: SimulationReport,
    path: Path,
    *,
    curve: tuple[Array, Array],
    rewards: Sequence[Prediction],
    norms: Sequence[tuple[Prediction, Array]],
) -> None:
    """Draw the trajectory with the predicted mean and 95 % band, and the norms at the last step against their law.

    Parameters
    ----------
    curve
        Mean and standard deviation over replicas of R - R* after 0..T steps, shapes (T + 1,).
    norms
        Displacement norms: the law of one run and the replicas' values, shape (replicas,), at each recorded step.
    """

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        if report.landscape.trace > 0:
            _reward_axes(left, report, curve, rewards)
        else:
            _norm_axes(left, norms)
        if norms:
            _law_axes(right, *norms[-1])
        else:
            right.set_axis_off()

    save_figure(path, draw, size=(9.0, 3.6))


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
    if float(np.max(mean)) < 0:
        axes.set_yscale("symlog", linthresh=float(-np.max(mean)))
    axes.set_xlabel("step")
    axes.set_ylabel("R - R* (reward)")
    axes.legend(fontsize=8)


def _norm_axes(axes: Axes, norms: Sequence[tuple[Prediction, Array]]) -> None:
    steps = [prediction.step or 0 for prediction, _ in norms]
    low, high = zip(*(prediction.law.interval(0.95) for prediction, _ in norms), strict=True)
    axes.fill_between(steps, low, high, alpha=0.25, label="predicted 95 % band")
    axes.plot(steps, [prediction.law.mean for prediction, _ in norms], "k--", label="predicted mean")
    axes.plot(steps, [float(values.mean()) for _, values in norms], "o", label="simulated mean")
    axes.set_xlabel("step")
    axes.set_ylabel("||theta_T - theta_0|| (weight)")
    axes.legend(fontsize=8)


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
    axes.set_xlabel(f"{Quantity.DISPLACEMENT_NORM} at step {prediction.step} minus {centre:.6g} (weight)", fontsize=8)
    axes.set_ylabel("density")
    axes.legend(fontsize=8)
