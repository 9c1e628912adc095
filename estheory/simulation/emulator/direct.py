"""Evolution strategies in every coordinate, on weights that a 16-bit format stores.

The arithmetic of ``estheory run``: noise and each member's term in float32, each addition rounded once. Unlike the
emulator (:mod:`estheory.simulation.emulator.emulate`) the rewards are those of the landscape and every coordinate is
followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from estheory.errors import ConfigError
from estheory.floats import FORMATS, rounded
from estheory.landscape import Landscape
from estheory.rules import ESConfig, require_positive
from estheory.simulation.direct import BATCH_NORMALS, BUFFER_NORMALS, DirectES
from estheory.simulation.run_records import Progress, Records, in_batches, record_run
from estheory.simulation.update_steps import MEMBER_NUMBERS, checked_steps, require_memory
from estheory.theory.estimators import estimator_of


class RoundedES(DirectES):
    """A batch of replicas of ES whose weights a 16-bit format stores.

    Members are evaluated without rounding them; their restoring in place is rounded.

    `config`, `landscape`, `replicas`, `seed`: as of :class:`estheory.simulation.direct.DirectES`; the format is the
    ``dtype`` of ``config``.
    `weight_std`: weights begin as w ~ N(0, weight_std^2), each on the grid of its format (weight).
    """

    def __init__(
        self, config: ESConfig, landscape: Landscape, replicas: int, seed: np.random.SeedSequence, weight_std: float
    ) -> None:
        [weight_seed] = seed.spawn(1)
        super().__init__(config, landscape, replicas, seed)
        self.format = FORMATS[config.dtype]
        start = weight_std * np.random.default_rng(weight_seed).standard_normal((replicas, config.dim))
        self.stored = rounded(start, self.format)
        self.initial = self.stored.astype(np.float64)

    def step(self) -> None:
        """Take one step in every replica."""
        weights, eps = self.shaped_members()
        config, factors = self.config, weights.astype(np.float32)[:, :, None]
        for pair in range(config.restore_pairs):
            change = np.float32(config.sigma) * eps[:, pair % eps.shape[1]]
            self._add(change)
            self._add(-change)
        if config.update_path == "sequential":
            for member in range(eps.shape[1]):
                self._add(factors[:, member] * eps[:, member])
        else:
            self._add(np.matmul(factors.transpose(0, 2, 1), eps)[:, 0, :])
        self.displacement = self.stored.astype(np.float64) - self.initial

    def _add(self, change: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        self.stored = rounded(self.stored + change, self.format)


def rounded_direct(
    config: ESConfig,
    landscape: Landscape,
    *,
    weight_std: float,
    replicas: int,
    steps: Sequence[int] = (),
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Records:
    """Run ES on a quadratic landscape in every coordinate, in bfloat16 or float16.

    `config`: the run, without anchor and momentum; restore pairs of independent members only.
    `weight_std`: standard deviation of the weights at the start (weight): rounding acts on them.
    """
    require_positive("weight-std", weight_std)
    if not 10 * weight_std < FORMATS[config.dtype].largest:
        raise ConfigError(f"weights of std {weight_std:g} overflow {config.dtype}", "lower weight-std")
    estimator = estimator_of(config)
    if config.momentum or config.anchor_l2 or config.anchor_l1 or (estimator.paired and config.restore_pairs):
        what = "anchors, momentum and restore pairs of antithetic members"
        raise ConfigError(f"{what} are not simulated in {config.dtype}", "leave them out, or use float32")
    exact = replace(config, dtype="float32", update_path="accumulated", restore_pairs=0)
    recorded = checked_steps(exact, landscape, replicas, steps, seed)
    if estimator.directions * config.dim > BUFFER_NORMALS:
        raise ConfigError(f"{config.dim} coordinates of {config.population} members are too many", "lower dim")
    require_memory(
        "the direct engine", 8.0 * (config.dim * (len(recorded) + 8) + MEMBER_NUMBERS * estimator.directions)
    )

    def run(count: int, child: np.random.SeedSequence) -> Records:
        return record_run(RoundedES(config, landscape, count, child, weight_std), recorded, progress)

    return in_batches(replicas, max(1, BATCH_NORMALS // (estimator.directions * config.dim)), seed, run)
