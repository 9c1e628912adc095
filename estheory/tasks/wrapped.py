"""A task inside another: what the outer one does not change is the inner one's."""

from __future__ import annotations

from dataclasses import dataclass

from estheory.tasks.task import Example, Split, Task


@dataclass(frozen=True)
class WrappedTask:
    """A task that is another's in all it says and does.

    Attributes
    ----------
    task
        The inner one.
    """

    task: Task

    @property
    def name(self) -> str:
        """The task's own name."""
        return self.task.name

    @property
    def max_new_tokens(self) -> int:
        """As the task's own."""
        return self.task.max_new_tokens

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


@dataclass(frozen=True)
class Limited(WrappedTask):
    """A task whose answers are cut after a number of tokens of the user's.

    Attributes
    ----------
    tokens
        In place of the task's own limit.
    """

    tokens: int

    @property
    def max_new_tokens(self) -> int:
        """The user's limit."""
        return self.tokens
