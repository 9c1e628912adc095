"""What storing weights in 16 bits does to a foreign run of a gradient method."""

from __future__ import annotations

from collections.abc import Collection

from estheory._special import Array
from estheory.errors import DataError
from estheory.rules import Dtype
from estheory.runs.view import ForeignRun
from estheory.simulation.emulator.adamw import adamw_walks
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.adamw import walk_factor
from estheory.validation.assumptions import STUDENT
from estheory.validation.rounding_factor import MOST_EMULATED, Factor, factor_range


def walk_square(rates: Array) -> float:
    """Return the mean square of a weight after AdamW on dense gradient noise in exact arithmetic."""
    peak = float(rates.max(initial=0.0))
    return walk_factor(rates / peak) * float(rates @ rates) if peak > 0 else 0.0


def adamw_factors(run: ForeignRun, dtype: Dtype, steps: Collection[int], weights: SampledWeights) -> dict[int, Factor]:
    """Return by step what rounding does to AdamW's walk on noise, over every way of keeping weights that is left open.

    float16 is never trained in place: AdamW's second moments underflow there.

    Parameters
    ----------
    run
        Run of a gradient method, with its learning rates.

    Returns
    -------
    dict of int to Factor
        Factors on :func:`walk_square`, without steps before the first positive learning rate.
    """
    copies = (True,) if dtype == "float16" else run.copies
    looked = [step for step in steps if walk_square(run.rates[:step]) > 0]
    if not looked or max(looked) > MOST_EMULATED:
        raise DataError(f"rounding of {max(looked, default=0)} steps of AdamW is not emulated", "judge an earlier one")
    walks = [adamw_walks(weights, dtype, run.rates, looked, copy=copy) for copy in copies]
    factors = {}
    for step in looked:
        plain = walk_square(run.rates[:step])
        found = [(walk[step].variance / plain, STUDENT * walk[step].stderr / plain) for walk in walks]
        factors[step] = factor_range(found, max(3.0, *(walk[step].kurtosis for walk in walks)))
    return factors
