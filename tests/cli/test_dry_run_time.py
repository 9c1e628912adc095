"""The seconds that a dry run foretells."""

import json

from tests.training.text_model import save_text_model

SMALL = ("--steps", "3", "--population", "6", "--prompts", "4", "--evaluation-prompts", "8")


def test_the_time_is_foretold_and_grows_with_the_steps(estheory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = estheory("run", "es", "--dry-run", "--json", *SMALL).json()
    many = estheory("run", "es", "--dry-run", "--json", *SMALL, "--steps", 1000).json()
    assert 0 < few["seconds"] < many["seconds"]
    assert list(tmp_path.iterdir()) == []


def test_the_time_of_grpo_counts_the_gradients_that_are_probed(estheory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = ("--steps", 1000, "--prompts", 4, "--samples", 2, "--evaluation-prompts", 8)
    plain = estheory("run", "grpo", "--dry-run", "--json", *sizes).json()
    probed = estheory("run", "grpo", "--dry-run", "--json", *sizes, "--gradient-probe", 5000).json()
    assert 0 < plain["seconds"] < probed["seconds"]
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_read_the_task_is_told_and_the_bound_stays(estheory):
    shown = estheory("run", "es", "--dry-run", "--task", "sums")
    assert shown.code == 0
    assert "no member could be timed" in shown.out
    assert "at least" in shown.out


def test_grpo_on_a_task_that_compares_options_is_told_before_the_run(estheory, tmp_path):
    rows = [{"goal": f"open {k}", "sol1": "push", "sol2": "pull", "label": k % 2} for k in range(60)]
    (tmp_path / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = save_text_model(tmp_path / "model")
    options = ("--model", model, "--task", "piqa", "--data", tmp_path, "--form", "likelihood", "--prompts", 2)
    options += ("--evaluation-prompts", 8)
    shown = estheory("run", "grpo", "--dry-run", *options)
    assert shown.code == 0
    assert "no step could be timed: GRPO samples answers" in " ".join(shown.out.split())
    refused = estheory("run", "grpo", *options, "--out", tmp_path / "run")
    assert (refused.code, (tmp_path / "run").exists()) == (2, False)
    assert "GRPO samples answers, it cannot compare options" in " ".join(refused.err.split())
