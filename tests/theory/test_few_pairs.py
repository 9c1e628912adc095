"""Norms, cosines and drift of few mirrored pairs: what intervals hold on either side of the border, and exact steps.

The oracle draws each step's variance from its definition and the displacements from their geometry, with numpy alone.
False-failure rate 1e-6 a test.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from estheory._special import chi_nodes, chi_square_tails_array
from estheory.landscape import Signal, linear_signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.curved.predictions import OffTask
from estheory.theory.curved.reward_laws import MixedNormalLaw, UnevenSumLaw
from estheory.theory.predictions import predict
from estheory.theory.run_norm import run_norm, steered_norm
from estheory.theory.signal import step_norm
from estheory.theory.walk import walk
from tests.audit.engine import Run, simulate
from tests.variants import variants

REPLICAS, DIM = 60_000, 10**9
LEAST = {0.95: 0.94, 0.99: 0.98}
"""What intervals hold at least from the borders on."""
Q = Quantity


def runs(pairs, first, second, kappa):
    """Cosines of two checkpoints and squared norms at the second, in units of the step's coordinate variance."""
    rng = np.random.default_rng(pairs + 100 * first + 10_000 * second)
    odd = (1 + kappa) * rng.chisquare(pairs, (REPLICAS, second))
    even = (1 - kappa) * rng.chisquare(pairs - 1, (REPLICAS, second))
    variance = 2 * odd / (odd + even)
    before, after = variance[:, :first].sum(axis=1), variance[:, first:].sum(axis=1)
    x = np.sqrt(before * rng.chisquare(DIM, REPLICAS))
    along = x + np.sqrt(after) * rng.standard_normal(REPLICAS)
    square = along**2 + after * rng.chisquare(DIM - 1, REPLICAS)
    return along / np.sqrt(square), square


def inside(law, values):
    """Shares of the values inside the central intervals."""
    ends = {level: law.interval(level) for level in LEAST}
    return {level: float(np.mean((low <= values) & (values <= high))) for level, (low, high) in ends.items()}


def held(shares):
    """Whether no share is below its least by more than 4.9 standard errors."""
    return all(
        share > LEAST[lv] - 4.9 * math.sqrt(LEAST[lv] * (1 - LEAST[lv]) / REPLICAS) for lv, share in shares.items()
    )


def missed(shares):
    """Whether some share is below its least by more than 4.9 standard errors."""
    return any(
        share < LEAST[lv] - 4.9 * math.sqrt(LEAST[lv] * (1 - LEAST[lv]) / REPLICAS) for lv, share in shares.items()
    )


def forecast(pairs, first, second, kappa):
    config = ESConfig(dim=DIM, sigma=1.0, alpha=math.sqrt(2 * pairs), population=2 * pairs, antithetic=True)
    traces = {"fisher_trace": DIM, "fisher_square_trace": DIM, "trace": DIM, "square_trace": DIM}
    signal = Signal(reliability=max(kappa, 0.0), even_share=max(-kappa, 0.0))
    return predict(config, checkpoints=(first, second), reward=signal, off_task=OffTask(**traces))


KAPPAS = [0.0, -0.6, 0.3, 0.9]
BEYOND = [(10, 1, 2), (5, 2, 10), (2, 5, 10), (10, 5, 6), (2, 40, 45), (10, 1, 30)]
FEW = [(2, 1, 2, 0.6), (4, 1, 2, 0.6), (2, 2, 4, 0.9)]


@pytest.mark.parametrize("kappa", variants(KAPPAS, fast=KAPPAS[:1]))
@pytest.mark.parametrize("case", variants(BEYOND, fast=BEYOND[:2]), ids=str)
def test_cosines_from_ten_pairs_before_and_after_the_first_checkpoint(case, kappa):
    assert held(inside(forecast(*case, kappa).get(Q.CHECKPOINT_COSINE, case[2]).law, runs(*case, kappa)[0]))


@pytest.mark.parametrize("case", variants(FEW, fast=FEW[:1]), ids=str)
def test_cosines_of_fewer_pairs_are_not_given(case, monkeypatch):
    def cosines():
        return [p for p in forecast(*case).predictions if p.quantity is Q.CHECKPOINT_COSINE]

    assert not cosines()
    monkeypatch.setattr("estheory.theory.walk.LEAST_PAIRS", 0)
    shares = inside(cosines()[0].law, runs(*case)[0])
    assert shares[0.95] < 0.94 or shares[0.99] < 0.98  # the least of what is promised from the border on


@pytest.mark.parametrize("case", variants([(10, 1, 2), (5, 2, 4)], fast=[(10, 1, 2)]), ids=str)
def test_chi_squares_for_the_lengths_of_steps_with_a_strong_signal_would_hold_less(case):
    law = forecast(*case, 0.9).get(Q.CHECKPOINT_COSINE, case[2]).law
    assert missed(inside(replace(law, most=math.inf), runs(*case, 0.9)[0]))


NEAR = [
    (2, 1, 5, 0.0),
    (5, 1, 2, 0.0),
    (10, 1, 2, 0.9),
    (2, 1, 6, 0.6),
    (5, 1, 2, 0.9),
    (10, 1, 8, -0.6),
    (5, 1, 2, -0.9),
]
"""Ten pairs in all steps, or little more."""


@pytest.mark.parametrize("case", variants(NEAR, fast=NEAR[:2]), ids=str)
def test_norms_and_drift_from_ten_pairs_in_all_steps(case):
    found, square = forecast(*case), runs(*case)[1]
    assert held(inside(found.get(Q.KL_DRIFT, case[2]).law, 0.5 * square))
    assert held(inside(found.get(Q.OFF_TASK_REWARD_CHANGE, case[2]).law, -0.5 * square))
    # in units where alpha is sqrt(N) and a flat coordinate has the variance of the step
    norm = found.get(Q.DISPLACEMENT_NORM, case[2]).law
    assert held(inside(norm, np.sqrt(square)))
    assert held(inside(found.get(Q.EFFECTIVE_DIMENSION_RATIO, case[2]).law, square / np.mean(square)))


def test_a_chi_square_for_the_length_of_few_steps_with_a_strong_signal_would_hold_less():
    case = (5, 1, 2, 0.9)
    norm = forecast(*case).get(Q.DISPLACEMENT_NORM, 2).law
    assert missed(inside(replace(norm, most=math.inf), np.sqrt(runs(*case)[1])))


def test_norms_and_drift_of_fewer_pairs_are_not_given_because_their_intervals_hold_less(monkeypatch):
    rows = (Q.KL_DRIFT, Q.OFF_TASK_REWARD_CHANGE, Q.DISPLACEMENT_NORM, Q.NORM_RATIO)
    few = forecast(2, 1, 2, 0.0)
    assert not [p for p in few.predictions if p.quantity in rows and p.step == 2]
    assert any("no displacement_norm at step 2" in warning for warning in few.warnings)
    monkeypatch.setattr("estheory.theory.walk.LEAST_PAIRS", 0)
    found, square = forecast(2, 1, 2, 0.0), runs(2, 1, 2, 0.0)[1]
    assert missed(inside(found.get(Q.DISPLACEMENT_NORM, 2).law, np.sqrt(square)))
    assert missed(inside(found.get(Q.OFF_TASK_REWARD_CHANGE, 2).law, -0.5 * square))


STEERED = [
    (6, 1000, 0.3),
    (4, 5, 0.9),
    (10, 1, 0.5),
    (4, 10**6, 0.6),
    (30, 40, 0.3),
    (200, 100, 0.9),
    (4, 2, 0.05),
    (6, 3, 0.99),
]


@pytest.mark.parametrize("case", variants(STEERED, fast=STEERED[:3]), ids=str)
def test_the_first_step_of_pairs_with_a_signal(case):
    """The step from its definition: member by member along the gradient, a chi variable across it."""
    population, dim, reliability = case
    rng, pairs, sigma = np.random.default_rng(population + dim), population // 2, 0.1
    along = rng.standard_normal((REPLICAS, pairs))
    noise = rng.standard_normal((2, REPLICAS, pairs)) * math.sqrt(1 / reliability - 1)
    values = np.concatenate([along + noise[0], -along + noise[1]], axis=1)
    z = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    weight = z[:, :pairs] - z[:, pairs:]
    across = np.sqrt(np.sum(weight**2, axis=1) * (rng.chisquare(dim - 1, REPLICAS) if dim > 1 else 0.0))
    norm = 0.05 / population * np.hypot(np.sum(weight * along, axis=1), across)
    run = ESConfig(dim=dim, sigma=sigma, alpha=0.05, population=population, antithetic=True)
    found = predict(run, reward=Signal(reliability=reliability))
    law = found.get(Q.STEP_NORM).law
    assert found.get(Q.STEP_NORM).label == "exact"
    for tail in (0.005, 0.025, 0.5, 0.975, 0.995):
        error = 4.9 * math.sqrt(tail * (1 - tail) / REPLICAS)
        assert abs(np.mean(norm <= law.quantile(tail)) - tail) < error
        assert sum(law.tails(law.quantile(tail))) == pytest.approx(1.0, abs=1e-5)
    assert np.std(norm) == pytest.approx(law.std, rel=0.02)
    assert np.mean(norm) == pytest.approx(law.mean, abs=4.9 * law.std / math.sqrt(REPLICAS))
    if population < 10 < dim:  # the law of the square's two moments, which it had before
        former = step_norm(run, Signal(reliability=reliability), float(dim))
        assert missed(inside(replace(former, most=math.inf), norm))


SEVERAL = [
    ("zscore", 4, 1, 2),
    ("raw", 3, 1, 3),
    ("two-point", 2, 3, 2),
    ("centered-rank", 6, 2, 4),
    ("zscore", 2, 5, 3),
]


@pytest.mark.parametrize("case", variants(SEVERAL, fast=SEVERAL[:2]), ids=str)
def test_several_steps_with_a_signal_in_few_coordinates(case):
    shaping, population, dim, steps = case
    gradient, reliability = np.full(dim, 1 / math.sqrt(dim)), 0.5
    spread = 0.1 * math.sqrt(1 / reliability - 1)
    names = {"dim": dim, "sigma": 0.1, "alpha": 0.05, "population": population, "shaping": shaping}
    simulated = Run(**names, reward="linear", gradient=gradient, reward_std=spread, looks=(steps,))
    norm = np.linalg.norm(simulate(simulated, REPLICAS, np.random.default_rng(7))[0][steps], axis=1)
    config = ESConfig(**names, steps=steps)
    signal = linear_signal(sigma=0.1, gradient_norm=1.0, reward_std=spread)
    assert held(inside(predict(config, reward=signal).get(Q.DISPLACEMENT_NORM, steps).law, norm))
    first = run_norm(config, signal, walk(config, signal, steps), steps)
    former = steered_norm(walk(config, signal, steps), first.progress, first.spread)
    if dim == 1:  # the chi law of the square's two moments is far from a normal variable about its mean
        assert missed(inside(former, norm))


def test_several_steps_of_pairs_with_a_signal_in_few_coordinates_have_no_norm():
    run = ESConfig(dim=3, sigma=0.1, alpha=0.05, population=30, antithetic=True)
    found = predict(run, checkpoints=(1, 4), reward=Signal(reliability=0.5))
    assert [p.step for p in found.predictions if p.quantity is Q.DISPLACEMENT_NORM] == [1]
    assert any("no displacement_norm at step 4" in warning for warning in found.warnings)


@pytest.mark.parametrize("df", variants([1e2, 1e4, 1e6], fast=[1e6]))
@pytest.mark.parametrize("mixing_df", variants([2.0, 20.0, 100.0], fast=[20.0]))
def test_tails_of_a_narrow_sum_times_a_wide_factor(df, mixing_df):
    """Forty nodes of the wide factor alone, each with a narrow law, gave tails up to twice as large as they are."""
    rng, n = np.random.default_rng(1), 400_000
    factor = rng.chisquare(mixing_df, n) / mixing_df
    even, one = factor * rng.chisquare(df, n) / df, 1 / math.sqrt(df)
    single = factor * (1 - one + one * rng.chisquare(1, n))
    cost = -factor * (1 - math.sqrt(2 / df) * rng.standard_normal(n)) + 1e-4 * np.sqrt(factor) * rng.standard_normal(n)
    bound, mixed = UnevenSumLaw(1.0, df, mixing_df), MixedNormalLaw(-1.0, math.sqrt(2 / df), 1e-4, mixing_df)
    for tail in (0.005, 0.025):
        error = 4.9 * math.sqrt(tail * (1 - tail) / n)
        low, high = bound.quantile(tail), bound.quantile(1 - tail)
        for share in (
            max(np.mean(even < low), np.mean(single < low)),
            max(np.mean(even > high), np.mean(single > high)),
            np.mean(cost < mixed.quantile(tail)),
            np.mean(cost > mixed.quantile(1 - tail)),
        ):
            assert abs(share - tail) < error + 0.002 * tail
    if df == 1e6:
        nodes, weights = chi_nodes(mixing_df)
        quantiles = np.array([[bound.quantile(tail), tail] for tail in (0.005, 0.01, 0.025, 0.05, 0.1)])
        former = [chi_square_tails_array(x / (nodes**2 / mixing_df) * df, df) @ weights for x in quantiles[:, 0]]
        assert np.max(np.abs(np.array(former)[:, 0] / quantiles[:, 1] - 1)) > 0.15
