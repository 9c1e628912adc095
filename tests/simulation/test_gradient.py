"""Gradient methods against the closed forms, and the GRPO-like estimate against outcomes drawn in full."""

import math

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp, norm

from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.simulation.gradient import Descent, GradientDescent, gradient_descent
from estheory.simulation.gradient_estimators import GroupAdvantage, NoisyGradient, advantages
from estheory.simulation.run_records import norms
from estheory.theory.adamw import grpo_mean_square
from estheory.theory.curved.comparison import sgd_end_point
from tests.statistics import agrees

WHERE = Landscape(dim=60, eigenvalue=[4.0, 1.0, 0.0], multiplicity=[3, 20, 2], offset=[0.4, 0.2, 0.0], reward_std=0.05)
FLAT = Landscape(dim=200, eigenvalue=[0.0], multiplicity=[0], offset=[0.0], reward_std=0.1)


def descend(landscape, estimator, *, record=(), replicas=200, seed=0, **rule):
    return gradient_descent(landscape, estimator, Descent(**rule), record=record, replicas=replicas, seed=seed)


def squares(records):
    return norms(records.gram)[:, -1] ** 2


def test_sgd_with_aligned_noise_ends_where_theory_says():
    runs = descend(WHERE, NoisyGradient(aligned=0.02), lr=0.3, steps=12, optimiser="sgd", replicas=8000, seed=1)
    end = sgd_end_point(WHERE, lr=0.3, steps=12, noise=0.02)
    wrong = sgd_end_point(WHERE, lr=0.3, steps=12, noise=0.02 * 1.05)
    assert not runs.flat_gram.any()  # flat directions keep exactly theta_0
    assert agrees(runs.reward[:, -1], end.reward(WHERE))
    assert not agrees(runs.reward[:, -1], wrong.reward(WHERE))
    assert agrees(squares(runs), end.displacement_square(WHERE))
    assert not agrees(squares(runs), sgd_end_point(WHERE, lr=0.3, steps=11, noise=0.02).displacement_square(WHERE))


def test_sgd_with_dense_noise_walks_in_flat_directions():
    rates, land = 0.3 * (1 - np.arange(12) / 12), WHERE
    runs = descend(
        land,
        NoisyGradient(dense=0.1),
        lr=0.3,
        steps=12,
        optimiser="sgd",
        schedule="linear",
        replicas=8000,
        seed=2,
    )
    flat = np.diagonal(runs.flat_gram, axis1=1, axis2=2)[:, -1]
    expected = 37 * 0.1**2 * float(rates @ rates)
    assert agrees(flat, expected)
    assert not agrees(flat, 1.03 * expected)


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_adamw_walks_as_theory_says(schedule):
    """k(T): both the plain noise and the GRPO-like estimate, whose noise in flat directions is dense too."""
    expected = grpo_mean_square(200, 0.01, 40, schedule)
    for estimator in (NoisyGradient(dense=3.0), GroupAdvantage(groups=4, samples=8)):
        runs = descend(FLAT, estimator, lr=0.01, steps=40, schedule=schedule, replicas=600, seed=3)
        assert agrees(squares(runs), expected)
        assert not agrees(squares(runs), 1.05 * expected)
        assert not agrees(squares(runs), 200 * 0.01**2 * 40 / (1 if schedule == "constant" else 3))  # k = 1


def test_adamw_on_aligned_noise_leaves_flat_directions_alone():
    runs = descend(WHERE, NoisyGradient(aligned=0.02), lr=0.01, steps=30, replicas=50, seed=4)
    assert not runs.flat_gram.any()
    assert runs.reward[:, -1].mean() > 10 * runs.start_reward / 11


def test_adamw_is_torchs():
    torch = pytest.importorskip("torch")
    rates = Descent(lr=0.02, steps=15, schedule="linear").rates(WHERE)
    run = GradientDescent(WHERE, NoisyGradient(dense=0.5), rates, "adamw", 2, np.random.default_rng(5))
    twin = GradientDescent(WHERE, NoisyGradient(dense=0.5), rates, "adamw", 2, np.random.default_rng(5))
    weight = torch.nn.Parameter(torch.zeros((2, 60), dtype=torch.float64))
    optimiser = torch.optim.AdamW([weight], lr=1.0, weight_decay=0.0, eps=0.0)
    for rate in rates:
        twin.displacement = weight.detach().numpy().copy()
        optimiser.param_groups[0]["lr"] = rate
        weight.grad = -torch.from_numpy(twin.gradient())
        optimiser.step()
        run.step()
    np.testing.assert_allclose(run.displacement, weight.detach().numpy(), rtol=1e-9)


def policy_gradients(replicas, seed, group, land=WHERE):
    """First-step estimates of the engine, (replicas, dim)."""
    run = GradientDescent(land, group, np.ones(1), "sgd", replicas, np.random.default_rng(seed))
    return run.gradient(), run


def literal_policy_gradients(replicas, seed, group, run):
    """The same from outcomes drawn in every coordinate, as the docstring defines them."""
    rng = np.random.default_rng(seed)
    gradient = np.zeros(60)
    gradient[:23] = -run.eigenvalue * run.start
    found = np.empty((replicas, 60))
    for replica in range(replicas):
        score = group.score_std * rng.standard_normal((group.groups, group.samples, 60))
        quality = -WHERE.gap + score @ gradient / group.score_std**2
        quality += WHERE.reward_std * rng.standard_normal(quality.shape)
        advantage = advantages((quality > run.threshold).astype(float))
        found[replica] = np.mean(advantage[:, :, None] * score, axis=(0, 1))
    return found, gradient


def test_policy_gradient_is_that_of_outcomes_drawn_in_full():
    group = GroupAdvantage(groups=3, samples=4, score_std=40.0, success=0.3)
    one, run = policy_gradients(8000, 6, group)
    two, gradient = literal_policy_gradients(8000, 7, group, run)

    def outputs(estimates):
        along = estimates @ gradient / np.linalg.norm(gradient)
        across = estimates - along[:, None] * gradient / np.linalg.norm(gradient)
        return [along, np.linalg.norm(across, axis=1), estimates[:, 0], estimates[:, 10], estimates[:, -1]]

    pvalues = [ks_2samp(a, b).pvalue for a, b in zip(outputs(one), outputs(two), strict=True)]
    assert min(pvalues) > 1e-6 / len(pvalues)
    easier, _ = policy_gradients(8000, 6, GroupAdvantage(groups=3, samples=4, score_std=40.0, success=0.5))
    wrong = [ks_2samp(a, b).pvalue for a, b in zip(outputs(easier), outputs(two), strict=True)]
    assert min(wrong) < 1e-6 / len(wrong)


@pytest.mark.parametrize("success", [0.5, 0.1])
def test_policy_gradient_progress(success):
    """Along the gradient: sqrt(f) rho phi(h) / (p (1-p)) E sqrt(M (K-M)) / K, M ~ Binomial(K, p). Exact."""
    group = GroupAdvantage(groups=1, samples=6, score_std=40.0, success=success)
    estimates, run = policy_gradients(40_000, 8, group)
    gradient = -run.eigenvalue * run.start
    along = estimates[:, :23] @ gradient / np.linalg.norm(gradient)
    rho = 1 / math.hypot(1, WHERE.reward_std * 40.0 / np.linalg.norm(gradient))
    slope = 40.0 * rho * norm.pdf(norm.ppf(success)) / (success * (1 - success))
    m = np.arange(7)
    finite = float(binom.pmf(m, 6, success) @ np.sqrt(m * (6 - m))) / 6
    assert agrees(along, slope * finite)
    assert not agrees(along, slope * math.sqrt(success * (1 - success)))  # large K


def test_grpo_like_learns_and_then_stops():
    """The reward rises; once all outcomes of the groups succeed there is no advantage and no motion."""
    land = Landscape(dim=60, eigenvalue=[4.0], multiplicity=[3], offset=[0.4], reward_std=0.0)
    runs = descend(land, GroupAdvantage(score_std=10.0), lr=0.01, steps=300, record=[280, 300], replicas=20)
    assert np.all(runs.reward[:, 1] > 0.5 * runs.start_reward)
    late = runs.gram[:, 2, 2] + runs.gram[:, 1, 1] - 2 * runs.gram[:, 1, 2]
    assert np.all(late < 1e-6 * runs.gram[:, 0, 0])  # twenty late steps against the first one
    assert not advantages(np.ones((2, 5))).any()


def test_seeds_and_batches():
    runs = [descend(WHERE, NoisyGradient(dense=1.0), lr=0.01, steps=3, replicas=4, seed=s) for s in (1, 1, 2)]
    assert np.array_equal(runs[0].gram, runs[1].gram)
    assert not np.array_equal(runs[0].gram, runs[2].gram)
    wide = Landscape(dim=10**6, eigenvalue=[1.0], multiplicity=[1], offset=[1.0])
    many = descend(wide, NoisyGradient(dense=1.0), lr=0.01, steps=1, optimiser="sgd", replicas=3)
    assert many.replicas == 3
    assert len(set(norms(many.gram)[:, 0])) == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lr": 0.6, "optimiser": "sgd"}, "diverges"),
        ({"lr": -1.0}, "lr"),
        ({"steps": 0}, "steps"),
        ({"record": [11]}, "beyond"),
        ({"replicas": 0}, "replicas"),
        ({"seed": -1}, "seed"),
        ({"optimiser": "lion"}, "optimiser"),
        ({"schedule": "step"}, "schedule"),
    ],
)
def test_bad_input(change, says):
    with pytest.raises(ConfigError, match=says):
        descend(WHERE, NoisyGradient(), **({"lr": 0.01, "steps": 10, "replicas": 2} | change))


def test_bad_estimators():
    for bad in ({"samples": 1}, {"groups": 0}, {"success": 1.0}, {"score_std": 0.0}):
        with pytest.raises(ConfigError):
            GroupAdvantage(**bad)
    with pytest.raises(ConfigError):
        NoisyGradient(aligned=-1.0)
    with pytest.raises(ConfigError):
        NoisyGradient(dense=math.nan)
    silent = Landscape(dim=5, eigenvalue=[0.0], multiplicity=[0], offset=[0.0])
    with pytest.raises(ConfigError, match="equally good"):
        descend(silent, GroupAdvantage(), lr=0.1, steps=1, replicas=2)
    huge = Landscape(dim=10**9, eigenvalue=[1.0], multiplicity=[1], offset=[1.0])
    with pytest.raises(ConfigError, match="GiB"):
        descend(huge, NoisyGradient(), lr=0.1, steps=1, replicas=2)
