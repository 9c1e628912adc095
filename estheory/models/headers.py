"""Which tensors a checkpoint holds and what each of them is, read from headers and from a few of their values.

Neither torch nor safetensors is imported: a safetensors header is eight bytes (its length, little-endian) and that
many bytes of JSON. A checkpoint is a ``.safetensors`` file, a file that torch.save wrote (only then torch is
imported), or a Hugging Face folder (one file, or shards with an index).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from estheory.errors import DataError
from estheory.files import Problems, note, parse_json
from estheory.models.entry_kinds import Kind, LeftOut, left_out_of, tied_copies, tied_entry
from estheory.models.file_kinds import is_torch_file
from estheory.models.renames import Renamed, unwrapped
from estheory.models.sources import ITEM_BYTES, Source, TensorEntry
from estheory.models.weight_files import adapter_file, unused_files, weight_files, weight_index

_WIDTHS = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4},
    **{"U64": 8, "I64": 8, "C64": 8},
    **ITEM_BYTES,
}
"""Bytes of one element, by safetensors code."""


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Read the header of one safetensors file and check it against the file's size.

    Result: every tensor by name, buffers included, in the order of the header.
    """
    again = "copy or download it again"
    try:
        held = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            needed = 8 + length if held >= 8 else 8
            if held > 8 and stream.read(1) != b"{":
                raise DataError(f"{file} is no safetensors file: it does not start as one", again)
            stream.seek(8)
            if held < needed:
                what = f"{file} is truncated or no safetensors file: header of {needed} bytes, file of {held}"
                raise DataError(what, again)
            raw = stream.read(length)
    except OSError as error:
        what = f"cannot read {file} ({error.strerror})"
        raise DataError(what, "give a .safetensors file or a model folder") from error
    entries = {}
    needed = 8 + length
    try:
        header = parse_json(raw)
        header.pop("__metadata__", None)
        for name, row in header.items():
            begin, end = map(int, row["data_offsets"])
            shape = tuple(int(n) for n in row["shape"])
            dtype = str(row["dtype"])
            if begin < 0 or end < begin or min(shape, default=0) < 0 or _bytes_differ(dtype, shape, end - begin):
                raise ValueError(f"{name} spans {end - begin} bytes, which its shape and dtype do not")
            needed = max(needed, 8 + length + end)
            entries[name] = TensorEntry(name=name, shape=shape, dtype=dtype, file=file, offset=8 + length + begin)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{file} is no safetensors file: unexpected header ({error})", again) from error
    if needed != held:
        state = "truncated" if held < needed else "longer than its header says"
        raise DataError(f"{file} is {state}: {needed} bytes expected, the file holds {held}", again)
    return entries


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What the tensors of a checkpoint are.

    Attributes
    ----------
    weights
        By name, each once.
    copies
        Tensors that repeat one of the weights, and the name of that one.
    left_out
        What is no weight of its own, copies too.
    renamed
        What was taken off the names in the file.
    notes
        What else to say of it, a clause each.
    """

    weights: Mapping[str, Source]
    copies: Mapping[str, str]
    left_out: tuple[LeftOut, ...]
    renamed: tuple[Renamed, ...] = ()
    notes: tuple[str, ...] = ()


def tensor_entries(path: str | Path) -> dict[str, Source]:
    """List the weights of a checkpoint, a tied output head counted once."""
    return dict(listing(path).weights)


def listing(path: str | Path, *, problems: Problems | None = None) -> Listing:
    """Sort the tensors of a checkpoint by what they are.

    `path`: a ``.safetensors`` file, a file of torch.save, or a folder with one, or with shards and an index.
    `problems`: where to note missing and damaged shards and tensors, which are then left out; None raises.
    """
    path = Path(path)
    entries = _all_entries(path, problems)
    names, renamed = unwrapped(entries)
    entries = {names[name]: entry for name, entry in entries.items()}
    left_out = left_out_of(entries)
    quantised = [row for row in left_out if row.kind is Kind.QUANTISED]
    if quantised:
        [first, *_] = sorted(quantised, key=lambda row: entries[row.name].dtype in ITEM_BYTES)  # not its scales
        what = f"tensor {first.name} of {first.file} has dtype {entries[first.name].dtype}, no plain weight"
        note(DataError(what, "save the model unquantised, in float32, bfloat16 or float16"), problems)
    gone = {row.name for row in left_out}
    weights = {name: entry for name, entry in entries.items() if name not in gone}
    if not weights:
        raise DataError(f"{path} holds no floating-point tensor that is a weight", "give a checkpoint with weights")
    copies = tied_copies(weights)
    left_out += [tied_entry(name, weights.pop(name), kept) for name, kept in copies.items()]
    chosen = " and ".join(file.name for file in weight_files(path, [])[:1])
    for file in unused_files(path):
        why = f"transformers loads {chosen}"
        left_out.append(LeftOut(name=file.name, kind=Kind.FILE, why=why, entries=0, file=file))
    if path.is_dir() and (beside := adapter_file(path)).is_file():
        why = "an adapter beside full weights, and not merged into them"
        left_out.append(LeftOut(name=beside.name, kind=Kind.FILE, why=why, entries=0, file=beside))
    return Listing(weights=weights, copies=copies, left_out=tuple(left_out), renamed=tuple(renamed))


def _all_entries(path: Path, problems: Problems | None) -> dict[str, Source]:
    entries: dict[str, Source] = {}
    files = weight_files(path, problems)
    for file in files:
        found: Mapping[str, Source] = {}
        try:
            if is_torch_file(file):
                from estheory.models.torch_files import torch_entries

                found = torch_entries(file)
            else:
                found = read_header(file)
        except DataError as error:
            note(error, problems if len(files) > 1 else None)
        for name, entry in found.items():
            if name in entries:
                what = f"tensor {name} is in both {entries[name].file} and {file}"
                raise DataError(what, "remove the stale shard")
            entries[name] = entry
    for name, file_name in weight_index(path).items():
        if name not in entries and problems is None:
            raise DataError(f"{path / file_name} lacks the tensor {name} of its index", "copy all shards again")
    return entries


def _bytes_differ(dtype: str, shape: tuple[int, ...], span: int) -> bool:
    """Whether a tensor's span contradicts its shape; element types of unknown width are not judged here."""
    width = _WIDTHS.get(dtype)
    return width is not None and span != width * math.prod(shape)
