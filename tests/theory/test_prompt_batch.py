"""Forecasts of 0/1 rewards against brute force in every coordinate; the Gaussian forms must fail."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h

from estheory.errors import ConfigError
from estheory.laws import ChiLaw
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.predictions import predict
from estheory.theory.prompt_batch import PromptBatch
from estheory.theory.ties import TiedLaw, binomial_probabilities
from tests.statistics import agrees, brute_force_steps, variance_agrees

DIM, SIGMA, ALPHA, N, P = 60, 0.5, 0.25, 10, 0.1
GRADIENT = 0.05  # sigma ||g|| = 0.025: a weak signal in rewards of one prompt


def forecasts(shaping, prompts, steps, gradient=GRADIENT):
    """The exact forecast and the Gaussian one with the same reliability and spread."""
    batch = PromptBatch(success=P, prompts=prompts)
    config = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=N, steps=steps, shaping=shaping)
    reward = batch.signal(sigma=SIGMA, gradient_norm=gradient)
    return predict(config, reward=reward, batch=batch), predict(config, reward=reward)


def runs(shaping, prompts, steps, replicas, seed, gradient=GRADIENT):
    """Displacements, (steps, replicas, DIM), of binomial rewards; where all are equal nothing moves."""

    def reward(x, rng):
        return rng.binomial(prompts, np.clip(P + gradient * x, 0, 1)) / prompts

    with np.errstate(invalid="ignore"):
        updates = brute_force_steps(
            np.random.default_rng(seed),
            replicas=replicas,
            dim=DIM,
            population=N,
            sigma=SIGMA,
            alpha=ALPHA,
            steps=steps,
            shaping=shaping,
            reward=reward,
        )
    return np.nan_to_num(updates)


@pytest.mark.parametrize("shaping", ["zscore", "centered-rank", "raw"])
@pytest.mark.parametrize("prompts", [1, 4])
def test_one_step_of_binomial_rewards(shaping, prompts):
    exact, gaussian = forecasts(shaping, prompts, 1)
    step = runs(shaping, prompts, 1, 100_000, seed=prompts)[0]
    square = np.sum(step[:, 1:] ** 2, axis=1) * DIM / (DIM - 1)  # flat coordinates only
    moves = square > 0
    tie = exact.get(Quantity.TIE_PROBABILITY).law.mean
    assert agrees(~moves, tie)
    assert agrees(step[:, 0], exact.get(Quantity.PROGRESS_PER_STEP).law.mean)
    if shaping == "zscore" and prompts == 1:
        assert not agrees(step[:, 0], gaussian.get(Quantity.PROGRESS_PER_STEP).law.mean)
    ratio = square / DIM / exact.get(Quantity.COORDINATE_STD).law.mean ** 2
    assert agrees(ratio, 1)
    law = exact.get(Quantity.EFFECTIVE_DIMENSION_RATIO).law
    flat = np.sum(step[:, 1:] ** 2, axis=1) / (DIM - 1) / exact.get(Quantity.COORDINATE_STD).law.mean ** 2
    assert variance_agrees(flat, flat_variance(law, DIM - 1))
    if prompts == 1:  # nearly a third of the steps ties
        assert not agrees(square / DIM / gaussian.get(Quantity.COORDINATE_STD).law.mean ** 2, 1) or shaping == "raw"
        assert not variance_agrees(flat, flat_variance(gaussian.get(Quantity.EFFECTIVE_DIMENSION_RATIO).law, DIM - 1))


def flat_variance(law, dim):
    """The variance of a ratio law over ``dim`` of its DIM coordinates."""
    mixing = (1 + law.std**2) / (1 + 2 / DIM)
    return mixing * (1 + 2 / dim) - 1


def test_gradient_cosine_of_the_steps_that_move():
    exact, gaussian = forecasts("zscore", 1, 1)
    step = runs("zscore", 1, 1, 150_000, seed=9)[0]
    moving = step[np.any(step != 0, axis=1)]
    law = exact.get(Quantity.GRADIENT_COSINE).law
    length = math.sqrt((DIM - 1) / (1 - law.mean**2 - law.std**2))
    projection = moving[:, 0] * math.sqrt(N) / ALPHA
    assert agrees(projection, law.mean * length)
    assert variance_agrees(projection, (law.std * length) ** 2)
    plain = gaussian.get(Quantity.GRADIENT_COSINE).law
    assert not variance_agrees(projection, (plain.std * length) ** 2)  # without ties and skewness
    assert not agrees(projection, gaussian.get(Quantity.GRADIENT_COSINE).law.mean * length)


def test_walk_of_several_steps_is_binomially_thinned():
    steps, faint = 5, 0.01  # a signal that moved the run would take the law away
    exact, gaussian = forecasts("zscore", 1, steps, faint)
    moved = runs("zscore", 1, steps, 40_000, 3, faint).sum(axis=0)
    norm = np.linalg.norm(moved, axis=1)
    law = exact.get(Quantity.DISPLACEMENT_NORM).law
    tie = exact.get(Quantity.TIE_PROBABILITY).law.mean
    assert isinstance(law, TiedLaw)
    assert agrees(norm == 0, tie**steps)
    assert agrees(norm, law.mean)
    assert variance_agrees(norm, law.std**2)
    plain = gaussian.get(Quantity.DISPLACEMENT_NORM).law
    assert not agrees(norm, plain.mean)
    shorter = ChiLaw(plain.scale * math.sqrt(1 - tie), plain.df)  # the mean variance without its scatter
    assert not variance_agrees(norm, shorter.std**2)
    for p in (0.05, 0.3, 0.7, 0.95):
        assert agrees(norm <= law.quantile(p), p)
    off = exact.get(Quantity.DISPLACEMENT_NORM).law.quantile(tie**steps / 2)
    assert off == 0.0


@given(steps=h.integers(1, 10**6), move=h.floats(1e-3, 1.0))
def test_binomial_probabilities(steps, move):
    from scipy.stats import binom

    count, weight = binomial_probabilities(steps, move)
    assert weight.sum() == pytest.approx(1, abs=1e-12)
    assert float(weight @ count) == pytest.approx(steps * move, rel=1e-9)
    if move < 1:
        assert weight == pytest.approx(binom.pmf(count, steps, move), abs=1e-9)


def test_rewards_of_no_ties_are_gaussian_again():
    """Many prompts at p = 1/2: progress within a percent of the Gaussian one, and no ties."""
    batch = PromptBatch(success=0.5, prompts=500)
    config = ESConfig(dim=10**9, sigma=SIGMA, population=30)
    reward = batch.signal(sigma=SIGMA, gradient_norm=0.02)
    exact, gaussian = predict(config, reward=reward, batch=batch), predict(config, reward=reward)
    for quantity in (Quantity.PROGRESS_PER_STEP, Quantity.GRADIENT_COSINE, Quantity.DISPLACEMENT_NORM):
        assert exact.get(quantity).law.mean == pytest.approx(gaussian.get(quantity).law.mean, rel=0.01)
    assert exact.get(Quantity.TIE_PROBABILITY).law.mean < 1e-30


def test_no_checkpoint_cosine_where_steps_tie():
    """Its spread is that of the numbers of steps that moved, which the law of two fixed numbers leaves out."""
    config = ESConfig(dim=10**9, sigma=SIGMA, population=N, steps=40)
    for success, prompts, told in ((P, 1, False), (0.5, 2000, True)):
        batch = PromptBatch(success=success, prompts=prompts)
        many = ESConfig(**{**vars(config), "population": N if prompts == 1 else 30})
        found = predict(many, checkpoints=[10, 40], reward=batch.signal(sigma=SIGMA), batch=batch)
        assert any(p.quantity is Quantity.CHECKPOINT_COSINE for p in found.predictions) == told
        assert any("tie" in warning for warning in found.warnings) == (not told)


def test_reliability_takes_the_gradient_with_it():
    batch = PromptBatch(success=0.3, prompts=50)
    signal = batch.signal(sigma=0.1, reliability=0.2)
    assert signal.reliability == pytest.approx(0.2, rel=1e-9)
    again = batch.signal(sigma=0.1, gradient_norm=signal.gradient_norm)
    assert again.member_std == pytest.approx(signal.member_std, rel=1e-12)
    # the variance of a share of prompts: within a member and between members
    tau = 0.1 * signal.gradient_norm
    assert signal.member_std**2 == pytest.approx(0.21 / 50 + tau**2 * (1 - 1 / 50), rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"success": 0.0}, "success"),
        ({"success": 1.5}, "success"),
        ({"success": math.nan}, "success"),
        ({"prompts": 0}, "prompts"),
        ({"prompts": 10**6}, "reward-std"),
    ],
)
def test_bad_batches_are_refused(changes, expected):
    with pytest.raises(ConfigError, match=expected):
        PromptBatch(**{"success": 0.3, "prompts": 8} | changes)


def test_paired_members_are_refused():
    batch = PromptBatch(success=0.3, prompts=8)
    for changes in ({"antithetic": True}, {"shaping": "two-point"}):
        config = ESConfig(dim=10, sigma=0.1, population=8, **changes)
        with pytest.raises(ConfigError, match="paired"):
            predict(config, reward=batch.signal(sigma=0.1, gradient_norm=0.1), batch=batch)
