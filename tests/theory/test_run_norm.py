"""The norm of a run that its signal moves: what it promises, where it refuses, and what of the signal it tells."""

import math

import pytest

from estheory.errors import ConfigError
from estheory.landscape import Signal, linear_signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.predictions import predict
from estheory.theory.prompt_batch import PromptBatch
from estheory.theory.run_norm import run_norm
from estheory.theory.signal import first_step_share, progress_per_step
from estheory.theory.walk import walk

RUN = {"dim": 10_000, "sigma": 0.01, "alpha": 0.01, "population": 30}
STRONG = Signal(reliability=0.9)


def norm_of(signal=STRONG, step=1, rewards=None, **options):
    config = ESConfig(**RUN | options | {"steps": step})
    return run_norm(config, signal, walk(config, signal, step, rewards), step, rewards)


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, "exact"),
        ({"shaping": "centered-rank"}, "large-N"),
        ({"antithetic": True}, "exact"),
        ({"noise": "low-rank:1"}, "large-N"),
        ({"step": 2}, "large-N"),
    ],
    ids=str,
)
def test_the_law_of_a_steered_step_is_exact_for_one_step_of_independent_members(options, label):
    assert norm_of(**options).label == label


def test_of_rewards_of_few_values_one_step_is_large_n_and_several_are_refused():
    batch = PromptBatch(success=0.5, prompts=1)
    signal = batch.signal(sigma=RUN["sigma"], reliability=0.3)
    rewards = batch.model(signal.gradient_norm * RUN["sigma"])
    assert norm_of(signal, dim=50, rewards=rewards).label == "large-N"
    with pytest.raises(ConfigError, match="ask for one step"):
        norm_of(signal, dim=50, step=2, rewards=rewards)


def test_a_signal_that_cannot_be_told_is_said_with_the_progress_of_all_its_steps():
    signal = Signal(reliability=1e-4)
    found = norm_of(signal, step=5)
    config = ESConfig(**RUN, steps=5)
    flat = walk(config, signal, 5)
    once = progress_per_step(config, signal, None) / first_step_share(config)
    assert found.progress == pytest.approx(5 * once, rel=1e-12)
    assert found.law == flat.norm_law
    coherent = (5 * once) ** 2 / (flat.variance * config.dim)  # of a square of so many coordinates, in its spreads
    assert found.signal_shift == pytest.approx(coherent * math.sqrt(config.dim), rel=1e-12)


def step_predictions(**options):
    config = ESConfig(**RUN | options, steps=5)
    signal = linear_signal(sigma=config.sigma, gradient_norm=1.0, reward_std=0.1)
    return [p for p in predict(config, reward=signal).predictions if p.quantity in OF_ONE_STEP]


OF_ONE_STEP = {Quantity.STEP_NORM, Quantity.GRADIENT_COSINE, Quantity.PROGRESS_PER_STEP, Quantity.REWARD_GAIN_PER_STEP}


def test_what_is_said_of_a_step_is_said_of_the_first():
    assert {p.quantity: p.step for p in step_predictions()} == dict.fromkeys(OF_ONE_STEP, 1)


@pytest.mark.parametrize(
    ("options", "label"),
    [({}, "exact"), ({"shaping": "centered-rank"}, "large-N"), ({"noise": "low-rank:1"}, "large-N")],
    ids=str,
)
def test_a_cosine_is_as_exact_as_its_estimator_and_its_noise(options, label):
    [cosine] = [p for p in step_predictions(**options) if p.quantity is Quantity.GRADIENT_COSINE]
    assert cosine.label == label
