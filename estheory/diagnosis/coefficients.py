"""Faults of the coefficients that multiply the members' noise, found by comparing them with the rewards.

Coefficients are known to rounding: in a log, or recovered from an update whose noise is known. So the comparison needs
no statistics: each candidate is another way to make coefficients of the same rewards, and fits or does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from estheory._special import Array
from estheory.diagnosis.faults import Explanation, Fault, explain_ratio, length_sentence, step_faults
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of

TOLERANCE = 1e-4
"""Relative error of coefficients: float32 sums of a thousand members stay below.

Half of it is the standard error of a factor: what is added to a standard deviation (1e-4 at most) stays within four."""

Coefficients = Callable[[Array], Array]
"""From the rewards of a step's evaluations to w of the displacement (alpha/N) sum_k w_k eps_k, one a noise vector."""


@dataclass(frozen=True, kw_only=True)
class CoefficientsExplained:
    """What coefficients are, compared with their rule.

    Attributes
    ----------
    fault
        The wrong way that makes them up to a factor; None where it is the rule's way or no known one.
    ratio
        Their size over that of the rule; negative where the sign is turned. With a fault, over its own coefficients.
    scale
        What may be behind the ratio, where it is not 1.
    known
        False where no candidate makes them.
    tolerance
        Relative error of the coefficients.
    """

    fault: Fault | None
    ratio: float
    scale: tuple[Explanation, ...]
    known: bool
    tolerance: float = TOLERANCE

    @property
    def right(self) -> bool:
        """Whether they are the rule's."""
        return self.known and self.fault is None and abs(self.ratio - 1) <= self.tolerance

    @property
    def text(self) -> str:
        """A clause for a message; empty where they are right."""
        if not self.known:
            return "no known fault makes these coefficients"
        parts = [] if self.fault is None else [self.fault.name]
        if self.ratio < 0:
            parts.append("the sign is turned (the reward is minimised)")
        if self.fault is None and abs(abs(self.ratio) - 1) > self.tolerance:
            parts.append(length_sentence(abs(self.ratio), self.scale))
        return "; ".join(parts)


def direction_weights(rewards: Array, rule: ESConfig) -> Array:
    """Return w of the rule's displacement (alpha/N) sum_k w_k eps_k, one a noise vector that is drawn.

    ``rewards`` are those of a step's evaluations, shape (n,); with mirrored members R+ and R- of each pair in turn.
    """
    estimator = estimator_of(rule)
    return estimator.noise_weights(estimator.shape(rewards))


def ranks(values: Array) -> Array:
    """Return ranks, equal values at their mean rank.

    Parameters
    ----------
    values
        Shape (n,).

    Returns
    -------
    ndarray, shape (n,)
        From 0 to n - 1.
    """
    below = (values[:, None] > values).sum(axis=1)
    return np.asarray(below + ((values[:, None] == values).sum(axis=1) - 1) / 2)


def _ways(rule: ESConfig) -> list[tuple[str, Coefficients]]:
    """Return wrong ways to make the coefficients of a rule, one a noise vector that is drawn."""

    def right(rewards: Array) -> Array:
        return direction_weights(rewards, rule)

    def per_member(way: Coefficients) -> Coefficients:
        """Apply a way that gives one number an evaluation."""
        return (lambda r: way(r)[0::2] - way(r)[1::2]) if estimator_of(rule).paired else way

    found: list[tuple[str, Coefficients]] = [
        ("rewards are not centred", per_member(lambda r: r)),
        ("each coefficient multiplies the noise of the member before it", lambda r: np.roll(right(r), -1)),
        ("each coefficient multiplies the noise of the member after it", lambda r: np.roll(right(r), 1)),
        ("coefficients are in the reverse order of the noise", lambda r: right(r)[::-1]),
        ("coefficients are sorted and the noise is not", lambda r: np.sort(right(r))),
        ("coefficients are sorted (descending) and the noise is not", lambda r: np.sort(right(r))[::-1]),
        ("the last member is left out of the sum", lambda r: np.append(right(r)[:-1], 0.0)),
        ("the first member is left out of the sum", lambda r: np.append(0.0, right(r)[1:])),
        ("only the sign of the reward is used", per_member(lambda r: np.sign(r - r.mean()))),
        ("members below the mean are left out", per_member(lambda r: np.maximum(r - r.mean(), 0))),
        ("the softmax of z-scores stands for the shaping", per_member(_softmax)),
        ("the median stands for the mean", per_member(lambda r: r - np.median(r))),
    ]
    if estimator_of(rule).order_alone:
        found += [
            ("ranks are not centred", ranks),
            ("equal rewards are ranked in the order of the members", _order_ranks),
            ("the order of the members (one argsort) stands for their ranks", lambda r: _ordered(np.argsort(r))),
            ("z-scores stand for ranks", lambda r: r - r.mean()),
        ]
    else:
        found += [
            ("centred ranks stand for the shaping", per_member(lambda r: ranks(r) - ranks(r).mean())),
            ("ranks that are not centred stand for the shaping", per_member(ranks)),
        ]
    if estimator_of(rule).paired:
        found += [
            ("the sign of mirrored noise is lost", lambda r: _members(r, rule)[0::2] + _members(r, rule)[1::2]),
            ("only the members of positive sign are used", lambda r: _members(r, rule)[0::2]),
            ("only the members of negative sign are used", lambda r: -_members(r, rule)[1::2]),
            ("the first half of the members is paired with the second", lambda r: np.subtract(*np.split(r, 2))),
        ]
    return found


def _softmax(rewards: Array) -> Array:
    exponential = np.exp((rewards - rewards.max()) / (rewards.std() or 1.0))
    return np.asarray(exponential / exponential.sum())


def _ordered(places: NDArray[np.intp]) -> Array:
    return np.asarray(places / (len(places) - 1) - 0.5)


def _order_ranks(rewards: Array) -> Array:
    return _ordered(np.argsort(np.argsort(rewards, kind="stable"), kind="stable"))


def _members(rewards: Array, rule: ESConfig) -> Array:
    """Return the shaped rewards of all evaluations of a paired rule, up to a factor where it shapes differences."""
    z = estimator_of(rule).shape(rewards)
    return z if len(z) == len(rewards) else rewards


def _reward_faults(rewards: Array, rule: ESConfig) -> tuple[Fault, ...]:
    """Return faults whose factor depends on the spread of the rewards."""
    if not rewards.std() > 0:
        return ()
    return tuple(Fault(name=name, factor=factor) for name, factor in estimator_of(rule).spread_faults(rewards))


def explain_coefficients(
    rewards: Array, coefficients: Array, rule: ESConfig, *, tolerance: float = TOLERANCE
) -> CoefficientsExplained:
    """Return what the coefficients of a step are: the rule's, or which wrong ones.

    Parameters
    ----------
    rewards
        Of the step's evaluations, shape (n,); with mirrored members R+ and R- of each pair in turn. Rewards that all
        differ tell the candidates apart best; equal ones tell what becomes of ties.
    coefficients
        What multiplies the noise, in units of alpha/N: one an evaluation, or with mirrored members one a pair.
    rule
        What they claim to be.
    tolerance
        Relative error of the coefficients; larger where the rewards were rounded.

    Returns
    -------
    CoefficientsExplained
        The first candidate that makes them up to a factor: the rule's own way before any wrong one.

    Examples
    --------
    >>> rule = ESConfig(dim=10, sigma=0.1, population=4)
    >>> r = np.array([0.0, 1.0, 3.0, 2.5])
    >>> explain_coefficients(r, (r - r.mean()) / r.std(ddof=1), rule).text
    "1.155 times too short: the sample standard deviation (N-1) stands for the population's (N)"
    >>> explain_coefficients(r, (r.mean() - r) / r.std(), rule).text
    'the sign is turned (the reward is minimised)'
    """
    measured = np.asarray(coefficients, dtype=np.float64)
    if len(measured) == rule.population:
        measured = estimator_of(rule).noise_weights(measured)
    own, size = direction_weights(rewards, rule), float(np.linalg.norm(measured))
    if not own.any() and size == 0:
        return CoefficientsExplained(fault=None, ratio=1.0, scale=(), known=True)
    if factor := _multiple(measured, own, tolerance):
        faults, error = (*step_faults(rule), *_reward_faults(rewards, rule)), tolerance / 2
        scale = explain_ratio(abs(factor), error, faults) or explain_ratio(abs(factor), error, _twos(faults))[:1]
        return CoefficientsExplained(fault=None, ratio=factor, scale=scale, known=True, tolerance=tolerance)
    for name, way in _ways(rule):
        if factor := _multiple(measured, way(rewards), tolerance):
            fault = Fault(name=name)
            return CoefficientsExplained(fault=fault, ratio=factor, scale=(), known=True, tolerance=tolerance)
    return CoefficientsExplained(fault=None, ratio=math.nan, scale=(), known=False, tolerance=tolerance)


def _twos(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """Return two faults at a time, the commonest first."""
    return tuple(
        Fault(name=f"{one.name}, and {other.name}", factor=one.factor * other.factor)
        for one, other in combinations(faults, 2)
    )


def _multiple(measured: Array, way: Array, tolerance: float) -> float:
    """Return the factor by which the measured coefficients are those of a way, 0 where they are not."""
    square = float(way @ way)
    if square == 0 or len(way) != len(measured) or not measured.any():
        return 0.0
    factor = float(way @ measured) / square
    close = np.linalg.norm(measured - factor * way) <= tolerance * np.linalg.norm(measured)
    return factor if close else 0.0
