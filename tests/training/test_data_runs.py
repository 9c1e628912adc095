"""Runs on files of one's own: what they are is on record, and nothing stands in for them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from estheory.cli.app import main
from estheory.errors import ConfigError
from estheory.runs.directory import RunDirectory
from estheory.runs.sequence import SequenceConfig
from estheory.training.sequence import run_sequence
from tests.training.runs import es_config
from tests.training.text_model import save_text_model, write_choices

SIZES = ["--steps", "2", "--population", "2", "--prompts", "4", "--evaluation-prompts", "4", "--quiet"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_model(tmp_path_factory.mktemp("text") / "model")


@pytest.fixture(scope="module")
def begun(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and the data that it began with. Tests must not change it."""
    folder = tmp_path_factory.mktemp("begun")
    write_choices(folder / "data" / "parity.jsonl")
    write_choices(folder / "data" / "more" / "train.jsonl", first=100)
    write_choices(folder / "data" / "more" / "dev.jsonl", first=200)
    options = ["--model", model, "--task", "parity", "--data", folder / "data", "--evaluate", "more,sorting"]
    assert main(list(map(str, ["run", "es", *options, *SIZES, "--reward", "logprob", "--out", folder / "run"]))) == 0
    return folder


def copied(begun: Path, to: Path) -> Path:
    """The run and its data elsewhere, cut to one step."""
    shutil.copytree(begun, to)
    run = RunDirectory.open(to / "run")
    file = run.path / "config.toml"
    file.write_text(file.read_text().replace(str(begun), str(to)))
    run.keep_until(1)
    return to / "run"


def test_the_hashes_of_the_data_are_on_record(begun: Path) -> None:
    known = json.loads((begun / "run" / "environment.json").read_text())["data"]
    files = {"parity": ["parity.jsonl"], "more": ["more/dev.jsonl", "more/train.jsonl"]}  # sorting is generated
    hashes = {t: {n: hashlib.sha256((begun / "data" / n).read_bytes()).hexdigest() for n in files[t]} for t in files}
    assert known == hashes
    tasks = {row["task"] for row in RunDirectory.open(begun / "run").rows("evaluations")}
    assert tasks == {"parity", "more", "sorting"}


@pytest.mark.parametrize("change", ["changed", "gone", "added"])
def test_a_run_whose_data_changed_is_not_resumed(
    change: str, begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(begun, tmp_path / "copy")
    data = tmp_path / "copy" / "data"
    file = data / "more" / "dev.jsonl"
    original = file.read_bytes()
    if change == "changed":
        file.write_bytes(original.replace(b"200 is not", b"200 is even"))
    elif change == "gone":
        file.unlink()
    else:
        (data / "more" / "test.jsonl").write_bytes(original)
    capsys.readouterr()
    assert main(["run", "es", "--resume", str(run)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"began with other data: the SHA-256 of more/{'test' if change == 'added' else 'dev'}.jsonl" in err
    (data / "more" / "test.jsonl").unlink(missing_ok=True)
    file.write_bytes(original)
    assert main(["run", "es", "--resume", str(run)]) == 0
    capsys.readouterr()
    for name in ("steps.jsonl", "evaluations.jsonl"):
        assert (run / name).read_bytes() == (begun / "run" / name).read_bytes()


@pytest.mark.parametrize("command", ["es", "grpo", "sequence"])
def test_a_generated_task_never_stands_in_for_a_missing_file(
    command: str, begun: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for name in ("choice", "chess"):
        task = ["--tasks", f"parity,{name}"] if command == "sequence" else ["--task", name]
        options = [*task, "--data", str(begun / "data"), "--model", str(model), "--out", str(tmp_path / "x")]
        assert main(["run", command, *options]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert f"has no file of task '{name}': it has files of parity" in err
        assert not (tmp_path / "x").exists()


def test_a_sequence_knows_its_data(begun: Path, model: Path, tmp_path: Path) -> None:
    write_choices(tmp_path / "data" / "odd.jsonl")
    changes: dict[str, Any] = {"model": str(model), "data": str(tmp_path / "data"), "steps": 1, "reward": "logprob"}
    es = es_config(**changes, task="odd", population=2, prompts=2, evaluation_prompts=4, checkpoint_every=0)
    config = SequenceConfig(tasks=("odd",), configs=(es,))
    run_sequence(config, tmp_path / "out")
    run_sequence(config, tmp_path / "out")
    write_choices(tmp_path / "data" / "odd.jsonl", count=61)
    with pytest.raises(ConfigError, match=r"holds another sequence: data.odd.odd.jsonl is"):
        run_sequence(config, tmp_path / "out")
    with pytest.raises(ConfigError, match="no file of task 'sorting'"):
        run_sequence(SequenceConfig(tasks=("odd", "sorting"), configs=(es,)), tmp_path / "other")
