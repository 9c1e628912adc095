"""From the rewards of a step's evaluations to the weights of its noise vectors. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from estheory.rules import Shaping
from estheory.runs.config import ESRunConfig


def direction_of(config: ESRunConfig, evaluation: int) -> tuple[int, float]:
    """Return the noise vector that an evaluation uses."""
    if not config.paired:
        return evaluation, 1.0
    return evaluation // 2, -1.0 if evaluation % 2 else 1.0


def coefficients(rewards: Sequence[float], shaping: Shaping = "zscore", sigma: float = 1.0) -> list[float]:
    """Shape the rewards of a step.

    Parameters
    ----------
    rewards
        One a member; for ``two-point`` R+ and R- of each direction in turn.
    shaping
        ``zscore``: (R - mean R) / std R with the population standard deviation. ``centered-rank``: rank/(N-1) - 1/2,
        equal rewards sharing their mean rank. ``raw``: (R - mean R) / sigma. ``two-point``: (R+ - R-) / (2 sigma).

    Returns
    -------
    list of float
        One a member; for ``two-point`` one a direction. All 0 where all rewards are equal.

    Examples
    --------
    >>> coefficients([0.0, 1.0, 1.0, 2.0])
    [-1.414213562373095, 0.0, 0.0, 1.414213562373095]
    >>> coefficients([0.0, 1.0, 1.0, 2.0], "centered-rank")
    [-0.5, 0.0, 0.0, 0.5]
    """
    values = np.asarray(rewards, dtype=np.float64)
    if shaping == "two-point":
        shaped = (values[0::2] - values[1::2]) / (2 * sigma)
    elif values.min() == values.max():
        shaped = np.zeros_like(values)
    elif shaping == "centered-rank":
        below = (values[:, None] > values).sum(axis=1)
        equal = (values[:, None] == values).sum(axis=1)
        shaped = (below + (equal - 1) / 2) / (len(values) - 1) - 0.5
    else:
        shaped = (values - values.mean()) / (values.std() if shaping == "zscore" else sigma)
    return [float(value) for value in shaped]


def noise_weights(config: ESRunConfig, shaped: Sequence[float]) -> list[float]:
    """Return w of the update (alpha / N) sum_k w_k eps_k.

    Returns
    -------
    list of float
        The coefficients, or z+ - z- of antithetic pairs.
    """
    if not config.antithetic:
        return list(shaped)
    return [plus - minus for plus, minus in zip(shaped[0::2], shaped[1::2], strict=True)]
