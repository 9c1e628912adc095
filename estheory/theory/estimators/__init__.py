"""The kinds of estimators, one class per kind: z-scores, centred ranks, raw rewards, two-point, mirrored pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from estheory.rules import ESConfig, Shaping
from estheory.theory.estimators.estimator import Estimator
from estheory.theory.estimators.pairs import MirroredPairs
from estheory.theory.estimators.ranks import CentredRanks
from estheory.theory.estimators.raw import RawRewards
from estheory.theory.estimators.two_point import TwoPoint
from estheory.theory.estimators.zscores import ZScores

__all__ = ["CentredRanks", "Estimator", "MirroredPairs", "RawRewards", "TwoPoint", "ZScores", "estimator_of", "kind_of"]

KINDS: Final[Mapping[Shaping, type[Estimator]]] = {
    "zscore": ZScores,
    "centered-rank": CentredRanks,
    "raw": RawRewards,
    "two-point": TwoPoint,
}
"""Of independent members, or as the shaping itself says."""


def kind_of(shaping: Shaping, antithetic: bool = False) -> type[Estimator]:
    """Return the kind of estimator that two settings name, where nothing else of the run need be known.

    Parameters
    ----------
    shaping
        How rewards become weights of independent members.
    antithetic
        Whether the members are mirrored pairs, which is a kind of its own.

    Returns
    -------
    type
        Its class.

    Notes
    -----
    No label: a declared choice of the configuration.

    Examples
    --------
    >>> kind_of("two-point").evaluations_per_member
    2
    """
    return MirroredPairs if antithetic else KINDS[shaping]


def estimator_of(config: ESConfig) -> Estimator:
    """Return the estimator of a run.

    Parameters
    ----------
    config
        The run; shaping, antithetic, population, sigma and alpha enter.

    Returns
    -------
    Estimator
        Of its kind.

    Notes
    -----
    No label: a declared choice of the configuration.

    Examples
    --------
    >>> import numpy as np
    >>> run = ESConfig(dim=10, sigma=0.1, population=4, shaping="centered-rank")
    >>> estimator_of(run).shape(np.array([0.0, 1.0, 1.0, 2.0])).tolist()
    [-0.5, 0.0, 0.0, 0.5]
    """
    kind = kind_of(config.shaping, config.antithetic)
    return kind(population=config.population, sigma=config.sigma, alpha=config.step_size)
