"""A pilot as a table, as sentences, as JSON and as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from estheory.quantities import Prediction
from estheory.reporting.text.forecast import prediction_json
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.theory.economy.intervals import LEVEL
from estheory.theory.economy.pilot import Pilot
from estheory.theory.economy.scale import Estimated

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
