"""How often the whole judgement of a run is wrong: 200 runs that obey the theory, and 200 whose step size is 5 % off.

Each run is a record as ``run es`` writes it, with the logged coefficients of Gaussian rewards (some steps stalled),
and a displacement drawn member by member from nothing but its noise.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from estheory.quantities import Quantity
from estheory.runs.view import BY_COEFFICIENTS, BY_HYPERPARAMETERS, BY_REWARDS, ForeignRun
from estheory.validation.foreign_pairs import MeasuredPath, foreign_pairs
from estheory.validation.judge import judge
from estheory.validation.own_pairs import run_pairs
from tests.recorded_runs import own_run
from tests.statistics import agrees, variance_agrees

RUNS, LEVEL, FALSE_FAILURE = 200, 0.05, 1e-6
ALPHA, POPULATION, STEPS = 0.005, 6, 12
SIZES = {"embed": 6000, "a": 5000, "b": 5000, "norm": 40}
MARKS = (4, 8, 12)
MOST_FALSE_ALARMS = int(binom.isf(FALSE_FAILURE, RUNS, LEVEL))
"""More refuted runs than this would be a rate above the level, but for one chance in a million."""
DETECTED = 0.95
DISPLACEMENT = Quantity.DISPLACEMENT_NORM


def simulate(seed, stalling=0.1):
    """Logged coefficients, and the displacement after each marked step, shape (3, d)."""
    rng = np.random.default_rng([seed, 7])
    dim, position, paths, rows = sum(SIZES.values()), 0.0, [], []
    for step in range(1, STEPS + 1):
        rewards = np.full(POPULATION, 0.5) if step > 1 and rng.random() < stalling else rng.normal(0.5, 0.1, POPULATION)
        z = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        position = position + ALPHA / POPULATION * z @ rng.standard_normal((POPULATION, dim))
        rows.append({"step": step, "coefficients": z.tolist(), "norm": float(np.linalg.norm(position))})
        if step in MARKS:
            paths.append(position)
    return rows, np.stack(paths)


def geometry(paths):
    norms = np.linalg.norm(paths, axis=1)
    bounds = np.cumsum([0, *SIZES.values()])
    last = [float(np.linalg.norm(paths[-1, a:b])) for a, b in pairwise(bounds)]
    tensors = {name: (size, norm) for (name, size), norm in zip(SIZES.items(), last, strict=True)}
    return norms, paths @ paths.T / np.outer(norms, norms), tensors


def own_pairs(rows, paths, alpha):
    _, cosines, tensors = geometry(paths)
    record = own_run(rows, dim=sum(SIZES.values()), checkpoints=MARKS, alpha=alpha, population=POPULATION)
    pairs = {(MARKS[i], MARKS[j]): float(cosines[i, j]) for i, j in combinations(range(3), 2)}
    return run_pairs(record, tensors, pairs)


def by_coefficients(rows, paths, alpha):
    """As es-awd's runs are judged: each step's increment by its logged coefficients."""
    squares = np.array([np.sum(np.square(row["coefficients"])) for row in rows])
    return foreign((alpha / POPULATION) ** 2 * squares, BY_COEFFICIENTS, paths)


def by_rewards(rows, paths, alpha):
    """As ESvsGRPO's are: the spread of the rewards tells whether a step moved."""
    moved = np.array([np.any(row["coefficients"]) for row in rows])
    return foreign(alpha**2 / POPULATION * moved, BY_REWARDS, paths)


def by_hyperparameters(rows, paths, alpha):
    """As runs are of which nothing is logged: every step counts."""
    return foreign(np.full(STEPS, alpha**2 / POPULATION), BY_HYPERPARAMETERS, paths)


def foreign(increments, condition, paths):
    norms, cosines, tensors = geometry(paths)
    run = ForeignRun(path=Path("run"), format="es-awd", increments=increments, condition=condition)
    slope = np.polyfit(np.log(MARKS), 2 * np.log(norms), 1)[0]
    measured = MeasuredPath(
        steps=MARKS,
        shapes=[(size + index,) for index, size in enumerate(SIZES.values())],  # all different: nothing is shared
        norms=norms,
        cosines=cosines,
        exponent=float(slope),
        tensors=tensors,
    )
    return foreign_pairs(run, measured)


def refuted_runs(pairs_of, runs, alpha):
    return sum(any(v.kind == "refuted" for v in judge(pairs_of(*run, alpha), LEVEL)) for run in runs)


@pytest.fixture(scope="module")
def runs():
    return [simulate(seed) for seed in range(RUNS)]


@pytest.fixture(scope="module")
def steady():
    """Runs whose every step moved: all that hyper-parameters can tell."""
    return [simulate(seed, stalling=0.0) for seed in range(RUNS)]


LEVELS = [own_pairs, by_coefficients, by_rewards, by_hyperparameters]


@pytest.mark.slow
@pytest.mark.parametrize("pairs_of", LEVELS, ids=lambda f: f.__name__)
def test_true_theory_is_refuted_at_the_level_at_most_and_a_wrong_step_size_nearly_always(runs, steady, pairs_of):
    runs = steady if pairs_of is by_hyperparameters else runs
    false_alarms = refuted_runs(pairs_of, runs, ALPHA)
    assert false_alarms <= MOST_FALSE_ALARMS
    for wrong in (0.95 * ALPHA, 1.05 * ALPHA):
        assert refuted_runs(pairs_of, runs, wrong) >= DETECTED * RUNS


@pytest.mark.slow
@pytest.mark.parametrize("pairs_of", LEVELS, ids=lambda f: f.__name__)
def test_the_predicted_spread_is_the_runs_own(runs, steady, pairs_of):
    """The last norm scatters as its law says at every level of conditioning; two thirds or twice of it is not it."""
    runs = steady if pairs_of is by_hyperparameters else runs
    found = [
        next((p.law, m.value) for p, m in pairs_of(*run, ALPHA) if (p.quantity, p.step) == (DISPLACEMENT, STEPS))
        for run in runs
    ]
    standard = [(value - law.mean) / law.std for law, value in found]
    assert agrees(standard, 0.0)
    assert variance_agrees(standard, 1.0)
    assert not variance_agrees(standard, 1.5**-2)
    assert not variance_agrees(standard, 2.0**2)


@pytest.mark.slow
def test_runs_with_stalled_steps_are_refuted_on_hyper_parameters_alone(runs):
    stalled = [run for run in runs if sum(not np.any(row["coefficients"]) for row in run[0]) >= 2]
    assert len(stalled) > 20
    assert refuted_runs(by_hyperparameters, stalled, ALPHA) >= DETECTED * len(stalled)


@pytest.mark.slow
def test_a_wrong_spread_would_raise_false_alarms(runs, monkeypatch):
    """Power of the first test: laws narrower by a third are refuted far too often."""
    from estheory.laws import ChiLaw
    from estheory.validation import own_pairs as module

    monkeypatch.setattr(module, "ChiLaw", lambda scale, df: ChiLaw(scale * df**0.5 / (2.2 * df) ** 0.5, 2.2 * df))
    assert refuted_runs(own_pairs, runs, ALPHA) > MOST_FALSE_ALARMS
