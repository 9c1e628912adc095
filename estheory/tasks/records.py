"""Problems of real data sets, read from the rows of their files: verl's schema and the data sets' own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from estheory.errors import DataError
from estheory.tasks.answers import final_answer, same_answer, yes_or_no
from estheory.tasks.countdown import evaluate, solve

Family = Literal["countdown", "math", "choice", "reading"]
Row = Mapping[str, Any]

YES_NO = ("yes", "no")
MOST_OPTIONS = 26
MOST_NUMBERS = 5  # that countdown's search for a solution takes
_ROUNDING = Fraction(1, 10**9)  # relative, of a target that is written as a decimal
_CALCULATION = re.compile(r"<<[^<>]*>>")  # GSM8K's calculator annotations
_LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


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

    Raises
    ------
    DataError
        There is none.
    """
    found = record.answer or solve(record.numbers, record.target)
    if found is None:
        raise DataError(f"{record.where}: the numbers cannot reach the target", "remove the row")
    return found


def read_records(rows: Sequence[tuple[str, Row]]) -> list[Record]:
    """Read the rows of one file.

    Parameters
    ----------
    rows
        (where, row) each, `where` naming the file and the line.

    Returns
    -------
    list of Record
        In order. Left out are SciKnowEval's rows that are not multiple choice, verl's whose ground truth is null, and
        countdown's whose own solution breaks the rule that it uses each number once.

    Raises
    ------
    DataError
        A row is of no known schema or does not hold what its schema says.
    """
    asked = [(where, row) for where, row in rows if not _is_unscorable(row)]
    if rows and not asked:
        raise DataError(
            f"{rows[0][0]}: neither it nor a later row is multiple choice or has a ground truth", "use other rows"
        )
    is_piqa = [(where, row) for where, row in asked if {"sol1", "sol2"} <= row.keys()]
    first_label = _first_label(is_piqa) if is_piqa else 0
    return [_read(row, where, first_label) for where, row in asked]


def _is_unscorable(row: Row) -> bool:
    model, kind, extra = row.get("reward_model"), row.get("type"), row.get("extra_info")
    if isinstance(model, Mapping) and model.get("ground_truth", "") is None:
        return True
    if isinstance(extra, Mapping) and isinstance(extra.get("solution"), str) and isinstance(extra.get("numbers"), list):
        return sorted(re.findall(r"[0-9]+", extra["solution"])) != sorted(map(str, extra["numbers"]))
    return isinstance(kind, str) and {"question", "domain"} <= row.keys() and not kind.startswith("mcq")


def _read(row: Row, where: str, first_label: int) -> Record:
    for required, read in _SCHEMAS:
        if required <= row.keys():
            record = read(row, where)
            break
    else:
        if not {"goal", "sol1", "sol2", "label"} <= row.keys():
            raise _bad(where, f"its keys {', '.join(sorted(map(str, row))) or '(none)'} are of no known schema")
        record = _piqa(row, where, first_label)
    texts = (
        record.question,
        record.answer,
        record.worked,
        *record.options,
        *(part for m in record.messages for part in m),
    )
    if any(0xD800 <= ord(character) <= 0xDFFF for text in texts for character in text):
        raise _bad(where, "a text holds half a surrogate pair")
    return record


def _verl(row: Row, where: str) -> Record:
    """verl: chat messages, reward_model.ground_truth, extra_info, data_source."""
    messages = tuple(
        (_text(m, "role", where), _text(m, "content", where)) for m in _mappings(row["prompt"], "prompt", where)
    )
    asked = next((content for role, content in reversed(messages) if role == "user"), "")
    if not asked.strip():
        raise _bad(where, "prompt has no message of the user")
    model, extra = row["reward_model"], row.get("extra_info")
    if not isinstance(model, Mapping) or "ground_truth" not in model:
        raise _bad(where, "reward_model has no ground_truth")
    extra, truth = extra if isinstance(extra, Mapping) else {}, model["ground_truth"]
    source = str(row.get("data_source", "")).lower()
    if isinstance(truth, Mapping) or "countdown" in source:
        return _verl_countdown(truth, extra, messages, where)
    truth = _scalar_text(truth, "ground_truth", where)
    shared: dict[str, Any] = {"messages": messages, "where": where}
    if truth.strip().lower() in (*YES_NO, "true", "false"):
        answer = YES_NO[0] if yes_or_no(truth) else YES_NO[1]
        return Record(family="reading", question=asked, answer=answer, options=YES_NO, **shared)
    if re.fullmatch("[A-J]", truth.strip()) and not re.search("gsm8k|math", source):
        count = max(4, _LABELS.index(truth.strip()) + 1)
        while count < MOST_OPTIONS and re.search(rf"(?m)^\W*{_LABELS[count]}[.):]", asked):
            count += 1
        letters = tuple(_LABELS[:count])
        return Record(family="choice", question=asked, answer=truth.strip(), options=letters, letters=True, **shared)
    question, worked = extra.get("question", asked), extra.get("answer", "")
    if not isinstance(question, str) or not isinstance(worked, str) or final_answer(worked) != truth.strip():
        worked = ""
    return _math(question if isinstance(question, str) else asked, truth, worked, where, messages)


def _verl_countdown(truth: Any, extra: Row, messages: tuple[tuple[str, str], ...], where: str) -> Record:
    described = truth if isinstance(truth, Mapping) else {}
    values = {**extra, **described}
    answer = values.get("solution", "" if isinstance(truth, Mapping) else truth)
    target = values.get("target")
    if target is None:
        raise _bad(where, "countdown has no target")
    numbers = values.get("numbers", values.get("nums"))
    return _countdown_record(numbers, target, str(answer or ""), where, messages)


def _countdown(row: Row, where: str) -> Record:
    """Countdown: nums (or numbers), target."""
    return _countdown_record(row.get("nums", row.get("numbers")), row["target"], "", where, ())


def _countdown_record(
    numbers: Any, target: Any, answer: str, where: str, messages: tuple[tuple[str, str], ...]
) -> Record:
    if not isinstance(numbers, Sequence) or isinstance(numbers, str) or not 1 <= len(numbers) <= 26:
        raise _bad(where, "countdown's numbers are no list of numbers")
    if any(type(n) is not int or not 0 <= n < 10**9 for n in numbers):
        raise _bad(where, "countdown's numbers are not all integers from 0 to 999999999")
    text = str(target)
    if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,20})?", text, re.ASCII):
        raise _bad(where, f"the target {text[:40]!r} is no number")
    exact = Fraction(text)
    if answer:  # it tells the exact target: 266.6666666666667 is 800/3
        try:
            result = evaluate(answer)
        except ValueError as error:
            raise _bad(where, f"the solution is no expression ({error})") from error
        if sorted(result.numbers) != sorted(numbers) or abs(result.value - exact) > _ROUNDING * (1 + abs(exact)):
            raise _bad(where, "the solution does not reach the target with the numbers")
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
        raise _bad(where, f"countdown with more than {MOST_NUMBERS} numbers needs a solution")
    return record


def _gsm8k(row: Row, where: str) -> Record:
    """GSM8K and other mathematics: question (or problem), answer (or solution)."""
    question = _text(row, "question" if "question" in row else "problem", where)
    worked = _scalar_text(row["answer"] if "answer" in row else row["solution"], "answer", where)
    return _math(question, final_answer(worked) or worked, worked, where, ())


def _math(question: str, answer: str, worked: str, where: str, messages: tuple[tuple[str, str], ...]) -> Record:
    if not question.strip() or not answer.strip():
        raise _bad(where, "the question or the answer is empty")
    steps = [line.strip() for line in _CALCULATION.sub("", worked).splitlines() if line.strip()]
    answer, one_line = " ".join(answer.split()), " ".join(steps)
    if not same_answer(answer, answer):
        raise _bad(where, f"{answer[:40]!r} is no answer")
    return Record(
        family="math",
        question=question.strip(),
        answer=answer,
        worked=one_line if len(steps) > 1 and same_answer(final_answer(one_line), answer) else "",
        messages=messages,
        where=where,
    )


def _arc(row: Row, where: str) -> Record:
    """ARC and SciKnowEval: question, choices {text, label}, answerKey."""
    choices = row["choices"]
    if isinstance(choices, Mapping):
        return _choice(row, choices.get("text"), choices.get("label"), row["answerKey"], where)
    texts = [choice.get("text") for choice in _mappings(choices, "choices", where)]
    return _choice(row, texts, [choice.get("label") for choice in choices], row["answerKey"], where)


def _flat_choice(row: Row, where: str) -> Record:
    """Multiple choice in flat form: question, options (or choices), answer, perhaps option_labels."""
    texts = row["options"] if "options" in row else row["choices"]
    answer = row["answer"]
    if type(answer) is int:
        if not isinstance(texts, Sequence) or not 0 <= answer < len(texts):
            raise _bad(where, f"the answer {answer} is no index of the options")
        return _choice(row, texts, list(range(len(texts))), answer, where)
    return _choice(row, texts, row.get("option_labels"), answer, where)


def _choice(row: Row, texts: Any, labels: Any, key: Any, where: str) -> Record:
    if not isinstance(texts, Sequence) or isinstance(texts, str) or not 2 <= len(texts) <= MOST_OPTIONS:
        raise _bad(where, f"the options are no list of 2 to {MOST_OPTIONS} texts")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise _bad(where, "an option is empty or no text")
    options = tuple(" ".join(text.split()) for text in texts)
    if len(set(options)) < len(options):
        raise _bad(where, "two options are the same")
    names = list(_LABELS[: len(texts)]) if labels is None else labels
    if not isinstance(names, Sequence) or len(names) != len(options) or list(names).count(key) != 1:
        raise _bad(where, f"the answer {str(key)[:40]!r} is not the label of one option")
    question, answer = _text(row, "question", where).strip(), options[list(names).index(key)]
    return Record(family="choice", question=question, answer=answer, options=options, where=where)


def _first_label(rows: Sequence[tuple[str, Row]]) -> int:
    """Return whether PIQA's labels count from 0 or from 1, which only all of a file's rows together tell."""
    labels = {str(row.get("label")) for _, row in rows}
    if labels <= {"0", "1"} and "0" in labels:
        return 0
    if labels <= {"1", "2"} and "2" in labels:
        return 1
    seen = ", ".join(sorted(labels))
    raise _bad(rows[0][0], f"PIQA's labels ({seen[:60]}) in this file tell neither 0 and 1 nor 1 and 2")


def _piqa(row: Row, where: str, first_label: int) -> Record:
    """PIQA: goal, sol1, sol2, label."""
    labels = [str(first_label), str(first_label + 1)]
    asked = {"question": row["goal"]}
    return _choice(asked, [row["sol1"], row["sol2"]], labels, str(row["label"]), where)


def _boolq(row: Row, where: str) -> Record:
    """BoolQ: passage, question, answer (true or false)."""
    answer = row["answer"] if type(row["answer"]) is bool else yes_or_no(str(row["answer"]))
    if answer is None:
        raise _bad(where, "the answer is neither true nor false")
    passage, question = _text(row, "passage", where), _text(row, "question", where)
    asked = f"{' '.join(passage.split())}\n{' '.join(question.split()).removesuffix('?')}?"
    return Record(family="reading", question=asked, answer=YES_NO[not answer], options=YES_NO, where=where)


_SCHEMAS: tuple[tuple[set[str], Callable[[Row, str], Record]], ...] = (
    ({"reward_model", "prompt"}, _verl),
    ({"passage", "question", "answer"}, _boolq),
    ({"nums", "target"}, _countdown),
    ({"numbers", "target"}, _countdown),
    ({"question", "choices", "answerKey"}, _arc),
    ({"question", "options", "answer"}, _flat_choice),
    ({"question", "choices", "answer"}, _flat_choice),
    ({"question", "answer"}, _gsm8k),
    ({"problem", "answer"}, _gsm8k),
    ({"problem", "solution"}, _gsm8k),
)


def _mappings(value: Any, name: str, where: str) -> Sequence[Row]:
    if not isinstance(value, Sequence) or not value or not all(isinstance(item, Mapping) for item in value):
        raise _bad(where, f"{name} is no list of objects")
    return value


def _text(row: Row, name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _bad(where, f"{name} is empty or no text")
    return value


def _scalar_text(value: Any, name: str, where: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and value == value and abs(value) < 1e300:
        return str(value)
    raise _bad(where, f"{name} is empty or neither text nor number")


def _bad(where: str, what: str) -> DataError:
    return DataError(f"{where}: {what}", "repair or remove the row; docs/how-to/tasks.md lists the schemas")
