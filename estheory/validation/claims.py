"""What a judged run claims to be, and what its files show beside the figures that are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.landscape import Signal
from estheory.measurement.displacement import Displacements
from estheory.models.checkpoints import open_comparable
from estheory.rules import Dtype, ESConfig

SAMPLED_ENTRIES = 16384
"""Entries of each tensor that are compared with those of another."""
FEWEST_ENTRIES = 64
"""Smaller tensors may point the same way by chance."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something wrong that no norm need show.

    Attributes
    ----------
    kind
        ``frozen tensors``, ``shared noise``, ``coefficients`` or ``seeds``.
    text
        A sentence.
    tensors, steps
        Where it was seen.
    """

    kind: str
    text: str
    tensors: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What the run behind judged figures claims to be.

    Attributes
    ----------
    rule
        Its hyper-parameters as they were told.
    signal
        What is known of its rewards; None: nothing.
    measured
        Displacements of its checkpoints tensor by tensor; None where only a log speaks.
    base
        The weights it began with.
    stored
        How its checkpoints store weights.
    alike
        Groups of tensors whose displacements point the same way.
    """

    rule: ESConfig
    signal: Signal | None = None
    measured: Displacements | None = None
    base: Path | None = None
    stored: Dtype = "float32"
    alike: tuple[tuple[str, ...], ...] = field(default=())

    @property
    def frozen(self) -> tuple[str, ...]:
        """Tensors of which no checkpoint moved a single entry; empty where nothing moved at all."""
        if self.measured is None or not self.measured.norms.any():
            return ()
        moved = [bool(norms.any()) for norms in self.measured.tensor_norms.T]
        sized = zip(self.measured.tensors.items(), moved, strict=True)
        return tuple(name for (name, size), moves in sized if size and not moves)

    @property
    def moved(self) -> int:
        """Number of entries of the tensors that moved; 0 where only a log speaks."""
        sizes, frozen = {} if self.measured is None else self.measured.tensors, self.frozen
        return sum(size for name, size in sizes.items() if name not in frozen)


def tensors_alike(base: Path, checkpoint: Path, *, repeat_head: bool = False) -> tuple[tuple[str, ...], ...]:
    """Return groups of tensors of equal size whose displacements point the same way.

    A generator that is re-seeded for every tensor does this: tensors of one size then share their noise. Independent
    noise gives a cosine of about n^(-1/2) over the n entries that are compared, so a right run shows a group with a
    chance below 1e-8 for each pair of tensors.

    `repeat_head`: count a tied output head again, as a state dict does.
    Result: names, in the order of the files.
    """
    try:
        reference, [other] = open_comparable(base, {str(checkpoint): checkpoint}, repeat_head=repeat_head, problems=[])
    except DataError:
        return ()  # said where the displacements are measured
    by_size: dict[int, list[str]] = {}
    for name, entry in reference.tensors.items():
        if entry.size >= FEWEST_ENTRIES and name in other.tensors:
            by_size.setdefault(entry.size, []).append(name)
    found: list[tuple[str, ...]] = []
    for size, names in by_size.items():
        if len(names) < 2:
            continue
        count = min(size, SAMPLED_ENTRIES)
        rows = np.array([other.read(name, 0, count) - reference.read(name, 0, count) for name in names])
        norms = np.linalg.norm(rows, axis=1)
        cosines = rows @ rows.T / np.maximum(np.outer(norms, norms), 1e-300)
        found += _groups(names, cosines > max(0.3, 6 / count**0.5))
    return tuple(found)


def _groups(names: Sequence[str], same: NDArray[np.bool_]) -> list[tuple[str, ...]]:
    left, groups = list(range(len(names))), []
    while left:
        group = [k for k in left if same[left[0], k] or k == left[0]]
        left = [k for k in left if k not in group]
        if len(group) > 1:
            groups.append(tuple(names[k] for k in group))
    return groups


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names in a sentence, the first few where there are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
