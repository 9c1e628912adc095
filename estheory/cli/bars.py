"""Bars on stderr for computations that take longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from estheory.watching import watched

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 1.0
"""Seconds that a computation takes before it gets a bar."""


class Bars:
    """A bar with the time left for each computation that takes longer than a moment."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` parts are done."""
        now = time.monotonic()
        if done >= total:
            self._end(what)
        elif what in self._tasks and self._progress is not None:
            self._progress.update(self._tasks[what], completed=done, total=total)
        elif now - self._began.setdefault(what, now) > PATIENCE:
            if self._progress is None:
                from rich.console import Console
                from rich.progress import Progress

                self._progress = Progress(console=Console(stderr=True), transient=True)
                self._progress.start()
            self._tasks[what] = self._progress.add_task(what, completed=done, total=total)

    def _end(self, what: str) -> None:
        self._began.pop(what, None)
        task = self._tasks.pop(what, None)
        if self._progress is not None and task is not None:
            self._progress.remove_task(task)
        if not self._tasks:
            self.close()

    def close(self) -> None:
        """Take the bars away."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None


@contextmanager
def bars(shown: bool) -> Iterator[None]:
    """Draw how far long computations are; nothing where they are not shown."""
    if not shown:
        yield
        return
    drawn = Bars()
    try:
        with watched(drawn):
            yield
    finally:
        drawn.close()
