"""The emulator against torch, bit by bit, against brute force, and against the closed forms."""

import math

import numpy as np
import pytest

from estheory.errors import ConfigError
from estheory.floats import FORMATS, rounded
from estheory.rules import ESConfig
from estheory.simulation.emulator.emulate import emulate, emulator_covers, normal_pool
from estheory.simulation.emulator.steps import Rounder, take_step
from estheory.simulation.emulator.strata import Design, SampledWeights
from estheory.theory.estimators import estimator_of
from estheory.theory.rounding.precision import rounding_effects
from estheory.theory.rounding.weights import mixed_weights, normal_weights
from tests.statistics import Z, agrees

torch = pytest.importorskip("torch")

N = 30


def config(**changes):
    start = {"dim": 10, "sigma": 1.5e-3, "alpha": 7.5e-4, "population": N, "dtype": "bfloat16"}
    return ESConfig(**start | changes)


def torch_step(weights, start, noise, factors, run):
    """The in-place operations of the reference implementations, on torch tensors of the storage format."""
    for pair in range(run.restore_pairs):
        weights.add_(run.sigma * noise[pair % len(noise)])
        weights.add_(-run.sigma * noise[pair % len(noise)])
    pull = run.anchor_l2 * (weights - start) if run.anchor_form == "before" and run.anchor_l2 else None
    if run.update_path == "sequential":
        for eps, factor in zip(noise, factors, strict=True):
            weights.add_(float(factor) * eps)
    else:
        total = torch.zeros(weights.shape, dtype=torch.float32)
        for eps, factor in zip(noise, factors, strict=True):
            total.add_(float(factor) * eps.float())
        weights.add_(total.to(weights.dtype))
    if pull is not None:
        weights.sub_(pull)
    elif run.anchor_l2:
        weights.copy_(start + (1 - run.anchor_l2) * (weights - start))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("path", ["sequential", "accumulated"])
@pytest.mark.parametrize("extra", [{}, {"restore_pairs": 3}, {"anchor_l2": 0.05}, "after"])
def test_every_operation_is_torch_s_bit_by_bit(dtype, path, extra):
    extra = {"anchor_l2": 0.05, "anchor_form": "after"} if extra == "after" else extra
    run = config(dtype=dtype, update_path=path, **extra)
    rng = np.random.default_rng(3)
    d, kind = 20_000, getattr(torch, dtype)
    scale = 10.0 ** rng.uniform(-7, 0.5, d)  # float16's subnormals too
    weights = rounded(scale * rng.standard_normal(d), FORMATS[dtype])
    start, theirs = weights.copy(), torch.from_numpy(weights).to(kind)
    base, rounder = theirs.clone(), Rounder(d, FORMATS[dtype])
    for _ in range(4):
        noise = [rounded(rng.standard_normal(d), FORMATS[dtype]) for _ in range(N)]
        factors = run.step_size / N * estimator_of(run).shape(rng.standard_normal(N))
        exact = take_step(weights, start, noise, factors, run, rounder)
        torch_step(theirs, base, [torch.from_numpy(e).to(kind) for e in noise], factors, run)
        assert np.array_equal(weights, theirs.float().numpy())
    assert not np.array_equal(weights, start)
    assert exact == pytest.approx(sum(f * e for f, e in zip(factors, noise, strict=True)), abs=1e-8)


@pytest.mark.parametrize(
    ("std", "changes", "steps", "value", "error"),
    [  # brute force on 1e6 normal weights, with the error of its last digit
        (0.02, {}, 1, 1.0554, 0.0002),
        (0.02, {"update_path": "sequential"}, 1, 0.925, 0.003),
        (0.01, {"update_path": "sequential"}, 1, 1.054, 0.003),
        (0.05, {"update_path": "sequential"}, 1, 0.54, 0.005),
        (0.02, {"update_path": "sequential", "restore_pairs": 10}, 20, 1.05, 0.01),
        (0.02, {"update_path": "sequential", "restore_pairs": 30}, 20, 1.25, 0.05),
        (0.02, {"restore_pairs": 10}, 20, 1.214, 0.003),
    ],
)
def test_reference_points(std, changes, steps, value, error):
    run = emulate(config(**changes), SampledWeights.of(normal_weights(std)), [steps], seed=5, max_additions=10**8)
    effect = run.effect(steps)
    assert abs(effect.variance - value) < error + Z * effect.variance_stderr
    assert abs(effect.variance - 1.3 * value) > error + Z * effect.variance_stderr


def brute_force(run, std, steps, *, groups, size, seed=17):
    """Return (value, standard error) of variance and signal of a run on normal weights, by torch's own bfloat16.

    Written from the reference implementations alone: each group has its own rewards, every member's noise is drawn,
    stored and scaled in bfloat16, and torch rounds every sum.
    """
    draw = torch.Generator().manual_seed(seed)
    start = (std * torch.randn(groups, size, generator=draw)).bfloat16()
    weights, intended = start.clone(), torch.zeros(groups, size, dtype=torch.float64)
    for _ in range(steps):
        rewards = torch.randn(groups, N, generator=draw, dtype=torch.float64)
        z = (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, keepdim=True, unbiased=False)
        factors = (run.step_size / N * z).float()
        noise = [torch.randn(groups, size, generator=draw).bfloat16() for _ in range(N)]
        for eps in noise[: run.restore_pairs]:
            weights += run.sigma * eps
            weights -= run.sigma * eps
        total = torch.zeros(groups, size)
        for i, eps in enumerate(noise):
            term = factors[:, i, None] * eps.float()
            total += term
            if run.update_path == "sequential":
                weights += term.bfloat16()
        if run.update_path == "accumulated":
            weights += total.bfloat16()
        intended += total.double()
    moved = (weights.double() - start.double()).numpy()
    plain = (intended.numpy() ** 2).mean(1)
    return tuple(ratio((moved * other).mean(1), plain) for other in (moved, intended.numpy()))


def ratio(top, bottom):
    """Ratio of means over groups, and its standard error."""
    value = top.mean() / bottom.mean()
    return value, (top - value * bottom).std(ddof=1) / math.sqrt(len(top)) / bottom.mean()


def emulated(run, std, steps, seeds):
    """Return (value, standard error) of variance and signal over several emulations, each with its own rewards."""
    model = SampledWeights.of(normal_weights(std))
    effects = [emulate(run, model, [steps], seed=s, max_additions=6 * 10**7).effect(steps) for s in range(seeds)]
    return tuple(
        (
            np.mean([getattr(e, name) for e in effects]),
            math.hypot(*(getattr(e, f"{name}_stderr") for e in effects)) / seeds,
        )
        for name in ("variance", "signal")
    )


def close(one, other, beside=0.0):
    """Whether two (value, standard error) agree within Z joint errors, and ``beside`` of the second."""
    return abs(one[0] - other[0]) < Z * math.hypot(one[1], other[1]) + beside * other[0]


@pytest.mark.parametrize(
    ("std", "path", "point", "digit"),
    [  # with the error of the point's last digit
        pytest.param(0.02, "accumulated", 1.0554, 0.0002, marks=pytest.mark.slow),
        (0.02, "sequential", 0.925, 0.0005),
        pytest.param(0.01, "sequential", 1.054, 0.0005, marks=pytest.mark.slow),
        pytest.param(0.05, "sequential", 0.54, 0.005, marks=pytest.mark.slow),
    ],
)
def test_one_step_by_torch_s_own_arithmetic(std, path, point, digit):
    run = config(update_path=path)
    variance, signal = brute_force(run, std, 1, groups=1024, size=2048)
    assert abs(variance[0] - point) < digit + Z * variance[1]
    theirs = emulated(run, std, 1, seeds=24)
    closed = {
        p: rounding_effects(config(update_path=p), normal_weights(std), [1])[1] for p in ("accumulated", "sequential")
    }
    allowed = 0.01 if path == "sequential" else 0.0  # rounding errors of N additions are taken as independent
    for measured, emulation, name in ((variance, theirs[0], "variance"), (signal, theirs[1], "signal")):
        assert close(measured, emulation)
        assert close(measured, (getattr(closed[path], name), 0.0), allowed)
    # the other path's gain, and variance for signal, are told apart by the same comparison
    wrong = closed["sequential" if path == "accumulated" else "accumulated"]
    assert not close(signal, (wrong.signal, 0.0), allowed)
    assert std == 0.01 or not close(variance, (wrong.variance, 0.0), allowed)
    assert not close(variance, theirs[1])


@pytest.mark.slow
@pytest.mark.parametrize(("pairs", "low", "high"), [(10, 1.045, 1.055), (30, 1.2, 1.3)])
def test_twenty_steps_with_restores_by_torch_s_own_arithmetic(pairs, low, high):
    run = config(update_path="sequential", restore_pairs=pairs)
    variance, signal = brute_force(run, 0.02, 20, groups=256, size=1024)
    assert low - Z * variance[1] < variance[0] < high + Z * variance[1]
    theirs = emulated(run, 0.02, 20, seeds=6)
    assert close(variance, theirs[0])
    assert close(signal, theirs[1])
    without = rounding_effects(config(update_path="sequential"), normal_weights(0.02), [20])[20]
    assert not close(variance, (without.variance, 0.0))  # restores change the norm
    assert not close(
        variance, emulated(config(update_path="sequential", restore_pairs=40 - pairs), 0.02, 20, seeds=3)[0]
    )


@pytest.mark.parametrize("path", ["accumulated", "sequential"])
def test_closed_form_where_weights_keep_their_binade(path):
    run, weights = config(update_path=path), normal_weights(0.02)
    run_of = emulate(run, SampledWeights.of(weights), [1, 20], seed=1, max_additions=2 * 10**8)
    for step, effect in rounding_effects(run, weights, [1, 20]).items():
        measured = run_of.effect(step)
        assert abs(measured.variance - effect.variance) < 0.01 * effect.variance + Z * measured.variance_stderr
        assert abs(measured.signal - effect.signal) < 0.01 * effect.signal + Z * measured.signal_stderr
    assert abs(measured.variance - 1.0) > Z * measured.variance_stderr  # what no rounding would give


def test_a_tensor_is_predicted_from_the_sample_of_all():
    parts = [normal_weights(0.01), normal_weights(0.2)]
    both = mixed_weights([(0.9, parts[0]), (0.1, parts[1])])
    order = np.argsort(both.magnitudes)
    counts = np.zeros((2, len(order)))
    counts[0, : len(parts[0].shares)] = 9e5 * parts[0].shares
    counts[1, len(parts[0].shares) :] = 1e5 * parts[1].shares
    model = SampledWeights(names=("small", "large"), magnitudes=both.magnitudes[order], counts=counts[:, order])
    run = config(update_path="sequential")
    effects = emulate(run, model, [5], seed=2, max_additions=10**8).tensor_effects(5)
    for name, weights in zip(model.names, parts, strict=True):
        alone = emulate(run, SampledWeights.of(weights), [5], seed=3, max_additions=10**8).effect(5)
        error = math.hypot(alone.variance_stderr, effects[name].variance_stderr)
        assert abs(alone.variance - effects[name].variance) < Z * error
    assert effects["small"].variance > 5 * effects["large"].variance


def test_a_block_is_the_mean_of_its_tensors_by_their_sizes():
    names = ("layers.0.a", "layers.0.b", "norm")
    magnitudes = np.array([0.01, 0.05, 1.0])
    counts = np.array([[900.0, 100.0, 0.0], [0.0, 50.0, 50.0], [0.0, 0.0, 10.0]])
    run = emulate(
        config(update_path="sequential"),
        SampledWeights(names=names, magnitudes=magnitudes, counts=counts),
        [3],
        seed=2,
        max_additions=10**7,
    )
    tensors, blocks = run.tensor_effects(3), run.grouped_effects(3, lambda name: name.split(".")[0])
    assert list(blocks) == ["layers", "norm"]
    a, b = (tensors[name].variance for name in names[:2])
    assert a > 2 * b  # else a mean with other weights would pass
    assert b < blocks["layers"].variance < a
    assert blocks["norm"] == tensors["norm"]
    whole = run.grouped_effects(3, lambda name: "all")["all"]  # sizes are right only if this is the model's own effect
    assert whole.variance == pytest.approx(run.effect(3).variance, rel=1e-12)
    assert whole.variance != pytest.approx(np.mean([e.variance for e in tensors.values()]), rel=0.1)


def test_logged_coefficients_are_conditioned_on():
    z = np.zeros((3, N))
    z[:, 0], z[:, 1] = math.sqrt(N / 2), -math.sqrt(N / 2)  # two large additions a step instead of thirty small ones
    weights = SampledWeights.of(normal_weights(0.05))
    run = config(update_path="sequential")
    given = emulate(run, weights, [3], coefficients=z, max_additions=10**7).effect(3)
    drawn = emulate(run, weights, [3], max_additions=10**7).effect(3)
    assert given.variance > drawn.variance + Z * math.hypot(given.variance_stderr, drawn.variance_stderr)


@pytest.mark.slow
def test_standard_errors_are_those_of_repeated_samples():
    weights = SampledWeights.of(normal_weights(0.02))
    effects = [emulate(config(), weights, [2], seed=s, max_additions=10**6).effect(2) for s in range(40)]
    values = np.array([e.variance for e in effects])
    claimed = np.mean([e.variance_stderr**2 for e in effects])
    squares = (values - values.mean()) ** 2 * len(values) / (len(values) - 1)
    assert agrees(squares, claimed)
    assert not agrees(squares, 16 * claimed)  # the number of groups forgotten


def test_the_pool_has_the_moments_of_the_normal_law():
    pool = normal_pool(FORMATS["bfloat16"]).astype(np.float64)
    assert abs(pool.mean()) < 1e-3
    assert np.mean(pool**2) == pytest.approx(1.0, abs=1e-4)
    assert np.mean(pool**4) == pytest.approx(3.0, abs=2e-3)


def test_design_shares_and_draws():
    design = Design.of(SampledWeights.of(normal_weights(0.02)), 1000, floor=1e-5)
    assert design.shares.sum() == pytest.approx(1)
    drawn = design.draw(np.random.default_rng(0))
    assert len(drawn) == design.size
    weight = np.repeat(design.shares / design.taken, design.taken)
    assert weight @ drawn**2 == pytest.approx(0.02**2, rel=2e-3)


@pytest.mark.parametrize(
    "bad", [{"momentum": 0.9}, {"anchor_l1": 1e-5}, {"shaping": "raw"}, {"noise": "low-rank:2"}, {"dtype": "float32"}]
)
def test_what_is_not_emulated_is_refused(bad):
    assert bad == {"dtype": "float32"} or emulator_covers(config(**bad))
    with pytest.raises(ConfigError):
        emulate(config(**bad), SampledWeights.of(normal_weights(0.02)), [1])
