"""What a run's next steps bring: laws of its reward, norm, cosine and KL (docs/concepts/economy.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.laws import CutNormalLaw, Law, NormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.theory.economy.ledger import Ledger
from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
from estheory.theory.economy.rate import FEWEST, Rate, recent_mean, recent_weights

OURS = ours("economy")


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
    found = recent_mean(book, odd)
    return 0.0 if math.isnan(found) else max(found, 0.0)


def reward_predictions(
    book: Ledger,
    rate: Rate | None,
    rules: LedgerRules,
    steps: Sequence[int],
    ends: tuple[float, float],
    held_out: HeldOutReward | None,
) -> Iterator[Prediction]:
    """Predict the reward: the rate goes on for about as long as the run has gone on, or ends sooner or later.

    Parameters
    ----------
    book, rules
        Of the rows read, and of the run.
    rate
        That of the reward after the last row; None where it is not known.
    steps
        At which to predict, after the last row.
    ends
        Least and largest reward there can be, infinite where not known.
    held_out
        The last evaluation on held-out prompts; None where there is none.

    Yields
    ------
    Prediction
        Of the centre's reward, or of the members' where the centre is not logged; with ``held_out`` of the accuracy,
        too. None where there is no rate.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md.
    """
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


def drift_predictions(
    book: Ledger, rate: Rate | None, rules: LedgerRules, updates: Sequence[LoggedUpdate], steps: Sequence[int]
) -> Iterator[Prediction]:
    """Predict norm, cosine and KL: the squared norm grows with the walk of the updates as it did of late.

    Parameters
    ----------
    book, rules
        Of the rows read, and of the run.
    rate
        That of the reward after the last row; None where it is not known.
    updates
        The rows read, some of which log a norm.
    steps
        At which to predict, after the last row.

    Yields
    ------
    Prediction
        Of norm and cosine, and of KL where it is logged; none where fewer than ``FEWEST`` norms are.

    Notes
    -----
    Label: large-N; small-step for KL. Source: ours: docs/concepts/economy.md.
    """
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
        recent_mean(book, [getattr(entry, name) for entry in book.entries]) for name in ("odd_share", "even_share")
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
