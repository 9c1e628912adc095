"""Countdown: reach a target with all the given numbers, ``3 8 2 make 13=`` is answered by ``3+8+2``.

Completions are read by a small recursive-descent parser over integers, ``+ - * /`` and parentheses, in exact
fractions. Nothing is ever evaluated as code.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from estheory.tasks.task import Example, GeneratedTask, Problem, first_line, question_of

LARGEST_NUMBER = 9
COUNT = 3
_MAX_EXPRESSION_LENGTH = 200  # longer ones are refused unread, which also bounds the recursion
_TOKEN = re.compile(r"\s*(?:([0-9]{1,9})|([-+*/()]))", re.ASCII)


class Countdown(GeneratedTask):
    """Combine all the given numbers, each once, to reach the target; any valid expression is right."""

    name = "countdown"

    def draw(self, rng: random.Random) -> Problem:
        """Draw numbers and signs with a positive signed sum, the target; the key ignores the order."""
        while True:
            numbers = [rng.randint(1, LARGEST_NUMBER) for _ in range(COUNT)]
            answer = str(numbers[0]) + "".join(f"{rng.choice('+-')}{number}" for number in numbers[1:])
            target = evaluate(answer).value
            if target > 0:
                given = " ".join(map(str, numbers))
                key = f"{' '.join(map(str, sorted(numbers)))} {target}"
                return Problem(text=f"{given} make {target}=", answer=answer, key=key)

    def score(self, example: Example, completion: str) -> float:
        """Return 1 if the completion is a valid expression that uses exactly the numbers and reaches the target."""
        return float(self.partial_score(example, completion) == 1.0)

    def partial_score(self, example: Example, completion: str) -> float:
        """Return 1 if right, 1/2 for a valid expression that uses exactly the numbers, else 0."""
        numbers, target = _read_question(example)
        try:
            result = evaluate(first_line(completion))
        except ValueError:
            return 0.0
        if sorted(result.numbers) != sorted(numbers):
            return 0.0
        return 1.0 if result.value == target else 0.5


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Value of an expression and the numbers it uses.

    Attributes
    ----------
    value
        Exact.
    numbers
        In order of appearance, repeated ones each time.
    """

    value: Fraction
    numbers: tuple[int, ...]


@lru_cache(maxsize=1 << 16)  # the members of a population give the same expressions over and over
def evaluate(expression: str) -> Evaluated:
    """Evaluate an arithmetic expression exactly, without `eval`.

    Grammar: ``sum := product (('+'|'-') product)*``, ``product := atom (('*'|'/') atom)*``,
    ``atom := integer | '(' sum ')'``. There is no unary sign.
    """
    if len(expression) > _MAX_EXPRESSION_LENGTH:
        raise ValueError("the expression is too long")
    parser = _Parser(tokens=_tokenize(expression))
    value = parser.sum()
    if parser.tokens:
        raise ValueError(f"unexpected {parser.tokens[0]!r}")
    return Evaluated(value=value, numbers=tuple(parser.numbers))


def solve(numbers: Sequence[int], target: Fraction) -> str | None:
    """Search all expressions for one that uses each number once and has the value `target`.

    A moment for four numbers, seconds for five.
    """
    return _combine([(Fraction(number), str(number)) for number in numbers], target)


def _combine(parts: list[tuple[Fraction, str]], target: Fraction) -> str | None:
    if len(parts) == 1:
        return parts[0][1].removeprefix("(").removesuffix(")") if parts[0][0] == target else None
    for i, (a, left) in enumerate(parts):
        for j, (b, right) in enumerate(parts):
            if i == j:
                continue
            joined = [(a - b, "-")] + ([(a / b, "/")] if b else []) + ([(a + b, "+"), (a * b, "*")] if i < j else [])
            rest = [part for k, part in enumerate(parts) if k not in (i, j)]
            for value, sign in joined:
                if (found := _combine([*rest, (value, f"({left}{sign}{right})")], target)) is not None:
                    return found
    return None


def _tokenize(text: str) -> list[str]:
    tokens, position, text = [], 0, text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"unexpected {text[position]!r}")
        tokens.append(match[1] or match[2])
        position = match.end()
    return tokens


@dataclass(kw_only=True)
class _Parser:
    tokens: list[str]
    numbers: list[int] = field(default_factory=list)

    def sum(self) -> Fraction:
        value = self.product()
        while self._next_is("+-"):
            value = value + self.product() if self.tokens.pop(0) == "+" else value - self.product()
        return value

    def product(self) -> Fraction:
        value = self.atom()
        while self._next_is("*/"):
            times, factor = self.tokens.pop(0) == "*", self.atom()
            if not times and factor == 0:
                raise ValueError("division by zero")
            value = value * factor if times else value / factor
        return value

    def atom(self) -> Fraction:
        if not self.tokens:
            raise ValueError("the expression ends too early")
        token = self.tokens.pop(0)
        if token.isdigit():
            self.numbers.append(int(token))
            return Fraction(int(token))
        if token != "(":
            raise ValueError(f"unexpected {token!r}")
        value = self.sum()
        if not self._next_is(")"):
            raise ValueError("a parenthesis is not closed")
        self.tokens.pop(0)
        return value

    def _next_is(self, operators: str) -> bool:
        return bool(self.tokens) and self.tokens[0] in operators


def _read_question(example: Example) -> tuple[list[int], int]:
    numbers, target = question_of(example).rstrip("=").split(" make ")
    return [int(number) for number in numbers.split()], int(target)
