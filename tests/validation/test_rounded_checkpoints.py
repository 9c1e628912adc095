"""Bare checkpoints of runs in 16 bits: the coefficients are unknown, and their spread belongs to the law."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from estheory.floats import FORMATS, rounded
from estheory.quantities import Measurement, Quantity
from estheory.rules import ESConfig
from estheory.simulation.emulator.emulate import emulate
from estheory.simulation.emulator.low_precision import rounding_of
from estheory.simulation.emulator.steps import Rounder, take_fused_step
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.predictions import predict
from estheory.theory.rounding.weights import WeightHistogram, normal_weights
from estheory.validation.judge import verdict_pvalue

RUNS, DIM, STEPS, LEVEL = 100, 20_000, 5, 0.05
MOST = int(binom.isf(1e-6, RUNS, LEVEL)) + 1
"""Refuted runs that level 0.05 exceeds with a probability below 1e-6."""


def config(**changes):
    start = {"dim": DIM, "sigma": 1.5e-3, "population": 10, "steps": STEPS, "dtype": "bfloat16"}
    return ESConfig(**start | {"update_path": "sequential"} | changes)


def accuracy(rng, members):
    """z-scores of the share right of 64 prompts, each right with probability 1/2."""
    rewards = rng.binomial(64, 0.5, members) / 64
    return (rewards - rewards.mean()) / rewards.std()


def norms(run, start, seed):
    """Norms of independent runs on one model, every coordinate followed, by the arithmetic of ``estheory run``."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(RUNS):
        weights, rounder = start.copy(), Rounder(DIM, FORMATS["bfloat16"])
        for _ in range(STEPS):
            noise = rng.standard_normal((run.population, DIM), dtype=np.float32)
            factors = run.step_size / run.population * accuracy(rng, run.population)
            take_fused_step(weights, start, noise, factors, run, rounder)
        found.append(float(np.linalg.norm(weights.astype(np.float64) - start)))
    return found


def refuted(prediction, found):
    """How many of the runs the prediction refutes at the level, each on its own."""
    measured = [Measurement(quantity=Quantity.DISPLACEMENT_NORM, value=x, step=STEPS) for x in found]
    return sum(verdict_pvalue(prediction, m) < LEVEL for m in measured)


def test_genuine_runs_are_refuted_no_more_often_than_the_level():
    start = rounded(0.1 * np.random.default_rng(1).standard_normal(DIM), FORMATS["bfloat16"])
    magnitudes, counts = np.unique(np.abs(start[start != 0]).astype(np.float64), return_counts=True)
    weights = SampledWeights(names=("weight",), magnitudes=magnitudes, counts=counts[None].astype(np.float64))
    run, found = config(), norms(config(), start, 2)

    def law(run, keep=True):
        effects = rounding_of(run, weights, [STEPS]).effects
        known = effects if keep else {s: replace(e, spread=0.0, scatter=2.0) for s, e in effects.items()}
        return predict(run, checkpoints=[STEPS], rounding=known).get("displacement_norm", STEPS)

    assert refuted(law(run), found) <= MOST
    assert refuted(law(run, keep=False), found) > MOST  # the spread over coefficients left out
    assert refuted(law(config(update_path="accumulated")), found) > MOST
    assert refuted(law(config(alpha=1.1 * run.step_size)), found) > RUNS / 2


def test_the_spread_over_coefficients_shrinks_with_the_steps():
    weights = SampledWeights.of(normal_weights(0.1))
    run = emulate(config(steps=64), weights, [4, 64], groups=32, group_size=4096)
    few, many = run.effect(4).spread, run.effect(64).spread
    assert 0 < many < few / 2  # 1/4 but for the change of binades and the draws' own spread


def test_given_coefficients_leave_no_spread():
    z = np.random.default_rng(3).standard_normal((STEPS, 10))
    weights = SampledWeights.of(normal_weights(0.1))
    drawn = emulate(config(), weights, [STEPS]).effect(STEPS).spread
    given = emulate(config(), weights, [STEPS], coefficients=z).effect(STEPS).spread
    assert given < drawn / 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pairs", [0, 2])
def test_a_run_whose_every_step_tied_has_no_walk(pairs):
    weights = SampledWeights.of(WeightHistogram(np.array([0.01, 0.02]), np.array([0.5, 0.5])))
    run = emulate(config(restore_pairs=pairs), weights, [1, STEPS], coefficients=np.zeros((STEPS, 10)))
    effect = run.effect(STEPS)
    assert effect.variance == (math.inf if pairs else 0.0)  # restoring in place moves weights all the same
    assert effect.variance_stderr == 0 == effect.spread
    assert math.isnan(run.cosine(1, STEPS)[0]) != bool(pairs)


@pytest.mark.filterwarnings("error")
def test_a_tied_step_among_others_adds_nothing():
    z = np.zeros((2, 10))
    z[1, 0], z[1, 1] = math.sqrt(5), -math.sqrt(5)
    weights = SampledWeights.of(normal_weights(0.02))
    run = emulate(config(steps=2), weights, [1, 2], coefficients=z)
    assert run.effect(1).variance == 0 < run.effect(2).variance
    assert run.tensor_effects(1)["weights"].signal == 0
