"""Another behaviour beside the task, which flat directions move: what a displacement does to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import require_positive
from estheory.simulation.coordinates import flat_dimensions


@dataclass(frozen=True, kw_only=True)
class OffTaskCost:
    """Another behaviour, seen by flat directions alone: 1/2 Delta' F Delta nats, and a reward g.Delta - the same.

    Attributes
    ----------
    directions
        m: F is f on so many flat coordinates and 0 elsewhere, so that (tr F)^2 / tr F^2 = m.
    trace
        tr F = m f, nat (or reward) per weight^2.
    gradient_norm
        ||g_off||, spread evenly over the flat coordinates that F leaves free (over all where it leaves none).
    """

    directions: int
    trace: float
    gradient_norm: float

    @property
    def square_trace(self) -> float:
        """Tr F^2."""
        return self.trace**2 / self.directions

    def cost(self, flat: Array) -> tuple[Array, Array]:
        """Return what displacements do to the other behaviour.

        `flat`: displacements of the flat coordinates, shape (replicas, n), weight.
        """
        quadratic = 0.5 * self.trace / self.directions * np.sum(np.square(flat[:, : self.directions]), axis=1)
        free = flat[:, self.directions :] if flat.shape[1] > self.directions else flat
        return quadratic, self.gradient_norm * free.sum(axis=1) / math.sqrt(free.shape[1]) - quadratic


def off_task_cost(
    landscape: Landscape,
    *,
    trace: float | None = None,
    square_trace: float | None = None,
    gradient_norm: float | None = None,
) -> OffTaskCost:
    """Return the off-task behaviour of a landscape; what is not known is like the task itself, in flat directions.

    `trace`: tr F; None: the landscape's Fisher trace, else tr Lam.
    `square_trace`: tr F^2, from which m follows; None: the landscape's, else m is a tenth of the flat directions.
    """
    flat = flat_dimensions(landscape)
    if flat < 2:
        raise ConfigError("there are no flat directions", "raise dim above the number of curved directions")
    given = trace, landscape.fisher_trace, landscape.trace
    trace = next(value for value in given if value is not None)
    require_positive("fisher-trace", trace)
    square_trace = landscape.fisher_square_trace if square_trace is None else square_trace
    directions = max(1, flat // 10)
    if square_trace is not None:
        require_positive("fisher-square-trace", square_trace)
        directions = max(1, round(trace**2 / square_trace))
    if directions > flat:
        raise ConfigError(f"tr F^2 makes {directions} directions of {flat} flat ones", "raise fisher-square-trace")
    steepness = gradient_norm, landscape.off_task_gradient_norm, landscape.gradient_norm
    return OffTaskCost(
        directions=directions, trace=trace, gradient_norm=next(value for value in steepness if value is not None)
    )
