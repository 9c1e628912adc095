"""Invariants that hold to rounding whatever the rewards are, searched by hypothesis for the smallest example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure

from estheory._special import Array
from estheory.diagnosis.coefficients import direction_weights, explain_coefficients
from estheory.rules import ESConfig
from estheory.testing.failures import Check, ViolationError
from estheory.testing.strategies import reward_vectors
from estheory.testing.subject import shown
from estheory.theory.estimators import estimator_of

TOLERANCE = 1e-4
"""Relative: float32 code with rewards of spread 0.04 about 15 stays below."""
EXAMPLES = 20
"""Examples of an invariant of rewards."""


ROUNDED = (
    "the mean of equal numbers is rounded, and what is left is divided by its own standard deviation "
    "(compare the smallest reward with the largest)"
)


class _EnoughError(BaseException):
    """Ends a search: the smallest example so far will do."""


def search(test: Callable[..., None], *strategies: st.SearchStrategy[Any], seed: int, examples: int = EXAMPLES) -> None:
    """Try a test on drawn examples; the violation that comes out is that of the smallest one found in bounded time."""
    smallest: list[ViolationError] = []
    left = 3 * examples

    def bounded(drawn: tuple[Any, ...]) -> None:
        nonlocal left
        if smallest:
            left -= 1
            if left < 0:
                raise _EnoughError
        try:
            test(*drawn)
        except ViolationError as found:
            smallest[:] = [found]  # hypothesis goes on from the smallest that fails
            raise

    run = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )(hypothesis.seed(seed)(hypothesis.given(st.tuples(*strategies))(bounded)))
    try:
        run()
    except FlakyFailure:
        raise ViolationError("the result of one example differs from call to call") from None
    except _EnoughError:
        raise smallest[0] from None


def compare(what: str, measured: Array, expected: Array, *, example: str, unit: float = 0.0) -> None:
    """Raise a violation where two results differ by more than rounding; ``unit`` is a size that counts."""
    gap = float(np.linalg.norm(measured - expected))
    if gap > TOLERANCE * max(float(np.linalg.norm(measured)), float(np.linalg.norm(expected)), unit):
        raise ViolationError(what, example=example, measured=shown(measured), expected=shown(expected))


@dataclass(frozen=True, kw_only=True)
class Response:
    """What the user's code makes of the rewards of one step: coefficients, or a displacement with its noise fixed.

    Attributes
    ----------
    rule
        What it claims to be.
    of
        From rewards, shape (evaluations,), to the result.
    expected
        The same by the rule.
    diagnose
        Returns the likely fault, or nothing.
    seed
        Of the examples.
    examples
        Their number for each invariant.
    moves
        Whether the result is a displacement, to which pairs of even reward add nothing.
    """

    rule: ESConfig
    of: Callable[[Array], Array]
    expected: Callable[[Array], Array]
    diagnose: Callable[[], str]
    seed: int
    examples: int = EXAMPLES
    moves: bool = True

    @property
    def size(self) -> int:
        """Number of rewards of a step."""
        return estimator_of(self.rule).evaluations

    def rewards(self, *kinds: Any) -> st.SearchStrategy[Array]:
        """Return a strategy of rewards that single precision tells apart."""
        drawn = reward_vectors(self.size, kinds=kinds or ("plain", "ties", "binary"))
        return drawn.filter(lambda r: bool(r.std() > 0.04 and np.any(direction_weights(r, self.rule))))

    def check(self, name: str, claim: str, test: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> Check:
        """Return the check of a test over examples."""
        return Check(
            name=name,
            claim=claim,
            test=lambda: search(test, *strategies, seed=self.seed, examples=self.examples),
            diagnose=self.diagnose,
        )


def plain_rewards(rule: ESConfig, seed: int) -> Array:
    """Return rewards of a step that all differ, of spread about 1."""
    drawn = np.random.default_rng([seed, 11]).standard_normal(estimator_of(rule).evaluations)
    return np.asarray(np.round(3 + drawn, 3))


def explained(weights: Callable[[Array], Array], rewards: Array, rule: ESConfig) -> str:
    """Return what the weights that code gives to noise vectors are, on plain rewards and, where right, on tied ones."""
    plain = explain_coefficients(rewards, weights(rewards), rule)
    if not plain.right:
        return plain.text
    tied = np.round(rewards)
    return explain_coefficients(tied, weights(tied), rule).text


def reward_checks(response: Response) -> list[Check]:
    """Return the invariants of what is made of rewards."""
    rule, of = response.rule, response.of
    estimator = estimator_of(rule)
    free = estimator.scale_free

    def shift(rewards: Array, by: float) -> None:
        moved, still = of(rewards + by), of(rewards)
        try:
            compare(
                f"adding {by:g} to all rewards changes the result", moved, still, example=f"rewards {shown(rewards)}"
            )
        except ViolationError as found:
            if np.linalg.norm(moved - still) < 0.01 * np.linalg.norm(still):
                found.fault = "rounding: the variance is computed as E[r^2] - E[r]^2, or in few digits"
            raise

    def scale(rewards: Array, by: float) -> None:
        compare(
            f"multiplying all rewards by {by:g} does not multiply the result by {1 if free else by:g}",
            of(by * rewards),
            of(rewards) * (1 if free else by),
            example=f"rewards {shown(rewards)}",
        )

    def sign(rewards: Array) -> None:
        compare(
            "turning the sign of all rewards does not turn the sign of the result",
            of(-rewards),
            -of(rewards),
            example=f"rewards {shown(rewards)}",
        )

    def monotone(rewards: Array) -> None:
        compare(
            "cubing all rewards, which keeps their order, changes the result",
            of(rewards**3),
            of(rewards),
            example=f"rewards {shown(rewards)}",
        )

    def definition(rewards: Array) -> None:
        compare(
            "the result is not that of the rule",
            of(rewards),
            response.expected(rewards),
            example=f"rewards {shown(rewards)}",
        )

    def unit() -> float:
        return float(np.linalg.norm(response.expected(plain_rewards(rule, response.seed))))

    def equal(value: float) -> None:
        result = _finite(of, np.full(response.size, value), value)
        if np.linalg.norm(result) > TOLERANCE * unit():
            rounded = value != np.round(4 * value) / 4
            raise ViolationError(
                "the step moves where all rewards are equal",
                example=f"all rewards {value:g}",
                measured=shown(result),
                expected="zeros",
                fault=ROUNDED if rounded else "",
            )

    def pairs(values: Array) -> None:
        result = of(np.repeat(values, 2))
        compare(
            "the step moves where both members of each pair have the same reward",
            result,
            np.zeros_like(result),
            example=f"rewards of the pairs {shown(values)}",
            unit=unit(),
        )

    factor = "unchanged" if free else "multiplied by it"
    found = [
        response.check(
            "definition",
            f"the result is that of the rule ({estimator.title})",
            definition,
            response.rewards(),
        ),
        response.check(
            "shift of rewards",
            "a constant added to all rewards changes nothing",
            shift,
            response.rewards(),
            st.sampled_from([1.0, -2.0, 8.0]),
        ),
        response.check(
            "scale of rewards",
            f"rewards times a positive number leave the result {factor}",
            scale,
            response.rewards(),
            st.sampled_from([2.0, 0.5, 8.0]),
        ),
        response.check("sign of rewards", "rewards of the other sign give the opposite step", sign, response.rewards()),
        response.check(
            "equal rewards",
            "where all rewards are equal nothing moves",
            equal,
            st.sampled_from([0.0, 1.0, -3.0, 0.25, 0.1]),
        ),
    ]
    if estimator.order_alone:
        found.append(
            response.check("order alone", "only the order of the rewards counts", monotone, response.rewards())
        )
    if estimator.paired and response.size > 2 and (response.moves or estimator.evaluations_per_member > 1):
        values = reward_vectors(response.size // 2, kinds=("plain",)) if response.size > 4 else st.just(np.arange(2.0))
        found.append(
            response.check("even rewards", "a pair whose two rewards are equal does not move the step", pairs, values)
        )
    return found


def _finite(of: Callable[[Array], Array], rewards: Array, value: float) -> Array:
    """Return a result on equal rewards; one that is not finite has a known cause."""
    try:
        return of(rewards)
    except ViolationError as found:
        if "not finite" not in found.what:
            raise
        fault = "rewards are divided by a standard deviation of 0 (add 1e-8 to it, or skip such a step)"
        raise ViolationError(found.what, example=f"all rewards {value:g}", expected="zeros", fault=fault) from None
