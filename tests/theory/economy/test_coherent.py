"""The coherent displacement from a ledger, against runs on quadratics that know their gradients."""

import math

import numpy as np
import pytest

from estheory.errors import DataError
from estheory.theory.economy.coherent import CoherentMotion, coherent_part, turning_per_update
from estheory.theory.economy.ledger import ledger
from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
from estheory.theory.economy.update import turning_cosine
from tests.statistics import Z, agrees, z_score
from tests.variants import variants

DIM, SIGMA, ALPHA, MEMBERS, PROMPTS, STEPS = 120, 0.1, 0.05, 16, 16, 30
SPREAD, NOISE = 0.7, 0.2
REPLICAS = 60
RULES = LedgerRules(sigma=SIGMA, alpha=ALPHA, population=MEMBERS, mirrored=True)


def quadratic(*blocks):
    """Curvatures and the gradient at the start: blocks of (directions, curvature, gradient along the first)."""
    curvature, gradient, start = np.zeros(DIM), np.zeros(DIM), 0
    for count, eigenvalue, slope in blocks:
        curvature[start : start + count], gradient[start] = eigenvalue, slope
        start += count
    return curvature, gradient


def one_run(rng, curvature, gradient, *, mirrored=True, permuted=False):
    """Displacement, rows, and gradients over S of every update; each coordinate, by numpy alone."""
    theta, rows, steering = np.zeros(DIM), [], []
    noise = (SIGMA**2 * SPREAD**2 + NOISE**2) / PROMPTS + 0.5 * SIGMA**4 * (curvature**2).sum()
    for step in range(1, STEPS + 1):
        slope = gradient - curvature * theta
        eps = rng.standard_normal((MEMBERS // 2 if mirrored else MEMBERS, DIM))
        if mirrored:
            eps = np.stack([eps, -eps], axis=1).reshape(MEMBERS, DIM)
        own = SPREAD * rng.standard_normal((PROMPTS, DIM)) / math.sqrt(DIM)
        effect = SIGMA * eps @ slope - 0.5 * SIGMA**2 * eps**2 @ curvature
        rewards = effect[:, None] + SIGMA * eps @ own.T + NOISE * rng.standard_normal((MEMBERS, PROMPTS))
        means = rewards.mean(axis=1)
        z = (means - means.mean()) / means.std()
        if permuted:
            z = z[rng.permutation(MEMBERS)]
        steering.append(slope / math.sqrt(SIGMA**2 * slope @ slope + noise))
        theta = theta + ALPHA / MEMBERS * z @ eps
        rows.append(LoggedUpdate(step=step, prompt_rewards=rewards, coefficients=z))
    return theta, rows, np.array(steering)


def runs(seed, blocks, *, mirrored=True, permuted=False, replicas=REPLICAS):
    """Of each replica: displacement, sum of the expected updates, and the estimate."""
    rng = np.random.default_rng(seed)
    rules = RULES if mirrored else LedgerRules(sigma=SIGMA, alpha=ALPHA, population=MEMBERS)
    found = []
    for _ in range(replicas):
        theta, rows, steering = one_run(rng, *quadratic(*blocks), mirrored=mirrored, permuted=permuted)
        found.append((theta, steering, coherent_part(ledger(rows, rules), rules)))
    return found


def spread_factor():
    """E of a mirrored update along its gradient over alpha rho, of Gaussian rewards; c(N) of independent members."""
    rng = np.random.default_rng(1)
    half = rng.standard_normal((40_000, MEMBERS // 2))
    pairs = np.stack([half, -half], axis=2).reshape(-1, MEMBERS)
    rewards = 0.9 * pairs + math.sqrt(1 - 0.9**2) * rng.standard_normal(pairs.shape)
    z = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
    return float((z * pairs).mean()) / 0.9


FACTOR = spread_factor()
CASES = {
    "straight": [(1, 0.0, 1.0)],
    "few directions": [(6, 0.8, 1.0)],
    "many directions": [(100, 0.8, 1.0)],
}


@pytest.mark.parametrize("name", variants(CASES, fast={"few directions"}))
def test_the_square_is_that_of_the_sum_of_expected_updates(name):
    found = runs(0, CASES[name])
    truth = [ALPHA * SIGMA * FACTOR * steering.sum(axis=0) for _, steering, _ in found]
    ratio = [part.square(STEPS).value / (t @ t) for (_, _, part), t in zip(found, truth, strict=True)]
    band = 0.08  # mean-field: rewards of few directions are not Gaussian, and rates are averages over neighbours
    assert abs(np.mean(ratio) - 1) < band + Z * np.std(ratio) / math.sqrt(REPLICAS)
    assert abs(0.8 * np.mean(ratio) - 1) > band + Z * np.std(ratio) / math.sqrt(REPLICAS)  # control
    if name == "many directions":  # control: a gradient that does not turn
        straight = [
            CoherentMotion(progress=part.motion.progress, turning=np.ones(STEPS)).square()[-1] / (t @ t)
            for (_, _, part), t in zip(found, truth, strict=True)
        ]
        assert np.mean(straight) - 1 > band + Z * np.std(straight) / math.sqrt(REPLICAS)


def test_where_curvatures_differ_it_is_an_upper_bound():
    found = runs(3, [(5, 3.0, 0.8), (100, 0.3, 0.6)])
    truth = [ALPHA * SIGMA * FACTOR * steering.sum(axis=0) for _, steering, _ in found]
    along = np.mean([t[0] * 0.8 + t[5] * 0.6 for t in truth])
    claimed = np.mean([part.motion.along_first()[-1] for _, _, part in found])
    assert claimed > along  # learning has turned the gradient
    squares = [part.square(STEPS).value for _, _, part in found]
    true = np.mean([t @ t for t in truth])
    assert true * 0.92 < np.mean(squares) < true * 1.3


def test_two_runs_share_what_they_learn():
    found = runs(4, CASES["many directions"], replicas=80)
    first = np.array([theta for theta, _, _ in found])
    along = np.array([part.motion.along_first()[-1] for _, _, part in found])
    shared = (first[0::2] * first[1::2]).sum(axis=1)
    assert agrees(shared - along[0::2] * along[1::2], 0.0)
    assert abs(z_score(shared - along[0::2] * along[1::2] - 0.5 * shared.mean(), 0.0)) > Z  # control
    assert abs(z_score(shared, 0.0)) > Z  # control: unrelated directions


def test_permuted_coefficients_carry_a_run_nowhere():
    found = runs(5, CASES["many directions"], permuted=True)
    squares = [part.square(STEPS).value for _, _, part in found]
    learned = [part.square(STEPS).value for _, _, part in runs(6, CASES["many directions"], replicas=10)]
    walk = float(np.mean([part.walk[-1] for _, _, part in found]))
    assert np.mean(squares) < 2 * walk + Z * np.std(squares) / math.sqrt(REPLICAS)  # one direction of the walk
    assert np.mean(learned) > 20 * walk  # control


def test_without_mirrored_members_it_is_an_upper_bound():
    found = runs(7, CASES["many directions"], mirrored=False, replicas=20)
    assert all(part.bound == "upper" for _, _, part in found)
    truth = [ALPHA * SIGMA * steering.sum(axis=0) for _, steering, _ in found]
    assert np.mean([p.square(STEPS).value for _, _, p in found]) > np.mean([t @ t for t in truth])


def test_its_error_is_that_of_its_scatter():
    found = runs(8, CASES["straight"])
    squares = [part.square(STEPS) for _, _, part in found]
    scatter = np.std([s.value for s in squares], ddof=1)
    assert 0.6 < np.mean([s.stderr for s in squares]) / scatter < 1.7


def test_the_walk_alone_turns_as_the_closed_form_says():
    steps, odd, even, step = 50, 0.02, 0.01, 1e-5
    grown = odd + 2 * even * step / SIGMA**2 * np.arange(steps)
    turned = turning_per_update(np.full(steps, step), SIGMA, grown, np.full(steps, even))[1:]
    expected = turning_cosine(walk_variance=step * (steps - 1), sigma=SIGMA, even_variance=even, linear_variance=odd)
    assert math.isclose(np.prod(turned), expected, rel_tol=1e-12)


def test_a_log_that_tells_no_reliability_is_refused():
    rng = np.random.default_rng(9)
    rows = [LoggedUpdate(step=t, rewards=rng.standard_normal(MEMBERS)) for t in range(1, 9)]
    with pytest.raises(DataError, match="reliability"):
        coherent_part(ledger(rows, RULES), RULES)
    tied = [LoggedUpdate(step=t, prompt_rewards=np.ones((MEMBERS, 8))) for t in range(1, 9)]
    assert coherent_part(ledger(tied, RULES), RULES).square(8).value == 0.0
