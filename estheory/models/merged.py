"""PEFT LoRA adapters, merged into their base as it is read: W + s B A. Imports no torch.

s = lora_alpha / r, or lora_alpha / sqrt(r) with ``use_rslora``; patterns of single modules win. A trained bias b of
factor B (``lora_bias``) moves the layer's bias by s b. The sum is taken in float64, so that the displacement is that of
the adapter itself, not of a merged file rounded to the base's dtype.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError
from estheory.files import parse_json
from estheory.models.headers import Listing, listing
from estheory.models.sources import Source, read_entries
from estheory.models.weight_files import adapter_file

_FACTOR = re.compile(r"^(.*)\.lora_(embedding_)?([AB])(?:\.(?!weight$|bias$)([^.]+))?(?:\.(weight|bias))?$")
_KEEPING = (True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin that leave the base's weights as they are."""
_PROMPTS = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT")
"""Kinds of adapters that add tokens or layers and move no weight."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MergedEntry:
    """One weight matrix with its adapter: ``base + left @ right``.

    Attributes
    ----------
    base
        The matrix, shape (m, n).
    left, right
        The scaled factors, shapes (m, r) and (r, n).
    file
        The adapter's.
    dtype
        That of the sum, a safetensors code.
    """

    base: Source
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    file: Path
    dtype: str = "F64"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the base's tensor."""
        return self.base.shape

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.base.size

    def pieces(self, start: int, stop: int, length: int) -> Iterator[NDArray[np.float64]]:
        """Yield entries; the product is formed for their rows alone.

        Parameters and result as of :meth:`estheory.models.sources.Source.pieces`.
        """
        columns = self.right.shape[1]
        for piece in self.base.pieces(start, stop, length):
            first, end = start // columns, start + len(piece)
            update = (self.left[first : -(-end // columns)] @ self.right).reshape(-1)
            piece += update[start - first * columns : end - first * columns]
            start = end
            yield piece


def is_factor(name: str) -> bool:
    """Whether a name is that of a factor of a LoRA adapter."""
    return _FACTOR.match(name) is not None


def merged_listing(folder: Path, base: Mapping[str, Source]) -> Listing:
    """List the tensors of a base with an adapter merged into them.

    Tensors that the adapter replaces whole (``modules_to_save``, trained biases) are the adapter's.

    `folder`: a folder with adapter_config.json and adapter_model.safetensors (or ``.bin``).
    `base`: the tensors of the model that it adapts.
    """
    try:
        return _merged(folder, base)
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError, ZeroDivisionError, re.error) as error:
        raise DataError(f"the adapter in {folder} is damaged ({error})", "copy it again") from error


def _merged(folder: Path, base: Mapping[str, Source]) -> Listing:
    config = _config(folder)
    file = adapter_file(folder)
    factors: dict[tuple[str, bool], dict[str, NDArray[np.float64]]] = {}
    adapters: set[str] = set()
    result = dict(base)
    held = listing(file)
    for name, entry in held.weights.items():
        stem = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if not entry.size:
            what = f"tensor {name} of {file} has no entries: ZeRO-3 keeps the values elsewhere"
            raise DataError(what, "gather them before saving (stage3_gather_16bit_weights_on_model_save)")
        if found := _FACTOR.match(stem):
            module, embedding, factor, adapter, kind = found.groups()
            adapters.add(adapter or "unnamed")
            value = read_entries(entry, 0, entry.size).reshape(entry.shape)
            if bad := np.count_nonzero(~np.isfinite(value)):
                what = f"tensor {name} of {file} has {bad} NaN or infinite entries"
                raise DataError(what, "train again from an earlier adapter, or copy it again")
            factors.setdefault((module, bool(embedding)), {})[factor + ("bias" if kind == "bias" else "")] = value
        elif stem in base or stem.endswith(_HEADS):
            result[stem] = entry
        else:
            raise DataError(f"{file} holds {name}, which is no LoRA factor and no tensor of the base", _NO_LORA)
    if len(adapters) > 1:
        what = f"{file} holds the factors of {len(adapters)} adapters ({', '.join(sorted(adapters))})"
        raise DataError(what, "save each in a folder of its own: save_pretrained(FOLDER, selected_adapters=[NAME])")
    for (module, embedding), values in factors.items():
        result |= _moved(module, embedding, values, result, config, file)
    return Listing(weights=result, copies=held.copies, left_out=held.left_out)


def _moved(
    module: str,
    embedding: bool,
    values: Mapping[str, NDArray[np.float64]],
    base: Mapping[str, Source],
    config: Mapping[str, Any],
    file: Path,
) -> dict[str, Source]:
    """Return the tensors of one module with its factors merged into them."""
    name, own = f"{module}.weight", "give its own base model"
    if not {"A", "B"} <= set(values) or (name not in base and not name.endswith(_HEADS)):
        raise DataError(f"the adapter of {module} in {file} lacks a factor or its base", own)
    if name not in base:
        what = f"{file} adapts {module}, which the base does not hold since it shares its embedding"
        raise DataError(what, _NO_LORA)
    scale = _scale(config, module, len(values["A"]))
    with np.errstate(over="ignore", invalid="ignore"):
        left, right = values["B"] * scale, values["A"]
        if not np.isfinite(np.abs(left).max(initial=0.0) * np.abs(right).max(initial=0.0) * len(right)):
            raise DataError(f"the adapter of {module} in {file} is out of range", "restore adapter_config.json")
    if embedding or config.get("fan_in_fan_out"):
        left, right = right.T, left.T
    shape = base[name].shape
    if (len(left), right.shape[1]) != shape or left.shape[1] != len(right):
        what = f"the adapter of {module} in {file} makes a matrix of another shape than {list(shape)}"
        raise DataError(what, own)
    moved: dict[str, Source] = {name: MergedEntry(base=base[name], left=left, right=right, file=file)}
    if (bias := values.get("Bbias")) is not None:
        there = base.get(f"{module}.bias")
        if there is None or there.shape != bias.shape:
            raise DataError(f"{file} trains a bias of {module}, and the base has none of its shape", own)
        column = scale * bias[:, None]
        moved[f"{module}.bias"] = MergedEntry(base=there, left=column, right=np.ones((1, 1)), file=file)
    return moved


_HEADS = ("lm_head.weight", "embed_out.weight")
_NO_LORA = "merge it into its base with peft (estheory models merge BASE ADAPTER FOLDER), then compare the merged model"


def _config(folder: Path) -> Mapping[str, Any]:
    file = folder / "adapter_config.json"
    try:
        config = parse_json(file.read_bytes())
        if "lora_parameters" in config and "peft_type" not in config:
            remedy = "fuse it into its base with that library, then compare the fused model"
            raise DataError(f"{file} describes an adapter of MLX", remedy)
        kind = str(config["peft_type"])
        if kind in _PROMPTS:
            what = f"{file} describes {kind}, which adds tokens or layers and moves no weight"
            raise DataError(what, "there is no displacement to measure; give a checkpoint that moved")
        if kind != "LORA" or config.get("use_dora"):
            raise DataError(f"{file} describes {'DoRA' if config.get('use_dora') else kind}, not plain LoRA", _NO_LORA)
        int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{file} is no configuration of a LoRA adapter ({error})", "restore it") from error
    begun = config.get("init_lora_weights", True)
    if begun not in _KEEPING:
        what = f"{file} says init_lora_weights = {str(begun)[:20]!r}, which changes the base's own weights at the start"
        raise DataError(what, _NO_LORA)
    return dict(config)


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alphas = config.get("alpha_pattern") or {}
    special = [value for pattern, value in alphas.items() if re.match(rf"(.*\.)?({pattern})$", module)]
    alpha = float(special[0] if special else config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
