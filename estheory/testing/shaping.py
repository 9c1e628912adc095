"""Checks of a shaping: from the rewards of a step to its coefficients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from estheory._special import Array
from estheory.diagnosis.coefficients import explain_coefficients
from estheory.rules import ESConfig
from estheory.testing.algebra import Response, compare, explained, plain_rewards, reward_checks
from estheory.testing.failures import Check, ViolationError
from estheory.testing.subject import Subject, shown
from estheory.theory.estimators import estimator_of


def shaping_checks(shaping: Callable[..., Any], rule: ESConfig, seed: int) -> list[Check]:
    """Return the checks of ``shaping(rewards) -> coefficients``."""
    subject = Subject(shaping)
    shape = (rule.population,)
    rewards = plain_rewards(rule, seed)

    def of(values: Array) -> Array:
        return subject(values, shape=shape)

    def diagnose() -> str:
        return explained(of, rewards, rule)

    def tied(values: Array) -> None:
        result = of(values)
        for value in np.unique(values):
            same = result[values == value]
            if np.ptp(same) > 1e-6 * max(1.0, float(np.abs(result).max())):
                raise ViolationError(
                    f"the members of reward {value:g} have different coefficients",
                    example=f"rewards {shown(values)}",
                    measured=shown(same),
                    expected="one number",
                    fault=explain_coefficients(values, result, rule).text,
                )

    estimator = estimator_of(rule)
    inner = estimator.members_per_direction
    block = inner * estimator.evaluations_per_member

    def order(values: Array, shuffle: int) -> None:
        places = np.random.default_rng(shuffle).permutation(estimator.evaluations // block)
        moved = values.reshape(-1, block)[places].ravel()
        compare(
            "members in another order do not have their own coefficients",
            of(moved),
            of(values).reshape(-1, inner)[places].ravel(),
            example=f"rewards {shown(values)}, then {shown(moved)}",
        )

    response = Response(
        rule=rule, of=of, expected=lambda r: estimator_of(rule).shape(r), diagnose=diagnose, seed=seed, moves=False
    )
    found = [
        *call_checks(subject, (rewards,), shape, diagnose),
        *reward_checks(response),
        response.check(
            "order of members",
            "each member keeps its coefficient when the members change places",
            order,
            response.rewards("plain"),
            st.integers(0, 100),
        ),
    ]
    if estimator.evaluations_per_member == 1:
        found.append(
            response.check("ties", "members of equal reward have equal coefficients", tied, response.rewards("ties"))
        )
    return found


def call_checks(
    subject: Subject, arguments: tuple[Array, ...], shape: tuple[int, ...], diagnose: Callable[[], str]
) -> list[Check]:
    """Return what must hold of any call: shape, finite numbers, determinism, inputs untouched, float32."""

    def returns() -> None:
        subject(*arguments, shape=shape)

    def deterministic() -> None:
        first, second = (subject(*arguments, shape=shape) for _ in range(2))
        if not np.array_equal(first, second):
            raise ViolationError(
                "two calls with the same arguments give different results",
                measured=shown(second),
                expected=shown(first),
                fault="randomness that is not seeded, or memory from call to call",
            )

    def untouched() -> None:
        given = [a.copy() for a in arguments]
        subject.raw(*given)
        for number, (before, after) in enumerate(zip(arguments, given, strict=True), 1):
            if not np.array_equal(before, after):
                raise ViolationError(
                    f"argument {number} is changed in place",
                    measured=shown(after),
                    expected=shown(before),
                    fault="an operation in place (-=, *=, sort) on what the caller still uses",
                )

    def single() -> None:
        result = subject(*(a.astype(np.float32).astype(np.float64) for a in arguments), shape=shape)
        narrow = subject(*(a.astype(np.float32) for a in arguments), shape=shape)
        compare("float32 arguments give another result", narrow, result, example="the same numbers in float32")

    def check(name: str, claim: str, test: Callable[[], None], *, basic: bool = False) -> Check:
        return Check(name=name, claim=claim, test=test, diagnose=diagnose if name == "float32" else str, basic=basic)

    return [
        check("result", f"a call returns finite numbers of shape {shape}", returns, basic=True),
        check("determinism", "the same arguments give the same bits", deterministic, basic=True),
        check("inputs", "arguments are left as they were", untouched),
        check("float32", "numbers in float32 give the same result to rounding", single),
    ]
