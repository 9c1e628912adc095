"""Tensors of files that ``torch.save`` wrote (``.bin``, ``.pt``, ``.ckpt``). Imports torch when a file is opened.

Nothing but plain tensors is unpickled, since a pickle can run code; the file is mapped, not read, so that only the
entries asked for come into memory.
"""

from __future__ import annotations

import re
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
    **{"bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64"},
    **{"uint16": "U16", "uint32": "U32", "uint64": "U64", "complex64": "C64"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
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

    def pieces(self, start: int, stop: int, length: int) -> Iterator[NDArray[np.float64]]:
        """Yield entries in row-major order, widened exactly to float64.

        Parameters and result as of :meth:`estheory.models.sources.Source.pieces`.
        """
        import torch

        flat = self.tensor.reshape(-1)
        widened = torch.empty(min(length, stop - start), dtype=torch.float64)
        for first in range(start, stop, length):
            count = min(length, stop - first)
            yield widened[:count].copy_(flat[first : first + count]).numpy()


def torch_entries(file: Path) -> dict[str, TorchEntry]:
    """List the tensors of a file that ``torch.save`` wrote.

    The state dict may lie directly in the file or as the only dictionary of weights in dictionaries, beside anything
    else that is no pickled object (``{"model": state_dict, "optimizer": ..., "step": 100}``).
    """
    content = _load(file)
    inner = {} if not isinstance(content, Mapping) else _state_dicts(content)
    if len(inner) > 1:
        what = f"{file} holds {len(inner)} state dicts ({', '.join(inner)})"
        keys = "".join(f"[{key!r}]" for key in next(iter(inner)).split("."))
        raise DataError(what, f"save the one to be measured alone: torch.save(torch.load(FILE){keys}, NEW)")
    if not inner:
        raise DataError(f"{file} holds no dictionary of tensors", "save the model's state_dict() alone")
    [state] = inner.values()
    away = [name for name, tensor in state.items() if tensor.is_sparse or tensor.device.type != "cpu"]
    if away:
        what = f"tensor {away[0]} of {file} is sparse or on the meta device: it has no values here"
        raise DataError(what, "save it as a dense tensor on the CPU")
    return {name: TorchEntry(name=name, tensor=tensor.detach(), file=file) for name, tensor in state.items()}


@dataclass(frozen=True, kw_only=True)
class AdamRules:
    """What the state of an Adam optimiser tells of its rule.

    Attributes
    ----------
    betas
        Decay rates of the two moments.
    weight_decay
        Share of the weights that a step of learning rate 1 takes away.
    decoupled
        Whether it acts on the weights (AdamW), not on the gradient.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    decoupled: bool = True


def adam_rules(file: Path) -> AdamRules | None:
    """Return Adam's rule from the state of an optimiser that ``torch.save`` wrote; None of another optimiser.

    Several groups of parameters must agree on it; DataError where they do not, or where the file cannot be read.
    """
    import torch

    content = _load(file)
    groups = content.get("param_groups") if isinstance(content, Mapping) else None
    if not groups:
        raise DataError(f"{file} holds no param_groups", "save the optimiser's state_dict()")
    kept = {name for state in content.get("state", {}).values() for name in state}
    moments = {name for name in kept if name != "step"}
    of_adam = any(name in groups[0] for name in ("amsgrad", "correct_bias", "bias_correction"))
    if moments != {"exp_avg", "exp_avg_sq"} or not of_adam or any(group.get("amsgrad") for group in groups):
        return None
    found = {tuple(float(torch.as_tensor(beta)) for beta in group["betas"]) for group in groups}
    if len(found) > 1:
        raise DataError(f"the parameter groups of {file} have different betas", "judge a run with one pair of betas")
    beta1, beta2 = found.pop()
    # torch's Adam says of itself that it is not; AdamW of older versions is silent
    decoupled = all(bool(group.get("decoupled_weight_decay", True)) for group in groups)
    # groups without decay are those of biases and norms, a small share of the weights
    decays = {float(group.get("weight_decay", 0.0)) for group in groups} - {0.0}
    if len(decays) > 1:
        raise DataError(f"the parameter groups of {file} have different weight decays", "judge a run with one of them")
    return AdamRules(betas=(beta1, beta2), weight_decay=max(decays, default=0.0), decoupled=decoupled)


_MOMENTS = re.compile(r"(?:^|\.)(?:exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|step)$")
_DEEPEST = 4


def _state_dicts(content: Mapping[Any, Any], depth: int = 0) -> dict[str, dict[str, Tensor]]:
    """Return the dictionaries of weights in a file by their key: the file's own (empty key) if there are no others.

    They may lie several dictionaries deep (``app.model``); the states of optimisers and gradient scalers are none.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping) and depth < _DEEPEST and "param_groups" not in value:
            for inner, tensors in _state_dicts(value, depth + 1).items():
                found[f"{key}.{inner}" if inner else key] = tensors
    own = _tensors(content)
    return found or ({"": own} if own else {})


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return what a dictionary of tensors holds; empty for any other, such as the state of an optimiser."""
    import torch

    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    rest = {name: value for name, value in content.items() if name not in tensors}
    named = all(isinstance(name, str) for name in content)
    plain = all(str(n).endswith("_extra_state") or isinstance(v, int | float | str | None) for n, v in rest.items())
    sized = any(tensor.numel() != 1 for tensor in tensors.values())
    moments = named and any(_MOMENTS.search(name) and tensors[name].numel() > 1 for name in tensors)
    return tensors if named and plain and sized and not moments else {}


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
        if "DTensor" in str(error) or "ShardedTensor" in str(error):
            what = f"{file} holds one rank's shards of tensors (DTensor), not whole weights"
            remedy = "gather them: merge the ranks with the trainer's own tool, or save each tensor's full_tensor()"
            raise DataError(what, remedy) from error
        remedy = "it is not unpickled, since a pickle can run code; save the model's state_dict() alone"
        raise DataError(f"{file} holds more than plain tensors", remedy) from error
    except Exception as error:  # what a damaged pickle makes torch raise has no common base
        raise DataError(f"{file} is truncated or no file of torch.save", again) from error
