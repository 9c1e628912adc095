"""Problems of real data sets, read from the rows of their files: verl's schema and the data sets' own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from estheory.errors import DataError
from estheory.tasks.choice_rows import first_label_of, read_arc, read_boolq, read_flat_choice, read_piqa
from estheory.tasks.number_rows import read_countdown, read_mathematics
from estheory.tasks.record import Record, Row, bad_row
from estheory.tasks.verl_rows import read_verl

_SCHEMAS: tuple[tuple[set[str], Callable[[Row, str], Record]], ...] = (
    ({"reward_model", "prompt"}, read_verl),
    ({"passage", "question", "answer"}, read_boolq),
    ({"nums", "target"}, read_countdown),
    ({"numbers", "target"}, read_countdown),
    ({"question", "choices", "answerKey"}, read_arc),
    ({"question", "options", "answer"}, read_flat_choice),
    ({"question", "choices", "answer"}, read_flat_choice),
    ({"question", "answer"}, read_mathematics),
    ({"problem", "answer"}, read_mathematics),
    ({"problem", "solution"}, read_mathematics),
)
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def read_records(rows: Sequence[tuple[str, Row]]) -> list[Record]:
    """Read the rows of one file.

    `rows`: (where, row) each, `where` naming the file and the line.
    Result: in order. Left out are SciKnowEval's rows that are not multiple choice, verl's whose ground truth is null,
    and countdown's whose own solution breaks the rule that it uses each number once.
    """
    asked = [(where, row) for where, row in rows if not _is_unscorable(row)]
    if rows and not asked:
        raise DataError(
            f"{rows[0][0]}: neither it nor a later row is multiple choice or has a ground truth", "use other rows"
        )
    is_piqa = [(where, row) for where, row in asked if {"sol1", "sol2"} <= row.keys()]
    first_label = first_label_of(is_piqa) if is_piqa else 0
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
            raise bad_row(where, f"its keys {', '.join(sorted(map(str, row))) or '(none)'} are of no known schema")
        record = read_piqa(row, where, first_label)
    texts = (
        record.question,
        record.answer,
        record.worked,
        *record.options,
        *(part for m in record.messages for part in m),
    )
    if any(map(_HALF_A_PAIR.search, texts)):
        raise bad_row(where, "a text holds half a surrogate pair")
    return record
