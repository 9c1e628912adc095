"""How far a long computation is: the work says it, and whoever watches, as a progress bar does, hears it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Watcher = Callable[[str, int, int], None]
"""Called with what is done, the number of parts that are, and of how many."""

_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(by: Watcher | None) -> Iterator[None]:
    """Let a watcher hear of all that is done inside; None: nobody does."""
    token = _WATCHER.set(by)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def is_watched() -> bool:
    """Return whether somebody hears how far things are."""
    return _WATCHER.get() is not None


def counted_out(what: str, parts: Iterable[T], total: int) -> Iterator[T]:
    """Yield the ``total`` parts of a computation, and tell the watcher of each that is done.

    `what`: the computation in a word or two: "comparing weights".
    """
    watcher = _WATCHER.get()
    if watcher is None:
        yield from parts
        return
    watcher(what, 0, total)
    for done, part in enumerate(parts, start=1):
        yield part
        watcher(what, done, total)
