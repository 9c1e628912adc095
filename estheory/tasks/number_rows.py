"""Rows of countdown and of mathematics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from estheory.tasks.answers import final_answer, same_answer
from estheory.tasks.countdown import evaluate
from estheory.tasks.record import Record, Row, bad_row, scalar_text, text_in

MOST_NUMBERS = 5  # that countdown's search for a solution takes
_ROUNDING = Fraction(1, 10**9)  # relative, of a target that is written as a decimal
_CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8K's calculator annotations


def read_countdown(row: Row, where: str) -> Record:
    """Read a row of countdown: nums (or numbers), target.

    Parameters and result as of :func:`estheory.tasks.choice_rows.read_arc`.
    """
    return countdown_record(row.get("nums", row.get("numbers")), row["target"], "", where, ())


def countdown_record(
    numbers: Any, target: Any, answer: str, where: str, messages: tuple[tuple[str, str], ...]
) -> Record:
    """Return a problem of countdown, its target exact.

    `numbers`: 1 to 26 integers from 0 to 999999999, as the row holds them.
    `target`: a decimal number or its text, perhaps rounded.
    `answer`: an expression that reaches it, which then tells the exact target; "" if the row has none.
    `messages`: the data set's own chat prompt, (role, content) each; empty if it has none.
    """
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or not 1 <= len(numbers) <= 26:
        raise bad_row(where, "countdown's numbers are no list of numbers")
    if any(type(n) is not int or not 0 <= n < 10**9 for n in numbers):
        raise bad_row(where, "countdown's numbers are not all integers from 0 to 999999999")
    text = str(target)
    if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,20})?", text, re.ASCII):
        raise bad_row(where, f"the target {text[:40]!r} is no number")
    exact = Fraction(text)
    if answer:  # it tells the exact target: 266.6666666666667 is 800/3
        try:
            result = evaluate(answer)
        except ValueError as error:
            raise bad_row(where, f"the solution is no expression ({error})") from error
        if sorted(result.numbers) != sorted(numbers) or abs(result.value - exact) > _ROUNDING * (1 + abs(exact)):
            raise bad_row(where, "the solution does not reach the target with the numbers")
        exact = result.value
    record = Record(
        family="countdown",
        question=f"Numbers: {' '.join(map(str, numbers))}. Target: {exact}.",
        answer=answer,
        numbers=tuple(numbers),
        target=exact,
        messages=messages,
        where=where,
    )
    if not answer and len(numbers) > MOST_NUMBERS:
        raise bad_row(where, f"countdown with more than {MOST_NUMBERS} numbers needs a solution")
    return record


def read_mathematics(row: Row, where: str) -> Record:
    """Read a row of GSM8K and other mathematics: question (or problem), answer (or solution).

    Parameters and result as of :func:`estheory.tasks.choice_rows.read_arc`.
    """
    question = text_in(row, "question" if "question" in row else "problem", where)
    worked = scalar_text(row["answer"] if "answer" in row else row["solution"], "answer", where)
    return math_record(question, final_answer(worked) or worked, worked, where, ())


def math_record(question: str, answer: str, worked: str, where: str, messages: tuple[tuple[str, str], ...]) -> Record:
    """Return a problem of mathematics, its worked solution in one line.

    `worked`: the worked solution; "" if the row has none. Dropped where it does not end in the answer.
    """
    if not question.strip() or not answer.strip():
        raise bad_row(where, "the question or the answer is empty")
    steps = [line.strip() for line in _CALCULATION.sub("", worked).splitlines() if line.strip()]
    answer, one_line = " ".join(answer.split()), " ".join(steps)
    if not same_answer(answer, answer):
        raise bad_row(where, f"{answer[:40]!r} is no answer")
    return Record(
        family="math",
        question=question.strip(),
        answer=answer,
        worked=one_line if len(steps) > 1 and same_answer(final_answer(one_line), answer) else "",
        messages=messages,
        where=where,
    )
