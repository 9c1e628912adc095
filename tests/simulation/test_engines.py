"""The direct engine against the algorithm written out, and the reduced engine against the direct one."""

import math
from functools import cache

import numpy as np
import pytest
from scipy.stats import ks_2samp

from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.direct import DirectES, direct
from estheory.simulation.engine import chosen_engine, simulate
from estheory.simulation.reduced import reduced
from estheory.simulation.run_records import cosine, norms
from estheory.theory.estimators import estimator_of
from tests.statistics import agrees, ks_agrees, shape_rewards
from tests.variants import variants

CURVED = Landscape(
    dim=60,
    eigenvalue=[2.0, 0.5, 1.0, 0.0],
    multiplicity=[1, 7, 8, 5],
    offset=[0.1, 0.6, 0.0, 0.3],
    reward_std=0.05,
)
SMALL = {"dim": 60, "sigma": 0.3, "alpha": 0.3, "population": 8, "steps": 15}
VARIANTS = [
    {},
    {"shaping": "centered-rank", "alpha": 0.9},
    {"shaping": "raw", "alpha": 0.02},
    {"shaping": "two-point", "alpha": 0.02},
    {"antithetic": True},
    {"anchor_l2": 0.2},
    {"anchor_l2": 0.2, "anchor_form": "after"},
]


def outputs(records, grams=("gram", "curved_gram", "flat_gram")):
    """Every scalar that an engine reports, each of shape (replicas,)."""
    found = {}
    for k, step in enumerate(records.steps):
        found[f"reward {step}"] = records.reward[:, k]
        found[f"projection {step}"] = records.projection[:, k]
        for name in grams:
            found[f"norm {name} {step}"] = norms(getattr(records, name))[:, k]
            for later in range(k + 1, len(records.steps)):
                found[f"cosine {name} {step} {records.steps[later]}"] = cosine(getattr(records, name), k, later)
    return found


def differences(one, two, level=1e-6):
    """Names of outputs whose laws differ: two-sample Kolmogorov-Smirnov, Bonferroni over all outputs."""
    one, two = outputs(one), outputs(two)
    return [name for name in one if ks_2samp(one[name], two[name]).pvalue < level / len(one)]


@cache
def plain_runs():
    """The direct engine's runs of SMALL, which several tests compare with."""
    return direct(ESConfig(**SMALL), CURVED, replicas=8000, steps=[5, 15], seed=1)


@pytest.mark.parametrize("change", variants(VARIANTS, fast=[*VARIANTS[:2], *VARIANTS[4:5], VARIANTS[-1]]), ids=str)
def test_reduced_is_direct_in_law(change):
    config = ESConfig(**(SMALL | change))
    one = direct(config, CURVED, replicas=8000, steps=[5, 15], seed=1) if change else plain_runs()
    two = reduced(config, CURVED, replicas=8000, steps=[5, 15], seed=2)
    assert one.start_reward == pytest.approx(two.start_reward, rel=1e-12) == -CURVED.gap
    assert differences(one, two) == []


@pytest.mark.parametrize(
    "wrong",
    variants(
        [
            {"alpha": 0.3 * 1.03},
            {"sigma": 0.33},
            {"population": 10, "alpha": 0.3 * math.sqrt(10 / 8)},
            {"anchor_l2": 0.01},
        ],
        fast=[{"sigma": 0.33}, {"anchor_l2": 0.01}],
    ),
    ids=str,
)
def test_negative_control(wrong):
    """The same test tells a run of 3 % more step, 10 % more sigma, or another population of equal walk."""
    assert differences(plain_runs(), reduced(ESConfig(**(SMALL | wrong)), CURVED, replicas=8000, steps=[5, 15], seed=2))


def test_negative_control_of_the_blocks():
    """A block that ignores one of its directions is found out."""
    fewer = Landscape(
        dim=60, eigenvalue=[2.0, 0.5, 1.0], multiplicity=[1, 6, 8], offset=[0.1, 0.6, 0.0], reward_std=0.05
    )
    assert differences(plain_runs(), reduced(ESConfig(**SMALL), fewer, replicas=8000, steps=[5, 15], seed=2))


@pytest.mark.parametrize("change", [{"momentum": 0.6}, {"momentum": 0.6, "anchor_l2": 0.1, "anchor_form": "after"}])
def test_reduced_is_direct_with_momentum_where_all_is_flat(change):
    flat = Landscape(dim=3, eigenvalue=[0.0], multiplicity=[3], offset=[0.0], reward_std=0.1)
    config = ESConfig(**(SMALL | {"dim": 3, "shaping": "raw"} | change))
    one = direct(config, flat, replicas=8000, steps=[2, 7, 15], seed=1)  # more records than dimensions
    two = reduced(config, flat, replicas=8000, steps=[2, 7, 15], seed=2)
    one, two = ({n: v for n, v in outputs(r, ["gram"]).items() if n[:4] in ("norm", "cosi")} for r in (one, two))
    assert len(one) == 10
    assert [name for name in one if ks_2samp(one[name], two[name]).pvalue < 1e-6 / len(one)] == []


@pytest.mark.parametrize("change", [*VARIANTS, {"momentum": 0.5}, {"anchor_l1": 0.02}], ids=str)
def test_direct_step_is_the_algorithm(change):
    """Two steps, member by member, from the engine's own noise."""
    config = ESConfig(**(SMALL | change))
    es = DirectES(config, CURVED, 2, np.random.SeedSequence(4))
    twin = DirectES(config, CURVED, 2, np.random.SeedSequence(4))
    lam = np.concatenate([[2.0], np.full(7, 0.5), np.full(8, 1.0), np.zeros(44)])
    optimum = np.concatenate([[0.1], np.full(7, 0.6), np.zeros(52)])
    theta, velocity = np.zeros((2, 60)), np.zeros((2, 60))
    pairs = config.antithetic or config.shaping == "two-point"
    draws = 4 if config.antithetic else 8
    for _ in range(2):
        eps = twin._draw(2 * draws).reshape(2, draws, 60).astype(float)
        signs = np.stack([eps, -eps], axis=2).reshape(2, -1, 60) if pairs else eps
        rewards = np.array(
            [
                [-0.5 * np.sum(lam * (t + config.sigma * e - optimum) ** 2) for e in es_]
                for t, es_ in zip(theta, signs, strict=True)
            ]
        )
        rewards += 0.05 * twin.reward_rng.standard_normal(rewards.shape)
        if config.shaping == "two-point":
            weights = (rewards[:, 0::2] - rewards[:, 1::2]) / (2 * config.sigma)
            update = config.alpha / 8 * np.einsum("rn,rnd->rd", weights, eps)
        else:
            update = (
                config.alpha / 8 * np.einsum("rn,rnd->rd", shape_rewards(rewards, config.shaping, config.sigma), signs)
            )
        velocity = config.momentum * velocity + (1 - config.momentum) * update
        if config.anchor_form == "after":
            theta = (1 - config.anchor_l2) * (theta + velocity)
        else:
            theta = theta + velocity - config.anchor_l2 * theta - config.anchor_l1 * np.sign(theta)
        es.step()
        np.testing.assert_allclose(es.displacement, theta, rtol=2e-5, atol=2e-6)


def test_noise_drawn_twice_is_the_noise_of_the_rewards():
    """In pieces: the step along the gradient is that of the very noise that made the rewards."""
    land = Landscape(dim=60, eigenvalue=[1e-6], multiplicity=[1], offset=[1e6])  # nearly linear, no other noise
    config = ESConfig(**(SMALL | {"dim": 60}))
    es, twin = (DirectES(config, land, 2, np.random.SeedSequence(3), buffer_normals=3 * 60) for _ in range(2))
    assert es.buffer.size == 180
    for _ in range(2):
        before = es.displacement.copy()
        es.step()
        for replica in range(2):
            eps = np.concatenate([twin._draw(size).astype(float) for size in (3, 3, 2)])
            z = (eps[:, 0] - eps[:, 0].mean()) / eps[:, 0].std()
            np.testing.assert_allclose((es.displacement - before)[replica], 0.3 / 8 * z @ eps, rtol=1e-4, atol=1e-5)


def test_flat_norm_is_the_chi_law():
    from estheory.laws import ChiLaw

    config = ESConfig(dim=50, sigma=0.1, alpha=0.3, population=8, steps=4)
    flat = Landscape(dim=50, eigenvalue=[0.0], multiplicity=[0], offset=[0.0], reward_std=1.0)
    law = ChiLaw(0.3 * math.sqrt(4 / 8), 50.0)
    wrong = ChiLaw(0.3 * math.sqrt(4 / 7), 50.0)
    for engine in ("direct", "reduced"):
        lengths = norms(simulate(config, flat, replicas=5000, seed=5, engine=engine).gram)[:, -1]
        assert ks_agrees(lengths, lambda x: law.tails(x)[0])
        assert not ks_agrees(lengths, lambda x: wrong.tails(x)[0])


@pytest.mark.parametrize("dim", [10**6, 10**12])
def test_reduced_at_any_dimension(dim):
    config = ESConfig(dim=dim, sigma=0.01, alpha=0.01, population=30, steps=20)
    land = Landscape(dim=dim, eigenvalue=[1.0], multiplicity=[dim // 10], offset=[1e-4], reward_std=1.0)
    square = norms(reduced(config, land, replicas=50, seed=6).flat_gram)[:, -1] ** 2
    expected = 0.01**2 * 20 / 30 * (dim - dim // 10)
    assert agrees(square, expected)
    assert not agrees(square, expected * (1 + 20 / math.sqrt(dim)))


def test_curve_and_seeds():
    config = ESConfig(**SMALL)
    one, same, other = (simulate(config, CURVED, replicas=40, steps=[15], seed=s) for s in (7, 7, 8))
    assert np.array_equal(one.gram, same.gram)
    assert not np.array_equal(one.gram, other.gram)
    mean, spread = one.curve
    assert mean.shape == spread.shape == (16,)
    assert mean[15] == pytest.approx(one.reward[:, 1].mean())
    assert (mean[0], spread[0]) == pytest.approx((-CURVED.gap, 0.0), abs=1e-7)
    assert one.steps == (1, 15)


def test_equal_rewards_do_not_move():
    """All members equal: z-scores are zero, as with the reference code's 1e-8."""
    assert not estimator_of(ESConfig(**SMALL)).shape(np.full((2, 5), 3.0)).any()


def test_engine_choice_and_refusals():
    config = ESConfig(**SMALL)
    assert chosen_engine(config, CURVED) == "reduced"
    assert chosen_engine(ESConfig(**(SMALL | {"anchor_l1": 0.01})), CURVED) == "direct"
    assert chosen_engine(ESConfig(**(SMALL | {"momentum": 0.5})), CURVED) == "direct"
    bad = [
        (config, {"replicas": 0}),
        (config, {"replicas": 10**12}),
        (config, {"seed": -1}),
        (config, {"steps": [0]}),
        (config, {"engine": "quantum"}),
        (ESConfig(**(SMALL | {"noise": "low-rank:2"})), {}),
        (ESConfig(**(SMALL | {"dtype": "bfloat16"})), {}),
        (ESConfig(**(SMALL | {"dim": 61})), {}),
        (ESConfig(**(SMALL | {"momentum": 0.5})), {"engine": "reduced"}),
    ]
    for case, options in bad:
        with pytest.raises(ConfigError):
            simulate(case, CURVED, **({"replicas": 2} | options))
    silent = Landscape(dim=60, eigenvalue=[0.0], multiplicity=[0], offset=[0.0])
    with pytest.raises(ConfigError, match="same reward"):
        simulate(config, silent)
    huge = Landscape(dim=10**9, eigenvalue=[0.0], multiplicity=[0], offset=[0.0], reward_std=1.0)
    with pytest.raises(ConfigError, match="GiB"):
        simulate(ESConfig(**(SMALL | {"dim": 10**9})), huge, engine="direct")
