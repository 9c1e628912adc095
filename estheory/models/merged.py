"""PEFT LoRA adapters, merged into their base as it is read: W + s B A. Imports no torch.

s = lora_alpha / r, or lora_alpha / sqrt(r) with ``use_rslora``; patterns of single modules win. The sum is taken in
float64, so that the displacement is that of the adapter itself, not of a merged file rounded to the base's dtype.
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
from estheory.models.headers import Source, read_entries, tensor_entries

_FACTOR = re.compile(r"^(.*)\.lora_(embedding_)?([AB])(?:\.\w+)?(?:\.weight)?$")


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

        Parameters and result as of :meth:`estheory.models.headers.Source.pieces`.
        """
        columns = self.right.shape[1]
        for piece in self.base.pieces(start, stop, length):
            first, end = start // columns, start + len(piece)
            update = (self.left[first : -(-end // columns)] @ self.right).reshape(-1)
            piece += update[start - first * columns : end - first * columns]
            start = end
            yield piece


def merged_entries(folder: Path, base: Mapping[str, Source]) -> dict[str, Source]:
    """List the tensors of a base with an adapter merged into them.

    Tensors that the adapter replaces whole (``modules_to_save``, trained biases) are the adapter's.

    Parameters
    ----------
    folder
        A folder with adapter_config.json and adapter_model.safetensors (or ``.bin``).
    base
        The tensors of the model that it adapts.
    """
    try:
        return _merged(folder, base)
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError, ZeroDivisionError, re.error) as error:
        raise DataError(f"the adapter in {folder} is damaged ({error})", "copy it again") from error


def _merged(folder: Path, base: Mapping[str, Source]) -> dict[str, Source]:
    config = _config(folder)
    files = [folder / f"adapter_model{suffix}" for suffix in (".safetensors", ".bin")]
    file = next((file for file in files if file.is_file()), files[0])
    factors: dict[tuple[str, bool], dict[str, NDArray[np.float64]]] = {}
    result = dict(base)
    for name, entry in tensor_entries(file, tied=False).items():
        stem = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        found = _FACTOR.match(stem)
        if found:
            value = read_entries(entry, 0, entry.size).reshape(entry.shape)
            if bad := np.count_nonzero(~np.isfinite(value)):
                what = f"tensor {name} of {file} has {bad} NaN or infinite entries"
                raise DataError(what, "train again from an earlier adapter, or copy it again")
            factors.setdefault((found[1], bool(found[2])), {})[found[3]] = value
        elif stem in base:
            result[stem] = entry
        else:
            raise DataError(f"{file} holds {name}, which is no LoRA factor and no tensor of the base", _NO_LORA)
    for (module, embedding), pair in factors.items():
        name = f"{module}.weight"
        if set(pair) != {"A", "B"} or name not in base:
            raise DataError(f"the adapter of {module} in {file} lacks a factor or its base", "give its own base model")
        with np.errstate(over="ignore", invalid="ignore"):
            left, right = pair["B"] * _scale(config, module, len(pair["A"])), pair["A"]
            if not np.isfinite(np.abs(left).max(initial=0.0) * np.abs(right).max(initial=0.0) * len(right)):
                raise DataError(f"the adapter of {module} in {file} is out of range", "restore adapter_config.json")
        if embedding or config.get("fan_in_fan_out"):
            left, right = right.T, left.T
        if (len(left), right.shape[1]) != base[name].shape or left.shape[1] != len(right):
            what = f"the adapter of {module} in {file} makes a matrix of another shape than {list(base[name].shape)}"
            raise DataError(what, "give its own base model")
        result[name] = MergedEntry(base=result[name], left=left, right=right, file=file)
    return result


_NO_LORA = "merge it into its base with peft, then compare the merged model"


def _config(folder: Path) -> Mapping[str, Any]:
    file = folder / "adapter_config.json"
    try:
        config = parse_json(file.read_bytes())
        kind = config["peft_type"], int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{file} is no configuration of a LoRA adapter ({error})", "restore it") from error
    if kind[0] != "LORA" or config.get("use_dora"):
        raise DataError(f"{file} describes {'DoRA' if config.get('use_dora') else kind[0]}, not plain LoRA", _NO_LORA)
    return dict(config)


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alphas = config.get("alpha_pattern") or {}
    special = [value for pattern, value in alphas.items() if re.match(rf"(.*\.)?({pattern})$", module)]
    alpha = float(special[0] if special else config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
