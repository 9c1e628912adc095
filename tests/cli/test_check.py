"""``estheory check``."""

import json

import pytest

MODULE = """
import numpy as np

print("imported")


def z(rewards):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-8)


def right(rewards, noise):
    print("called")
    return 0.01 / 30 * z(rewards) @ noise


def wrong(rewards, noise):
    return 0.01 * z(rewards) @ noise


def step(theta, reward, seed):
    eps = np.random.default_rng(seed).standard_normal((30, 64))
    return theta + 0.01 / 30 * z(np.array([reward(theta + 0.02 * e) for e in eps])) @ eps


class Tools:
    shape = staticmethod(z)


def anything(*arguments):
    return None


number = 3
"""
RULE = ("--sigma", 0.02, "--alpha", 0.01, "--population", 30)


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "estimators_of_mine.py").write_text(MODULE)
    (tmp_path / "broken_of_mine.py").write_text("raise ValueError('on purpose')")
    monkeypatch.chdir(tmp_path)
    return "estimators_of_mine"


def test_a_right_update(estheory, module):
    result = estheory("check", f"{module}:right", *RULE, "--json")
    assert result.code == 0
    document = json.loads(result.out)
    assert document["schema"] == "estheory/check/1"
    assert document["kind"] == "update"
    assert document["config"] == {"dim": 64, "sigma": 0.02, "alpha": 0.01, "population": 30}
    assert document["summary"]["fail"] == 0
    assert all(check["holds"] and check["problem"] is None for check in document["checks"])


def test_a_wrong_update(estheory, module):
    result = estheory("check", f"{module}.py:wrong", *RULE)
    assert result.code == 3
    assert "30 times too long: 1/N is missing" in result.out
    assert "FAILS  definition" in result.out
    assert "holds  determinism" in result.out


def test_the_invariants_are_a_table_of_any_kind(estheory, module):
    given = ("check", f"{module}.py:wrong", *RULE)
    rows = estheory(*given, "--format", "csv")
    assert rows.code == 3
    assert rows.out.startswith("name,claim,holds,problem\n")
    assert "| FAILS | definition |" in estheory(*given, "--format", "markdown").out


def test_kinds_are_told_by_the_arguments(estheory, module):
    for name, kind in (("Tools.shape", "shaping"), ("step", "step")):
        result = estheory("check", f"{module}:{name}", *RULE, "--json")
        assert (result.code, json.loads(result.out)["kind"]) == (0, kind)


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("nowhere_at_all:f", RULE, "no module"),
        ("estimators_of_mine:missing", RULE, "has no missing"),
        ("estimators_of_mine", RULE, "names no callable"),
        ("estimators_of_mine:number", RULE, "is a int"),
        ("estimators_of_mine:anything", RULE, "--kind"),
        ("broken_of_mine:f", RULE, "on purpose"),
        ("estimators_of_mine:right", (), "--sigma"),
        ("estimators_of_mine:right", (*RULE, "--dim", "4e9"), "small dim"),
        ("estimators_of_mine:step", (*RULE, "--shapes", "4xa"), "not a list of shapes"),
    ],
)
def test_refusals_are_one_line(estheory, module, target, options, words):
    result = estheory("check", target, *options)
    assert result.code == 2
    assert result.err.startswith("error:")
    assert words in result.err
    assert result.err.count("\n") == 1
