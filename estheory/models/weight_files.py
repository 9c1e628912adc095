"""Which files of a model folder hold its weights: one file, or shards with an index. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from estheory.errors import DataError
from estheory.files import parse_json

TORCH_SUFFIXES = (".bin", ".pt", ".pth")
Problems = list[str]
"""What was wrong with the data and did not keep the rest from being measured, one line each."""

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_NAMES = ("model.safetensors", *(f"pytorch_model{suffix}" for suffix in TORCH_SUFFIXES))


def note(error: DataError, problems: Problems | None) -> None:
    """Raise an error, or note it where problems are collected."""
    if problems is None:
        raise error
    problems.append(error.what)


def declares_tied_head(path: str | Path) -> bool | None:
    """Return whether the folder's config.json ties the output head to the embedding."""
    config = Path(path) / "config.json"
    if not config.is_file():
        return None
    try:
        content = parse_json(config.read_bytes())
        value = content.get("tie_word_embeddings", content.get("text_config", {}).get("tie_word_embeddings"))
    except (ValueError, AttributeError, OSError) as error:
        raise DataError(f"{config} is not a readable JSON object", "restore the model's config.json") from error
    return value if isinstance(value, bool) else None


def is_adapter(path: str | Path) -> bool:
    """Return whether a folder holds a PEFT adapter and no full weights."""
    path = Path(path)
    full = any((path / name).is_file() for name in (*_INDICES, *_NAMES))
    return (path / "adapter_config.json").is_file() and not full


def weight_files(path: Path, problems: Problems | None = None) -> list[Path]:
    """List the files that hold the weights of a file or folder.

    Parameters
    ----------
    problems
        Where to note a missing shard and go on; None raises.
    """
    if not path.is_dir():
        return [path]
    weight_map = weight_index(path)
    if weight_map:
        shards = sorted(set(weight_map.values()))
        missing = [name for name in shards if not (path / name).is_file()]
        if missing:
            what = f"{path} lacks the shard {missing[0]} ({len(missing)} of {len(shards)} missing)"
            note(DataError(what, "copy all shards"), problems)
        return [path / name for name in shards if name not in missing]
    for name in _NAMES:
        if (path / name).is_file():
            return [path / name]
    if is_adapter(path):
        raise DataError(f"{path} holds a PEFT adapter, not full weights", "give its base model first, then the adapter")
    files = sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        what = f"{path} holds {len(files)} safetensors files and no {_INDICES[0]}"
        raise DataError(what, "give one file of weights, or a folder written by save_pretrained")
    return files


def weight_index(path: Path) -> dict[str, str]:
    """Return the shard of each tensor, from the folder's index."""
    for index in (path / name for name in _INDICES):
        if not index.is_file():
            continue
        try:
            content = parse_json(index.read_bytes())
            found = {str(name): str(shard) for name, shard in content["weight_map"].items()}
            if outside := [shard for shard in found.values() if Path(shard).name != shard or "\0" in shard]:
                raise ValueError(f"{outside[0]!r} is no file of its folder")
            return found
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise DataError(f"{index} is no index of shards", "copy or download it again") from error
    return {}
