"""Forecasts of 0/1 rewards against brute force in every coordinate; the Gaussian forms must fail."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as h
from scipy import stats

from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory import walk
from estheory.theory.curved.predictions import OffTask
from estheory.theory.estimators import CentredRanks
from estheory.theory.predictions import predict
from estheory.theory.prompt_batch import PromptBatch
from estheory.theory.ties import LengthsLaw, TiedLaw, added_lengths, binomial_probabilities
from tests.statistics import agrees, brute_force_steps, shape_rewards, variance_agrees
from tests.variants import variants

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


ONE_STEPS = [(shaping, prompts) for shaping in ("zscore", "centered-rank", "raw") for prompts in (1, 4)]


@pytest.mark.parametrize(
    "run",
    variants(ONE_STEPS, fast=[("zscore", 1), ("centered-rank", 4)]),
    ids=lambda run: f"{run[0]}-{run[1]}",
)
def test_one_step_of_binomial_rewards(run):
    shaping, prompts = run
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


@pytest.mark.parametrize("shaping", ["raw", "centered-rank"])
@pytest.mark.parametrize(("prompts", "steps"), [(1, 1), (1, 3), (2, 1), (2, 2)])
def test_rewards_of_few_values_have_few_lengths(shaping, prompts, steps):
    """Tails at seven places: 1e-6 each; a chi-square of the same two moments, and the ties alone, must fail."""
    members, dim, replicas = 4, 300, 100_000
    batch = PromptBatch(success=0.5, prompts=prompts)
    config = ESConfig(dim=dim, sigma=SIGMA, alpha=ALPHA, population=members, steps=steps, shaping=shaping)
    forecast = predict(config, reward=batch.signal(sigma=SIGMA), batch=batch, checkpoints=[steps])
    norm = forecast.get(Quantity.DISPLACEMENT_NORM, steps)
    assert (norm.label, type(norm.law)) == ("exact", LengthsLaw)
    rng = np.random.default_rng(5)
    rewards = rng.binomial(prompts, 0.5, (replicas, steps, members)) / prompts
    weights = shape_rewards(rewards.reshape(-1, members), shaping, SIGMA).reshape(replicas, steps * members)
    moved = np.einsum("rn,rnd->rd", weights[:4000], rng.standard_normal((4000, steps * members, dim)))
    lengths = np.sqrt((weights**2).sum(axis=1) * rng.chisquare(dim, replicas))  # given rewards: every further replica
    measured = ALPHA / members * np.concatenate([np.linalg.norm(moved, axis=1), lengths[4000:]])
    places = [norm.law.quantile(p) for p in (0.2, 0.4, 0.6, 0.8, 0.9, 0.975, 0.995)]

    def holds(law):
        return all(agrees(measured <= x, law.tails(x)[0]) for x in places)

    assert holds(norm.law)
    assert agrees(measured, norm.law.mean)
    assert variance_agrees(measured, norm.law.std**2)
    w = walk.walk(config, batch.signal(sigma=SIGMA), steps, None, batch.model(0.0))
    assert not holds(w.norm_law)
    if steps == 1:  # three steps add up to nearly a chi-square
        assert not holds(TiedLaw(w.norm_law, steps, 1 - w.tie_probability, 0.5))


@pytest.mark.parametrize(("members", "prompts"), [(3, 64), (5, 3)])
def test_lengths_of_ranks_of_few_members_whatever_their_values(members, prompts):
    """Their law is exact by counting how many are equal; a chi-square of the same two moments must fail."""
    batch, replicas = PromptBatch(success=0.1, prompts=prompts), 200_000
    rule = CentredRanks(population=members, sigma=1.0, alpha=1.0)
    one = rule.variance(Signal(), batch.model(0.0))
    rewards = np.random.default_rng(6).binomial(prompts, 0.1, (replicas, members))
    square = np.sum(rule.shape(rewards) ** 2, axis=1)
    square = square / square.mean()
    assert sum(chance for _, chance in one.lengths) == pytest.approx(1, abs=1e-12)
    assert len(one.lengths) < 10
    below = 0.0
    for length, chance in one.lengths[:-1]:
        below += chance
        assert agrees(square < length + 0.05, below)
    plain = stats.chi2(one.mixing_df)
    assert not agrees(square < 1.0, (1 - one.tie_probability) * plain.cdf(one.mixing_df) + one.tie_probability)


@pytest.mark.parametrize("shaping", ["raw", "centered-rank"])
def test_the_norm_of_a_step_that_few_successes_steer(shaping):
    """Longer steps go farther along the gradient: spread to 6 %; without that it is 13 to 19 % off, and 50 with ties
    alone, which a step with momentum and an anchor once had."""
    dim, members, success, replicas = 10, 128, 0.02, 20_000
    batch = PromptBatch(success=success, prompts=1)
    slope = batch.reward_std / SIGMA
    config = ESConfig(
        dim=dim, sigma=SIGMA, alpha=ALPHA, population=members, shaping=shaping, momentum=0.9, anchor_l2=0.01
    )
    known = batch.signal(sigma=SIGMA, gradient_norm=slope)
    law = predict(config, reward=known, batch=batch).get(Quantity.STEP_NORM).law
    rng = np.random.default_rng(11)
    x = rng.standard_normal((replicas, members))
    rewards = rng.binomial(1, np.clip(success + SIGMA * slope * x, 0, 1))
    weights = shape_rewards(rewards, shaping, SIGMA)
    square = (weights * x).sum(axis=1) ** 2 + (weights**2).sum(axis=1) * rng.chisquare(dim - 1, replicas)
    measured = 0.1 * ALPHA / members * np.sqrt(square)
    assert measured.mean() == pytest.approx(law.mean, rel=0.02)
    assert measured.std() == pytest.approx(law.std, rel=0.06)
    low, high = law.interval(0.95)
    assert np.mean((measured >= low) & (measured <= high)) == pytest.approx(0.955, abs=0.01)
    w = walk.walk(config, known, 1, None, batch.model(SIGMA * slope))
    blind = LengthsLaw(law.root, w.lengths, 0.5)
    assert measured.std() > 1.1 * blind.std
    assert measured.std() > 1.4 * TiedLaw(law.root, 1, 1 - w.tie_probability, 0.5).std


def test_no_kl_of_few_steps_that_tie_under_momentum():
    """Two steps of momentum weigh 10 and 19: a number of steps that moved is not what they were long."""
    batch = PromptBatch(success=0.3, prompts=8)
    known = {"batch": batch, "reward": batch.signal(sigma=SIGMA), "off_task": OffTask(fisher_trace=1.0)}
    config = ESConfig(dim=300, sigma=SIGMA, population=3, shaping="centered-rank", momentum=0.9, steps=2)
    forecast = predict(config, checkpoints=[1, 2], **known)
    assert [p.step for p in forecast.predictions if p.quantity is Quantity.KL_DRIFT] == [1]
    assert any("step 2" in warning and "momentum" in warning for warning in forecast.warnings)
    plain = predict(replace(config, momentum=0.0), checkpoints=[1, 2], **known)
    assert [p.step for p in plain.predictions if p.quantity is Quantity.KL_DRIFT] == [1, 2]


def test_lengths_are_left_out_where_they_are_many():
    """Then the law is that of the same two moments, and says that it is one."""
    for prompts, members, steps, momentum in ((64, 30, 1, 0.0), (1, 30, 500, 0.0), (1, 4, 2, 0.5)):
        batch = PromptBatch(success=0.5, prompts=prompts)
        config = ESConfig(dim=300, sigma=SIGMA, population=members, steps=steps, shaping="raw", momentum=momentum)
        norm = predict(config, reward=batch.signal(sigma=SIGMA), batch=batch).get(Quantity.DISPLACEMENT_NORM)
        assert norm.label == "large-N"
        assert not isinstance(norm.law, LengthsLaw)


def test_an_anchor_where_most_steps_tie_has_no_law():
    """The pull acts where rewards tie, too: the closure is off by more than half, and its band says so."""
    members, steps, replicas, pull = 4, 40, 4000, 0.3
    batch = PromptBatch(success=0.02, prompts=1)
    signal, model = batch.signal(sigma=SIGMA), batch.model(0.0)
    scale = ALPHA / math.sqrt(members)
    config = ESConfig(dim=2000, sigma=SIGMA, alpha=ALPHA, population=members, steps=steps, anchor_l1=pull * scale)
    found = walk.walk(config, signal, steps, None, model)
    rng, place = np.random.default_rng(4), np.zeros((replicas, 20))
    for _ in range(steps):
        moves = np.ptp(rng.binomial(1, 0.02, (replicas, members)), axis=1, keepdims=True) > 0
        place = place - config.anchor_l1 * np.sign(place) + scale * moves * rng.standard_normal(place.shape)
    measured = float(np.mean(place**2))
    assert abs(measured / found.variance - 1) > 0.5
    assert found.declared_error > abs(measured / found.variance - 1)
    forecast = predict(config, reward=signal, batch=batch)
    assert forecast.get(Quantity.COORDINATE_STD).systematic >= 1
    often = PromptBatch(success=0.5, prompts=64)
    seldom = predict(config, reward=often.signal(sigma=SIGMA), batch=often)
    assert seldom.get(Quantity.COORDINATE_STD).systematic < 0.1


def test_added_lengths():
    step = ((0.0, 0.2), (0.5, 0.3), (1.7, 0.5))
    lengths, chances = np.array(added_lengths(step, 5)).T
    # generating function: all orders of five steps
    every = np.array(np.meshgrid(*[range(3)] * 5)).reshape(5, -1)
    total, chance = np.array(step)[every, 0].mean(axis=0), np.array(step)[every, 1].prod(axis=0)
    for power in (1, 2, 3):
        assert chances @ lengths**power == pytest.approx(chance @ total**power, rel=1e-12)
    assert lengths.size == 21
    assert added_lengths(step, 10**6) is None
    assert added_lengths(((1.0, 1.0),), 10**15) == ((1.0, 1.0),)


@pytest.mark.parametrize("shaping", ["zscore", "centered-rank", "raw"])
def test_rewards_without_signal_have_no_progress(shaping):
    for prompts in (1, 3, 8, 64):
        batch = PromptBatch(success=0.02, prompts=prompts)
        config = ESConfig(dim=1000, sigma=SIGMA, population=10, shaping=shaping)
        for reward in (batch.signal(sigma=SIGMA, reliability=0.0), batch.signal(sigma=SIGMA, gradient_norm=0.0)):
            for p in predict(config, reward=reward, batch=batch).predictions:
                if p.quantity in (Quantity.PROGRESS_PER_STEP, Quantity.GRADIENT_COSINE, Quantity.REWARD_GAIN_PER_STEP):
                    assert p.law.mean == 0


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
