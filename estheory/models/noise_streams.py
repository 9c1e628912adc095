"""The random streams that perturbations are made of: counter-based, never stored, drawn whenever they are needed.

Every stream has a place of its own in the counter-based generator Philox4x64 (Salmon et al., 2011): a 128-bit key that
`seed` determines and a 256-bit counter that starts at ``[0, tensor << 32 | block, member, step]``. Streams of one seed
therefore use disjoint ranges of one counter and cannot overlap; a block is `BLOCK` consecutive entries of a tensor.

On the CPU, the words at that place are used in one of two ways. ``mt19937``: 19,968 bits of them are the state of
torch's Mersenne Twister, whose own ``normal_`` draws the block (uniforms of 24 bits, hence no normal beyond 5.8). The
last bit of a normal then depends on whether torch has AVX2 code for the processor. ``philox``: numpy's ziggurat turns
the words into normals; three times as slow, with the same bits on every processor. On a CUDA device torch's own Philox
draws the block, with a 64-bit hash of the same numbers as its seed.

A `NoiseStructure` says how a vector is made of such streams: one each (``gaussian``), one for all tensors of equal
element count (``shared-seed``, what a generator re-seeded for every tensor gives), or products of thin factors
(``low-rank:R``, EGGROLL).
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from estheory.errors import MissingDependencyError

BLOCK = 1 << 18
"""Entries a stream fills: 1 MiB of float32, so that drawing and adding stay in a core's cache."""

Generator = Literal["mt19937", "philox"]

_DOMAIN = 0x65732D6E  # keeps these keys apart from other uses of the same seed
_COLUMNS = 1 << 31  # index of the stream that draws a matrix's column factor; blocks count from 0
_OWN = threading.local()
_EMPTY = np.zeros(4, dtype=np.uint64)  # Philox's buffer of drawn numbers
_WORDS = 624  # of a Mersenne Twister's state
_STATE = slice(24, 24 + 8 * _WORDS)  # bytes of torch's state that hold them, 8 bytes a word of 32 bits
_STATE_BYTES = 5056


@dataclass(frozen=True, kw_only=True)
class NoiseStructure:
    """How the entries of one member's noise depend on each other.

    Attributes
    ----------
    kind
        ``gaussian``: independent standard normals. ``shared-seed``: the same, but tensors of equal element count
        share them. ``low-rank:R``: A B' / sqrt(R) for a tensor of shape (m, ...) with standard normal A of shape
        (m, R) and B of shape (n, R), n the product of the other sizes; tensors of one axis as ``gaussian``.
    scales
        Factor of each tensor's noise, in the order of the vector; empty for 1 throughout.
    generator
        What draws the normals on the CPU: ``mt19937`` or ``philox``.
    """

    kind: str = "gaussian"
    scales: tuple[float, ...] = ()
    generator: Generator = "mt19937"

    @property
    def rank(self) -> int | None:
        """R of low-rank noise, None for the other kinds."""
        name, _, rank = self.kind.partition(":")
        return int(rank) if name == "low-rank" else None


INDEPENDENT = NoiseStructure()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """Entries start:stop of the flat vector, which one stream fills.

    `stream` and `index` name the stream. With `columns`, the block is whole rows of a matrix of that many columns,
    and the stream's index `_COLUMNS` draws the column factor that all its blocks share.
    """

    stream: int
    index: int
    start: int
    stop: int
    columns: int
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Entries of the flat vector: one block, or several of at most `BLOCK` entries in all.

    Blocks that are moved together cost one addition, not one each: most tensors of a small model are small.

    Attributes
    ----------
    start, stop
        The first entry, and the one after the last.
    blocks
        In order.
    """

    start: int
    stop: int
    blocks: tuple[_Block, ...]


@lru_cache(maxsize=8)
def chunks_of(
    offsets: tuple[int, ...], shapes: tuple[tuple[int, ...], ...], structure: NoiseStructure
) -> tuple[Chunk, ...]:
    """Divide a vector into the chunks that are drawn at once.

    `offsets`, `shapes`: where each tensor begins in the vector, and its shape.
    Result: in the order of the vector, blocks of every tensor, small ones of one neighbourhood together.
    """
    groups: list[list[_Block]] = []
    for block in _blocks(offsets, shapes, structure):
        if groups and block.stop - groups[-1][0].start <= BLOCK:
            groups[-1].append(block)
        else:
            groups.append([block])
    return tuple(Chunk(start=group[0].start, stop=group[-1].stop, blocks=tuple(group)) for group in groups)


def _blocks(offsets: tuple[int, ...], shapes: tuple[tuple[int, ...], ...], structure: NoiseStructure) -> list[_Block]:
    """Return the blocks of every tensor, in the order of the vector."""
    blocks = []
    scales = structure.scales or (1.0,) * len(shapes)
    for tensor, (offset, shape, scale) in enumerate(zip(offsets, shapes, scales, strict=True)):
        size = math.prod(shape)
        columns = size // shape[0] if structure.rank is not None and len(shape) > 1 else 0
        length = max(BLOCK // columns, 1) * columns if columns else BLOCK
        blocks += [
            _Block(
                stream=size if structure.kind == "shared-seed" else tensor,
                index=index,
                start=offset + low,
                stop=offset + min(low + length, size),
                columns=columns,
                scale=scale,
            )
            for index, low in enumerate(range(0, size, length))
        ]
    return blocks


def draw(out: Tensor, seed: int, step: int, member: int, chunk: Chunk, structure: NoiseStructure) -> None:
    """Draw one member's noise of one chunk."""
    for block in chunk.blocks:
        part = out[block.start - chunk.start : block.stop - chunk.start]
        _draw_block(part, seed, step, member, block, structure)


def _draw_block(out: Tensor, seed: int, step: int, member: int, block: _Block, structure: NoiseStructure) -> None:
    """Draw one member's noise of one block into `out` (float32)."""

    def normals(part: Tensor, index: int) -> None:
        _normals(part, seed, (0, block.stream << 32 | index, member, step), structure.generator)

    if block.columns and structure.rank is not None:
        rank, rows = structure.rank, out.view(-1, block.columns)
        left, right = out.new_empty(len(rows) * rank), out.new_empty(block.columns * rank)
        normals(left, block.index)
        normals(right, _COLUMNS)
        left, right = left.view(-1, rank), right.view(-1, rank)
        torch.mul(left[:, :1], right[:, 0], out=rows)
        for k in range(1, rank):
            rows.add_(left[:, k : k + 1] * right[:, k])
        out.mul_(1 / math.sqrt(rank))
    else:
        normals(out, block.index)
    if block.scale != 1.0:
        out.mul_(block.scale)


def _normals(out: Tensor, seed: int, counter: tuple[int, int, int, int], generator: Generator) -> None:
    """Fill `out` (float32) with standard normals of the stream that begins at a counter."""
    if out.device.type != "cpu":
        _, place, member, step = counter
        sequence = np.random.SeedSequence(seed, spawn_key=(_DOMAIN, step, member, place))
        on_device = torch.Generator(out.device)
        on_device.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)
        out.normal_(generator=on_device)
    elif generator == "philox":
        _philox(_key(seed), counter).standard_normal(out=out.numpy(), dtype=np.float32)
    else:
        out.normal_(generator=_mersenne_twister(_key(seed), counter))


def _philox(key: npt.NDArray[np.uint64], counter: tuple[int, int, int, int]) -> np.random.Generator:
    """Return ``Generator(Philox(key=key, counter=counter))``: the thread's own, put there, which is 4 times as fast."""
    generator: np.random.Generator | None = getattr(_OWN, "philox", None)
    if generator is None:
        generator = _OWN.philox = np.random.Generator(np.random.Philox(key=0))
    generator.bit_generator.state = {
        "bit_generator": "Philox",
        "state": {"counter": np.array(counter, dtype=np.uint64), "key": key},
        "buffer": _EMPTY,
        "buffer_pos": len(_EMPTY),
        "has_uint32": 0,
        "uinteger": 0,
    }
    return generator


def _mersenne_twister(key: npt.NDArray[np.uint64], counter: tuple[int, int, int, int]) -> torch.Generator:
    """Return the thread's own torch generator with Philox's first words from a counter as its whole state.

    torch's ``manual_seed`` would keep 32 bits of a seed.
    """
    generator: torch.Generator | None = getattr(_OWN, "twister", None)
    if generator is None:
        generator = _OWN.twister = torch.Generator()
        _OWN.state = generator.manual_seed(0).get_state()  # of one that draws a new state before its first number
        if len(_OWN.state) != _STATE_BYTES:
            raise MissingDependencyError(
                f"torch {torch.__version__} keeps the state of its generator in {len(_OWN.state)} bytes, not in "
                f"{_STATE_BYTES}",
                "install the version of torch in environment.json, or use the generator philox",
            )
    words = _philox(key, counter).bit_generator.random_raw(_WORDS // 2).view(np.uint32)
    _OWN.state.numpy()[_STATE].view(np.uint64)[:] = words
    return generator.set_state(_OWN.state)


@lru_cache(maxsize=8)
def _key(seed: int) -> npt.NDArray[np.uint64]:
    """Return the 128-bit Philox key of a seed."""
    return np.random.SeedSequence(seed, spawn_key=(_DOMAIN,)).generate_state(2, np.uint64).astype(np.uint64)
