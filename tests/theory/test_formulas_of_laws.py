"""Rounding, ties, 0/1 rewards and the laws under them against sums and quadrature; and the ends of their ranges."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from scipy import integrate, special, stats

from estheory import _special
from estheory._special import chi_mean, chi_variance
from estheory.cosine_laws import MixedCorrelationLaw
from estheory.errors import ConfigError, DataError
from estheory.floats import FORMATS
from estheory.landscape import Signal
from estheory.laws import ChiLaw, NormalLaw, PointLaw, SquaredLaw
from estheory.quantities import Prediction, Quantity
from estheory.theory import anchor_l1, prompt_batch, signal, walk
from estheory.theory.adamw import learning_rates
from estheory.theory.curved import error as mean_field_error
from estheory.theory.curved import stationary
from estheory.theory.curved.comparison import EndPoint, interpolation_gain
from estheory.theory.curved.reward_laws import LinearQuadraticLaw
from estheory.theory.curved.spectra import read_landscape
from estheory.theory.drift import kl_law, off_task_reward_law
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.ranks import tied_square
from estheory.theory.predictions import predict
from estheory.theory.prompt_batch import PromptBatch
from estheory.theory.reward_model import rank_overlap, tie_probability, zscore_overlap
from estheory.theory.rounding import adamw as rounded_adamw
from estheory.theory.rounding import gains as rounding_gains
from estheory.theory.rounding import precision
from estheory.theory.rounding import weights as weight_histograms
from estheory.theory.rounding.precision import NormBand, RoundingEffect
from estheory.theory.rounding.weights import WeightHistogram
from estheory.theory.ties import TiedLaw, binomial_probabilities
from tests.theory.test_formulas import config, rows

# --- rounding ---


def staircase(x, reach=60):
    """E round(xZ)^2 and E xZ round(xZ), as sums over the whole numbers that xZ is rounded to."""
    k = np.arange(-reach, reach + 1)
    low, high = (k - 0.5) / x, (k + 0.5) / x
    chance = stats.norm.cdf(high) - stats.norm.cdf(low)
    return float(k**2 @ chance), float(x * k @ (stats.norm.pdf(low) - stats.norm.pdf(high)))


@pytest.mark.parametrize("x", [0.15, 0.4, 1.0, 2.9, 3.0, 4.0])
def test_gains_are_those_of_a_staircase(x):
    square, along = staircase(x)
    assert rounding_gains.rounding_gain(x) == pytest.approx(square / x**2, rel=1e-9)
    assert rounding_gains.signal_gain(x) == pytest.approx(along / x**2, rel=1e-9)
    assert rounding_gains.unchanged_shares(x) == pytest.approx(1 - 2 * stats.norm.sf(0.5 / x), rel=1e-12)
    assert rounding_gains.rounding_gain(0.0) == rounding_gains.signal_gain(0.0) == 0


def one_weight(w):
    return WeightHistogram(np.array([w]), np.array([1.0]))


LARGE = {"dim": 10, "sigma": 1e-3, "alpha": 1e-3, "population": 30, "dtype": "bfloat16"}


def test_one_weight_far_from_a_binade_s_edge_keeps_its_gain():
    spacing = 2.0**-6 * 2.0**-7
    for kind, coefficient in (("zscore", 1 / 30), ("centered-rank", 31 / (12 * 30 * 29)), ("antithetic", 1 / 29)):
        alpha = 0.5 * spacing / math.sqrt(coefficient)
        c = config(kind, **(LARGE | {"alpha": alpha}))
        square, along = staircase(0.5)
        for step, effect in precision.rounding_effects(c, one_weight(1.5 * 2.0**-6), [1, 3]).items():
            assert effect.variance == pytest.approx(square / 0.25, rel=1e-9), step
            assert effect.signal == pytest.approx(along / 0.25, rel=1e-9)


@pytest.mark.parametrize("population", [3, 4, 30])
def test_members_added_one_by_one(population):
    """E[z^2 gain(alpha |z| / (N u))] over z^2 / (N-1) ~ Beta(1/2, (N-2)/2)."""
    spacing = 2.0**-6 * 2.0**-7
    c = config(**(LARGE | {"population": population, "alpha": 3 * spacing, "update_path": "sequential"}))
    (effect,) = precision.rounding_effects(c, one_weight(1.5 * 2.0**-6), [1]).values()
    beta = stats.beta(0.5, (population - 2) / 2)
    for gain, found in ((0, effect.variance), (1, effect.signal)):

        def integrand(angle, gain=gain):
            z = math.sqrt(population - 1) * math.cos(angle)
            x = 3 * z / population
            return z * z * staircase(x)[gain] / x**2 * math.sin(angle) ** (population - 3)

        top = integrate.quad(integrand, 0, math.pi / 2 - 1e-9, limit=200)[0]
        mass = integrate.quad(lambda a: math.sin(a) ** (population - 3), 0, math.pi / 2)[0]
        assert found == pytest.approx(top / mass, rel=1e-6)
    assert beta.mean() == pytest.approx(1 / (population - 1))


def test_a_weight_diffuses_through_binades_by_its_closure():
    """v grows by tau^2 sum_b P(w_t in binade b) gain_b, w_t normal about w_0."""
    weight, tau = 1.003 * 2.0**-6, 2.0**-14
    c = config(**(LARGE | {"alpha": tau * math.sqrt(30)}))
    v = kept = 0.0
    expected = {}
    for step in range(1, 13):
        total = along = 0.0
        for b in range(-22, -2):
            low, high = 2.0**b, 2.0 ** (b + 1)
            if v == 0:
                share = float(low <= weight < high)
            else:
                std = math.sqrt(v)
                edges = (np.array([low, high, -high, -low]) - weight) / std
                below = stats.norm.cdf(edges)
                share = below[1] - below[0] + below[3] - below[2]
            x = tau / (low * 2.0**-7)
            total += share * rounding_gains.rounding_gain(x)
            along += share * rounding_gains.signal_gain(x)
        v, kept = v + tau**2 * total, kept + tau**2 * along
        expected[step] = v / (step * tau**2), kept / (step * tau**2)
    found = precision.rounding_effects(c, one_weight(weight), [1, 2, 5, 12])
    for step, effect in found.items():
        assert (effect.variance, effect.signal) == pytest.approx(expected[step], rel=1e-9)
    assert expected[12][0] != pytest.approx(expected[1][0], rel=1e-2)


def test_histograms_have_the_moments_of_their_laws():
    normal = weight_histograms.normal_weights(0.02)
    assert normal.shares.sum() == pytest.approx(1, rel=1e-12)
    assert normal.shares @ normal.magnitudes**2 == pytest.approx(4e-4, rel=1e-6)
    assert normal.shares @ normal.magnitudes == pytest.approx(0.02 * math.sqrt(2 / math.pi), rel=1e-6)
    heavy = weight_histograms.student_weights(0.02, 5.0)
    assert heavy.shares @ heavy.magnitudes**2 == pytest.approx(4e-4, rel=1e-3)
    scale = 0.02 * math.sqrt(3 / 5)
    expected = scale * integrate.quad(lambda x: 2 * x * stats.t.pdf(x, 5), 0, np.inf)[0]
    assert heavy.shares @ heavy.magnitudes == pytest.approx(expected, rel=1e-6)
    both = weight_histograms.mixed_weights([(1, one_weight(0.5)), (3, one_weight(0.25))])
    assert both.shares.tolist() == [0.25, 0.75]
    assert both.exponents.tolist() == [-1, -2]
    coarse = precision._coarse(WeightHistogram(np.array([0.5, 0.51, 0.6, 1e-9]), np.full(4, 0.25)), 2.0**-10)
    assert coarse.magnitudes.tolist() == pytest.approx([2.0**-10, 0.505, 0.6])
    assert coarse.shares.tolist() == pytest.approx([0.25, 0.5, 0.25])
    apart = precision._coarse(WeightHistogram(np.array([0.5, 17 / 16 * 2.0**-17]), np.full(2, 0.5)), 2.0**-30)
    assert apart.magnitudes.size == 2  # sixteen binades and a cell apart


def test_the_family_of_unknown_weights_has_the_rms_that_it_names(monkeypatch):
    monkeypatch.setattr(weight_histograms, "FAMILY_RMS", (0.02,))
    for name, weights in weight_histograms.weight_family().items():
        fourth_tail = 1e-4 if "Student" in name else 1e-6  # a tail of x^-4, cut at 1,000 of its scales
        assert name.endswith("rms 0.02")
        assert weights.shares @ weights.magnitudes**2 == pytest.approx(4e-4, rel=fourth_tail)
        if name.startswith("modules"):  # half at 1/2, a third at 1, a sixth at 2
            kurtosis = 3 * (1 / 32 + 1 / 3 + 16 / 6) / (1 / 8 + 1 / 3 + 4 / 6) ** 2
            assert weights.shares @ weights.magnitudes**4 == pytest.approx(kurtosis * 1.6e-7, rel=1e-6, abs=0)


def test_which_runs_have_a_closed_form():
    def closed(kind="zscore", **changes):
        return precision.has_closed_form(config(kind, **(LARGE | changes)))

    assert closed()
    assert closed("centered-rank")
    assert closed("antithetic")
    assert not closed("raw")
    assert not closed("two-point")
    assert closed(update_path="sequential", population=3)
    assert not closed(update_path="sequential", population=2)
    assert not closed("antithetic", update_path="sequential")
    assert not closed("centered-rank", update_path="sequential")
    for changes in ({"restore_pairs": 1}, {"anchor_l1": 0.1}, {"anchor_l2": 0.1}, {"momentum": 0.1}):
        assert not closed(**changes)
    with pytest.raises(ConfigError, match="no closed form"):
        precision.rounding_effects(config("raw", **LARGE), one_weight(0.5), [1])
    with pytest.raises(ConfigError, match="bfloat16 and float16"):
        precision.storage_format(config())
    assert precision.storage_format(config(**LARGE)) is FORMATS["bfloat16"]


def test_what_an_effect_swallows():
    effect = RoundingEffect(variance=0.64, signal=0.6)
    assert (effect.swallowed, effect.cosine) == (pytest.approx(0.4), pytest.approx(0.75))
    assert RoundingEffect(variance=1.1, signal=1.05).swallowed == 0
    assert RoundingEffect(variance=0.0, signal=0.0).cosine == 0
    assert precision.swallowed_warning(RoundingEffect(variance=1.0, signal=1 - 0.1), "bfloat16") is None
    assert "40%" in precision.swallowed_warning(effect, "bfloat16")
    assert "0.75" in precision.swallowed_warning(effect, "bfloat16")
    band = NormBand.over([0.81, 1.44, 1.0])
    assert (band.low, band.high) == (pytest.approx(0.9), pytest.approx(1.2))
    assert band.half_width == pytest.approx(0.2)
    assert NormBand(low=0.7, high=1.2).half_width == pytest.approx(0.3)
    assert NormBand(low=1.1, high=1.2).half_width == pytest.approx(0.2)
    assert NormBand(low=1.0, high=1.0).half_width == 0


def overlap(x, rho):
    """E[round(x Z) round(x Z')] of normals of correlation rho: the inner mean in closed form, the outer by cells."""
    s = x * math.sqrt(1 - rho * rho)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    total = 0.0
    for k in range(1, 12):
        low, high = (k - 0.5) / x, min((k + 0.5) / x, 12.0)
        if low > 12:
            break
        z = 0.5 * (low + high) + 0.5 * (high - low) * nodes
        j, along = np.arange(1, 40)[:, None] - 0.5, rho * x * z
        mean = np.sum(special.ndtr((along - j) / s) - special.ndtr((-along - j) / s), axis=0)
        total += 2 * 0.5 * (high - low) * float(weights @ (k * mean * stats.norm.pdf(z)))
    return total


@pytest.mark.parametrize("x", [0.4, 0.8])
def test_rounding_of_correlated_steps_lag_by_lag(x):
    beta = 0.5
    lags = [overlap(x, beta**k) for k in range(1, 41)]
    expected = (1 - beta) / (1 + beta) * (staircase(x)[0] + 2 * sum(lags)) / x**2
    assert rounded_adamw.correlated_gains(np.array(x), beta) == pytest.approx(expected, rel=1e-10)
    assert rounded_adamw.correlated_gains(np.array(x), 1e-9) == pytest.approx(staircase(x)[0] / x**2, rel=1e-6)
    assert rounded_adamw.correlated_gains(np.array(50.0), 0.9) == pytest.approx(1.0, abs=2e-2)


def test_adamw_s_walk_adds_up_over_weights_and_steps():
    weights = WeightHistogram(np.array([1.2, 1.6, 2.5]), np.array([0.2, 0.3, 0.5]))
    rates = learning_rates(4, "linear")
    lr = 0.02
    found = rounded_adamw.adamw_rounding(lr, 4, weights, beta1=0.8)
    variance = along = 0.0
    for rate in rates:
        for spacing, share in ((2.0**-7, 0.5), (2.0**-6, 0.5)):
            x = lr * math.sqrt(0.2 / 1.8) * rate / spacing
            power = rate**2 / float(rates @ rates)
            variance += power * share * float(rounded_adamw.correlated_gains(np.array(x), 0.8))
            along += power * share * staircase(x)[1] / x**2
    assert (found.variance, found.signal) == pytest.approx((variance, along), rel=1e-9)
    with pytest.raises(ConfigError, match="has no rounding"):
        rounded_adamw.adamw_rounding(lr, 4, weights, dtype="float32")


# --- steps that tie ---


@pytest.mark.parametrize(("steps", "move"), [(1, 0.3), (7, 0.9), (400, 0.02), (10_000, 0.6)])
def test_binomial_weights(steps, move):
    count, weight = binomial_probabilities(steps, move)
    assert weight.sum() == pytest.approx(1, rel=1e-13)
    assert weight == pytest.approx(stats.binom.pmf(count, steps, move), rel=1e-9, abs=1e-16)
    assert binomial_probabilities(steps, 1.0)[0].tolist() == [steps]


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_tied_law_is_a_mixture(power):
    root, steps, move = ChiLaw(0.3, 5.0), 6, 0.4
    law = TiedLaw(root, steps, move, power)
    chance = stats.binom.pmf(np.arange(7), steps, move)
    factor = (np.arange(7) / (steps * move)) ** power
    mean = root.mean * float(chance @ factor)
    second = (root.mean**2 + root.std**2) * float(chance @ factor**2)
    assert law.mean == pytest.approx(mean, rel=1e-12)
    assert law.std == pytest.approx(math.sqrt(second - mean**2), rel=1e-10)
    low = chance[0] + sum(c * root.tails(0.5 / f)[0] for c, f in zip(chance[1:], factor[1:], strict=True))
    assert law.tails(0.5) == pytest.approx((low, 1 - low), rel=1e-10)
    assert law.tails(-1.0) == (0, 1)
    assert law.tails(0.0)[0] == pytest.approx(0.6**6)
    assert law.quantile(0.9 * 0.6**6) == 0
    assert law.tails(law.quantile(0.7))[0] == pytest.approx(0.7, rel=1e-9)
    assert law.pvalue(0.5) == pytest.approx(2 * min(low, 1 - low), rel=1e-10)
    assert law.pvalue(0.0) == pytest.approx(2 * 0.6**6)
    assert law.pvalue(-1.0) == 0
    assert law.pvalue(2.0) == pytest.approx(2 * law.tails(2.0)[1], rel=1e-12)
    assert law.quantile(law.tails(0.0)[0]) == 0
    still = TiedLaw(root, 2, 0.2, power)  # more likely than not nothing moves: 0 is what one expects
    assert still.tails(0.0)[0] == pytest.approx(0.64)
    assert still.pvalue(0.0) == 1


# --- laws ---


def test_a_chi_law_of_fluctuating_variance():
    law, spread = ChiLaw(0.7, 5.0, 9.0), stats.chi(9)
    mean = 0.7 * stats.chi(5).mean() * spread.mean() / 3
    assert law.mean == pytest.approx(mean, rel=1e-13)
    assert law.std == pytest.approx(math.sqrt(0.49 * 5 - mean**2), rel=1e-12)
    c = np.exp(np.linspace(-8, 3, 400))  # the trapezoidal rule in log c: smooth, and nothing at its ends
    for x in (0.4, 1.5, 3.0):
        below = float(np.sum(c * spread.pdf(c) * stats.chi(5).cdf(x * 3 / (0.7 * c)))) * 11 / 399
        assert law.tails(x) == pytest.approx((below, 1 - below), rel=1e-9)
        assert law.tails(law.quantile(below))[0] == pytest.approx(below, rel=1e-9)
    square = SquaredLaw(law, 2.0)
    assert square.mean == pytest.approx(2 * 0.49 * 5, rel=1e-14)
    fourth = 4 * 0.49**2 * (5 * 7) * (9 * 11) / 81
    assert square.std == pytest.approx(math.sqrt(fourth - square.mean**2), rel=1e-12)
    assert square.tails(2 * 1.5**2) == pytest.approx(law.tails(1.5), rel=1e-12)


def test_an_interval_leaves_as_much_on_either_side():
    assert NormalLaw(1.0, 2.0).interval(0.9) == pytest.approx(stats.norm(1, 2).interval(0.9), rel=1e-12)
    assert ChiLaw(2.0, 3.0).interval() == pytest.approx([2 * end for end in stats.chi(3).interval(0.95)], rel=1e-12)


def test_a_point_has_no_law_beside_it():
    point = PointLaw(2.0)
    assert [point.tails(x) for x in (1.0, 2.0, 2.0 + 1e-13, 3.0)] == [(0, 1), (1, 1), (1, 1), (1, 0)]
    assert [point.pvalue(x) for x in (1.0, 2.0, 3.0)] == [0, 1, 0]


# --- 0/1 rewards ---

BATCH = PromptBatch(success=0.2, prompts=4)


def test_the_spread_and_signal_of_a_batch():
    assert BATCH.reward_std == pytest.approx(math.sqrt(0.16 / 4))
    model = BATCH.model(0.05)
    known = BATCH.signal(sigma=0.5, gradient_norm=0.1)
    assert (known.reliability, known.member_std) == (pytest.approx(model.correlation**2), model.std)
    assert BATCH.model(0.02).std ** 2 == pytest.approx(0.04 + 0.75 * 0.02**2, rel=1e-9)  # nothing cut off at 0 or 1
    back = BATCH.signal(sigma=0.5, reliability=BATCH.model(0.02).correlation ** 2)
    assert back.gradient_norm == pytest.approx(0.04, rel=1e-9)
    for nothing in (BATCH.signal(sigma=0.5), BATCH.signal(sigma=0.5, reliability=0.0)):
        assert (nothing.gradient_norm, nothing.member_std) == (None, BATCH.reward_std)
    PromptBatch(success=0.5, prompts=prompt_batch.MAX_PROMPTS)
    with pytest.raises(ConfigError, match="such rewards are Gaussian"):
        PromptBatch(success=0.5, prompts=prompt_batch.MAX_PROMPTS + 1)


def test_one_step_of_a_batch_by_its_parts():
    model = BATCH.model(0.05)
    known = BATCH.signal(sigma=0.5, gradient_norm=0.1)
    rho = model.correlation
    late = {"momentum": 0.25}
    for kind, value in (
        ("zscore", zscore_overlap(model, 8)),
        ("centered-rank", rank_overlap(model)),
        ("raw", 7 / 8 * rho * model.std / 0.5),
    ):
        assert estimator_of(config(kind)).overlap(model) == pytest.approx(value, rel=1e-13)
        for changes, share in (({}, 1.0), (late, 0.75)):
            progress = signal.progress_per_step(config(kind, **changes), known, model)
            assert progress == pytest.approx(0.3 * share * value, rel=1e-13)
    stays = tie_probability(model, 8)
    mean = math.sqrt(8) * zscore_overlap(model, 8) / (1 - stays)
    z = (model.values - model.mean) / model.std
    skewness, kurtosis = float(model.probabilities @ z**3), float(model.probabilities @ z**4) - 3
    variance = 1 + rho**2 * (7 / (1 - stays) - 1 - skewness**2) - mean**2
    law = estimator_of(config()).cosine(40, known, model)
    # the projection has this mean and this variance beside 39 coordinates of variance 1
    assert law.signal * chi_mean(law.signal_df) == pytest.approx(mean, rel=1e-9)
    assert law.signal**2 * chi_variance(law.signal_df) + law.noise**2 == pytest.approx(variance, rel=1e-6)
    assert law.rest_df == 39
    assert law.interval(0.999)[1] < 1
    square, spread = tied_square(8, model.probabilities)
    mean = math.sqrt(8) * rank_overlap(model) / math.sqrt(square * (1 - stays))
    law = estimator_of(config("centered-rank")).cosine(40, known, model)
    assert law.signal * chi_mean(law.signal_df) == pytest.approx(mean, rel=1e-9)
    assert estimator_of(config("raw")).cosine(40, known, model) is None
    one = 0.09 / 8  # alpha^2 / N
    for kind, value, relative in (
        ("zscore", (1 - stays) * one, stays / (1 - stays)),
        ("centered-rank", square * one, spread),
        ("raw", 7 / 8 * model.std**2 / 0.25 * one, 2 / 7 + kurtosis / 8),
    ):
        moved = walk.walk(config(kind), known, 5, None, model)
        assert moved.variance == pytest.approx(5 * value, rel=1e-12)
        assert moved.tie_probability == stays
        # E (sum of the squares of M steps)^2, M ~ Binomial(5, 1 - stays), over its mean squared
        counted = (1 + stays / (5 * (1 - stays))) * (1 + 2 / moved.mixing_df)
        assert counted == pytest.approx(1 + relative / 5, rel=1e-12)
        assert moved.label == ("exact" if kind == "zscore" else "large-N")
    found = {p.quantity: p.law for p in predict(config(), reward=known, batch=BATCH).predictions}
    progress = 0.3 * zscore_overlap(model, 8)
    assert found[Quantity.TIE_PROBABILITY].value == stays
    assert found[Quantity.PROGRESS_PER_STEP].value == pytest.approx(progress, rel=1e-13)
    assert found[Quantity.REWARD_GAIN_PER_STEP].value == pytest.approx(0.1 * progress, rel=1e-13)
    line = predict(config(dim=1), reward=known, batch=BATCH)
    assert Quantity.GRADIENT_COSINE not in {p.quantity for p in line.predictions}
    blind = {p.quantity for p in predict(config(), reward=BATCH.signal(sigma=0.5), batch=BATCH).predictions}
    assert Quantity.TIE_PROBABILITY in blind
    assert not blind & {Quantity.GRADIENT_COSINE, Quantity.PROGRESS_PER_STEP}


def test_what_is_thinned_by_ties():
    plain = walk.walk(config(momentum=0.5), Signal(), 9)
    w = replace(plain, tie_probability=0.3)

    def made(quantity, law, step=9):
        return Prediction(quantity=quantity, law=law, label="exact", source="", assumptions=("kept",), step=step)

    norm = made(Quantity.DISPLACEMENT_NORM, w.norm_law)
    found = w.scattered(norm, 0.5)
    assert found.law == TiedLaw(w.norm_law, round(w.independent_steps), 0.7, 0.5)
    assert found.assumptions[0] == "kept"
    assert w.scattered(made(Quantity.KL_DRIFT, w.norm_law), 1.0).law.power == 1
    one = replace(walk.walk(config(momentum=0.5), Signal(), 1), tie_probability=0.3)
    step = one.scattered(made(Quantity.STEP_NORM, ChiLaw(0.2, 5.0), 1), 0.5)
    assert step.law == TiedLaw(ChiLaw(0.2, 5.0), 1, 0.7, 0.5)
    assert (step.label, found.label) == ("exact", "large-N")  # momentum: an effective number of steps
    assert plain.scattered(norm, 0.5) is norm


# --- laws ---


@pytest.mark.parametrize("mean", [1.3, -1.3])
@pytest.mark.parametrize("linear", [0.0, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("x", [-1.0, 0.1, 0.9, 2.5])
def test_a_quadratic_with_a_linear_part_is_their_convolution(mean, linear, x):
    df = 3.0
    law = LinearQuadraticLaw(mean, df, linear)
    root = stats.chi2(df, scale=abs(mean) / df)
    sign = math.copysign(1, mean)
    if linear == 0:
        below = root.cdf(x) if sign > 0 else root.sf(-x)
    else:
        below = integrate.quad(
            lambda s: root.pdf(s) * stats.norm.cdf((x - sign * s) / linear),
            0,
            40,
            limit=400,
            epsabs=1e-12,
            points=[abs(x)],
        )[0]
    low, high = law.tails(x)
    assert low == pytest.approx(below, rel=1e-6, abs=1e-9)
    assert high == pytest.approx(1 - below, rel=1e-6, abs=1e-9)
    assert (law.mean, law.std) == (mean, pytest.approx(math.hypot(abs(mean) * math.sqrt(2 / 3), linear)))


def test_drift_laws_by_hand():
    raw = walk.walk(config("raw"), Signal(member_std=0.9), 5)
    v, m = raw.variance, raw.mixing_df
    law = kl_law(raw, fisher_trace=9.0, fisher_square_trace=12.0, fisher_trace_stderr=0.9)
    assert law.mean == pytest.approx(0.5 * v * 9, rel=1e-13)
    relative = (1 + 2 * 12 / 81) * (1 + 2 / m) * (1 + 0.01) - 1
    assert law.std == pytest.approx(law.mean * math.sqrt(relative), rel=1e-12)
    loose = kl_law(raw, fisher_trace=9.0)
    assert loose.std == pytest.approx(loose.mean * math.sqrt(2 / m), rel=1e-12)
    plain = walk.walk(config(), Signal(), 5)
    assert kl_law(plain, fisher_trace=9.0) == PointLaw(0.5 * plain.variance * 9.0)
    loss = off_task_reward_law(plain, trace=3.0, square_trace=5.0, gradient_norm=0.4)
    v = plain.variance
    assert loss.mean == pytest.approx(-0.5 * v * 3, rel=1e-13)
    assert loss.std == pytest.approx(math.sqrt(v * 0.16 + 0.5 * v * v * 5), rel=1e-12)


@pytest.mark.parametrize("df", [50.0, 1e5])
def test_tails_of_an_array_are_those_of_its_numbers(df):
    x = df + math.sqrt(2 * df) * np.array([[-3.0, -1.0, 0.0], [0.5, 2.0, 4.0]])
    found = _special.chi_square_tails_array(x, df)
    assert found.shape == (2, 2, 3)
    for place, value in np.ndenumerate(x):
        assert found[(slice(None), *place)] == pytest.approx(_special.chi_square_tails(float(value), df), rel=1e-13)


@pytest.mark.parametrize("share", [0.7, 0.85, 0.89, 0.95, 1.05, 1.12, 1.2, 1.3])
def test_far_tails_of_many_degrees_of_freedom(share):
    """Both branches of Temme's expansion to nine digits of a probability as small as e^-680, by mpmath's series."""
    df = 24_000.0
    with mpmath.workdps(30):
        a, x = mpmath.mpf(df) / 2, mpmath.mpf(df) / 2 * share
        front = mpmath.exp(a * mpmath.log(x) - x - mpmath.loggamma(a))  # x^a e^-x / Gamma(a)
        if share < 1:
            term = total = 1 / a
            for k in range(1, 2000):
                term *= x / (a + k)
                total += term
        else:  # Lentz's continued fraction, from its end
            total = mpmath.mpf(0)
            for k in range(2000, 0, -1):
                total = k * (k - a) / (x + 2 * k + 1 - a - total)
            total = 1 / (x + 1 - a - total)
        exact = float(front * total)
    small = min(_special.chi_square_tails(share * df, df))
    assert small == pytest.approx(exact, rel=1e-9, abs=0)


def test_the_ends_of_special_functions():
    assert _special.normal_quantile(0.0) == -math.inf
    assert _special.normal_quantile(1.0) == math.inf
    with pytest.raises(ValueError, match="range"):
        _special.normal_quantile(1.5)
    assert _special.chi_square_tails(1e-300, 1e6) == (0, 1)
    assert _special.chi_square_tails(1e60, 1e6) == (1, 0)
    assert (_special.chi_square_quantile(0.0, 3.0), _special.chi_square_quantile(1.0, 3.0)) == (0, math.inf)
    with pytest.raises(ValueError, match="positive"):
        _special.normal_nodes(0)
    for start in (-50.0, 0.5, 90.0):  # the bracket grows to either side
        found = _special.invert_increasing(lambda x: x**3, 8.0, start, 0.1)
        assert found == pytest.approx(2, rel=1e-12)
    flat = _special.invert_increasing(lambda x: 0.0 if x < 3 else 1.0, 0.5, 0.0, 1.0)
    assert flat == pytest.approx(3, abs=1e-9)
    assert PointLaw(2.0).sample(np.random.default_rng(0), 3).tolist() == [2, 2, 2]
    mixed = MixedCorrelationLaw(5.0, 7.0, 30.0)
    assert (mixed.tails(1.0), mixed.tails(-1.5)) == ((1, 0), (0, 1))


def test_what_is_refused_or_nothing(tmp_path):
    where = rows((2.0, 3, 0.0))
    nothing = mean_field_error.declared_error(
        config(),
        where,
        mean=np.zeros(1),
        square=np.zeros(1),
        member_square=0.5,
        earlier_member_square=np.empty(0),
        relative_std=0.0,
    )
    assert nothing == 0
    with pytest.raises(ConfigError, match="L1 anchor"):
        stationary.stationary_state(config(anchor_l1=0.1), where)
    with pytest.raises(ConfigError, match="without reward noise"):
        stationary.stationary_state(config("two-point"), rows((2.0, 3, 0.1), reward_std=0.0))
    there = EndPoint(mean=np.array([0.2]), variance=np.zeros(1))
    chord = interpolation_gain(where, there, replace(there, mean=np.zeros(1)))
    assert chord == PointLaw(pytest.approx(3 * 2 * 0.2**2 / 8))
    file = tmp_path / "spectrum.csv"
    file.write_text("eigenvalue,multiplicity,offset\n" + "1" * 200_000 + ",1,0\n", encoding="utf-8")
    with pytest.raises(DataError, match="is no CSV"):
        read_landscape(file, dim=40)


@pytest.mark.parametrize("form", ["before", "after"])
def test_the_declared_error_of_a_flat_coordinate_under_a_constant_pull(form):
    k, steps = 0.2, 9
    law = anchor_l1.flat_law(k, steps, form)
    noise = 0.2 * k / 3 + k**3 / 100 + (k**2 / 3 if form == "after" else 0.0)
    assert law.error == pytest.approx(noise / law.second, rel=1e-13)
    assert anchor_l1.flat_law(k, 1, form).error == 0
    # without a pull it is the plain walk, and both forms agree
    free = anchor_l1.flat_law(1e-9, steps, form)
    assert (free.second, free.kurtosis, free.error) == pytest.approx((9, 3, 0), rel=1e-6, abs=1e-9)


def test_a_flattened_density_leaves_more_spread_after_the_pull():
    """E|D| below that of a normal: 4 pull times what the density at the start loses is left in the second moment."""
    mean, variance, start, noise = np.array([0.02]), np.array([0.01]), np.array([0.01]), np.array([0.004])
    found, left = anchor_l1.pulled_after(mean, variance, start, pull=0.03, contraction=np.array([0.9]), noise=noise)
    before, shift = 0.81 * 0.01 + 0.004, 0.9 * 0.02 - 0.01
    first, second = anchor_l1.soft_threshold(np.array([shift]), np.array([before]), 0.03)
    h = min(math.sqrt(2) * 0.03 * math.sqrt(before) / 0.004, 1.0)
    flat = 1 - (1 - math.sqrt(math.pi) / 2) * h * (0.55 + 0.45 * h)
    density = math.sqrt(before) * stats.norm.pdf(shift / math.sqrt(before))
    assert flat < 0.95
    assert found == pytest.approx(0.01 + first, rel=1e-13)
    assert left == pytest.approx(second + 4 * 0.03 * density * (1 - flat) - first**2, rel=1e-12)
