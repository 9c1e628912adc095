"""Runs that are cut off at any moment, then resumed or replayed: the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
import torch

from estheory.errors import ConfigError, DataError, EstheoryError, OutputError
from estheory.models.load import load_model
from estheory.models.parameters import FlatParameters
from estheory.runs.config import GRPORunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.es import resume, run_es
from estheory.training.replay import replay, write_replay
from tests.training.runs import contents, es_config

SYNCHRONISATIONS = 20  # config, environment, probes, 3 evaluations, 2 checkpoints; rewards, row and timing of 4 steps


def run_to_the_end(directory: Path, fatal: int) -> None:
    """Run, and be killed in the middle of the `fatal`-th write."""
    calls, sync = 0, os.fsync

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(handle)

    os.fsync = fsync  # type: ignore[assignment]
    run_es(es_config(), directory, before_first_step=lambda session: {"trace": session.parameters.dim})


def start(directory: Path, fatal: int = 0) -> ForkProcess:
    """A run in a process of its own, which has imported already what this one has."""
    child = ForkProcess(target=run_to_the_end, args=(directory, fatal))
    child.start()
    return child


def exit_code(child: ForkProcess) -> int | None:
    child.join(timeout=120)
    return child.exitcode


def finish(directory: Path) -> None:
    resume(directory, before_first_step=lambda session: {"trace": session.parameters.dim})


def check_killed_at_write(number: int, directory: Path, finished: Path) -> None:
    assert exit_code(start(directory, number)) == -signal.SIGKILL
    if number == 1:  # before there is a configuration, the folder counts as free
        RunDirectory.require_free(directory)
        return
    finish(directory)
    assert contents(directory) == contents(finished)


def test_a_run_killed_while_it_writes_resumes_to_the_same_bits(tmp_path: Path, finished: Path) -> None:
    check_killed_at_write(11, tmp_path / "run", finished)  # in checkpoint 2


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, SYNCHRONISATIONS + 1))
def test_a_run_killed_in_any_write_resumes_to_the_same_bits(number: int, tmp_path: Path, finished: Path) -> None:
    check_killed_at_write(number, tmp_path / "run", finished)


@pytest.mark.slow
def test_the_kills_cover_every_write(tmp_path: Path) -> None:
    assert exit_code(start(tmp_path / "run", SYNCHRONISATIONS + 1)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_run_killed_at_a_random_moment_resumes_to_the_same_bits(seed: int, tmp_path: Path, finished: Path) -> None:
    directory = tmp_path / "run"
    child = start(directory)
    deadline = time.monotonic() + 120
    while not (directory / "environment.json").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(random.Random(seed).uniform(0.0, 1.5))
    child.kill()
    child.join(timeout=60)
    finish(directory)
    assert contents(directory) == contents(finished)


def cut_to_two_steps(directory: Path) -> None:
    lines = (directory / "steps.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "steps.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:30])
    (directory / "checkpoints" / "step_000004.safetensors").unlink()
    rows = (directory / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "evaluations.jsonl").write_bytes(b"".join(rows[:2]))


def lose_the_checkpoints(directory: Path) -> None:
    cut_to_two_steps(directory)
    shutil.rmtree(directory / "checkpoints")
    rows = (directory / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    (directory / "evaluations.jsonl").write_bytes(b"".join(rows) + b'{"step": 2')


def lose_everything_but_the_configuration(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.name == "checkpoints":
            shutil.rmtree(entry)
        elif entry.name != "config.toml":
            entry.unlink()


@pytest.mark.parametrize("damage", [cut_to_two_steps, lose_the_checkpoints, lose_everything_but_the_configuration])
def test_what_is_missing_is_made_again(damage: Callable[[Path], None], tmp_path: Path, finished: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
    damage(directory)
    finish(directory)
    assert contents(directory) == contents(finished)


def test_a_complete_run_is_left_as_it_is(finished: Path) -> None:
    before = contents(finished)
    result = resume(finished)
    assert result.step == 4
    assert result.norm == RunDirectory.open(finished).steps()[-1]["norm"]
    assert contents(finished) == before


def test_probes_are_never_made_after_the_first_step(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "probes.json").unlink()
    finish(tmp_path / "run")
    assert not (tmp_path / "run" / "probes.json").exists()


def test_replay_gives_the_bits_of_every_checkpoint(finished: Path) -> None:
    run = RunDirectory.open(finished)
    parameters = FlatParameters(load_model("tiny-lm").model)
    assert torch.equal(replay(finished, 0), parameters.vector)
    for step, file in run.checkpoints().items():
        parameters.read_safetensors(file)
        assert torch.equal(replay(finished, step), parameters.vector)
    assert not torch.equal(replay(finished, 3), parameters.vector)


def test_a_run_from_before_generators_were_named_resumes_and_replays(tmp_path: Path) -> None:
    run_es(es_config(generator="philox"), tmp_path / "whole")
    run_es(es_config(generator="philox", steps=2), tmp_path / "run")
    recorded = (tmp_path / "whole" / "config.toml").read_text()
    assert 'generator = "philox"\n' in recorded
    (tmp_path / "run" / "config.toml").write_text(recorded.replace('generator = "philox"\n', ""))
    assert resume(tmp_path / "run").step == 4
    for step in (2, 4):
        assert torch.equal(replay(tmp_path / "run", step), replay(tmp_path / "whole", step))


def test_another_generator_is_found_out(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("mt19937", "philox"))
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        checkpoint.unlink()
    with pytest.raises(DataError, match="the run recorded"):
        resume(tmp_path / "run")


def test_a_replayed_step_is_a_model_folder(finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_replay(finished, 3, tmp_path / "model")
    assert capfd.readouterr() == ("", "")
    loaded = load_model(str(tmp_path / "model"))
    assert torch.equal(FlatParameters(loaded.model).vector, replay(finished, 3))
    with pytest.raises(OutputError, match="occupied"):
        write_replay(finished, 3, tmp_path / "model")


def test_a_step_that_is_not_there_is_refused(finished: Path) -> None:
    for step in (-1, 5):
        with pytest.raises(ConfigError, match="0 to 4"):
            replay(finished, step)


def forge(directory: Path, key: str, value: object) -> None:
    """Change one entry of the second row."""
    rows = [json.loads(line) for line in (directory / "steps.jsonl").read_text().splitlines()]
    rows[1][key] = value
    (directory / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("coefficients", [1.0, -1.0, 1.0, -1.0, 1.0, -1.0]),
        ("coefficients", [1.0]),
        ("coefficients", "none"),
        ("seeds", {"seed": 3, "step": 7}),
        ("seeds", {}),
    ],
)
def test_a_forged_record_is_found_out(key: str, value: object, tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    forge(tmp_path / "run", key, value)
    with pytest.raises(DataError):
        replay(tmp_path / "run", 4)


def test_another_model_is_found_out(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    environment = json.loads((finished / "environment.json").read_text())
    environment["model"]["sha256"] = "0" * 64
    (tmp_path / "run" / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(DataError, match="began from a model"):
        resume(tmp_path / "run")


def test_other_runs_and_folders_are_refused(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "grpo", GRPORunConfig(model="tiny-lm", task="reversal", steps=1))
    with pytest.raises(ConfigError, match="is a grpo run"):
        resume(tmp_path / "grpo")
    with pytest.raises(EstheoryError, match="no run directory"):
        resume(tmp_path)


def test_a_model_folder_is_remembered_by_its_absolute_path(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from estheory.training.es import run_es

    write_replay(finished, 2, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    run_es(es_config(model="base", steps=1), Path("run"))
    monkeypatch.chdir("/")
    resume(tmp_path / "run")
    assert torch.equal(replay(tmp_path / "run", 0), replay(finished, 2))
