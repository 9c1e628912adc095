"""Evolution Strategies on the packaged tiny-lm: what a step is, what is recorded, that it learns."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from estheory.errors import ConfigError, OutputError
from estheory.landscape import Signal
from estheory.models.load import load_model
from estheory.models.noise import MemberNoise
from estheory.models.parameters import FlatParameters
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import RunDirectory
from estheory.theory.estimators import ZScores
from estheory.theory.walk import walk
from estheory.training.es import run_es
from estheory.training.session import Session
from tests.statistics import Z
from tests.training.runs import contents, es_config

FALSE_FAILURE_RATE = 1e-6


def zscores(rewards: list[float]) -> list[float]:
    shaped: list[float] = ZScores(population=len(rewards), sigma=1.0, alpha=1.0).shape(np.array(rewards)).tolist()
    return shaped


def norm_pvalue(norm: float, coefficients: list[list[float]], alpha: float, dim: int) -> float:
    """Two-sided p-value of ||Delta||^2 / (alpha^2/N^2 sum z^2) under chi-square with dim degrees of freedom."""
    z = np.asarray(coefficients)
    square = norm**2 / (alpha**2 / z.shape[1] ** 2 * float(np.square(z).sum()))
    return 2 * float(min(scipy.stats.chi2.cdf(square, dim), scipy.stats.chi2.sf(square, dim)))


@given(st.lists(st.integers(0, 64), min_size=2, max_size=40))
def test_zscores_have_mean_0_and_square_sum_n_or_vanish(counts: list[int]) -> None:
    z = zscores([count / 64 for count in counts])
    if len(set(counts)) == 1:
        assert z == [0.0] * len(counts)
    else:
        # each of n terms of size at most sqrt(n) carries a few roundings of 2^-53
        rounding = 16 * len(counts) ** 2 * 2.0**-53
        assert abs(sum(z)) <= rounding
        assert abs(sum(value * value for value in z) - len(z)) <= rounding


def test_equal_rewards_vanish_even_where_their_mean_is_rounded() -> None:
    assert zscores([0.1] * 30) == [0.0] * 30


def test_one_step_is_the_formula(tmp_path: Path) -> None:
    config = es_config(steps=1, checkpoint_every=0)
    run_es(config, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    row = run.steps()[0]
    parameters = FlatParameters(load_model("tiny-lm").model)
    expected, eps = parameters.vector.double(), torch.empty(parameters.dim)
    for member, z in enumerate(zscores(row["rewards"])):
        MemberNoise(parameters=parameters, seed=config.seed).fill(eps, step=1, member=member)
        expected += config.alpha / config.population * z * eps.double()
    after = torch.empty(parameters.dim)
    parameters.read_safetensors(run.checkpoint(1), after)
    # float32: the final sum is rounded at the weight's size, the update at its own (far smaller) size
    bound = 2.0**-24 * (expected.abs() + 20 * config.alpha)
    assert ((after.double() - expected).abs() <= bound).all()
    assert math.isclose(row["norm"], float((after.double() - parameters.vector.double()).norm()), rel_tol=1e-12)
    assert not torch.equal(after, parameters.vector)


def test_rows_hold_what_the_theory_needs(finished: Path) -> None:
    rows = RunDirectory.open(finished).steps()
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert set(row) == {
            *("step", "task", "seeds", "rewards", "half_rewards", "coefficients", "reward_mean", "reward_std", "norm"),
        }
        assert row["seeds"] == {"seed": 3, "step": row["step"]}
        assert row["coefficients"] == zscores(row["rewards"])
        assert all(reward * 8 == int(reward * 8) for reward in row["rewards"])  # accuracy on eight prompts
    timings = [json.loads(line) for line in (finished / "timings.jsonl").read_text().splitlines()]
    assert [timing["step"] for timing in timings] == [1, 2, 3, 4]
    assert all(timing["seconds"] > 0 for timing in timings)


def test_the_norm_obeys_its_law_and_the_test_can_refute(finished: Path) -> None:
    rows = RunDirectory.open(finished).steps()
    dim = json.loads((finished / "environment.json").read_text())["model"]["dim"]
    coefficients = [row["coefficients"] for row in rows]
    assert norm_pvalue(rows[-1]["norm"], coefficients, 0.0075, dim) > FALSE_FAILURE_RATE
    wrong_alpha = 0.0075 * math.sqrt(5 / 6)  # (N - 1)/N in the variance
    assert norm_pvalue(rows[-1]["norm"], coefficients, wrong_alpha, dim) < FALSE_FAILURE_RATE


def test_folder_holds_checkpoints_evaluations_and_environment(finished: Path) -> None:
    run = RunDirectory.open(finished)
    assert run.config == es_config()
    assert list(run.checkpoints()) == [2, 4]
    rows = run.rows("evaluations")
    kinds = [(row["step"], row["task"], row["quantity"], row["n"]) for row in rows]
    assert kinds == [(t, "reversal", kind, 16) for t in (0, 2, 4) for kind in ("accuracy", "kl_drift")]
    assert [row["value"] > 0 for row in rows if row["quantity"] == "kl_drift"] == [False, True, True]
    environment = run.read_json("environment.json")
    assert environment is not None
    assert environment["model"]["sha256"] == load_model("tiny-lm").sha256
    assert environment["packages"]["torch"] == torch.__version__
    assert run.read_json("probes.json") == {"trace": environment["model"]["dim"]}


def test_a_run_is_reproducible_to_the_bit_whatever_the_threads(finished: Path, tmp_path: Path) -> None:
    def scrambling_probe(session: Session) -> dict[str, Any]:
        session.parameters.vector.zero_()
        return {"trace": session.parameters.dim}

    run_es(es_config(), tmp_path / "again", before_first_step=scrambling_probe)
    assert contents(tmp_path / "again") == contents(finished)
    run_es(es_config(threads=2, steps=2), tmp_path / "threads")
    assert (finished / "steps.jsonl").read_bytes().startswith((tmp_path / "threads" / "steps.jsonl").read_bytes())
    run_es(es_config(seed=4, steps=1), tmp_path / "other")
    assert (tmp_path / "other" / "steps.jsonl").read_bytes() not in (finished / "steps.jsonl").read_bytes()


def test_rows_are_on_the_disk_when_they_are_shown(tmp_path: Path) -> None:
    seen: list[int] = []

    def on_step(row: Any) -> None:
        seen.append(row["step"])
        assert json.loads((tmp_path / "run" / "steps.jsonl").read_text().splitlines()[-1]) == row

    result = run_es(es_config(evaluation_tasks=("yesno",)), tmp_path / "run", on_step=on_step)
    assert seen == [1, 2, 3, 4]
    assert result.step == 4
    assert {row["task"] for row in RunDirectory.open(tmp_path / "run").rows("evaluations")} == {"reversal", "yesno"}


@pytest.mark.parametrize("reward", ["partial", "logprob"])
def test_other_rewards_are_recorded_in_their_own_range(reward: str, tmp_path: Path) -> None:
    run_es(es_config(reward=reward, steps=1), tmp_path / "run")
    rewards = RunDirectory.open(tmp_path / "run").steps()[0]["rewards"]
    assert len(set(rewards)) > 1
    assert all(value < 0 for value in rewards) if reward == "logprob" else all(0 <= value <= 1 for value in rewards)


def check_steps(directory: Path, population: int) -> None:
    """Coefficients are the z-scores, handed on as recorded; norms follow their law, and no other population's."""
    run = RunDirectory.open(directory)
    assert isinstance(run.config, ESRunConfig)
    environment = run.read_json("environment.json")
    assert environment is not None
    rules = run.config.rules(environment["model"]["dim"])
    for row in run.steps():
        z = zscores(row["rewards"])
        order = row["permutation"] if run.config.permute_rewards else list(range(population))
        assert sorted(order) == list(range(population))
        assert row["coefficients"] == [z[member] for member in order]
        if run.config.permute_rewards:
            law = walk(rules, Signal(), row["step"]).norm_law
            assert abs(row["norm"] - law.mean) < Z * law.std
            wrong = walk(replace(rules, population=population - 1), Signal(), row["step"]).norm_law
            assert abs(row["norm"] - wrong.mean) > Z * wrong.std


def test_rewards_are_handed_on_as_recorded_and_a_permuted_run_walks_as_predicted(tmp_path: Path) -> None:
    run_es(es_config(population=12, steps=3, checkpoint_every=0, permute_rewards=True), tmp_path / "run")
    check_steps(tmp_path / "run", 12)
    orders = [row["permutation"] for row in RunDirectory.open(tmp_path / "run").steps()]
    assert orders[0] != orders[1] != list(range(12))


@pytest.mark.slow
def test_it_learns_and_the_permuted_control_does_not_and_walks_as_far_as_predicted(tmp_path: Path) -> None:
    gains = {}
    for permute in (False, True):
        directory = tmp_path / str(permute)
        changes = {"population": 20, "prompts": 32, "steps": 12, "checkpoint_every": 0, "evaluation_prompts": 400}
        run_es(es_config(**changes, permute_rewards=permute), directory)
        rows = RunDirectory.open(directory).rows("evaluations")
        before, after = (row for row in rows if row["quantity"] == "accuracy")
        stderr = math.hypot(before["stderr"], after["stderr"])
        gains[permute] = (after["value"] - before["value"]) / stderr
        check_steps(directory, 20)
    assert gains[False] > 4.9  # normal quantile at 1e-6
    assert gains[True] < 4.9


def test_equal_rewards_are_counted_and_nothing_moves(tmp_path: Path) -> None:
    result = run_es(es_config(sigma=1e-12), tmp_path / "run")  # below the spacing of the weights
    assert result.stalled_steps == 4
    assert result.norm == 0.0
    assert all(row["reward_std"] == 0.0 for row in RunDirectory.open(tmp_path / "run").steps())


@pytest.mark.parametrize(
    "change", [{"task": "chess"}, {"model": "no-such-model"}, {"evaluation_tasks": ("chess",)}, {"trainable": "some"}]
)
def test_a_run_that_cannot_begin_leaves_no_folder(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        run_es(es_config(**change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_occupied_folder_is_refused(finished: Path) -> None:
    before = contents(finished)
    with pytest.raises(OutputError, match="occupied"):
        run_es(es_config(), finished)
    assert contents(finished) == before
