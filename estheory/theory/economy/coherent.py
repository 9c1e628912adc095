"""The coherent part of a run: how far its rewards have carried it, beside its random walk (docs/concepts/economy.md).

An update moves by a_t along the gradient of its time, and by a walk. What adds up is P_T = sum_t a_t g^_t: its length
depends on how far the gradient has turned between the updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.theory.economy.ledger import Ledger, Sum
from estheory.theory.economy.ledger_entry import LedgerRules

SMOOTHED = 12
"""A rate is averaged over a twelfth of the run on either side of an update, by triangular weights."""
FEWEST_SMOOTHED = 4
LEFT_OUT = 100
"""Most groups of updates that the jackknife leaves out in turn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CoherentMotion:
    """What the updates of a run move along their gradients, and how these turn.

    Attributes
    ----------
    progress : ndarray, shape (T,)
        a_t, the expected motion of update t along the gradient of its time, weight units.
    turning : ndarray, shape (T,)
        Cosine of the gradient at update t with that at update t - 1; the first is 1.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md. The gradient's direction is a Markov chain: what a walk
    adds to it is orthogonal to what it was. That is so on a quadratic of equal curvatures; where curvatures differ,
    learning turns the gradient too, and ``square`` is an upper bound.

    Examples
    --------
    >>> steady = CoherentMotion(progress=np.full(4, 0.5), turning=np.ones(4))
    >>> [float(p) for p in steady.square()]
    [0.25, 1.0, 2.25, 4.0]
    """

    progress: Array
    turning: Array

    def along_last(self) -> Array:
        """Return the length of what is behind an update along the gradient of its time: b_t.

        Returns
        -------
        ndarray
            Shape (T,), weight units: b_1 = 0 and b_(t+1) = turning_(t+1) (b_t + a_t).

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md.
        """
        behind, found = 0.0, []
        for t, turned in enumerate(self.turning):
            behind = turned * (behind + self.progress[t - 1]) if t else 0.0
            found.append(behind)
        return np.array(found)

    def along_first(self) -> Array:
        """Return the coherent displacement along the gradient at the start, after each update.

        Returns
        -------
        ndarray
            Shape (T,), weight units.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md.
        """
        return np.asarray(np.cumsum(self.progress * np.cumprod(self.turning)))

    def square(self) -> Array:
        """Return p_T^2 = sum over s, t <= T of a_s a_t cos(g_s, g_t) after each update.

        Returns
        -------
        ndarray
            Shape (T,), weight^2.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md.
        """
        return np.asarray(np.cumsum(self.progress**2 + 2 * self.progress * self.along_last()))

    def until(self, step: int) -> CoherentMotion:
        """Return the motion with later updates, up to a step: the last rate falls by e over as many as were made.

        Parameters
        ----------
        step
            The number of updates; fewer than were made change nothing.

        Returns
        -------
        CoherentMotion
            Later updates turn as the last one did.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md. The pace is a declared choice, as of a forecast.
        """
        made = self.progress.size
        ahead = np.arange(1, step - made + 1)
        return CoherentMotion(
            progress=np.concatenate([self.progress, self.progress[-1] * np.exp(-ahead / made)]),
            turning=np.concatenate([self.turning, np.full(ahead.size, self.turning[-1])]),
        )


def turning_per_update(walk: Array, sigma: float, odd_variance: Array, even_variance: Array) -> Array:
    """Return the cosine of the gradient with that one update before: [1 - 2 (q/sigma^2) v_even/v_odd]^(1/2).

    The walk of one update adds q tr Lam^2 to the squared gradient, which v_odd = sigma^2 ||g||^2 measures when it is
    there; the rest is what is left of the gradient before.

    Parameters
    ----------
    walk
        q, variance of one coordinate of the update, weight^2.
    sigma
        Perturbation scale, weight units.
    odd_variance, even_variance
        v_odd and v_even = 1/2 sigma^4 tr Lam^2 after it, reward^2, of the shape of ``walk``.

    Returns
    -------
    ndarray
        In [0, 1]; 0 where the walk alone makes a larger gradient than there is.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md. The product over a run whose gradient only the walk
    changes is that of :func:`estheory.theory.economy.update.turning_cosine`.

    Examples
    --------
    >>> one = np.ones(1)
    >>> float(turning_per_update(0.02 * one, 0.2, one, one / 4).round(4)[0])
    0.866
    """
    added = 2 * walk / sigma**2 * np.maximum(even_variance, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(added > 0, added / np.maximum(odd_variance, 0.0), 0.0)
    return np.asarray(np.sqrt(np.clip(1 - share, 0.0, 1.0)))


def gradient_cosine(*, along: float, square: float, walk: float, dim: int) -> float:
    """Return the cosine of a displacement with the gradient at the start: b / sqrt(v d + p^2).

    That of two runs from one base is the product of either's, because their walks have nothing in common.

    Parameters
    ----------
    along
        b, the coherent displacement along that gradient, weight units.
    square
        p^2, the square of the coherent displacement, weight^2.
    walk
        v, variance of one coordinate of the walk, weight^2.
    dim
        Number of trained parameters d.

    Returns
    -------
    float
        Of the lengths that are expected; not 0 / 0.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md.

    Examples
    --------
    >>> gradient_cosine(along=0.3, square=0.09, walk=0.16, dim=1)
    0.6
    """
    return along / math.sqrt(walk * dim + square)


@dataclass(frozen=True, kw_only=True, eq=False)
class CoherentPart:
    """The coherent part of a recorded run, estimated from its ledger.

    Attributes
    ----------
    motion
        By the smoothed ledger.
    without
        The same with each update's rows left out in turn, or each of ``LEFT_OUT`` groups of them, for the jackknife.
    walk : ndarray, shape (T,)
        Variance of one coordinate of the walk after each update, weight^2.
    gradient : ndarray, shape (T,)
        ||g_t||, length of the smoothed reward's gradient, reward / weight.
    even : ndarray, shape (T,)
        v_even, variance of the members' effects without sign, reward^2; not cut at 0.
    bound
        ``upper`` where the odd part of the rewards is not known.
    """

    motion: CoherentMotion
    without: tuple[CoherentMotion, ...]
    walk: Array
    gradient: Array
    even: Array
    bound: Literal["upper"] | None

    def estimate(self, function: Callable[[CoherentMotion], float]) -> Sum:
        """Return a function of the motion with its jackknife error.

        Parameters
        ----------
        function
            For example ``lambda motion: motion.square()[-1]``.

        Returns
        -------
        Sum
            In the unit of the function.

        Notes
        -----
        Label: large-N, in the number of updates. Source: ours: docs/concepts/economy.md.
        """
        found = np.array([function(motion) for motion in self.without])
        count = found.size
        return Sum(
            value=function(self.motion),
            stderr=math.sqrt((count - 1) / count * float(((found - found.mean()) ** 2).sum())),
        )

    def square(self, step: int) -> Sum:
        """Return p_T^2 after a number of updates.

        Parameters
        ----------
        step
            The number of updates, from 1.

        Returns
        -------
        Sum
            The value and its standard error, weight^2.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md.
        """
        return self.estimate(lambda motion: float(motion.square()[step - 1]))


def coherent_part(book: Ledger, rules: LedgerRules) -> CoherentPart:
    """Return the coherent part of a run from what its updates earned and how its members' rewards varied.

    a_t = earned_t / ||g_t||, ||g_t||^2 = v_odd/sigma^2; what is earned follows the coefficients as applied, so that
    permuted ones give none. Rates are averaged over neighbouring updates before ratios and roots are taken.

    Parameters
    ----------
    book
        With reliabilities; of mirrored members for more than an upper bound.
    rules
        Of the run.

    Returns
    -------
    CoherentPart

    Raises
    ------
    DataError
        Where prompts are not told apart, or fewer than three updates are logged.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md. Without mirrored members all reliable variance counts as
    odd and no turning is seen: an upper bound. v_odd counts what is cubic in the perturbation, too.
    """
    entries = book.entries
    if len(entries) < 3:
        raise DataError(f"{len(entries)} updates tell no coherent part", "log three or more")
    variance = np.array([entry.member_variance for entry in entries])
    tied = np.array([entry.tied for entry in entries])
    reliability = np.array([0.0 if entry.tied else entry.reliability for entry in entries])
    if np.isnan(reliability).any():
        raise DataError(
            "the ledger tells no reliability: the coherent part is not known", "log rewards by prompt or by half"
        )
    odd = np.array([0.0 if entry.tied else entry.odd_share for entry in entries])
    even = np.array([0.0 if entry.tied else entry.even_share for entry in entries])
    bound: Literal["upper"] | None = None
    if np.isnan(odd).any():
        bound, odd, even = "upper", reliability, np.zeros_like(odd)
    earned = np.where(tied, 0.0, np.array([entry.earned for entry in entries]))
    walk = np.array([entry.walk for entry in entries])
    rows = np.stack([earned, odd * variance, even * variance], axis=1)
    count = len(entries)

    def length(smooth: Array) -> Array:
        return np.asarray(np.sqrt(np.maximum(smooth[:, 1], 0.0)) / rules.sigma)

    def motion(kept: Array) -> CoherentMotion:
        smooth = _smoothed(rows, kept)
        gradient = length(smooth)
        with np.errstate(divide="ignore", invalid="ignore"):
            progress = np.where(gradient > 0, smooth[:, 0] / gradient, 0.0)
        turning = turning_per_update(np.roll(walk, 1), rules.sigma, smooth[:, 1], smooth[:, 2])
        turning[0] = 1.0
        return CoherentMotion(progress=progress, turning=turning)

    place, groups = np.arange(count), min(count, LEFT_OUT)
    return CoherentPart(
        motion=motion(np.ones(count)),
        without=tuple(motion((place % groups != k).astype(np.float64)) for k in range(groups)),
        walk=np.cumsum(walk),
        gradient=length(_smoothed(rows, np.ones(count))),
        even=rows[:, 2],
        bound=bound,
    )


def _smoothed(rows: Array, kept: Array) -> Array:
    """Return the rows averaged over their neighbours by triangular weights, of the rows that are kept, shape (T, m)."""
    reach = max(FEWEST_SMOOTHED, math.ceil(len(rows) / SMOOTHED))
    weights = 1 - np.abs(np.arange(1 - reach, reach)) / reach

    def summed(values: Array) -> Array:
        return np.asarray(np.convolve(values, weights)[reach - 1 : reach - 1 + len(rows)])

    return np.stack([summed(column * kept) for column in rows.T], axis=1) / summed(kept)[:, None]
