"""A run's ledger and forecast as a table, as sentences, as JSON and as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from estheory.reporting.text.forecast import prediction_json
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.theory.economy.forecast import Outlook, Pace, windows
from estheory.theory.economy.intervals import LEVEL
from estheory.theory.economy.ledger import Ledger, Sum
from estheory.theory.economy.ledger_entry import Entry
from estheory.theory.economy.steered_run import SteeredRun

STATES = {
    "earning": "the reward rises",
    "floor": "the rate may be 0 and is at most a fraction of the best this run had",
    "sliding": "the reward falls",
    "undecided": "the rate is not known well enough",
}
"""What each state says of the reward's rate, per step."""


def outlook_json(outlook: Outlook) -> dict[str, Any]:
    """Return the whole document of ``estheory forecast --json``."""
    book = outlook.ledger
    earned, paid, risen, implied = book.total("earned"), book.total("paid"), book.risen(), book.implied()
    net = book.total("net", book.between_ends())
    return {
        "schema": "estheory/forecast/1",
        "at": outlook.at,
        "ledger": [entry_json(entry) for entry in book.entries],
        "totals": {
            "earned": earned.value,
            "earned_stderr": earned.stderr,
            "paid": paid.value,
            "paid_stderr": paid.stderr,
            "reward_change": risen.value,
            "reward_change_stderr": risen.stderr,
            "net_between_ends": net.value,
            "net_between_ends_stderr": net.stderr,
            "implied_earned": implied.value,
            "implied_earned_stderr": implied.stderr,
            "bound": book.bound,
        },
        "rate": None
        if outlook.rate is None
        else {
            "value": outlook.rate.found.value,
            "stderr": outlook.rate.found.stderr,
            "interval": [outlook.rate.found.low, outlook.rate.found.high],
            "level": LEVEL,
            "from": "ledger" if outlook.rate.from_ledger else "rewards",
        },
        "pace": {"earned": outlook.pace.earned, "paid": outlook.pace.paid, "floor_in": outlook.pace.floor_in},
        "predictions": [prediction_json(p, LEVEL) for p in outlook.predictions],
        "state": outlook.state,
        "limits": list(outlook.limits),
        "stop": {"advice": outlook.stop.advice, "because": outlook.stop.because},
        "coherent": None if outlook.steered is None else coherent_json(outlook.steered),
    }


def coherent_json(steered: SteeredRun) -> dict[str, Any]:
    """Return the coherent part after the last update as a JSON object, in weight units; of a bound all of it."""
    step = steered.steps
    square, along = steered.square(step), steered.along_first(step)
    length = math.sqrt(square.value)
    return {
        "displacement": length,
        "displacement_stderr": square.stderr / (2 * length) if length else None,
        "along_first_gradient": along.value,
        "along_first_gradient_stderr": along.stderr,
        "norm": steered.norm(step),
        "bound": steered.part.bound,
    }


def _coherent(steered: SteeredRun) -> str:
    """Return the coherent part after the last update in one sentence."""
    step = steered.steps
    square, along, norm = steered.square(step), steered.along_first(step), steered.norm(step)
    if norm == 0.0:
        return "Nothing has moved."
    most = "at most " if steered.part.bound else ""
    error = Sum(value=along.value / norm, stderr=along.stderr / norm)
    return (
        f"Along their gradients the updates add up to {most}{short(math.sqrt(square.value), 3)} of a norm of "
        f"{short(norm, 4)}; cosine with the gradient at the start {most}{_with_error(error)}."
    )


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return what one update earned and paid as a JSON object."""
    return {
        "step": entry.step,
        "earned": entry.earned,
        "earned_stderr": entry.earned_stderr,
        "paid": entry.paid,
        "paid_stderr": entry.paid_stderr,
        "reliability": entry.reliability,
        "odd_share": entry.odd_share,
        "even_share": entry.even_share,
        "reward": entry.reward,
        "bound": entry.bound,
    }


def outlook_sheet(outlook: Outlook) -> Sheet:
    """Return the ledger by windows, its totals against the measured change, and what comes next."""
    book = outlook.ledger
    parts: list[Table | str] = [
        f"State at step {outlook.at}: {outlook.state}, {STATES[outlook.state]}; {pace_text(outlook.pace)}.",
    ]
    parts += [f"limit: {limit}" for limit in outlook.limits]
    if outlook.predictions:
        ahead = Table("quantity", ">step", ">mean", f">{LEVEL:.0%} interval", title="what comes next")
        for p in outlook.predictions:
            low, high = p.law.interval(LEVEL)
            place = p.where if "|" in p.where else str(p.step or "")
            kind = f", {p.where}" if p.where and "|" not in p.where else ""
            ahead.add_row(f"{p.quantity}{kind}", place, short(p.law.mean, 4), f"{short(low, 4)} .. {short(high, 4)}")
        parts.append(ahead)
    if outlook.steered is not None:
        parts.append(_coherent(outlook.steered))
    advice = "stop" if outlook.stop.advice else "go on"
    parts.append(f"{advice}: {outlook.stop.because}.")
    if outlook.state == "floor" and outlook.rate and not outlook.stop.advice:
        most = short(outlook.rate.found.high, 2)
        parts.append(f"At its floor, a step brings at most {most}: stop where that is not worth its cost.")
    return ledger_sheet(book) + Sheet(*parts)


def ledger_sheet(book: Ledger) -> Sheet:
    """Return a ledger by windows, and its totals against the measured change."""
    centre = "centre" if book.centred else "members' mean"
    table = Table("steps", ">earned", ">paid", ">reliability", ">odd", ">even", f">{centre}", title="ledger")
    for window in windows(book):
        part = Ledger(entries=window, centred=book.centred)
        mean = {
            name: _known_mean([getattr(entry, name) for entry in window])
            for name in ("reliability", "odd_share", "even_share", "reward")
        }
        bound = "<= " if part.bound else ""
        table.add_row(
            f"{window[0].step}-{window[-1].step}",
            bound + _with_error(part.total("earned")),
            _with_error(part.total("paid")),
            *(short(value, 2) for value in (mean["reliability"], mean["odd_share"], mean["even_share"])),
            short(mean["reward"], 4),
        )
    earned, paid, risen, implied = book.total("earned"), book.total("paid"), book.risen(), book.implied()
    net = book.total("net", book.between_ends())
    at_most = "at most " if book.bound else ""
    cost = "an unknown cost" if math.isnan(paid.value) else f"{_with_error(paid)} paid"
    words = [
        f"Over {len(book.entries)} updates: earned {at_most}{_with_error(earned)}, {cost}. "
        f"Between the ends of the log: net {at_most}{_with_error(net)}, measured {_with_error(risen)}."
    ]
    if book.bound and not math.isnan(implied.value):
        words.append(f"What was measured and paid together say that it earned {_with_error(implied)} between them.")
    return Sheet(table, *words)


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def pace_text(pace: Pace) -> str:
    """Return what an update earns and pays in one phrase."""
    parts = []
    if not math.isnan(pace.earned):
        parts.append(f"earning {'at most ' if pace.bound else ''}{short(pace.earned, 2)} per step")
    parts.append("paying an unknown cost" if math.isnan(pace.paid) else f"paying {short(pace.paid, 2)}")
    ahead = {None: "", 0: "; at its floor"}.get(
        pace.floor_in, f"; floor in about {pace.floor_in} step{'s' * (pace.floor_in != 1)}"
    )
    return ", ".join(parts) + ahead


def _with_error(found: Sum) -> str:
    if math.isnan(found.value):
        return "-"
    return short(found.value, 3) if math.isnan(found.stderr) else f"{short(found.value, 3)} +- {short(found.stderr, 1)}"
