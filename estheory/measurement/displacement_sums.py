"""Sums over the displacements of checkpoints from a base, in one pass over their files on several threads.

Speed comes from three things: chunks so long that threads rarely wait for one another (every call of numpy hands the
interpreter's lock over), each file read into the same buffers from start to end, and no entry passed over more
often than its sums need. The order of summation, and so every bit of the result, does not depend on the number of
threads.

Differences, products and sums are of float64 throughout. A squared norm is a sum of terms that are not negative, so its
relative error is at most (`ROW` + number of rows + 3) 2^-53: below 2e-10 up to 1e10 entries of one tensor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from estheory._special import Array
from estheory.floats import FloatFormat, coarser_format, rounded
from estheory.models.checkpoints import Checkpoint
from estheory.watching import counted_out

CHUNKS = 3 << 17
"""Entries that one thread holds of all files together: the most whose buffers stay near the processor. With a tenth of
it, every call of numpy is so short that the calls themselves take as long."""

ROW = 1 << 13
"""Entries whose products one call of BLAS sums: too few for it to start threads of its own."""

SEGMENT = 1 << 24
"""Entries that one thread sums before it takes up others."""


def displacement_sums(
    reference: Checkpoint,
    others: Sequence[Checkpoint],
    *,
    stored: FloatFormat | None = None,
    chunk: int | None = None,
    threads: int | None = None,
) -> Array:
    """Sum over the entries of each tensor of the base.

    `reference`, `others`: the base and K checkpoints, comparable with it.
    `stored`: round the base to this format for every checkpoint; None: for those alone that store it more coarsely.
    `chunk`: entries of each file held at a time by one thread; None: as many as stay in its cache.
    Result: shape (tensors, K + 4, K), by tensor: the Gram matrix of the displacements (weight^2), and below it the sums
    of their fourth powers (weight^4), numbers of unchanged entries, squared changes of the base by rounding it to the
    checkpoint's format (weight^2; 0 where it is not rounded), and largest absolute changes (weight). Where a checkpoint
    lacks the tensor its sums are NaN.
    """
    pieces = [
        (row, name, start, min(start + SEGMENT, entry.size))
        for row, (name, entry) in enumerate(reference.tensors.items())
        for start in range(0, entry.size, SEGMENT)
    ]
    count = len(others)
    length = chunk or max(1024, CHUNKS // (count + 1))
    sums = np.zeros((len(reference.tensors), count + 4, count))
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        parts = pool.map(lambda piece: _sums(reference, others, piece[1], piece[2], piece[3], length, stored), pieces)
        for (row, *_), part in zip(pieces, counted_out("comparing weights", parts, len(pieces)), strict=True):
            sums[row, :-1] += part[:-1]
            np.maximum(sums[row, -1], part[-1], out=sums[row, -1])
    return sums


def _sums(
    reference: Checkpoint,
    others: Sequence[Checkpoint],
    name: str,
    start: int,
    stop: int,
    length: int,
    stored: FloatFormat | None,
) -> Array:
    """Sum over the entries ``start:stop`` of one tensor, shape (K + 4, K)."""
    count = len(others)
    gram, (fourth, unchanged, storage, largest) = np.zeros((count, count)), np.zeros((4, count))
    present = [k for k, other in enumerate(others) if name in other.tensors]
    sources = [reference.tensors[name], *(others[k].tensors[name] for k in present)]
    formats = [stored or coarser_format(sources[0].dtype, source.dtype) for source in sources[1:]]
    squares = np.empty(min(length, stop - start))
    equal = np.empty(len(squares), dtype=bool)
    chunks: Iterator[tuple[Array, ...]] = zip(*(s.pieces(start, stop, length) for s in sources), strict=True)
    with np.errstate(over="ignore", invalid="ignore"):
        for origin, *deltas in chunks:
            starts: dict[FloatFormat | None, Array] = {None: origin}
            for k, delta, to in zip(present, deltas, formats, strict=True):
                if to is not None:
                    if to not in starts:
                        starts[to] = rounded(origin, to).astype(np.float64)
                    moved = starts[to] - origin
                    storage[k] += _inner(moved, moved)
                np.subtract(delta, starts[to], out=delta)
            for a, k in enumerate(present):
                for b, other in zip(deltas[: a + 1], present[: a + 1], strict=True):
                    gram[k, other] += _inner(deltas[a], b)
            for k, delta in zip(present, deltas, strict=True):
                unchanged[k] += np.count_nonzero(np.equal(delta, 0, out=equal[: len(delta)]))
                square = np.square(delta, out=squares[: len(delta)])
                largest[k] = np.maximum(largest[k], _largest(delta, square))
                fourth[k] += _inner(square, square)
    gram = np.tril(gram) + np.tril(gram, -1).T
    sums = np.vstack([gram, fourth, unchanged, storage, largest])
    missing = [k for k in range(count) if k not in present]
    sums[:, missing] = np.nan
    sums[missing] = np.nan
    return sums


def _largest(values: Array, squares: Array) -> float:
    """Return the largest absolute value, exactly, from the squares of the values.

    A correctly rounded root undoes a correctly rounded square, unless the square leaves the range of float64.
    """
    largest = float(np.sqrt(squares.max()))
    return largest if 1e-150 < largest < 1e150 else float(np.abs(values).max())


def _inner(a: Array, b: Array) -> float:
    """Return a @ b, summed in rows of `ROW` entries."""
    whole = len(a) // ROW * ROW
    rows: Array = np.vecdot(a[:whole].reshape(-1, ROW), b[:whole].reshape(-1, ROW))
    return float(rows.sum() + a[whole:] @ b[whole:])
