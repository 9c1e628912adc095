"""Where a run stands, what limits it, what its next steps bring, and whether to stop (docs/concepts/economy.md).

Everything is read from the rows up to one step, and written down before later rows are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.quantities import Prediction
from estheory.shown import Shown
from estheory.theory.economy.later_steps import HeldOutReward, drift_predictions, reward_predictions
from estheory.theory.economy.ledger import Ledger, ledger
from estheory.theory.economy.ledger_entry import Entry, LedgerRules, LoggedUpdate
from estheory.theory.economy.peak import peak_prediction
from estheory.theory.economy.rate import FEWEST, Rate, best_rate, current_rate, recent_mean, recent_weights
from estheory.theory.economy.steered_run import SteeredRun, TaskDrift, steered_run

OURS = ours("economy")
State = Literal["earning", "floor", "sliding", "undecided"]
_FARTHEST = 10.0
"""Lengths of the run so far, beyond which no floor is foretold."""
_FLOOR = 0.25
"""A run is at its floor where its rate is known to within this share of the best it had, and may be none."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What an update earns and pays now, reward units, and how long the run will go on so.

    Attributes
    ----------
    earned, paid
        By recent updates; NaN where not known.
    floor_in
        Updates until the rate, falling as it has fallen over the second half of the rows, is a quarter of the best it
        had; 0 where it is there; None where it does not fall or is not known.
    bound
        ``upper`` where ``earned`` is only an upper bound.
    """

    earned: float
    paid: float
    floor_in: int | None
    bound: Literal["upper"] | None


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Whether to stop.

    Attributes
    ----------
    advice
        Whether the upper end of the net rate's interval is below what is worth it.
    because
        The reason, in one sentence.
    """

    advice: bool
    because: str


@dataclass(frozen=True, kw_only=True)
class Outlook(Shown):
    """A forecast.

    Attributes
    ----------
    at
        The last update that was read.
    ledger
        What was earned and paid up to there.
    rate
        The rate there; None where there are too few rows.
    pace
        What an update earns and pays there.
    state
        Where the run stands.
    limits
        What holds it back, one phrase each.
    predictions
        Of later steps.
    stop
        Whether to stop.
    steered
        Its walk and coherent part; None where the log does not tell them.
    """

    at: int
    ledger: Ledger
    rate: Rate | None
    pace: Pace
    state: State
    limits: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    stop: Stop
    steered: SteeredRun | None = None


def outlook(
    updates: Sequence[LoggedUpdate],
    rules: LedgerRules,
    *,
    at: int | None = None,
    until: int | None = None,
    worth: float = 0.0,
    floor: float | None = None,
    ceiling: float | None = None,
    dim: int | None = None,
    drift: Mapping[str, TaskDrift] | None = None,
    held_out: HeldOutReward | None = None,
) -> Outlook:
    """Forecast a run from its rows up to a step.

    Parameters
    ----------
    updates
        In order of steps.
    rules
        Of the run.
    at
        Last step to read; the last one logged where left out.
    until
        Last step to predict; half as many steps again where left out.
    worth
        Net gain per update below which it is better to stop, reward units.
    floor, ceiling
        Least and largest reward there can be: no interval of a reward leaves them; None where not known.
    dim, drift
        Number of parameters and what probes say of KL, for the coherent part: as of
        :func:`estheory.theory.economy.steered_run.steered_run`.
    held_out
        The last evaluation on held-out prompts up to ``at``, from which their reward is foretold; None where there is
        none.

    Returns
    -------
    Outlook

    Raises
    ------
    ConfigError
        If ``at`` is before the first row, ``until`` not after ``at``, or ``worth`` no number.
    DataError
        As of :func:`estheory.theory.economy.ledger.ledger`.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md.
    """
    if math.isnan(worth):
        raise ConfigError("what an update must be worth is no number", "give a number, as 0.001")
    read = [update for update in updates if at is None or update.step <= at]
    if not read:
        raise ConfigError(f"no update is logged up to step {at}", "give a later --at")
    now = read[-1].step
    last = now + max(1, now // 2) if until is None else until
    if last <= now:
        raise ConfigError(f"--until {last} is not after step {now}", "give a later step")
    book = ledger(read, rules)
    rate = current_rate(book)
    state = _state(book, rate)
    steps = sorted({now + max(1, round((last - now) * share)) for share in (0.25, 0.5, 1.0)})
    ends = (-math.inf if floor is None else floor, math.inf if ceiling is None else ceiling)
    predictions = [
        *reward_predictions(book, rate, rules, steps, ends, held_out),
        *drift_predictions(book, rate, rules, read, steps),
    ]
    steered = steered_run(book, rules, dim, drift)
    if steered is not None:
        predictions += [p for step in steps for p in steered.predictions(step)]
    peak = peak_prediction(book)
    if peak is not None:
        predictions.append(peak)
    return Outlook(
        at=now,
        ledger=book,
        rate=rate,
        pace=_pace(book, rate, state),
        state=state,
        limits=tuple(_limits(book)),
        predictions=tuple(predictions),
        stop=_stop(rate, worth),
        steered=steered,
    )


def _pace(book: Ledger, rate: Rate | None, state: State) -> Pace:
    weights = recent_weights(len(book.entries))
    earned, paid = (book.total(name, weights).value for name in ("earned", "paid"))
    return Pace(earned=earned, paid=paid, floor_in=_floor_in(book, rate, state), bound=book.bound)


def _floor_in(book: Ledger, rate: Rate | None, state: State) -> int | None:
    half = Ledger(entries=book.entries[: (len(book.entries) + 1) // 2], centred=book.centred)
    before = current_rate(half)
    if state in ("floor", "sliding"):
        return 0
    if rate is None or before is None:
        return None
    now, floor = rate.found.value, _FLOOR * best_rate(book)
    if before.found.value <= now or now <= 0:
        return None
    falls_by_e_in = (book.steps - half.steps) / math.log(before.found.value / now)
    left = falls_by_e_in * math.log(now / floor) if floor > 0 else math.inf
    return max(0, math.ceil(left)) if left <= _FARTHEST * book.steps else None


def _state(book: Ledger, rate: Rate | None) -> State:
    if rate is None:
        return "undecided"
    found = rate.found
    if found.low > 0:
        return "earning"
    if found.high < 0:
        return "sliding"
    return "floor" if found.high - found.low < 2 * _FLOOR * best_rate(book) else "undecided"


def _stop(rate: Rate | None, worth: float) -> Stop:
    if rate is None:
        return Stop(advice=False, because=f"fewer than {FEWEST} updates are logged")
    found = rate.found
    what = "the net rate" if rate.from_ledger else "the slope of the logged rewards"
    value = f"{what} is {found.value:.2g} per update ({found.low:.2g} to {found.high:.2g})"
    if found.high < worth:
        return Stop(advice=True, because=f"{value}: below {worth:g} even at its upper end")
    return Stop(advice=False, because=f"{value}: its upper end is not below {worth:g}")


def _limits(book: Ledger) -> Iterator[str]:
    """Yield what holds the run back, by the recent rows."""

    def recent(name: str) -> float:
        return recent_mean(book, [getattr(entry, name) for entry in book.entries])

    tied = recent("tied")
    if tied > 0.1:
        yield f"ties: {tied:.0%} of recent updates had equal rewards and moved nothing; a finer reward or larger sigma"
    reliability, odd, even = recent("reliability"), recent("odd_share"), recent("even_share")
    if reliability < 0.5:
        yield f"reliability: {max(reliability, 0.0):.2f} of the members' variance is effect; more prompts"
    if even > odd:
        yield f"even part: {even:.2f} of the members' variance has no sign, {max(odd, 0.0):.2f} has; a smaller sigma"
    earned, paid = recent("earned"), recent("paid")
    if paid > 0.5 * earned and paid > 0:
        yield "cost: the random part takes more than half of what is earned; a larger population or smaller alpha"
    if book.bound:
        yield "unknown: what is earned is an upper bound here; log rewards by prompt of mirrored members"
    if math.isnan(paid):
        yield "unknown: what is paid; log the centre's rewards"


def windows(book: Ledger, count: int = 8) -> list[tuple[Entry, ...]]:
    """Return the entries in at most ``count`` windows of about equal length.

    Parameters
    ----------
    book
        The ledger.
    count
        Most windows.

    Returns
    -------
    list of tuple of Entry
        In order; none is empty.

    Notes
    -----
    No label: a declared choice.
    """
    parts = np.array_split(np.arange(len(book.entries)), min(count, len(book.entries)))
    return [tuple(book.entries[k] for k in part) for part in parts]
