"""A simulation judged: its table, its JSON and its figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estheory.landscape import Landscape
from estheory.quantities import Verdict
from estheory.reporting.text.tables import Sheet, short
from estheory.reporting.text.verdicts import validation_json, verdicts_sheet
from estheory.rules import ESConfig


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
