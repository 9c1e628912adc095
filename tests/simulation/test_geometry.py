"""The geometry of ES and gradient runs: what is measured is what it says, and what theory predicts of it holds."""

from dataclasses import replace

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.laws import NormalLaw, PointLaw
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.simulation.direct import DirectES
from estheory.simulation.geometry import geometry
from estheory.simulation.geometry_observed import geometry_pairs
from estheory.simulation.geometry_results import LINE, METHODS, PROBES
from estheory.simulation.gradient_estimators import GroupAdvantage
from estheory.simulation.gradient_runs import default_runs
from estheory.simulation.off_task import off_task_cost
from estheory.theory.curved.comparison import displacement_cosine, es_end_point, interpolation_curve, sgd_end_point
from estheory.validation.judge import judge
from tests.statistics import agrees

WHERE = Landscape(dim=160, eigenvalue=[4.0, 0.5], multiplicity=[10, 50], offset=[0.3, 0.05], reward_std=0.02)
ES = ESConfig(dim=160, sigma=0.02, alpha=0.02, population=60, steps=80)
RUNS = replace(default_runs(WHERE, steps=40), group=GroupAdvantage(groups=4))


@pytest.fixture(scope="module")
def measured():
    return geometry(ES, WHERE, runs=RUNS, replicas=500, seed=1)


def wrong(pairs, quantity, factor, where):
    """Whether the judge refutes the predicted mean times ``factor``, among all the other pairs."""
    changed = []
    for p, m in pairs:
        hit = p.quantity is quantity and m.where.startswith(where) and "std of" not in m.where
        law = NormalLaw(p.law.mean * factor, p.law.std) if p.law.std else PointLaw(p.law.mean * factor)
        changed.append((replace(p, law=law), m) if hit else (p, m))
    return any(v.kind == "refuted" for v in judge(changed, 1e-3) if v.prediction.quantity is quantity)


def test_theory_holds_and_could_have_failed(measured):
    pairs, warnings = geometry_pairs(measured, 1e-3)
    assert warnings == ()
    verdicts = judge(pairs, 1e-3)
    assert [v for v in verdicts if v.kind == "refuted"] == []
    found = {v.prediction.quantity for v in verdicts}
    assert {
        Quantity.KL_DRIFT,
        Quantity.OFF_TASK_REWARD_CHANGE,
        Quantity.INDEPENDENT_COSINE,
        Quantity.DISPLACEMENT_COSINE,
        Quantity.INTERPOLATION_GAIN,
    } <= found
    assert wrong(pairs, Quantity.KL_DRIFT, 60 / 50, "es")  # a population of 50
    assert wrong(pairs, Quantity.KL_DRIFT, 0.8, "adamw")
    assert wrong(pairs, Quantity.INTERPOLATION_GAIN, 2.0, "es|sgd")
    assert wrong(pairs, Quantity.DISPLACEMENT_COSINE, 1.1, "es|sgd")
    assert not wrong(pairs, Quantity.INTERPOLATION_GAIN, 1.0, "es|sgd")


def test_stationary_state_and_peak_are_judged_where_they_are_reached():
    near = Landscape(dim=60, eigenvalue=[4.0], multiplicity=[20], offset=[0.02], reward_std=0.05)
    config = ESConfig(dim=60, sigma=0.02, alpha=0.02, population=60, steps=300)
    runs = default_runs(near, steps=10)
    pairs, _ = geometry_pairs(geometry(config, near, runs=runs, replicas=60, seed=2), 1e-3)
    gaps = [(p, m) for p, m in pairs if p.quantity is Quantity.STATIONARY_REWARD_GAP]
    assert len(gaps) == 1
    assert judge(gaps, 1e-3)[0].kind != "refuted"
    assert wrong(gaps, Quantity.STATIONARY_REWARD_GAP, 1.3, "es")
    rising = Landscape(dim=200, eigenvalue=[10.0, 0.05], multiplicity=[5, 150], offset=[0.1, 0.0], reward_std=0.02)
    config = ESConfig(dim=200, sigma=0.02, alpha=0.03, population=60, steps=100)
    pairs, _ = geometry_pairs(geometry(config, rising, runs=default_runs(rising, steps=10), replicas=60, seed=3), 1e-3)
    peaks = [(p, m) for p, m in pairs if p.quantity is Quantity.REWARD_PEAK_STEP]
    assert len(peaks) == 1
    assert judge(peaks, 1e-3)[0].kind != "refuted"
    p, m = peaks[0]
    assert abs(m.value / p.law.mean - 1) < 0.2
    assert wrong(peaks, Quantity.REWARD_PEAK_STEP, 2.0, "es")


def test_lines_are_the_closed_forms(measured):
    """Between end points the chord plus u (1-u)/2 D' Lam D; along a direction a parabola."""
    for between in measured.between.values():
        line, middle = between.line, between.rise[:, 5]
        curvature = 8 * middle
        for replica in range(3):
            expected = interpolation_curve(
                LINE, start=line[replica, 0], end=line[replica, -1], curvature=float(curvature[replica])
            )
            np.testing.assert_allclose(line[replica], expected, rtol=1e-9, atol=1e-12)
        assert between.rise.min() >= -1e-12  # no barrier
        np.testing.assert_allclose(line[:, 0], measured.methods["es"].reward, rtol=1e-9)
    for name, method in measured.methods.items():
        assert method.probe[:, 0] == pytest.approx(-WHERE.gap)
        if name != "es":
            np.testing.assert_allclose(measured.between[name].line[:, -1], method.reward, rtol=1e-9, atol=1e-15)
    # a random direction: no slope on average, and tr Lam / d of curvature
    distance = np.sqrt(10 * 0.3**2 + 50 * 0.05**2) * PROBES
    expected = -WHERE.gap - 0.5 * distance[-1] ** 2 * WHERE.trace / WHERE.dim
    assert agrees(measured.random_probe[:, -1], expected)
    assert not agrees(measured.random_probe[:, -1], -WHERE.gap - 1.5 * (-WHERE.gap - expected))


def test_measured_by_hand():
    """Displacement split, off-task cost and cosines of one replica, from the engine's own displacements."""
    measured = geometry(replace(ES, steps=3), WHERE, runs=RUNS, replicas=2, seed=5)
    child = np.random.SeedSequence(5).spawn(1)[0].spawn(2 + len(METHODS))[0]
    parts = []
    for seed in child.spawn(1):
        es = DirectES(replace(ES, steps=3), WHERE, 2, seed)
        for _ in range(3):
            es.step()
        parts.append(es.displacement)
    delta = np.concatenate(parts)
    method, cost = measured.methods["es"], measured.off_task
    np.testing.assert_allclose(method.on_task_square, np.sum(delta[:, :60] ** 2, 1))
    np.testing.assert_allclose(method.off_task_square, np.sum(delta[:, 60:] ** 2, 1))
    fisher, slope = np.zeros(160), np.zeros(160)
    fisher[60:70], slope[70:] = cost.trace / 10, cost.gradient_norm / np.sqrt(90)
    kl = 0.5 * delta**2 @ fisher
    np.testing.assert_allclose(method.kl, kl)
    np.testing.assert_allclose(method.off_task_change, delta @ slope - kl)
    gradient = np.zeros(160)
    gradient[:10], gradient[10:60] = 4.0 * 0.3, 0.5 * 0.05
    lengths = np.linalg.norm(delta, axis=1)
    np.testing.assert_allclose(method.gradient_cosine, delta @ gradient / lengths / np.linalg.norm(gradient))
    np.testing.assert_allclose(method.repeat_cosine, [delta[0] @ delta[1] / lengths.prod()])


def test_sgd_leaves_flat_directions_alone_and_costs_nothing_there(measured):
    sgd = measured.methods["sgd"]
    assert not sgd.off_task_square.any()
    assert not sgd.kl.any()
    assert np.isnan(measured.between["sgd"].flat_cosine).all()
    assert measured.methods["adamw"].off_task_square.all()


def test_displacement_cosine_of_end_points():
    es, sgd = es_end_point(ES, WHERE, 80), sgd_end_point(WHERE, lr=0.1, steps=30)
    assert displacement_cosine(WHERE, sgd, sgd) == pytest.approx(1.0)
    assert displacement_cosine(WHERE, es, sgd) == pytest.approx(displacement_cosine(WHERE, sgd, es))
    wider = replace(WHERE, dim=16_000_000)  # the walk in flat directions dilutes the overlap as 1/sqrt(d)
    far = replace(WHERE, dim=4 * 16_000_000)
    assert displacement_cosine(wider, es, sgd) == pytest.approx(2 * displacement_cosine(far, es, sgd), rel=1e-3)
    assert displacement_cosine(WHERE, es, sgd_end_point(WHERE, lr=0.1, steps=0)) == 0


def test_seeds_and_batches(monkeypatch):
    one, same = (geometry(replace(ES, steps=2), WHERE, runs=RUNS, replicas=5, seed=7) for _ in range(2))
    assert np.array_equal(one.methods["es"].norm, same.methods["es"].norm)
    monkeypatch.setattr("estheory.simulation.geometry.BATCH_COORDINATES", 320)
    several = geometry(replace(ES, steps=2), WHERE, runs=RUNS, replicas=5, seed=7)
    assert several.replicas == 5
    assert len(set(several.methods["es"].norm)) == 5
    assert several.methods["es"].repeat_cosine.size == 2


def test_bad_input():
    flat = Landscape(dim=50, eigenvalue=[0.0], multiplicity=[0], offset=[0.0], reward_std=1.0)
    with pytest.raises(ConfigError, match="no gradient"):
        geometry(replace(ES, dim=50), flat, replicas=2)
    full = replace(WHERE, dim=60)
    with pytest.raises(ConfigError, match="no flat directions"):
        geometry(replace(ES, dim=60), full, replicas=2)
    with pytest.raises(ConfigError, match="flat ones"):
        off_task_cost(WHERE, trace=1.0, square_trace=1e-6)
    with pytest.raises(ConfigError, match="grpo-steps"):
        default_runs(WHERE, steps=0.5)
    with pytest.raises(ConfigError, match="grpo-lr"):
        default_runs(WHERE, lr=-1.0)
    with pytest.raises(ConfigError, match="replicas"):
        geometry(ES, WHERE, replicas=0)
