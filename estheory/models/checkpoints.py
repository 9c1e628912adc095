"""Reading the tensors of a checkpoint lazily, in pieces of bounded size. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.models.fused import split_fused
from estheory.models.headers import ITEM_BYTES, Source, read_entries, tensor_entries
from estheory.models.merged import merged_entries
from estheory.models.weight_files import TORCH_SUFFIXES, Problems, declares_tied_head, is_adapter, note

_PIECE = 1 << 20
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
    tensors: Mapping[str, Source]

    @property
    def dim(self) -> int:
        """Number of entries of all tensors."""
        return sum(entry.size for entry in self.tensors.values())

    @property
    def step(self) -> int | None:
        """The training step, if the file or its folder is called step_N, checkpoint-N or iteration_N."""
        stem = self.path.stem if self.path.suffix in (".safetensors", *TORCH_SUFFIXES) else self.path.name
        found = _STEP.search(stem) or _STEP.search(self.path.parent.name)
        return int(found.group(1)) if found else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Read entries of a tensor in row-major order, widened exactly to float64.

        Parameters
        ----------
        start, stop
            The first entry, and the one after the last; all of them by default.
        """
        entry = self._entry(name)
        values = read_entries(entry, start, entry.size if stop is None else min(stop, entry.size))
        with np.errstate(over="ignore"):
            suspicious = not np.isfinite(np.dot(values, values))  # far cheaper than looking at every entry
        if suspicious and not np.isfinite(values).all():
            self.require_finite(name)
        return values

    def require_finite(self, name: str) -> None:
        """Check that a tensor has no NaN and infinite entries."""
        entry = self._entry(name)
        count = sum(int(np.count_nonzero(~np.isfinite(piece))) for piece in entry.pieces(0, entry.size, _PIECE))
        if count:
            raise DataError(
                f"tensor {name} of {entry.file} has {count} NaN or infinite entries",
                "the run diverged or the file is damaged; use an earlier checkpoint",
            )

    def tensor(self, name: str) -> NDArray[np.float64]:
        """Read a whole tensor in its own shape."""
        return self.read(name).reshape(self._entry(name).shape)

    def _entry(self, name: str) -> Source:
        if name not in self.tensors:
            raise DataError(f"{self.path} has no tensor {name}", "give a checkpoint of the same model")
        return self.tensors[name]


def open_checkpoint(path: str | Path, *, label: str | None = None, tied: bool | None = None) -> Checkpoint:
    """Open a file of weights or a Hugging Face folder.

    Parameters
    ----------
    path
        A ``.safetensors`` file, a file of torch.save, or a folder.
    label
        Name in results; the path as given by default.
    tied
        Whether the output head repeats the embedding; None: as the folder's config.json says.

    Examples
    --------
    >>> from estheory.models.builtin import get_builtin
    >>> open_checkpoint(get_builtin("tiny-lm")).dim
    59184
    """
    return Checkpoint(
        label=str(path) if label is None else label, path=Path(path), tensors=tensor_entries(path, tied=tied)
    )


def open_comparable(
    base: str | Path,
    others: Mapping[str, str | Path],
    *,
    names: frozenset[str] | None = None,
    repeat_head: bool = False,
    problems: Problems | None = None,
    cast: bool = False,
) -> tuple[Checkpoint, list[Checkpoint]]:
    """Open checkpoints of one model and check that they can be subtracted from one another.

    A file that says nothing of tying follows a folder that does. Fused projections (``qkv_proj``, ``gate_up_proj``)
    are split where another checkpoint has them apart. A PEFT adapter is merged into the base as it is read.

    Parameters
    ----------
    names
        The tensors to keep (a run that trained only some of them wrote only those); None: all.
    repeat_head
        Count a tied output head a second time, as a state dict lists it.
    problems
        Where to note what does not fit; it is then left out. None raises.
    cast
        The caller rounds the base to the checkpoints' format: they may be stored more coarsely than it.
    """
    declared = [declares_tied_head(path) for path in (base, *others.values())]
    tied = True if True in declared else None
    entries = tensor_entries(base, tied=tied if declared[0] is None else declared[0])
    reference = Checkpoint(label=str(base), path=Path(base), tensors=entries)
    opened = [reference]
    for (label, path), word in zip(others.items(), declared[1:], strict=True):
        try:
            if is_adapter(path):
                entries = merged_entries(Path(path), reference.tensors)
            else:
                entries = tensor_entries(path, tied=tied if word is None else word, problems=problems)
        except DataError as error:
            note(error, problems)
            continue
        opened.append(Checkpoint(label=label, path=Path(path), tensors=entries))
    if len(opened) == 1:
        raise DataError(f"no checkpoint of {len(others)} can be read: {(problems or ['?'])[0]}", "check the paths")
    split = split_fused([checkpoint.tensors for checkpoint in opened])
    opened = [replace(checkpoint, tensors=tensors) for checkpoint, tensors in zip(opened, split, strict=True)]
    if repeat_head and tied:
        opened = [_with_repeated_head(checkpoint) for checkpoint in opened]
    if names is not None:
        opened = [_keep(checkpoint, names) for checkpoint in opened]
    return opened[0], [_comparable(opened[0], other, problems, cast) for other in opened[1:]]


def _with_repeated_head(checkpoint: Checkpoint) -> Checkpoint:
    embeddings = [e for n, e in checkpoint.tensors.items() if n.endswith(("embed_tokens.weight", "wte.weight"))]
    return replace(checkpoint, tensors={**checkpoint.tensors, "lm_head.weight": embeddings[0]})


def _keep(checkpoint: Checkpoint, names: frozenset[str]) -> Checkpoint:
    for name in sorted(names):
        checkpoint._entry(name)
    return replace(checkpoint, tensors={n: entry for n, entry in checkpoint.tensors.items() if n in names})


def _comparable(base: Checkpoint, other: Checkpoint, problems: Problems | None, cast: bool) -> Checkpoint:
    """Return the checkpoint with the tensors that can be subtracted from the base's; the others raise or are noted."""
    same_model = "compare checkpoints of one model"
    kept = {}
    for name, entry in base.tensors.items():
        match = other.tensors.get(name)
        if match is None:
            what = f"{other.path} lacks the tensor {name} of {base.path}"
            note(DataError(what, same_model), problems)
        elif match.shape != entry.shape:
            what = f"tensor {name} is {list(match.shape)} in {other.path}, {list(entry.shape)} in {base.path}"
            note(DataError(what, same_model), problems)
        elif not cast and match.dtype != entry.dtype and ITEM_BYTES[match.dtype] <= ITEM_BYTES[entry.dtype]:
            what = f"tensor {name} is {match.dtype} in {other.path}, {entry.dtype} in {base.path}"
            note(DataError(what, "rounding alone would move the weights; save both in one dtype"), problems)
        else:
            kept[name] = match
    for name in other.tensors:
        if name not in base.tensors:
            what = f"{other.path} holds the tensor {name}, which {base.path} lacks"
            note(DataError(what, same_model), problems)
    return replace(other, tensors=kept)
