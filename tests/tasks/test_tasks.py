"""Properties that every task has, and an independent solution of each."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estheory.errors import ConfigError
from estheory.tasks import Example, get_task, task_names
from estheory.tasks.choice import SYMBOLS
from estheory.tasks.task import FILLER, PROMPT_LENGTH, TEST_SHARE, first_line, matching_share, question_of, split_of

SEEDS = (0, 1, 2, 17, 12345)


def solve(name: str, question: str) -> str | None:
    """Answer a question without the package; None where several answers are right."""
    if name == "addition":
        first, second = re.fullmatch(r"(\d+)\+(\d+)=", question).groups()
        return str(int(first) + int(second))
    if name == "reversal":
        return "".join(reversed(re.fullmatch(r"reverse ([a-z]{6})=", question)[1]))
    if name == "sorting":
        return "".join(sorted(re.fullmatch(r"sort ([a-l]{4})=", question)[1]))
    if name == "yesno":
        things, asked = re.fullmatch(r"[a-z]{3} has ([a-z ]{7})\.has ([a-z]{3})\?", question).groups()
        return "yes" if asked in things.split() else "no"
    if name == "choice":
        element, *options = re.fullmatch(r"([a-z]+) A=(..) B=(..) C=(..)\?", question).groups()
        return "ABC"[options.index(SYMBOLS[element])]
    return None


@pytest.mark.parametrize("name", task_names())
def test_prompts_have_one_length_and_references_are_right(name: str) -> None:
    task = get_task(name)
    examples = task.examples("train", 500, seed=3) + task.examples("test", 400, seed=3)
    assert {len(example.prompt) for example in examples} == {PROMPT_LENGTH}
    assert all(1 <= len(example.reference) < task.max_new_tokens <= 9 for example in examples)
    for example in examples:
        assert solve(name, example.prompt.lstrip(FILLER)) in (None, example.reference)
        assert task.score(example, example.reference) == 1.0 == task.partial_score(example, example.reference)
        assert task.score(example, f" {example.reference} \nand more") == 1.0


@pytest.mark.parametrize("name", task_names())
def test_examples_are_distinct_and_a_function_of_the_seed(name: str) -> None:
    task = get_task(name)
    examples = task.examples("train", 300, seed=5)
    assert len({example.prompt for example in examples}) == 300
    assert examples == get_task(name).examples("train", 300, seed=5)
    assert examples != task.examples("train", 300, seed=6)
    assert examples[:40] == task.examples("train", 40, seed=5)


@pytest.mark.parametrize("name", task_names())
def test_splits_never_overlap_for_any_seeds(name: str) -> None:
    task = get_task(name)
    train = {example.prompt for seed in SEEDS for example in task.examples("train", 400, seed)}
    test = {example.prompt for seed in SEEDS for example in task.examples("test", 400, seed)}
    assert not train & test


def test_turned_round_problems_share_a_split() -> None:
    def parts(question: str) -> tuple[str, ...]:
        given, _, target = question.partition(" make ")
        return *sorted(re.findall(r"[A-Za-z0-9]+", given)), target

    for name in ("addition", "choice", "countdown"):
        task = get_task(name)
        train = {parts(question_of(example)) for example in task.examples("train", 1200, seed=0)}
        test = {parts(question_of(example)) for example in task.examples("test", 450, seed=0)}
        assert len(train) + len(test) < 1650 or name == "choice"  # some are turned-round ones
        assert not train & test


def test_share_of_the_test_split() -> None:
    n = 20_000
    held = sum(split_of(f"key {index}") == "test" for index in range(n))
    spread = (TEST_SHARE * (1 - TEST_SHARE) * n) ** 0.5
    assert abs(held - TEST_SHARE * n) < 5 * spread  # false failure 6e-7; the keys are fixed


@pytest.mark.parametrize("name", task_names())
@pytest.mark.parametrize("completion", ["", "\n", "?", "\n12", "unsure", "a" * 1000, "\x00", "é", "((((" * 500])
def test_nonsense_scores_nothing(name: str, completion: str) -> None:
    task = get_task(name)
    for example in task.examples("test", 50, seed=0):
        assert task.score(example, completion) == 0.0
        assert 0.0 <= task.partial_score(example, completion) < 1.0


@pytest.mark.parametrize("name", task_names())
@settings(max_examples=100, deadline=None)
@given(completion=st.text(max_size=12))
def test_scores_lie_in_the_unit_interval(name: str, completion: str) -> None:
    task = get_task(name)
    example = task.examples("test", 1, seed=0)[0]
    assert task.score(example, completion) in (0.0, 1.0)
    assert 0.0 <= task.partial_score(example, completion) <= 1.0
    assert (task.partial_score(example, completion) == 1.0) == (task.score(example, completion) == 1.0)


def test_wrong_answers_get_partial_credit_only_for_what_agrees() -> None:
    example = Example(prompt="reverse fedcba=".rjust(PROMPT_LENGTH, FILLER), reference="abcdef")
    task = get_task("reversal")
    assert task.partial_score(example, "abcxef") == pytest.approx(5 / 6, rel=1e-15)
    assert task.partial_score(example, "abc") == 0.5
    assert task.partial_score(example, "abcdefabcdef") == 0.5
    assert task.score(example, "abcxef") == 0.0
    assert matching_share("", "") == 1.0
    assert first_line("  x y \n z") == "x y"


def test_answers_are_not_given_away_by_their_frequency() -> None:
    for name, answers in (("choice", "ABC"), ("yesno", ("yes", "no"))):
        examples = get_task(name).examples("test", 600, seed=0)
        for answer in answers:
            share = sum(example.reference == answer for example in examples) / len(examples)
            assert abs(share - 1 / len(answers)) < 5 * (0.25 / len(examples)) ** 0.5


def test_only_sorting_is_held_out() -> None:
    assert [name for name in task_names() if get_task(name).held_out] == ["sorting"]


def test_table_pairs_each_element_with_its_own_symbol() -> None:
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
    assert all(re.fullmatch("[A-Z][a-z]", symbol) for symbol in SYMBOLS.values())
    assert SYMBOLS["sodium"] == "Na"
    assert SYMBOLS["gold"] == "Au"
    assert SYMBOLS["tin"] == "Sn"


def test_bad_requests_are_refused() -> None:
    task = get_task("addition")
    with pytest.raises(ConfigError, match="unknown split 'dev' of task addition"):
        task.examples("dev", 1, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 examples"):
        task.examples("train", 0, seed=0)
    with pytest.raises(ConfigError, match=r"has only about .* distinct test prompts, 5000 were asked for"):
        task.examples("test", 5000, seed=0)
    with pytest.raises(ConfigError, match="unknown task 'chess': choose one of addition, choice, countdown"):
        get_task("chess")


def test_no_torch() -> None:
    code = "import sys, estheory.tasks; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
