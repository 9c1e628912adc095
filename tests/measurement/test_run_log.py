"""Logs of any code, as the ledger reads them."""

import json

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.measurement.run_log import Told, read_run_log

RNG = np.random.default_rng(0)
REWARDS = RNG.random((3, 4, 5)).round(3)


def write(path, rows, name="log.jsonl"):
    (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path / name


def test_a_generic_log(tmp_path):
    head = {"sigma": 1e-3, "alpha": 5e-4, "mirrored": "halves"}
    rows = [{"step": t, "prompt_rewards": r.tolist(), "norm": 0.1 * t} for t, r in enumerate(REWARDS, start=1)]
    log = read_run_log(write(tmp_path, [head, *rows]))
    assert log.rules.population == 4
    assert log.rules.mirrored
    assert np.array_equal(log.updates[0].prompt_rewards, REWARDS[0][[0, 2, 1, 3]])
    assert log.updates[2].norm == pytest.approx(0.3)


def test_the_independent_code_s_log(tmp_path):
    rows = [
        {"iteration": t, "center_reward": 5.0, "fitness": r.mean(axis=1).tolist(), "mean_fitness": 5.0}
        for t, r in enumerate(REWARDS)
    ]
    file = write(tmp_path, rows)
    (tmp_path / "run.json").write_text(json.dumps({"config": {"sigma": 5e-4, "alpha": 5e-4, "population": 4}}))
    log = read_run_log(file)
    assert [u.step for u in log.updates] == [0, 1, 2]
    assert log.updates[0].centre_reward == 5.0
    assert log.updates[1].rewards == pytest.approx(REWARDS[1].mean(axis=1))


def test_a_run_directory_and_a_torn_last_line(tmp_path):
    (tmp_path / "config.toml").write_text(
        'sigma = 1e-3\nalpha = 5e-4\npopulation = 4\nprompts = 6\nsteps = 9\nantithetic = true\ntask = "addition"\n'
    )
    row = {"rewards": [0.5, 0.0, 1.0, 0.5], "half_rewards": [0.5, 0.0, 1.0, 0.5], "coefficients": [0.0, -1.0, 1.0, 0.0]}
    write(tmp_path, [{"step": 1, **row}, {"step": 2, **row}], "steps.jsonl")
    with (tmp_path / "steps.jsonl").open("a") as file:
        file.write('{"step": 3, "rew')
    log = read_run_log(tmp_path)
    assert len(log.updates) == 2
    assert (log.planned, log.ceiling, log.updates[0].prompts) == (9, 1.0, 6)


TOLD = Told(sigma=1e-3, alpha=5e-4, population=4)


@pytest.mark.parametrize(
    ("rows", "told", "said"),
    [
        ([{"step": 1, "reward_mean": 1.0}], Told(alpha=1e-3, population=4), "does not say sigma.*--sigma"),
        ([{"step": 1, "reward_mean": 1.0}, {"step": 3, "reward_mean": 1.0}], TOLD, "step 3 follows step 1.*--at 1"),
        ([{"step": 1, "prompt_rewards": [[1, 2], [3, None]]}], TOLD, "row 2, column 2"),
        ([{"step": 1, "rewards": "x"}], TOLD, "step 1: rewards is no list"),
        ([{"step": 1, "reward_mean": "x"}], TOLD, "step 1: reward_mean is 'x'"),
        ([{"sigma": 1}], TOLD, "holds no step"),
        ([[1]], TOLD, "line 1 is no object"),
        ([{"step": 1, "reward_mean": 1.0}], Told(sigma=1.0, alpha=1.0, population=5, mirrored="halves"), "no mirrored"),
    ],
)
def test_refusals(tmp_path, rows, told, said):
    with pytest.raises(DataError, match=said):
        read_run_log(write(tmp_path, rows), told)


def test_reading_up_to_a_step_before_a_gap(tmp_path):
    file = write(tmp_path, [{"step": 1, "reward_mean": 1.0}, {"step": 3, "reward_mean": 1.0}])
    assert len(read_run_log(file, TOLD, at=1).updates) == 1
    with pytest.raises(DataError, match="cannot read"):
        read_run_log(tmp_path / "none")
