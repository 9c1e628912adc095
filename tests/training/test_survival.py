"""What may go wrong within a run: models that break or say nothing, full disks, Ctrl-C."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from estheory.errors import DataError, OutputError
from estheory.measurement import accuracy
from estheory.models.load import load_model
from estheory.runs import directory as run_directory
from estheory.runs.directory import RunDirectory
from estheory.training.es import resume, run_es
from estheory.training.trajectory import Trajectory
from tests.training.runs import contents, es_config


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell's background job inherits an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


PROBES = {"before_first_step": lambda session: {"trace": session.parameters.dim}}


def test_a_member_whose_logits_are_not_numbers_stops_the_run_with_nothing_lost(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Trajectory.place

    def broken(self: Trajectory, out: torch.Tensor, evaluation: int) -> None:
        place(self, out, evaluation)
        if self.step == 2 and evaluation == 3:
            out.fill_(float("nan"))

    monkeypatch.setattr(Trajectory, "place", broken)
    with pytest.raises(DataError, match="reward of member 3 in step 3 is nan"):
        run_es(es_config(), tmp_path / "run", **PROBES)
    assert len(RunDirectory.open(tmp_path / "run").steps()) == 2
    monkeypatch.undo()
    resume(tmp_path / "run", **PROBES)
    assert contents(tmp_path / "run") == contents(finished)


def test_a_model_that_says_nothing_stalls_and_does_not_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "generate", lambda *args, **_: [""] * 8)
    result = run_es(es_config(), tmp_path / "run")
    assert (result.stalled_steps, result.norm) == (4, 0.0)
    assert all(row["rewards"] == [0.0] * 6 for row in RunDirectory.open(tmp_path / "run").steps())


@pytest.mark.parametrize("name", ["steps.jsonl", "evaluations.jsonl", "timings.jsonl"])
def test_a_full_disk_is_one_error_and_the_run_goes_on_when_there_is_room(
    name: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, written = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal written
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name == name:
            written += 1
            if written == 2:
                os.ftruncate(handle, os.fstat(handle).st_size - 5)  # the disk took all but the line's end
                raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(run_directory.os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device.*--resume"):
        run_es(es_config(), tmp_path / "run", **PROBES)
    monkeypatch.undo()
    resume(tmp_path / "run", **PROBES)
    assert contents(tmp_path / "run") == contents(finished)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_waits_until_the_line_is_written(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def interrupted(handle: int) -> None:
        lines = (tmp_path / "run" / "steps.jsonl").read_text().count("\n") if handle else 0
        if Path(os.readlink(f"/proc/self/fd/{handle}")).name == "steps.jsonl" and lines == 2:
            signal.raise_signal(signal.SIGINT)
        sync(handle)

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml.tmp").touch()  # a free folder still
    monkeypatch.setattr(
        run_directory.os, "fsync", lambda h: interrupted(h) if (tmp_path / "run/steps.jsonl").exists() else sync(h)
    )
    with pytest.raises(KeyboardInterrupt):
        run_es(es_config(), tmp_path / "run", **PROBES)
    monkeypatch.undo()
    lines = (tmp_path / "run" / "steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    resume(tmp_path / "run", **PROBES)
    assert contents(tmp_path / "run") == contents(finished)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_on_the_command_line_is_exit_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from estheory.cli.app import main

    monkeypatch.setattr(accuracy, "generate", lambda *args, **_: signal.raise_signal(signal.SIGINT))
    arguments = ["run", "es", "--population", "2", "--prompts", "2", "--evaluation-prompts", "2", "--steps", "1"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 130
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert f"estheory run es --resume {tmp_path / 'run'} goes on" in err
    monkeypatch.undo()
    assert main(["run", "es", "--resume", str(tmp_path / "run"), "--quiet"]) == 0


PROGRAM = [sys.executable, "-c", "import estheory.cli.app as app; app.run()"]


def children_of(process: int) -> set[int]:
    """Descendants of a process."""
    found = set(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))
    return found.union(*map(children_of, found)) if found else found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("ended", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("command", ["demo", "run"])
def test_no_process_is_left_behind(command: str, ended: signal.Signals, tmp_path: Path) -> None:
    arguments = ["demo"] if command == "demo" else ["run", "es", "--workers", "2", "--steps", "100000"]
    program = subprocess.Popen(
        [*PROGRAM, *arguments, "--out", str(tmp_path / "out"), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/**/steps.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = children_of(program.pid)
    assert len(children) >= (2 if command == "demo" else 1)
    if ended == signal.SIGINT:
        os.killpg(program.pid, ended)  # as a terminal does
    else:
        program.kill()
    _, err = program.communicate(timeout=60)
    assert program.returncode == (130 if ended == signal.SIGINT else -signal.SIGKILL)
    if ended == signal.SIGINT:
        assert (err.count("\n"), err[:12]) == (1, "interrupted:")
        assert ("the same command" if command == "demo" else "--resume") in err
    deadline = time.monotonic() + 30
    while any(Path("/proc", str(child)).exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if Path("/proc", str(child)).exists()]


def test_a_checkpoint_of_another_architecture_is_refused(finished: Path, tmp_path: Path) -> None:
    from estheory.models.parameters import FlatParameters
    from estheory.training.replay import write_replay

    write_replay(finished, 1, tmp_path / "model")
    parameters = FlatParameters(load_model("tiny-lm").model, "last:1")
    with pytest.raises(DataError, match="does not hold this model's trainable tensors"):
        parameters.read_safetensors(tmp_path / "model" / "model.safetensors")
