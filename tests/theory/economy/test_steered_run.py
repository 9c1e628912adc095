"""The displacement of a run by its walk and its coherent part, against runs on quadratics that know their gradients."""

import math

import numpy as np
import pytest

from estheory.quantities import Quantity
from estheory.theory.economy.coherent import coherent_part
from estheory.theory.economy.ledger import Sum, ledger
from estheory.theory.economy.ledger_entry import LoggedUpdate
from estheory.theory.economy.steered_run import SteeredRun, TaskDrift, steered_run
from tests.statistics import Z
from tests.theory.economy.test_coherent import CASES, DIM, RULES, STEPS, one_run, quadratic, runs
from tests.variants import variants

FLAT = {name: CASES[name] for name in ("straight", "few directions")}  # curvature would pull the walk back
KNOWN = {"t": TaskDrift(trace=3.0, trace_std=0.1, curvature=2.0, curvature_stderr=0.2)}


def law(run, quantity, step=STEPS):
    return next(p for p in run.predictions(step) if p.quantity is quantity).law


@pytest.mark.parametrize("name", variants(FLAT, fast={"few directions"}))
def test_norm_and_cosine_are_those_of_the_displacement(name):
    found = runs(20, FLAT[name], replicas=40)
    laws = [SteeredRun(part=part, dim=DIM) for _, _, part in found]
    squares = np.array([theta @ theta for theta, _, _ in found])
    told = np.array([run.norm(STEPS) ** 2 for run in laws])
    walks = np.array([run.walk(STEPS).value * DIM for run in laws])
    band = 0.05  # mean-field, and small-step where curvature pulls the walk back
    error = Z * np.std(squares - told) / math.sqrt(len(found))
    assert abs(np.mean(squares - told)) < band * told.mean() + error
    assert np.mean(squares - walks) > error  # control: the walk alone is too short
    cosines = np.array(
        [theta @ steering[0] / np.linalg.norm(theta) / np.linalg.norm(steering[0]) for theta, steering, _ in found]
    )
    expected = np.array([run.cosine(STEPS).value for run in laws])
    scatter = Z * np.std(cosines - expected) / math.sqrt(len(found))
    assert abs(np.mean(cosines - expected)) < 0.08 * expected.mean() + scatter
    assert abs(np.mean(cosines - 0.5 * expected)) > 0.08 * expected.mean() + scatter  # control
    z = [
        (c - law(run, Quantity.GRADIENT_COSINE).mean) / law(run, Quantity.GRADIENT_COSINE).std
        for c, run in zip(cosines, laws, strict=True)
    ]
    assert 0.4 < np.std(z) < 1.8


def test_kl_is_the_walks_and_the_signals():
    _, rows, _ = one_run(np.random.default_rng(21), *quadratic(*CASES["straight"]))
    run = steered_run(ledger(rows, RULES), RULES, DIM, KNOWN)
    walk, square = run.walk(STEPS).value, run.square(STEPS).value
    assert law(run, Quantity.KL_DRIFT).mean == pytest.approx(0.5 * walk * 3 + 0.5 * square * 2)
    assert not any(p.quantity is Quantity.KL_DRIFT for p in SteeredRun(part=run.part, dim=DIM).predictions(STEPS))


def test_kl_of_runs_is_met_where_it_is_quadratic_and_never_negative():
    """KL of a Fisher matrix that is the same in all directions but one, the gradient's."""
    found = runs(25, CASES["straight"], replicas=40)
    theta = np.array([each for each, _, _ in found])
    each, along = 0.1, 6.0
    kls = 0.5 * each * (theta**2).sum(axis=1) + 0.5 * (along - each) * theta[:, 0] ** 2
    known = TaskDrift(trace=each * DIM, trace_std=0.1, curvature=along, curvature_stderr=0.0)
    laws = [law(SteeredRun(part=part, dim=DIM, drift={"t": known}), Quantity.KL_DRIFT) for _, _, part in found]
    told = np.array([one.mean for one in laws])
    error = Z * np.std(kls - told) / math.sqrt(len(found))
    assert abs(np.mean(kls - told)) < 0.05 * told.mean() + error
    assert abs(np.mean(kls - 0.8 * told)) > 0.05 * told.mean() + error  # control
    unclear = TaskDrift(trace=0.1, trace_std=0.5, curvature=-3.0, curvature_stderr=4.0)
    lowest = law(SteeredRun(part=found[0][2], dim=DIM, drift={"t": unclear}), Quantity.KL_DRIFT)
    assert lowest.interval(0.95)[0] == 0.0
    assert lowest.mean > 0


def test_later_steps_go_on_ever_more_slowly_and_are_known_less():
    _, rows, _ = one_run(np.random.default_rng(22), *quadratic(*CASES["straight"]))
    half = SteeredRun(part=coherent_part(ledger(rows[:15], RULES), RULES), dim=DIM)
    lengths = [law(half, Quantity.COHERENT_DISPLACEMENT, step) for step in (15, 20, 25, 30)]
    gains = np.diff([each.mean for each in lengths])
    assert (gains > 0).all()
    assert gains[0] > gains[1] > gains[2]
    assert lengths[3].std > lengths[0].std
    assert law(half, Quantity.DISPLACEMENT_NORM, 30).std > 2 * law(half, Quantity.DISPLACEMENT_NORM, 15).std
    whole = SteeredRun(part=coherent_part(ledger(rows, RULES), RULES), dim=DIM)
    later = law(half, Quantity.DISPLACEMENT_NORM, 30)
    assert abs(whole.norm(30) - later.mean) < 4 * later.std


@pytest.mark.parametrize("step", [15, 25])
def test_spreads_written_out(step):
    """Of the walk's own scatter, of the ledger's errors, and of what later updates add."""
    _, rows, _ = one_run(np.random.default_rng(22), *quadratic(*CASES["straight"]))
    run = SteeredRun(part=coherent_part(ledger(rows[:15], RULES), RULES), dim=DIM, drift=KNOWN)
    (v, error), square, cosine = (run.walk(step).value, run.walk(step).stderr), run.square(step), run.cosine(step)
    assert (error > 0) == (step > 15)
    behind = run.part.walk
    assert run.walk(16).stderr > 0
    if step > 15:  # at the pace of the last four updates
        assert v == pytest.approx(behind[14] + 10 * (behind[14] - behind[10]) / 4, rel=1e-12)
        assert error == pytest.approx(10 * np.std(np.diff(behind, prepend=0.0)), rel=1e-12)
        later = run.part.estimate(lambda motion: float(motion.until(step).square()[-1]))
        added = later.value - run.square(15).value
        assert square.stderr == pytest.approx(math.hypot(later.stderr, added / 2), rel=1e-12)
    norm = math.sqrt(v * DIM + square.value)
    of_square = math.sqrt(2 * DIM * v**2 + 4 * v * square.value + (DIM * error) ** 2 + square.stderr**2)
    assert law(run, Quantity.DISPLACEMENT_NORM, step).std == pytest.approx(of_square / norm / 2, rel=1e-9)
    length = law(run, Quantity.COHERENT_DISPLACEMENT, step)
    assert length.location == pytest.approx(math.sqrt(square.value))
    assert length.scale == pytest.approx(square.stderr / math.sqrt(4 * square.value))
    own = (1 - cosine.value**2) * cosine.stderr
    across = math.sqrt(v / norm**2 * (1 - cosine.value**2) * (1 - cosine.value**2 / 2))
    assert law(run, Quantity.GRADIENT_COSINE, step).std == pytest.approx(math.hypot(own, across), rel=1e-9)
    kl = law(run, Quantity.KL_DRIFT, step)
    parts = (0.5 * v * 3 * 0.1, 0.5 * error * 3, square.stderr, 0.5 * square.value * 0.2)  # of KNOWN
    assert kl.scale == pytest.approx(math.sqrt(sum(part**2 for part in parts)), rel=1e-9)


def test_without_mirrored_members_the_band_reaches_from_none_to_all_of_it():
    found = runs(23, CASES["straight"], mirrored=False, replicas=1)[0][2]
    run = SteeredRun(part=found, dim=DIM)
    told = next(p for p in run.predictions(STEPS) if p.quantity is Quantity.COHERENT_DISPLACEMENT)
    assert told.systematic == 1.0
    assert any("not mirrored" in words for words in told.assumptions)
    assert run.cosine(STEPS).value * run.norm(STEPS) == pytest.approx(run.along_first(STEPS).value / 2)
    norm = next(p for p in run.predictions(STEPS) if p.quantity is Quantity.DISPLACEMENT_NORM)
    assert norm.systematic == pytest.approx(run.square(STEPS).value / 4 / run.norm(STEPS) ** 2)
    with_kl = SteeredRun(part=found, dim=DIM, drift=KNOWN)
    kl = next(p for p in with_kl.predictions(STEPS) if p.quantity is Quantity.KL_DRIFT)
    signal = 0.5 * run.square(STEPS).value / 2 * 2
    assert kl.systematic == pytest.approx(signal / (signal + 0.5 * run.walk(STEPS).value * 3))


def test_a_run_that_never_moved_has_no_direction():
    tied = [LoggedUpdate(step=t, prompt_rewards=np.ones((16, 8)), coefficients=np.zeros(16)) for t in range(1, 9)]
    run = SteeredRun(part=coherent_part(ledger(tied, RULES), RULES), dim=DIM, drift=KNOWN)
    assert run.cosine(8) == Sum(value=0.0, stderr=0.0)
    assert list(run.predictions(8)) == []


def test_a_log_without_its_start_or_its_size_tells_nothing():
    _, rows, _ = one_run(np.random.default_rng(24), *quadratic(*CASES["straight"]))
    assert steered_run(ledger(rows, RULES), RULES, None) is None
    assert steered_run(ledger(rows[3:], RULES), RULES, DIM) is None
    assert steered_run(ledger(rows[:2], RULES), RULES, DIM) is None
