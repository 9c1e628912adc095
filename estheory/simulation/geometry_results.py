"""What is measured of ES and gradient methods side by side: every method's end points, and what lies between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.gradient_runs import GradientRuns
from estheory.simulation.off_task import OffTaskCost

LINE = np.linspace(0.0, 1.0, 11)
"""Positions on the line from the ES end point to that of a gradient method."""
PROBES = np.linspace(0.0, 2.0, 11)
"""Distances along a normalised direction, over the distance from the start to the optimum."""
METHODS = ("sgd", "adamw", "grpo")


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodGeometry:
    """Where one method went, one value a replica unless said otherwise.

    Attributes
    ----------
    reward
        R - R* at the end, reward units, shape (replicas,).
    curve
        R - R* after 0..T steps, shape (replicas, T + 1).
    on_task_square, off_task_square
        ||Delta||^2 in the curved and in the flat directions, weight^2, shape (replicas,).
    kl, off_task_change
        Off-task cost, nat, and change of the other reward, shape (replicas,).
    gradient_cosine
        Of Delta with the gradient at the start, shape (replicas,).
    repeat_cosine, repeat_flat_cosine
        Of the displacements of two independent runs, whole and flat, shape (replicas // 2,).
    probe
        R - R* along the normalised displacement, at PROBES, shape (replicas, 11).
    """

    reward: Array
    curve: Array
    on_task_square: Array
    off_task_square: Array
    kl: Array
    off_task_change: Array
    gradient_cosine: Array
    repeat_cosine: Array
    repeat_flat_cosine: Array
    probe: Array

    @property
    def norm(self) -> Array:
        """||Delta||, weight units, shape (replicas,)."""
        return np.asarray(np.sqrt(self.on_task_square + self.off_task_square))


@dataclass(frozen=True, kw_only=True, eq=False)
class Between:
    """ES against one gradient method, replica by replica.

    Attributes
    ----------
    cosine, flat_cosine
        Of the displacements, whole and flat (NaN where the method does not move), shape (replicas,).
    line
        R - R* on the line from ES to the method, at LINE, shape (replicas, 11).
    """

    cosine: Array
    flat_cosine: Array
    line: Array

    @property
    def rise(self) -> Array:
        """Rise over the chord at LINE, reward units, shape (replicas, 11)."""
        return np.asarray(self.line - (1 - LINE) * self.line[:, :1] - LINE * self.line[:, -1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """All that was measured.

    Attributes
    ----------
    config, landscape
        The ES run.
    runs, off_task
        The gradient runs, and the other behaviour.
    methods
        Where each method went: ``es`` and METHODS.
    between
        ES against each of METHODS.
    random_probe
        R - R* at PROBES along random directions, shape (replicas, 11).
    """

    config: ESConfig
    landscape: Landscape
    runs: GradientRuns
    off_task: OffTaskCost
    methods: dict[str, MethodGeometry]
    between: dict[str, Between]
    random_probe: Array

    @property
    def replicas(self) -> int:
        """Number of runs of each method."""
        return int(self.random_probe.shape[0])


def cosines(one: Array, two: Array) -> Array:
    """Return the cosine of each pair of rows."""
    length = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    product = np.sum(one * two, axis=1)
    return np.asarray(np.divide(product, length, out=np.full(length.shape, np.nan), where=length > 0))


def rewards_along(eigenvalue: Array, origin: Array, direction: Array, at: Array) -> Array:
    """Return the quadratic at points of a line in each replica.

    `eigenvalue`: of the curved coordinates, shape (r,), reward / weight^2.
    Result: shape (replicas, n), R - R* at origin + x direction, reward units.
    """
    return np.stack([-0.5 * np.square(origin + x * direction) @ eigenvalue for x in at], axis=1)
