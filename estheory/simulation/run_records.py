"""What a simulation observed: the same records from every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from estheory._special import Array
from estheory.simulation.update_steps import batches

Progress = Callable[[int], None]
"""Called with the number of replica-steps done since the last call."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Observations of independent runs.

    Attributes
    ----------
    steps
        The recorded steps, in order; the first step is always among them. Their number is K.
    reward
        R - R* at the centre, shape (replicas, K), reward units.
    start_reward
        R - R* before the first step, reward units.
    gram
        Inner products of the displacements at the recorded steps, shape (replicas, K, K), weight^2.
    curved_gram
        The part of the curved directions in ``gram``, shape (replicas, K, K), weight^2.
    projection
        Delta . g_hat, g the gradient at the start, shape (replicas, K), weight units; NaN where the gradient is zero.
    curve_sum, curve_square_sum
        Sums over replicas of R - R* and of its square after 0..T steps, shape (1, T + 1).
    """

    steps: tuple[int, ...]
    reward: Array
    start_reward: float
    gram: Array
    curved_gram: Array
    projection: Array
    curve_sum: Array
    curve_square_sum: Array

    @property
    def replicas(self) -> int:
        """Number of independent runs."""
        return int(self.reward.shape[0])

    @property
    def flat_gram(self) -> Array:
        """The part of the flat directions in ``gram``, shape (replicas, K, K), weight^2."""
        return np.asarray(self.gram - self.curved_gram)

    @property
    def curve(self) -> tuple[Array, Array]:
        """Mean and standard deviation over replicas of R - R* after 0..T steps, each shape (T + 1,)."""
        mean = self.curve_sum[0] / self.replicas
        return mean, np.sqrt(np.maximum(self.curve_square_sum[0] / self.replicas - mean**2, 0.0))


def norms(gram: Array) -> Array:
    """Return the norms at the recorded steps."""
    return np.sqrt(np.maximum(np.diagonal(gram, axis1=1, axis2=2), 0.0))


def cosine(gram: Array, first: int, second: int) -> Array:
    """Return the cosine of the displacements at two records.

    `first`, `second`: positions of the records, 0 to K - 1.
    """
    norm = norms(gram)
    return ratio(gram[:, first, second], norm[:, first] * norm[:, second])


def ratio(part: Array, whole: Array) -> Array:
    """Return a ratio that is 0 where nothing moved (all members of every step equal)."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


class Method(Protocol):
    """A batch of replicas of any method that moves through the coordinates of a landscape.

    Attributes
    ----------
    replicas
        Number of runs in the batch.
    eigenvalue : ndarray, shape (r,)
        Of each curved direction (reward / weight^2).
    start : ndarray, shape (r,)
        theta - theta* of the curved directions before the first step (weight).
    displacement : ndarray, shape (replicas, dim)
        From the start, the curved directions first (weight).
    """

    replicas: int
    eigenvalue: Array
    start: Array
    displacement: Array

    @property
    def dim(self) -> int:
        """Number of directions."""

    def reward(self) -> Array:
        """Return R - R* at the centre."""

    def step(self) -> None:
        """Take one step in every replica."""


def record_run(method: Method, steps: tuple[int, ...], progress: Progress) -> Records:
    """Run a batch to the last of the recorded steps."""
    size, last = method.replicas, steps[-1]
    gradient = -method.start * method.eigenvalue
    length = float(np.linalg.norm(gradient))
    direction = gradient / length if length else np.full_like(gradient, np.nan)
    kept = np.empty((size, len(steps), method.dim))
    reward, curve = np.empty((size, len(steps))), np.empty((size, last + 1))
    curve[:, 0] = method.reward()
    for t in range(1, last + 1):
        method.step()
        curve[:, t] = method.reward()
        if t in steps:
            k = steps.index(t)
            kept[:, k], reward[:, k] = method.displacement, curve[:, t]
        progress(size)
    curved = kept[:, :, : method.eigenvalue.size]
    return Records(
        steps=steps,
        reward=reward,
        start_reward=float(curve[0, 0]),
        gram=np.matmul(kept, kept.transpose(0, 2, 1)),
        curved_gram=np.matmul(curved, curved.transpose(0, 2, 1)),
        projection=curved @ direction if length else np.full(reward.shape, np.nan),
        curve_sum=curve.sum(0, keepdims=True),
        curve_square_sum=np.square(curve).sum(0, keepdims=True),
    )


def in_batches(
    replicas: int, at_once: int, seed: int, run: Callable[[int, np.random.SeedSequence], Records]
) -> Records:
    """Run replicas in batches, each from its own branch of the tree of seeds, and return their records as one.

    `at_once`: largest number of runs in a batch, at least 1.
    `run`: makes a batch: from its number of runs and its seed to its records.
    """
    sizes = batches(replicas, at_once)
    children = np.random.SeedSequence(seed).spawn(len(sizes))
    return _joined([run(size, child) for size, child in zip(sizes, children, strict=True)])


def _joined(parts: Sequence[Records]) -> Records:
    """Return the records of several batches of replicas as one."""
    together = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Records)
        if field.name not in ("steps", "start_reward", "curve_sum", "curve_square_sum")
    }
    sums = {name: sum(getattr(part, name) for part in parts) for name in ("curve_sum", "curve_square_sum")}
    return Records(steps=parts[0].steps, start_reward=parts[0].start_reward, **together, **sums)
