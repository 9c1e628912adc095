"""The trainable parameters of a model as one flat vector.

A perturbation of a model is then one addition and its restoration one copy, whatever the number of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from estheory.errors import ConfigError, DataError, OutputError
from estheory.files import replacing
from estheory.models.shapes import trainable_shapes


class FlatParameters:
    """One contiguous buffer that holds every trainable tensor of a model, each a view of it.

    Tied tensors (an embedding shared with the output head) appear once, under the name that
    ``model.named_parameters()`` gives them. Writing into ``vector`` changes the model at once.

    Parameters
    ----------
    model
        The model. Its trainable parameters are moved into the buffer: they keep their values, names, shapes and
        tying, and lose their old storage.
    trainable
        ``"all"``; ``"last:K"`` for the last K transformer blocks; ``"regex:PATTERN"`` for the tensors whose name
        contains a match of the pattern; or ``"lora:R"`` for the adapters that `estheory.models.adapters` added.

    Attributes
    ----------
    vector : Tensor, shape (dim,)
        The buffer.
    names, shapes, offsets
        Of each tensor, in the order of the buffer; tensor k starts at ``offsets[k]``.
    dim : int
        Number of trainable parameters, d.

    Raises
    ------
    ConfigError
        No tensor is selected, or the selected tensors differ in dtype or device.
    """

    def __init__(self, model: nn.Module, trainable: str = "all") -> None:
        parameters = dict(model.named_parameters())
        if trainable.startswith("lora:"):
            shapes = {name: tuple(p.shape) for name, p in parameters.items() if ".lora_" in name}
            if not shapes:
                raise ConfigError("the model has no adapters", "add them first (estheory.models.adapters)")
        else:
            shapes = trainable_shapes({name: tuple(p.shape) for name, p in parameters.items()}, trainable)
        chosen = {name: parameter for name, parameter in parameters.items() if name in shapes}
        kinds = {(parameter.dtype, parameter.device) for parameter in chosen.values()}
        if len(kinds) > 1:
            raise ConfigError(
                f"the trainable tensors mix dtypes or devices: {sorted(str(kind) for kind in kinds)}",
                "load the whole model in one dtype on one device",
            )
        dtype, device = kinds.pop()
        self.names: tuple[str, ...] = tuple(chosen)
        self.shapes: tuple[tuple[int, ...], ...] = tuple(tuple(p.shape) for p in chosen.values())
        self.sizes: tuple[int, ...] = tuple(p.numel() for p in chosen.values())
        self.dim: int = sum(self.sizes)
        self.offsets: tuple[int, ...] = tuple(sum(self.sizes[:k]) for k in range(len(self.sizes)))
        self.vector: Tensor = torch.empty(self.dim, dtype=dtype, device=device)
        self._parameters = chosen
        with torch.no_grad():
            for name, parameter in chosen.items():
                view = self.tensor(name)
                view.copy_(parameter)
                parameter.data = view

    def tensor(self, name: str, vector: Tensor | None = None) -> Tensor:
        """Return one tensor.

        `vector`: another vector of the same length; None: the buffer.
        """
        try:
            k = self.names.index(name)
        except ValueError:
            raise ConfigError(f"the model has no trainable tensor {name!r}", "see .names") from None
        whole = self.vector if vector is None else vector
        return whole[self.offsets[k] : self.offsets[k] + self.sizes[k]].view(self.shapes[k])

    def items(self, vector: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield name and view of every tensor, in the order of the buffer."""
        for name in self.names:
            yield name, self.tensor(name, vector)

    def move_to(self, vector: Tensor) -> None:
        """Let the model compute with another buffer, which takes the values of this one.

        `vector`: shape (dim,), of the buffer's dtype and device.
        """
        vector.copy_(self.vector)
        for name, parameter in self._parameters.items():
            parameter.data = self.tensor(name, vector)
        self.vector = vector

    @contextmanager
    def restored(self) -> Iterator[Tensor]:
        """Put the buffer back bit for bit after a while, also after an error.

        Yields: shape (dim,), a copy of the buffer as it is now.
        """
        kept = self.vector.clone()
        try:
            yield kept
        finally:
            self.vector.copy_(kept)

    def write_safetensors(self, path: Path, vector: Tensor | None = None) -> None:
        """Write the tensors under the model's own names: to a temporary name first, then renamed.

        `path`: the file to make; an existing one is replaced as a whole or not at all.
        `vector`: values to write, shape (dim,); the buffer's own by default.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                save_file(dict(self.items(vector)), temporary, metadata={"format": "pt"})
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"cannot write the checkpoint {path}: {error}", "free space or choose another folder"
            ) from error

    def read_safetensors(self, path: Path, vector: Tensor | None = None) -> None:
        """Read what `write_safetensors` wrote, tensor by tensor."""
        remedy = "delete this checkpoint, or give one made from this model"
        try:
            with safe_open(path, framework="pt") as stored:
                if set(stored.keys()) != set(self.names):
                    odd = sorted(set(stored.keys()) ^ set(self.names))[0]
                    raise DataError(f"{path} does not hold this model's trainable tensors (first: {odd})", remedy)
                for name, view in self.items(vector):
                    tensor = stored.get_tensor(name)
                    if tensor.shape != view.shape or tensor.dtype != view.dtype:
                        raise DataError(
                            f"{path}: {name} is {tuple(tensor.shape)} {tensor.dtype}, "
                            f"the model's is {tuple(view.shape)} {view.dtype}",
                            remedy,
                        )
                    with torch.no_grad():
                        view.copy_(tensor)
        except (OSError, SafetensorError) as error:
            raise DataError(f"cannot read the checkpoint {path}: {error}", remedy) from error
