"""Where a run stands, what limits it, what its next steps bring, and whether to stop (docs/concepts/economy.md).

Everything is read from the rows up to one step, and written down before later rows are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.laws import Law, NormalLaw, PointLaw
from estheory.quantities import Label, Prediction, Quantity
from estheory.shown import Shown
from estheory.theory.economy.intervals import Interval, normal_interval
from estheory.theory.economy.ledger import Ledger, ledger
from estheory.theory.economy.ledger_entry import Entry, LedgerRules, LoggedUpdate

OURS = "ours: docs/concepts/economy.md"
State = Literal["earning", "floor", "sliding", "undecided"]
FEWEST = 4
"""Rows from which a rate is estimated."""
_FLOOR = 0.25
"""A run is at its floor where its rate is known to within this share of the best it had, and may be none."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Change of the reward per update, now.

    Attributes
    ----------
    found
        The rate with its interval, reward per update.
    from_ledger
        Whether it is earned less paid; else the slope of the logged rewards.
    """

    found: Interval
    from_ledger: bool


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
    """

    at: int
    ledger: Ledger
    rate: Rate | None
    pace: Pace
    state: State
    limits: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    stop: Stop


def outlook(
    updates: Sequence[LoggedUpdate],
    rules: LedgerRules,
    *,
    at: int | None = None,
    until: int | None = None,
    worth: float = 0.0,
    ceiling: float | None = None,
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
    ceiling
        Largest reward there can be; None where not known.

    Returns
    -------
    Outlook

    Raises
    ------
    ConfigError
        If ``at`` is before the first row, or ``until`` not after ``at``.
    DataError
        As of :func:`estheory.theory.economy.ledger.ledger`.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md.
    """
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
    predictions = [*_rewards(book, rate, steps, ceiling), *_drift(read, steps)]
    return Outlook(
        at=now,
        ledger=book,
        rate=rate,
        pace=_pace(book, rate, state),
        state=state,
        limits=tuple(_limits(book)),
        predictions=tuple(predictions),
        stop=_stop(rate, worth),
    )


def recent_weights(count: int) -> Array:
    """Return weights of the rows of a log that fall with age: by a factor e over an eighth of the run, 5 rows or more.

    Parameters
    ----------
    count
        Number of rows.

    Returns
    -------
    ndarray
        Shape (count,). They sum to 1.

    Notes
    -----
    No label: a declared choice.
    """
    age = np.arange(count)[::-1]
    weights = np.exp(-age / max(5.0, count / 8))
    return np.asarray(weights / weights.sum())


def current_rate(book: Ledger) -> Rate | None:
    """Return the rate of the reward at the end of a ledger.

    Parameters
    ----------
    book
        Of the rows read.

    Returns
    -------
    Rate or None
        By the ledger where it is no bound and its cost is known; else the slope of the logged rewards; None for fewer
        than ``FEWEST`` rows.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md.
    """
    count = len(book.entries)
    if count < FEWEST:
        return None
    weights = recent_weights(count)
    if book.bound is None and not any(math.isnan(entry.paid) for entry in book.entries):
        total = book.total("net", weights)
        freedom = 1 / float(weights @ weights)
        return Rate(found=normal_interval(total.value, total.stderr, freedom), from_ledger=True)
    rewards = np.array([entry.reward for entry in book.entries])
    time = np.array([entry.step for entry in book.entries], dtype=np.float64)
    used = slice(-max(FEWEST, min(count, 2 * round(max(5.0, count / 8)))), None)
    x, y = time[used] - time[used].mean(), rewards[used] - rewards[used].mean()
    slope = float(x @ y) / float(x @ x)
    residual = y - slope * x
    freedom = len(x) - 2
    stderr = math.sqrt(float(residual @ residual) / freedom / float(x @ x))
    found = normal_interval(slope, stderr, freedom)
    if book.bound is None:  # its cost alone is not known: the net rate is at most what is earned
        earned = book.total("earned", weights)
        most = normal_interval(earned.value, earned.stderr, 1 / float(weights @ weights))
        found = Interval(
            value=min(found.value, most.value),
            stderr=found.stderr,
            low=min(found.low, most.low),
            high=min(found.high, most.high),
        )
    return Rate(found=found, from_ledger=False)


def _best_rate(book: Ledger) -> float:
    """Return the largest mean change per update over a tenth of the run, reward units."""
    rewards = np.array([entry.reward for entry in book.entries])
    width = max(2, len(rewards) // 10)
    blocks = [block.mean() for block in np.array_split(rewards, max(2, len(rewards) // width))]
    return float(np.max(np.abs(np.diff(blocks)))) / width


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
    now, floor = rate.found.value, _FLOOR * _best_rate(book)
    if before.found.value <= now or now <= 0:
        return None
    falls_by_e_in = (book.steps - half.steps) / math.log(before.found.value / now)
    return max(0, math.ceil(falls_by_e_in * math.log(now / floor))) if floor > 0 else None


def _state(book: Ledger, rate: Rate | None) -> State:
    if rate is None:
        return "undecided"
    found = rate.found
    if found.low > 0:
        return "earning"
    if found.high < 0:
        return "sliding"
    return "floor" if found.high - found.low < 2 * _FLOOR * _best_rate(book) else "undecided"


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
    weights = recent_weights(len(book.entries))

    def recent(name: str) -> float:
        values = np.array([getattr(entry, name) for entry in book.entries])
        known = ~np.isnan(values)
        return float(weights[known] @ values[known] / weights[known].sum()) if known.any() else math.nan

    tied = float(weights @ [entry.tied for entry in book.entries])
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


def _law(mean: float, std: float) -> Law:
    return NormalLaw(mean, std) if std > 0 else PointLaw(mean)


def _rewards(book: Ledger, rate: Rate | None, steps: Sequence[int], ceiling: float | None) -> Iterator[Prediction]:
    """Predict the reward: the rate goes on for about as long as the run has gone on, or ends sooner or later."""
    if rate is None:
        return
    now, age = book.steps, max(1, book.steps - book.entries[0].step + 1)
    level, level_error = _level(book, rate)
    quantity = Quantity.CENTRE_REWARD if book.centred else Quantity.MEAN_MEMBER_REWARD
    label: Label = "mean-field"
    for step in steps:
        ahead = step - now
        slowed = age * -math.expm1(-ahead / age)
        change = rate.found.value * slowed
        errors = (
            level_error,
            rate.found.stderr * slowed,
            abs(rate.found.value) * ahead * -math.expm1(-ahead / age) / 2,
        )
        spread = math.sqrt(sum(error**2 for error in errors))
        if ceiling is not None and change > 0:
            room = max(ceiling - level, 1e-9)
            change = room * -math.expm1(-change / room)
            spread = min(spread, max(room, level_error))
        yield Prediction(
            quantity=quantity,
            law=_law(level + change, spread),
            label=label,
            source=OURS,
            assumptions=(
                f"from rows up to step {now}",
                "the rate falls over as many steps as the run has made; systematic: that it ends at once or goes on",
            ),
            step=step,
        )


def _level(book: Ledger, rate: Rate) -> tuple[float, float]:
    """Return the reward after the last update, and its standard error."""
    weights = recent_weights(len(book.entries))
    steps = np.array([entry.step for entry in book.entries], dtype=np.float64)
    rewards = np.array([entry.reward for entry in book.entries])
    carried = rewards + rate.found.value * (book.steps + 1 - steps)
    level = float(weights @ carried)
    residual = carried - level
    error = math.sqrt(float(weights**2 @ residual**2)) if len(rewards) > 1 else 0.0
    return level, error


def _drift(updates: Sequence[LoggedUpdate], steps: Sequence[int]) -> Iterator[Prediction]:
    """Predict norm, cosine and KL: the square of the norm grows by what recent updates added."""
    logged = [(update.step, update.norm) for update in updates if update.norm is not None and update.norm > 0]
    if len(logged) < FEWEST:
        return
    time = np.array([step for step, _ in logged], dtype=np.float64)
    squares = np.array([norm**2 for _, norm in logged])
    growth = np.diff(squares) / np.diff(time)
    recent = growth[-max(FEWEST - 1, len(growth) // 2) :]
    mean, scatter = float(recent.mean()), float(recent.std(ddof=1))
    kl = updates[-1].kl
    for step in steps:
        ahead = step - time[-1]
        square = squares[-1] + mean * ahead
        if square <= 0:
            return
        error = scatter * math.sqrt(ahead + ahead**2 / recent.size)
        norm = math.sqrt(square)
        grown = ("the squared norm grows as in recent updates",)
        yield Prediction(
            quantity=Quantity.DISPLACEMENT_NORM,
            law=_law(norm, error / (2 * norm)),
            label="large-N",
            source=OURS,
            assumptions=grown,
            step=step,
        )
        cosine = math.sqrt(squares[-1] / square)
        yield Prediction(
            quantity=Quantity.CHECKPOINT_COSINE,
            law=_law(min(cosine, 1.0), cosine * error / (2 * square)),
            label="large-N",
            source=OURS,
            assumptions=(*grown, "later updates orthogonal to what was there"),
            step=step,
            where=f"{int(time[-1])}|{step}",
        )
        if kl is not None:
            factor = square / squares[-1]
            yield Prediction(
                quantity=Quantity.KL_DRIFT,
                law=_law(kl * factor, abs(kl) * (error / squares[-1] + 0.5 * (factor - 1))),
                label="small-step",
                source=OURS,
                assumptions=(*grown, "KL grows as the squared norm, give or take half of its growth"),
                step=step,
            )


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
