"""Rewards by prompt: what is kept, that it is the run's own, and what damage does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.runs.directory import RunDirectory
from estheory.runs.prompt_rewards import packed_rewards, unpacked_rewards
from estheory.training.es import resume, run_es
from tests.training.runs import contents, es_config


def test_no_bit_is_lost_and_right_or_wrong_takes_little_room() -> None:
    rng = np.random.default_rng(0)
    logs, wins = -rng.exponential(size=(5, 7)), rng.integers(0, 2, (30, 64)).astype(float)
    for step, rewards in enumerate((logs, wins), start=1):
        row = json.loads(json.dumps(packed_rewards(step, rewards.tolist())))
        assert row["step"] == step
        assert np.array_equal(unpacked_rewards(row).members, rewards)
    assert len(json.dumps(packed_rewards(1, wins.tolist()))) < 30 * 64 / 2


@pytest.mark.parametrize(
    "damage",
    [
        {"shape": [2]},
        {"shape": [2, 3]},
        {"shape": [1 << 20, 1 << 20]},
        {"shape": [True, 4]},
        {"float64": "!"},
        {"float64": "AAAA"},
        {"float64": packed_rewards(1, [[0.0] * 9000])["float64"]},
        {"watched": 3},
        {"watched": {"shape": [1, 2]}},
        {"watched": packed_rewards(1, [[0.0]])},
        {"watched": packed_rewards(1, [[0.0] * 2] * 2)},
    ],
)
def test_damage_is_found_out(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="step 1 is damaged"):
        unpacked_rewards({**packed_rewards(1, [[1.0, 0.0], [0.0, 0.5]]), **damage})


def test_a_run_keeps_the_rewards_that_its_members_means_are_of(finished: Path) -> None:
    run = RunDirectory.open(finished)
    kept = run.prompt_rewards()
    assert list(kept) == [1, 2, 3, 4]
    for row in run.steps():
        assert kept[row["step"]].members.shape == (6, 8)
        assert kept[row["step"]].members.mean(axis=1).tolist() == row["rewards"]
        assert kept[row["step"]].members[:, 0::2].mean(axis=1).tolist() == row["half_rewards"]


def test_a_kill_before_a_step_s_own_line_leaves_no_rewards_of_it(tmp_path: Path, finished: Path) -> None:
    run_es(es_config(steps=2), tmp_path / "run", before_first_step=lambda s: {"trace": s.parameters.dim})
    shutil.copy(finished / "config.toml", tmp_path / "run")
    lines = (finished / "rewards.jsonl").read_text().splitlines(keepends=True)
    assert (tmp_path / "run" / "rewards.jsonl").read_text() == "".join(lines[:2])
    (tmp_path / "run" / "rewards.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    resume(tmp_path / "run")
    assert (tmp_path / "run" / "rewards.jsonl").read_text() == "".join(lines)


def test_they_need_not_be_kept_and_may_be_deleted(tmp_path: Path, finished: Path) -> None:
    config = es_config(steps=2, drop_prompt_rewards=True)
    run_es(config, tmp_path / "without", before_first_step=lambda s: {"trace": s.parameters.dim})
    assert not (tmp_path / "without" / "rewards.jsonl").exists()
    assert RunDirectory.open(tmp_path / "without").prompt_rewards() == {}
    shutil.copytree(finished, tmp_path / "deleted")
    (tmp_path / "deleted" / "rewards.jsonl").unlink()
    resume(tmp_path / "deleted")
    assert contents(tmp_path / "deleted") == contents(finished)


def test_a_damaged_line_is_named(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    lines = (finished / "rewards.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "rewards.jsonl").write_text(lines[0] + lines[1].replace("[6, 8]", "[6, 9]"))
    with pytest.raises(DataError, match="step 2 is damaged"):
        RunDirectory.open(tmp_path / "run").prompt_rewards()
