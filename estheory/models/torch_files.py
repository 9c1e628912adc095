"""Tensors of files that ``torch.save`` wrote (``.bin``, ``.pt``, ``.pth``). Imports torch when a file is opened.

Nothing but plain tensors is unpickled, since a pickle can run code; the file is mapped, not read, so that only the
entries asked for come into memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_CODES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"},
    **{"bool": "BOOL", "int64": "I64"},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchEntry:
    """One tensor of a mapped file.

    Attributes
    ----------
    name, file
        Of the tensor.
    tensor
        Mapped, not read.
    """

    name: str
    tensor: Tensor
    file: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> str:
        """Its element type, as safetensors calls it; torch's own name for those that are no plain weights."""
        name = str(self.tensor.dtype).removeprefix("torch.")
        return _CODES.get(name, name)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.tensor.numel()

    @property
    def address(self) -> tuple[int, tuple[int, ...]]:
        """Where its first entry lies, and its shape: the same for two names of one tensor."""
        return self.tensor.data_ptr(), self.shape

    def pieces(self, start: int, stop: int, length: int) -> Iterator[NDArray[np.float64]]:
        """Yield entries in row-major order, widened exactly to float64.

        Parameters and result as of :meth:`estheory.models.headers.Source.pieces`.
        """
        import torch

        flat = self.tensor.reshape(-1)
        widened = torch.empty(min(length, stop - start), dtype=torch.float64)
        for first in range(start, stop, length):
            count = min(length, stop - first)
            yield widened[:count].copy_(flat[first : first + count]).numpy()


def torch_entries(file: Path) -> dict[str, TorchEntry]:
    """List the tensors of a file that ``torch.save`` wrote.

    The state dict may lie directly in the file or as the only dictionary of tensors in a dictionary
    (``{"model": state_dict, "step": 100}``).
    """
    content = _load(file)
    if isinstance(content, Mapping) and not _is_state_dict(content):
        inner = [value for value in content.values() if isinstance(value, Mapping) and _is_state_dict(value)]
        content = inner[0] if len(inner) == 1 else None
    if not isinstance(content, Mapping) or not _is_state_dict(content):
        raise DataError(f"{file} holds no dictionary of tensors", "save the model's state_dict() alone")
    return {
        name: TorchEntry(name=name, tensor=tensor.detach(), file=file)
        for name, tensor in content.items()
        if not tensor.is_sparse and tensor.device.type == "cpu"
    }


def shared_names(entries: Mapping[str, TorchEntry]) -> set[str]:
    """Return the names that share their tensor with another name (tied weights).

    Parameters
    ----------
    entries
        Of one model, by name; empty tensors share nothing.
    """
    counts = Counter(entry.address for entry in entries.values() if entry.size)
    return {name for name, entry in entries.items() if counts[entry.address] > 1}


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    import torch

    return bool(content) and all(isinstance(n, str) and isinstance(t, torch.Tensor) for n, t in content.items())


def _load(file: Path) -> Any:
    import pickle

    import torch

    again = "copy or download it again"
    if not file.is_file():
        raise DataError(f"cannot read {file} (no such file)", "give a file of weights or a model folder")
    try:
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(file, map_location="cpu", weights_only=True)  # torch's format of before 1.6
    except pickle.UnpicklingError as error:
        remedy = "it is not unpickled, since a pickle can run code; save the model's state_dict() alone"
        raise DataError(f"{file} holds more than plain tensors", remedy) from error
    except Exception as error:  # what a damaged pickle makes torch raise has no common base
        raise DataError(f"{file} is truncated or no file of torch.save", again) from error
