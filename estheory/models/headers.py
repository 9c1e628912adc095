"""Where the tensors of a checkpoint lie, read from safetensors headers alone.

Neither torch nor safetensors is imported: a header is eight bytes (its length, little-endian) and that many
bytes of JSON. A checkpoint is a ``.safetensors`` file, a file that torch.save wrote (only then torch is imported),
or a Hugging Face folder (one file, or shards with an index).

Only floating-point tensors are weights. Boolean and 64-bit integer buffers (masks, position numbers) are left
out; any other element type means packed, quantised weights and is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.files import parse_json
from estheory.models.weight_files import (
    TORCH_SUFFIXES,
    Problems,
    declares_tied_head,
    note,
    weight_files,
    weight_index,
)

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BUFFER_BYTES = {"BOOL": 1, "I64": 8}
_STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


class Source(Protocol):
    """Where the values of one tensor come from; ``dtype`` is a safetensors code, ``file`` is for messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> str:
        """Its element type."""

    @property
    def file(self) -> Path:
        """The file it comes from."""

    @property
    def size(self) -> int:
        """Number of entries."""

    def pieces(self, start: int, stop: int, length: int) -> Iterator[NDArray[np.float64]]:
        """Yield entries in row-major order, widened exactly to float64.

        The reader may change a piece, and loses it when it asks for the next one: they share their memory.

        Parameters
        ----------
        start, stop
            The first entry, and the one after the last.
        """


def read_entries(source: Source, start: int, stop: int) -> NDArray[np.float64]:
    """Read entries of a tensor at once.

    Parameters
    ----------
    start, stop
        The first entry in row-major order, and the one after the last.
    """
    return next(source.pieces(start, stop, stop - start)) if stop > start else np.empty(0)


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """Where a tensor lies.

    Attributes
    ----------
    name, shape
        Of the tensor.
    dtype
        A safetensors code.
    file, offset
        Its file, and its first byte there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    offset: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def pieces(self, start: int, stop: int, length: int) -> Iterator[NDArray[np.float64]]:
        """Yield entries in row-major order, widened exactly to float64.

        Parameters and result as of :meth:`estheory.models.headers.Source.pieces`.
        """
        stored = np.empty(min(length, stop - start), dtype=_STORED[self.dtype])
        float32 = np.empty(len(stored) if self.dtype == "BF16" else 0, dtype="<u4")
        widened = np.empty(len(stored))
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.offset + start * stored.itemsize)
            for first in range(start, stop, length):
                count = min(length, stop - first)
                if _filled(stream, stored[:count]) < stored[:count].nbytes:
                    raise DataError(f"{self.file} got shorter while it was read", "copy or download it again")
                if self.dtype == "BF16":  # the upper half of a float32
                    np.copyto(float32[:count], stored[:count])
                    np.left_shift(float32[:count], np.uint32(16), out=float32[:count])
                    np.copyto(widened[:count], float32[:count].view("<f4"))
                else:
                    np.copyto(widened[:count], stored[:count])
                yield widened[:count]


def _filled(stream: RawIOBase, array: NDArray[Any]) -> int:
    """Fill an array from a file and return the number of bytes there were; one read may give less than asked for."""
    view, done = memoryview(array.view(np.uint8).data), 0
    while done < len(view) and (got := stream.readinto(view[done:])):
        done += got
    return done


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Read the header of one safetensors file and check it against the file's size.

    Returns
    -------
    dict
        Every tensor by name, buffers included, in the order of the header.
    """
    again = "copy or download it again"
    try:
        held = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            needed = 8 + length if held >= 8 else 8
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


def tensor_entries(
    path: str | Path, *, tied: bool | None = None, problems: Problems | None = None
) -> dict[str, Source]:
    """List the weights of a checkpoint, a tied output head counted once.

    Parameters
    ----------
    path
        A ``.safetensors`` file, a file of torch.save, or a folder with one, or with shards and an index.
    tied
        Whether ``lm_head.weight`` repeats the embedding. None: as the folder's config.json says, or, without
        one, as the file says whose two names share one tensor (otherwise: untied).
    problems
        Where to note missing and damaged shards and tensors, which are then left out; None raises.
    """
    path = Path(path)
    entries: dict[str, Source] = {}
    shared: set[str] = set()
    files = weight_files(path, problems)
    for file in files:
        found: dict[str, Any] = {}
        try:
            if file.suffix in TORCH_SUFFIXES:
                from estheory.models.torch_files import shared_names, torch_entries

                found = torch_entries(file)
                shared |= shared_names(found)
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
    packed = [name for name, entry in entries.items() if entry.dtype not in ITEM_BYTES | _BUFFER_BYTES]
    if packed:
        entry = entries[packed[0]]
        what = f"tensor {packed[0]} of {entry.file} has dtype {entry.dtype}, no plain weight"
        raise DataError(what, "save the model unquantised, in float32, bfloat16 or float16")
    entries = {name: entry for name, entry in entries.items() if entry.dtype in ITEM_BYTES}
    if not entries:
        raise DataError(f"{path} holds no floating-point tensor", "give a checkpoint with weights")
    if tied is None:
        tied = declares_tied_head(path)
    if "lm_head.weight" in shared if tied is None else tied:
        embeddings = [name for name in entries if name.endswith(("embed_tokens.weight", "wte.weight"))]
        head = entries.get("lm_head.weight")
        if head is not None and any(entries[name].shape == head.shape for name in embeddings):
            del entries["lm_head.weight"]
    return entries


def _bytes_differ(dtype: str, shape: tuple[int, ...], span: int) -> bool:
    """Whether a tensor's span contradicts its shape; element types of unknown width are not judged here."""
    width = (ITEM_BYTES | _BUFFER_BYTES).get(dtype)
    return width is not None and span != width * math.prod(shape)
