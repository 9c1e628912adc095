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

from estheory.validation.foreign import BY_COEFFICIENTS, ForeignRun
from estheory.validation.foreign.pairs import MeasuredPath, foreign_pairs
from estheory.validation.judge import judge
from estheory.validation.records import RunRecord
from estheory.validation.runs import run_pairs

RUNS, LEVEL, FALSE_FAILURE = 200, 0.05, 1e-6
ALPHA, POPULATION, STEPS = 0.005, 6, 12
SIZES = {"embed": 6000, "a": 5000, "b": 5000, "norm": 40}
MARKS = (4, 8, 12)
MOST_FALSE_ALARMS = int(binom.isf(FALSE_FAILURE, RUNS, LEVEL))
"""More refuted runs than this would be a rate above the level, but for one chance in a million."""
DETECTED = 0.95


def simulate(seed):
    """Logged coefficients, and the displacement after each marked step, shape (3, d)."""
    rng = np.random.default_rng([seed, 7])
    dim, position, paths, rows = sum(SIZES.values()), 0.0, [], []
    for step in range(1, STEPS + 1):
        rewards = np.full(POPULATION, 0.5) if step > 1 and rng.random() < 0.1 else rng.normal(0.5, 0.1, POPULATION)
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


class Record(RunRecord):
    checkpoints = property(lambda self: dict.fromkeys(MARKS, Path("unread")))


def own_pairs(rows, paths, alpha):
    _, cosines, tensors = geometry(paths)
    record = Record(
        path=Path("run"),
        method="es",
        config={"alpha": alpha, "population": POPULATION},
        dim=sum(SIZES.values()),
        steps=tuple(rows),
        probes={},
        evaluations=(),
    )
    pairs = {(MARKS[i], MARKS[j]): float(cosines[i, j]) for i, j in combinations(range(3), 2)}
    return run_pairs(record, tensors, pairs)


def foreign(rows, paths, alpha):
    norms, cosines, tensors = geometry(paths)
    squares = np.array([np.sum(np.square(row["coefficients"])) for row in rows])
    run = ForeignRun(
        path=Path("run"),
        format="es-awd",
        increments=(alpha / POPULATION) ** 2 * squares,
        condition=BY_COEFFICIENTS,
    )
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


@pytest.mark.slow
@pytest.mark.parametrize("pairs_of", [own_pairs, foreign], ids=["own", "foreign"])
def test_true_theory_is_refuted_at_the_level_at_most_and_a_wrong_step_size_nearly_always(runs, pairs_of):
    false_alarms = refuted_runs(pairs_of, runs, ALPHA)
    assert false_alarms <= MOST_FALSE_ALARMS
    for wrong in (0.95 * ALPHA, 1.05 * ALPHA):
        assert refuted_runs(pairs_of, runs, wrong) >= DETECTED * RUNS


@pytest.mark.slow
def test_a_wrong_spread_would_raise_false_alarms(runs, monkeypatch):
    """Power of the first test: laws narrower by a third are refuted far too often."""
    from estheory.laws import ChiLaw
    from estheory.validation import runs as module

    monkeypatch.setattr(module, "ChiLaw", lambda scale, df: ChiLaw(scale * df**0.5 / (2.2 * df) ** 0.5, 2.2 * df))
    assert refuted_runs(own_pairs, runs, ALPHA) > MOST_FALSE_ALARMS
