"""Probes and runs simulated on one reward: right predictions are seldom refuted, wrong ones are."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.laws import NormalLaw
from estheory.measurement.pair_moments import PairMoments, pair_moments
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory.probe.predictions import predict_from_probe
from estheory.theory.probe.reward import ProbedReward
from estheory.validation.judge import judge, verdict_pvalue
from estheory.validation.reward_probe_pairs import (
    HELD_OUT,
    MEMBERS,
    mean_reward_error,
    reward_pairs,
    split_half_reliability,
    unmeasured,
)
from tests.recorded_runs import own_run
from tests.statistics import Z

DIM, PROMPTS, SIGMA, ALPHA, POPULATION, STEPS = 40, 15, 0.1, 0.02, 20, 24
MIDDLE = 18
SLOPE, CURVE, SCATTER, NOISE = 2.0, 1.0, 3.0, 0.8
GRADIENT = np.zeros(DIM)
GRADIENT[0] = SLOPE
SIGNAL, QUADRATIC = (SIGMA * SLOPE) ** 2, 0.5 * SIGMA**4 * CURVE**2 * DIM
TOTAL = SIGNAL + QUADRATIC + (NOISE**2 + (SIGMA * SCATTER) ** 2) / PROMPTS
RUN = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=POPULATION, steps=STEPS)


def rewards(rng, theta, slopes, level):
    """Rewards of the rows of theta on prompts with their own slopes along one direction and their own level."""
    mean = theta @ GRADIENT - 0.5 * CURVE * (theta**2).sum(axis=1)
    own = theta[:, [1]] * slopes
    return mean[:, None] + own + level + NOISE * rng.normal(size=(len(theta), slopes.size))


def draw(rng):
    return SCATTER * rng.normal(size=PROMPTS), rng.normal(size=PROMPTS)


def probe(rng, batches=24, pairs=4, *, steered=True):
    found = []
    for _ in range(batches):
        prompts, eps = draw(rng), SIGMA * rng.normal(size=(pairs, DIM))
        found.append(
            pair_moments(
                rewards(rng, np.zeros((1, DIM)), *prompts)[0], rewards(rng, eps, *prompts), rewards(rng, -eps, *prompts)
            )
        )
    moments = PairMoments(batches=np.array(found), sigma=SIGMA)
    probed = ProbedReward(mean=moments.mean, covariance=moments.covariance, steered=steered)
    return predict_from_probe(RUN, probed, [MIDDLE, STEPS])[0]


def record(rng, predictions, *, permuted=False, logged=True):
    theta, rows = np.zeros(DIM), []
    for step in range(1, STEPS + 1):
        eps = rng.normal(size=(POPULATION, DIM))
        each = rewards(rng, theta + SIGMA * eps, *draw(rng))
        whole = each.mean(axis=1)
        z = (whole - whole.mean()) / whole.std()
        row = {"step": step, "rewards": whole.tolist(), "half_rewards": each[:, 0::2].mean(axis=1).tolist()}
        rows.append(row if logged else {k: v for k, v in row.items() if k != "half_rewards"})
        theta = theta + ALPHA / POPULATION * (rng.permutation(z) if permuted else z) @ eps
    change = rewards(rng, theta[None], np.zeros(400), 0.0)[0].mean()
    return own_run(
        rows,
        dim=DIM,
        prompts=PROMPTS,
        steps=STEPS,
        population=POPULATION,
        probes={
            "reward": {"estimates": {"member_reward": {"value": -0.5 * CURVE * SIGMA**2 * DIM, "stderr": 0.0}}},
            "unpredicted": ["no optimal_alpha: reason"],
            "predictions": [{**dataclasses.asdict(p), "quantity": str(p.quantity), "std": p.std} for p in predictions],
        },
        evaluations=tuple(
            {"step": s, "task": "t", "quantity": "accuracy", "value": v, "stderr": NOISE / 20}
            for s, v in ((0, 0.0), (STEPS, change))
        ),
    )


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(0)
    return [reward_pairs(record(rng, probe(rng))) for _ in range(100)]


def of(runs, quantity, where=""):
    return [pair for pairs in runs for pair in pairs if pair[0].quantity is quantity and where in pair[1].where]


@pytest.mark.parametrize(
    ("quantity", "truth"),
    [(Quantity.REWARD_RELIABILITY, (SIGNAL + QUADRATIC) / TOTAL), (Quantity.MEMBER_REWARD_STD, math.sqrt(TOTAL))],
)
def test_split_halves_of_a_run_measure_what_the_probe_predicts(runs, quantity, truth):
    measured = np.array([[m.value, m.stderr] for _, m in of(runs, quantity)])
    slack = 0.1 * measured[:, 1].mean()  # of ratios and roots, and of the reward's curvature along the run
    error = measured[:, 0].std() / math.sqrt(len(measured))
    assert abs(measured[:, 0].mean() - truth) < Z * error + slack
    assert 0.8 < measured[:, 1].mean() / measured[:, 0].std() < 1.5
    plain = truth / (2 - truth)  # the correlation of halves, without Spearman-Brown
    if quantity is Quantity.REWARD_RELIABILITY:
        assert abs(measured[:, 0].mean() - plain) > Z * error + slack


def pooled(pairs):
    """Standardised sum of the differences between measured and predicted values."""
    return abs(sum(m.value - p.law.mean for p, m in pairs)) / math.sqrt(
        sum(p.law.std**2 + m.stderr**2 for p, m in pairs)
    )


def scaled(pairs, factor):
    """The same measurements with predictions of another size."""
    return [(dataclasses.replace(p, law=NormalLaw(factor * p.law.mean, p.law.std)), m) for p, m in pairs]


def test_gains_are_those_predicted(runs):
    pairs = of(runs, Quantity.REWARD_GAIN_PER_STEP)
    assert len(pairs) == 100
    assert pooled(pairs) < Z
    assert pooled(scaled(pairs, 0.0)) > Z


@pytest.mark.parametrize("where", [MEMBERS, HELD_OUT])
def test_changes_lie_between_one_curvature_and_none(runs, where):
    """The curvature along the gradient is barely resolved, and taken as none where it comes out negative."""
    pairs = of(runs, Quantity.REWARD_CHANGE, where)
    assert len(pairs) == 100
    differences = np.array([[m.value - p.law.mean, m.value - p.law.mean * (1 + p.systematic)] for p, m in pairs])
    error = differences.std(axis=0) / math.sqrt(len(pairs))
    assert differences[:, 0].mean() > -Z * error[0]
    assert differences[:, 1].mean() < Z * error[1]
    for factor in (0.5, 2.0):
        assert not all(
            (
                np.mean([m.value - p.law.mean for p, m in scaled(pairs, factor)]) > -Z * error[0],
                np.mean([m.value - p.law.mean * (1 + p.systematic) for p, m in scaled(pairs, factor)]) < Z * error[1],
            )
        ), factor


def test_false_alarms_are_rare_and_wrong_predictions_are_caught(runs):
    """At 5 % a run, at most 5 of 100 true runs on average: 18 or more would have a chance below 1e-5."""
    assert sum(any(v.kind == "refuted" for v in judge(pairs)) for pairs in runs) < 18

    def without_correction(pair):
        """Predict the correlation of halves as if it were the reliability."""
        p, m = pair
        r = p.law.mean
        return dataclasses.replace(p, law=NormalLaw(r / (2 - r), p.law.std)), m

    pairs = of(runs, Quantity.REWARD_RELIABILITY)
    assert pooled(pairs) < Z
    assert pooled([without_correction(pair) for pair in pairs]) > Z


def test_permuted_runs_refute_what_is_predicted_of_steered_ones():
    rng = np.random.default_rng(1)
    pairs = of([reward_pairs(record(rng, probe(rng), permuted=True)) for _ in range(20)], Quantity.REWARD_CHANGE)
    assert pooled(pairs) > Z
    own = of(
        [reward_pairs(record(rng, probe(rng, steered=False), permuted=True)) for _ in range(20)], Quantity.REWARD_CHANGE
    )
    assert pooled(own) < Z


def test_the_error_of_a_mean_reward_counts_prompts_and_members():
    rng = np.random.default_rng(2)
    claimed = [mean_reward_error(record(rng, ())) ** 2 for _ in range(60)]
    rows = []
    for _ in range(4000):
        eps = rng.normal(size=(POPULATION, DIM))
        rows.append(rewards(rng, SIGMA * eps, *draw(rng)).mean())
    # the members' own error counts what the prompts do not share twice: up to (S^2 - signal) / N too much
    excess = (TOTAL - SIGNAL) / POPULATION
    assert np.var(rows) * 0.9 < np.mean(claimed) < np.var(rows) * 1.1 + excess


def test_old_records_and_records_without_probes_are_left_alone():
    rng = np.random.default_rng(3)
    old = record(rng, probe(rng), logged=False)
    assert {p.quantity for p, _ in reward_pairs(old)} == {Quantity.REWARD_CHANGE}
    assert unmeasured(old) == ["no optimal_alpha: reason"]
    bare = dataclasses.replace(old, probes={"fisher": []})
    assert reward_pairs(bare) == []
    assert unmeasured(bare) == []
    short = dataclasses.replace(old, steps=old.steps[:3])
    assert {p.quantity for p, _ in reward_pairs(short)} == {Quantity.REWARD_CHANGE}
    equal = np.full(20, 0.5)
    still = [dataclasses.replace(row, rewards=equal, half_rewards=equal) for row in old.steps]
    assert split_half_reliability(dataclasses.replace(old, steps=tuple(still)), 8) is None


@pytest.mark.parametrize(
    "change", [{"std": -1.0}, {"systematic": -1}, {"mean": "x"}, {"quantity": "nothing"}, {"label": None, "mean": None}]
)
def test_damaged_predictions_are_said(change):
    run = record(np.random.default_rng(4), probe(np.random.default_rng(4)))
    rows = [{**row, **change} for row in run.probes["predictions"]]
    with pytest.raises(DataError, match="damaged"):
        reward_pairs(dataclasses.replace(run, probes={**run.probes, "predictions": rows}))


def test_a_lower_bound_is_refuted_from_below_only():
    bound = Prediction(
        quantity=Quantity.REWARD_PEAK_STEP_LOWER_BOUND, law=NormalLaw(40.0, 3.0), label="mean-field", source="ours"
    )

    def pvalue(value):
        return verdict_pvalue(bound, Measurement(quantity=bound.quantity, value=value, stderr=4.0))

    assert pvalue(400.0) == 1.0
    assert pvalue(40.0) == 1.0
    assert pvalue(30.0) == pytest.approx(0.0455, rel=0.01)  # two standard errors of 5
    assert pvalue(0.0) < 1e-10
