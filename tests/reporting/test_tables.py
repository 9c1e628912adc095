"""Tables on terminals of any width: whole words, every cell, and names said once."""

import re

import pytest

from estheory.reporting.text.tables import Sheet, Table

TITLE = "refuted, and those that could not have been (3 of 32)"
WHERE = "addition, probe at the scale of the walk [1]"


def verdicts():
    table = Table(
        "where", "quantity", ">step", ">predicted", ">measured", ">ratio", ">p", "verdict", gap=2, title=TITLE
    )
    table.add_row("total:run [1]", "displacement_norm", "30", "3.5339 +-0.017%", "3.5295", "0.9988", "0.7", "refuted")
    table.add_row(WHERE, "effective_dimension_ratio", "20", "0.05169", "0.0677", "1.31", "0.34", "within 156 %")
    table.add_row(WHERE, "effective_dimension_ratio", "30", "0.05169", "0.0677", "1.189", "0.57", "within 196 %")
    return table


@pytest.mark.parametrize("width", [30, 40, 60, 70, 80, 100, 130, 200])
def test_no_word_is_broken_and_none_is_missing(width):
    lines = list(verdicts().lines(width))
    assert max(map(len, lines)) <= width
    said = set(re.split(r"[\s,]+", " ".join(lines)))
    assert {word for row in verdicts().rows for cell in row for word in re.split(r"[\s,]+", cell)} <= said


def test_names_stand_once_above_the_rows_that_share_them():
    lines = list(verdicts().lines(70))
    assert lines.count(f" {WHERE}  effective_dimension_ratio") + lines.count(f" {WHERE}") == 1
    assert [line.split()[0] for line in lines if line.startswith("    ")] == ["step", "30", "20", "30"]
    wide = list(verdicts().lines(130))
    assert sum(WHERE in line for line in wide) == 2


def test_a_name_is_wrapped_at_its_marks_where_nothing_else_is_left():
    table = Table("quantity", ">value")
    table.add_row("effective_dimension_ratio", "1.25")
    rows = [line.split() for line in table.lines(20)][-4:-1]
    assert rows == [["effective_", "1.25"], ["dimension_"], ["ratio"]]


def test_a_pipe_is_as_wide_as_columns_says(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    assert max(map(len, Sheet(verdicts()).text().splitlines())) <= 70
    monkeypatch.delenv("COLUMNS")
    assert 80 < max(map(len, Sheet(verdicts()).text().splitlines())) <= 120
