"""GRPO through TRL on the packaged tiny-lm, in the run directory of ES runs."""

from __future__ import annotations

import json
import math
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from estheory.errors import ConfigError, DataError, OutputError
from estheory.models.load import load_model
from estheory.models.parameters import FlatParameters
from estheory.runs.config import GRPORunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.grpo import resume_grpo, run_grpo
from tests.training.runs import contents
from tests.variants import variants


def grpo_config(**changes: object) -> GRPORunConfig:
    values: dict[str, object] = {
        "model": "tiny-lm",
        "task": "reversal",
        "steps": 3,
        "prompts": 4,
        "samples": 4,
        "lr": 1e-4,
        "checkpoint_every": 2,
        "evaluation_prompts": 16,
        "seed": 3,
    }
    return GRPORunConfig(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "grpo"
    run_grpo(grpo_config(), directory, before_first_step=lambda session: {"trace": session.parameters.dim})
    return directory


def test_rows_checkpoints_and_evaluations_are_those_of_a_run(finished: Path) -> None:
    run = RunDirectory.open(finished)
    rows = run.steps()
    assert run.config == grpo_config()
    assert [row["lr"] for row in rows] == pytest.approx([1e-4, 1e-4 * 2 / 3, 1e-4 / 3], rel=1e-12)
    assert all(row["reward_mean"] * 16 == int(row["reward_mean"] * 16) for row in rows)
    for row in rows:
        p = row["reward_mean"]  # rewards are 0 or 1
        assert math.isclose(row["reward_std"], math.sqrt(p * (1 - p)), abs_tol=1e-12)
        assert math.isfinite(row["loss"])
        assert row["grad_norm"] > 0 or row["stalled"]
    assert list(run.checkpoints()) == [2, 3]
    assert [row["step"] for row in run.rows("evaluations")] == [0, 0, 2, 2, 3, 3]
    assert run.read_json("probes.json") is not None
    assert len((finished / "timings.jsonl").read_text().splitlines()) == 3


def test_the_checkpoint_is_the_model_that_moved(finished: Path) -> None:
    run = RunDirectory.open(finished)
    parameters = FlatParameters(load_model("tiny-lm").model)
    base = parameters.vector.clone()
    for step, file in run.checkpoints().items():
        parameters.read_safetensors(file)
        norm = float((parameters.vector.double() - base.double()).norm())
        assert norm > 0
        assert math.isclose(norm, run.steps()[step - 1]["norm"], rel_tol=1e-12)
    # AdamW's first step moves every weight that has a gradient by at most lr
    assert run.steps()[0]["norm"] <= 1e-4 * math.sqrt(parameters.dim) * (1 + 1e-3)


def test_a_run_is_reproducible_silent_and_leaves_global_generators_alone(
    finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(*_: Any, **__: Any) -> None:
        raise AssertionError("telemetry was sent")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", report)
    before = (random.getstate(), _numpy_state(), torch.get_rng_state())
    capfd.readouterr()
    run_grpo(grpo_config(), tmp_path / "run", before_first_step=lambda session: {"trace": session.parameters.dim})
    assert capfd.readouterr() == ("", "")
    assert contents(tmp_path / "run") == contents(finished)
    assert random.getstate() == before[0]
    assert _numpy_state() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    run_grpo(grpo_config(seed=4, steps=1), tmp_path / "other")
    first = json.loads((tmp_path / "other" / "steps.jsonl").read_text())
    assert first["norm"] != RunDirectory.open(finished).steps()[0]["norm"]


def _numpy_state() -> bytes:
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


def test_part_of_a_model_is_trained_alone(tmp_path: Path) -> None:
    run_grpo(grpo_config(trainable="last:1", steps=1), tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    parameters = FlatParameters(load_model("tiny-lm").model, "last:1")
    parameters.read_safetensors(run.checkpoint(1))
    assert run.steps()[0]["norm"] > 0


def test_what_cannot_run_is_refused(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(ConfigError, match="chess"):
        run_grpo(grpo_config(task="chess"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(OutputError, match="occupied"):
        run_grpo(grpo_config(), finished)
    with pytest.raises(ConfigError, match="float16"):  # AdamW's second moments underflow there
        grpo_config(dtype="float16")


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    run_grpo(grpo_config(steps=100, prompts=16, samples=8, evaluation_prompts=400), tmp_path / "run")
    rows = RunDirectory.open(tmp_path / "run").rows("evaluations")
    evaluations = [row for row in rows if row["quantity"] == "accuracy"]
    before, after = evaluations[0], evaluations[-1]
    stderr = math.hypot(before["stderr"], after["stderr"])
    assert (after["value"] - before["value"]) / stderr > 4.9  # normal quantile at 1e-6


class CutError(Exception):
    pass


@pytest.mark.parametrize(
    "moment",
    variants(["before a checkpoint", "between checkpoints", "in a save", "complete"], fast={"in a save", "complete"}),
)
def test_a_run_that_was_cut_off_resumes_to_the_same_bits(
    moment: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"

    def cut(row: Any) -> None:
        if row["step"] == (1 if moment == "before a checkpoint" else 3):
            raise CutError

    def probe(session: Any) -> dict[str, Any]:
        return {"trace": session.parameters.dim}

    if moment == "complete":
        shutil.copytree(finished, directory)
    elif moment == "in a save":
        monkeypatch.setattr("estheory.training.grpo_trainer.Recorder.on_save", lambda *_, **__: cut({"step": 3}))
        with pytest.raises(CutError):
            run_grpo(grpo_config(), directory, before_first_step=probe)
        monkeypatch.undo()
        assert (directory / "checkpoints" / "trainer.tmp").exists()
    else:
        with pytest.raises(CutError):
            run_grpo(grpo_config(), directory, before_first_step=probe, on_step=cut)
    assert resume_grpo(directory, before_first_step=probe).step == 3
    assert contents(directory) == contents(finished)
    assert sorted(p.name for p in directory.glob("checkpoints/*.trainer")) == ["step_000003.trainer"]
    assert not (directory / "checkpoints" / "trainer.tmp").exists()


def test_a_changed_checkpoint_is_found_out(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    shutil.copy(
        finished / "checkpoints" / "step_000002.safetensors", tmp_path / "run/checkpoints/step_000003.safetensors"
    )
    with pytest.raises(DataError, match="not what the run recorded"):
        resume_grpo(tmp_path / "run")


def test_adapters_are_trained_alone(tmp_path: Path) -> None:
    from estheory.runs.read import read_own
    from estheory.validation.own_runs import recorded_pairs, run_displacements

    run_grpo(grpo_config(trainable="lora:2", steps=1), tmp_path / "run")
    norm = RunDirectory.open(tmp_path / "run").steps()[0]["norm"]
    assert norm > 0
    evidence = recorded_pairs(tmp_path / "run")
    [(_, measured)] = evidence.pairs
    assert measured.value == norm
    assert "adapters" in evidence.notes[0]
    with pytest.raises(DataError, match="adapters"):
        run_displacements(read_own(tmp_path / "run"))
