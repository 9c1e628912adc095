"""What a run foretold of itself as it went on, joined with what came."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from estheory.files import reading
from estheory.laws import CutNormalLaw, Law, NormalLaw, PointLaw
from estheory.measurement.run_log import run_log
from estheory.quantities import Prediction, Quantity
from estheory.runs.view import OwnRun
from estheory.theory.economy.ledger import ledger
from estheory.theory.economy.ledger_entry import Entry
from estheory.theory.economy.steered_run import BOTH
from estheory.validation.judge import Pair, paired
from estheory.validation.reward_probe_pairs import smoothed_peak

REWARDS = (Quantity.CENTRE_REWARD, Quantity.MEAN_MEMBER_REWARD)


def forecast_pairs(run: OwnRun) -> list[Pair]:
    """Return the predictions of forecasts.jsonl that later rows of the run measure.

    Members of step t + 1 are around theta_t, so that the reward after the run's last step is not among its rows: where
    the reward is accuracy, that on held-out prompts measures it, too.
    """
    if not run.forecasts:
        return []
    log = run_log(run)
    book = ledger(log.updates, log.rules)
    entries = {entry.step - 1: entry for entry in book.entries}
    with reading(run.path):
        return list(_pairs(run, entries))


def _pairs(run: OwnRun, entries: dict[int, Entry]) -> Iterator[Pair]:
    norms = {step.step: step.norm for step in run.steps}
    accuracy = run.evaluated(Quantity.ACCURACY) if run.es.reward == "accuracy" else {}
    for row in run.forecasts:
        apart = any(foretold["quantity"] == Quantity.ACCURACY for foretold in row["predictions"])
        for foretold in row["predictions"]:
            quantity, step = Quantity.named(foretold["quantity"]), foretold["step"]
            measured = []
            if quantity in REWARDS and step in entries:
                measured.append(("", entries[step].reward, entries[step].reward_stderr))
            of_held_out = quantity is (Quantity.ACCURACY if apart else Quantity.CENTRE_REWARD)
            if of_held_out and (found := accuracy.get((step, run.config.task))) is not None:
                measured.append((", held-out prompts", *found))
            if quantity is Quantity.DISPLACEMENT_NORM and (norm := norms.get(step)) is not None:
                measured.append(("", norm, 0.0))
            if quantity is Quantity.REWARD_PEAK_STEP and (peak := smoothed_peak(run)) is not None:
                measured.append(("", *peak))
            prediction = Prediction(
                quantity=quantity,
                law=_law(foretold),
                label=foretold["label"],
                source=str(foretold["source"]),
                assumptions=tuple(map(str, foretold["assumptions"])),
                step=step,
                systematic=float(foretold.get("systematic", 0.0)),
            )
            for on, value, stderr in measured:
                yield paired(
                    prediction,
                    value,
                    stderr=0.0 if math.isnan(stderr) else stderr,
                    where=f"{run.config.task}, foretold after step {row['step']}{on}{_kind(foretold)}",
                    source=run.path.name,
                )


def _kind(foretold: dict[str, Any]) -> str:
    return f", {BOTH}" if foretold.get("where") == BOTH else ""


def _law(foretold: dict[str, Any]) -> Law:
    mean, std = float(foretold["mean"]), float(foretold["std"])
    if foretold.get("cut") is not None:
        ends = {"low": -math.inf, "high": math.inf}  # null: no end
        return CutNormalLaw(**{name: ends[name] if v is None else float(v) for name, v in foretold["cut"].items()})
    return NormalLaw(mean, std) if std else PointLaw(mean)
