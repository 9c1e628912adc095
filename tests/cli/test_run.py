"""``estheory run``, ``measure``, ``models`` and ``validate`` on real runs of tiny-lm."""

import contextlib
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file

from estheory.cli.app import main
from estheory.cli.progress import RunView
from estheory.models.builtin import get_builtin

RUN = ["run", "es", "--steps", "4", "--population", "6", "--prompts", "16", "--evaluation-prompts", "32", "--quiet"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "es"
    assert main([*RUN, "--checkpoint-every", "2", "--out", str(folder), "--output", str(folder.parent / "said")]) == 0
    return folder


def test_files_of_a_run(run_folder):
    names = {p.name for p in run_folder.iterdir()}
    assert names == {
        *("config.toml", "steps.jsonl", "timings.jsonl", "probes.json", "checkpoints", "evaluations.jsonl"),
        *("environment.json", "rewards.jsonl"),
    }
    assert sorted(p.name for p in (run_folder / "checkpoints").iterdir()) == [
        "step_000002.safetensors",
        "step_000004.safetensors",
    ]
    kinds = {json.loads(line)["quantity"] for line in (run_folder / "evaluations.jsonl").read_text().splitlines()}
    assert kinds == {"accuracy", "kl_drift"}


def test_measure_a_run_and_its_checkpoints_alike(estheory, run_folder):
    by_run = estheory("measure", run_folder, "--json").json()
    assert by_run["schema"] == "estheory/measurement/1"
    last = run_folder / "checkpoints" / "step_000004.safetensors"
    by_files = estheory("measure", "tiny-lm", last, "--json").json()
    norm = {(m["quantity"], m["where"]): m["value"] for m in by_run["measurements"]}[
        "displacement_norm", "total:step 4"
    ]
    assert by_files["measurements"][0]["where"] == f"total:{last}"
    assert by_files["measurements"][0]["value"] == pytest.approx(norm, rel=1e-12)
    base, tuned = load_file(get_builtin("tiny-lm") / "model.safetensors"), load_file(last)
    square = sum(np.sum((tuned[k].astype(float) - base[k].astype(float)) ** 2) for k in tuned)
    assert norm == pytest.approx(np.sqrt(square), rel=1e-9)
    logged = json.loads((run_folder / "steps.jsonl").read_text().splitlines()[-1])["norm"]
    assert norm == pytest.approx(logged, rel=1e-9)


def test_validate_a_run(estheory, run_folder):
    result = estheory("validate", run_folder, "--json")
    verdicts = result.json()["verdicts"]
    by = {(v["quantity"], v["step"], v["where"]): v for v in verdicts}
    norm = by["displacement_norm", 4, "total:es"]
    assert norm["verdict"] == "consistent"
    assert norm["predicted"]["mean"] == pytest.approx(0.0075 * np.sqrt(4 / 6 * 59184), rel=1e-4)
    assert sum(v["quantity"] == "effective_dimension_ratio" for v in verdicts) == 20
    assert sum(v["quantity"] == "kl_drift" for v in verdicts) == 2
    assert result.code in (0, 3)
    assert "Tensor by tensor" in estheory("validate", run_folder).out


def test_a_wrong_step_size_is_refuted(estheory, run_folder, tmp_path):
    """The negative control: the same run with a config that says 5 % less alpha."""
    forged = tmp_path / "forged"
    shutil.copytree(run_folder, forged)
    config = (forged / "config.toml").read_text()
    (forged / "config.toml").write_text(config.replace("alpha = 0.0075", "alpha = 0.007125"))
    result = estheory("validate", forged, "--json")
    assert result.code == 3
    verdicts = {(v["quantity"], v["step"]): v["verdict"] for v in result.json()["verdicts"]}
    assert verdicts["displacement_norm", 4] == "refuted"


def test_validate_checkpoints_from_options(estheory, run_folder):
    files = [run_folder / "checkpoints" / f"step_00000{n}.safetensors" for n in (2, 4)]
    options = ["--sigma", 0.015, "--population", 6, "--steps", "2,4", "--json"]
    result = estheory("validate", "tiny-lm", *files, *options)
    verdicts = result.json()["verdicts"]
    assert [v["quantity"] for v in verdicts] == ["displacement_norm", "displacement_norm", "checkpoint_cosine"]
    assert result.code == 0
    wrong = estheory("validate", "tiny-lm", *files, *options, "--alpha", 0.008)
    assert wrong.code == 3


def test_replay_gives_the_checkpoint(estheory, run_folder, tmp_path):
    out = tmp_path / "step2"
    assert estheory("run", "es", "--replay", run_folder, "--step", 2, "--out", out).code == 0
    rebuilt = load_file(out / "model.safetensors")
    for name, tensor in load_file(run_folder / "checkpoints" / "step_000002.safetensors").items():
        assert np.array_equal(rebuilt[name], tensor), name


def test_equal_rewards_do_not_move_and_that_is_consistent(estheory, tmp_path):
    out = tmp_path / "still"
    result = estheory(*RUN, "--sigma", "1e-9", "--steps", 1, "--out", out)
    assert "did not move" in result.out
    verdicts = estheory("validate", out, "--json").json()["verdicts"]
    assert [(v["predicted"]["mean"], v["measured"], v["verdict"]) for v in verdicts] == [(0.0, 0.0, "consistent")]


def test_a_resumed_run_may_say_again_what_it_is(estheory, run_folder, tmp_path):
    folder = tmp_path / "es"
    shutil.copytree(run_folder, folder)
    result = estheory("run", "es", "--resume", folder, "--population", 6, "--steps", 4, "--workers", 1)
    assert (result.code, result.err) == (0, "")


def test_dry_run_writes_nothing(estheory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = estheory("run", "es", "--dry-run", "--json").json()
    assert (shown["sigma"], shown["alpha"], shown["population"]) == (0.015, 0.0075, 30)
    assert 'method = "grpo"' in estheory("run", "grpo", "--dry-run").out
    assert list(tmp_path.iterdir()) == []


def test_dry_run_predicts_the_geometry_and_what_it_costs(estheory):
    shown = estheory("run", "es", "--dry-run", "--json", "--steps", 100).json()
    norm = next(p for p in shown["predictions"] if p["quantity"] == "displacement_norm")
    assert norm["mean"] == pytest.approx(0.0075 * np.sqrt(100 / 30 * 59184), rel=1e-4)
    assert shown["dim"] == 59184
    assert shown["memory_bytes"] == 3 * 4 * 59184
    assert shown["seconds_at_least"] > 0
    assert shown["stop_drift"] is None
    assert shown["reward_probe_evaluations"] == 9 * 33  # a tenth of 3000
    assert "297 evaluations, 9.9% of the run's" in estheory("run", "es", "--dry-run").out
    assert "no reward probe: 72 evaluations" in estheory("run", "es", "--dry-run", "--steps", 4).out
    text = estheory("run", "es", "--dry-run", "--shaping", "raw").out
    assert "spread of the rewards" in text
    assert "AdamW walk" in estheory("run", "grpo", "--dry-run").out
    probed = ("run", "grpo", "--dry-run", "--steps", 100, "--gradient-probe", 8)
    assert "gradient probe before step 1: 32 minibatches, 32.0% of the run's" in estheory(*probed).out
    told = estheory(*probed, "--json").json()
    assert told["gradient_probe_minibatches"] == 32
    assert told["memory_bytes"] == 4 * (5 + 18) * 59184  # two means at each of four points, and ten more vectors


def test_dry_run_says_what_rounding_will_swallow_of_this_very_model(estheory):
    def warnings(*options):
        command = ["run", "es", "--dry-run", "--json", "--steps", 5, "--dtype", "bfloat16"]
        return " ".join(estheory(*command, *options).json()["warnings"])

    lost = warnings("--sigma", "1.5e-3", "--update-path", "sequential")
    assert "swallows" in lost
    assert "float32 master copy" in lost
    assert "swallows" not in warnings("--sigma", 0.2)  # far above the weights' spacing
    assert "swallows" not in warnings(
        "--sigma", "1.5e-3", "--momentum", 0.5
    )  # not emulated: a band over unknown weights


def test_dry_run_says_what_adamw_in_place_keeps(estheory):
    command = ("run", "grpo", "--dry-run", "--steps", 5)
    assert "in place keeps" in estheory(*command, "--dtype", "bfloat16", "--lr", "1e-5").out
    assert "in place keeps" not in estheory(*command, "--dtype", "bfloat16", "--lr", "1e-2").out
    assert "in place keeps" not in estheory(*command, "--lr", "1e-5").out


def test_the_preset_of_the_paper_fills_what_other_options_leave(estheory, tmp_path):
    def shown(*arguments):
        return estheory("run", "grpo", "--dry-run", "--json", *arguments).json()

    published = shown("--preset", "paper")
    names = ("samples", "prompts", "steps", "lr", "schedule")
    assert [published[name] for name in names] == [8, 63, 80, 3e-6, "linear"]
    own = shown("--preset", "paper", "--lr", "1e-4", "--steps", 5)
    assert [own[name] for name in names] == [8, 63, 5, 1e-4, "linear"]
    sequence = ["run", "sequence", "--tasks", "addition", "--dry-run", "--preset", "paper", "--steps", 9]
    told = estheory(*sequence).json()
    both = told["configs"]
    assert told["seconds"] > 0
    assert (both["es"]["steps"], both["es"]["prompts"]) == (9, 64)
    assert (both["grpo"]["steps"], both["grpo"]["prompts"], both["grpo"]["lr"]) == (9, 63, 3e-6)


def test_a_sequence_by_the_command_line(estheory, tmp_path):
    out = tmp_path / "sequence"
    command = ["run", "sequence", "--tasks", "reversal", "--methods", "es", "--seeds", "0,1", "--steps", 1]
    command += ["--population", 4, "--prompts", 4, "--evaluation-prompts", 8]
    before = estheory(*command, "--dry-run").json()
    assert not out.exists()
    result = estheory(*command, "--out", out, "--json").json()
    assert [(row["method"], row["seed"]) for row in result["sequences"]] == [("es", 0), ("es", 1)]
    assert "after" in estheory(*command, "--out", out).out  # all done: only shown again
    assert sum(file.stat().st_size for file in out.rglob("*.safetensors")) <= before["disk_bytes"]
    changed = estheory(*command, "--out", out, "--population", 6)
    assert changed.code == 2
    assert "population is 4 there, 6 here" in changed.err


def test_the_live_view_sets_the_norm_against_its_prediction(run_folder):
    view = RunView(run_folder)
    rows = [json.loads(line) for line in (run_folder / "steps.jsonl").read_text().splitlines()]
    fields = view.fields(rows[-1])
    assert view.steps == 4
    predicted = 0.0075 * np.sqrt(4 / 6 * 59184)
    assert view.predicted_norm(4) == pytest.approx(predicted, rel=1e-4)
    assert f"({rows[-1]['norm'] / predicted:.4f} of prediction)" in fields["norm"]
    assert fields["drift"].endswith("(addition)")


def test_a_sequence_on_a_terminal_shows_each_stage_and_none_of_it_on_stdout(estheory, tmp_path, monkeypatch):
    ours, theirs = os.openpty()
    shown = []

    def read():
        with contextlib.suppress(OSError):  # the other end is closed
            while True:
                shown.append(os.read(ours, 4096))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    command = ["run", "sequence", "--tasks", "reversal,addition", "--methods", "es", "--steps", 2, "--population", 2]
    command += ["--prompts", 2, "--evaluation-prompts", 4]
    monkeypatch.setenv("COLUMNS", "150")
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        result = estheory(*command, "--out", tmp_path / "sequence", "--json").json()
        monkeypatch.undo()
    reader.join(timeout=60)
    os.close(ours)
    text = b"".join(shown).decode()
    for stage in ("1-reversal", "2-addition", "es, seed 0, stage 2 of 2: addition"):
        assert stage in text
    assert "of prediction" in text
    assert "2/2" in text
    assert result["schema"] == "estheory/sequence/1"


def test_models(estheory):
    names = {m["name"]: m for m in estheory("models", "list", "--json").json()["models"]}
    assert names["tiny-lm"]["present"]
    assert names["smollm2-135m"]["parameters"] == 134_515_008
    assert Path(estheory("models", "get", "tiny-lm").out.strip()).is_dir()


def truncated(tmp_path, run_folder):
    path = tmp_path / "cut.safetensors"
    path.write_bytes((run_folder / "checkpoints" / "step_000002.safetensors").read_bytes()[:-1000])
    return path


def with_nan(tmp_path, run_folder):
    path = tmp_path / "nan.safetensors"
    tensors = load_file(run_folder / "checkpoints" / "step_000002.safetensors")
    tensors["model.norm.weight"][3] = np.nan
    save_file(tensors, path)
    return path


def tiny_copy(tmp_path, file, **changes):
    """A copy of tiny-lm's folder, one of its JSON files changed; None takes a key away."""
    folder = tmp_path / "model"
    shutil.copytree(get_builtin("tiny-lm"), folder)
    content = {**json.loads((folder / file).read_text()), **changes}
    (folder / file).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder


def without_pad_token(tmp_path, run_folder):
    return tiny_copy(tmp_path, "tokenizer_config.json", pad_token=None)


def with_a_short_context(tmp_path, run_folder):
    return tiny_copy(tmp_path, "config.json", max_position_embeddings=20)


def foreign(tmp_path, run_folder):
    """The folder of another trainer."""
    folder = tmp_path / "trl"
    (folder / "checkpoint-4").mkdir(parents=True)
    (folder / "checkpoint-4" / "trainer_state.json").write_text("{}")
    return folder


def of_another_architecture(tmp_path, run_folder):
    from tests.training.text_model import save_text_model

    return save_text_model(tmp_path / "other") / "model.safetensors"


def grpo_with_another_checkpoint(tmp_path, run_folder):
    """A GRPO run that was cut off, its checkpoint replaced by one of another architecture."""
    folder = tmp_path / "grpo"
    small = ["--steps", "2", "--prompts", "2", "--samples", "2", "--evaluation-prompts", "4", "--lr", "1e-4", "--quiet"]
    assert main(["run", "grpo", *small, "--out", str(folder), "--output", str(tmp_path / "said")]) == 0
    of_another_architecture(tmp_path, run_folder).replace(folder / "checkpoints" / "step_000002.safetensors")
    return folder


BAD = {
    "no pad token": lambda t, r: (
        ["run", "es", "--model", without_pad_token(t, r), "--out", t / "x"],
        "has no pad_token",
    ),
    "no pad token for grpo": lambda t, r: (
        ["run", "grpo", "--model", without_pad_token(t, r), "--out", t / "x"],
        "has no pad_token",
    ),
    "prompts beyond the context": lambda t, r: (
        ["run", "es", "--model", with_a_short_context(t, r), "--out", t / "x"],
        "exceed the model's context of 20",
    ),
    "prompts beyond the context for grpo": lambda t, r: (
        ["run", "grpo", "--model", with_a_short_context(t, r), "--out", t / "x"],
        "exceed the model's context of 20",
    ),
    "sequence beyond the context": lambda t, r: (
        ["run", "sequence", "--tasks", "addition", "--model", with_a_short_context(t, r), "--out", t / "x"],
        "exceed the model's context of 20",
    ),
    "unknown preset": lambda t, r: (["run", "grpo", "--preset", "thesis", "--out", t / "x"], "'paper'"),
    "into a foreign folder": lambda t, r: (["run", "es", "--out", foreign(t, r)], "trl is occupied"),
    "grpo into a run": lambda t, r: (["run", "grpo", "--out", r], "is occupied"),
    "sequence into a run": lambda t, r: (["run", "sequence", "--tasks", "addition", "--out", r], "is occupied"),
    "resume a foreign folder": lambda t, r: (["run", "es", "--resume", foreign(t, r)], "no run directory"),
    "resume a foreign folder by grpo": lambda t, r: (["run", "grpo", "--resume", foreign(t, r)], "no run directory"),
    "resume on another model": lambda t, r: (
        ["run", "es", "--resume", r, "--model", with_a_short_context(t, r)],
        "model is 'tiny-lm' there",
    ),
    "resume with two changes": lambda t, r: (
        ["run", "es", "--resume", r, "--population", 8, "--shaping", "raw"],
        "population is 6 there, 8 here, shaping is 'zscore' there, 'raw' here",
    ),
    "measure another architecture": lambda t, r: (
        ["measure", "tiny-lm", of_another_architecture(t, r)],
        "compare checkpoints of one model",
    ),
    "grpo from another architecture": lambda t, r: (
        ["run", "grpo", "--resume", grpo_with_another_checkpoint(t, r)],
        "does not hold this model's trainable tensors",
    ),
    "unknown task": lambda t, r: (["run", "es", "--task", "chess", "--out", t / "x"], "chess"),
    "unknown model": lambda t, r: (["run", "es", "--model", t / "none", "--out", t / "x"], "none"),
    "occupied folder": lambda t, r: ([*RUN, "--out", r], "occupied"),
    "no out": lambda t, r: (["run", "es"], "--out"),
    "sigma zero": lambda t, r: (["run", "es", "--sigma", 0, "--out", t / "x"], "sigma"),
    "unknown reward": lambda t, r: (["run", "es", "--reward", "fame", "--out", t / "x"], "fame"),
    "not a run": lambda t, r: (["validate", t], "no run directory"),
    "resume nothing": lambda t, r: (["run", "es", "--resume", t], "no run directory"),
    "resume with another sigma": lambda t, r: (
        ["run", "es", "--resume", r, "--sigma", 0.02],
        "sigma is 0.015 there, 0.02",
    ),
    "resume as grpo": lambda t, r: (["run", "grpo", "--resume", r], "is a run of es"),
    "resume with out": lambda t, r: (["run", "es", "--resume", r, "--out", t / "x"], "--out"),
    "anchor form alone": lambda t, r: (["run", "es", "--anchor-form", "after", "--out", t / "x"], "anchor"),
    "sampled logprob": lambda t, r: (
        ["run", "es", "--decode", "sample", "--reward", "logprob", "--out", t / "x"],
        "no effect",
    ),
    "module sigma unmatched": lambda t, r: (["run", "es", "--module-sigma", "zebra=2", "--out", t / "x"], "zebra"),
    "step alone": lambda t, r: (["run", "es", "--step", 2, "--out", t / "x"], "--replay"),
    "sequence without tasks": lambda t, r: (["run", "sequence", "--out", t / "x"], "--tasks"),
    "sequence with a task": lambda t, r: (
        ["run", "sequence", "--tasks", "addition", "--task", "choice", "--out", t / "x"],
        "--task",
    ),
    "sequence of unknown method": lambda t, r: (
        ["run", "sequence", "--tasks", "addition", "--methods", "sft", "--out", t / "x"],
        "sft",
    ),
    "sequence of one task twice": lambda t, r: (
        ["run", "sequence", "--tasks", "addition,addition", "--out", t / "x"],
        "twice",
    ),
    "stop at nothing": lambda t, r: (["run", "es", "--stop-drift", 0, "--out", t / "x"], "stop-drift"),
    "replay too far": lambda t, r: (["run", "es", "--replay", r, "--step", 9, "--out", t / "x"], "9"),
    "replay without step": lambda t, r: (["run", "es", "--replay", r], "--step"),
    "truncated": lambda t, r: (["measure", "tiny-lm", truncated(t, r)], "cut.safetensors"),
    "nan": lambda t, r: (["measure", "tiny-lm", with_nan(t, r)], "model.norm.weight"),
    "missing checkpoint": lambda t, r: (["measure", "tiny-lm", t / "gone.safetensors"], "gone.safetensors"),
    "unknown builtin": lambda t, r: (["models", "get", "gpt-5"], "gpt-5"),
    "options beside a run": lambda t, r: (["validate", r, "--sigma", 1], "BASE CHECKPOINT"),
    "measure one file": lambda t, r: (["measure", t], "no run directory"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2(estheory, run_folder, tmp_path, name):
    arguments, expected = BAD[name](tmp_path, run_folder)
    result = estheory(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert expected in result.err
    assert not (tmp_path / "x").exists()


def test_damaged_records(estheory, run_folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(run_folder, broken)
    steps = (broken / "steps.jsonl").read_bytes()
    (broken / "steps.jsonl").write_bytes(steps[:-20])  # torn last line: the run reads as three steps
    assert "displacement_norm" in estheory("validate", broken).out
    lines = steps.split(b"\n")
    (broken / "steps.jsonl").write_bytes(b"\n".join([lines[0], lines[2], b""]))
    assert "line 2 is step 3" in estheory("validate", broken).err
    (broken / "environment.json").unlink()
    assert "environment.json" in estheory("validate", broken).err
