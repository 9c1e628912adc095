"""When the reward of a run will peak: what its updates earn falls as it learns, and what they pay grows."""

from __future__ import annotations

import math

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.laws import CutNormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.theory.economy.ledger import Ledger

OURS = ours("economy")
FEWEST = 8
"""Updates from which a peak is foretold: two in each quarter."""
_DRAWS = 400
_FARTHEST = 10
"""A peak is foretold no farther ahead than this many times the updates that were read."""


def crossing(earned: tuple[float, float], paid: tuple[float, float], apart: float) -> float:
    """Return how long after the later of two times the earned and the paid rate are equal.

    The earned rate goes on falling by the same factor per update, the paid rate growing by the same amount.

    Parameters
    ----------
    earned, paid
        Rates at two times, reward per update, the earlier first; rates that rise (earned) or fall (paid) are taken as
        constant from the later one on.
    apart
        Updates between the two times.

    Returns
    -------
    float
        Updates; 0 where the run pays more already, infinity where the two never meet.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md.

    Examples
    --------
    >>> round(crossing((0.04, 0.02), (0.004, 0.005), 10.0), 2)
    16.0
    """
    before, now = earned
    cost, growth = paid[1], max(paid[1] - paid[0], 0.0) / apart
    if now <= max(cost, 0.0):
        return 0.0
    fall = math.log(before / now) / apart if before > now else 0.0
    if fall == 0.0:
        return (now - cost) / growth if growth > 0 else math.inf
    if growth == 0.0:
        return math.log(now / cost) / fall if cost > 0 else math.inf
    low, high = 0.0, (now - cost) / growth
    for _ in range(80):
        middle = (low + high) / 2
        if now * math.exp(-fall * middle) > cost + growth * middle:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def peak_prediction(book: Ledger) -> Prediction | None:
    """Foretell the step at which the reward peaks, from the rates of the two halves of what was read.

    Parameters
    ----------
    book
        With what was earned, as no bound, and what was paid.

    Returns
    -------
    Prediction or None
        Of ``reward_peak_step``; None where a rate is not known, the run has fewer than ``FEWEST`` updates or has earned
        nothing beyond twice its error, and where more than a fifth of the draws of the rates within their errors have
        no peak within ten times as many updates.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md. What the walk costs grows as the curvature does, which no
    probe at the start sees.
    """
    entries = book.entries
    if len(entries) < FEWEST or book.bound is not None or any(math.isnan(entry.paid) for entry in entries):
        return None
    half = len(entries) // 2
    weights = [np.zeros(len(entries)), np.zeros(len(entries))]
    weights[0][:half], weights[1][half:] = 1 / half, 1 / (len(entries) - half)
    sums = {name: [book.total(name, w) for w in weights] for name in ("earned", "paid")}
    earned = book.total("earned")
    if not earned.value > 2 * earned.stderr:
        return None
    apart, middle = len(entries) / 2, entries[-1].step - (len(entries) - half) / 2
    rng = np.random.default_rng(0)

    def drawn(name: str) -> Array:
        found = sums[name]
        return np.array([s.value for s in found]) + np.array([s.stderr for s in found]) * rng.standard_normal(
            (_DRAWS, 2)
        )

    ahead = np.array([
        crossing((e[0], e[1]), (p[0], p[1]), apart) for e, p in zip(drawn("earned"), drawn("paid"), strict=True)
    ])  # fmt: skip
    seen = ahead < _FARTHEST * len(entries)
    if seen.mean() < 0.8:
        return None
    step, spread = middle + float(np.median(ahead[seen])), float(ahead[seen].std())
    return Prediction(
        quantity=Quantity.REWARD_PEAK_STEP,
        law=CutNormalLaw(step, spread, low=entries[0].step) if spread > 0 else PointLaw(step),
        label="mean-field",
        source=OURS,
        assumptions=(
            f"from rows up to step {book.steps}",
            "what is earned goes on falling by the same factor per update, what is paid growing by the same amount",
        ),
        step=None,
    )
