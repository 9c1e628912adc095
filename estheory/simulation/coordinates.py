"""How the rows of a landscape become coordinates: the curved ones, the flat ones, and the directions of the offsets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from estheory._special import Array
from estheory.landscape import Landscape


def curved_rows(landscape: Landscape) -> tuple[Array, Array, Array]:
    """Return eigenvalue, multiplicity and offset of the rows that have curvature."""
    curved = (landscape.eigenvalue > 0) & (landscape.multiplicity > 0)
    return landscape.eigenvalue[curved], landscape.multiplicity[curved], landscape.offset[curved]


def with_explicit_rows(landscape: Landscape) -> Landscape:
    """Return the same landscape, rotated so that the offset of each curved row is one direction.

    Result: its first k rows are those directions, of multiplicity 1 and the whole offset; what they leave follows, at
    offset 0.
    """
    lam, count, offset = curved_rows(landscape)
    if lam.size == 0:
        return landscape
    more = count > 1
    return replace(
        landscape,
        eigenvalue=np.concatenate([lam, lam[more]]),
        multiplicity=np.concatenate([np.ones(lam.size), count[more] - 1]),
        offset=np.concatenate([offset * np.sqrt(count), np.zeros(int(more.sum()))]),
    )


def curved_coordinates(landscape: Landscape) -> tuple[Array, Array]:
    """Return eigenvalue and start theta - theta* of each curved direction.

    Result: shape (r,), eigenvalues (reward / weight^2) and starts (weight), r the number of curved directions.
    """
    eigenvalue, multiplicity, offset = curved_rows(landscape)
    count = multiplicity.astype(np.int64)
    return np.repeat(eigenvalue, count), -np.repeat(offset, count)


def flat_dimensions(landscape: Landscape) -> int:
    """Return the number of directions without curvature.

    `landscape`: its rows of eigenvalue 0, and all that its rows leave of ``dim``.
    """
    return landscape.dim - int(curved_rows(landscape)[1].sum())
