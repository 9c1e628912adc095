"""Tasks of reasoning-gym."""

from __future__ import annotations

import sys

import pytest

from estheory.errors import ConfigError, MissingDependencyError
from estheory.tasks import get_task


def test_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'estheory\[reasoning-gym\]'"):
        get_task("reasoning-gym:chain_sum")


@pytest.mark.parametrize("family", ["chain_sum", "letter_counting", "gcd"])
def test_references_are_right_and_splits_stay_apart(family: str) -> None:
    pytest.importorskip("reasoning_gym")
    task = get_task(f"reasoning-gym:{family}")
    train, test = task.examples("train", 30, 0), task.examples("test", 20, 0)
    assert not {e.prompt for e in train} & {e.prompt for seed in range(3) for e in task.examples("test", 20, seed)}
    assert train == task.examples("train", 30, 0) != task.examples("train", 30, 1)
    for example in (*train, *test):
        assert task.score(example, example.reference) == 1.0 == task.partial_score(example, example.reference)
        for completion in ("", "nonsense", "1 2 3", "x" * 10_000):
            assert task.score(example, completion) == 0.0
            assert 0.0 <= task.partial_score(example, completion) < 1.0


def test_bad_requests_are_refused() -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(ConfigError, match=r"no family 'chain_sums': did you mean .*chain_sum"):
        get_task("reasoning-gym:chain_sums")
    with pytest.raises(ConfigError, match="runs what a model writes as code"):
        get_task("reasoning-gym:puzzle24")
    with pytest.raises(ConfigError, match="no options"):
        get_task("reasoning-gym:chain_sum", form="likelihood")
