"""Checks of an update: from the rewards of a step and its noise to the displacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from estheory._special import Array
from estheory.diagnosis.coefficients import direction_weights
from estheory.errors import ConfigError
from estheory.rules import ESConfig
from estheory.testing.algebra import Response, compare, explained, plain_rewards, reward_checks
from estheory.testing.failures import Check, ViolationError
from estheory.testing.laws import StepSample, law_checks
from estheory.testing.shaping import call_checks
from estheory.testing.subject import Subject, shown
from estheory.theory.estimators import estimator_of

LARGEST = 2**24
"""Numbers of one step's noise that a check takes."""
REPLICAS = 200
"""Steps of a statistical law, fewer where one of them is long."""


def in_turn(eps: Array, rule: ESConfig) -> Array:
    """Return the noise of each evaluation: itself, or eps and -eps of each pair in turn."""
    return np.asarray(estimator_of(rule).in_turn(eps[None])[0])


def require_room(rule: ESConfig) -> None:
    """Refuse a rule whose noise is too large to be made by the hundred."""
    if estimator_of(rule).evaluations * rule.dim > LARGEST:
        raise ConfigError(
            f"noise of {estimator_of(rule).evaluations} evaluations in {rule.dim} dimensions is too much for a check",
            "give a small dim, such as 64: no invariant depends on it",
        )


def recovered(update: Callable[[Array, Array], Array], rewards: Array, rule: ESConfig) -> Array:
    """Return what multiplies each noise vector in a displacement, in units of alpha/N, by noise of one axis each."""
    count, dim = estimator_of(rule).directions, rule.dim
    found = np.zeros(count)
    for start in range(0, count, dim):
        block = np.arange(start, min(start + dim, count))
        eps = np.zeros((count, dim))
        eps[block, block - start] = 1.0
        found[block] = update(rewards, in_turn(eps, rule))[: len(block)]
    return found * rule.population / rule.step_size


def update_checks(update: Callable[..., Any], rule: ESConfig, seed: int, level: float) -> list[Check]:
    """Return the checks of ``update(rewards, noise) -> displacement``."""
    require_room(rule)
    subject = Subject(update)
    rng = np.random.default_rng([seed, 12])
    count, shape = estimator_of(rule).directions, (rule.dim,)
    rewards, eps = plain_rewards(rule, seed), rng.standard_normal((count, rule.dim))
    rows = in_turn(eps, rule)
    example = f"rewards {shown(rewards)} and noise of seed {seed}"

    def call(values: Array, members: Array) -> Array:
        return subject(values, members, shape=shape)

    def expected(values: Array, vectors: Array = eps) -> Array:
        return rule.step_size / rule.population * direction_weights(values, rule) @ vectors

    def diagnose() -> str:
        return diagnosis(call, rewards, rows, rule)

    def order(shuffle: int) -> None:
        block = 2 if estimator_of(rule).paired else 1
        places = np.random.default_rng(shuffle).permutation(count)
        moved, carried = rewards.reshape(-1, block)[places].ravel(), in_turn(eps[places], rule)
        compare("members in another order move another way", call(moved, carried), call(rewards, rows), example=example)

    def turned() -> None:
        compare(
            "noise of the other sign does not move back", call(rewards, -rows), -call(rewards, rows), example=example
        )

    def linear(number: int, factor: float) -> None:
        other = in_turn(np.random.default_rng([seed, number]).standard_normal(eps.shape), rule)
        compare(
            f"the displacement of noise a + {factor:g} b is not that of a plus {factor:g} times that of b",
            call(rewards, rows + factor * other),
            call(rewards, rows) + factor * call(rewards, other),
            example=example,
        )

    def rotated(number: int) -> None:
        mirror = np.random.default_rng([seed, number, 1]).standard_normal(rule.dim)
        mirror /= np.linalg.norm(mirror)

        def reflect(vectors: Array) -> Array:
            return np.asarray(vectors - 2 * np.multiply.outer(vectors @ mirror, mirror))

        compare(
            "a change of orthogonal coordinates does not turn the displacement with it",
            call(rewards, reflect(rows)),
            reflect(call(rewards, rows)),
            example=example,
        )

    response = Response(
        rule=rule,
        of=lambda values: call(values, rows),
        expected=expected,
        diagnose=diagnose,
        seed=seed,
    )
    found = [
        *call_checks(subject, (rewards, rows), shape, diagnose),
        *reward_checks(response),
        response.check("order of members", "the order of the members does not count", order, st.integers(0, 100)),
        Check(name="sign of the noise", claim="noise of the other sign moves back", test=turned, diagnose=diagnose),
        response.check(
            "linear in the noise",
            "the displacement is a sum over the members' noise",
            linear,
            st.integers(0, 5),
            st.sampled_from([1.0, -2.0]),
        ),
        response.check(
            "coordinates", "orthogonal coordinates turn the displacement with the noise", rotated, st.integers(0, 5)
        ),
    ]
    if subject.takes("alpha"):
        found.append(
            Check(
                name="alpha",
                claim="the displacement is proportional to alpha",
                test=lambda: _alpha(subject, rewards, rows, rule),
                diagnose=diagnose,
            )
        )
    if len(np.unique(rewards)) > 1 and not estimator_of(rule).paired:
        found.append(
            response.check(
                "ties", "members of equal reward may change places", _swapped(call, eps, seed), response.rewards("ties")
            )
        )
    return found + law_checks(lambda slope: sample(call, rule, slope, seed), rule, level, diagnose)


def _alpha(subject: Subject, rewards: Array, rows: Array, rule: ESConfig) -> None:
    once, twice = (subject(rewards, rows, shape=(rule.dim,), alpha=factor * rule.step_size) for factor in (1, 2))
    compare("twice the alpha does not move twice as far", twice, 2 * once, example=f"rewards {shown(rewards)}")


def _swapped(call: Callable[[Array, Array], Array], eps: Array, seed: int) -> Callable[[Array], None]:
    """Return the test that members of equal reward can be exchanged."""

    def test(rewards: Array) -> None:
        places = np.arange(len(rewards))
        for value in np.unique(rewards):
            same = np.flatnonzero(rewards == value)
            places[same] = np.roll(same, 1)
        compare(
            "members of equal reward have different weights",
            call(rewards, eps[places]),
            call(rewards, eps),
            example=f"rewards {shown(rewards)} and noise of seed {seed}",
        )

    return test


def diagnosis(call: Callable[[Array, Array], Array], rewards: Array, rows: Array, rule: ESConfig) -> str:
    """Return what is probably wrong with an update, from what multiplies each noise vector in it."""
    if np.allclose(call(rewards, rows), call(rewards, 2 * rows), rtol=TIGHT):
        return "the displacement is normalised: it does not grow with the noise"
    return explained(lambda values: recovered(call, values, rule), rewards, rule)


TIGHT = 1e-5
"""Relative difference of numbers that are the same but for rounding in float32."""


def sample(call: Callable[[Array, Array], Array], rule: ESConfig, slope: float, seed: int) -> StepSample:
    """Return independent steps from Gaussian noise and a linear reward along the first axis with noise of spread 1."""
    count, size = estimator_of(rule).directions, estimator_of(rule).evaluations
    replicas = int(np.clip(LARGEST / (size * rule.dim), 8, REPLICAS))
    rng = np.random.default_rng([seed, 13, int(slope > 0)])
    moved, given = np.zeros((replicas, rule.dim)), np.zeros((replicas, size))
    for k in range(replicas):
        rows = in_turn(rng.standard_normal((count, rule.dim)), rule)
        given[k] = slope * rule.sigma * rows[:, 0] + rng.standard_normal(size)
        moved[k] = call(given[k], rows)
    if not np.any(moved):
        raise ViolationError("no step moves")
    return StepSample(moved=moved, rewards=given, slope=slope)
