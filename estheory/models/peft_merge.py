"""Adapters of every kind that peft knows, merged into their base by peft itself and saved as a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from estheory.errors import ConfigError, DataError, MissingDependencyError
from estheory.files import replacing
from estheory.models.load import load_weights, resolve_model


def merge_adapter(base: str, adapter: Path, folder: Path) -> None:
    """Write the model that an adapter makes of its base, in float32 so that no rounding is added.

    PiSSA and OLoRA change the base's own weights at the start; peft does the same before it merges them.

    `base`: name of a built-in model, folder or hub id.
    `adapter`: folder that ``save_pretrained`` of peft wrote.
    `folder`: the folder to make; it must not exist.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingDependencyError(f"merging adapters needs peft ({error})", "install the package peft") from error
    if folder.exists():
        raise ConfigError(f"{folder} exists", "give a new folder")
    if not (adapter / "adapter_config.json").is_file():
        raise DataError(f"{adapter} holds no adapter_config.json", "give a folder that peft's save_pretrained wrote")
    model = load_weights(resolve_model(base), torch.float32)
    try:
        wrapped: Any = PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
    except Exception as error:  # what a damaged or unfit adapter makes peft raise has no common base
        what = f"{adapter} is no adapter of {base} ({str(error).strip().splitlines()[0] if str(error) else error!r})"
        raise DataError(what, "give its own base model, or copy the adapter again") from error
    if not hasattr(wrapped, "merge_and_unload"):
        what = f"{adapter} adds tokens or layers and moves no weight"
        raise DataError(what, "there is nothing to merge; give an adapter of weights")
    with replacing(folder) as temporary:
        wrapped.merge_and_unload().save_pretrained(temporary)
