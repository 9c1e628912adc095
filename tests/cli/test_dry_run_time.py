"""The seconds that a dry run foretells."""

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
