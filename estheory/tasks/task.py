"""What a task is, and the base of the tasks that draw their own problems.

Prompts of the generated tasks have one length, :data:`PROMPT_LENGTH` characters: shorter ones are padded on
the left with :data:`FILLER`, a real character of the model's vocabulary, so that a batch needs no padding tokens.
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

from estheory.errors import ConfigError

Split = Literal["train", "test"]

PROMPT_LENGTH = 24
FILLER = "."
MAX_ANSWER_LENGTH = 8
TEST_SHARE = 0.25
_PATIENCE = 20_000  # draws in a row that give nothing new before a split is called exhausted


@dataclass(frozen=True, kw_only=True)
class Example:
    """One prompt and the canonical right answer to it.

    Attributes
    ----------
    prompt, reference
        What the model reads, and a right continuation of it.
    options
        Where not empty, the possible continuations, `reference` among them: the answer is then not decoded but
        chosen by log-likelihood (`estheory.measurement.accuracy.ExampleScorer`).
    """

    prompt: str
    reference: str
    options: tuple[str, ...] = ()


class Task(Protocol):
    """Prompts with verifiable answers."""

    @property
    def name(self) -> str:
        """The name users type."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Tokens that hold every right answer and the end mark."""
        ...

    @property
    def held_out(self) -> bool:
        """Whether the task only measures drift: nothing trains on it unless asked to."""
        ...

    @property
    def single_line(self) -> bool:
        """Whether an answer ends with its first line, so that decoding stops at a newline."""
        ...

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """Return distinct examples of a split."""
        ...

    def score(self, example: Example, completion: str) -> float:
        """Return the accuracy of a completion."""
        ...

    def partial_score(self, example: Example, completion: str) -> float:
        """Return a graded score.

        Result: in [0, 1], 1 exactly where `score` is 1.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A drawn problem, before its prompt is brought to length.

    Attributes
    ----------
    text
        The question as the model reads it.
    answer
        The canonical right answer.
    key
        What the problem is about, whatever the order of its parts: problems of equal key share a split.
    """

    text: str
    answer: str
    key: str


class GeneratedTask(ABC):
    """A task whose problems are drawn from a random generator.

    The split of a problem is decided by a hash of its key, so the two splits never share a problem, whatever
    the seeds, and ``a+b`` never teaches the held-back ``b+a``.

    Attributes
    ----------
    name, held_out, max_new_tokens, single_line
        As in `Task`.
    test_share
        Of all problems, about.
    """

    name: str
    held_out: bool = False
    max_new_tokens: int = MAX_ANSWER_LENGTH + 1
    single_line: bool = True
    test_share: float = TEST_SHARE

    @abstractmethod
    def draw(self, rng: random.Random) -> Problem:
        """Draw one problem."""

    def prompt(self, problem: Problem) -> str:
        """Return what the model reads: the problem's text, filled to :data:`PROMPT_LENGTH`."""
        return problem.text.rjust(PROMPT_LENGTH, FILLER)

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """Draw distinct examples of one split."""
        if split not in ("train", "test"):
            raise ConfigError(f"unknown split {split!r} of task {self.name}", "use 'train' or 'test'")
        if n < 1:
            raise ConfigError(f"{n} examples of task {self.name} were asked for", "ask for at least 1")
        rng = random.Random(f"{self.name}/{split}/{seed}")
        found: dict[str, Example] = {}
        misses = 0
        while len(found) < n:
            problem = self.draw(rng)
            prompt = self.prompt(problem)
            if split_of(f"{self.name}/{problem.key}", self.test_share) != split or prompt in found:
                misses += 1
                if misses > _PATIENCE:
                    held = f"task {self.name} has only about {len(found)} distinct {split} prompts"
                    raise ConfigError(f"{held}, {n} were asked for", "ask for fewer prompts")
                continue
            misses = 0
            found[prompt] = Example(prompt=prompt, reference=problem.answer)
        return list(found.values())

    def score(self, example: Example, completion: str) -> float:
        """Return 1 if the completion's first line is the reference, else 0.

        Parameters and result as of :meth:`estheory.tasks.task.Task.score`.
        """
        return float(first_line(completion) == example.reference)

    def partial_score(self, example: Example, completion: str) -> float:
        """Return the share of character positions that agree with the reference.

        Parameters and result as of :meth:`estheory.tasks.task.Task.partial_score`.
        """
        return matching_share(first_line(completion), example.reference)


def split_of(key: str, test_share: float = TEST_SHARE) -> Split:
    """Return the split a problem belongs to: ``test`` for about that share of all keys, by their hash."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return "test" if number < test_share * 2**64 else "train"


def first_line(completion: str) -> str:
    """Return the first line of a completion."""
    return completion.split("\n", 1)[0].strip()


def matching_share(text: str, reference: str) -> float:
    """Return the share of positions at which two texts agree.

    Result: in [0, 1], over the longer one's length; 1 if both are empty.
    """
    longest = max(len(text), len(reference))
    return sum(a == b for a, b in zip(text, reference, strict=False)) / longest if longest else 1.0


def question_of(example: Example) -> str:
    """Return the prompt of a generated task without its left filling."""
    return example.prompt.lstrip(FILLER)
