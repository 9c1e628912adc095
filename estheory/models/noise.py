"""Gaussian perturbations that are never stored: regenerated from (seed, step, member) whenever they are needed.

On the CPU, noise comes from the counter-based generator Philox4x64 (Salmon et al., 2011) with a 128-bit key that
`seed` determines and a 256-bit counter that starts at ``[0, tensor << 32 | block, member, step]``. Streams of one seed
therefore use disjoint ranges of one counter and cannot overlap; a block is `BLOCK` consecutive entries of a tensor.
On a CUDA device torch's own Philox is used instead, with a 64-bit hash of the same numbers as its seed.

Every entry depends on (seed, step, member, tensor, position in the tensor) and the device type alone: not on the
number of threads, and not on which other members are drawn. Products and sums are separate float32 operations (no
fused multiply-add), so the results do not depend on vector instructions either.

Steps of a run count from 1; step 0 is free for probes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estheory.models.parameters import FlatParameters

BLOCK = 1 << 18
"""Entries a stream fills: 1 MiB of float32, so that drawing and adding stay in a core's cache."""

_DOMAIN = 0x65732D6E  # keeps these keys apart from other uses of the same seed


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """Entries start:stop of the flat vector: block number `index` of tensor number `tensor`."""

    tensor: int
    index: int
    start: int
    stop: int


def fill_noise(out: Tensor, parameters: FlatParameters, *, seed: int, step: int, member: int, threads: int = 1) -> None:
    """Fill `out` with the standard normal vector eps of one member.

    Parameters
    ----------
    out : Tensor, shape (dim,)
        Overwritten. May be ``parameters.vector`` itself.
    parameters
        Gives the division of the vector into tensors.
    seed, step, member
        Non-negative integers that identify eps.
    threads
        Threads to spread the work over; the result does not depend on it.
    """

    def fill(block: _Block, scratch: Tensor) -> None:
        _draw(scratch, seed, step, member, block)
        out[block.start : block.stop].copy_(scratch)

    _for_each_block(fill, parameters, threads)


def perturb(
    out: Tensor,
    centre: Tensor,
    parameters: FlatParameters,
    *,
    sigma: float,
    seed: int,
    step: int,
    member: int,
    threads: int = 1,
) -> None:
    """Set `out` to centre + sigma eps, the parameters of one member.

    Parameters
    ----------
    out, centre : Tensor, shape (dim,)
        Result and unperturbed parameters; they must not overlap.
    sigma
        Perturbation scale (weight).
    parameters, seed, step, member, threads
        As for `fill_noise`.
    """

    def add(block: _Block, scratch: Tensor) -> None:
        _draw(scratch, seed, step, member, block)
        scratch.mul_(sigma).add_(centre[block.start : block.stop])
        out[block.start : block.stop].copy_(scratch)

    _for_each_block(add, parameters, threads)


def add_weighted_noise(
    out: Tensor,
    parameters: FlatParameters,
    weights: Sequence[float],
    *,
    scale: float,
    seed: int,
    step: int,
    threads: int = 1,
) -> None:
    """Add scale * sum_i weights_i eps_i to `out`: the update of an ES step.

    The sum is accumulated in float32 in the order of the members and added once, so that a step that is replayed
    later gives the same bits.

    Parameters
    ----------
    out : Tensor, shape (dim,)
        Changed in place.
    weights
        Coefficient of each member's noise; member i is its position here.
    scale
        Factor of the whole sum: alpha / N.
    parameters, seed, step, threads
        As for `fill_noise`.
    """

    def add(block: _Block, scratch: Tensor) -> None:
        total = torch.zeros_like(scratch)
        for member, weight in enumerate(weights):
            _draw(scratch, seed, step, member, block)
            total.add_(scratch.mul_(weight))
        out[block.start : block.stop].add_(total.mul_(scale))

    _for_each_block(add, parameters, threads)


def _for_each_block(work: Callable[[_Block, Tensor], None], parameters: FlatParameters, threads: int) -> None:
    """Call ``work(block, scratch)`` for every block, with a float32 scratch tensor of the block's length."""
    blocks = _blocks(parameters.offsets, parameters.sizes)
    device = parameters.vector.device

    def run(share: Sequence[_Block]) -> None:
        scratch = torch.empty(min(BLOCK, parameters.dim), dtype=torch.float32, device=device)
        with torch.no_grad():
            for block in share:
                work(block, scratch[: block.stop - block.start])

    if threads <= 1 or parameters.dim <= BLOCK or device.type != "cpu":
        run(blocks)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, [blocks[k::threads] for k in range(threads)]))


@lru_cache(maxsize=8)
def _blocks(offsets: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[_Block, ...]:
    """Return the blocks of every tensor, in the order of the vector."""
    return tuple(
        _Block(tensor=tensor, index=index, start=offset + low, stop=offset + min(low + BLOCK, size))
        for tensor, (offset, size) in enumerate(zip(offsets, sizes, strict=True))
        for index, low in enumerate(range(0, size, BLOCK))
    )


def _draw(out: Tensor, seed: int, step: int, member: int, block: _Block) -> None:
    """Draw standard normals of one stream into `out` (float32, at most `BLOCK` entries)."""
    place = block.tensor << 32 | block.index
    if out.device.type == "cpu":
        bits = np.random.Philox(key=_key(seed), counter=np.array([0, place, member, step], dtype=np.uint64))
        np.random.Generator(bits).standard_normal(out=out.numpy(), dtype=np.float32)
    else:
        sequence = np.random.SeedSequence(seed, spawn_key=(_DOMAIN, step, member, place))
        generator = torch.Generator(out.device)
        generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)
        out.normal_(generator=generator)


@lru_cache(maxsize=8)
def _key(seed: int) -> npt.NDArray[np.uint64]:
    """Return the 128-bit Philox key of a seed."""
    return np.random.SeedSequence(seed, spawn_key=(_DOMAIN,)).generate_state(2, np.uint64).astype(np.uint64)
