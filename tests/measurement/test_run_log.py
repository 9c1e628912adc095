"""Runs of any code, as the ledger reads them."""

import json

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.measurement.run_log import run_log
from estheory.runs.read import read_run
from estheory.runs.view import ForeignRun, Given, Settings, Step
from estheory.theory.economy.ledger import ledger

RNG = np.random.default_rng(0)
REWARDS = RNG.random((3, 4, 5)).round(3)


def write(path, rows, name="log.jsonl"):
    (path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path / name


def test_a_generic_log(tmp_path):
    head = {"sigma": 1e-3, "alpha": 5e-4, "mirrored": "halves"}
    rows = [{"step": t, "prompt_rewards": r.tolist(), "norm": 0.1 * t} for t, r in enumerate(REWARDS, start=1)]
    log = run_log(read_run(write(tmp_path, [head, *rows])))
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
    log = run_log(read_run(file))
    assert [u.step for u in log.updates] == [1, 2, 3]
    assert log.updates[0].centre_reward == 5.0
    assert log.updates[1].rewards == pytest.approx(REWARDS[1].mean(axis=1))
    assert ledger(log.updates, log.rules).centred


def test_two_point_directions_are_pairs(tmp_path):
    rewards = RNG.random(8)
    step = Step(step=1, rewards=rewards, coefficients=(rewards[::2] - rewards[1::2]) / 2e-3)
    told = Settings(method="es", sigma=1e-3, alpha=5e-4, population=4, shaping="two-point")
    log = run_log(ForeignRun(path=tmp_path, format="log", steps=(step,), told=told))
    assert (log.rules.population, log.rules.mirrored) == (8, True)
    assert log.updates[0].coefficients[:2].sum() == pytest.approx(0)


TOLD = Given(sigma=1e-3, alpha=5e-4, population=4)


@pytest.mark.parametrize(
    ("rows", "told", "said"),
    [
        ([{"step": 1, "reward_mean": 1.0}], Given(alpha=1e-3, population=4), "does not say sigma.*--sigma"),
        (
            [{"step": 1, "reward_mean": 1.0}, {"step": 3, "reward_mean": 1.0}],
            TOLD,
            "step 3 follows step 1, step 2 is missing.*--at 1",
        ),
        ([{"step": 1, "reward_mean": 1.0}], Given(sigma=1.0, alpha=1.0, population=5, antithetic=True), "mirrored"),
    ],
)
def test_refusals(tmp_path, rows, told, said):
    with pytest.raises(DataError, match=said):
        run_log(read_run(write(tmp_path, rows), told, []))


def test_reading_up_to_a_step_before_a_gap(tmp_path):
    file = write(tmp_path, [{"step": 1, "reward_mean": 1.0}, {"step": 3, "reward_mean": 1.0}])
    run = read_run(file, TOLD, [])
    assert len(run_log(run, at=1).updates) == 1
    with pytest.raises(DataError, match="no update up to 0"):
        run_log(run, at=0)
