"""Tasks asked in chat: their prompts, splits and scores."""

from __future__ import annotations

import pytest

from estheory.errors import ConfigError
from estheory.tasks import ChatTask, chat_task_names, get_task
from estheory.tasks.data import Messages
from estheory.tasks.wrapped import Limited


def render(messages: Messages) -> str:
    return "".join(f"<{role}>{content}" for role, content in messages) + "<assistant>"


@pytest.mark.parametrize("name", chat_task_names())
def test_splits_share_nothing_and_the_reference_is_right(name: str) -> None:
    task = get_task(name, render=render)
    assert isinstance(task, ChatTask)
    test = task.examples("test", task.test_prompts, seed=0)
    train = task.examples("train", 32, seed=0)
    assert not {e.prompt for e in test} & {e.prompt for e in train}
    for example in (*test, *train):
        assert example.prompt.startswith("<user>")
        assert task.score(example, example.reference) == task.partial_score(example, example.reference) == 1
        assert task.score(example, "") == task.partial_score(example, "I cannot tell") == 0
    with pytest.raises(ConfigError, match="distinct test prompts"):
        task.examples("test", task.test_prompts + 1, seed=0)


def test_the_last_number_of_sums_counts_and_the_order_of_a_sum_does_not() -> None:
    task = get_task("sums", render=render)
    [example] = [e for e in task.examples("test", 34, seed=0) if "5 + 8" in e.prompt]
    right = ("13", "5 + 8 = 13", "The answer is 13.", "13\n")
    wrong = ("5 + 8", "13 or 14", "130", "1 3", "-13", "13/2", "13.5")
    assert [task.score(example, text) for text in right] == [1] * len(right)
    assert [task.score(example, text) for text in wrong] == [0] * len(wrong)
    assert any("8 + 5" in e.prompt for e in task.examples("test", 34, seed=0))


def test_without_a_chat_template_a_chat_task_says_so() -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        get_task("sums").examples("test", 1, seed=0)


def test_a_limit_changes_nothing_but_the_number_of_tokens() -> None:
    task = get_task("countdown")
    limited = Limited(task, 3)
    assert limited.max_new_tokens == 3
    examples = limited.examples("train", 4, seed=1)
    assert examples == task.examples("train", 4, seed=1)
    assert (limited.name, limited.held_out, limited.single_line) == (task.name, task.held_out, task.single_line)
    for score, own in ((limited.score, task.score), (limited.partial_score, task.partial_score)):
        assert [score(e, "1+2") for e in examples] == [own(e, "1+2") for e in examples]
