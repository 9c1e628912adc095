"""The page of the public names: it lists every one, and its worked example ends as it says."""

import re
from pathlib import Path

import pytest

import estheory

PAGE = Path(__file__).parents[1] / "docs/reference/api.md"


def test_the_table_lists_every_name():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(estheory.__all__)


def test_the_example_ends_as_it_says(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S):
        exec(code, names)
    assert (names["run"].population, names["run"].steps) == (30, 71)
    assert 0.0052 <= names["run"].step_size < 0.0053
    assert names["run"].step_size < names["run"].sigma
    assert {v.kind for v in names["verdicts"]} <= {"consistent", "underpowered"}
    assert names["verdict"].kind == "consistent"
    wrong = names["predict"](estheory.ESConfig(dim=names["run"].dim, sigma=0.015, population=30, steps=71))
    [refuted] = names["judge"](names["displacement_pairs"](names["measured"], wrong, steps=[71]))
    assert refuted.kind == "refuted"  # alpha = sigma/2 was not what was run
