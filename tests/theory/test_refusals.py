"""What the theory refuses or warns of, in the words a user sees, and the branches that other tests do not reach."""

import math

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory.curved import step as quadratic
from estheory.theory.curved.error import stationary_declared_error
from estheory.theory.curved.predictions import landscape_signal
from estheory.theory.curved.ranges import step_range
from estheory.theory.curved.spectra import two_scale
from estheory.theory.curved.stationary import stationary_state
from estheory.theory.grpo import GRPOConfig
from estheory.theory.planning.choices import Choices
from estheory.theory.predictions import predict
from estheory.theory.prompt_batch import PromptBatch

RUN = ESConfig(dim=1005, sigma=0.01, alpha=0.01, population=30, steps=40)
SILENT = Landscape(dim=1005, eigenvalue=[0.0], multiplicity=[5], offset=[0.0])


def changed(**fields):
    return ESConfig(**({"dim": 1005, "sigma": 0.01, "alpha": 0.01, "population": 30, "steps": 40} | fields))


REFUSED = {
    "no sigma": (lambda: Choices(sigmas=()), "no sigma"),
    "equal rewards": (lambda: landscape_signal(RUN, SILENT), "all members have the same reward"),
    "a GRPO run of nothing": (lambda: GRPOConfig(), "nothing is known"),
    "one number too many": (
        lambda: PromptBatch(success=0.5, prompts=8).signal(sigma=0.1, reliability=0.1, gradient_norm=1.0),
        "one too many",
    ),
    "a reliability of 1": (
        lambda: PromptBatch(success=0.5, prompts=8).signal(sigma=0.1, reliability=1.0),
        "reliability must lie in",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_reason(name):
    call, reason = REFUSED[name]
    with pytest.raises(ConfigError, match=reason):
        call()


def test_nothing_to_say_of_steps_without_spread():
    assert step_range(RUN, SILENT) == ()
    assert step_range(changed(shaping="raw"), two_scale()) == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"noise": "low-rank:4"}, "low-rank noise: curved directions"),
        ({"noise": "shared-seed"}, "shared seeds: curved directions"),
        ({"anchor_l1": 1e-4}, "L1 anchor"),
    ],
)
def test_warnings_on_curved_ground(fields, words):
    shapes = [(15, 67)] if "noise" in fields else None
    found = predict(changed(**fields), checkpoints=(20, 40), landscape=two_scale(), shapes=shapes)
    assert any(words in warning for warning in found.warnings)
    plain = predict(RUN, checkpoints=(20, 40), landscape=two_scale())
    assert not any(words in warning for warning in plain.warnings)


def test_no_cosine_of_checkpoints_with_an_l1_anchor():
    found = predict(changed(anchor_l1=1e-4), checkpoints=(20, 40), reward=Signal())
    assert "no checkpoint_cosine with an L1 anchor" in found.warnings
    assert not any(p.quantity is Quantity.CHECKPOINT_COSINE for p in found.predictions)
    assert any(p.quantity is Quantity.CHECKPOINT_COSINE for p in predict(RUN, checkpoints=(20, 40)).predictions)


def test_the_reward_s_spread_follows_the_run_where_the_shaping_keeps_it():
    """Raw rewards: the walk of the flat directions slows as the rewards come together."""
    raw = changed(shaping="raw", alpha=1e-4)
    where = two_scale()
    found = predict(raw, checkpoints=(1, 40), landscape=where)
    late = found.get(Quantity.COORDINATE_STD, 40)
    assert late.label == "mean-field"
    first = found.get(Quantity.COORDINATE_STD, 1)
    assert late.law.mean < math.sqrt(40) * first.law.mean
    assert predict(RUN, checkpoints=(1, 40), landscape=where).get(Quantity.COORDINATE_STD, 40).label == "exact"


def test_a_prediction_that_is_not_there():
    found = predict(RUN, checkpoints=(40,))
    with pytest.raises(KeyError, match="no prediction of kl_drift at step 40"):
        found.get(Quantity.KL_DRIFT, 40)
    with pytest.raises(KeyError, match="no prediction of kl_drift"):
        found.get(Quantity.KL_DRIFT)


def test_no_matching_population_where_its_formula_does_not_hold():
    grpo = GRPOConfig(norm=0.01)
    by_rank = predict(changed(shaping="centered-rank"), checkpoints=(40,), grpo=grpo)
    kinds = {p.quantity for p in by_rank.predictions}
    assert Quantity.NORM_RATIO in kinds
    assert Quantity.MATCHING_POPULATION not in kinds
    assert Quantity.MATCHING_POPULATION in {p.quantity for p in predict(RUN, checkpoints=(40,), grpo=grpo).predictions}


def test_cosine_and_progress_of_shared_seeds_carry_a_warning():
    signal = Signal(reliability=0.1)
    words = "cosine and progress are for independent noise"
    shared = predict(changed(noise="shared-seed"), checkpoints=(40,), reward=signal, shapes=[(5, 201)])
    assert any(words in warning for warning in shared.warnings)
    assert not any(words in warning for warning in predict(RUN, checkpoints=(40,), reward=signal).warnings)


def test_rewards_of_prompts_with_a_spectrum_are_taken_as_gaussian():
    batch = PromptBatch(success=0.5, prompts=64)
    where = two_scale()
    found = predict(RUN, checkpoints=(40,), landscape=where, batch=batch)
    assert any("0/1 rewards are taken as Gaussian with a spectrum" in warning for warning in found.warnings)


def test_ties_with_a_spectrum_p_values_and_draws():
    """The law of runs whose members may tie: its p-value at 0 counts the runs that never moved; its draws follow it."""
    batch = PromptBatch(success=0.02, prompts=2)
    found = predict(changed(population=4, steps=3), checkpoints=(3,), reward=batch.signal(sigma=0.01), batch=batch)
    law = found.get(Quantity.DISPLACEMENT_NORM, 3).law
    still = law.tails(0.0)[0]
    assert 0.01 < still < 1
    assert law.pvalue(0.0) == pytest.approx(min(1.0, 2 * still))
    draws = law.sample(np.random.default_rng(0), 20_000)
    share = float(np.mean(draws == 0))
    assert abs(share - still) < 4.8916 * math.sqrt(still * (1 - still) / 20_000)
    assert abs(draws.mean() - law.mean) < 4.8916 * law.std / math.sqrt(20_000)
    assert abs(draws.mean() - law.mean / (1 - still)) > 4.8916 * law.std / math.sqrt(20_000)  # had all of them moved


def test_no_declared_error_where_the_recursion_is_exact():
    where = two_scale()
    raw = changed(shaping="raw", alpha=1e-5)
    assert stationary_declared_error(raw, where, None) == 0.0
    momentum = changed(momentum=0.5)
    state = stationary_state(momentum, where)
    assert stationary_declared_error(momentum, where, state) in (2 / 30, stationary_declared_error(RUN, where, state))


def test_shared_seed_progress_is_for_z_scores():
    call = quadratic.shared_seed_progress
    with pytest.raises(ConfigError, match="z-scores"):
        call(changed(shaping="raw"), gradient_norm=1.0, covariance_ratio=1.0, other_std=0.1)


def test_the_band_of_unknown_weights_is_of_rounded_additions_alone():
    plain = predict(changed(dtype="bfloat16"), checkpoints=(40,))
    anchored = predict(changed(dtype="bfloat16", anchor_l2=0.01), checkpoints=(40,))
    words = "rounded additions alone"
    assert any(words in warning for warning in anchored.warnings)
    assert not any(words in warning for warning in plain.warnings)
