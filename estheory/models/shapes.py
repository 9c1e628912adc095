"""Shapes of a checkpoint's weights, and the choice of the trained ones. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from estheory.errors import ConfigError
from estheory.models.headers import tensor_entries
from estheory.tensor_names import layer_of

_PROJECTION = re.compile(
    r"\.(?:[qkvo]_proj|out_proj|qkv_proj|gate_proj|up_proj|down_proj|gate_up_proj|c_attn|c_proj|c_fc"
    r"|query_key_value|dense|dense_h_to_4h|dense_4h_to_h|fc1|fc2)\.weight$"
)


def tensor_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a checkpoint's weights.

    Result: by name, a tied head counted once (see :func:`estheory.models.headers.tensor_entries`).
    """
    return {name: entry.shape for name, entry in tensor_entries(path).items()}


def trainable_shapes(shapes: Mapping[str, tuple[int, ...]], trainable: str = "all") -> dict[str, tuple[int, ...]]:
    """Select the trained tensors.

    `shapes`: shapes by tensor name, as :func:`tensor_shapes` returns them.
    `trainable`: ``all``; ``last:K``, the last K transformer blocks by the layer number in the names; ``lora:R``,
    adapters A (R, n) and B (m, R) for every attention or MLP projection of shape (m, n); ``regex:PATTERN``, the names
    in which ``re.search`` finds the pattern.

    Examples
    --------
    >>> trainable_shapes({"layers.0.q_proj.weight": (8, 8), "norm.weight": (8,)}, "lora:2")
    {'layers.0.q_proj.lora_A.weight': (2, 8), 'layers.0.q_proj.lora_B.weight': (8, 2)}
    """
    kind, _, argument = trainable.partition(":")
    if trainable == "all":
        chosen = dict(shapes)
    elif kind == "last":
        chosen = _last_blocks(shapes, _positive(argument, trainable))
    elif kind == "lora":
        chosen = _adapters(shapes, _positive(argument, trainable))
    elif kind == "regex" and argument:
        try:
            pattern = re.compile(argument)
        except re.error as error:
            raise ConfigError(
                f"trainable {trainable!r} is no regular expression ({error})", "correct the pattern"
            ) from error
        chosen = {name: shape for name, shape in shapes.items() if pattern.search(name)}
    else:
        raise ConfigError(f"trainable {trainable!r} is not understood", "use all, last:K, lora:R or regex:PATTERN")
    if not chosen:
        raise ConfigError(f"trainable {trainable!r} selects no tensor", "check it against the model's tensor names")
    return chosen


def _positive(argument: str, trainable: str) -> int:
    if not argument.isdecimal() or int(argument) < 1:
        raise ConfigError(
            f"trainable {trainable!r} needs a positive integer after the colon",
            "for example last:2 or lora:8",
        )
    return int(argument)


def _last_blocks(shapes: Mapping[str, tuple[int, ...]], count: int) -> dict[str, tuple[int, ...]]:
    layers = {name: int(layer) for name in shapes if (layer := layer_of(name)) is not None}
    blocks = max(layers.values(), default=-1) + 1
    if count > blocks:
        raise ConfigError(
            f"trainable 'last:{count}' asks for more blocks than the model has ({blocks})", "lower the number"
        )
    return {name: shapes[name] for name, layer in layers.items() if layer >= blocks - count}


def _adapters(shapes: Mapping[str, tuple[int, ...]], rank: int) -> dict[str, tuple[int, ...]]:
    adapters: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if len(shape) == 2 and _PROJECTION.search(name):
            stem = name.removesuffix(".weight")
            adapters[f"{stem}.lora_A.weight"] = (rank, shape[1])
            adapters[f"{stem}.lora_B.weight"] = (shape[0], rank)
    return adapters
