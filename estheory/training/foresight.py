"""What a run foretells of itself as it goes on, and whether it had better stop."""

from __future__ import annotations

import math
from dataclasses import asdict

from estheory.laws import CutNormalLaw
from estheory.measurement.run_log import run_log
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row, RunDirectory
from estheory.runs.view import OwnRun
from estheory.theory.economy.forecast import Outlook, outlook


class Foresight:
    """The forecasts of an ES run, each written once, after its step and before the next one.

    `config`, `directory`: the run; its steps and rewards are read from the folder.
    """

    def __init__(self, config: ESRunConfig, directory: RunDirectory) -> None:
        self._config, self._directory = config, directory

    def stops(self, step: int) -> str:
        """Write the forecast that is due after a step, if it is not there yet.

        Result: why the run ends with it; empty if it goes on.
        """
        config = self._config
        if not config.forecast_every or step % config.forecast_every or step == config.steps:
            return ""
        rows = [row for row in self._directory.rows("forecasts") if row["step"] == step]
        if not rows:
            rows = [forecast_row(self._directory.record())]
            self._directory.append("forecasts", rows[0])
        high = (rows[0].get("rate") or {}).get("high", math.inf)
        if high < config.stop_net:
            return f"{rows[0]['stop']['because']}"
        return ""


def forecast_row(run: OwnRun, at: int | None = None) -> Row:
    """Return the row of forecasts.jsonl from a run's rows up to a step, of all where it is left out."""
    log = run_log(run, at=at)
    worth = run.es.stop_net if math.isfinite(run.es.stop_net) else 0.0
    return _row(
        outlook(
            log.updates,
            log.rules,
            until=run.es.steps,
            worth=worth,
            floor=log.floor,
            ceiling=log.ceiling,
            held_out=log.held_out,
            dim=log.dim,
            drift=log.drift,
        )
    )


def _row(found: Outlook) -> Row:
    """Return a row of forecasts.jsonl; what is not known is null."""
    pace, rate = found.pace, found.rate
    return {
        "step": found.at,
        "state": found.state,
        "pace": {
            "earned": _known(pace.earned),
            "paid": _known(pace.paid),
            "floor_in": pace.floor_in,
            "bound": pace.bound,
        },
        "rate": None
        if rate is None
        else {name: _known(getattr(rate.found, name)) for name in ("value", "stderr", "low", "high")},
        "limits": list(found.limits),
        "stop": {"advice": found.stop.advice, "because": found.stop.because},
        "predictions": [
            {
                "quantity": str(p.quantity),
                "step": p.step,
                "mean": p.law.mean,
                "std": p.law.std,
                "label": p.label,
                "source": p.source,
                "assumptions": list(p.assumptions),
                "where": p.where,
                "systematic": p.systematic,
                "cut": {name: _known(value) for name, value in asdict(p.law).items()}
                if isinstance(p.law, CutNormalLaw)
                else None,
            }
            for p in found.predictions
        ],
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
