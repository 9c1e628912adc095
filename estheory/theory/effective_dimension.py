"""How many independent coordinates noise has whose coordinates are not independent (docs/concepts/walk.md)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Shapes = Sequence[tuple[int, ...]]


def tensors_by_size(shapes: Shapes) -> Counter[int]:
    """Return how many tensors there are of each element count: those of one count share a re-seeded noise.

    Parameters
    ----------
    shapes
        Tensor shapes.

    Returns
    -------
    Counter
        Number of tensors by element count.
    """
    return Counter(math.prod(shape) for shape in shapes)


def low_rank_dimension(shapes: Shapes, rank: int, fourth_moment: float, terms: float) -> float:
    """Return the effective number of independent coordinates of a walk with noise A B' / sqrt(rank) per matrix.

    From Var ||E||^2 = (2mn/rank)(m + n + rank + 1) for one m x n factor pair; vectors get Gaussian noise.

    Parameters
    ----------
    shapes
        Tensor shapes.
    rank
        Rank of the factors.
    fourth_moment
        Of the weights, see :class:`estheory.theory.estimators.estimator.StepVariance`.
    terms
        Number of members added up, N T for the plain walk.

    Returns
    -------
    float
        2 (E||Delta||^2)^2 / Var ||Delta||^2, at most the number of coordinates.

    Notes
    -----
    Label: exact, for the variance of the squared norm. Source: ours: docs/concepts/walk.md.
    """
    total = variance = 0.0
    for shape in shapes:
        n = float(math.prod(shape))
        total += n
        variance += 2 * n
        if len(shape) >= 2:
            rows, columns = float(shape[0]), n / shape[0]
            variance += fourth_moment / terms * 2 * n * ((rows + columns + rank + 1) / rank - 1)
    return 2 * total**2 / variance


def shared_seed_dimension(shapes: Shapes) -> float:
    """Return the effective number of independent coordinates where tensors of equal count share their noise.

    (sum m n)^2 / sum m^2 n for m tensors of each element count n: (tr C)^2 / tr(C^2) of the covariance C of the noise.

    Parameters
    ----------
    shapes
        Tensor shapes.

    Returns
    -------
    float
        At most the number of coordinates.

    Notes
    -----
    Label: exact, for the variance of the squared norm. Source: ours: docs/concepts/walk.md.

    Examples
    --------
    >>> shared_seed_dimension([(20,), (4, 5), (30,)])
    44.54545454545455
    """
    counts = tensors_by_size(shapes)
    return sum(m * n for n, m in counts.items()) ** 2 / sum(m * m * n for n, m in counts.items())
