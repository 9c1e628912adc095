"""The user's callable, called with care: what it does becomes a result or a violation, never a traceback of ours."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estheory._special import Array
from estheory.testing.failures import ViolationError


class Subject:
    """A callable under test; it gets copies of its arguments and must return numbers of a given shape."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)

    def takes(self, keyword: str) -> bool:
        """Return whether it has a parameter of that name, or would pass one on."""
        try:
            return keyword in inspect.signature(self.function).parameters
        except (TypeError, ValueError):
            return False

    def raw(self, *arguments: Any, **keywords: Any) -> Any:
        """Return what it returns, whatever that is."""
        try:
            return self.function(*arguments, **keywords)
        except ViolationError:
            raise
        except (Exception, SystemExit) as error:
            raise ViolationError(f"{self.name} raised {_told(error)}") from None

    def __call__(self, *arguments: NDArray[Any], shape: tuple[int, ...], **keywords: Any) -> Array:
        """Return its result on copies of the arguments, as float64 of the given shape."""
        return checked_array(self.raw(*(a.copy() for a in arguments), **keywords), shape, self.name)


def checked_array(result: Any, shape: tuple[int, ...], name: str) -> Array:
    """Return a result as float64, or say what is wrong with it."""
    array = as_array(result, name)
    if array.shape != shape:
        raise ViolationError(f"{name} returned shape {array.shape}", expected=f"shape {shape}")
    values = array.astype(np.float64)
    if not np.all(np.isfinite(values)):
        place = tuple(int(k) for k in np.argwhere(~np.isfinite(values))[0])
        bad = int(np.sum(~np.isfinite(values)))
        raise ViolationError(f"{name} returned {values[place]} ({bad} of {values.size} numbers are not finite)")
    return values


def as_array(result: Any, name: str) -> NDArray[Any]:
    """Return a numpy array of real numbers of what numpy, torch, JAX or a list holds."""
    if result is None:
        raise ViolationError(f"{name} returned None", expected="an array (is a return missing?)")
    try:
        for method in ("detach", "cpu"):  # tensors of torch
            result = getattr(result, method)() if hasattr(result, method) else result
        if str(getattr(result, "dtype", "")) == "torch.bfloat16":
            result = result.float()
        array = np.asarray(result)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ViolationError(f"{name} returned a {type(result).__name__}, which is no array ({error})") from None
    if array.dtype.kind not in "fiub" and not str(array.dtype).startswith(("bfloat16", "float8")):
        raise ViolationError(f"{name} returned a {type(result).__name__} of {array.dtype}", expected="real numbers")
    return array


def _told(error: BaseException) -> str:
    """Return an error in one line, with the place in the user's code."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    place = f" ({frames[-1].filename.rsplit('/', 1)[-1]}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}{place}"


def shown(values: Array | Sequence[float]) -> str:
    """Return numbers for a message: runs of one number told once, at most eight of them."""
    runs = [(value, len(list(same))) for value, same in groupby(np.asarray(values, dtype=np.float64).ravel().tolist())]
    text = ", ".join(f"{value:.6g}" + (f" ({count} times)" if count > 1 else "") for value, count in runs[:8])
    return f"[{text}{', ...' if len(runs) > 8 else ''}]"
