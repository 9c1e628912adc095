"""Where the mean reward peaks, and how far below the optimum it settles, against runs with every coordinate simulated.

The engine is the audit's, which shares no code with theory. False-failure rate 1e-6 a test; wrong laws must fail.
"""

import math

import numpy as np
import pytest

from estheory.landscape import Landscape
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.predictions import predict
from tests.audit import engine
from tests.theory.quadratic_es import within
from tests.variants import variants

Z = 4.9
SHAPINGS = {
    "zscore": {"shaping": "zscore", "population": 16, "alpha": 0.03},
    "pairs": {"shaping": "zscore", "antithetic": True, "population": 16, "alpha": 0.03},
    "centered-rank": {"shaping": "centered-rank", "population": 16, "alpha": 0.06},
    "raw": {"shaping": "raw", "population": 8, "alpha": 0.012},
}
PEAKED = {
    "scaled": ([(20, 3, 0.3), (0.5, 60, 0.0)], 0.05),
    "raw": ([(10, 3, 0.3), (1.0, 60, 0.0)], 0.1),
}
"""Sharp directions that settle and many flatter ones that start at their optimum; rows and reward noise."""


def case(shaping, rows, reward_std):
    """A configuration and its landscape, and the same for the engine."""
    eigenvalue, multiplicity, offset = (np.array(part) for part in zip(*rows, strict=True))
    options = {"dim": int(multiplicity.sum()), "sigma": 0.03, **SHAPINGS[shaping]}
    where = Landscape(
        dim=options["dim"],
        eigenvalue=eigenvalue,
        multiplicity=multiplicity,
        offset=offset,
        reward_std=reward_std,
    )
    ground = {"curvature": np.repeat(eigenvalue, multiplicity), "optimum": np.repeat(offset, multiplicity)}
    return ESConfig(**options), where, {**options, "reward": "quadratic", "reward_std": reward_std, **ground}


def rewards(replicas, steps, given, **changes):
    """Rewards of the centre by step, (replicas, steps); column t - 1 is step t."""
    return engine.simulate(engine.Run(**(given | changes), looks=(steps,)), replicas, np.random.default_rng(7))[1]


@pytest.mark.parametrize("shaping", variants(SHAPINGS, fast=["zscore", "raw"]))
def test_the_mean_reward_is_highest_at_its_peak(shaping):
    """It is lower at two thirds of the step and at half as many again; of half or twice the step that is not so."""
    config, where, given = case(shaping, *PEAKED["raw" if shaping == "raw" else "scaled"])
    peak = int(predict(config, checkpoints=(120,), landscape=where).get(Quantity.REWARD_PEAK_STEP).law.mean)
    curves = rewards(300, 3 * peak + 1, given)

    def falls(step, other):
        """Standard errors by which the mean reward at another step lies below that at ``step``."""
        lower = curves[:, step - 1] - curves[:, other - 1]
        return lower.mean() / lower.std(ddof=1) * math.sqrt(lower.size)

    def highest(step):
        return min(falls(step, round(step / 1.5)), falls(step, round(1.5 * step))) > Z

    assert highest(peak)
    assert not highest(peak // 2)
    assert not highest(2 * peak)


def test_no_peak_where_the_curve_falls_by_less_than_its_label_leaves():
    config, where, _ = case("zscore", *PEAKED["scaled"])
    few = predict(config, checkpoints=(25,), landscape=where)  # the curve has just passed its top
    assert Quantity.REWARD_PEAK_STEP not in {p.quantity for p in few.predictions}
    assert any(word.startswith("no reward_peak_step") for word in few.warnings)


@pytest.mark.parametrize("shaping", variants(SHAPINGS, fast=["zscore", "raw"]))
def test_runs_settle_at_the_stationary_gap_from_both_sides(shaping):
    """From the optimum and from two and a half times the gap; one half as large again must fail."""
    config, where, given = case(shaping, [(4, 10, 0.0), (1.5, 30, 0.0)], 0.02)
    found = predict(config, checkpoints=(1,), landscape=where).get(Quantity.STATIONARY_REWARD_GAP)
    away = math.sqrt(2 * 2.5 * found.law.mean / where.trace)
    for offset in (0.0, away):
        curves = rewards(60, 400, given, optimum=np.full(config.dim, offset))
        gaps = -curves[:, 250:].mean(axis=1)
        assert within(gaps, found.law.mean, found.systematic + 0.01)
        assert not within(gaps, 1.5 * found.law.mean, found.systematic + 0.01)
