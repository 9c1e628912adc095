"""Laws of the norm of a step, against quadrature of their own written out over each of their variables."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, special, stats

from estheory.theory.norm_laws import PairNormLaw, StepNormLaw
from tests.variants import variants


def step_norm(x, law):
    """P(norm <= x) by nested quadrature over chi_m and Z, split where the signal's part alone is as long as x."""

    def rest(length, z):
        factor = law.scale * (length / math.sqrt(law.signal_df) if law.own_length else 1.0)
        square = (x / factor) ** 2 - (law.signal * length + law.noise * z) ** 2
        return special.chdtr(law.rest_df, np.maximum(square, 0.0))

    def inner(length):
        if not law.noise:
            return rest(length, 0.0)
        size = x / law.scale / (length / math.sqrt(law.signal_df) if law.own_length else 1.0)
        low, high = (min(max((end - law.signal * length) / law.noise, -9.0), 9.0) for end in (-size, size))
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        unit, weight = np.polynomial.legendre.leggauss(200)
        z = middle + half * np.sin(0.5 * math.pi * unit)
        mass = (
            np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) * half * 0.5 * math.pi * np.cos(0.5 * math.pi * unit) * weight
        )
        return float(mass @ rest(length, z))

    kink = x / law.scale / law.signal
    kink = math.sqrt(kink * math.sqrt(law.signal_df)) if law.own_length else kink
    places = sorted({0.0, *(max(kink + k * law.noise, 0.0) for k in (-8, -2, 0, 2, 8)), 12.0})
    log = (1 - law.signal_df / 2) * math.log(2) - math.lgamma(law.signal_df / 2)

    def density(u):
        return math.exp(log - 0.5 * u * u) * u ** (law.signal_df - 1) * inner(u)

    return sum(integrate.quad(density, a, b, epsabs=1e-9)[0] for a, b in pairwise(places))


SPLITS = [(0.0, 4, 3), (0.0, 1, 1), (1e-3, 3, 2), (0.1, 4, 3), (0.9, 9, 5)]  # noise, degrees of freedom
TAILS = [(*split, own_length) for split in SPLITS for own_length in (False, True)]


@pytest.mark.parametrize("split", variants(TAILS, fast=[*TAILS[:4], TAILS[7]]), ids=str)
def test_tails_of_a_step_with_signal(split):
    noise, df, rest, own_length = split
    """To 1e-7, small noise and none at all included; a law of a hundredth of a degree more is farther off than that."""
    law = StepNormLaw(0.5, math.sqrt(1 - noise**2), float(df), noise, float(rest), own_length)
    other = replace(law, rest_df=rest + 0.01)
    for x in (0.6 * law.mean, 1.3 * law.mean):
        low, high = law.tails(x)
        expected = step_norm(x, law)
        assert low == pytest.approx(expected, abs=1e-7)
        assert low + high == pytest.approx(1.0, abs=1e-12)
        assert other.tails(x)[0] != pytest.approx(expected, abs=1e-6)


def test_a_noiseless_reward_leaves_a_chi_variable():
    """With all of the reward signal, the squares of chi_m and chi_n add up."""
    law, chi = StepNormLaw(0.5, 1.0, 3.0, 0.0, 4.0, False), stats.chi(7)
    assert law.mean == pytest.approx(0.5 * chi.mean(), rel=1e-7)
    assert law.std == pytest.approx(0.5 * chi.std(), rel=1e-6)
    for x in (0.02, 0.3, 1.2, 2.0, 4.0):
        assert law.tails(x) == pytest.approx((chi.cdf(2 * x), chi.sf(2 * x)), rel=1e-9, abs=1e-15)


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
