"""The direct engine on a torch device: the algorithm of :mod:`estheory.simulation.direct`, noise drawn on the device.

Noise, rewards' signals and the update live on the device in float32, displacements there in float64; a step's few
rewards come back to be shaped by the same code. Streams differ from numpy's, the law does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.coordinates import curved_coordinates
from estheory.simulation.direct import BATCH_NORMALS, BUFFER_NORMALS
from estheory.simulation.run_records import Progress, Records, in_batches, record_run
from estheory.simulation.update_steps import (
    batches,
    checked_steps,
    require_memory,
    step_weights,
)
from estheory.theory.estimators import estimator_of


def checked_device(name: str) -> torch.device:
    """Return a torch device that is there."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):  # torch without CUDA asserts
        raise ConfigError(f"device '{name}' is not available", "choose cpu, or cuda where there is one") from None
    return device


class TorchES:
    """A batch of replicas of ES on a quadratic, in every coordinate, on a torch device.

    `config`, `landscape`, `replicas`, `seed`, `buffer_normals`: as of :class:`estheory.simulation.direct.DirectES`.
    `device`: where noise is drawn and added up.
    """

    def __init__(
        self,
        config: ESConfig,
        landscape: Landscape,
        replicas: int,
        seed: np.random.SeedSequence,
        device: torch.device,
        buffer_normals: int = BUFFER_NORMALS,
    ) -> None:
        self.config, self.landscape, self.replicas = config, landscape, replicas
        self.eigenvalue, self.start = curved_coordinates(landscape)
        self.curvature = torch.as_tensor(self.eigenvalue, device=device)
        self.origin = torch.as_tensor(self.start, device=device)
        self.moved = torch.zeros((replicas, config.dim), dtype=torch.float64, device=device)
        self.velocity = torch.zeros_like(self.moved) if config.momentum else None
        noise_seed, reward_seed = seed.spawn(2)
        self.generator = torch.Generator(device)
        self.generator.manual_seed(int(noise_seed.generate_state(1, np.uint64)[0] >> 1))
        self.reward_rng = np.random.Generator(np.random.SFC64(reward_seed))
        n = estimator_of(config).directions
        self.at_once = max(1, buffer_normals // (replicas * config.dim))  # members of every replica drawn together
        self.buffer = torch.empty((replicas, min(n, self.at_once), config.dim), device=device)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self.config.dim

    @property
    def displacement(self) -> Array:
        """Displacement from the start, shape (replicas, dim), weight units."""
        return np.asarray(self.moved.cpu().numpy())

    @displacement.setter
    def displacement(self, value: Array) -> None:
        self.moved = torch.as_tensor(value, device=self.moved.device)

    def _distance(self) -> torch.Tensor:
        return self.origin + self.moved[:, : self.eigenvalue.size]

    def reward(self) -> Array:
        """Return R - R* at the centre."""
        return np.asarray((-0.5 * self._distance().square() @ self.curvature).cpu().numpy())

    def _draw(self, members: int) -> torch.Tensor:
        """Return the noise of the next ``members`` of every replica, (replicas, members, dim); the buffer is reused."""
        return self.buffer[:, :members].normal_(generator=self.generator)

    def step(self) -> None:
        """Take one step in every replica; noise that does not fit the buffer is drawn twice."""
        config, sigma, r = self.config, self.config.sigma, self.eigenvalue.size
        sizes = batches(estimator_of(config).directions, self.at_once)
        slope, curvature = (self._distance() * self.curvature).float(), self.curvature.float()
        before = self.generator.get_state()
        signals, eps = [], self.buffer
        for size in sizes:
            eps = self._draw(size)
            curved = eps[:, :, :r]
            linear = torch.matmul(curved, slope[:, :, None])[:, :, 0]
            signals.append(torch.stack([-sigma * linear, -0.5 * sigma**2 * (curved.square() @ curvature)]))
        odd, even = torch.cat(signals, dim=2).double().cpu().numpy()
        weights = step_weights(config, odd, even, self.landscape.reward_std, self.reward_rng)
        pieces = np.split(weights.astype(np.float32), np.cumsum(sizes)[:-1], axis=1)
        if len(sizes) > 1:
            self.generator.set_state(before)
        update = torch.zeros_like(self.moved)
        for size, piece in zip(sizes, pieces, strict=True):
            drawn = eps if len(sizes) == 1 else self._draw(size)
            update += torch.matmul(torch.as_tensor(piece, device=eps.device)[:, None, :], drawn)[:, 0, :]
        if self.velocity is not None:
            self.velocity = config.momentum * self.velocity + (1.0 - config.momentum) * update
            update = self.velocity
        keep = 1.0 - config.anchor_l2
        self.moved = keep * (self.moved + update) if config.anchor_form == "after" else keep * self.moved + update


def direct_on_device(
    config: ESConfig,
    landscape: Landscape,
    *,
    replicas: int,
    device: str = "cpu",
    steps: Sequence[int] = (),
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Records:
    """Run ES on a quadratic landscape in every coordinate, on a torch device."""
    where = checked_device(device)
    recorded = checked_steps(config, landscape, replicas, steps, seed)
    if config.anchor_l1:
        raise ConfigError("the L1 anchor is not simulated on a torch device", "leave --device out")
    require_memory("the direct engine", 8.0 * config.dim * (len(recorded) + 8))
    at_once = BATCH_NORMALS if where.type == "cpu" else BUFFER_NORMALS

    def run(count: int, child: np.random.SeedSequence) -> Records:
        return record_run(TorchES(config, landscape, count, child, where), recorded, progress)

    return in_batches(replicas, max(1, at_once // (estimator_of(config).directions * config.dim)), seed, run)
