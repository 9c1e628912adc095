"""Verifiable-reward tasks: prompts, canonical answers and safe scoring. One family a module, no torch."""

from __future__ import annotations

from estheory.errors import ConfigError
from estheory.tasks.addition import Addition
from estheory.tasks.choice import Choice
from estheory.tasks.countdown import Countdown
from estheory.tasks.reversal import Reversal
from estheory.tasks.sorting import Sorting
from estheory.tasks.task import Example, Split, Task
from estheory.tasks.yesno import YesNo

__all__ = ["Example", "Split", "Task", "get_task", "task_names"]

_FAMILIES = (Addition, Choice, Countdown, Reversal, Sorting, YesNo)
_TASKS: dict[str, Task] = {family.name: family() for family in _FAMILIES}


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks, held-out ones included, in alphabetical order."""
    return tuple(sorted(_TASKS))


def get_task(name: str) -> Task:
    """Return a task by its name.

    Raises
    ------
    ConfigError
        If there is no such task; the message lists the names.
    """
    if name not in _TASKS:
        raise ConfigError(f"unknown task {name!r}", f"choose one of {', '.join(task_names())}")
    return _TASKS[name]
