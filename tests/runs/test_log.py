"""The JSONL log of any code: what it may hold, where its hyper-parameters stand, and what is refused."""

import json

import numpy as np
import pytest

from estheory.cli.app import main
from estheory.errors import DataError
from estheory.runs.foreign import foreign_format
from estheory.runs.read import read_run
from estheory.runs.view import BY_COEFFICIENTS, BY_REWARDS, Given
from estheory.validation.judge import judge
from estheory.validation.own_runs import recorded_pairs

SETTINGS = {"sigma": 0.01, "alpha": 0.005, "population": 4, "dim": 1000}
REWARDS = np.random.default_rng(0).random((3, 4, 6))


def write(path, rows, settings=None, beside=None):
    lines = [] if settings is None else [settings]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*lines, *rows]))
    if beside is not None:
        (path.parent / "config.json").write_text(json.dumps(beside))
    return path


def zscores(rewards):
    return (rewards - rewards.mean()) / rewards.std()


def test_everything_that_a_step_may_hold(tmp_path):
    rows = [
        {
            "step": t,
            "prompt_rewards": REWARDS[t - 1].tolist(),
            "centre_rewards": [0.5, 0.25, 0.75, 0.5, 0.5, 0.5],
            "coefficients": zscores(REWARDS[t - 1].mean(axis=1)).tolist(),
            "seeds": [1, 2, 3, 4],
            "norm": 0.1 * t,
            "kl": 0.01 * t,
            "unknown": "left alone",
        }
        for t in (1, 2, 3)
    ]
    run = read_run(write(tmp_path / "mine.jsonl", rows, SETTINGS))
    assert (run.format, run.settings.sigma, run.settings.prompts, run.settings.population) == ("log", 0.01, 6, 4)
    step = run.steps[1]
    np.testing.assert_array_equal(step.prompt_rewards, REWARDS[1])
    np.testing.assert_allclose(step.rewards, REWARDS[1].mean(axis=1))
    assert (step.centre_reward, step.norm, step.kl, step.seeds) == (0.5, 0.2, 0.02, (1, 2, 3, 4))
    assert step.reward_std == pytest.approx(REWARDS[1].mean(axis=1).std())
    assert run.condition == BY_COEFFICIENTS
    np.testing.assert_allclose(run.increments, 0.005**2 / 4, rtol=1e-6)
    assert run.settings.rules().dim == 1000


@pytest.mark.parametrize("where", ["first object", "config.json", "config.toml", "options"])
def test_where_the_hyper_parameters_stand(tmp_path, where):
    rows = [{"step": t, "rewards": REWARDS[t - 1, :, 0].tolist()} for t in (1, 2, 3)]
    path = write(tmp_path / "x.jsonl", rows, SETTINGS if where == "first object" else None)
    given = None
    if where == "config.json":
        (tmp_path / "config.json").write_text(json.dumps(SETTINGS))
    elif where == "config.toml":
        (tmp_path / "config.toml").write_text("".join(f"{name} = {value}\n" for name, value in SETTINGS.items()))
    elif where == "options":
        given = Given(alpha=0.005, sigma=0.01)
    run = read_run(path, given)
    assert (run.settings.alpha, run.settings.sigma, run.settings.population) == (0.005, 0.01, 4)
    assert run.condition == BY_REWARDS
    np.testing.assert_allclose(run.increments, 0.005**2 / 4, rtol=1e-6)


def test_options_win_over_the_log_and_the_log_over_the_file_beside_it(tmp_path):
    rows = [{"step": 1, "reward_std": 0.1}]
    path = write(tmp_path / "x.jsonl", rows, {"alpha": 0.002}, beside={"alpha": 0.001, "sigma": 0.3, "population": 8})
    assert read_run(path).settings.alpha == 0.002
    run = read_run(path, Given(sigma=0.5))
    assert (run.settings.sigma, run.settings.population) == (0.5, 8)


@pytest.mark.parametrize("mirrored", ["interleaved", "halves"])
def test_mirrored_members_become_neighbours(tmp_path, mirrored):
    pairs = np.array([[1.0, 0.0], [0.75, 0.5]])
    order = pairs.ravel() if mirrored == "interleaved" else pairs.T.ravel()
    rows = [{"step": 1, "rewards": order.tolist(), "coefficients": order.tolist()}]
    run = read_run(write(tmp_path / "x.jsonl", rows, {**SETTINGS, "mirrored": mirrored}))
    np.testing.assert_array_equal(run.steps[0].rewards, pairs.ravel())
    np.testing.assert_allclose(run.weights, [0.005 / 4 * np.array([1.0, 0.25])])
    assert (run.settings.antithetic, run.population) == (True, 2)


def independent(folder):
    """Write the log of the independent vLLM and JAX code."""
    rows = []
    for iteration, rewards in enumerate(REWARDS.mean(axis=2)):
        tell = {"weights_abs_sum": float(np.abs(zscores(rewards)).sum())}
        row = {"iteration": iteration, "prompts": 6, "center_reward": 0.5, "fitness": rewards.tolist()}
        rows.append({**row, "mean_fitness": float(rewards.mean()), "tell": tell})
    config = {"sigma": 0.01, "alpha": 0.005, "population": 4, "prompts_per_member": 6, "iterations": 3, "seed": 0}
    (folder / "run.json").write_text(json.dumps({"config": {**config, "model": "some/model"}}))
    return write(folder / "log.jsonl", rows)


def test_the_independent_code(tmp_path):
    file = independent(tmp_path)
    for path in (file, tmp_path):
        assert foreign_format(path) == "log"
        run = read_run(path)
        assert [step.step for step in run.steps] == [1, 2, 3]
        assert (run.settings.prompts, run.settings.steps, run.settings.model) == (6, 3, "some/model")
        for step, rewards in zip(run.steps, REWARDS.mean(axis=2), strict=True):
            np.testing.assert_array_equal(step.rewards, rewards)
            assert step.coefficients_abs_sum == pytest.approx(np.abs(zscores(rewards)).sum())
            assert step.centre_reward == 0.5


def norm_log(folder, steps=10, factor=1.0, dim=40_000):
    """Write the log of a real walk, its norms computed from every coordinate."""
    rng, place, rows = np.random.default_rng(1), np.zeros(dim), []
    for step in range(1, steps + 1):
        z = zscores(rng.standard_normal(8))
        place += factor * 0.005 / 8 * z @ rng.standard_normal((8, dim))
        rows.append({"step": step, "coefficients": z.tolist(), "norm": float(np.linalg.norm(place))})
    return write(folder / "x.jsonl", rows, {"sigma": 0.01, "alpha": 0.005, "population": 8, "dim": dim})


def test_norms_are_judged_and_a_step_size_that_was_not_used_is_refuted(tmp_path):
    """False-failure rate below 1e-6: 10 norms judged together at that level."""
    assert {v.kind for v in judge(recorded_pairs(norm_log(tmp_path)).pairs, 1e-6)} == {"consistent"}
    assert "refuted" in {v.kind for v in judge(recorded_pairs(norm_log(tmp_path, factor=2.0)).pairs, 1e-6)}


def test_options_of_validate_say_that_a_log_is_of_mirrored_members(tmp_path, capsys):
    """False-failure rate below 1e-6: norms are judged together at that level; independent members must be refuted."""
    rng, dim, rows = np.random.default_rng(1), 40_000, []
    place = np.zeros(dim)
    for step in range(1, 11):
        rewards = rng.standard_normal(8)
        z = zscores(rewards)
        place += 0.005 / 8 * (z[0::2] - z[1::2]) @ rng.standard_normal((4, dim))
        rows.append({"step": step, "rewards": rewards.tolist(), "norm": float(np.linalg.norm(place))})
    path = write(tmp_path / "x.jsonl", rows, {"sigma": 0.01, "alpha": 0.005, "population": 8, "dim": dim})
    assert main(["validate", str(path), "--antithetic", "--level", "1e-6"]) == 0
    assert main(["validate", str(path), "--level", "1e-6"]) == 3
    assert main(["validate", str(path), "--shaping", "raw"]) == 2
    assert "vary with raw" in capsys.readouterr().err


def test_steps_may_count_from_0(tmp_path):
    rows = [{"step": t, "reward_std": 0.1} for t in (0, 1)]
    assert [step.step for step in read_run(write(tmp_path / "x.jsonl", rows, SETTINGS)).steps] == [1, 2]


def test_a_step_that_the_log_lacks(tmp_path):
    rows = [{"step": t, "coefficients": [1.0, -1.0, 1.0, -1.0], "norm": 0.1} for t in (1, 3)]
    run = read_run(write(tmp_path / "x.jsonl", rows, SETTINGS))
    assert [step.step for step in run.steps] == [1, 2, 3]
    assert run.steps[1].coefficients is None
    assert run.steps[2].norm == 0.1
    assert (run.increments.size, run.logged_norms) == (0, {})
    assert "at every step" in run.unjudged[0]


ROW = {"step": 1, "rewards": [0.0, 1.0, 0.5, 0.5]}
BAD = {
    "no step": ([], "is empty"),
    "a doubled step": ([ROW, ROW], "step 1 twice"),
    "a row without its step": ([ROW, {"rewards": [1.0]}], "has no step"),
    "not a number": ([{**ROW, "rewards": [0.0, float("nan"), 1.0, 1.0]}], "step 1: rewards is damaged"),
    "words": ([{**ROW, "rewards": "many"}], "step 1: rewards is damaged"),
    "another length": ([ROW, {"step": 2, "rewards": [0.0, 1.0]}], "step 2 has 2 rewards, not 4"),
    "rows of different lengths": (
        [{"step": 1, "prompt_rewards": [[1.0, 0.0], [1.0]]}],
        r"prompt_rewards is damaged \(its rows have 1 to 2 entries",
    ),
    "a word in a table": (
        [{"step": 1, "prompt_rewards": [[1.0, "x"], [1.0, 0.0]]}],
        r"prompt_rewards is damaged \(it is no members x prompts table",
    ),
    "a flat table": ([{"step": 1, "prompt_rewards": [1.0, 2.0]}], "prompt_rewards is damaged"),
    "a step that is no number": ([{"step": "one"}], "damaged"),
    "a sigma that is a word": ([{"sigma": "small"}, ROW], "sigma = 'small' has the wrong type"),
    "a negative alpha": ([{"alpha": -1.0}, ROW], "alpha = -1.0"),
    "pairs of an odd number": ([{"mirrored": True, "population": 3}, {"step": 1, "rewards": [1.0, 2.0, 3.0]}], "pairs"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(tmp_path, name):
    rows, said = BAD[name]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=said):
        read_run(path)


def test_damage_is_noted_where_reading_goes_on(tmp_path):
    rows = [ROW, {"step": 2, "rewards": "many", "reward_std": 0.1}]
    problems = []
    run = read_run(write(tmp_path / "x.jsonl", rows, SETTINGS), problems=problems)
    assert run.steps[1].rewards is None
    assert len(problems) == 1


def test_one_fault_of_many_steps_is_one_line(tmp_path):
    rows = [{"step": t, "rewards": "many", "reward_std": 0.1} for t in (1, 2, 3, 3, 3)]
    problems = []
    read_run(write(tmp_path / "x.jsonl", rows, SETTINGS), problems=problems)
    [doubled, damaged] = problems
    assert "step 3 in 3 rows" in doubled
    assert "step 1: rewards is damaged" in damaged
    assert damaged.endswith(", and 2 more steps alike")


def test_what_is_not_told_is_not_guessed(tmp_path):
    run = read_run(write(tmp_path / "x.jsonl", [ROW]))
    assert (run.settings.alpha, run.increments.size) == (None, 0)
    assert "--alpha" in run.unjudged[0]
    with pytest.raises(DataError, match="dim is not told"):
        run.settings.rules()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"dim": None}, "its norms"),
        ({"momentum": 0.9}, "momentum"),
        ({"anchor_l1": 1e-6, "anchor_form": "after"}, "its L1 anchor"),
        ({"anchor_l1": 1e-6, "anchor_form": "after", "dtype": "bfloat16"}, None),
        ({"anchor_l2": 0.1}, "an anchor of the form before"),
        ({"anchor_l2": 0.1, "anchor_form": "after"}, None),
    ],
)
def test_norms_are_left_unjudged_where_no_law_covers_them(tmp_path, change, why):
    settings = {name: value for name, value in (SETTINGS | change).items() if value is not None}
    rows = [{"step": t, "rewards": REWARDS[t - 1].mean(axis=1).tolist(), "norm": 0.1 * t} for t in (1, 2, 3)]
    found = read_run(write(tmp_path / "log.jsonl", rows, settings)).unjudged
    assert any(why in text for text in found) if why else not any("norms" in text for text in found)
    silent = [{name: value for name, value in row.items() if name != "norm"} for row in rows]
    assert not any("its norms" in text for text in read_run(write(tmp_path / "log.jsonl", silent, settings)).unjudged)
