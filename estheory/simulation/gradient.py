"""Gradient methods on the landscape of ES, in every coordinate: SGD, AdamW and a GRPO-like estimator.

Coordinates are the landscape's own directions, the curved ones first; AdamW, which is not invariant to rotation,
normalises along them. The estimators of the gradient (:mod:`estheory.simulation.gradient_estimators`) are drawn exactly
in law at O(1) normals a coordinate and step, whatever the number of outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from estheory._special import Array, normal_quantile
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import require_choice, require_count, require_positive, require_seed
from estheory.simulation.coordinates import curved_coordinates
from estheory.simulation.gradient_estimators import GroupAdvantage, NoisyGradient, advantages
from estheory.simulation.run_records import Progress, Records, in_batches, record_run
from estheory.simulation.update_steps import require_memory
from estheory.theory.adamw import Schedule, learning_rates

Optimiser = Literal["sgd", "adamw"]
BATCH_COORDINATES = 1 << 20
"""Coordinates of all replicas of a batch together (8 MB an array)."""
BETA1, BETA2, EPS = 0.9, 0.999, 1e-30
"""AdamW's; eps only keeps a coordinate without gradient where it is, as theory takes it for negligible."""


class GradientDescent:
    """A batch of replicas of a gradient method on a quadratic.

    `landscape`: its offsets are those of the start; s is its ``reward_std``.
    `estimator`: how gradients are estimated.
    `rates`: learning rate of each step, shape (T,): weight^2 / reward for SGD, weight for AdamW.
    `optimiser`: ``sgd``: theta + lr g. ``adamw``: betas 0.9 and 0.999, no weight decay.
    `replicas`: number of runs in the batch.
    `rng`: source of everything random.
    """

    def __init__(
        self,
        landscape: Landscape,
        estimator: NoisyGradient | GroupAdvantage,
        rates: Array,
        optimiser: Optimiser,
        replicas: int,
        rng: np.random.Generator,
    ) -> None:
        self.landscape, self.estimator, self.rates, self.optimiser = landscape, estimator, rates, optimiser
        self.replicas, self.rng = replicas, rng
        self.eigenvalue, self.start = curved_coordinates(landscape)
        self.displacement = np.zeros((replicas, landscape.dim))
        self.moments = np.zeros((2, *self.displacement.shape)) if optimiser == "adamw" else None
        self.taken = 0
        if isinstance(estimator, GroupAdvantage):
            spread = math.hypot(landscape.gradient_norm / estimator.score_std, landscape.reward_std)
            if spread == 0:
                raise ConfigError("all outcomes are equally good", "give a reward-std, or a landscape with curvature")
            self.threshold = -landscape.gap - spread * normal_quantile(estimator.success)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self.landscape.dim

    @property
    def distance(self) -> Array:
        """Distance theta - theta* of the curved coordinates, shape (replicas, r), weight units."""
        return self.start + self.displacement[:, : self.eigenvalue.size]

    def reward(self) -> Array:
        """Return R - R* at the centre."""
        return np.asarray(-0.5 * np.square(self.distance) @ self.eigenvalue)

    def gradient(self) -> Array:
        """Return an estimate of the gradient of every replica."""
        exact = -self.eigenvalue * self.distance
        if isinstance(self.estimator, GroupAdvantage):
            return self._policy_gradient(self.estimator, exact)
        found = np.zeros_like(self.displacement)
        if self.estimator.dense:
            self.rng.standard_normal(out=found)
            found *= self.estimator.dense
        found[:, : exact.shape[1]] += exact
        if self.estimator.aligned:
            noise = self.rng.standard_normal(exact.shape)
            found[:, : exact.shape[1]] += np.sqrt(self.estimator.aligned * self.eigenvalue) * noise
        return found

    def _policy_gradient(self, group: GroupAdvantage, exact: Array) -> Array:
        """Return the estimate: along g from the outcomes, across it Gaussian given the advantages.

        psi = sqrt(f) (x g_hat + y) with x ~ N(0, 1) and y independent of the rewards, so the sum of A_k y_k is
        N(0, sum A_k^2) in every direction across g.
        """
        shape, n = (self.replicas, group.groups, group.samples), group.groups * group.samples
        length = np.linalg.norm(exact, axis=1)
        along = self.rng.standard_normal(shape)
        quality = self.reward()[:, None, None] + (length / group.score_std)[:, None, None] * along
        quality += self.landscape.reward_std * self.rng.standard_normal(shape)
        advantage = advantages((quality > self.threshold).astype(np.float64))
        found = self.rng.standard_normal(self.displacement.shape)
        found *= np.sqrt(np.sum(np.square(advantage), axis=(1, 2)))[:, None]
        direction = np.divide(exact, length[:, None], out=np.zeros_like(exact), where=length[:, None] > 0)
        part = found[:, : exact.shape[1]]
        forward = np.sum(advantage * along, axis=(1, 2)) - np.sum(part * direction, axis=1)
        part += np.where(length > 0, forward, 0.0)[:, None] * direction
        found *= group.score_std / n
        return found

    def step(self) -> None:
        """Take one step uphill in every replica."""
        gradient, rate = self.gradient(), float(self.rates[self.taken])
        self.taken += 1
        if self.moments is None:
            self.displacement = self.displacement + rate * gradient
            return
        first, second = self.moments
        first *= BETA1
        first += (1 - BETA1) * gradient
        second *= BETA2
        second += (1 - BETA2) * np.square(gradient)
        root = np.sqrt(second / (1 - BETA2**self.taken))
        self.displacement = self.displacement + rate / (1 - BETA1**self.taken) * first / (root + EPS)


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How a gradient method takes its steps.

    Attributes
    ----------
    lr
        Peak learning rate: weight^2 / reward for SGD, weight for AdamW.
    steps
        T.
    optimiser
        As of `GradientDescent`.
    schedule
        ``constant``, or ``linear`` or ``cosine`` decay to 0.
    """

    lr: float
    steps: int
    optimiser: Optimiser = "adamw"
    schedule: Schedule = "constant"

    def rates(self, landscape: Landscape) -> Array:
        """Return the learning rate of each step, shape (T,); refuse those at which SGD diverges."""
        require_choice("optimiser", self.optimiser, get_args(Optimiser))
        require_positive("lr", self.lr)
        worst = self.lr * float(np.max(landscape.eigenvalue))
        if self.optimiser == "sgd" and worst >= 2:
            raise ConfigError(f"lr lam = {worst:.3g} >= 2: SGD diverges", f"use lr below {2 * self.lr / worst:.3g}")
        return self.lr * learning_rates(self.steps, self.schedule)


def gradient_descent(
    landscape: Landscape,
    estimator: NoisyGradient | GroupAdvantage,
    rule: Descent,
    *,
    record: Sequence[int] = (),
    replicas: int = 200,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Records:
    """Run a gradient method many times on a quadratic landscape, in every coordinate.

    `record`: when to record, at most T; T when empty. The first step is recorded too.
    Result: as of ES; sums over a batch of replicas at a time, so that memory does not grow with ``replicas``.

    Examples
    --------
    >>> from estheory.simulation.gradient_estimators import NoisyGradient
    >>> land = Landscape(dim=50, eigenvalue=[2.0], multiplicity=[5], offset=[0.3])
    >>> rule = Descent(lr=0.1, steps=20, optimiser="sgd")
    >>> runs = gradient_descent(land, NoisyGradient(aligned=1.0), rule, replicas=10)
    >>> float(abs(runs.flat_gram).max())
    0.0
    """
    rates, steps = rule.rates(landscape), rule.steps
    require_count("replicas", replicas, 1)
    require_seed(seed)
    for step in record:
        require_count("record", step, 1)
    recorded = tuple(sorted({1, *(record or [steps])}))
    if recorded[-1] > steps:
        raise ConfigError(f"step {recorded[-1]} is beyond the {steps} of the run", "record at most the last step")
    require_memory("gradient descent", 8.0 * landscape.dim * (len(recorded) + 8))

    def run(size: int, child: np.random.SeedSequence) -> Records:
        rng = np.random.Generator(np.random.SFC64(child))
        return record_run(GradientDescent(landscape, estimator, rates, rule.optimiser, size, rng), recorded, progress)

    return in_batches(replicas, max(1, BATCH_COORDINATES // landscape.dim), seed, run)
