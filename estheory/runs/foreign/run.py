"""What a run directory of other people's code tells, whatever the code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from estheory.quantities import Measurement
from estheory.rules import Arithmetic, Dtype, UpdatePath

Array = NDArray[np.float64]
Format = Literal["ESvsGRPO ES", "ESvsGRPO GRPO", "es-awd", "es-at-scale", "TRL", "verl"]

BY_COEFFICIENTS = "conditioned on the logged coefficients: v = (alpha^2/N^2) sum z^2"
BY_REWARDS = "conditioned on the logged reward spreads: a step of equal rewards moves nothing"
BY_HYPERPARAMETERS = "no step with equal rewards (nothing is logged of them)"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller says of a run whose directory does not; None: nothing. It wins over the directory.

    Attributes
    ----------
    alpha, sigma
        Step size and perturbation scale (weight).
    population
        Members a step, N.
    update_path
        How updates are added to 16-bit weights.
    restore_pairs
        Members a step that were perturbed and restored on the copy that is updated.
    """

    alpha: float | None = None
    population: int | None = None
    sigma: float | None = None
    update_path: UpdatePath | None = None
    restore_pairs: int | None = None


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """One way in which the code may have changed weights in place; rounding depends on it.

    Attributes
    ----------
    update_path
        ``sequential``: member by member; ``accumulated``: once a step.
    arithmetic
        Whose operations (:data:`estheory.rules.Arithmetic`).
    restore_pairs
        Members a step that were perturbed and restored on the copy that is updated.
    """

    update_path: UpdatePath
    arithmetic: Arithmetic = "rounded"
    restore_pairs: int = 0

    def __str__(self) -> str:
        return f"{self.update_path}, {self.restore_pairs} restores a step"


@dataclass(frozen=True, kw_only=True)
class ForeignRun:
    """What a foreign run directory tells.

    Attributes
    ----------
    path, format
        The folder, and whose code wrote it.
    base
        The base weights inside the folder; None if it has none.
    checkpoints
        Files or folders of weights by the number of steps behind them, in order.
    increments : ndarray, shape (T,)
        Variance that each ES step added to a flat coordinate (weight^2); empty for gradient methods.
    weights : ndarray, shape (T, m), or None
        The weights of each step's m noise vectors (alpha z / N), where they are logged.
    population
        Noise vectors a step, where they are not.
    condition
        What the increments are conditioned on, as an assumption.
    keep
        1 - kappa of an L2 anchor that also pulls the new step; 1 without an anchor.
    pull
        Pull of an L1 anchor each step (weight); variances are without it.
    rates : ndarray, shape (T,)
        Learning rate of each step of a gradient method (weight); empty for ES.
    copies
        Whether AdamW keeps float32 weights beside those in 16 bits: every way that the folder leaves open.
    logged_norms
        Logged displacement norms by step, each with the number of entries it counts.
    logged_layers
        Logged norms of layers, by step and name of the layer.
    dtype
        How the log says that weights were stored; checkpoints tell it themselves.
    sigma
        Perturbation scale; None where it is not logged or not the same throughout.
    mirrored
        Whether each noise vector was also tried with the other sign.
    implementations
        How the code may have rounded: every way that the folder leaves open.
    uncounted
        Steps by which the number of steps is uncertain.
    shown
        Measured by the run itself, not predicted; each with the reason.
    unjudged
        What the theory cannot judge here and why, one line each.
    """

    path: Path
    format: Format
    base: Path | None = None
    checkpoints: Mapping[int, Path] = field(default_factory=dict)
    increments: Array = field(default_factory=lambda: np.zeros(0))
    weights: Array | None = None
    population: int = 0
    condition: str = ""
    keep: float = 1.0
    pull: float = 0.0
    rates: Array = field(default_factory=lambda: np.zeros(0))
    copies: tuple[bool, ...] = (False, True)
    logged_norms: Mapping[int, tuple[float, int]] = field(default_factory=dict)
    logged_layers: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    dtype: Dtype = "float32"
    sigma: float | None = None
    mirrored: bool = False
    implementations: tuple[Implementation, ...] = ()
    uncounted: int = 0
    shown: tuple[Shown, ...] = ()
    unjudged: tuple[str, ...] = ()

    @property
    def variances(self) -> Array:
        """Variance of a flat coordinate after 0, 1, ..., T steps (weight^2), shape (T + 1,)."""
        values = np.zeros(len(self.increments) + 1)
        for step, increment in enumerate(self.increments, start=1):
            values[step] = self.keep**2 * (values[step - 1] + increment)
        return values


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A measurement that a log holds and the theory does not predict, and why not.

    Attributes
    ----------
    measurement
        The figure.
    reason
        Why nothing predicts it.
    """

    measurement: Measurement
    reason: str

    @property
    def quantity(self) -> str:
        """What was measured."""
        return str(self.measurement.quantity)

    @property
    def step(self) -> int | None:
        """The training step; None where none is known."""
        return self.measurement.step

    @property
    def where(self) -> str:
        """The run and the task."""
        return f"{self.measurement.source}, {self.measurement.where}"

    @property
    def value(self) -> float:
        """In the unit of the quantity."""
        return self.measurement.value


def served(members: int, engines: int) -> range:
    """Return how many members the first of some engines may have served, when whichever is free takes the next.

    Returns
    -------
    range
        From one fewer than an equal share to one more.
    """
    share = members / max(engines, 1)
    return range(max(0, math.floor(share) - 1), math.ceil(share) + 2)
