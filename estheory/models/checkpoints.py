"""Reading the tensors of a checkpoint lazily, in pieces of bounded size. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.files import Problems, note
from estheory.models.entry_kinds import Kind, LeftOut, tied_entry
from estheory.models.fused import split_fused
from estheory.models.headers import Listing, listing
from estheory.models.merged import is_factor, merged_listing
from estheory.models.renames import Renamed, aligned
from estheory.models.sources import Source, read_entries
from estheory.models.vocabulary import common_rows, untied
from estheory.models.weight_files import TORCH_SUFFIXES, adapter_file, adapter_folder, declares_tied_head, is_adapter

_PIECE = 1 << 20
_STEP = re.compile(r"(?:step|checkpoint|iteration)[_=-](\d+)$")


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
        Where each weight lies, by name; a tied output head counts once.
    left_out
        What the files hold beside.
    renamed
        What of the names was replaced.
    notes
        What else to say of it, a clause each.
    """

    label: str
    path: Path
    tensors: Mapping[str, Source]
    left_out: tuple[LeftOut, ...] = ()
    renamed: tuple[Renamed, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        """Number of entries of all tensors."""
        return sum(entry.size for entry in self.tensors.values())

    @property
    def step(self) -> int | None:
        """The training step, if the file or its folder is called step_N, checkpoint-N, iteration_N or ...step=N."""
        stem = self.path.stem if self.path.suffix in (".safetensors", *TORCH_SUFFIXES) else self.path.name
        found = _STEP.search(stem) or _STEP.search(self.path.parent.name)
        return int(found.group(1)) if found else None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Read entries of a tensor in row-major order, widened exactly to float64.

        `start`, `stop`: the first entry, and the one after the last; all of them by default.
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


def open_checkpoint(path: str | Path, *, label: str | None = None) -> Checkpoint:
    """Open a file of weights or a Hugging Face folder.

    `path`: a ``.safetensors`` file, a file of torch.save, or a folder.
    `label`: name in results; the path as given by default.

    Examples
    --------
    >>> from estheory.models.builtin import get_builtin
    >>> open_checkpoint(get_builtin("tiny-lm")).dim
    59184
    """
    return _checkpoint(str(path) if label is None else label, Path(path), listing(path))


def open_comparable(
    base: str | Path,
    others: Mapping[str, str | Path],
    *,
    names: frozenset[str] | None = None,
    repeat_head: bool = False,
    problems: Problems | None = None,
) -> tuple[Checkpoint, list[Checkpoint]]:
    """Open checkpoints of one model and match their tensors, so that they can be subtracted from one another.

    Names are matched by pattern (:mod:`estheory.models.renames`), fused projections (``qkv_proj``, ``gate_up_proj``)
    split where another checkpoint has them apart, an output head compared with its embedding, a vocabulary cut to the
    rows that all have. A PEFT adapter is merged into the base as it is read; between adapters, factors are compared.

    `names`: the tensors to keep (a run that trained only some of them wrote only those); None: all.
    `repeat_head`: count a tied output head a second time, as a state dict lists it.
    `problems`: where to note what does not fit; it is then left out. None raises.
    """
    factors = all(is_adapter(path) for path in (base, *others.values()))
    first = _listing(base, None, factors, problems)
    found = {"": first}
    for label, path in others.items():
        try:
            found[label] = _listing(path, first, factors, problems)
        except DataError as error:
            note(error, problems)
    if len(found) == 1:
        raise DataError(f"no checkpoint of {len(others)} can be read: {(problems or ['?'])[0]}", "check the paths")
    listings = [first, *(_named_as(first, other) for label, other in found.items() if label)]
    split = split_fused([one.weights for one in listings])
    listings = [replace(one, weights=weights) for one, weights in zip(listings, split, strict=True)]
    paths = [Path(base), *(Path(others[label]) for label in found if label)]
    listings = untied(listings, [declares_tied_head(path) for path in paths], repeat_head)
    listings = common_rows(listings)
    labels = [str(base), *(label for label in found if label)]
    opened = [_checkpoint(label, path, one) for label, path, one in zip(labels, paths, listings, strict=True)]
    if names is not None:
        opened = [_keep(checkpoint, names) for checkpoint in opened]
    return opened[0], [_comparable(opened[0], other, problems) for other in opened[1:]]


def _checkpoint(label: str, path: Path, one: Listing) -> Checkpoint:
    return Checkpoint(
        label=label, path=path, tensors=one.weights, left_out=one.left_out, renamed=one.renamed, notes=one.notes
    )


def _listing(path: str | Path, base: Listing | None, factors: bool, problems: Problems | None) -> Listing:
    """Return what a checkpoint holds: an adapter's factors, the base with them merged, or full weights."""
    folder = adapter_folder(path)
    if folder is not None and factors:
        return listing(adapter_file(folder))
    if folder is not None and base is not None:
        return merged_listing(folder, base.weights)
    found = listing(path, problems=problems)
    loose = [name for name in found.weights if is_factor(name) and (base is None or name not in base.weights)]
    if base is not None and loose and len(loose) == len(found.weights):
        what = f"{path} holds factors of adapters alone ({loose[0]}), and no adapter_config.json tells their scale"
        raise DataError(what, "save the adapter by save_pretrained, and give its folder")
    if inner := [name for name in found.weights if ".base_layer." in name]:
        what = f"{path} is the state dict of a PEFT model whose adapter is not merged: it holds {inner[0]}"
        raise DataError(what, "save the state dict of its merge_and_unload(), or the adapter by save_pretrained")
    return found


def _named_as(base: Listing, other: Listing) -> Listing:
    """Return a listing under the base's names; of equal tensors, the one whose name the base has is the weight."""
    other = _kept_as(base, other)
    shapes = [{name: entry.shape for name, entry in one.weights.items()} for one in (base, other)]
    new, rules = aligned(*shapes)
    copies = {new.get(copy, copy): new[kept] for copy, kept in other.copies.items()}
    weights = {new[name]: entry for name, entry in other.weights.items()}
    return replace(other, weights=weights, copies=copies, renamed=(*other.renamed, *rules))


def _kept_as(base: Listing, other: Listing) -> Listing:
    swapped = {kept: copy for copy, kept in other.copies.items() if kept not in base.weights and copy in base.weights}
    if not swapped:
        return other
    weights = {swapped.get(name, name): entry for name, entry in other.weights.items()}
    copies = {
        kept if copy == swapped.get(kept) else copy: swapped.get(kept, kept) for copy, kept in other.copies.items()
    }
    left_out = tuple(
        tied_entry(kept, weights[swapped[kept]], swapped[kept])
        if row.kind is Kind.TIED and (kept := other.copies.get(row.name, "")) and swapped.get(kept) == row.name
        else row
        for row in other.left_out
    )
    return replace(other, weights=weights, copies=copies, left_out=left_out)


def _keep(checkpoint: Checkpoint, names: frozenset[str]) -> Checkpoint:
    for name in sorted(names):
        checkpoint._entry(name)
    return replace(checkpoint, tensors={n: entry for n, entry in checkpoint.tensors.items() if n in names})


def _comparable(base: Checkpoint, other: Checkpoint, problems: Problems | None) -> Checkpoint:
    """Return the checkpoint with the tensors that can be subtracted from the base's; the others raise or are noted."""
    same_model = "compare checkpoints of one model, or measure the tensors that both have (--keep-going)"
    kept = {}
    for name, entry in base.tensors.items():
        match = other.tensors.get(name)
        if match is None:
            what = f"{other.path} lacks the tensor {name} of {base.path}"
            note(DataError(what, same_model), problems)
        elif entry.size and not match.size:
            what = f"tensor {name} of {match.file} has no entries: ZeRO-3 keeps the values elsewhere"
            remedy = "gather them before saving (stage3_gather_16bit_weights_on_model_save)"
            note(DataError(what, remedy), problems)
        elif match.shape != entry.shape:
            what = f"tensor {name} is {list(match.shape)} in {other.path}, {list(entry.shape)} in {base.path}"
            note(DataError(what, same_model), problems)
        else:
            kept[name] = match
    for name, entry in other.tensors.items():
        if name not in base.tensors and entry.size:
            what = f"{other.path} holds the tensor {name}, which {base.path} lacks"
            note(DataError(what, same_model), problems)
    return replace(other, tensors=kept)
