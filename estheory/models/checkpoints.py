"""Reading the tensors of a checkpoint lazily, in pieces of bounded size. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.models.headers import ITEM_BYTES, TensorEntry, declares_tied_head, tensor_entries

_STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_STEP = re.compile(r"(?:step|checkpoint|iteration)[_-](\d+)$")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights of one model on disk; nothing is read until asked for.

    Attributes
    ----------
    label
        How the user calls it: the path as given, or a name.
    path
        The file or folder.
    tensors
        Where each floating-point tensor lies, by name; a tied output head counts once.
    """

    label: str
    path: Path
    tensors: Mapping[str, TensorEntry]

    @property
    def dim(self) -> int:
        """Number of entries of all tensors."""
        return sum(entry.size for entry in self.tensors.values())

    @property
    def step(self) -> int | None:
        """The training step, if the file or folder is called step_N, checkpoint-N or iteration_N."""
        found = _STEP.search(self.path.name.removesuffix(".safetensors"))
        return int(found.group(1)) if found else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Read the entries ``start:stop`` of a tensor in row-major order, widened exactly to float64.

        Returns
        -------
        ndarray, shape (stop - start,)

        Raises
        ------
        DataError
            If the tensor does not exist, the file got shorter, or the tensor holds NaN or infinite entries.
        """
        entry = self._entry(name)
        values = _read(entry, start, entry.size if stop is None else min(stop, entry.size))
        with np.errstate(over="ignore"):
            suspicious = not np.isfinite(np.dot(values, values))  # far cheaper than looking at every entry
        if suspicious and not np.isfinite(values).all():
            raise DataError(
                f"tensor {name} of {entry.file} has {_count_not_finite(entry)} NaN or infinite entries",
                "the run diverged or the file is damaged; use an earlier checkpoint",
            )
        return values

    def tensor(self, name: str) -> NDArray[np.float64]:
        """Read a whole tensor in its own shape (see :meth:`read`)."""
        return self.read(name).reshape(self._entry(name).shape)

    def _entry(self, name: str) -> TensorEntry:
        if name not in self.tensors:
            raise DataError(f"{self.path} has no tensor {name}", "give a checkpoint of the same model")
        return self.tensors[name]


def open_checkpoint(path: str | Path, *, label: str | None = None, tied: bool | None = None) -> Checkpoint:
    """Open a ``.safetensors`` file or a Hugging Face folder.

    Parameters
    ----------
    path
        File or folder.
    label
        Name in results; the path as given by default.
    tied
        Whether the output head repeats the embedding; None: as the folder's config.json says.

    Raises
    ------
    DataError
        If it is missing, truncated, lacks a shard or holds no plain weights.
    """
    return Checkpoint(
        label=str(path) if label is None else label, path=Path(path), tensors=tensor_entries(path, tied=tied)
    )


def open_comparable(
    base: str | Path, others: Mapping[str, str | Path], *, names: frozenset[str] | None = None
) -> tuple[Checkpoint, list[Checkpoint]]:
    """Open checkpoints of one model and check that they can be subtracted from one another.

    A file that says nothing of tying follows a folder that does.

    Parameters
    ----------
    base
        The checkpoint to compare with.
    others
        The other checkpoints by label.
    names
        The tensors to keep (a run that trained only some of them wrote only those); None: all.

    Raises
    ------
    DataError
        Naming the first tensor that is missing, has another shape, or is stored too coarsely to be compared.
    """
    declared = [declares_tied_head(path) for path in (base, *others.values())]
    fallback = True if True in declared else None
    opened = [
        open_checkpoint(path, label=label, tied=fallback if word is None else word)
        for (label, path), word in zip([(str(base), base), *others.items()], declared, strict=True)
    ]
    if names is not None:
        opened = [_keep(checkpoint, names) for checkpoint in opened]
    for other in opened[1:]:
        _require_comparable(opened[0], other)
    return opened[0], opened[1:]


def _keep(checkpoint: Checkpoint, names: frozenset[str]) -> Checkpoint:
    for name in sorted(names):
        checkpoint._entry(name)
    kept = {name: entry for name, entry in checkpoint.tensors.items() if name in names}
    return Checkpoint(label=checkpoint.label, path=checkpoint.path, tensors=kept)


def _require_comparable(base: Checkpoint, other: Checkpoint) -> None:
    same_model = "compare checkpoints of one model"
    for name, entry in base.tensors.items():
        match = other.tensors.get(name)
        if match is None:
            raise DataError(f"{other.path} lacks the tensor {name} of {base.path}", same_model)
        if match.shape != entry.shape:
            what = f"tensor {name} is {list(match.shape)} in {other.path}, {list(entry.shape)} in {base.path}"
            raise DataError(what, same_model)
        if match.dtype != entry.dtype and ITEM_BYTES[match.dtype] <= ITEM_BYTES[entry.dtype]:
            what = f"tensor {name} is {match.dtype} in {other.path}, {entry.dtype} in {base.path}"
            raise DataError(what, "rounding alone would move the weights; save both in one dtype")
    for name in other.tensors:
        if name not in base.tensors:
            raise DataError(f"{other.path} holds the tensor {name}, which {base.path} lacks", same_model)


def _read(entry: TensorEntry, start: int, stop: int) -> NDArray[np.float64]:
    stored = _STORED[entry.dtype]
    offset = entry.offset + start * stored.itemsize
    raw = np.fromfile(entry.file, dtype=stored, count=stop - start, offset=offset)
    if raw.size != stop - start:
        raise DataError(f"{entry.file} got shorter while it was read", "copy or download it again")
    if entry.dtype == "BF16":  # the upper half of a float32
        raw = (raw.astype("<u4") << np.uint32(16)).view("<f4")
    return raw.astype(np.float64)


def _count_not_finite(entry: TensorEntry, chunk: int = 1 << 20) -> int:
    pieces = (_read(entry, start, min(start + chunk, entry.size)) for start in range(0, entry.size, chunk))
    return sum(int(np.count_nonzero(~np.isfinite(piece))) for piece in pieces)
