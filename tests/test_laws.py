"""Laws against mpmath at 50 digits, scipy.stats where it is accurate, and their own samples."""

import math

import mpmath as mp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats as st
from hypothesis import given, settings
from hypothesis import strategies as h

from estheory import _special as special
from estheory.cosine_laws import CorrelationLaw, CosineLaw, MixedCorrelationLaw
from estheory.laws import ChiLaw, CutNormalLaw, NormalLaw, PointLaw, SquaredLaw, VarianceFactor, noisy_pvalue
from tests.statistics import agrees, ks_agrees, variance_agrees

mp.mp.dps = 50

LAWS = [
    NormalLaw(2.0, 0.5),
    ChiLaw(0.3, 7.5),
    ChiLaw(1.0, 50.0, mixing_df=9.0),
    ChiLaw(2.0, 3.0, mixing_df=400.0),
    SquaredLaw(ChiLaw(0.7, 12.0), 0.25),
    SquaredLaw(ChiLaw(1.0, 5.0, mixing_df=30.0)),
    CosineLaw(0.0, 1.0, 1.0, 3.0),
    CosineLaw(1.0, 7.0, 0.0, 49.0),
    CosineLaw(1.0, 200.0, 0.0, 10.0),
    CosineLaw(0.7, 29.0, math.sqrt(1 - 0.49), 49.0),
    CosineLaw(0.999, 29.0, math.sqrt(1 - 0.999**2), 49.0),
    CorrelationLaw(0.5, 50.0),
    MixedCorrelationLaw(14.0, 28.0, 400.0),
    CorrelationLaw(-0.9, 5.0),
]


def chi_ratio(x):
    return mp.gammaprod([mp.mpf(x) + mp.mpf(1) / 2], [mp.mpf(x)])


@given(h.floats(0.01, 1e13))
def test_gamma_half_ratio_to_a_few_ulp(x):
    assert special.gamma_half_ratio(x) == pytest.approx(float(chi_ratio(x)), rel=2e-15)


@given(h.floats(1.0, 1e12))
def test_chi_variance_has_no_cancellation(df):
    exact = mp.mpf(df) - 2 * chi_ratio(mp.mpf(df) / 2) ** 2
    # below 100 the direct difference loses at most df * eps / var
    assert special.chi_variance(df) == pytest.approx(float(exact), rel=1e-12)


@given(h.floats(1e-300, 1 - 1e-12))
def test_normal_quantile_inverts_the_distribution(p):
    assert float(mp.ncdf(special.normal_quantile(p)) / mp.mpf(p)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("df", [20_000.0, 100_000.0])
@pytest.mark.parametrize("z", [-6.0, -2.0, 0.0, 1.0, 5.0, 9.0])
def test_chi_square_tails_against_mpmath(df, z):
    x = df + z * math.sqrt(2 * df)
    low = mp.gammainc(mp.mpf(df) / 2, 0, mp.mpf(x) / 2, regularized=True)
    got = special.chi_square_tails(x, df)
    # Temme's expansion with two terms: neglected term is below 1e-3 / a^2.5 of the density; far tails lose with z
    assert got[0] == pytest.approx(float(low), rel=1e-9, abs=0)
    assert got[1] == pytest.approx(float(1 - low), rel=1e-9, abs=0)


def test_scipy_is_off_where_we_are_not():
    """Why the laws do not use scipy.stats.chi: at 1e12 degrees of freedom its standard deviation has no digit left."""
    ours = ChiLaw(1.0, 1e12)
    assert ours.std == pytest.approx(math.sqrt(0.5 - 1 / 8e12), rel=1e-15)
    assert abs(st.chi(1e12).std() / ours.std - 1) > 1e-5


@pytest.mark.parametrize("df", [1e6, 4_022_468_096.0, 1e12])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_large_chi_intervals_by_cornish_fisher(df, level):
    """An independent route: Cornish-Fisher for chi-square to fourth order, whose error is O(z^5 / df^2) in z."""
    z = st.norm.ppf(0.5 + level / 2)
    k = mp.mpf(df)
    square = k + z * mp.sqrt(2 * k) + mp.mpf(2) / 3 * (z * z - 1) + (z**3 - 7 * z) / (9 * mp.sqrt(2 * k))
    square -= (6 * z**4 + 14 * z * z - 32) / (405 * k)
    upper = ChiLaw(1.0, df).interval(level)[1]
    error_in_std = (upper - float(mp.sqrt(square))) / ChiLaw(1.0, df).std
    # float64 resolves sqrt(df) to eps * sqrt(df), a part of the standard deviation 0.7
    assert abs(error_in_std) < 4e-16 * math.sqrt(df) * 4 + 100 / df**2


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_quantile_inverts_tails(law):
    for p in (1e-6, 0.025, 0.4, 0.9, 0.999):
        low, high = law.tails(law.quantile(p))
        assert low == pytest.approx(p, rel=1e-6, abs=1e-9)
        assert low + high == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_moments_and_distribution_match_samples(law):
    x = law.sample(np.random.default_rng(1), 40_000)
    assert agrees(x, law.mean)
    assert variance_agrees(x, law.std**2)
    assert ks_agrees(x[:8000], lambda v: law.tails(v)[0])
    # negative controls: a shift of 5 % of the spread, a 10 % error of the spread, a shift of the distribution are seen
    assert not agrees(x + 0.05 * law.std, law.mean)
    assert not variance_agrees(x, 1.2 * law.std**2)
    assert not ks_agrees(x[:8000] + 0.15 * law.std, lambda v: law.tails(v)[0])


@pytest.mark.parametrize(
    "law",
    [
        CutNormalLaw(0.9, 0.1, 0.0, 1.0),
        CutNormalLaw(1.02, 0.05, 0.0, 1.0),
        CutNormalLaw(0.1, 0.3, 0.0, 1.0),
        CutNormalLaw(-1.0, 2.0, low=-2.0),
    ],
    ids=repr,
)
def test_a_cut_law_keeps_its_ends(law):
    """Moments and both tails are those of its samples; a shift of 5 % of the spread is seen."""
    x = law.sample(np.random.default_rng(2), 40_000)
    assert agrees(x, law.mean)
    assert variance_agrees(x, law.std**2)
    assert not agrees(x + 0.06 * law.std, law.mean)
    for p in (0.01, 0.2, 0.5, 0.8, 0.99):
        point = law.quantile(p)
        assert law.low <= point <= law.high
        if law.low < point < law.high:
            assert law.tails(point)[0] == pytest.approx(p)
    inside = law.quantile(0.3)
    assert agrees(np.asarray(x <= inside, dtype=float), law.tails(inside)[0])
    assert law.pvalue(law.high + 1 if math.isfinite(law.high) else law.low - 1) == 0.0
    at_end = law.high if math.isfinite(law.high) else law.low
    assert law.pvalue(at_end) == pytest.approx(min(1.0, 2 * float(np.mean(x == at_end))), abs=0.02)


@pytest.mark.parametrize(("n", "d"), [(8, 50), (30, 1000), (96, 1_540_000_000)])
def test_noiseless_cosine_is_beta(n, d):
    law = CosineLaw(1.0, n - 1.0, 0.0, d - 1.0)
    exact = chi_ratio(mp.mpf(n - 1) / 2) / chi_ratio(mp.mpf(n + d - 2) / 2)
    assert law.mean == pytest.approx(float(exact), rel=1e-10)
    for p in (0.025, 0.5, 0.975):
        if d < 1e6:
            assert law.quantile(p) ** 2 == pytest.approx(st.beta((n - 1) / 2, (d - 1) / 2).ppf(p), rel=1e-6)


def test_random_direction_is_student():
    law = CosineLaw(0.0, 1.0, 1.0, 24.0)
    t = st.t(24).ppf(0.975)
    assert law.quantile(0.975) == pytest.approx(t / math.sqrt(24 + t * t), rel=1e-9)


def test_correlation_matches_the_nested_quadrature():
    rho = 0.6
    spread = math.sqrt(1 - rho**2)
    nested = CosineLaw(rho / spread, 30.0, 1.0, 29.0)
    law = CorrelationLaw(rho, 30.0)
    assert law.mean == pytest.approx(nested.mean, rel=1e-8)
    assert law.std == pytest.approx(nested.std, rel=1e-8)
    assert law.tails(0.5)[0] == pytest.approx(nested.tails(0.5)[0], rel=1e-6)


def test_correlation_at_extreme_dimension():
    law = CorrelationLaw(0.5, 1e12)
    assert law.std == pytest.approx(0.75e-6, rel=1e-9)
    assert law.mean - 0.5 == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("law", [NormalLaw(1.0, 0.1), ChiLaw(1.0, 1e9), ChiLaw(0.1, 20.0)], ids=repr)
@pytest.mark.parametrize("factor", [0.01, 0.3, 3.0, 100.0])
def test_noisy_pvalue_against_samples(law, factor):
    stderr = factor * law.std
    total = math.hypot(stderr, law.std)
    x = law.mean + 1.7 * total
    rng = np.random.default_rng(5)
    draws = law.sample(rng, 200_000) + stderr * rng.standard_normal(200_000)
    p = noisy_pvalue(law, x, stderr)
    assert agrees(2.0 * (draws > x), p)
    assert not agrees(2.0 * (draws > x), 1.1 * p)


def test_point_law():
    law = PointLaw(3.0)
    assert law.interval(0.9) == (3.0, 3.0)
    assert law.pvalue(3.0) == 1.0
    assert law.pvalue(3.1) == 0.0
    assert noisy_pvalue(law, 3.1, 0.1) == pytest.approx(2 * st.norm.sf(1.0))


@settings(max_examples=30)
@given(h.floats(-40, 40), h.sampled_from([ChiLaw(1.0, 4e9), NormalLaw(0.0, 1.0), CorrelationLaw(0.3, 1e6)]))
def test_pvalue_is_a_probability(z, law):
    assert 0.0 <= law.pvalue(law.mean + z * law.std) <= 1.0


def test_correlation_law_at_the_edge_and_of_a_single_pair():
    """An argument whose transform rounds to +-1 has its tail; of one pair of numbers the cosine is a sign."""
    law = CorrelationLaw(0.9999999999999999, 5.0)
    low, high = law.tails(-0.9999999999999999)
    assert (low, high) == (pytest.approx(0.0, abs=1e-12), pytest.approx(1.0, abs=1e-12))
    one = CorrelationLaw(0.5, 1.0)
    signs = one.sample(np.random.default_rng(0), 100_000)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    chance = 0.5 + np.arcsin(0.5) / np.pi
    error = 4.9 * np.sqrt(chance * (1 - chance) / signs.size)
    assert abs(np.mean(signs > 0) - chance) < error < abs(np.mean(signs > 0) - 0.75)  # 0.75: (1 + rho) / 2


@pytest.mark.parametrize(("m", "n"), [(1.0, 1.0), (1.0, 2.0), (8.0, 1.0), (8.0, 8.0)])
def test_cosine_of_a_noiseless_signal_has_the_moments_of_a_beta_variable(m, n):
    law = CosineLaw(1.0, m, 0.0, n)
    with mp.workdps(50):
        a, both = mp.mpf(m) / 2, (mp.mpf(m) + mp.mpf(n)) / 2
        mean = mp.rf(a, 0.5) / mp.rf(both, 0.5)
        std = mp.sqrt(a / both - mean**2)
    assert law.mean == pytest.approx(float(mean), rel=1e-12)
    assert law.std == pytest.approx(float(std), rel=1e-9)


@pytest.mark.parametrize("rho", [1e-15, 1e-9, 1e-6])
@pytest.mark.parametrize(
    ("population", "dim"), [(4, 2), (30, 3), (2, 100), (2, 1000), (30, 4_000_000_000), (200, 1_000_000_000_000)]
)
def test_mean_cosine_of_a_weak_signal_loses_no_digits(rho, population, dim):
    """rho E chi_m E[share] E[1/chi_d], the share of chi^2_{d-1} in chi^2_d being independent of it: O(rho^3) off."""
    law = CosineLaw(rho, population - 1.0, math.sqrt(1 - rho**2), dim - 1.0)
    d = mp.mpf(dim)
    exact = rho * chi_ratio(mp.mpf(population - 1) / 2) * (d - 1) / d / chi_ratio((d - 1) / 2)
    assert law.mean == pytest.approx(float(exact), rel=1e-10, abs=0)


def test_cosine_law_in_few_dimensions():
    """Against its own samples in 2 and 3 dimensions, where a quadrature over chi_1 was 17 % off in the mean."""
    rng = np.random.default_rng(5)
    for m, n, signal in ((3.0, 1.0, 0.1), (11.0, 1.0, 0.3), (11.0, 2.0, 0.1), (3.0, 4.0, 0.5)):
        law = CosineLaw(signal, m, math.sqrt(1 - signal**2), n)
        x = law.sample(rng, 400_000)
        assert agrees(x, law.mean)
        assert variance_agrees(x, law.std**2)
        assert not agrees(x, 0.9 * law.mean)
        assert not variance_agrees(x, 1.03 * law.std**2)


def test_narrow_cosines_keep_the_spread():
    """Where the moments would cancel, the spread is that of chi_n / A: std(cos) = sqrt(2 n) / (2 m) to O(1/m)."""
    assert CosineLaw(1.0, 1e6, 0.0, 4.0).std == pytest.approx(math.sqrt(8) / 2e6, rel=1e-4)


@pytest.mark.parametrize(("m", "n", "share"), [(15, 1, 0.99), (15, 1, 0.5), (29, 2, 0.99), (1, 1, 0.9)])
def test_tails_of_a_cosine_in_two_and_three_dimensions(m, n, share):
    """By draws of their own; nodes that map a chi variable of few degrees onto a normal one must fail."""
    a = math.sqrt(2 * share / (1 + share))
    law, rng = CosineLaw(a, float(m), math.sqrt(1 - a * a), float(n)), np.random.default_rng(4)
    along = a * np.sqrt(rng.chisquare(m, 400_000)) + math.sqrt(1 - a * a) * rng.standard_normal(400_000)
    cosine = along / np.hypot(along, np.sqrt(rng.chisquare(n, 400_000)))
    for p in (0.005, 0.025, 0.5, 0.975, 0.995):
        assert agrees(cosine <= law.quantile(p), p)
    if m > 1:
        z, weights = special.normal_nodes()
        rest = np.array([math.sqrt(special.chi_square_at_score(one, n)) for one in z])
        x = law.quantile(0.975)
        length = np.maximum(x / math.sqrt(1 - x * x) * rest - math.sqrt(1 - a * a) * z[:, None], 0.0) / a
        low = weights @ special.chi_square_tails_array(length**2, m)[0] @ weights
        assert not agrees(cosine <= x, low)


def test_nodes_of_a_chi_variable_of_few_degrees():
    """Moments to 1e-9 and a wave, which bends within it, to 1e-6."""
    for df in (0.5, 1.0, 2.0, 3.5, 12.0, 29.9):
        nodes, weights = special.chi_nodes(df)
        assert weights @ nodes == pytest.approx(special.chi_mean(df), rel=1e-9)
        assert weights @ nodes**4 == pytest.approx(df * (df + 2), rel=1e-9)
        wave, _ = scipy.integrate.quad(lambda x, df=df: math.cos(5 * x) * st.chi(df).pdf(x), 0, 20, limit=400)
        assert weights @ np.cos(5 * nodes) == pytest.approx(wave, abs=1e-6)


def test_mixed_correlation_whose_share_hardly_scatters():
    """Then it is nearly that of a fixed share: the narrower variable by quadrature, never a step over its nodes."""
    fixed = CorrelationLaw(math.sqrt(0.4), 300.0)
    for df in (1e5, 1e8):
        law = MixedCorrelationLaw(0.4 * df, 0.6 * df, 300.0)
        for p in (0.005, 0.025, 0.5, 0.975, 0.995):
            assert law.tails(fixed.quantile(p))[0] == pytest.approx(p, abs=0.01)
            assert sum(law.tails(fixed.quantile(p))) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("df", "most"), [(10.0, 1.5), (10.138, 1.494), (890.0, 1.1), (1e8, 1.5), (3.0, 40.0), (7.0, math.inf)]
)
def test_a_variance_factor_has_the_moments_that_it_says(df, most):
    factor = VarianceFactor(df, most)
    values, weights = factor.nodes
    drawn, share = factor.sample(np.random.default_rng(1), 200_000), math.sqrt(2 / df)
    assert weights @ values == pytest.approx(1.0, abs=1e-3 * share)
    assert weights @ (values - 1) ** 2 == pytest.approx(2 / df, rel=0.02)
    assert factor.root_moments[0] == pytest.approx(weights @ np.sqrt(values), abs=1e-3 * share)
    assert variance_agrees(np.sqrt(drawn), factor.root_moments[1])
    for tail in (0.01, 0.5, 0.99):
        edge = factor.quantiles(np.array([tail]))
        assert factor.tails(edge)[:, 0] == pytest.approx([tail, 1 - tail], abs=1e-7)
        assert np.mean(drawn <= edge) == pytest.approx(tail, abs=4.9 * math.sqrt(tail * (1 - tail) / 200_000))
