"""Numbers and steps of other codes' logs: what is taken, what is refused, and what is said of it."""

import math
from pathlib import Path

import pytest

from estheory.errors import DataError
from estheory.runs.foreign.rows import MOST_STEPS, by_step, count, moves, served

FILE = Path("log.jsonl")


def rows(*steps):
    return [{"step": step, "place": place} for place, step in enumerate(steps)]


def test_steps_are_whole_numbers_from_0_to_the_most():
    assert (count(0), count(3.0), count(MOST_STEPS)) == (0, 3, MOST_STEPS)
    for bad in (-1, MOST_STEPS + 1, 1.5):
        with pytest.raises(ValueError, match="no "):
            count(bad)


def test_of_a_doubled_step_the_last_row_counts():
    problems: list[str] = []
    found = by_step(rows(1, 2, 2, 3), "step", FILE, problems)
    assert [row["place"] for row in found.values()] == [0, 2, 3]
    assert problems == [f"{FILE} has step 2 twice"]
    problems.clear()
    by_step(rows(1, 1, 1, 2, 2), "step", FILE, problems)
    assert problems == [f"{FILE} has step 1 in 3 rows, and 1 more step alike"]


def test_missing_steps_are_counted_where_steps_must_follow_one_another():
    assert list(by_step(rows(5, 9), "step", FILE, None, consecutive=False)) == [5, 9]
    assert list(by_step(rows(0, 1, 2), "step", FILE, None)) == [0, 1, 2]
    problems: list[str] = []
    by_step(rows(1, 4), "step", FILE, problems)
    assert problems == [f"{FILE} lacks step 2 (2 missing)"]
    with pytest.raises(DataError, match="lacks step 1"):
        by_step(rows(2), "step", FILE, None)


def test_a_step_of_equal_rewards_does_not_move():
    assert moves(0.0, "", None) == 0.0
    assert moves(0.5, "", None) == pytest.approx(1.0, abs=1e-7)
    assert moves(1e-8, "", None) == pytest.approx(0.25)  # the reference code adds 1e-8 to the spread
    for bad in (-0.1, math.nan, math.inf):
        problems: list[str] = []
        assert moves(bad, "step 3", problems) == 1.0
        assert len(problems) == 1
        with pytest.raises(DataError, match="no spread"):
            moves(bad, "step 3", None)


def test_an_engine_serves_about_its_share():
    assert list(served(30, 4)) == [6, 7, 8, 9]
    assert list(served(4, 2)) == [1, 2, 3]
    assert list(served(4, 1)) == [3, 4, 5]
    assert list(served(1, 0)) == [0, 1, 2]
