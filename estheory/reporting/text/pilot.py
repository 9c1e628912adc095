"""A pilot as a table, as sentences, as JSON and as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estheory.quantities import Prediction
from estheory.reporting.save_figure import save_figure
from estheory.reporting.text.forecast import prediction_json
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.theory.economy.intervals import LEVEL
from estheory.theory.economy.pilot import Estimated, Pilot, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNITS = {"weight": "w", "reward": "R", "reward^2": "R^2", "1": ""}


def estimated_json(found: Estimated) -> dict[str, Any]:
    """Return what pilots' estimates and predictions have in common as a JSON object."""
    return {
        "quantity": str(found.quantity),
        "sigma": found.sigma,
        "stderr": found.stderr,
        "interval": [found.low, found.high],
        "level": LEVEL,
        "bound": found.bound,
    }


def pilot_json(pilot: Pilot, moved: Sequence[Prediction], hours: float | None) -> dict[str, Any]:
    """Return the whole document of ``estheory pilot --json``."""
    scale = pilot.scale
    members = scale.members
    predictions = [
        {
            **estimated_json(found),
            "step": 1,
            "unit": found.quantity.unit,
            "mean": found.value,
            "std": found.stderr,
            "systematic": 0.0,
            "label": found.label,
            "source": found.source,
            "assumptions": list(found.assumptions),
        }
        for each in pilot.scales
        for found in each.predictions()
    ]
    document: dict[str, Any] = {
        "schema": "estheory/pilot/1",
        "design": {
            "members": members.members,
            "prompts": members.prompts,
            "mirrored": members.mirrored,
            "centre": members.gap is not None,
            "prompts_fixed": members.fixed,
            "sigmas": [each.members.sigma for each in pilot.scales],
        },
        "config": {
            "sigma": scale.config.sigma,
            "alpha": scale.config.step_size,
            "population": scale.config.population,
            "prompts": scale.prompts,
            "shaping": scale.config.shaping,
            "antithetic": scale.config.antithetic,
        },
        "estimates": [
            {**estimated_json(found), "value": found.value, "unit": found.quantity.unit}
            for each in pilot.scales
            for found in each.estimates()
        ],
        "predictions": predictions + [prediction_json(p, LEVEL) for p in moved],
        "verdict": pilot.verdict,
        "because": pilot.because,
        "next": [{"what": step.what, "evaluations": step.evaluations} for step in pilot.next],
        "warnings": list(pilot.warnings),
    }
    if (best := pilot.recommendation) is not None:
        document["recommendation"] = {
            "sigma": best.sigma,
            "alpha": best.alpha,
            "population": best.population,
            "prompts": best.prompts,
            "net_gain_per_step": best.net,
            "bound": best.bound,
        }
    if hours is not None:
        document["hours"] = hours
    return document


def pilot_sheet(pilot: Pilot, moved: Sequence[Prediction], hours: float | None) -> Sheet:
    """Return the tables, the verdict with its reason, and what would settle it."""
    members = pilot.scale.members
    kind = f"{members.members // 2} mirrored pairs" if members.mirrored else f"{members.members} members"
    table = Table(
        "quantity", ">sigma", ">value", f">{LEVEL:.0%} interval", "unit", title=f"{kind} on {members.prompts} prompts"
    )
    for scale in pilot.scales:
        for found in (*scale.estimates(), *scale.predictions()):
            unit = _UNITS.get(found.quantity.unit, found.quantity.unit)
            table.add_row(str(found.quantity), short(found.sigma), *_shown(found), unit)
    parts: list[Any] = [table, f"{pilot.verdict}: {pilot.because}."]
    if (best := pilot.recommendation) is not None:
        at_most = "at most " if best.bound else ""
        parts.append(
            f"Best step: sigma {short(best.sigma)}, alpha {short(best.alpha, 2)}, N {best.population}, "
            f"B {best.prompts} gain {at_most}{short(best.net, 2)} net per update."
        )
    parts += [f"{p.quantity} after {p.step} steps: {short(p.law.mean, 4)} {p.quantity.unit}" for p in moved]
    if hours is not None:
        parts.append(f"The planned run takes {short(hours, 3)} hours.")
    parts += [f"next: {step.what} ({step.evaluations} evaluations)" for step in pilot.next]
    parts += [f"warning: {warning}" for warning in pilot.warnings]
    return Sheet(*parts)


def _shown(found: Estimated) -> tuple[str, str]:
    """Return value and interval as people read them: a variance or a share below 0 is shown as 0."""
    positive = str(found.quantity) in ("reward_reliability", "odd_variance", "even_variance")
    value, low, high = (max(x, 0.0) if positive else x for x in (found.value, found.low, found.high))
    ends = " .. ".join("no limit" if math.isinf(end) else short(end, 3) for end in (low, high))
    return ("<= " if found.bound else "") + short(value, 3), ends


def plot_pilot(pilot: Pilot, path: Path) -> None:
    """Draw the net gain of an update against alpha, for several N, with its interval."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        scale = pilot.scale
        for colour, factor in enumerate((1, 4, 16)):
            population = scale.config.population * factor
            _band(axes, scale, population, f"C{colour}")
        axes.axhline(0.0, color="0.5", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel("alpha (weight)")
        bound = ", upper bound" if scale.bound else ""
        axes.set_ylabel(("net gain" if scale.members.gap else "gain") + f" of one update (reward{bound})")
        axes.legend(frameon=False)

    save_figure(path, draw, size=(6.5, 4.2))


def _band(axes: Any, scale: Scale, population: int, colour: str) -> None:
    """Draw the curve of one N with its interval, up to twice its best alpha or ten times the planned one."""
    alpha = scale.config.step_size
    wide = scale.with_update(alpha, population, scale.prompts)
    best = wide.best(wide.centre)[0] if wide.members.gap else math.inf
    top = min(10 * alpha, 2 * best) if best > 0.2 * alpha else 2 * alpha
    alphas = np.geomspace(alpha / 10, max(top, alpha), 40)
    found = [scale.with_update(float(a), population, scale.prompts).net_interval for a in alphas]
    axes.plot(alphas, [f.value for f in found], color=colour, label=f"N = {population}")
    axes.fill_between(alphas, [f.low for f in found], [f.high for f in found], color=colour, alpha=0.15, linewidth=0)
