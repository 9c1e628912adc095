"""The gradient runs that ES is compared with: their rates and the noise of their estimators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import require_count, require_positive
from estheory.simulation.gradient import Descent
from estheory.simulation.gradient_estimators import GroupAdvantage
from estheory.theory.adamw import Schedule


@dataclass(frozen=True, kw_only=True)
class GradientRuns:
    """The gradient runs that ES is compared with; each of them takes ``steps`` steps.

    Attributes
    ----------
    steps
        T.
    sgd_lr
        Constant learning rate of SGD, weight^2 / reward; its noise has covariance c Lam.
    adamw_lr, schedule
        Peak learning rate, weight, and schedule of AdamW and of the GRPO-like method.
    aligned, dense
        Noise c of SGD, reward units, and that of AdamW in every coordinate, reward / weight.
    group
        The GRPO-like estimator.
    """

    steps: int
    sgd_lr: float
    adamw_lr: float
    schedule: Schedule
    aligned: float
    dense: float
    group: GroupAdvantage


def default_runs(
    landscape: Landscape,
    *,
    lr: float | None = None,
    steps: float = 80,
    schedule: Schedule = "linear",
    noise: float = 0.1,
) -> GradientRuns:
    """Return gradient runs that reach the optimum of the sharp directions.

    SGD at half the inverse of the largest eigenvalue. Both estimators' noise is, over all coordinates, ``noise`` times
    the gradient at the start.

    `lr`: peak learning rate of AdamW and the GRPO-like method (weight); None: one whose steps add up to twice the
    largest offset.
    `noise`: norm of the noise of a gradient over that of the gradient at the start.
    """
    require_count("grpo-steps", steps, 1)
    steps = int(steps)
    if not landscape.gradient_norm:
        raise ConfigError("the reward has no gradient at the start", "give a landscape with curvature and offsets")
    if lr is None:
        reach = float(np.sum(Descent(lr=1.0, steps=steps, schedule=schedule).rates(landscape)))
        lr = 2.0 * float(np.max(landscape.offset[landscape.eigenvalue > 0])) / reach
    require_positive("grpo-lr", lr)
    total = (noise * landscape.gradient_norm) ** 2
    return GradientRuns(
        steps=steps,
        sgd_lr=0.5 / float(np.max(landscape.eigenvalue)),
        adamw_lr=lr,
        schedule=schedule,
        aligned=total / landscape.trace,
        dense=math.sqrt(total / landscape.dim),
        group=GroupAdvantage(),
    )
