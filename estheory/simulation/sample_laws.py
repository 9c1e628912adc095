"""Laws of the mean and of the standard deviation of a sample, from the law of one draw."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from estheory.laws import ChiLaw, Law, NormalLaw
from estheory.theory.curved.reward_laws import LinearQuadraticLaw


def mean_law(law: Law, n: int) -> Law:
    """Return the law of the mean of independent draws."""
    if law.std == 0.0:
        return law
    if isinstance(law, LinearQuadraticLaw) and law.linear_std == 0.0:
        return replace(law, df=law.df * n)
    return NormalLaw(law.mean, law.std / math.sqrt(n))


def excess_kurtosis(law: Law) -> float:
    """Return the excess kurtosis of a law with spread.

    Result: exact for gamma laws, else of 200,000 draws of fixed seed.
    """
    if isinstance(law, LinearQuadraticLaw) and law.linear_std == 0.0:
        return 12.0 / law.df
    standard = (law.sample(np.random.default_rng(0), 200_000) - law.mean) / law.std
    return float(np.mean(standard**4)) - 3.0


def spread_law(law: Law, n: int) -> Law:
    """Return the law of the sample standard deviation: chi, with the draws' kurtosis in its degrees of freedom."""
    freedom = 2.0 / (2.0 / (n - 1) + excess_kurtosis(law) / n)
    return ChiLaw(law.std / math.sqrt(freedom), freedom)
