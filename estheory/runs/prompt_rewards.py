"""A step's rewards by prompt as one short line of JSON. Imports no torch.

``{"step": 7, "shape": [16, 32], "float64": "eNpj..."}``: `float64` is the base64 of the zlib-compressed little-endian
IEEE numbers, row by row, an evaluation a row and a prompt of the step a column. No bit is lost. What a step evaluated
beside its members stands in ``watched`` in the same form: their mirrored partners, if at all, then theta itself.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_ENTRIES = 1 << 27


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptRewards:
    """A step's rewards by prompt.

    Attributes
    ----------
    members : ndarray, shape (evaluations, prompts)
        Of the members, from which the step was made.
    partners : ndarray, shape (evaluations, prompts)
        Of the members' mirrored partners; None: not evaluated.
    centre : ndarray, shape (prompts,)
        Of theta before the step; None: not evaluated.
    """

    members: NDArray[np.float64]
    partners: NDArray[np.float64] | None = None
    centre: NDArray[np.float64] | None = None


def packed_rewards(
    step: int, rewards: Sequence[Sequence[float]], watched: Sequence[Sequence[float]] = ()
) -> dict[str, object]:
    """Return a row of rewards.jsonl.

    `watched`: of what was evaluated beside the members: their partners, if at all, and theta itself. Left out where one
    of them is not a number.
    """
    row = {"step": step, **_packed(rewards)}
    return {**row, "watched": _packed(watched)} if len(watched) and np.isfinite(watched).all() else row


def unpacked_rewards(row: Mapping[str, Any]) -> PromptRewards:
    """Return the rewards of a row; ValueError where it is damaged."""
    where = f"step {row['step']} is damaged"
    members = _unpacked(row, where)
    if "watched" not in row:
        return PromptRewards(members=members)
    try:
        watched = _unpacked(row["watched"], where)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where} ({error!r})") from error
    if watched.shape[1] != members.shape[1] or len(watched) not in (1, 1 + len(members)):
        raise ValueError(f"{where}: {watched.shape} rewards beside {members.shape} of members")
    return PromptRewards(members=members, partners=watched[:-1] if len(watched) > 1 else None, centre=watched[-1])


def _packed(rewards: Sequence[Sequence[float]]) -> dict[str, object]:
    array = np.array(rewards, dtype="<f8")
    text = base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")
    return {"shape": list(array.shape), "float64": text}


def _unpacked(row: Mapping[str, Any], where: str) -> NDArray[np.float64]:
    shape = row["shape"]
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
