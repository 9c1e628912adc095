"""Where the tensors of a checkpoint lie, read from safetensors headers alone.

Neither torch nor safetensors is imported: a header is eight bytes (its length, little-endian) and that many
bytes of JSON. A checkpoint is a ``.safetensors`` file or a Hugging Face folder (one file, or shards with an
index).

Only floating-point tensors are weights. Boolean and 64-bit integer buffers (masks, position numbers) are left
out; any other element type means packed, quantised weights and is an error.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from estheory.errors import DataError

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BUFFER_BYTES = {"BOOL": 1, "I64": 8}
_INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """Where a tensor lies: ``offset`` in bytes from the start of ``file``, ``dtype`` a safetensors code."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    offset: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


def read_header(file: Path) -> dict[str, TensorEntry]:
    """Read the header of one safetensors file and check it against the file's size.

    Returns
    -------
    dict
        Every tensor by name, buffers included, in the order of the header.

    Raises
    ------
    DataError
        If the file is missing, truncated or no safetensors file.
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
        header = json.loads(raw)
        header.pop("__metadata__", None)
        for name, row in header.items():
            begin, end = map(int, row["data_offsets"])
            shape = tuple(int(n) for n in row["shape"])
            dtype = str(row["dtype"])
            if begin < 0 or _bytes_differ(dtype, shape, end - begin):
                raise ValueError(f"{name} spans {end - begin} bytes, which its shape and dtype do not")
            needed = max(needed, 8 + length + end)
            entries[name] = TensorEntry(name=name, shape=shape, dtype=dtype, file=file, offset=8 + length + begin)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is no safetensors file: unexpected header ({error})", again) from error
    if needed != held:
        state = "truncated" if held < needed else "longer than its header says"
        raise DataError(f"{file} is {state}: {needed} bytes expected, the file holds {held}", again)
    return entries


def declares_tied_head(path: str | Path) -> bool | None:
    """Whether the folder's config.json ties the output head to the embedding; None if it does not say."""
    config = Path(path) / "config.json"
    if not config.is_file():
        return None
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        value = content.get("tie_word_embeddings", content.get("text_config", {}).get("tie_word_embeddings"))
    except (ValueError, AttributeError, OSError) as error:
        raise DataError(f"{config} is not a readable JSON object", "restore the model's config.json") from error
    return value if isinstance(value, bool) else None


def tensor_entries(path: str | Path, *, tied: bool | None = None) -> dict[str, TensorEntry]:
    """List the weights of a checkpoint, a tied output head counted once.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or a folder with one, or with shards and an index.
    tied
        Whether ``lm_head.weight`` repeats the embedding. None: as the folder's config.json says (nothing
        said: untied).

    Returns
    -------
    dict
        Entries by tensor name.

    Raises
    ------
    DataError
        If there is no checkpoint, a shard is missing, or a file is damaged.
    """
    path = Path(path)
    entries: dict[str, TensorEntry] = {}
    for file in _weight_files(path):
        for name, entry in read_header(file).items():
            if name in entries:
                what = f"tensor {name} is in both {entries[name].file} and {file}"
                raise DataError(what, "remove the stale shard")
            entries[name] = entry
    for name, file_name in _weight_map(path).items():
        if name not in entries:
            raise DataError(f"{path / file_name} lacks the tensor {name} of {_INDEX_NAME}", "copy all shards again")
    packed = [entry for entry in entries.values() if entry.dtype not in ITEM_BYTES | _BUFFER_BYTES]
    if packed:
        what = f"tensor {packed[0].name} of {packed[0].file} has dtype {packed[0].dtype}, no plain weight"
        raise DataError(what, "save the model unquantised, in float32, bfloat16 or float16")
    entries = {name: entry for name, entry in entries.items() if entry.dtype in ITEM_BYTES}
    if not entries:
        raise DataError(f"{path} holds no floating-point tensor", "give a checkpoint with weights")
    if declares_tied_head(path) if tied is None else tied:
        embeddings = [name for name in entries if name.endswith(("embed_tokens.weight", "wte.weight"))]
        head = entries.get("lm_head.weight")
        if head is not None and any(entries[name].shape == head.shape for name in embeddings):
            del entries["lm_head.weight"]
    return entries


def _weight_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    weight_map = _weight_map(path)
    if weight_map:
        shards = sorted(set(weight_map.values()))
        missing = [name for name in shards if not (path / name).is_file()]
        if missing:
            what = f"{path} lacks the shard {missing[0]} ({len(missing)} of {len(shards)} missing)"
            raise DataError(what, "copy all shards")
        return [path / name for name in shards]
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    if (path / "adapter_config.json").is_file():
        raise DataError(f"{path} holds a PEFT adapter, not full weights", "merge it into its base model first")
    files = sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        what = f"{path} holds {len(files)} safetensors files and no {_INDEX_NAME}"
        raise DataError(what, "give one .safetensors file, or a folder written by save_pretrained")
    return files


def _weight_map(path: Path) -> dict[str, str]:
    """Shard by tensor name, from the folder's index; empty without an index."""
    index = path / _INDEX_NAME
    if not index.is_file():
        return {}
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        return {str(name): str(shard) for name, shard in content["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{index} is no safetensors index", "copy or download it again") from error


def _bytes_differ(dtype: str, shape: tuple[int, ...], span: int) -> bool:
    """Whether a tensor's span contradicts its shape; element types of unknown width are not judged here."""
    width = (ITEM_BYTES | _BUFFER_BYTES).get(dtype)
    return width is not None and span != width * math.prod(shape)
