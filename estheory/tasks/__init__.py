"""Verifiable-reward tasks: prompts, canonical answers and safe scoring. One family per module, no torch."""

from __future__ import annotations

from collections.abc import Callable

from estheory.errors import ConfigError, did_you_mean
from estheory.tasks.addition import Addition
from estheory.tasks.chat import ChatTask, Larger, Products, Sums
from estheory.tasks.choice import Choice
from estheory.tasks.countdown import Countdown
from estheory.tasks.data import DataTask, Form, Messages, data_task
from estheory.tasks.data_files import has_task, tasks_in
from estheory.tasks.gym import GYM, GymTask, gym_task
from estheory.tasks.reversal import Reversal
from estheory.tasks.sorting import Sorting
from estheory.tasks.task import Example, Split, Task
from estheory.tasks.yesno import YesNo

__all__ = [
    "ChatTask",
    "DataTask",
    "Example",
    "Form",
    "GymTask",
    "Split",
    "Task",
    "chat_task_names",
    "data_of",
    "get_task",
    "task_names",
]

_FAMILIES = (Addition, Choice, Countdown, Reversal, Sorting, YesNo)
_TASKS: dict[str, Task] = {family.name: family() for family in _FAMILIES}
_CHATS: dict[str, type[ChatTask]] = {family.name: family for family in (Larger, Products, Sums)}


def task_names() -> tuple[str, ...]:
    """Return the names of the generated tasks that any model reads, held-out ones included, in alphabetical order."""
    return tuple(sorted(_TASKS))


def chat_task_names() -> tuple[str, ...]:
    """Return the names of the generated tasks that are asked in chat messages, in alphabetical order."""
    return tuple(sorted(_CHATS))


def get_task(
    name: str, *, data: str = "", form: Form = "auto", render: Callable[[Messages], str] | None = None
) -> Task:
    """Return a task by its name.

    `name`: of the files in `data`; without, one of `task_names` or `chat_task_names`. In either case
    ``reasoning-gym:FAMILY``.
    `data`: a folder, or ``hf:ID``, as for `estheory.tasks.data_files.records_of`; "" for none.
    `form`, `render`: as for `estheory.tasks.data.data_task`; the generated tasks have but one form.

    Examples
    --------
    >>> task = get_task("addition")
    >>> [example] = task.examples("test", 1, seed=0)
    >>> task.score(example, example.reference), task.score(example, "no number")
    (1.0, 0.0)
    """
    if name.startswith(GYM):
        return gym_task(name, form, render)
    if data:
        read = data_task(data, name, form, render)
        if read is None:
            raise ConfigError(
                f"{data} has no file of task {name!r}", f"it has files of {', '.join(tasks_in(data)) or 'no task'}"
            )
        return read
    if name in _CHATS:
        return _CHATS[name](render)
    if name not in _TASKS:
        known = (*task_names(), *chat_task_names())
        hint = f"{did_you_mean(name, known)}choose one of {', '.join(known)}"
        raise ConfigError(f"unknown task {name!r}", hint)
    return _TASKS[name]


def data_of(name: str, data: str, trained: str) -> str:
    """Return the data that a task is read from: none for generated tasks that are evaluated beside the data's own.

    `trained`: the task that is trained, which must be in the data.
    """
    generated = name in {*_TASKS, *_CHATS} and name != trained
    if name.startswith(GYM) or (generated and not (data and has_task(data, name))):
        return ""
    return data
