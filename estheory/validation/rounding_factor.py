"""What rounding does to one quantity of a foreign run, over every way of rounding that its folder leaves open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_EMULATED = 20_000
"""Steps of the longest run that is emulated: minutes."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What rounding does to one quantity.

    Attributes
    ----------
    value
        The factor, in the middle of what the ways of rounding that the folder leaves open give.
    error
        Relative standard deviation: the emulator's error, and the run's own where its coefficients are not logged.
    half_width
        Relative half-width of that range: the declared band.
    kurtosis
        E[moved^4]/E[moved^2]^2 of a weight's displacement, 3 without rounding.
    """

    value: float = 1.0
    error: float = 0.0
    half_width: float = 0.0
    kurtosis: float = 3.0

    @property
    def norm_half_width(self) -> float:
        """The band of a norm whose square has this factor: the root's wider side."""
        return 1.0 - math.sqrt(max(1.0 - self.half_width, 0.0))


def factor_range(found: Sequence[tuple[float, float]], kurtosis: float) -> Factor:
    """Return the middle and the half-width of values, and the largest of their standard errors, both relative.

    Parameters
    ----------
    found
        A value and its standard error for each way of rounding.

    Returns
    -------
    Factor
        Where the middle is not positive: 0 without error or band.
    """
    values = [value for value, _ in found]
    middle = 0.5 * (min(values) + max(values))
    if middle <= 0:
        return Factor(value=0.0)
    error = max(error for _, error in found) / middle
    return Factor(value=middle, error=error, half_width=max(values) / middle - 1, kurtosis=kurtosis)
