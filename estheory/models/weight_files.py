"""Which files of a model folder hold its weights: those that transformers would load. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from estheory.errors import DataError
from estheory.files import Problems, note, parse_json
from estheory.models.file_kinds import OTHER_SUFFIXES
from estheory.models.file_kinds import TORCH_SUFFIXES as TORCH_SUFFIXES

_INDEX = ".index.json"
_ORDER = (
    "model.safetensors",
    f"model.safetensors{_INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{_INDEX}",
    "pytorch_model.pt",
    "pytorch_model.pth",
)
"""As transformers looks for them: a file alone before an index, which an earlier save may have left."""
_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")


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


def adapter_folder(path: str | Path) -> Path | None:
    """Return the folder of a PEFT adapter, given it or its file of weights; None for anything else."""
    path = Path(path)
    folder = path.parent if path.name in _ADAPTER_FILES else path
    full = folder == path and _candidates(path)
    return folder if (folder / "adapter_config.json").is_file() and not full else None


def is_adapter(path: str | Path) -> bool:
    """Return whether a folder or file holds a PEFT adapter and no full weights."""
    return adapter_folder(path) is not None


def adapter_file(folder: Path) -> Path:
    """Return the file of an adapter's weights; it may be missing."""
    files = [folder / name for name in _ADAPTER_FILES]
    return next((file for file in files if file.is_file()), files[0])


def weight_files(path: Path, problems: Problems | None = None) -> list[Path]:
    """List the files that hold the weights of a file or folder.

    `problems`: where to note a missing shard and go on; None raises.
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
    if found := _candidates(path):
        return [found[0]]
    if is_adapter(path):
        raise DataError(f"{path} holds a PEFT adapter, not full weights", "give its base model first, then the adapter")
    return [_only_file(path)]


def unused_files(path: Path) -> list[Path]:
    """List files of weights in a folder that its model is not loaded from: what other saves left there."""
    used = set(weight_files(path, []))
    if not path.is_dir() or not _candidates(path):
        return []
    index = _candidates(path)[0]
    kinds = ("model*.safetensors", "pytorch_model*.bin", f"*{_INDEX}")
    there = {file for kind in kinds for file in path.glob(kind)}
    return sorted(there - used - {index})


def weight_index(path: Path) -> dict[str, str]:
    """Return the shard of each tensor, from the folder's index; empty where the model is loaded from one file."""
    found = _candidates(path)
    if not found or not found[0].name.endswith(_INDEX):
        return {}
    [index, *_] = found
    try:
        content = parse_json(index.read_bytes())
        weight_map = {str(name): str(shard) for name, shard in content["weight_map"].items()}
        if outside := [shard for shard in weight_map.values() if Path(shard).name != shard or "\0" in shard]:
            raise ValueError(f"{outside[0]!r} is no file of its folder")
        return weight_map
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DataError(f"{index} is no index of shards", "copy or download it again") from error


def _candidates(path: Path) -> list[Path]:
    return [path / name for name in _ORDER if (path / name).is_file()]


_NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")
_DISTRIBUTED = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"


def _only_file(path: Path) -> Path:
    """Return the one file of weights in a folder without a usual name; say what is there instead."""
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if shards := sorted([*path.glob("*.distcp"), *path.glob("*/*.distcp")]):
        folder = shards[0].parent
        remedy = f"convert it: {_DISTRIBUTED} {folder} weights.pt"
        raise DataError(f"{folder} is a distributed checkpoint (FSDP), one file a rank", remedy)
    if any(path.glob("*zero_pp_rank_*")) or any(path.glob("*/*zero_pp_rank_*")):
        remedy = "make one file of them by the script that DeepSpeed puts beside them: python zero_to_fp32.py . OUT"
        raise DataError(f"{path} holds the weights of DeepSpeed ZeRO by rank", remedy)
    if ranks := sorted([*path.glob("model_world_size_*_rank_*.pt"), *path.glob("*/model_world_size_*_rank_*.pt")]):
        if len(ranks) == 1 and ranks[0].name.startswith("model_world_size_1_"):
            return ranks[0]
        remedy = "merge the ranks with the trainer that wrote them, or give the file of a single rank"
        raise DataError(f"{ranks[0].parent} holds the weights by rank ({len(ranks)} files)", remedy)
    if adapters := sorted(path.glob("*/adapter_config.json")):
        what = f"{path} holds PEFT adapters in folders of their own ({', '.join(a.parent.name for a in adapters[:3])})"
        raise DataError(what, "give one of these folders")
    if nested := sorted(path.glob("checkpoints/*.ckpt")):
        what = f"{path} holds Lightning's checkpoints in a folder of their own ({nested[-1].name}, ...)"
        raise DataError(what, f"give one of the files in {nested[-1].parent}")
    kinds = (*TORCH_SUFFIXES, *OTHER_SUFFIXES)
    others = sorted(f for s in kinds for f in path.glob(f"*{s}") if not f.name.startswith(_NO_WEIGHTS))
    if len(files) + len(others) == 1:
        return others[0]
    there = f" ({', '.join(file.name for file in [*files, *others][:3])}, ...)" if files or others else ""
    what = f"{path} holds {len(files)} safetensors files{there} and no {_ORDER[1]}"
    raise DataError(what, "give one file of weights, or a folder written by save_pretrained")
