"""Where a run stands, what limits it, what its next steps bring, and whether to stop (docs/concepts/economy.md).

Everything is read from the rows up to one step, and written down before later rows are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.laws import CutNormalLaw, Law, NormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.shown import Shown
from estheory.theory.economy.intervals import Interval, normal_interval
from estheory.theory.economy.ledger import Ledger, ledger
from estheory.theory.economy.ledger_entry import Entry, LedgerRules, LoggedUpdate
from estheory.theory.economy.peak import peak_prediction
from estheory.theory.economy.steered_run import SteeredRun, TaskDrift, steered_run

OURS = ours("economy")
State = Literal["earning", "floor", "sliding", "undecided"]
FEWEST = 4
"""Rows from which a rate is estimated."""
_FARTHEST = 10.0
"""Lengths of the run so far, beyond which no floor is foretold."""
_FLOOR = 0.25
"""A run is at its floor where its rate is known to within this share of the best it had, and may be none."""


@dataclass(frozen=True, kw_only=True)
class HeldOutReward:
    """An evaluation of the centre on prompts that no update sees.

    Attributes
    ----------
    step
        Number of updates by then.
    value, stderr
        Its mean reward and standard error over these prompts, reward units.
    """

    step: int
    value: float
    stderr: float


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
    predictions = [*_rewards(book, rate, rules, steps, ends, held_out), *_drift(book, rate, rules, read, steps)]
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


def _recent(book: Ledger, values: Sequence[float]) -> float:
    """Return the mean of what is known over the entries, with the weights of recent rows; NaN where nothing is."""
    weights, array = recent_weights(len(book.entries)), np.array(values)
    known = ~np.isnan(array)
    return float(weights[known] @ array[known] / weights[known].sum()) if known.any() else math.nan


def _limits(book: Ledger) -> Iterator[str]:
    """Yield what holds the run back, by the recent rows."""

    def recent(name: str) -> float:
        return _recent(book, [getattr(entry, name) for entry in book.entries])

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


def _law(mean: float, std: float) -> Law:
    return NormalLaw(mean, std) if std > 0 else PointLaw(mean)


def _cut(location: float, scale: float, low: float, high: float) -> Law:
    bounded = math.isfinite(low) or math.isfinite(high)
    return CutNormalLaw(location, scale, low, high) if bounded and scale > 0 else _law(location, scale)


def _slowed(book: Ledger, ahead: int) -> float:
    """Return the updates ahead, each counted with what is left of the rate by then.

    The rate falls by e over as many updates as are logged.
    """
    age = max(1, book.steps - book.entries[0].step + 1)
    return age * -math.expm1(-ahead / age)


def _wandering(book: Ledger, rules: LedgerRules) -> float:
    """Return the variance of the reward's change by the random part of one update, reward^2.

    A random update of variance q per coordinate moves the reward by q ||g||^2, where ||g||^2 is the members' odd
    variance over sigma^2; without mirrored members, at most all of their true variance. 0 where prompts are not told
    apart.
    """
    odd = [
        e.walk / rules.sigma**2 * e.member_variance * (e.reliability if math.isnan(e.odd_share) else e.odd_share)
        for e in book.entries
    ]
    found = _recent(book, odd)
    return 0.0 if math.isnan(found) else max(found, 0.0)


def _rewards(
    book: Ledger,
    rate: Rate | None,
    rules: LedgerRules,
    steps: Sequence[int],
    ends: tuple[float, float],
    held_out: HeldOutReward | None,
) -> Iterator[Prediction]:
    """Predict the reward: the rate goes on for about as long as the run has gone on, or ends sooner or later."""
    if rate is None:
        return
    falls = "the rate falls over as many steps as the run has made; systematic: that it ends at once or goes on"
    quantity = Quantity.CENTRE_REWARD if book.centred else Quantity.MEAN_MEMBER_REWARD
    levels: list[tuple[Quantity, tuple[float, float], tuple[str, ...]]] = [(quantity, _level(book, rate), (falls,))]
    if held_out is not None and rate.from_ledger:
        since = [float(entry.step > held_out.step) for entry in book.entries]
        gained = book.total("net", np.array(since))
        level = held_out.value + gained.value, math.hypot(held_out.stderr, gained.stderr)
        same = f"held-out prompts, from their accuracy at step {held_out.step}"
        levels.append((Quantity.ACCURACY, level, (falls, same)))
    for quantity, level, assumptions in levels:
        for step, law in zip(steps, _laws(book, rate, rules, steps, ends, level), strict=True):
            yield Prediction(
                quantity=quantity,
                law=law,
                label="mean-field",
                source=OURS,
                assumptions=(f"from rows up to step {book.steps}", *assumptions),
                step=step,
            )


def _laws(
    book: Ledger,
    rate: Rate,
    rules: LedgerRules,
    steps: Sequence[int],
    ends: tuple[float, float],
    now: tuple[float, float],
) -> Iterator[Law]:
    """Yield the law of a reward at each step; ``now`` is what it is and its standard error."""
    low, high = ends
    level, level_error = min(max(now[0], low), high), now[1]
    wandering, weights = _wandering(book, rules), recent_weights(len(book.entries))
    random_rate = wandering * float(weights @ weights)  # the rate holds what recent updates brought by chance
    for step in steps:
        ahead = step - book.steps
        slowed = _slowed(book, ahead)
        change = rate.found.value * slowed
        room = high - level if change > 0 else level - low
        left = 1.0  # of a small change, near the end of what there can be
        if math.isfinite(room):
            left = math.exp(-abs(change) / room) if room > 0 else 0.0
            change = math.copysign(room * (1 - left), change)
        by_rate = (rate.found.stderr**2 + random_rate) * (slowed * left) ** 2
        spread = math.sqrt(level_error**2 + by_rate + (change / 2) ** 2 + wandering * ahead)
        yield _cut(level + change, spread, low, high)


def _level(book: Ledger, rate: Rate) -> tuple[float, float]:
    """Return the reward after the last update, and its standard error."""
    weights = recent_weights(len(book.entries))
    steps = np.array([entry.step for entry in book.entries], dtype=np.float64)
    rewards = np.array([entry.reward for entry in book.entries])
    carried = rewards + rate.found.value * (book.steps + 1 - steps)
    level = float(weights @ carried)
    residual = carried - level
    error = math.sqrt(float(weights**2 @ residual**2) / (1 - float(weights @ weights)))
    return level, error


def _drift(
    book: Ledger, rate: Rate | None, rules: LedgerRules, updates: Sequence[LoggedUpdate], steps: Sequence[int]
) -> Iterator[Prediction]:
    """Predict norm, cosine and KL: the squared norm grows with the walk of the updates as it did of late."""
    walks = np.cumsum([entry.walk for entry in book.entries])
    logged = [
        (update.step, update.norm**2, walk)
        for update, walk in zip(updates, walks, strict=True)
        if update.norm is not None and update.norm > 0
    ]
    if len(logged) < FEWEST:
        return
    way = _Way(
        book=book, slowing=_slowing(book, rate, rules), time=logged[-1][0], rows=np.array(logged, dtype=np.float64)
    )
    kl = updates[-1].kl
    for step in steps:
        square, error = way.ahead(step)
        if square <= 0:
            return
        norm = math.sqrt(square)
        grown = ("the squared norm grows with the walk of the updates as it did of late",)
        yield Prediction(
            quantity=Quantity.DISPLACEMENT_NORM,
            law=_law(norm, error / (2 * norm)),
            label="large-N",
            source=OURS,
            assumptions=grown,
            step=step,
        )
        cosine = math.sqrt(way.square / square)
        yield Prediction(
            quantity=Quantity.CHECKPOINT_COSINE,
            law=_law(min(cosine, 1.0), cosine * error / (2 * square)),
            label="large-N",
            source=OURS,
            assumptions=(*grown, "later updates orthogonal to what was there"),
            step=step,
            where=f"{way.time}|{step}",
        )
        if kl is not None:
            factor = square / way.square
            yield Prediction(
                quantity=Quantity.KL_DRIFT,
                law=_law(kl * factor, abs(kl) * (error / way.square + 0.5 * (factor - 1))),
                label="small-step",
                source=OURS,
                assumptions=(*grown, "KL grows as the squared norm, give or take half of its growth"),
                step=step,
            )


def _slowing(book: Ledger, rate: Rate | None, rules: LedgerRules) -> float:
    """Return by how much the walk of an update will shrink as the run learns, a share of what it is.

    The squared length of a mirrored update is as 1 + odd share - even share of the members' variance. Where the reward
    rises its odd part goes, and the even one is then of what is left.
    """
    odd, even = (
        _recent(book, [getattr(entry, name) for entry in book.entries]) for name in ("odd_share", "even_share")
    )
    if not rules.mirrored or math.isnan(odd) or rate is None or rate.found.low <= 0:
        return 0.0
    odd, even = min(max(odd, 0.0), 0.99), max(even, 0.0)
    return 1 - max(1 - even / (1 - odd), 0.0) / max(1 + odd - even, 0.01)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """The squared norm on its way: ``rows`` holds step, squared norm and the sum of the walks by then."""

    book: Ledger
    slowing: float
    time: int
    rows: Array

    @property
    def square(self) -> float:
        return float(self.rows[-1, 1])

    def ahead(self, step: int) -> tuple[float, float]:
        """Return the squared norm at a later step and its standard deviation, weight^2.

        Its spread is that of a walk around what is there, with the error of the growth so far, or that by which the
        growth scatters in the log if this is larger (norms of few digits).
        """
        recent = self.rows[-max(FEWEST, len(self.rows) // 2 + 1) :]
        steps, squares, walks = (np.diff(column) for column in recent.T)
        past, count = float(walks.sum()), step - self.time
        walk, walk_error = self._walk(count)
        if past == 0.0:  # nothing moved of late
            return self.square, 0.0
        growth = float(squares.sum()) / past
        middle = float(recent[:, 1].mean())

        def spread(of: float, around: float) -> float:
            return 4 * around * of + 2 * abs(growth) * of**2

        own = spread(walk, self.square) + (walk / past) ** 2 * spread(past, middle)
        scatter = float(np.var((squares - growth * walks) / steps, ddof=1)) * (count + count**2 / len(steps))
        return self.square + growth * walk, math.sqrt(max(own, scatter) + (growth * walk_error) ** 2)

    def _walk(self, count: int) -> tuple[float, float]:
        """Return the variance of one coordinate of the next updates together and its standard error, weight^2."""
        walks = np.array([entry.walk for entry in self.book.entries])
        weights = recent_weights(len(walks))
        now, scatter = float(weights @ walks), float(walks.std(ddof=1))
        slowed = _slowed(self.book, count)
        mean = now * (count - self.slowing * (count - slowed))
        systematic = now * self.slowing * max(slowed, count - slowed) / 2
        return mean, math.hypot(scatter * math.sqrt(count + count**2 * float(weights @ weights)), systematic)


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
