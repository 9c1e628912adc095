"""The ledger of a run: what each of its updates earned and what it paid, from logged rewards alone.

Summed, the ledger gives the change of the centre's reward, R(theta_T) - R(theta_0) = sum earned - sum paid
(docs/concepts/economy.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.shown import Shown
from estheory.theory.economy.ledger_entry import (
    Entry,
    LedgerRules,
    LoggedUpdate,
    Near,
    Told,
    entry_of,
    members_reward,
    told_by,
)


@dataclass(frozen=True, kw_only=True)
class Sum:
    """A sum over the ledger and its standard error, reward units.

    Attributes
    ----------
    value, stderr
        NaN where an entry is not known.
    """

    value: float
    stderr: float


@dataclass(frozen=True, kw_only=True)
class Ledger(Shown):
    """All updates of a run, and what they must add up to.

    Attributes
    ----------
    entries
        In order of steps.
    centred
        Whether ``reward`` is the centre's.
    """

    entries: tuple[Entry, ...]
    centred: bool

    @property
    def bound(self) -> Literal["upper"] | None:
        """Whether what is earned is only an upper bound somewhere."""
        return "upper" if any(entry.bound for entry in self.entries) else None

    @property
    def steps(self) -> int:
        """The last update."""
        return self.entries[-1].step

    def total(self, name: Literal["earned", "paid", "net"], weights: Array | None = None) -> Sum:
        """Return a weighted sum over the entries.

        Parameters
        ----------
        name
            What is summed.
        weights
            One an entry; all 1 where left out.

        Returns
        -------
        Sum

        Notes
        -----
        Label: small-step. Source: ours: docs/concepts/economy.md. Nothing is cut off at 0 before summing, since that
        would bias the sum.
        """
        w = np.ones(len(self.entries)) if weights is None else weights
        values = np.array([getattr(entry, name) for entry in self.entries])
        errors = np.array([getattr(entry, f"{name}_stderr") for entry in self.entries])
        used = w != 0
        return Sum(value=float(w[used] @ values[used]), stderr=math.sqrt(float(w[used] ** 2 @ errors[used] ** 2)))

    @property
    def ends(self) -> int:
        """How many rows at either end the measured change is averaged over: a tenth, at most 10."""
        return max(1, min(10, len(self.entries) // 10))

    def risen(self) -> Sum:
        """Return the measured change of the reward, mean of the last rows less mean of the first.

        Returns
        -------
        Sum
            Reward units; its error is by the rows' own errors, and where these are not known by the rows' scatter.

        Notes
        -----
        Label: exact, a difference of means. Source: ours: docs/concepts/economy.md.
        """
        count = self.ends
        rewards = np.array([entry.reward for entry in self.entries])
        errors = np.array([entry.reward_stderr for entry in self.entries])
        first, last = slice(0, count), slice(len(rewards) - count, None)
        value = float(rewards[last].mean() - rewards[first].mean())
        if np.isnan(errors).any() and len(rewards) > 2:
            # second differences see the noise of a row and little of a smooth curve
            noise = float(np.mean(np.diff(rewards, 2) ** 2)) / 6
            return Sum(value=value, stderr=math.sqrt(2 * noise / count))
        square = sum(float((errors[part] ** 2).sum()) for part in (first, last)) / count**2
        return Sum(value=value, stderr=math.sqrt(square))

    def implied(self) -> Sum:
        """Return what the updates between the ends must have earned: the measured change and what was paid for it.

        Returns
        -------
        Sum
            Reward units; NaN where the cost is not known.

        Notes
        -----
        Label: small-step. Source: ours: docs/concepts/economy.md.
        """
        risen, paid = self.risen(), self.total("paid", self.between_ends())
        return Sum(value=risen.value + paid.value, stderr=math.hypot(risen.stderr, paid.stderr))

    def between_ends(self) -> Array:
        """Return the weight of each update in what :meth:`risen` compares.

        Returns
        -------
        ndarray
            Shape (T,): the share of the last rows after an update less that of the first.

        Notes
        -----
        Label: exact. Source: ours: docs/concepts/economy.md.
        """
        count, size = self.ends, len(self.entries)
        index = np.arange(size)
        after_last = np.clip(size - 1 - index, 0, count) / count
        after_first = np.clip(count - 1 - index, 0, count) / count
        return np.asarray(after_last - after_first)


def ledger(updates: Sequence[LoggedUpdate], rules: LedgerRules) -> Ledger:
    """Return what each update of a run earned and paid.

    Parameters
    ----------
    updates
        At least one, in order of steps.
    rules
        Of the run.

    Returns
    -------
    Ledger

    Raises
    ------
    DataError
        If there is no update, or a row does not fit the population.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md. With coefficients z as applied and members' mean rewards
    M, earned = (alpha/(N sigma)) [sum z M - noise correction]; mirrored, with z+ - z- and half differences.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> rows = [LoggedUpdate(step=t, prompt_rewards=rng.standard_normal((16, 32))) for t in range(1, 41)]
    >>> found = ledger(rows, LedgerRules(sigma=0.01, alpha=0.01, population=16))
    >>> total = found.total("earned")
    >>> abs(total.value) < 4 * total.stderr  # noise alone earns nothing
    True
    """
    if not updates:
        raise DataError("the log holds no update", "let the run make one")
    told = [told_by(update, rules) for update in updates]
    carried = zip(_carried([each.odd for each in told]), _carried([each.gap for each in told]), strict=True)
    near = [Told(odd=odd, gap=gap) for odd, gap in carried]
    entries = [entry_of(update, rules, each) for update, each in zip(updates, near, strict=True)]
    if any(math.isnan(e.paid_stderr) and not math.isnan(e.paid) for e in entries):
        entries = _with_scatter(entries)
    centred = not any(math.isnan(each.gap.value) for each in near)
    if not centred:  # one kind of reward throughout
        entries = [_with_members_reward(e, update, rules) for e, update in zip(entries, updates, strict=True)]
    return Ledger(entries=tuple(entries), centred=centred)


def _carried(found: Sequence[Near]) -> list[Near]:
    """Give updates that tell nothing what the nearest one that does tells.

    It is carried no further than the longest way between two updates that tell: one alone says nothing of others.
    """
    known = [k for k, each in enumerate(found) if not math.isnan(each.value)]
    reach = max((b - a for a, b in pairwise(known)), default=0)
    takes = []
    for at in range(len(found)):
        distance, nearest = min(((abs(k - at), k) for k in known), default=(0, at))
        takes.append(nearest if distance <= reach else at)
    users = Counter(takes)
    return [replace(found[k], users=users[k], own=k == at) for at, k in enumerate(takes)]


def _with_members_reward(entry: Entry, update: LoggedUpdate, rules: LedgerRules) -> Entry:
    reward, stderr = members_reward(update, rules)
    return replace(entry, reward=reward, reward_stderr=stderr)


def _with_scatter(entries: Sequence[Entry]) -> list[Entry]:
    """Give payments without an error of their own that of their scatter from step to step."""
    paid = np.array([entry.paid for entry in entries if not math.isnan(entry.paid)])
    scatter = float(paid.std(ddof=1)) if paid.size > 1 else math.nan
    return [replace(e, paid_stderr=scatter) if math.isnan(e.paid_stderr) else e for e in entries]
