"""Intervals of functions of several independent estimates, from the interval of each (docs/concepts/economy.md).

The variance of an estimate differs at the two ends of its interval, most of all where the estimate is a variance of a
few members. A function of such estimates therefore takes its lower end from the lower ends and its upper end from the
upper ones: the method of variance estimates recovery (Zou and Donner 2008), whose differences of variances are those of
Ting et al. (1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, chi_square_quantile

LEVEL = 0.95
"""Probability of the intervals of this room."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate, its standard error, and an interval that need not be symmetric.

    Attributes
    ----------
    value, stderr
        In one unit.
    low, high
        The ends at ``LEVEL``; infinite where the data set no limit.
    """

    value: float
    stderr: float
    low: float
    high: float


def known(value: float) -> Interval:
    """Return a number without error.

    Parameters
    ----------
    value
        In any unit.

    Returns
    -------
    Interval
        In the unit of ``value``.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/economy.md.
    """
    return Interval(value=value, stderr=0.0, low=value, high=value)


def normal_interval(value: float, stderr: float, df: float) -> Interval:
    """Return the interval of an estimate whose error over ``stderr`` is Student's t.

    Parameters
    ----------
    value, stderr
        In one unit.
    df
        Degrees of freedom of ``stderr``.

    Returns
    -------
    Interval
        In the unit of ``value``.

    Notes
    -----
    Label: exact, for a Gaussian error. Source: ours: docs/concepts/economy.md.
    """
    from scipy.special import stdtrit

    reach = float(stdtrit(df, 0.5 + LEVEL / 2)) * stderr if df > 0 else math.inf
    return Interval(value=value, stderr=stderr, low=value - reach, high=value + reach)


def variance_interval(value: float, stderr: float) -> Interval:
    """Return the interval of a variance: chi-square, of the degrees of freedom that its standard error tells.

    Parameters
    ----------
    value, stderr
        In the unit of the variance; degrees of freedom are 2 value^2 / stderr^2.

    Returns
    -------
    Interval

    Notes
    -----
    Label: exact for Gaussian members with stderr^2 = 2 value^2 / df; large-N else. Source: ours:
    docs/concepts/economy.md.
    """
    if not value > 0 or not stderr > 0:
        return known(max(value, 0.0))
    df = 2 * (value / stderr) ** 2
    low, high = (chi_square_quantile(p, df) for p in (0.5 + LEVEL / 2, 0.5 - LEVEL / 2))
    return Interval(value=value, stderr=stderr, low=value * df / low, high=value * df / high if high else math.inf)


def square_interval(square: float, stderr: float, df: float) -> Interval:
    """Return the error of a square as one of its root, whose error over its standard error is Student's t.

    A root x of standard error s has the square x^2, of standard error 2 |x| s; its ends are (x +- t s)^2, or 0 and
    (2 x)^2 with what the standard error adds where t s is above x.

    Parameters
    ----------
    square
        Estimate of the square; of one that is not above 0 only the upper end has an error.
    stderr
        Its standard error, in the unit of the square.
    df
        Degrees of freedom of ``stderr``.

    Returns
    -------
    Interval
        Of what is added to the square: its value is 0.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/economy.md.

    Examples
    --------
    >>> found = square_interval(4.0, 0.4, 1e9)  # a root of 2.0 +- 0.1
    >>> round(found.low, 2), round(found.high, 2)  # 1.804^2 - 4 and 2.196^2 - 4
    (-0.75, 0.82)
    """
    reach = normal_interval(0.0, stderr, df).high
    square = max(square, 0.0)
    bent = reach / (4 * square) if reach < 2 * square else 0.5
    return Interval(value=0.0, stderr=stderr, low=-min(reach * (1 - bent), square), high=reach * (1 + bent))


def pooled(parts: Sequence[Interval], interval: Callable[[float, float], Interval]) -> Interval:
    """Return the mean of independent estimates of one number.

    Parameters
    ----------
    parts
        The estimates.
    interval
        Makes the ends from value and standard error.

    Returns
    -------
    Interval
        In the unit of the parts.

    Notes
    -----
    Label: exact, the mean and its standard error. Source: ours: docs/concepts/economy.md.
    """
    value = float(np.mean([part.value for part in parts]))
    return interval(value, math.sqrt(sum(part.stderr**2 for part in parts)) / len(parts))


def recovered(function: Callable[[Array], float], parts: Sequence[Interval]) -> Interval:
    """Return a function of independent estimates with its interval.

    Parameters
    ----------
    function
        Of a vector, one entry a part; NaN or infinite where it is not defined.
    parts
        The estimates.

    Returns
    -------
    Interval
        An end is infinite where the function is undefined at an end of a part.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/economy.md, after Zou and Donner 2008.

    Examples
    --------
    >>> one, two = normal_interval(3.0, 0.3, 1e9), normal_interval(1.0, 0.4, 1e9)
    >>> found = recovered(lambda v: float(v[0] - v[1]), [one, two])
    >>> round(found.value, 3), round(found.stderr, 3), round((found.high - found.low) / 2 / 1.96, 3)
    (2.0, 0.5, 0.5)
    """
    centre = np.array([part.value for part in parts])
    value = function(centre)
    square, below, above = 0.0, 0.0, 0.0
    for position, part in enumerate(parts):
        if part.stderr == 0.0:
            continue

        def at(number: float, position: int = position) -> float:
            moved = centre.copy()
            moved[position] = number
            return function(moved) if math.isfinite(number) else math.nan

        square += ((at(part.value + part.stderr) - at(part.value - part.stderr)) / 2) ** 2
        changes = [at(part.low) - value, at(part.high) - value]
        if any(math.isnan(change) for change in changes):
            below = above = math.inf
            continue
        below += min(*changes, 0.0) ** 2
        above += max(*changes, 0.0) ** 2
    return Interval(value=value, stderr=math.sqrt(square), low=value - math.sqrt(below), high=value + math.sqrt(above))
