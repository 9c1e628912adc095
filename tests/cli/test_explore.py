"""``estheory explore`` as users type it."""

import json
import re

import numpy as np
import pytest


@pytest.fixture
def pilot(estheory, tmp_path):
    rng = np.random.default_rng(0)
    effect = np.repeat(rng.standard_normal((8, 1)), 2, axis=1) * [1, -1]
    rewards = (rng.random((16, 200)) < 1 / (1 + np.exp(-2 * effect.reshape(16, 1)))).astype(float)
    path = tmp_path / "rewards.json"
    path.write_text(json.dumps({"rewards": rewards.tolist(), "centre": [1.0] * 200, "sigma": 0.001, "mirrored": True}))
    document = tmp_path / "pilot.json"
    estheory("pilot", path, "--json", "--output", document, "--quiet")
    return document


def test_it_writes_one_page(estheory, tmp_path):
    result = estheory("explore", "--out", tmp_path / "what-if.html")
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"page: \S+what-if\.html \(\d+ kB\)\n", result.out)
    page = (tmp_path / "what-if.html").read_text()
    assert page.startswith("<!doctype html>")
    document = estheory("explore", "--out", tmp_path / "what-if.html", "--json").json()
    assert document == {
        "schema": "estheory/explore/1",
        "page": str(tmp_path / "what-if.html"),
        "bytes": len(page.encode()),
    }


def test_it_starts_with_a_pilot(estheory, tmp_path, pilot):
    assert estheory("explore", "--out", tmp_path / "a.html", "--pilot", pilot).code == 0
    page = (tmp_path / "a.html").read_text()
    data = json.loads(re.search(r'id="specification">(.*?)</script>', page, re.S)[1])
    assert data["pilot"] == json.loads(pilot.read_text())


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "estheory/probe/1"}', '{"schema": "estheory/pilot/1"}'])
def test_a_bad_pilot_is_one_line_and_writes_nothing(estheory, tmp_path, content):
    (tmp_path / "pilot.json").write_text(content)
    result = estheory("explore", "--out", tmp_path / "a.html", "--pilot", tmp_path / "pilot.json")
    assert result.code == 2
    assert re.fullmatch(r"error: .*pilot\.json.*\n", result.err)
    assert not (tmp_path / "a.html").exists()


def test_a_folder_that_is_not_there(estheory, tmp_path):
    result = estheory("explore", "--out", tmp_path / "no" / "a.html")
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
