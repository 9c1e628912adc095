"""KL and off-task reward as laws, against sampled displacements and real ES steps, with wrong laws that must fail."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.landscape import Signal, linear_signal
from estheory.laws import ChiLaw, NormalLaw, PointLaw
from estheory.rules import ESConfig
from estheory.theory import drift as theory
from estheory.theory.curved.reward_laws import LinearQuadraticLaw
from estheory.theory.walk import walk
from tests.statistics import agrees, brute_force_steps, ks_agrees, variance_agrees
from tests.variants import variants

ALPHA, N, SIGMA = 0.3, 8, 0.5
F = 2.0 / np.arange(1, 61) ** 0.7  # spectrum of the off-task cost
TRACE, SQUARE = float(F.sum()), float((F**2).sum())


def run(**changes):
    return ESConfig(**({"dim": F.size, "sigma": SIGMA, "alpha": ALPHA, "population": N} | changes))


def displacements(steps, replicas, **changes):
    """Displacement of the flat coordinates after ``steps`` real ES steps, shape (replicas, 60)."""
    updates = brute_force_steps(
        np.random.default_rng(3),
        replicas=replicas,
        dim=F.size + 1,
        population=N,
        sigma=SIGMA,
        alpha=ALPHA,
        steps=steps,
        slope=2.0,
        **changes,
    )
    return np.cumsum(updates[:, :, 1:], axis=0)


@pytest.mark.parametrize("shaping", ["zscore", "raw"])
def test_kl_law_of_real_steps(shaping):
    path = displacements(3, 15_000, shaping=shaping)
    signal = linear_signal(sigma=SIGMA, gradient_norm=2.0, reward_std=1.0)
    for step in (1, 3):
        kl = 0.5 * np.square(path[step - 1]) @ F
        w = walk(run(shaping=shaping), signal, step)
        law = theory.kl_law(w, fisher_trace=TRACE, fisher_square_trace=SQUARE)
        assert agrees(kl, law.mean)
        assert not agrees(kl, 2 * law.mean)  # 1/2 forgotten
        assert not agrees(kl, law.mean * (N - 1) / N)
        assert variance_agrees(kl, law.std**2)
        assert not variance_agrees(kl, 2 * law.std**2)
        isotropic = theory.kl_law(w, fisher_trace=TRACE, fisher_square_trace=TRACE**2 / F.size)
        assert not variance_agrees(kl, isotropic.std**2)


def test_kl_law_is_close_in_shape():
    """Mean and variance are exact; the rest of the law is a gamma's: its distribution function is within 3 %."""
    rng = np.random.default_rng(4)
    w = walk(run(), Signal(), 100)
    kl = 0.5 * w.variance * rng.standard_normal((100_000, F.size)) ** 2 @ F
    law = theory.kl_law(w, fisher_trace=TRACE, fisher_square_trace=SQUARE)
    for level in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.mean(kl <= law.quantile(level)) == pytest.approx(level, abs=0.03)
    for level in (0.05, 0.95):  # without tr F^2 spread the law would hold half of the mass it claims to
        narrow = theory.kl_law(w, fisher_trace=TRACE, fisher_square_trace=SQUARE / 16)
        assert abs(np.mean(kl <= narrow.quantile(level)) - level) > 0.1


def test_error_of_the_trace_is_an_independent_factor():
    rng = np.random.default_rng(5)
    w = walk(run(), Signal(), 10)
    law = theory.kl_law(w, fisher_trace=TRACE, fisher_square_trace=SQUARE, fisher_trace_stderr=0.2 * TRACE)
    square = rng.standard_normal((60_000, F.size)) ** 2 @ F
    seen = 0.5 * w.variance * square * (1 + 0.2 * rng.standard_normal(60_000))
    assert agrees(seen, law.mean)
    assert variance_agrees(seen, law.std**2)
    assert not variance_agrees(seen, theory.kl_law(w, fisher_trace=TRACE, fisher_square_trace=SQUARE).std ** 2)
    alone = theory.kl_law(w, fisher_trace=TRACE, fisher_trace_stderr=0.2 * TRACE)
    assert alone.std / alone.mean == pytest.approx(0.2)
    assert theory.kl_law(w, fisher_trace=TRACE) == PointLaw(0.5 * w.variance * TRACE)


def test_shared_seed_kl_takes_the_traces_of_the_run_s_own_noise():
    """Two tensors of 30 entries share their noise: tr FC and tr (FC)^2 in place of tr F and tr F^2."""

    def draw(rng, shape):
        shared = rng.standard_normal((*shape[:2], 30))
        return np.concatenate([rng.standard_normal((*shape[:2], 1)), shared, shared], axis=2)

    path = displacements(1, 40_000, noise_draw=draw)[0]
    f = np.ones((60, 60)) * 0.01 + np.diag(F)
    covariance = np.kron(np.ones((2, 2)), np.eye(30))
    kl = 0.5 * np.einsum("ri,ij,rj->r", path, f, path)
    product = f @ covariance
    w = walk(run(), Signal(), 1)
    law = theory.kl_law(w, fisher_trace=np.trace(product), fisher_square_trace=np.trace(product @ product))
    assert agrees(kl, law.mean)
    assert variance_agrees(kl, law.std**2)
    plain = theory.kl_law(w, fisher_trace=np.trace(f), fisher_square_trace=np.trace(f @ f))
    assert not variance_agrees(kl, plain.std**2)


def test_kl_along_time():
    path = displacements(6, 12_000)
    early, late = (0.5 * path[step - 1] ** 2 @ F for step in (2, 6))
    laws = [theory.kl_law(walk(run(), Signal(), t), fisher_trace=TRACE, fisher_square_trace=SQUARE) for t in (2, 6)]
    assert laws[1].mean == pytest.approx(3 * laws[0].mean)
    product = (early - laws[0].mean) * (late - laws[1].mean) / (laws[0].std * laws[1].std)
    assert agrees(product, theory.kl_correlation(run(), 2, 6))
    assert theory.kl_correlation(run(), 2, 6) == pytest.approx(1 / 3)
    assert not agrees(product, math.sqrt(1 / 3))  # the cosine itself
    needed = theory.steps_to_kl(run(), walk(run(), Signal(), 1), fisher_trace=TRACE, budget=laws[1].mean)
    assert needed == pytest.approx(6)


@pytest.mark.parametrize("gradient_norm", [0.0, 0.3, 20.0])
def test_off_task_reward_of_real_steps(gradient_norm):
    delta = displacements(2, 20_000)[1]
    g = np.full(F.size, gradient_norm / math.sqrt(F.size))
    change = delta @ g - 0.5 * delta**2 @ F
    w = walk(run(), Signal(), 2)
    law = theory.off_task_reward_law(w, trace=TRACE, square_trace=SQUARE, gradient_norm=gradient_norm)
    assert agrees(change, law.mean)
    assert variance_agrees(change, law.std**2)
    if gradient_norm < 1:
        assert not agrees(change, 2 * law.mean)
    else:  # random sign: nearly as often a gain as a loss
        assert law.tails(0.0)[1] > 0.35
        assert np.mean(change > 0) == pytest.approx(law.tails(0.0)[1], abs=5 * 0.5 / math.sqrt(20_000) + 0.005)
    without = theory.off_task_reward_law(w, trace=TRACE, square_trace=2 * SQUARE, gradient_norm=2 * gradient_norm)
    assert not variance_agrees(change, without.std**2)
    share = theory.first_order_share(w, square_trace=SQUARE, gradient_norm=gradient_norm)
    assert share == pytest.approx(w.variance * gradient_norm**2 / law.std**2)


def test_off_task_special_cases():
    w = walk(run(), Signal(), 5)
    assert theory.off_task_reward_law(w, trace=3.0) == PointLaw(-1.5 * w.variance)
    assert theory.off_task_reward_law(w, trace=3.0, gradient_norm=2.0) == NormalLaw(
        -1.5 * w.variance, 2 * math.sqrt(w.variance)
    )
    # curvatures of both signs: the trace cancels, the spread does not
    indefinite = theory.off_task_reward_law(w, trace=0.1, square_trace=50.0, gradient_norm=1.0)
    assert indefinite.std == pytest.approx(math.sqrt(w.variance + 25 * w.variance**2))
    # nothing says how skewed it is: the law is normal, and a budget keeps to the worst of all spectra
    assert isinstance(theory.off_task_reward_law(w, trace=9.0, square_trace=9.0), NormalLaw)
    worst = theory.off_task_loss_quantile(w, trace=9.0, square_trace=81.0, gradient_norm=0.0, level=0.95)
    assert worst == pytest.approx(4.5 * w.variance * ChiLaw(1.0, 1.0).quantile(0.95) ** 2, rel=1e-12)
    assert theory.off_task_reward_law(w, trace=-9.0, square_trace=9.0).mean > 0
    assert theory.first_order_share(w, square_trace=0.0, gradient_norm=0.0) == 0


@pytest.mark.parametrize(
    "numbers",
    variants([(-1, 1, 0.1), (-1, 5, 3.0), (2, 1, 1.0), (-1, 1e6, 1e-3), (1, 3, 0)], fast=[(-1, 5, 3.0), (2, 1, 1.0)]),
)
def test_linear_quadratic_law_against_samples(numbers):
    mean, df, linear = numbers
    law = LinearQuadraticLaw(float(mean), float(df), float(linear))
    x = law.sample(np.random.default_rng(6), 4000)
    assert agrees(x, law.mean)
    assert variance_agrees(x, law.std**2)
    assert ks_agrees(x, lambda v: law.tails(v)[0])
    wrong = LinearQuadraticLaw(1.3 * mean, float(df), 1.3 * linear)
    assert not ks_agrees(x, lambda v: wrong.tails(v)[0])


@given(
    mean=h.sampled_from([-3.0, 0.5]),
    df=h.floats(1, 1e9),
    linear=h.sampled_from([0.0, 0.01, 1.0, 30.0]),
    z=h.floats(-5, 5),
)
def test_linear_quadratic_law_is_a_law(mean, df, linear, z):
    law = LinearQuadraticLaw(mean, df, linear)
    x = law.mean + z * law.std
    low, high = law.tails(x)
    assert low + high == pytest.approx(1, abs=1e-9)
    assert law.tails(x + 0.1 * law.std)[0] >= low - 1e-9
    assert law.tails(law.quantile(0.3))[0] == pytest.approx(0.3, abs=1e-6)


@given(df=h.floats(1, 50), x=h.floats(-4, 4))
def test_linear_quadratic_law_has_the_limits_of_its_parts(df, x):
    """No normal part: the mirrored chi-square; a vanishing one: the same to its size."""
    plain, blurred = LinearQuadraticLaw(-1.0, df, 0.0), LinearQuadraticLaw(-1.0, df, 1e-7)
    assert blurred.tails(x)[0] == pytest.approx(plain.tails(x)[0], abs=2e-3)
    assert plain.tails(0.1) == (1.0, 0.0)


def test_out_of_range_input_is_refused():
    w = walk(run(), Signal(), 5)
    for bad in (
        {"fisher_trace": -1.0},
        {"fisher_trace": 1.0, "fisher_square_trace": 0.0},
        {"fisher_trace": 1.0, "fisher_square_trace": 2.0},
        {"fisher_trace": 1.0, "fisher_trace_stderr": -0.1},
    ):
        with pytest.raises(ConfigError, match="fisher"):
            theory.kl_law(w, **bad)
    for bad in ({"trace": float("nan")}, {"trace": 1.0, "gradient_norm": -1.0}, {"trace": 1.0, "square_trace": -1.0}):
        with pytest.raises(ConfigError, match="off-task"):
            theory.off_task_reward_law(w, **bad)
    with pytest.raises(ConfigError, match="plain walk"):
        theory.steps_to_kl(run(momentum=0.5), w, fisher_trace=1.0, budget=1.0)
