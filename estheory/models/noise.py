"""Gaussian perturbations that are never stored: regenerated from (seed, step, member) whenever they are needed.

Every entry depends on (seed, step, member, tensor, position in the tensor) and the device type alone
(:mod:`estheory.models.noise_streams`): not on the number of threads, and not on which other members are drawn.
Products and sums are separate float32 operations (no fused multiply-add), so the results do not depend on vector
instructions either.

Steps of a run count from 1; step 0 is free for probes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from estheory.models.noise_streams import BLOCK, INDEPENDENT, Chunk, NoiseStructure, chunks_of, draw
from estheory.models.parameters import FlatParameters

Part = tuple[int, int]
"""Index and count of the parts into which the chunks of a vector are dealt."""

WHOLE: Part = (0, 1)


@dataclass(frozen=True, kw_only=True)
class MemberNoise:
    """The noise vectors eps of one seed, shape (dim,) each: eps of a step and a member is fixed by their numbers.

    Attributes
    ----------
    parameters
        Give the division of a vector into tensors.
    seed
        Non-negative.
    structure
        How the entries of a vector depend on each other; independent standard normals by default.
    threads
        Threads to spread the work over; the results do not depend on it.
    """

    parameters: FlatParameters
    seed: int
    structure: NoiseStructure = INDEPENDENT
    threads: int = 1

    def fill(self, out: Tensor, *, step: int, member: int) -> None:
        """Fill `out` with the noise vector eps of one member."""

        def fill(chunk: Chunk, scratch: Tensor) -> None:
            draw(scratch, self.seed, step, member, chunk, self.structure)
            out[chunk.start : chunk.stop].copy_(scratch)

        self._for_each_chunk(fill)

    def perturb(self, out: Tensor, centre: Tensor, *, sigma: float, step: int, member: int) -> None:
        """Set `out` to centre + sigma eps, the parameters of one member, rounded once to the dtype of `out`.

        `out`, `centre`: shape (dim,), result and unperturbed parameters: the same vector, or two that do not overlap.
        `sigma`: perturbation scale (weight); negative for the mirrored member.
        """

        def add(chunk: Chunk, scratch: Tensor) -> None:
            draw(scratch, self.seed, step, member, chunk, self.structure)
            scratch.mul_(sigma).add_(centre[chunk.start : chunk.stop])
            out[chunk.start : chunk.stop].copy_(scratch)

        self._for_each_chunk(add)

    def add_weighted(
        self,
        out: Tensor,
        weights: Sequence[float],
        *,
        scale: float,
        step: int,
        start: Tensor | None = None,
        part: Part = WHOLE,
    ) -> None:
        """Add scale * sum_i weights_i eps_i to `out`: the update of an ES step.

        The sum is accumulated in float32 in the order of the members and added once, so that a step that is replayed
        later gives the same bits. A member of weight 0 is not drawn: adding zeros changes no bit of the sum.

        `weights`: coefficient of each member's noise; member i is its position here.
        `scale`: factor of the whole sum: alpha / N.
        `start`: where given, `out` is overwritten with the sum of this and the update.
        `part`: which part of the vector is made; the rest of `out` is left alone.
        """

        def add(chunk: Chunk, scratch: Tensor) -> None:
            piece = out[chunk.start : chunk.stop]
            if start is not None:
                piece.copy_(start[chunk.start : chunk.stop])
            total = torch.zeros_like(scratch)
            for member, weight in enumerate(weights):
                if weight:
                    draw(scratch, self.seed, step, member, chunk, self.structure)
                    total.add_(scratch.mul_(weight))
            piece.add_(total.mul_(scale))

        self._for_each_chunk(add, part)

    def add_in_turn(
        self,
        out: Tensor,
        weights: Sequence[float],
        *,
        scale: float,
        step: int,
        start: Tensor | None = None,
        part: Part = WHOLE,
    ) -> None:
        """Add scale * weights_i eps_i to `out` for one member after the other, rounding to its dtype each time.

        What the reference code does with weights in half precision.
        """

        def add(chunk: Chunk, scratch: Tensor) -> None:
            piece = out[chunk.start : chunk.stop]
            if start is not None:
                piece.copy_(start[chunk.start : chunk.stop])
            for member, weight in enumerate(weights):
                draw(scratch, self.seed, step, member, chunk, self.structure)
                piece.add_(scratch.mul_(scale * weight))

        self._for_each_chunk(add, part)

    def _for_each_chunk(self, work: Callable[[Chunk, Tensor], None], part: Part = WHOLE) -> None:
        """Call ``work(chunk, scratch)`` for every chunk, with a float32 scratch tensor of the chunk's length."""
        index, count = part
        chunks = chunks_of(self.parameters.offsets, self.parameters.shapes, self.structure)[index::count]
        if not chunks:
            return
        device = self.parameters.vector.device
        longest = max(chunk.stop - chunk.start for chunk in chunks)

        def run(share: Sequence[Chunk]) -> None:
            scratch = torch.empty(longest, dtype=torch.float32, device=device)
            with torch.no_grad():
                for chunk in share:
                    work(chunk, scratch[: chunk.stop - chunk.start])

        if self.threads <= 1 or self.parameters.dim <= BLOCK or device.type != "cpu":
            run(chunks)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(run, [chunks[k :: self.threads] for k in range(self.threads)]))
