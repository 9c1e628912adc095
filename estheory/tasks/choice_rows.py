"""Rows of multiple choice: ARC, SciKnowEval, PIQA, the flat form; and BoolQ's, of yes and no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from estheory.tasks.answers import yes_or_no
from estheory.tasks.record import LABELS, MOST_OPTIONS, YES_NO, Record, Row, bad_row, mappings, text_in


def read_arc(row: Row, where: str) -> Record:
    """Read a row of ARC and SciKnowEval: question, choices {text, label}, answerKey."""
    choices = row["choices"]
    if isinstance(choices, Mapping):
        return _choice(row, choices.get("text"), choices.get("label"), row["answerKey"], where)
    texts = [choice.get("text") for choice in mappings(choices, "choices", where)]
    return _choice(row, texts, [choice.get("label") for choice in choices], row["answerKey"], where)


def read_flat_choice(row: Row, where: str) -> Record:
    """Read a row of multiple choice in flat form: question, options (or choices), answer, perhaps option_labels.

    Parameters and result as of :func:`estheory.tasks.choice_rows.read_arc`.
    """
    texts = row["options"] if "options" in row else row["choices"]
    answer = row["answer"]
    if type(answer) is int:
        if not isinstance(texts, Sequence) or not 0 <= answer < len(texts):
            raise bad_row(where, f"the answer {answer} is no index of the options")
        return _choice(row, texts, list(range(len(texts))), answer, where)
    return _choice(row, texts, row.get("option_labels"), answer, where)


def _choice(row: Row, texts: Any, labels: Any, key: Any, where: str) -> Record:
    if not isinstance(texts, Sequence) or isinstance(texts, str) or not 2 <= len(texts) <= MOST_OPTIONS:
        raise bad_row(where, f"the options are no list of 2 to {MOST_OPTIONS} texts")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise bad_row(where, "an option is empty or no text")
    options = tuple(" ".join(text.split()) for text in texts)
    if len(set(options)) < len(options):
        raise bad_row(where, "two options are the same")
    names = list(LABELS[: len(texts)]) if labels is None else labels
    if not isinstance(names, Sequence) or len(names) != len(options) or list(names).count(key) != 1:
        raise bad_row(where, f"the answer {str(key)[:40]!r} is not the label of one option")
    question, answer = text_in(row, "question", where).strip(), options[list(names).index(key)]
    return Record(family="choice", question=question, answer=answer, options=options, where=where)


def first_label_of(rows: Sequence[tuple[str, Row]]) -> int:
    """Return whether PIQA's labels count from 0 or from 1, which only all of a file's rows together tell.

    `rows`: all rows of PIQA in a file, at least one, each after its file and line.
    """
    labels = {str(row.get("label")) for _, row in rows}
    if labels <= {"0", "1"} and "0" in labels:
        return 0
    if labels <= {"1", "2"} and "2" in labels:
        return 1
    seen = ", ".join(sorted(labels))
    raise bad_row(rows[0][0], f"PIQA's labels ({seen[:60]}) in this file tell neither 0 and 1 nor 1 and 2")


def read_piqa(row: Row, where: str, first_label: int) -> Record:
    """Read a row of PIQA: goal, sol1, sol2, label.

    `first_label`: what the label of `sol1` is; see `first_label_of`.
    """
    labels = [str(first_label), str(first_label + 1)]
    asked = {"question": row["goal"]}
    return _choice(asked, [row["sol1"], row["sol2"]], labels, str(row["label"]), where)


def read_boolq(row: Row, where: str) -> Record:
    """Read a row of BoolQ: passage, question, answer (true or false).

    Parameters and result as of :func:`estheory.tasks.choice_rows.read_arc`.
    """
    answer = row["answer"] if type(row["answer"]) is bool else yes_or_no(str(row["answer"]))
    if answer is None:
        raise bad_row(where, "the answer is neither true nor false")
    passage, question = text_in(row, "passage", where), text_in(row, "question", where)
    asked = f"{' '.join(passage.split())}\n{' '.join(question.split()).removesuffix('?')}?"
    return Record(family="reading", question=asked, answer=YES_NO[not answer], options=YES_NO, where=where)
