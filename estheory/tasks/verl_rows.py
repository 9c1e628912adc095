"""Rows in verl's schema, of any family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from estheory.tasks.answers import final_answer, yes_or_no
from estheory.tasks.number_rows import countdown_record, math_record
from estheory.tasks.record import LABELS, MOST_OPTIONS, YES_NO, Record, Row, bad_row, mappings, scalar_text, text_in


def read_verl(row: Row, where: str) -> Record:
    """Read a row of verl: chat messages, reward_model.ground_truth, extra_info, data_source.

    Parameters and result as of :func:`estheory.tasks.choice_rows.read_arc`.
    """
    messages = tuple(
        (text_in(m, "role", where), text_in(m, "content", where)) for m in mappings(row["prompt"], "prompt", where)
    )
    asked = next((content for role, content in reversed(messages) if role == "user"), "")
    if not asked.strip():
        raise bad_row(where, "prompt has no message of the user")
    model, extra = row["reward_model"], row.get("extra_info")
    if not isinstance(model, Mapping) or "ground_truth" not in model:
        raise bad_row(where, "reward_model has no ground_truth")
    extra, truth = extra if isinstance(extra, Mapping) else {}, model["ground_truth"]
    source = str(row.get("data_source", "")).lower()
    if isinstance(truth, Mapping) or "countdown" in source:
        return _verl_countdown(truth, extra, messages, where)
    truth = scalar_text(truth, "ground_truth", where)
    shared: dict[str, Any] = {"messages": messages, "where": where}
    if truth.strip().lower() in (*YES_NO, "true", "false"):
        answer = YES_NO[0] if yes_or_no(truth) else YES_NO[1]
        return Record(family="reading", question=asked, answer=answer, options=YES_NO, **shared)
    if re.fullmatch("[A-J]", truth.strip()) and not re.search("gsm8k|math", source):
        count = max(4, LABELS.index(truth.strip()) + 1)
        while count < MOST_OPTIONS and re.search(rf"(?m)^\W*{LABELS[count]}[.):]", asked):
            count += 1
        letters = tuple(LABELS[:count])
        return Record(family="choice", question=asked, answer=truth.strip(), options=letters, letters=True, **shared)
    question, worked = extra.get("question", asked), extra.get("answer", "")
    if not isinstance(question, str) or not isinstance(worked, str) or final_answer(worked) != truth.strip():
        worked = ""
    return math_record(question if isinstance(question, str) else asked, truth, worked, where, messages)


def _verl_countdown(truth: Any, extra: Row, messages: tuple[tuple[str, str], ...], where: str) -> Record:
    described = truth if isinstance(truth, Mapping) else {}
    values = {**extra, **described}
    answer = values.get("solution", "" if isinstance(truth, Mapping) else truth)
    target = values.get("target")
    if target is None:
        raise bad_row(where, "countdown has no target")
    numbers = values.get("numbers", values.get("nums"))
    return countdown_record(numbers, target, str(answer or ""), where, messages)
