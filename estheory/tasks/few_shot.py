"""A generated task as ordinary language models read it: worked examples first, one a line, then the question."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from estheory.tasks.task import FILLER, PROMPT_LENGTH, Example, Split, question_of
from estheory.tasks.wrapped import WrappedTask

SHOTS = 8
SHOT_SEED = 0


@dataclass(frozen=True)
class FewShot(WrappedTask):
    """A task whose prompts begin with :data:`SHOTS` solved training problems, the same ones for every prompt.

    The compact form, one padded line, is for character-level models that were pretrained on it. Scores are those of
    the task itself. The worked examples are never asked.
    """

    @property
    def single_line(self) -> bool:
        """True: the form has one line a problem."""
        return True

    @cached_property
    def _shots(self) -> list[Example]:
        return self.task.examples("train", SHOTS, SHOT_SEED)

    @cached_property
    def prefix(self) -> str:
        """The worked examples."""
        return "".join(f"{question_of(shot)}{shot.reference}\n" for shot in self._shots)

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """Return distinct examples of a split, none of them a worked one."""
        shown = {shot.prompt for shot in self._shots}
        spare = SHOTS if split == "train" else 0
        drawn = [e for e in self.task.examples(split, n + spare, seed) if e.prompt not in shown][:n]
        return [replace(example, prompt=self.prefix + question_of(example)) for example in drawn]

    def _inner(self, example: Example) -> Example:
        """Return the example in the task's compact form."""
        return replace(example, prompt=example.prompt.removeprefix(self.prefix).rjust(PROMPT_LENGTH, FILLER))

    def score(self, example: Example, completion: str) -> float:
        """Return the task's own accuracy of a completion."""
        return self.task.score(self._inner(example), completion)

    def partial_score(self, example: Example, completion: str) -> float:
        """Return the task's own graded score."""
        return self.task.partial_score(self._inner(example), completion)
