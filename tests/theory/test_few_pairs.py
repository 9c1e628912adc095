"""The borders below which few mirrored pairs have no law, scanned: what intervals hold on either side of them.

The oracle draws each step's variance from its definition and the displacements from their geometry, with numpy alone.
False-failure rate 1e-6 a test.
"""

import math

import numpy as np
import pytest

from estheory._special import chi_nodes, chi_square_tails_array
from estheory.landscape import Signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory import walk_predictions
from estheory.theory.curved import predictions as curved
from estheory.theory.curved.predictions import OffTask
from estheory.theory.curved.reward_laws import MixedNormalLaw, UnevenSumLaw
from estheory.theory.predictions import predict
from tests.variants import variants

REPLICAS, DIM = 60_000, 10**6
LEAST = {0.95: 0.94, 0.99: 0.98}
"""What intervals hold at least from the borders on."""
Q = Quantity


def runs(pairs, first, second, even_share):
    """Cosines of two checkpoints and squared norms at the second, in units of the step's coordinate variance."""
    rng, kappa = np.random.default_rng(pairs + 100 * first + 10_000 * second), -even_share
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


def forecast(pairs, first, second, even_share):
    config = ESConfig(dim=DIM, sigma=1.0, alpha=math.sqrt(2 * pairs), population=2 * pairs, antithetic=True)
    traces = {"fisher_trace": DIM, "fisher_square_trace": DIM, "trace": DIM, "square_trace": DIM}
    given = {"reward": Signal(reliability=0.0, even_share=even_share), "off_task": OffTask(**traces)}
    return predict(config, checkpoints=(first, second), **given)


BEYOND = [(10, 1, 2), (5, 2, 10), (2, 5, 10), (10, 5, 6), (2, 40, 45), (10, 1, 30)]
SHORT = [(2, 9, 10), (3, 1, 10), (5, 4, 5), (3, 6, 7)]


@pytest.mark.parametrize("even_share", variants([0.0, 0.6], fast=[0.0]))
@pytest.mark.parametrize("case", variants(BEYOND, fast=BEYOND[:2]), ids=str)
def test_cosines_from_ten_pairs_before_and_after_the_first_checkpoint(case, even_share):
    shares = inside(forecast(*case, even_share).get(Q.CHECKPOINT_COSINE, case[2]).law, runs(*case, even_share)[0])
    assert held(shares)


@pytest.mark.parametrize("case", variants(SHORT, fast=SHORT[:1]), ids=str)
def test_cosines_of_fewer_pairs_are_not_given_because_their_intervals_hold_less(case, monkeypatch):
    def cosines():
        return [p for p in forecast(*case, 0.0).predictions if p.quantity is Q.CHECKPOINT_COSINE]

    assert not cosines()
    monkeypatch.setattr(walk_predictions, "LEAST_PAIRS_APART", 0)
    assert missed(inside(cosines()[0].law, runs(*case, 0.0)[0]))


NEAR = [(2, 1, 10, 0.0), (10, 1, 2, 0.0), (5, 1, 4, 0.0), (2, 1, 30, 0.6), (10, 1, 8, 0.6)]
"""Few enough that the variance has twenty degrees of freedom or little more."""


@pytest.mark.parametrize("case", variants(NEAR, fast=NEAR[:1]), ids=str)
def test_drift_from_twenty_pairs_in_all_steps(case):
    found, kl = forecast(*case), 0.5 * runs(*case)[1]
    assert held(inside(found.get(Q.KL_DRIFT, case[2]).law, kl))
    assert held(inside(found.get(Q.OFF_TASK_REWARD_CHANGE, case[2]).law, -kl))


def test_drift_of_fewer_pairs_is_not_given_because_its_interval_holds_less(monkeypatch):
    assert all(p.quantity is not Q.KL_DRIFT for p in forecast(2, 1, 2, 0.0).predictions)
    monkeypatch.setattr(curved, "LEAST_ODD_PARTS", 0)
    monkeypatch.setattr(curved, "LEAST_MIXING", 0.0)
    kl = 0.5 * runs(2, 1, 2, 0.0)[1]
    assert missed(inside(forecast(2, 1, 2, 0.0).get(Q.KL_DRIFT, 2).law, kl))


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
