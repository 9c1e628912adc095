"""Run directories written before this release stay readable: two of them, made with tiny-lm, kept without weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.config_files import parse_config
from estheory.runs.directory import RunDirectory
from estheory.runs.read import read_own, read_run
from estheory.runs.view import OwnRun, Settings
from estheory.validation.own_runs import recorded_pairs

OLD = Path(__file__).parent / "data"


def rows_of(name):
    return [json.loads(line) for line in (OLD / name / "steps.jsonl").read_text().splitlines()]


def test_an_es_run():
    run = read_run(OLD / "es")
    assert isinstance(run, OwnRun)
    assert isinstance(run.config, ESRunConfig)
    assert (run.dim, run.settings.sigma, run.settings.alpha, run.settings.population) == (59_184, 0.015, 0.0075, 4)
    assert run.settings.rules() == run.config.rules(59_184)
    for train_set in (0, run.config.prompts, 2 * run.config.prompts):
        told = Settings.of(replace(run.config, train_set=train_set), run.dim)
        assert told.prompts_fixed == (train_set == run.config.prompts)
    for step, row in zip(run.steps, rows_of("es"), strict=True):
        assert (step.step, step.norm, step.reward_std) == (row["step"], row["norm"], row["reward_std"])
        assert step.stream == (3, row["step"])
        np.testing.assert_array_equal(step.rewards, row["rewards"])
        np.testing.assert_array_equal(step.half_rewards, row["half_rewards"])
        np.testing.assert_array_equal(step.coefficients, row["coefficients"])
    rows = [json.loads(line) for line in (OLD / "es/evaluations.jsonl").read_text().splitlines()]
    accuracy = {(r["step"], r["task"]): (r["value"], r["stderr"]) for r in rows if r["quantity"] == "accuracy"}
    assert run.evaluated("accuracy") == accuracy
    assert set(accuracy) == {(0, "addition"), (3, "addition")}
    assert run.probes["fisher"]
    assert len(recorded_pairs(OLD / "es").pairs) >= 2


def test_a_grpo_run():
    run = read_own(OLD / "grpo")
    assert isinstance(run.config, GRPORunConfig)
    assert [step.lr for step in run.steps] == [row["lr"] for row in rows_of("grpo")]
    assert len(recorded_pairs(OLD / "grpo").pairs) == 1


@pytest.mark.parametrize("name", ["es", "grpo"])
def test_they_can_be_resumed(name, tmp_path):
    """What resuming reads, and the configuration written again, are what was written then."""
    shutil.copytree(OLD / name, tmp_path / name)
    run = RunDirectory.open(tmp_path / name)
    run.repair()
    assert run.steps() == rows_of(name)
    if isinstance(run.config, ESRunConfig):
        assert run.config.generator == "philox"  # there was no other
    assert parse_config(run.config.to_toml(), name) == run.config
