"""The law of a walk whose steps differ in length because rewards tie: some do not move, others move less."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from estheory._special import Array
from estheory.laws import Law

_NEGLIGIBLE = 1e-18
MOST_LENGTHS = 200
"""Different lengths of a walk up to which its law sums over them."""
Lengths = tuple[tuple[float, float], ...]
"""Squared lengths of a step or a walk over their mean, and their probabilities."""


def binomial_probabilities(trials: int, chance: float) -> tuple[Array, Array]:
    """Return the numbers of successes whose probability is not negligible, and their probabilities.

    Parameters
    ----------
    trials
        Number of trials.
    chance
        Probability that one succeeds, in (0, 1].

    Returns
    -------
    count : ndarray
        Shape (m,). Numbers of successes.
    probability : ndarray
        Shape (m,). Theirs; they sum to 1. What is left out is below 1e-17.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    if chance >= 1.0:
        return np.array([float(trials)]), np.ones(1)
    spread = 9.5 * math.sqrt(trials * chance * (1 - chance)) + 60  # Bernstein: what is left out is below 1e-17
    low, high = max(0, int(trials * chance - spread)), min(trials, math.ceil(trials * chance + spread))
    mode = min(max(int((trials + 1) * chance), low), high)
    count = np.arange(low, high + 1, dtype=np.float64)
    # ratios of neighbours, added up from the mode: no factorial is ever formed
    log_ratio = np.log((trials - count[:-1]) / (count[1:])) + math.log(chance) - math.log1p(-chance)
    log_weight = np.concatenate([[0.0], np.cumsum(log_ratio)])
    weight = np.exp(log_weight - log_weight[mode - low])
    kept = weight > _NEGLIGIBLE * float(weight.sum())
    return count[kept], weight[kept] / float(weight[kept].sum())


def added_lengths(step: Lengths, steps: int) -> Lengths | None:
    """Return the law of the sum of the squared lengths of independent steps.

    Parameters
    ----------
    step
        Of one step.
    steps
        T.

    Returns
    -------
    tuple of tuple of float, or None
        Sums over their mean, and their probabilities; None where there are more than ``MOST_LENGTHS``.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. Sums whose probability is below 1e-18 are left out.

    Examples
    --------
    >>> added_lengths(((0.0, 0.5), (2.0, 0.5)), 2)
    ((0.0, 0.25), (1.0, 0.5), (2.0, 0.25))
    """
    power, total = np.array(step), np.array([[0.0, 1.0]])
    left = steps
    while True:
        if left % 2:
            total = _convolved(total, power)
        left //= 2
        if max(len(total), len(power)) > MOST_LENGTHS:
            return None
        if not left:
            return tuple((float(length) / steps, float(chance)) for length, chance in total)
        power = _convolved(power, power)


def steered_lengths(lengths: Lengths, share: float) -> Lengths:
    """Return the law of Q (1 - f + f Q / E Q^2): of a step whose motion along the gradient is as long as Q once more.

    Parameters
    ----------
    lengths
        Values of Q and their probabilities, E Q = 1.
    share
        f, the share of that motion in the mean square.

    Returns
    -------
    tuple of tuple of float
        Values, whose mean is 1, and their probabilities.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.

    Examples
    --------
    >>> steered_lengths(((0.0, 0.5), (2.0, 0.5)), 0.5)
    ((0.0, 0.5), (2.0, 0.5))
    """
    square = sum(chance * length**2 for length, chance in lengths)
    return tuple((length * (1 - share + share * length / square), chance) for length, chance in lengths)


def _convolved(first: Array, second: Array) -> Array:
    """Return sums and their probabilities, shape (m, 2), of two laws like that."""
    sums = (first[:, None, 0] + second[None, :, 0]).ravel()
    chance = (first[:, None, 1] * second[None, :, 1]).ravel()
    order = np.argsort(sums)
    sums, chance = sums[order], chance[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(sums) > 1e-12 * sums[-1]]))
    merged = np.stack([sums[starts], np.add.reduceat(chance, starts)], axis=1)
    return np.asarray(merged[merged[:, 1] > _NEGLIGIBLE])


class ScatteredLaw(Law):
    """``root`` times the power of a relative variance that takes separate values.

    Attributes
    ----------
    root
        A law of a non-negative quantity, at the mean variance.
    power
        1/2 for lengths and 1 for their squares.
    """

    root: Law
    power: float

    @property
    @abstractmethod
    def _variances(self) -> tuple[Array, Array]:
        """Relative variances and their probabilities, shapes (m,)."""

    @cached_property
    def _factors(self) -> tuple[Array, Array]:
        variance, weight = self._variances
        return variance**self.power, weight

    @property
    def mean(self) -> float:
        """The mean."""
        factor, weight = self._factors
        return self.root.mean * float(weight @ factor)

    @property
    def std(self) -> float:
        """The standard deviation."""
        factor, weight = self._factors
        center = float(weight @ factor)
        scatter = float(weight @ (factor - center) ** 2)
        return math.hypot(self.root.std * math.sqrt(scatter + center**2), self.root.mean * math.sqrt(scatter))

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)), a sum over the variances."""
        if x < 0.0:
            return 0.0, 1.0
        low = high = 0.0
        for factor, weight in zip(*self._factors, strict=True):
            below, above = self.root.tails(x / factor) if factor > 0 else (1.0, 0.0)
            low, high = low + weight * below, high + weight * above
        return float(low), float(high)

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile: 0 where nothing moved that often."""
        return 0.0 if p <= self.tails(0.0)[0] else super().quantile(p)

    def pvalue(self, x: float) -> float:
        """Return the two-sided p-value: twice the smaller of P(X <= x) and P(X >= x), at most 1."""
        low, high = self.tails(x)
        if x == 0.0:
            high = 1.0
        return min(1.0, 2.0 * min(low, high))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        factor, weight = self._factors
        return np.asarray(self.root.sample(rng, n) * rng.choice(factor, n, p=weight))


@dataclass(frozen=True)
class TiedLaw(ScatteredLaw):
    """``root`` times (M / (T m))^power, M ~ Binomial(T, m) the number of steps that moved. Exact.

    Given M, a walk of T steps is a walk of M steps. ``root`` is the law at M = T m, the mean; ``power`` is 1/2 for
    lengths and 1 for their squares. With probability (1 - m)^T nothing moved and the value is 0.

    Attributes
    ----------
    root
        A law of a non-negative quantity.
    steps, move
        T and m.
    power
        1/2 or 1.
    """

    root: Law
    steps: int
    move: float
    power: float

    @property
    def _variances(self) -> tuple[Array, Array]:
        count, weight = binomial_probabilities(self.steps, self.move)
        return count / (self.steps * self.move), weight


@dataclass(frozen=True)
class LengthsLaw(ScatteredLaw):
    """``root`` times Q^power, Q the squared length of a walk's shaped rewards over its mean. Exact.

    Given the rewards, a flat coordinate is normal with a variance that only Q enters; where rewards take few values, Q
    does too.

    Attributes
    ----------
    root
        A law of a non-negative quantity, at Q = 1.
    lengths
        Values of Q and their probabilities.
    power
        1/2 or 1.
    """

    root: Law
    lengths: Lengths
    power: float

    @property
    def _variances(self) -> tuple[Array, Array]:
        length, weight = np.array(self.lengths).T
        return length, weight
