"""The steps and the hyper-parameters that readers of other people's code return in the one view."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from estheory.runs.read import read_run
from tests.validation import foreign_runs as make


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_esvsgrpo_es(folder):
    make.esvsgrpo_es(folder)
    run = read_run(folder)
    rows = [row for row in lines(folder / "metrics_baseline.jsonl") if row["type"] == "train"]
    assert [step.step for step in run.steps] == list(range(1, len(rows) + 1))
    assert [step.reward_mean for step in run.steps] == [row["fitness_mean"] for row in rows]
    assert [step.reward_std for step in run.steps] == [row["fitness_std"] for row in rows]
    told = run.settings
    assert (told.method, told.sigma, told.population) == ("es", make.SIGMA, make.POPULATION)
    assert told.alpha is None  # its tasks have different ones


def test_esvsgrpo_grpo(folder):
    make.esvsgrpo_grpo(folder)
    run = read_run(folder)
    assert run.settings.method == "grpo"
    np.testing.assert_array_equal([step.lr for step in run.steps], run.rates)


@pytest.mark.parametrize("mirrored", [False, True])
def test_es_awd(folder, mirrored):
    make.es_awd(folder, mirrored=mirrored)
    run = read_run(folder)
    first = json.loads((folder / "iteration_updates/iteration_000001.json").read_text())
    assert run.steps[0].seeds == tuple(first["seeds"])
    assert run.settings.antithetic == mirrored
    if mirrored:
        assert run.steps[0].coefficients is None  # differences are logged, not members' coefficients
    else:
        np.testing.assert_array_equal(run.steps[0].coefficients, first["update_coefficients"])
        squares = [np.sum(step.weights(run.settings) ** 2) for step in run.steps]
        np.testing.assert_allclose(squares, run.increments)
    assert {step.step: step.norm for step in run.steps if step.norm is not None} == {
        step: norm for step, (norm, _) in run.logged_norms.items()
    }


def test_es_at_scale(folder):
    pytest.importorskip("tensorboard")
    make.es_at_scale(folder, version="static")
    run = read_run(folder)
    assert len(run.steps) == len(run.increments)
    assert all(step.reward_std is not None for step in run.steps)
    assert (run.settings.alpha, run.settings.population) == (make.ALPHA, make.POPULATION)


def test_trl(folder):
    make.trl(folder)
    run = read_run(folder)
    np.testing.assert_array_equal([step.lr for step in run.steps], run.rates)


@pytest.mark.parametrize("value", ["x", None, True, float("inf")])
def test_a_figure_that_no_law_uses_may_be_damaged(folder, value):
    make.esvsgrpo_es(folder)
    file = folder / "metrics_baseline.jsonl"
    rows = [row | ({"fitness_mean": value} if row["type"] == "train" else {}) for row in lines(file)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_run(folder).steps[0].reward_mean is None
