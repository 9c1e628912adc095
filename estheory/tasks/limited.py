"""A task with a token limit of the user's."""

from __future__ import annotations

from dataclasses import dataclass

from estheory.tasks.task import Example, Split, Task


@dataclass(frozen=True)
class Limited:
    """A task whose answers are cut after a number of tokens; all else is the task's own.

    Attributes
    ----------
    task
        Any task.
    max_new_tokens
        In place of the task's own.
    """

    task: Task
    max_new_tokens: int

    @property
    def name(self) -> str:
        """The task's own name."""
        return self.task.name

    @property
    def held_out(self) -> bool:
        """As the task's own."""
        return self.task.held_out

    @property
    def single_line(self) -> bool:
        """As the task's own."""
        return self.task.single_line

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """Return the task's own examples."""
        return self.task.examples(split, n, seed)

    def score(self, example: Example, completion: str) -> float:
        """Return the task's own accuracy of a completion."""
        return self.task.score(example, completion)

    def partial_score(self, example: Example, completion: str) -> float:
        """Return the task's own graded score."""
        return self.task.partial_score(example, completion)
