"""Evolution strategies in every coordinate, as the algorithm says: the judge of theory and of the reduced engine.

Every member's noise is drawn in every coordinate (float32, SFC64), rewards are evaluated, and the update adds the
weighted noise up. Where a step's noise does not fit the buffer it is drawn twice from the same state of the
generator, once for the rewards and once for the update, so memory is bounded whatever N.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from estheory._special import Array
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.coordinates import curved_coordinates, curved_rows
from estheory.simulation.normals import fill_normals
from estheory.simulation.rewards import Reward, evaluation
from estheory.simulation.run_records import Progress, Records, in_batches, record_run
from estheory.simulation.update_steps import (
    MEMBER_NUMBERS,
    anchored,
    batches,
    checked_steps,
    require_memory,
    step_weights,
)
from estheory.theory.estimators import estimator_of

BATCH_NORMALS = 1 << 17
"""Normals of one step that a batch of replicas draws together (512 kB, within a core's cache)."""
BUFFER_NORMALS = 1 << 25
"""Largest buffer of noise (128 MB): a step that needs more is drawn twice, piece by piece."""

Noise = NDArray[np.float32]


class DirectES:
    """A batch of replicas of ES on a quadratic, in every coordinate.

    Parameters
    ----------
    config, landscape
        The run; its directions are the coordinates, the curved ones first.
    replicas
        Number of runs in the batch.
    seed
        Of this batch.
    buffer_normals
        Largest number of normals held at once.
    reward_form
        A reward other than the quadratic.

    Attributes
    ----------
    eigenvalue : ndarray, shape (r,)
        Of each curved direction (reward / weight^2).
    start : ndarray, shape (r,)
        theta - theta* of the curved directions before the first step (weight).
    displacement : ndarray, shape (replicas, dim)
        From the start (weight).
    """

    def __init__(
        self,
        config: ESConfig,
        landscape: Landscape,
        replicas: int,
        seed: np.random.SeedSequence,
        buffer_normals: int = BUFFER_NORMALS,
        reward_form: Reward | None = None,
    ) -> None:
        self.config, self.landscape, self.replicas = config, landscape, replicas
        self.eigenvalue, self.start = curved_coordinates(landscape)
        self.form = reward_form
        self.explicit = explicit_directions(landscape, reward_form)
        self.displacement = np.zeros((replicas, config.dim))
        self.velocity = np.zeros_like(self.displacement) if config.momentum else None
        noise_seed, reward_seed = seed.spawn(2)
        self.noise_bits = np.random.SFC64(noise_seed)
        self.noise = np.random.Generator(self.noise_bits)
        self.reward_rng = np.random.Generator(np.random.SFC64(reward_seed))
        total = replicas * estimator_of(config).directions * config.dim
        self.buffer: Noise = np.empty(min(total, max(buffer_normals, config.dim)), dtype=np.float32)
        self.squares: Noise = np.empty(self.buffer.size // config.dim * self.eigenvalue.size, dtype=np.float32)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self.config.dim

    @property
    def distance(self) -> Array:
        """Distance theta - theta* of the curved coordinates, shape (replicas, r), weight units."""
        return self.start + self.displacement[:, : self.eigenvalue.size]

    def reward(self) -> Array:
        """Return R - R* at the centre."""
        quadratic = self._quadratic()
        if self.form is None:
            return quadratic
        return np.asarray(self.form.mean(quadratic, self.distance @ self.explicit) - self.form.optimum)

    def _quadratic(self) -> Array:
        return np.asarray(-0.5 * np.square(self.distance) @ self.eigenvalue)

    def _evaluation(self, shift: Array, replicas: slice) -> Callable[[Array], Array] | None:
        """Return what makes rewards of the members' quadratic parts; ``shift``: explicit coordinates of their noise."""
        if self.form is None:
            return None
        quadratic, position = self._quadratic()[replicas], (self.distance @ self.explicit)[replicas]
        return evaluation(self.form, self.config, quadratic, position, shift, self.reward_rng)

    def _shift(self, eps: Noise) -> Array:
        """Return the explicit coordinates of ``eps``, (replicas, n, dim), shape (replicas, n, rows)."""
        if self.explicit.shape[1] == 0:
            return np.zeros((*eps.shape[:2], 0))
        return np.asarray(np.matmul(eps[:, :, : self.eigenvalue.size], self.explicit))

    def _draw(self, vectors: int) -> Noise:
        """Return the next ``vectors`` noise vectors, shape (vectors, dim); the buffer is reused."""
        used = self.buffer[: vectors * self.config.dim]
        fill_normals(self.noise, used)
        return used.reshape(vectors, self.config.dim)

    def _signals(self, eps: Noise, slope: Array) -> tuple[Array, Array]:
        """Return the odd and even parts of the rewards of ``eps``, (replicas, n, dim), under ``slope``, (replicas, r).

        Single precision within a block of coordinates, as the noise is; shapes (replicas, n).
        """
        r, sigma = self.eigenvalue.size, self.config.sigma
        if r == 0:
            return np.zeros(eps.shape[:2]), np.zeros(eps.shape[:2])
        curved = eps[:, :, :r]
        squares = self.squares[: eps.shape[0] * eps.shape[1] * r].reshape(curved.shape)
        np.multiply(curved, curved, out=squares)
        even = squares.reshape(-1, r) @ self.eigenvalue.astype(np.float32)
        linear = np.matmul(curved, slope.astype(np.float32)[:, :, None])[:, :, 0]
        return -sigma * linear.astype(np.float64), -0.5 * sigma**2 * even.astype(np.float64).reshape(eps.shape[:2])

    def step(self) -> None:
        """Take one step in every replica."""
        n = estimator_of(self.config).directions
        if self.replicas * n * self.config.dim <= self.buffer.size:
            weights, eps = self.shaped_members()
            update = np.matmul(weights.astype(np.float32)[:, None, :], eps)[:, 0, :].astype(np.float64)
        else:
            update = self._step_in_pieces(n, self.distance * self.eigenvalue, self.landscape.reward_std)
        if self.velocity is not None:
            self.velocity *= self.config.momentum
            self.velocity += (1.0 - self.config.momentum) * update
            update = self.velocity
        self.displacement = anchored(self.config, self.displacement, update)

    def shaped_members(self) -> tuple[Array, Noise]:
        """Return the weights of a step's noise vectors, and the vectors.

        Result: shape (replicas, n) and (replicas, n, dim), weights (weight), and standard normal vectors in a buffer
        that the next draw overwrites; n as of :attr:`estheory.theory.estimators.estimator.Estimator.directions`.
        """
        n, slope = estimator_of(self.config).directions, self.distance * self.eigenvalue
        eps = self._draw(self.replicas * n).reshape(self.replicas, n, self.config.dim)
        evaluate = self._evaluation(self._shift(eps), slice(None))
        std = self.landscape.reward_std
        return step_weights(self.config, *self._signals(eps, slope), std, self.reward_rng, evaluate), eps

    def _step_in_pieces(self, n: int, slope: Array, std: float) -> Array:
        """Return the update of a batch whose noise exceeds the buffer; replica by replica, drawn twice."""
        at_once = self.buffer.size // self.config.dim
        sizes = batches(n, at_once)
        update = np.zeros_like(self.displacement)
        for replica in range(self.replicas):
            before = self.noise_bits.state
            this = slice(replica, replica + 1)
            parts = []
            for size in sizes:
                eps = self._draw(size)[None]
                parts.append((*self._signals(eps, slope[this]), self._shift(eps)))
            linear, even, shift = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
            evaluate = self._evaluation(shift, this)
            weights = step_weights(self.config, linear, even, std, self.reward_rng, evaluate)[0]
            self.noise_bits.state = before
            for size, piece in zip(sizes, np.split(weights, np.cumsum(sizes)[:-1]), strict=True):
                update[replica] += piece.astype(np.float32) @ self._draw(size)
        return update


def explicit_directions(landscape: Landscape, reward_form: Reward | None) -> Array:
    """Return the unit offsets of the curved rows where the reward needs them.

    `reward_form`: None for the quadratic itself, which needs none.
    Result: shape (r, rows), one column a curved row; no columns where the reward needs none.
    """
    _, multiplicity, _ = curved_rows(landscape)
    count = multiplicity.astype(np.int64)
    row = np.repeat(np.arange(count.size), count)
    if reward_form is None or not reward_form.explicit:
        return np.zeros((row.size, 0))
    directions = np.zeros((row.size, count.size))
    directions[np.arange(row.size), row] = 1.0 / np.sqrt(multiplicity[row])
    return directions


def direct(
    config: ESConfig,
    landscape: Landscape,
    *,
    replicas: int,
    steps: Sequence[int] = (),
    seed: int = 0,
    progress: Progress = lambda done: None,
    reward: Reward | None = None,
) -> Records:
    """Run ES on a quadratic landscape in every coordinate.

    `config`: the run: any shaping and anchor, momentum, antithetic pairs; Gaussian noise.
    `landscape`: its offsets are those of the start; ``dim`` must be that of ``config``.
    `steps`: when to record; ``config.steps`` when empty. The first step is recorded too.
    `reward`: in place of the quadratic with Gaussian noise, which it may be built on.

    Examples
    --------
    >>> from estheory.simulation.run_records import norms
    >>> land = Landscape(dim=400, eigenvalue=[2.0], multiplicity=[4], offset=[0.5], reward_std=0.1)
    >>> run = ESConfig(dim=400, sigma=0.02, alpha=0.02, population=16, steps=5)
    >>> records = direct(run, land, replicas=3)
    >>> norms(records.gram).shape  # after steps 1 and 5
    (3, 2)
    """
    recorded = checked_steps(config, landscape, replicas, steps, seed)
    draws = estimator_of(config).directions
    require_memory("the direct engine", 8.0 * (config.dim * (len(recorded) + 8) + MEMBER_NUMBERS * draws))

    def run(count: int, child: np.random.SeedSequence) -> Records:
        return record_run(DirectES(config, landscape, count, child, reward_form=reward), recorded, progress)

    return in_batches(replicas, max(1, BATCH_NORMALS // (draws * config.dim)), seed, run)
