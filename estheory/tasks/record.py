"""A problem of a data set, in no form yet, and the checks that readers of rows share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from estheory.errors import DataError
from estheory.tasks.countdown import solve

Family = Literal["countdown", "math", "choice", "reading"]
Row = Mapping[str, Any]

YES_NO = ("yes", "no")
MOST_OPTIONS = 26
LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One problem, in no form yet.

    Attributes
    ----------
    family
        How it is asked and scored.
    question
        The question alone; a reading passage before it, in a line of its own.
    answer
        The right answer alone: a number, an expression, an option's text, or yes or no. For countdown "" until
        `solution_of` finds one.
    worked
        A worked solution that ends in the answer, in one line; "" if the data set has none.
    options
        Texts of the options, where the data set has them.
    letters
        Whether the options are letters whose texts are in the question.
    numbers, target
        Of countdown.
    messages
        The data set's own chat prompt, (role, content) each; empty if it has none.
    where
        File and line, for messages.
    """

    family: Family
    question: str
    answer: str
    where: str
    worked: str = ""
    options: tuple[str, ...] = ()
    letters: bool = False
    numbers: tuple[int, ...] = ()
    target: Fraction = Fraction(0)
    messages: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """What the problem is about, whatever its wording's spaces and case and the order of its parts."""
        if self.family == "countdown":
            return f"{sorted(self.numbers)} {self.target}"
        return "\n".join(" ".join(text.lower().split()) for text in (self.question, *sorted(self.options)))


def solution_of(record: Record) -> str:
    """Return the record's answer, for countdown searched for where the data set gives none.

    `record`: one that has an answer, or of countdown.
    """
    found = record.answer or solve(record.numbers, record.target)
    if found is None:
        raise DataError(f"{record.where}: the numbers cannot reach the target", "remove the row")
    return found


def mappings(value: Any, name: str, where: str) -> Sequence[Row]:
    """Return a row's entry that is a list of objects."""
    if not isinstance(value, Sequence) or not value or not all(isinstance(item, Mapping) for item in value):
        raise bad_row(where, f"{name} is no list of objects")
    return value


def text_in(row: Row, name: str, where: str) -> str:
    """Return a row's text of that name."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise bad_row(where, f"{name} is empty or no text")
    return value


def scalar_text(value: Any, name: str, where: str) -> str:
    """Return a text, number or truth value as text.

    Result: not blank; ``yes`` or ``no`` for a truth value.
    """
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and value == value and abs(value) < 1e300:
        return str(value)
    raise bad_row(where, f"{name} is empty or neither text nor number")


def bad_row(where: str, what: str) -> DataError:
    """Return the error that a row is in."""
    return DataError(f"{where}: {what}", "repair or remove the row; the documentation's page on tasks lists them")
