"""Trackers: what they hold is what the run recorded, and they neither change a run nor stop it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from estheory.cli.app import main
from estheory.errors import ConfigError, MissingDependencyError
from estheory.runs.directory import RunDirectory
from estheory.training import trackers
from estheory.training.es import resume
from estheory.training.trackers import require_tracker, tracked
from tests.training.runs import contents

ES = ["run", "es", "--steps", "3", "--population", "4", "--prompts", "4", "--evaluation-prompts", "8", "--quiet"]
GRPO = ["run", "grpo", "--steps", "3", "--samples", "2", "--prompts", "4", "--evaluation-prompts", "8", "--quiet"]
Scalars = dict[tuple[str, int], float]


def recorded(directory: Path) -> Scalars:
    """Every figure of a run that a tracker should hold, by tag and step."""
    run = RunDirectory.open(directory)
    names = ("reward_mean", "reward_std", "norm", "lr", "grad_norm", "loss", "stalled")
    figures = {(name, row["step"]): float(row[name]) for row in run.steps() for name in names if name in row}
    evaluated = {(f"{r['quantity']}/{r['task']}", r["step"]): r["value"] for r in run.rows("evaluations")}
    return figures | evaluated


def bits(directory: Path) -> dict[str, bytes]:
    """The run but for its probes, which say how many seconds they took."""
    return {name: content for name, content in contents(directory).items() if name != "probes.json"}


def tensorboard_scalars(directory: Path) -> Scalars:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tensorboard"))  # type: ignore[no-untyped-call]
    events.Reload()  # type: ignore[no-untyped-call]
    tags = events.Tags()["scalars"]  # type: ignore[no-untyped-call]
    rows = [(tag, event.step, event.value) for tag in tags for event in events.Scalars(tag)]  # type: ignore[no-untyped-call]
    assert len({(tag, step) for tag, step, _ in rows}) == len(rows)  # each figure once
    return {(tag, step): value for tag, step, value in rows}


@pytest.mark.parametrize("command", [ES, GRPO], ids=["es", "grpo"])
def test_tensorboard_holds_the_run_and_changes_none_of_it(command: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run, plain = tmp_path / "run", tmp_path / "plain"
    assert main([*command, "--tracker", "tensorboard", "--out", str(run), "--output", str(tmp_path / "said")]) == 0
    assert main([*command, "--out", str(plain), "--output", str(tmp_path / "said")]) == 0
    assert bits(run) == bits(plain)
    assert not (plain / "tensorboard").exists()
    logged, expected = tensorboard_scalars(run), recorded(run)
    assert logged.keys() == expected.keys()
    assert ("accuracy/addition", 0) in logged
    for place, value in expected.items():
        assert logged[place] == pytest.approx(value, rel=2**-23, abs=1e-37)  # event files hold float32


def test_a_resumed_run_goes_on_in_the_same_events_each_figure_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    command = [*ES, "--tracker", "tensorboard", "--checkpoint-every", "1"]
    assert main([*command, "--out", str(tmp_path / "run"), "--output", str(tmp_path / "said")]) == 0
    run = RunDirectory.open(tmp_path / "run")
    run.keep_until(1)  # as a kill would leave it, with events of steps 2 and 3
    for step in (2, 3):
        run.checkpoint(step).unlink()
    before = len(list((tmp_path / "run" / "tensorboard").iterdir()))
    assert main(["run", "es", "--resume", str(run.path), "--tracker", "tensorboard", "--quiet"]) == 0
    assert len(list((run.path / "tensorboard").iterdir())) == before + 1
    logged = tensorboard_scalars(run.path)
    assert logged.keys() == recorded(run.path).keys()


def test_a_sequence_has_the_events_of_every_stage(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    sizes = ["--steps", "1", "--population", "2", "--prompts", "2", "--evaluation-prompts", "4", "--methods", "es"]
    command = ["run", "sequence", "--tasks", "reversal,addition", *sizes, "--tracker", "tensorboard", "--quiet"]
    assert main([*command, "--out", str(tmp_path / "out"), "--output", str(tmp_path / "said")]) == 0
    for stage in ("1-reversal", "2-addition"):
        run = tmp_path / "out" / "es" / "seed-0" / stage
        assert tensorboard_scalars(run).keys() == recorded(run).keys()


def in_a_process(run: Path, tracker: str, environment: dict[str, str]) -> str:
    """Run ES with a tracker, offline; its stdout."""
    command = [sys.executable, "-m", "estheory", *ES, "--tracker", tracker, "--out", str(run), "--json"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_trackio_holds_the_run(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    folder = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    assert json.loads(in_a_process(tmp_path / "run", "trackio", folder))["steps"] == 3
    code = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as S; "
        "(name,) = S.get_runs('estheory'); print(json.dumps([name, S.get_logs('estheory', name)]))"
    )
    read = subprocess.run([sys.executable, "-c", code], env={**os.environ, **folder}, capture_output=True, check=True)
    name, rows = json.loads(read.stdout)
    assert name.startswith("run-")
    logged = {(key, row["step"]): row[key] for row in rows for key in row if key not in ("step", "timestamp")}
    assert logged == recorded(tmp_path / "run")


@pytest.mark.slow
def test_wandb_writes_the_run_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    assert json.loads(in_a_process(tmp_path / "run", "wandb", {}))["steps"] == 3
    (file,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    content = file.read_bytes()
    for (tag, _), value in recorded(tmp_path / "run").items():
        assert tag.encode() in content
        assert json.dumps(value).encode() in content or json.dumps(int(value)).encode() in content


def test_a_tracker_that_fails_is_told_once_and_loses_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    said: list[str] = []
    run.mkdir()
    (run / "config.toml").write_bytes((finished / "config.toml").read_bytes())
    (run / "tensorboard").write_text("a file where the events should go")
    with tracked("tensorboard", run, said.append) as on_step:
        resume(run, before_first_step=lambda session: {"trace": session.parameters.dim}, on_step=on_step)
    assert len(said) == 1
    assert "tensorboard failed (FileExistsError" in said[0]
    assert contents(run) == contents(finished)


def test_a_tracker_that_fails_in_the_midst_or_at_the_end_is_told(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    rows = RunDirectory.open(finished).steps()
    for moment in ("log", "close"):
        logged: list[int] = []

        def opens(run: Any, step: int, close: Any, moment: str = moment, logged: list[int] = logged) -> Any:
            def fail() -> None:
                raise RuntimeError("the server is gone")

            def log(figures: dict[str, float], step: int) -> None:
                print("noise on stdout")
                logged.append(step)
                if moment == "log" and step == 2:
                    fail()

            close.callback(fail if moment == "close" else list)
            return log

        monkeypatch.setitem(trackers._OPEN, "tensorboard", opens)
        said: list[str] = []
        with tracked("tensorboard", finished, said.append) as on_step:
            for row in rows:
                on_step(row)
        assert logged == ([0, 1, 2] if moment == "log" else [0, 1, 2, 3, 4])
        assert len(said) == 1
        assert "the server is gone" in said[0]
    assert capsys.readouterr().out == ""


def test_a_tracker_that_is_not_there_is_one_line_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"tracker 'mlflow' is unknown.*tensorboard, wandb, trackio"):
        require_tracker("mlflow")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'estheory\[wandb\]'"):
        require_tracker("wandb")
    sequence = ["run", "sequence", "--tasks", "reversal,addition", "--steps", "1"]
    for command in (ES, GRPO, sequence):
        assert main([*command, "--tracker", "trackio", "--out", str(tmp_path / "run")]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "pip install 'estheory[trackio]'" in err
        assert not (tmp_path / "run").exists()
