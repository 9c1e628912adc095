"""Laws of the norm of a step, against quadrature of their own written out over each of their variables."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from estheory.theory.norm_laws import PairNormLaw, StepNormLaw


def step_norm(x, law):
    """P(norm <= x) by a sum over quantiles of chi_m and of Z, each in the middle of its share."""
    shares = (np.arange(400) + 0.5) / 400
    length = stats.chi(law.signal_df).ppf(shares)[:, None]
    unit = stats.norm.ppf(shares)[None, :]
    factor = law.scale * (length / math.sqrt(law.signal_df) if law.own_length else 1.0)
    rest = (x / factor) ** 2 - (law.signal * length + law.noise * unit) ** 2
    return float(stats.chi2(law.rest_df).cdf(np.maximum(rest, 0.0)).mean())


@pytest.mark.parametrize("own_length", [False, True])
@pytest.mark.parametrize(("signal", "signal_df", "rest_df"), [(0.8, 3.0, 2.0), (0.3, 9.0, 5.0)])
def test_tails_of_a_step_with_signal(signal, signal_df, rest_df, own_length):
    law = StepNormLaw(0.5, signal, signal_df, math.sqrt(1 - signal**2), rest_df, own_length)
    for x in (0.6 * law.mean, 1.3 * law.mean):
        low, high = law.tails(x)
        assert low == pytest.approx(step_norm(x, law), abs=1e-3)
        assert low + high == pytest.approx(1.0, abs=1e-9)


def test_a_noiseless_reward_leaves_a_chi_variable():
    """With all of the reward signal, the squares of chi_m and chi_n add up."""
    law, chi = StepNormLaw(0.5, 1.0, 3.0, 0.0, 4.0, False), stats.chi(7)
    assert law.mean == pytest.approx(0.5 * chi.mean(), rel=1e-7)
    assert law.std == pytest.approx(0.5 * chi.std(), rel=1e-6)
    for x in (0.3, 1.2, 2.0):
        assert law.tails(x) == pytest.approx((chi.cdf(2 * x), chi.sf(2 * x)), abs=4e-4)  # chi_m by quadrature


def test_a_noiseless_reward_of_its_own_length():
    law = StepNormLaw(1.0, 1.0, 4.0, 0.0, 3.0, True)

    def low(length):
        rest = 4.0 * 1.3**2 / length**2 - length**2
        return stats.chi(4).pdf(length) * stats.chi2(3).cdf(max(rest, 0.0))

    assert law.tails(1.3)[0] == pytest.approx(integrate.quad(low, 0, 10)[0], abs=2e-3)  # 80 nodes over a kink


def test_a_norm_is_positive():
    for law in (StepNormLaw(0.5, 0.6, 3.0, 0.8, 4.0, False), PairNormLaw(1.0, 3, 0.2, 5.0)):
        assert law.tails(0.0) == law.tails(-1.0) == (0.0, 1.0)


@pytest.mark.parametrize(("pairs", "df"), [(2, 2.0), (3, 5.0), (3, 40.0), (8, 30.0)])
def test_the_norm_of_pairs_whose_parts_weigh_alike(pairs, df):
    """kappa = 0: V = 2 B. Both ways to integrate, on either side of 4 coordinates for each pair."""
    law = PairNormLaw(0.5, pairs, 0.0, df)
    unit, weight = np.polynomial.legendre.leggauss(300)
    angle = (unit + 1) * math.pi / 4  # B = sin^2 of it
    part = np.sin(angle) ** 2
    weight = weight * np.sin(angle) ** (pairs - 1) * np.cos(angle) ** (pairs - 2)
    weight /= weight.sum()
    for x in (0.2 * math.sqrt(df), 0.45 * math.sqrt(df), 0.65 * math.sqrt(df)):
        assert law.tails(x)[0] == pytest.approx(weight @ stats.chi2(df).cdf(2 * x**2 / part), rel=1e-8)
        assert sum(law.tails(x)) == pytest.approx(1, abs=1e-12)
    assert law.mean == pytest.approx(math.sqrt(0.5) * (weight @ np.sqrt(part)) * stats.chi(df).mean(), rel=1e-9)
