"""Generated tasks that are asked in chat messages: for instruction-tuned models, which have a chat template."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable

from estheory.errors import ConfigError
from estheory.tasks.answers import last_number
from estheory.tasks.data import Messages
from estheory.tasks.task import Example, GeneratedTask, Problem


class ChatTask(GeneratedTask):
    """A generated task whose problems are messages of a user.

    Parameters
    ----------
    render
        Makes a prompt of (role, content) messages; None for a model without a chat template, which is an error as
        soon as examples are drawn.

    Attributes
    ----------
    test_prompts
        Number of all test prompts.
    """

    single_line = False
    test_prompts: int

    def __init__(self, render: Callable[[Messages], str] | None = None) -> None:
        self._render = render

    def prompt(self, problem: Problem) -> str:
        """Return the chat that asks a problem."""
        if self._render is None:
            raise ConfigError(
                f"task {self.name} is asked in chat messages, and the model has no chat template",
                "use an instruction-tuned model such as smollm2-135m",
            )
        return self._render([("user", problem.text)])

    def partial_score(self, example: Example, completion: str) -> float:
        """Return the accuracy: an answer is right or wrong."""
        return self.score(example, completion)


class NumberChat(ChatTask):
    """A question whose answer is the last number that the model writes, within 8 tokens."""

    test_share = 0.4
    max_new_tokens = 8  # "7 + 8 = 15" of a tokenizer that splits digits; what rambles is cut before its number

    def score(self, example: Example, completion: str) -> float:
        """Return 1 if the last number is the right one, else 0."""
        return float(last_number(completion) == example.reference)


class TwoDigits(NumberChat):
    """What two digits make, 100 prompts in all."""

    between: str

    @abstractmethod
    def result(self, a: int, b: int) -> int:
        """Return the right answer."""

    def draw(self, rng: random.Random) -> Problem:
        """Draw two digits; the key ignores their order."""
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        question = f"What is {a} {self.between} {b}? Answer with the number only."
        return Problem(text=question, answer=str(self.result(a, b)), key=f"{min(a, b)},{max(a, b)}")


class Sums(TwoDigits):
    """The sum of two digits."""

    name = "sums"
    between = "+"
    test_prompts = 34

    def result(self, a: int, b: int) -> int:
        """Return the sum."""
        return a + b


class Products(TwoDigits):
    """The product of two digits."""

    name = "products"
    between = "times"
    test_prompts = 42

    def result(self, a: int, b: int) -> int:
        """Return the product."""
        return a * b


class Larger(NumberChat):
    """The larger one of two numbers of two digits, 8,010 prompts in all."""

    name = "larger"
    test_prompts = 3270

    def draw(self, rng: random.Random) -> Problem:
        """Draw two numbers from 10 to 99; the key ignores their order."""
        a, b = rng.sample(range(10, 100), 2)
        question = f"Which number is larger, {a} or {b}? Answer with the number only."
        return Problem(text=question, answer=str(max(a, b)), key=f"{min(a, b)},{max(a, b)}")
