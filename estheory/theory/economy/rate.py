"""How fast a run's reward changes per update, now (docs/concepts/economy.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.theory.economy.intervals import Interval, normal_interval
from estheory.theory.economy.ledger import Ledger

FEWEST = 4
"""Rows from which a rate is estimated."""


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


def recent_mean(book: Ledger, values: Sequence[float]) -> float:
    """Return the mean of what is known over the entries, with the weights of recent rows.

    Parameters
    ----------
    book
        Of the rows read.
    values
        One for each entry; NaN where it is not known.

    Returns
    -------
    float
        In their unit; NaN where none is known.

    Notes
    -----
    No label: a declared choice.
    """
    weights, array = recent_weights(len(book.entries)), np.array(values)
    known = ~np.isnan(array)
    return float(weights[known] @ array[known] / weights[known].sum()) if known.any() else math.nan


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


def best_rate(book: Ledger) -> float:
    """Return the largest mean change of the reward per update over a tenth of the run.

    Parameters
    ----------
    book
        Of the rows read.

    Returns
    -------
    float
        Reward units, without its sign.

    Notes
    -----
    No label: a declared choice.
    """
    rewards = np.array([entry.reward for entry in book.entries])
    width = max(2, len(rewards) // 10)
    blocks = [block.mean() for block in np.array_split(rewards, max(2, len(rewards) // width))]
    return float(np.max(np.abs(np.diff(blocks)))) / width
