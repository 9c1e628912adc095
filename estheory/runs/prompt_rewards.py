"""A step's rewards by prompt as one short line of JSON. Imports no torch.

``{"step": 7, "shape": [16, 32], "float64": "eNpj..."}``: `float64` is the base64 of the zlib-compressed little-endian
IEEE numbers, row by row, an evaluation a row and a prompt of the step a column. No bit is lost.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_ENTRIES = 1 << 27


def packed_rewards(step: int, rewards: Sequence[Sequence[float]]) -> dict[str, object]:
    """Return a row of rewards.jsonl."""
    array = np.array(rewards, dtype="<f8")
    text = base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")
    return {"step": step, "shape": list(array.shape), "float64": text}


def unpacked_rewards(row: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the rewards of a row, shape (evaluations, prompts); ValueError where it is damaged."""
    shape, where = row["shape"], f"step {row['step']} is damaged"
    if len(shape) != 2 or not all(type(size) is int and 0 < size <= _MAX_ENTRIES for size in shape):
        raise ValueError(f"{where}: its shape is {shape}")
    size = 8 * shape[0] * shape[1]
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(row["float64"], validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{where} ({error})") from error
    if size > 8 * _MAX_ENTRIES or len(content) != size:
        raise ValueError(f"{where}: it does not hold {shape[0]} x {shape[1]} numbers")
    return np.frombuffer(content, dtype="<f8").reshape(shape).astype(np.float64)
