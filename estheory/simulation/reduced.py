"""Evolution strategies without the coordinates: the same law at any dimension (docs/how-to/simulate.md).

Directions of one eigenvalue enter the rewards only through the inner product of a member's noise with the block's
state and through its length: u along the state and y across it, |y|^2 = g^2 + chi^2. Given those lengths and the
weights w, the directions of the y are independent and uniform, so with g the component along the partial sum of the
earlier members the length of the sum follows s^2 <- s^2 + w^2 |y|^2 + 2 s w g, and its direction is uniform across
the state. The state itself is kept along a few axes (the start, and the displacement at each record) and the length
of the rest. Flat directions cost nothing a step: given the weights, their displacements at the records are Gaussian
with known covariance.

Exact in law for Gaussian noise, every shaping, antithetic pairs and the L2 anchor, with momentum where all is flat.
O(N) a block and step, whatever the multiplicity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.coordinates import curved_rows, flat_dimensions, with_explicit_rows
from estheory.simulation.flat import flat_gram
from estheory.simulation.rewards import Reward, evaluation
from estheory.simulation.run_records import Progress, Records, in_batches
from estheory.simulation.update_steps import (
    MEMBER_NUMBERS,
    checked_steps,
    require_memory,
    step_weights,
)
from estheory.theory.estimators import estimator_of

BATCH_NORMALS = 1 << 20
"""Normals of one step that a batch of replicas draws together (8 MB)."""
EXPLICIT_EXTRA = 3
"""Rows of at most so many directions more than there are records are followed coordinate by coordinate."""


def unsupported(config: ESConfig, landscape: Landscape) -> str | None:
    """Return what keeps the reduced engine from simulating a run exactly."""
    if config.anchor_l1:
        return "an L1 anchor is not invariant to rotation"
    if config.momentum and landscape.trace > 0:
        return "momentum on a curved landscape has a second state a block"
    return None


class ReducedES:
    """A batch of replicas of ES on a quadratic, exact in law.

    `config`, `landscape`: the run.
    `replicas`: number of runs in the batch.
    `records`: number of records, each of which adds an axis to every block.
    `rng`: source of everything random.
    `reward_form`: a reward other than the quadratic; if it is explicit, ``landscape`` has its explicit rows first.
    `explicit`: number of those rows.
    """

    def __init__(
        self,
        config: ESConfig,
        landscape: Landscape,
        replicas: int,
        records: int,
        rng: np.random.Generator,
        reward_form: Reward | None = None,
        explicit: int = 0,
    ) -> None:
        self.form, self.explicit = reward_form, explicit
        self.config, self.landscape, self.rng = config, landscape, rng
        lam, count, offset, whole = blocks(landscape, records)
        repeats = count[whole].astype(np.int64)
        self.eigenvalue = np.repeat(lam[whole], repeats)
        self.start = -np.repeat(offset[whole], repeats)
        self.distance = np.tile(self.start, (replicas, 1))  # theta - theta* of single directions, (replicas, r)
        self.block_eigenvalue, self.block_dim = lam[~whole], count[~whole]
        self.block_start = -offset[~whole] * np.sqrt(self.block_dim)  # along each block's first axis
        self.axes = np.tile(self.block_start[:, None], (replicas, 1, 1))  # the blocks' state, (replicas, blocks, axes)
        self.rest = np.zeros((replicas, self.block_dim.size))

    def reward(self) -> Array:
        """Return R - R* at the centre."""
        quadratic = self._quadratic()
        if self.form is None:
            return quadratic
        return np.asarray(self.form.mean(quadratic, self.distance[:, : self.explicit]) - self.form.optimum)

    def _quadratic(self) -> Array:
        block_square = np.sum(np.square(self.axes), axis=2) + np.square(self.rest)
        return np.asarray(-0.5 * (np.square(self.distance) @ self.eigenvalue + block_square @ self.block_eigenvalue))

    def step(self) -> Array:
        """Take one step in every replica; return the sum of the squared weights.

        Result: shape (replicas,), weight^2: what the step adds to the variance of a flat coordinate.
        """
        config, rng, sigma = self.config, self.rng, self.config.sigma
        shape = self.distance.shape[0], estimator_of(config).directions
        eps = rng.standard_normal((*shape, self.eigenvalue.size))
        linear = np.matmul(eps, (self.distance * self.eigenvalue)[:, :, None])[:, :, 0]
        even = np.square(eps) @ self.eigenvalue
        if self.block_dim.size:
            along = rng.standard_normal((*shape, self.block_dim.size))
            across = rng.standard_normal(along.shape)
            square = np.square(across) + rng.chisquare(self.block_dim - 2.0, along.shape)
            length = np.sqrt(np.sum(np.square(self.axes), axis=2) + np.square(self.rest))
            linear += np.matmul(along, (length * self.block_eigenvalue)[:, :, None])[:, :, 0]
            even += (np.square(along) + square) @ self.block_eigenvalue
        evaluate = None
        if self.form is not None:
            position, shift = self.distance[:, : self.explicit], eps[:, :, : self.explicit]
            evaluate = evaluation(self.form, config, self._quadratic(), position, shift, rng)
        std = self.landscape.reward_std
        weights = step_weights(config, -sigma * linear, -0.5 * sigma**2 * even, std, rng, evaluate)
        keep = 1.0 - config.anchor_l2
        new = keep if config.anchor_form == "after" else 1.0
        update = np.matmul(weights[:, None, :], eps)[:, 0, :]
        self.distance = self.start + keep * (self.distance - self.start) + new * update
        if self.block_dim.size:
            total = np.zeros_like(self.rest)
            for i in range(shape[1]):
                w = weights[:, i, None]
                total += w * (w * square[:, i] + 2.0 * np.sqrt(total) * across[:, i])
                np.maximum(total, 0.0, out=total)  # rounding may leave -1e-16
            self._move(keep, new, np.matmul(weights[:, None, :], along)[:, 0, :], np.sqrt(total), length)
        return np.asarray(np.square(weights).sum(1))

    def _move(self, keep: float, new: float, forward: Array, sideways: Array, length: Array) -> None:
        """Move the blocks by ``forward`` along their state of ``length`` and ``sideways`` in a uniform direction.

        Shapes (replicas, blocks). A state of length zero has no direction: the rest's axis serves as one.
        """
        state = np.concatenate([self.axes, self.rest[:, :, None]], axis=2)
        direction = np.zeros_like(state)
        direction[:, :, -1] = 1.0
        np.divide(state, length[:, :, None], out=direction, where=length[:, :, None] > 0)
        side = self.rng.standard_normal(state.shape)
        side -= np.sum(side * direction, axis=2, keepdims=True) * direction
        outside = self.rng.chisquare(self.block_dim - state.shape[2], self.rest.shape)
        sideways = sideways / np.sqrt(np.sum(np.square(side), axis=2) + outside)
        state *= keep
        state[:, :, 0] += (1.0 - keep) * self.block_start
        state += new * (forward[:, :, None] * direction + sideways[:, :, None] * side)
        self.axes = state[:, :, :-1]
        self.rest = np.hypot(state[:, :, -1], new * sideways * np.sqrt(outside))

    def record(self) -> tuple[Array, Array]:
        """Make the rest of each block an axis; return the displacements of what is curved.

        Result: shape (replicas, r) and (replicas, blocks, axes), of single directions, and of blocks along their axes
        (weight).
        """
        self.axes = np.concatenate([self.axes, self.rest[:, :, None]], axis=2)
        self.rest = np.zeros_like(self.rest)
        moved = self.axes.copy()
        moved[:, :, 0] -= self.block_start
        return self.distance - self.start, moved


def blocks(
    landscape: Landscape, records: int
) -> tuple[Array, Array, Array, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return the curved rows, and which of them are followed direction by direction.

    `records`: their number: a row of at most EXPLICIT_EXTRA more directions is followed one by one.
    Result: shape (k,), eigenvalue, multiplicity, offset, and whether each direction is followed.
    """
    lam, count, offset = curved_rows(landscape)
    return lam, count, offset, count <= records + EXPLICIT_EXTRA


def _run(es: ReducedES, steps: tuple[int, ...], progress: Progress) -> Records:
    size, last = es.distance.shape[0], steps[-1]
    curve, squares = np.empty((size, last + 1)), np.empty((size, last))
    curve[:, 0] = es.reward()
    kept: list[tuple[Array, Array]] = []
    for t in range(1, last + 1):
        squares[:, t - 1] = es.step()
        curve[:, t] = es.reward()
        if t in steps:
            kept.append(es.record())
        progress(size)
    flat = flat_dimensions(es.landscape)
    shape = size, len(steps), len(steps)
    curved = np.empty(shape)
    for a, (single, block) in enumerate(kept):
        for b, (late_single, late_block) in enumerate(kept[a:], start=a):
            product = np.sum(single * late_single, axis=1)
            product += np.sum(block * late_block[:, :, : block.shape[2]], axis=(1, 2))
            curved[:, a, b] = curved[:, b, a] = product
    gradient, block_gradient = -es.start * es.eigenvalue, -es.block_start * es.block_eigenvalue
    length = math.hypot(float(np.linalg.norm(gradient)), float(np.linalg.norm(block_gradient)))
    along = [single @ gradient + block[:, :, 0] @ block_gradient for single, block in kept]
    return Records(
        steps=steps,
        reward=curve[:, list(steps)],
        start_reward=float(curve[0, 0]),
        gram=curved + (flat_gram(es.config, squares, steps, flat, es.rng) if flat else np.zeros(shape)),
        curved_gram=curved,
        projection=np.stack(along, axis=1) / length if length else np.full((size, len(steps)), np.nan),
        curve_sum=curve.sum(0, keepdims=True),
        curve_square_sum=np.square(curve).sum(0, keepdims=True),
    )


def reduced(
    config: ESConfig,
    landscape: Landscape,
    *,
    replicas: int,
    steps: Sequence[int] = (),
    seed: int = 0,
    progress: Progress = lambda done: None,
    reward: Reward | None = None,
) -> Records:
    """Sample runs of ES on a quadratic landscape, exact in law, at a cost that does not depend on ``dim``.

    Examples
    --------
    >>> from estheory.simulation.run_records import norms
    >>> land = Landscape(dim=10**9, eigenvalue=[2.0], multiplicity=[10**6], offset=[1e-3], reward_std=0.1)
    >>> run = ESConfig(dim=10**9, sigma=0.001, alpha=0.0005, population=16, steps=5)
    >>> records = reduced(run, land, replicas=3)
    >>> [round(float(norm), 1) for norm in norms(records.gram)[:, 1]]  # 0.0005 sqrt(5 1e9 / 16) = 8.84
    [8.8, 8.8, 8.8]
    """
    recorded = checked_steps(config, landscape, replicas, steps, seed)
    if (why := unsupported(config, landscape)) is not None:
        raise ConfigError(f"the reduced engine cannot simulate this: {why}", "use the direct engine")
    explicit = 0
    if reward is not None and reward.explicit:
        explicit, landscape = curved_rows(landscape)[0].size, with_explicit_rows(landscape)
    _, count, _, whole = blocks(landscape, len(recorded))
    a_step = (float(count[whole].sum()) + 4.0 * float((~whole).sum()) + MEMBER_NUMBERS) * estimator_of(
        config
    ).directions
    a_replica = a_step + float((~whole).sum()) * len(recorded) ** 2 + 2.0 * recorded[-1]
    require_memory("the reduced engine", 8.0 * 3 * a_replica)

    def run(size: int, child: np.random.SeedSequence) -> Records:
        rng = np.random.Generator(np.random.SFC64(child))
        return _run(ReducedES(config, landscape, size, len(recorded), rng, reward, explicit), recorded, progress)

    return in_batches(replicas, max(1, int(BATCH_NORMALS // max(a_replica, 1.0))), seed, run)
