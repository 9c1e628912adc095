"""Runs of tasks asked in chat: token limits, system messages, sampling, and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from estheory.cli.app import main
from estheory.measurement.held_out import task_for
from estheory.models.load import load_model
from estheory.runs.directory import RunDirectory
from tests.training.text_model import save_text_model

SIZES = ["--task", "sums", "--steps", "1", "--prompts", "4", "--evaluation-prompts", "40", "--quiet"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_model(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a chat template."""
    folder = save_text_model(tmp_path_factory.mktemp("chatty") / "model")
    file = folder / "tokenizer_config.json"
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
    return folder


def typed(*words: object) -> int:
    return main(["run", *map(str, words)])


def test_the_limit_and_the_system_message_reach_training_and_evaluation(chatty: Path) -> None:
    task = task_for(load_model(str(chatty)), "sums", system="Count.", max_new_tokens=3)
    assert task.max_new_tokens == 3
    assert task.examples("test", 1, 0)[0].prompt.startswith("<system>Count.<user>What is")


@pytest.mark.parametrize("method", ["es", "grpo"])
def test_sums_are_trained_and_all_test_prompts_evaluated(method: str, chatty: Path, tmp_path: Path) -> None:
    options = ["--max-new-tokens", 5, "--system", "Count.", "--temperature", 0.7, "--top-p", 0.9]
    options += ["--population", 2, "--decode", "sample"] if method == "es" else ["--samples", 2]
    assert typed(method, "--model", chatty, *SIZES, *options, "--out", tmp_path / "run") == 0
    run = RunDirectory.open(tmp_path / "run")
    assert (run.config.max_new_tokens, run.config.temperature, run.config.top_p) == (5, 0.7, 0.9)
    assert {row["n"] for row in run.rows("evaluations") if row["quantity"] == "accuracy"} == {34}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--max-new-tokens", "1", "--task", "countdown"], "max-new-tokens 1 holds no right answer of task countdown"),
        (["--max-new-tokens", "-1"], "max-new-tokens"),
        (["--max-new-tokens", "2.5"], "max-new-tokens"),
        (["--temperature", "0", "--decode", "sample"], "temperature"),
        (["--top-p", "1.5", "--decode", "sample"], "top-p"),
        (["--top-p", "0.5"], "top-p have no effect on greedy answers"),
        (["--system", "Count.", "--task", "addition"], "system has no effect on task addition"),
        (["--generator", "dice"], "generator"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_line(
    options: list[str], complaint: str, chatty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert typed("es", "--model", chatty, *SIZES, *options, "--out", tmp_path / "run") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert complaint in err
    assert not (tmp_path / "run").exists()


def test_models_that_cannot_chat_are_refused_in_a_line(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, complaint in ((str(plain), "has no chat template"), ("tiny-lm", "reads single characters")):
        capsys.readouterr()
        assert typed("es", "--model", model, *SIZES, "--out", tmp_path / "run") == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert complaint in err
    assert not (tmp_path / "run").exists()
