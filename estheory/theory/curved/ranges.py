"""Where the expansions on a quadratic reward stop being good (docs/concepts/quadratic.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of

KURTOSIS_LIMIT = 0.1
SMALL_POPULATION = 10
SMALL_POPULATION_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class OutOfRange:
    """A quantity that left the range in which a result is good.

    Attributes
    ----------
    name, value, limit
        The quantity, its value, and what it should not pass.
    consequence
        What the results then miss.
    """

    name: str
    value: float
    limit: float
    consequence: str

    def __str__(self) -> str:
        """Return the warning in one line."""
        return f"{self.name} = {self.value:.3g} is beyond {self.limit:g}: {self.consequence}"


def step_range(config: ESConfig, landscape: Landscape, member_std: float | None = None) -> tuple[OutOfRange, ...]:
    """Return what is out of range in one step.

    The limits are measured (tests/theory/test_quadratic.py): max_k x_k <= 0.5 (0.3 for centred ranks) and, for
    z-scores, X/N <= 0.1, and N > 10 unless every x_k <= 0.1. Raw rewards and two-point shaping have none: their moments
    are exact.

    Parameters
    ----------
    config, landscape
        The run.
    member_std
        S, reward units, where it is not that of the landscape's offsets (in the stationary state it is smaller and x_k
        larger).

    Returns
    -------
    tuple of OutOfRange
        Empty where first and second moments are good to about 5 %.
    """
    estimator = estimator_of(config)
    if not estimator.scale_free:
        return ()
    n, sigma = config.population, config.sigma
    big_s = landscape.member_std(sigma) if member_std is None else member_std
    if big_s == 0:
        return ()
    x = (sigma**2 * landscape.eigenvalue / big_s) ** 2
    rho_square = (sigma * landscape.gradient / big_s) ** 2 if member_std is None else np.zeros_like(x)
    largest = float(np.max(x, where=landscape.multiplicity > 0, initial=0.0))
    excess = float(landscape.multiplicity @ (3 * x**2 + 12 * rho_square * x))
    checks = [
        (
            "the largest quadratic share x_k",
            largest,
            estimator.quadratic_share_limit,
            "the noise of the sharpest direction is off by more than 5 %; simulate with the reduced engine",
        )
    ]
    if estimator.divides_by_spread:
        checks.append(
            (
                "the excess kurtosis of the rewards per member, X/N,",
                excess / n,
                KURTOSIS_LIMIT,
                "the O(1/N) corrections are no longer small; raise N, or simulate with the reduced engine",
            )
        )
    found = [
        OutOfRange(name=name, value=value, limit=limit, consequence=consequence)
        for name, value, limit, consequence in checks
        if value > limit
    ]
    if estimator.divides_by_spread and n <= SMALL_POPULATION and largest > SMALL_POPULATION_SHARE:
        found.append(
            OutOfRange(
                name=f"the largest quadratic share x_k at N = {n} <= {SMALL_POPULATION}",
                value=largest,
                limit=SMALL_POPULATION_SHARE,
                consequence="no expansion is good with one direction dominating so few members; simulate",
            )
        )
    return tuple(found)
