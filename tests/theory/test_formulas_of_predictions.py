"""What ``predict`` hands on is what the theory says: each law against the parts that it is made of."""

import math
from dataclasses import replace

import numpy as np
import pytest

from estheory.cosine_laws import CorrelationLaw, MixedCorrelationLaw
from estheory.landscape import Signal, linear_signal
from estheory.laws import SquaredLaw
from estheory.quantities import Quantity
from estheory.theory import signal, walk
from estheory.theory.adamw import grpo_mean_square
from estheory.theory.curved import comparison, dynamics, fluctuations
from estheory.theory.curved import step as quadratic
from estheory.theory.curved.predictions import OffTask, flat_walk, landscape_signal
from estheory.theory.curved.stationary import stationary_state
from estheory.theory.drift import kl_law, off_task_reward_law
from estheory.theory.grpo import GRPOConfig, against_grpo
from estheory.theory.planning.targets import arm
from estheory.theory.predictions import predict
from estheory.theory.probe import predictions as probe_forecast
from estheory.theory.probe import reward as probed_reward
from estheory.theory.rounding import precision
from estheory.theory.rounding import weights as weight_histograms
from estheory.theory.rounding.precision import NormBand, RoundingEffect
from estheory.theory.rounding.predictions import NormRounding
from estheory.theory.run_norm import run_norm, steered_norm
from tests.theory.test_formulas import config, rows

Q = Quantity
KNOWN = linear_signal(sigma=0.5, gradient_norm=2.0, reward_std=0.8)
WHERE = rows((2.0, 3, 0.4), (0.5, 10, 0.2))


def law_of(forecast, quantity, step=None):
    return forecast.get(quantity, step).law


def test_norms_are_those_of_the_walk():
    c = config("raw", steps=6)
    noise = linear_signal(sigma=0.5, gradient_norm=1e-9, reward_std=0.8)
    found = predict(c, checkpoints=[2, 6], reward=noise)
    for step in (2, 6):
        w = walk.walk(c, noise, step)
        assert law_of(found, Q.DISPLACEMENT_NORM, step) == w.norm_law
        assert law_of(found, Q.COORDINATE_STD, step).value == pytest.approx(math.sqrt(w.variance), rel=1e-14)
        ratio = law_of(found, Q.EFFECTIVE_DIMENSION_RATIO, step)
        assert ratio == SquaredLaw(w.norm_law, 1 / (w.variance * 40))
        assert ratio.mean == pytest.approx(1, rel=1e-12)
    member = law_of(found, Q.MEMBER_PERTURBATION_NORM)
    assert SquaredLaw(member).mean == pytest.approx(0.25 * 40, rel=1e-12)
    assert member.df == 40
    shapes = [(4, 5), (20,)]
    shared = predict(config(noise="shared-seed", steps=2), reward=KNOWN, shapes=shapes)
    assert law_of(shared, Q.MEMBER_PERTURBATION_NORM).df == 20
    assert any("shared seeds multiply both" in word for word in shared.warnings)


def test_a_signal_that_can_be_told_from_the_walk_is_in_every_norm():
    c = config(steps=6)
    found = predict(c, checkpoints=[1, 2, 6], reward=KNOWN, grpo=GRPOConfig(norm=0.5))
    assert law_of(found, Q.DISPLACEMENT_NORM, 1) == law_of(found, Q.STEP_NORM)
    for step in (2, 6):
        w = walk.walk(c, KNOWN, step)
        one, unit = arm(c, KNOWN), step * 0.3
        law = steered_norm(w, one.progress * unit, one.spread)  # what a plan keeps to
        assert SquaredLaw(law_of(found, Q.DISPLACEMENT_NORM, step)).mean == pytest.approx(
            SquaredLaw(law).mean, rel=1e-12
        )
        assert found.get(Q.DISPLACEMENT_NORM, step).label == "large-N"
        assert law_of(found, Q.EFFECTIVE_DIMENSION_RATIO, step).mean > 1.1
    assert law_of(found, Q.NORM_RATIO).mean == pytest.approx(
        law_of(found, Q.DISPLACEMENT_NORM, 6).mean / 0.5, rel=1e-12
    )
    assert not [p for p in found.predictions if p.quantity is Q.MATCHING_POPULATION]
    assert law_of(found, Q.INDEPENDENT_COSINE).mean > 0.05  # two runs share the gradient
    large = predict(config(dim=4_000_000, steps=6), checkpoints=[6], reward=KNOWN)
    assert law_of(large, Q.DISPLACEMENT_NORM) == walk.walk(config(dim=4_000_000), KNOWN, 6).norm_law
    assert large.get(Q.DISPLACEMENT_NORM).label == "exact"


def test_rounding_multiplies_norms_and_keeps_its_error_apart():
    c = config(dtype="bfloat16", steps=4)
    faint = linear_signal(sigma=0.5, gradient_norm=1e-3, reward_std=0.8)
    plain = predict(config(steps=4), reward=faint, grpo=GRPOConfig(norm=0.7), off_task=OffTask(fisher_trace=5.0))
    effects = {
        1: RoundingEffect(variance=0.81, signal=0.7, variance_stderr=0.01, signal_stderr=0.02),
        4: RoundingEffect(variance=0.64, signal=0.6, variance_stderr=0.02, signal_stderr=0.03),
    }
    found = predict(c, reward=faint, rounding=effects, grpo=GRPOConfig(norm=0.7), off_task=OffTask(fisher_trace=5.0))
    for quantity, factor in (
        (Q.DISPLACEMENT_NORM, 0.8),
        (Q.COORDINATE_STD, 0.8),
        (Q.EFFECTIVE_DIMENSION_RATIO, 0.64),
        (Q.NORM_RATIO, 0.8),
        (Q.STEP_NORM, 0.9),
        (Q.MATCHING_POPULATION, 0.64),
        (Q.KL_DRIFT, 0.64),
        (Q.PROGRESS_PER_STEP, 0.7),
        (Q.REWARD_GAIN_PER_STEP, 0.7),
    ):
        assert law_of(found, quantity).mean == pytest.approx(factor * law_of(plain, quantity).mean, rel=1e-12)
    half = 1.96 * 0.02 / (2 * 0.64)
    assert found.get(Q.DISPLACEMENT_NORM).systematic == pytest.approx(half, rel=1e-13)
    assert found.get(Q.EFFECTIVE_DIMENSION_RATIO).systematic == pytest.approx(2 * half, rel=1e-13)
    assert found.get(Q.NORM_RATIO).systematic == pytest.approx(half, rel=1e-13)
    assert found.get(Q.MATCHING_POPULATION).systematic == pytest.approx(2 * half, rel=1e-13)
    assert found.get(Q.STEP_NORM).systematic == pytest.approx(1.96 * 0.01 / (2 * 0.81), rel=1e-13)
    gain, kept = law_of(found, Q.PRECISION_GAIN), law_of(found, Q.PRECISION_SIGNAL)
    assert (gain.mean, gain.std, kept.mean, kept.std) == (0.64, 0.02, 0.6, 0.03)
    assert any(f"multiplies it by {0.7 / 0.9:.3f}" in word for word in found.warnings)
    still = predict(c, rounding={s: RoundingEffect(variance=0.0, signal=0.0) for s in (1, 4)})
    assert law_of(still, Q.DISPLACEMENT_NORM).mean == 0
    exact = predict(c, rounding={s: RoundingEffect(variance=0.9, signal=0.9) for s in (1, 4)})
    assert exact.get(Q.PRECISION_GAIN).label == "mean-field"
    assert predict(replace(c, steps=1), rounding=effects | {1: exact_effect()}).get(Q.PRECISION_GAIN).label == "exact"


def exact_effect():
    return RoundingEffect(variance=0.9, signal=0.95)


def test_unknown_weights_widen_what_is_declared(monkeypatch):
    monkeypatch.setattr(weight_histograms, "weight_family", lambda: {"one": weight_histograms.normal_weights(0.02)})
    c = config(dtype="bfloat16", steps=4)
    band = {1: NormBand(low=0.95, high=1.02), 4: NormBand(low=0.99, high=1.2)}
    found = predict(c, band=band, grpo=GRPOConfig(norm=0.7))
    assert found.get(Q.DISPLACEMENT_NORM).systematic == pytest.approx(0.2)
    assert found.get(Q.STEP_NORM).systematic == pytest.approx(0.05)
    assert found.get(Q.MATCHING_POPULATION).systematic == pytest.approx(0.4)
    closed = precision.unknown_weights_band(c, [1, 4])
    given = predict(c, reward=KNOWN)
    assert given.get(Q.DISPLACEMENT_NORM).systematic == closed[4].half_width
    # what has no closed form is declared as rounded additions alone
    for changes in ({"momentum": 0.5}, {"shaping": "raw", "update_path": "sequential"}):
        run = config(changes.pop("shaping", "zscore"), dtype="bfloat16", steps=4, **changes)
        loose = predict(run, reward=KNOWN)
        assert loose.get(Q.DISPLACEMENT_NORM).systematic == closed[4].half_width
        assert any("rounded additions alone" in word for word in loose.warnings)


def test_cosines_of_checkpoints():
    plain = predict(config(steps=6), checkpoints=[2, 4, 6])
    pairs = {p.where: p.law for p in plain.predictions if p.quantity is Q.CHECKPOINT_COSINE}
    assert pairs == {
        f"{a}|{b}": CorrelationLaw(walk.checkpoint_correlation(config(), a, b), 40.0)
        for a, b in ((2, 4), (2, 6), (4, 6))
    }
    noise = linear_signal(sigma=0.5, gradient_norm=1e-9, reward_std=0.8)
    mixed = predict(config("raw", steps=6), checkpoints=[2, 6], reward=noise)
    assert mixed.get(Q.CHECKPOINT_COSINE).law == MixedCorrelationLaw(14.0, 28.0, 40.0)
    other = law_of(plain, Q.INDEPENDENT_COSINE)
    assert (other.mean, other.std) == (0, pytest.approx(1 / math.sqrt(40)))
    for changes, word in (
        ({"anchor_l1": 0.01}, "L1 anchor"),
        ({"kind": "raw", "momentum": 0.5}, "not all alike"),
    ):
        found = predict(config(steps=6, **changes), checkpoints=[2, 6], reward=noise)
        assert not [p for p in found.predictions if p.quantity is Q.CHECKPOINT_COSINE]
        assert any(word in warning for warning in found.warnings)


def test_bounds_of_the_signal():
    c = config(steps=6)
    bound = signal.coherent_displacement_bound(c, 6)
    share = bound**2 / (walk.walk(c, Signal(), 6).variance * 40)
    assert 0.1 < share < 1
    found = predict(c)
    assert law_of(found, Q.COHERENT_DISPLACEMENT_BOUND).value == bound
    assert law_of(found, Q.SIGNAL_SHARE_BOUND).value == pytest.approx(share, rel=1e-13)
    assert law_of(found, Q.ES_GRPO_COSINE_BOUND).value == pytest.approx(math.sqrt(share), rel=1e-13)
    assert law_of(predict(config(steps=60)), Q.SIGNAL_SHARE_BOUND).value == 1
    for other in (config("raw"), config(noise="shared-seed")):
        made = predict(other, reward=KNOWN, shapes=[(40,)])
        assert not [p for p in made.predictions if p.quantity is Q.SIGNAL_SHARE_BOUND]


def test_one_step_of_a_linear_reward():
    c = config()
    found = predict(c, reward=KNOWN)
    matched = signal.step_norm(c, KNOWN, 40.0)
    assert law_of(found, Q.STEP_NORM).mean == pytest.approx(matched.mean, rel=1e-3)
    assert law_of(found, Q.STEP_NORM).std == pytest.approx(matched.std, rel=1e-2)
    assert law_of(found, Q.GRADIENT_COSINE) == signal.gradient_cosine(c, KNOWN.reliability)
    progress = signal.progress_per_step(c, KNOWN)
    assert law_of(found, Q.PROGRESS_PER_STEP).value == progress
    assert law_of(found, Q.REWARD_GAIN_PER_STEP).value == pytest.approx(2.0 * progress, rel=1e-14)
    anchored = config(anchor_l1=0.05, anchor_form="after")
    none = predict(anchored, reward=KNOWN)
    assert not {Q.STEP_NORM, Q.PROGRESS_PER_STEP, Q.GRADIENT_COSINE} & {p.quantity for p in none.predictions}
    assert any("L1 anchor" in word for word in none.warnings)
    blind = predict(config("raw"), reward=Signal(member_std=0.9))
    assert not [p for p in blind.predictions if p.quantity is Q.PROGRESS_PER_STEP]


def test_against_a_gradient_run():
    c = config(steps=6)
    found = predict(c, grpo=GRPOConfig(lr=1e-3, steps=50, schedule="cosine"))
    norm = math.sqrt(grpo_mean_square(40, 1e-3, 50, "cosine"))
    grpo = law_of(found, Q.GRPO_DISPLACEMENT_NORM)
    assert SquaredLaw(grpo).mean == pytest.approx(norm**2, rel=1e-13)
    assert grpo.df == 40
    w = walk.walk(c, Signal(), 6)
    ratio = law_of(found, Q.NORM_RATIO)
    assert (ratio.scale, ratio.df) == (pytest.approx(w.norm_law.scale / norm, rel=1e-13), w.norm_law.df)
    assert law_of(found, Q.MATCHING_POPULATION).value == pytest.approx(8 * w.variance * 40 / norm**2, rel=1e-13)
    ranked = predict(config("centered-rank"), grpo=GRPOConfig(norm=0.5))
    assert not [p for p in ranked.predictions if p.quantity is Q.MATCHING_POPULATION]
    assert GRPOConfig(lr=1e-3, steps=1).steps == 1


def test_what_is_declared_of_a_norm_is_declared_of_its_ratio_and_twice_of_its_square():
    c = config(steps=6, anchor_l1=0.02)
    w = walk.walk(c, Signal(), 6)
    assert w.declared_error > 0
    length = run_norm(c, Signal(), w, 6)
    ratio, population = against_grpo(c, Signal(), w, length, GRPOConfig(norm=0.5), 6, NormRounding(half_width=0.1))
    assert ratio.systematic == pytest.approx(0.1 + w.declared_error / 2, rel=1e-12)
    assert population.systematic == pytest.approx(0.2 + w.declared_error, rel=1e-12)


# --- with a landscape ---


@pytest.mark.parametrize("kind", ["zscore", "raw", "antithetic"])
def test_predictions_of_a_landscape(kind):
    c = config(kind, alpha=0.05, steps=7)
    where = replace(WHERE, reward_std=10 * WHERE.reward_std) if kind == "raw" else WHERE  # else no norms
    off = OffTask(fisher_trace=9.0, fisher_square_trace=12.0, trace=3.0, gradient_norm=0.4)
    found = predict(c, checkpoints=[3, 7], landscape=where, off_task=off)
    moments = quadratic.step_moments(c, where)
    along = float(where.multiplicity @ (where.gradient * moments.displacement)) / where.gradient_norm
    assert law_of(found, Q.PROGRESS_PER_STEP).value == pytest.approx(along, rel=1e-13)
    assert law_of(found, Q.REWARD_GAIN_PER_STEP).value == quadratic.expected_gain(c, where)
    assert law_of(found, Q.OPTIMAL_ALPHA).value == quadratic.optimal_alpha(c, where)
    assert law_of(found, Q.STATIONARY_REWARD_GAP).value == stationary_state(c, where).gap
    for spread in fluctuations.reward_spread(c, where, [3, 7]):
        assert law_of(found, Q.REWARD, spread.step) == spread.law
        assert found.get(Q.REWARD, spread.step).systematic == spread.systematic
    for step in (3, 7):
        w = flat_walk(c, where, walk.walk(c, landscape_signal(c, where), step), step)
        end = comparison.es_end_point(c, where, step)
        if kind == "zscore":
            assert w.variance == pytest.approx(0.05**2 * step / 8, rel=1e-14)
        else:
            assert (w.variance, w.label) == (end.flat_variance, "mean-field")
        norm = found.get(Q.DISPLACEMENT_NORM, step)
        assert norm.label == "mean-field"
        assert SquaredLaw(norm.law).mean == pytest.approx(end.displacement_square(where), rel=1e-12)
        ratio = law_of(found, Q.EFFECTIVE_DIMENSION_RATIO, step)
        assert ratio.mean == pytest.approx(SquaredLaw(norm.law).mean / (w.variance * 40), rel=1e-12)
        if not w.enough_pairs():
            assert any(f"no kl_drift and no off_task_reward_change at step {step}" in text for text in found.warnings)
            continue
        assert law_of(found, Q.KL_DRIFT, step) == kl_law(w, fisher_trace=9.0, fisher_square_trace=12.0)
        loss = off_task_reward_law(w, trace=3.0, gradient_norm=0.4)
        assert law_of(found, Q.OFF_TASK_REWARD_CHANGE, step) == loss


def test_each_part_of_another_task_stands_alone():
    for off, quantity in (
        (OffTask(fisher_trace=9.0), Q.KL_DRIFT),
        (OffTask(trace=3.0), Q.OFF_TASK_REWARD_CHANGE),
        (OffTask(gradient_norm=0.4), Q.OFF_TASK_REWARD_CHANGE),
    ):
        found = predict(config(steps=3), off_task=off)
        assert [p.quantity for p in found.predictions if p.quantity in (Q.KL_DRIFT, Q.OFF_TASK_REWARD_CHANGE)] == [
            quantity
        ]


def test_a_peak_and_the_optimum_of_a_gradient_run():
    where = rows((2.0, 3, 0.4), (0.05, 37, 0.0))
    c = config(alpha=0.2, steps=200)
    found = predict(c, landscape=where, grpo=GRPOConfig(norm=0.5))
    peak = dynamics.mean_field(c, where).peak
    assert law_of(found, Q.REWARD_PEAK_STEP).value == peak[0]
    gain, reward = found.get(Q.INTERPOLATION_GAIN), found.get(Q.REWARD)
    assert gain.law.mean == pytest.approx(-reward.law.mean / 4, rel=1e-14)
    assert gain.law.std == pytest.approx(reward.law.std / 4, rel=1e-14)
    assert gain.systematic == reward.systematic
    early = predict(replace(c, steps=2), landscape=where)
    assert any("not come down from a peak by step 2" in word for word in early.warnings)
    anchored = predict(config(alpha=0.2, anchor_l1=0.01, steps=3), landscape=where)
    curve = dynamics.mean_field(config(alpha=0.2, anchor_l1=0.01, steps=3), where)
    assert law_of(anchored, Q.REWARD).value == curve.at(3)
    assert anchored.get(Q.REWARD).systematic == pytest.approx(2 / 8 + 0.03)


def test_a_run_that_diverges_has_no_norms_and_no_reward_and_says_why():
    c = config("raw", alpha=30.0, steps=400)
    found = predict(c, landscape=WHERE)
    assert any(word.startswith("no reward: the reward diverges") for word in found.warnings)
    assert any(word.startswith("no stationary_reward_gap") for word in found.warnings)
    with np.errstate(over="ignore", invalid="ignore"):
        end = comparison.es_end_point(c, WHERE, 400).flat_variance
    assert not math.isfinite(end)
    assert not [p for p in found.predictions if p.quantity is Q.DISPLACEMENT_NORM]
    assert any(word.startswith("no norms") for word in found.warnings)


# --- probes ---

MOMENTS = np.array([0.04, 0.01, 0.09, 0.05, 0.002])


def test_the_signal_of_a_probe():
    c = config()
    found = probed_reward.probed_signal(c, MOMENTS)
    assert found.reliability == pytest.approx(4 / 9)
    assert found.gradient_norm == pytest.approx(0.2 / 0.5)
    assert found.member_std == pytest.approx(0.3)
    assert found.even_share == pytest.approx(1 / 9)
    beyond = probed_reward.probed_signal(c, np.array([0.2, 0.2, 0.1, 0.0, 0.0]))
    assert (beyond.reliability, beyond.even_share) == (1, 1)
    assert probed_reward.probed_signal(c, np.array([0.2, -0.2, 0.3, 0.0, 0.0])).even_share == 0
    where = probed_reward.gradient_landscape(c, MOMENTS, 0.3)
    assert where.gradient_norm == pytest.approx(0.4)
    assert where.gradient_curvature / 0.16 == pytest.approx(0.3)
    assert where.member_std(0.5) == pytest.approx(0.3)
    assert probe_forecast.early_slope_weights(4) @ (3 + 2.0 * np.arange(5)) == pytest.approx(2)
    assert probe_forecast.early_slope_weights(3) @ np.ones(4) == pytest.approx(0, abs=1e-15)


def test_the_forecast_of_a_probe_by_its_parts():
    c = config(alpha=0.05, steps=20)
    probe = probed_reward.ProbedReward(mean=MOMENTS, covariance=np.zeros((5, 5)))
    found, missing = probe_forecast.predict_from_probe(c, probe, [12])
    assert not missing or all("peak" in word for word in missing)
    got = {p.quantity: p for p in found}
    known = probed_reward.probed_signal(c, MOMENTS)
    assert got[Q.REWARD_RELIABILITY].mean == pytest.approx(5 / 9)
    assert got[Q.MEMBER_REWARD_STD].mean == pytest.approx(0.3)
    assert got[Q.PROGRESS_PER_STEP].mean == pytest.approx(signal.progress_per_step(c, known))
    cosine = signal.gradient_cosine(c, 4 / 9)
    assert got[Q.GRADIENT_COSINE].mean == pytest.approx(cosine.mean)
    assert got[Q.GRADIENT_COSINE].spread == pytest.approx(cosine.std)
    trace, along = 2 * 0.05 / 0.25, 0.002 / 0.25
    assert got[Q.CRITICAL_POPULATION].mean == pytest.approx(trace * 0.09 / along)
    progress = quadratic.mean_population_std(8) * 0.04 / (0.5 * 0.3)
    assert got[Q.OPTIMAL_ALPHA].mean == pytest.approx(8 * progress / (trace + 6 * along / 0.09))
    curvature = 0.002 / (0.25 * 0.04)
    where = probed_reward.gradient_landscape(c, MOMENTS, curvature)
    curve = dynamics.mean_field(c, where, 20).reward
    walked = 0.05**2 / 8 * np.arange(21)
    rise = curve - curve[0] - walked * (0.05 / 0.25 - 0.5 * curvature)
    change = got[Q.REWARD_CHANGE]
    assert (change.mean, change.step) == (pytest.approx(rise[12], rel=1e-12), 12)
    flat = 1e-6 * 0.4 / (20 * signal.progress_per_step(c, known))
    line = dynamics.mean_field(c, probed_reward.gradient_landscape(c, MOMENTS, flat), 20).reward
    straight = line - line[0]
    assert change.systematic == pytest.approx(abs(straight[12] - rise[12]) / abs(rise[12]), rel=1e-9)
    one = 0.05**2 / 8
    assert change.spread == pytest.approx(math.hypot(0.4 * math.sqrt(one * 12), one * 12 * 0.1 / 0.25), rel=1e-12)
    early = got[Q.REWARD_GAIN_PER_STEP]
    weights = probe_forecast.early_slope_weights(8)
    assert early.mean == pytest.approx(float(weights @ rise[:9]), rel=1e-12)
    carried = np.array([weights[k:].sum() for k in range(1, 9)])
    spread = math.hypot(0.4 * math.sqrt(one * float(carried @ carried)), one * carried.sum() * 0.1 / 0.25)
    assert (early.spread, early.step) == (pytest.approx(spread, rel=1e-12), 1)
    still, _ = probe_forecast.predict_from_probe(c, replace(probe, steered=False), [12])
    permuted = next(p for p in still if p.quantity is Q.REWARD_CHANGE)
    assert permuted.mean == pytest.approx(-walked[12] * 0.05 / 0.25, rel=1e-12)
    assert (permuted.systematic, permuted.label) == (0, "small-step")
    assert not [p for p in still if p.quantity in (Q.PROGRESS_PER_STEP, Q.REWARD_PEAK_STEP_LOWER_BOUND)]


@pytest.mark.parametrize("steps", [3, 4, 9, 10])
def test_few_steps_have_no_early_slope(steps):
    c = config(alpha=0.05, steps=steps)
    probe = probed_reward.ProbedReward(mean=MOMENTS, covariance=np.zeros((5, 5)))
    found, _ = probe_forecast.predict_from_probe(c, probe, [2])
    early = [p for p in found if p.quantity is Q.REWARD_GAIN_PER_STEP]
    assert len(early) == (steps > 3)
    if early:
        assert f"first {min(8, steps - 1)} steps" in early[0].assumptions[-1]


def test_a_probe_without_a_peak_or_with_one():
    c = config(alpha=0.3, steps=60)
    steep = np.array([0.04, 0.01, 0.09, 0.3, 0.02])
    probe = probed_reward.ProbedReward(mean=steep, covariance=np.zeros((5, 5)))
    found, missing = probe_forecast.predict_from_probe(c, probe, [5])
    peaks = [p for p in found if p.quantity is Q.REWARD_PEAK_STEP_LOWER_BOUND]
    curve = probed_reward.mean_change(c, probe, steep, 60, straight=False)
    assert 0 <= int(np.argmax(curve)) < 60
    assert peaks[0].mean == int(np.argmax(curve))
    low = replace(probe, ceiling=float(curve.max()) * 0.9)
    _, missing = probe_forecast.predict_from_probe(c, low, [int(np.argmax(curve)) + 1, 59])
    assert len([word for word in missing if "reward_change" in word]) == 1
    long = probed_reward.ProbedReward(mean=MOMENTS, covariance=np.zeros((5, 5)))
    _, missing = probe_forecast.predict_from_probe(config(alpha=1e-4, steps=10), long, [5])
    assert any("rise through all 10 steps" in word for word in missing)
    _, missing = probe_forecast.predict_from_probe(config("antithetic", alpha=0.05, steps=10), long, [5])
    assert sum("only for z-scored independent members" in word for word in missing) == 2
    _, missing = probe_forecast.predict_from_probe(config("raw", alpha=900.0, steps=300), long, [299])
    assert any("diverges" in word for word in missing)
    lost = probed_reward.ProbedReward(mean=np.array([0.04, 0.01, 0.09, -0.05, 0.002]), covariance=np.zeros((5, 5)))
    _, missing = probe_forecast.predict_from_probe(c, lost, [5])
    assert any("no positive trace" in word for word in missing)


def test_a_number_that_the_probe_does_not_resolve_is_missing():
    endless = probed_reward.ProbedReward(mean=np.array([0.04, 0.01, np.inf, 0.05, 0.002]), covariance=np.zeros((5, 5)))
    with np.errstate(invalid="ignore"):
        found, missing = probe_forecast.predict_from_probe(config(alpha=0.05, steps=3), endless, [])
    assert f"no {Q.MEMBER_REWARD_STD}: the probe does not resolve it" in missing
    assert Q.MEMBER_REWARD_STD not in {p.quantity for p in found}


def test_one_coordinate_that_a_signal_moves_is_no_flat_one():
    """One step of four members: the only coordinate has an rms of .049, a flat one .034."""
    for dim, signal_of, there in ((1, 0.9, False), (1, 0.0, True), (2, 0.9, True)):
        run = replace(config(alpha=0.05, steps=1), dim=dim)
        found = predict(run, reward=Signal(reliability=signal_of))
        assert any(p.quantity is Q.COORDINATE_STD for p in found.predictions) is there
