"""predict() with a spectrum and off-task traces: the sheet's example, and brute force for the displacement norm."""

from dataclasses import replace

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.laws import ChiLaw, SquaredLaw
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.curved.predictions import OffTask
from estheory.theory.curved.spectra import two_scale
from estheory.theory.curved.step import step_moments
from estheory.theory.estimators import estimator_of
from estheory.theory.grpo import GRPOConfig
from estheory.theory.predictions import predict
from tests.statistics import agrees, shape_rewards

CONFIG = ESConfig(dim=1005, sigma=0.01, alpha=0.01, population=30, steps=400)
STEPS = (20, 100, 200, 400)


def forecast(**changes):
    return predict(CONFIG, checkpoints=STEPS, landscape=two_scale(), **changes)


def test_the_sheet_s_example():
    found = forecast()
    rewards = [found.get(Quantity.REWARD, t).law.mean for t in STEPS]
    # the sheet's predictions, to the digits it gives; its x term differs by (N-1)/N and is negligible here
    assert rewards == pytest.approx([-1.1864, -0.00775, -0.00725, -0.01302], rel=1e-3)
    assert found.get(Quantity.REWARD_PEAK_STEP).law.mean == pytest.approx(125, abs=0.5)


def test_every_quantity_of_a_landscape():
    found = forecast(
        off_task=OffTask(fisher_trace=100.0, fisher_square_trace=50.0, trace=4.0, gradient_norm=0.1),
        grpo=GRPOConfig(lr=1e-4, steps=100),
    )
    assert {p.quantity for p in found.predictions} >= {
        *(Quantity.REWARD, Quantity.REWARD_PEAK_STEP, Quantity.STATIONARY_REWARD_GAP, Quantity.INTERPOLATION_GAIN),
        *(Quantity.CRITICAL_POPULATION, Quantity.OPTIMAL_ALPHA, Quantity.REWARD_GAIN_PER_STEP),
        *(Quantity.PROGRESS_PER_STEP, Quantity.GRADIENT_COSINE, Quantity.KL_DRIFT, Quantity.OFF_TASK_REWARD_CHANGE),
    }
    kl = found.get(Quantity.KL_DRIFT, 100)
    assert kl.law.mean == pytest.approx(0.5 * 1e-4 * 100 / 30 * 100)
    assert kl.law.std / kl.law.mean == pytest.approx(np.sqrt(2 * 50) / 100)


def test_what_a_landscape_knows_of_another_task_is_predicted():
    known = {"fisher_trace": 100.0, "fisher_square_trace": 50.0, "fisher_trace_stderr": 10.0}
    known |= {"off_task_trace": 4.0, "off_task_square_trace": 0.5, "off_task_gradient_norm": 0.1}
    found = predict(CONFIG, checkpoints=[100], landscape=replace(two_scale(), **known))
    v = 1e-4 * 100 / 30
    kl, change = (found.get(q).law for q in (Quantity.KL_DRIFT, Quantity.OFF_TASK_REWARD_CHANGE))
    assert kl.mean == pytest.approx(0.5 * v * 100)
    assert (kl.std / kl.mean) ** 2 == pytest.approx((1 + 2 * 50 / 100**2) * (1 + 0.1**2) - 1)
    assert change.mean == pytest.approx(-0.5 * v * 4)
    assert change.std**2 == pytest.approx(v * 0.1**2 + 0.5 * v**2 * 0.5)
    given = predict(
        CONFIG, checkpoints=[100], landscape=replace(two_scale(), **known), off_task=OffTask(fisher_trace=200.0)
    )
    assert given.get(Quantity.KL_DRIFT).law.mean == pytest.approx(0.5 * v * 200)  # what is given wins
    assert given.get(Quantity.OFF_TASK_REWARD_CHANGE).law == change
    assert not {Quantity.KL_DRIFT, Quantity.OFF_TASK_REWARD_CHANGE} & {p.quantity for p in forecast().predictions}


def test_displacement_norm_takes_the_curvature_in():
    """Brute force in every coordinate; the plain walk, which ignores the way to the optimum, must be refuted."""
    rng = np.random.default_rng(8)
    landscape = two_scale()
    lam = np.repeat(landscape.eigenvalue, landscape.multiplicity.astype(int))
    start = np.repeat(landscape.offset, landscape.multiplicity.astype(int))
    lam, start = (np.concatenate([x, np.zeros(1005 - x.size)]) for x in (lam, start))
    replicas, n = 60, CONFIG.population
    theta = np.tile(start, (replicas, 1))
    for _ in range(40):
        eps = rng.standard_normal((replicas, n, 1005), dtype=np.float32)
        members = theta[:, None, :] + CONFIG.sigma * eps
        rewards = -0.5 * (members**2 @ lam) + landscape.reward_std * rng.standard_normal((replicas, n))
        z = shape_rewards(rewards, "zscore", CONFIG.sigma)
        theta = theta + CONFIG.step_size / n * np.einsum("rn,rnd->rd", z, eps)
    square = np.sum((theta - start) ** 2, axis=1)
    curved = predict(CONFIG, checkpoints=(40,), landscape=landscape).get(Quantity.DISPLACEMENT_NORM)
    # mean field: declared O(1/N); the test allows it and the sampling error
    band = 2 / n * curved.law.mean**2
    assert abs(square.mean() - curved.law.mean**2) < band + 4.9 * square.std() / np.sqrt(replicas)
    plain = predict(CONFIG, checkpoints=(40,)).get(Quantity.DISPLACEMENT_NORM)
    assert not agrees(square, plain.law.mean**2)
    assert plain.law.mean**2 < square.mean() - band


def test_flat_language_model_keeps_the_exact_walk():
    big = ESConfig(dim=4_022_468_096, sigma=0.0015, alpha=0.00075, population=30, steps=100)
    landscape = two_scale(dim=big.dim, sharp=(10.0, 5, 0.0))
    found = predict(big, landscape=landscape)
    assert found.get(Quantity.DISPLACEMENT_NORM).law.mean == pytest.approx(86.84542, abs=1e-4)


def test_a_landscape_excludes_a_linear_signal():
    with pytest.raises(ConfigError, match="dimensions"):
        predict(ESConfig(dim=1000, sigma=0.01, population=30), landscape=two_scale())
    with pytest.raises(ConfigError, match="landscape"):
        predict(CONFIG, landscape=two_scale(), reward=Signal(reliability=0.5))


def test_curvature_widens_the_fluctuation_of_raw_steps():
    # relative variance of the sample variance of quadratic rewards, 40 blocks of 10 000 steps: beyond 7 standard errors
    # with probability 2e-8 (t law, 39 degrees of freedom); the value of Gaussian rewards must be refuted
    curvatures, offsets = np.array([4.0, 1.0, 1.0]), np.array([0.1, 0.3, 0.3])
    landscape = Landscape(dim=3, eigenvalue=[4.0, 1.0], multiplicity=[1, 2], offset=[0.1, 0.3], reward_std=0.1)
    run = ESConfig(dim=3, sigma=0.5, population=4, shaping="raw", steps=1)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((40, 10_000, 4, 3))
    values = -0.5 * ((run.sigma * noise - offsets) ** 2) @ curvatures + 0.1 * rng.standard_normal(noise.shape[:-1])
    squares = values.var(axis=-1)
    ratios = squares.var(axis=1) / squares.mean(axis=1) ** 2
    gaussian = 2 / 3
    excess = step_moments(run, landscape).excess_kurtosis
    expected = gaussian * estimator_of(run).curved_fluctuation(excess)
    error = ratios.std(ddof=1) / np.sqrt(ratios.size)
    assert abs(ratios.mean() - expected) < 7 * error + 0.002 * expected
    assert abs(ratios.mean() - gaussian) > 20 * error


def test_no_kl_of_few_pairs_whose_odd_parts_are_seldom_large():
    """Two pairs of mostly odd rewards: the variance of their step is small far more often than a chi-square's is."""
    rng, kappa, pairs, dim = np.random.default_rng(8), 0.7, 2, 300
    odd = np.sqrt(1 + kappa) * rng.standard_normal((20_000, pairs))
    even = np.sqrt(1 - kappa) * rng.standard_normal((20_000, pairs))
    rewards = np.concatenate([even + odd, even - odd], axis=1)
    weights = shape_rewards(rewards, "zscore", 1.0)
    kl = np.sum((weights[:, :pairs] - weights[:, pairs:]) ** 2, axis=1) * rng.chisquare(dim, 20_000)
    relative = 2 / dim + (1 + 2 / dim) * np.var(kl) / np.mean(kl) ** 2  # of a chi-square with at least this spread
    low = SquaredLaw(ChiLaw(1.0, 2 / relative)).quantile(0.005) / (2 / relative)
    assert np.mean(kl / kl.mean() < low) > 0.02
    known = {
        "reward": Signal(reliability=kappa, even_share=0.0),
        "off_task": OffTask(fisher_trace=float(dim), fisher_square_trace=float(dim)),
    }
    for members, steps, given in ((4, 1, False), (16, 1, False), (4, 40, True), (64, 1, True)):
        config = ESConfig(dim=10**6, sigma=0.1, population=members, antithetic=True, steps=steps)
        forecast = predict(config, **known)
        assert (Quantity.KL_DRIFT in {p.quantity for p in forecast.predictions}) is given
