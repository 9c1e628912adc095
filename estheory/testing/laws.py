"""Laws of a step that hold in distribution, judged over independent steps at a stated rate of false failures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, chi_square_tails, normal_cdf, normal_quantile
from estheory.cosine_laws import CosineLaw
from estheory.diagnosis.coefficients import direction_weights
from estheory.diagnosis.faults import explain_ratio, length_sentence, walk_faults
from estheory.landscape import linear_signal
from estheory.laws import Law
from estheory.rules import ESConfig
from estheory.testing.failures import Check, ViolationError
from estheory.theory.estimators import estimator_of
from estheory.theory.signal import first_step_share, gradient_cosine, step_norm

TESTS = 8
"""Tests that share the rate of false failures: two of each of four laws."""


@dataclass(frozen=True, kw_only=True)
class StepSample:
    """Independent steps of one rule on a linear reward along the first coordinate, with reward noise of spread 1.

    Attributes
    ----------
    moved
        Displacements, shape (replicas, dim), weight units.
    rewards
        Of each evaluation, shape (replicas, evaluations), mirrored members in turn.
    slope
        Of the reward, reward per weight; 0 for rewards that are noise alone.
    """

    moved: Array
    rewards: Array
    slope: float


def law_checks(
    sample: Callable[[float], StepSample], rule: ESConfig, level: float, diagnose: Callable[[], str]
) -> list[Check]:
    """Return the statistical laws that the rule claims; together they fail a right rule with probability ``level``.

    Each law is exact, so that its p-value is: the variance of flat coordinates given the rewards (chi-square), the norm
    and the two cosines by the normal scores of their laws, whose mean is normal and whose squares are chi-square.
    """
    slope = 1.0 / rule.sigma  # half of a member's variance is signal
    drawn: dict[float, StepSample] = {}

    def steps(of: float) -> StepSample:
        if of not in drawn:
            drawn[of] = sample(of)
        return drawn[of]

    def variance(of: float) -> None:
        found = steps(of)
        weights = np.stack([direction_weights(r, rule) for r in found.rewards])
        unit = (first_step_share(rule) * rule.step_size / rule.population) ** 2 * np.sum(weights**2, axis=1)
        flat = found.moved[:, 1:]
        square, freedom = float(np.sum(np.sum(flat**2, axis=1) / unit)), flat.size
        if min(chi_square_tails(square, freedom)) < level / (2 * TESTS):
            ratio, error = math.sqrt(square / freedom), 1 / math.sqrt(2 * freedom)
            raise ViolationError(
                "the variance of coordinates that the reward does not depend on is not the rule's",
                example=f"{len(flat)} steps, rewards {'of slope 1/sigma along one axis' if of else 'of noise alone'}",
                measured=f"{ratio**2 * np.mean(unit):.5g} +- {2 * error * ratio**2 * np.mean(unit):.2g}",
                expected=f"{np.mean(unit):.5g}",
                fault=_quiet(diagnose) or length_sentence(ratio, explain_ratio(ratio, error, walk_faults(rule, 1))),
            )

    def norm() -> None:
        found = steps(0.0)
        law = step_norm(rule, linear_signal(sigma=rule.sigma, reliability=0.0, reward_std=1.0), float(rule.dim))
        _judge("the norm of a step", np.linalg.norm(found.moved, axis=1), law, level)

    def direction() -> None:
        found = steps(slope)
        cosine = found.moved[:, 0] / np.linalg.norm(found.moved, axis=1)
        _judge("the cosine of a step with the gradient", cosine, gradient_cosine(rule, 0.5), level)

    def unrelated() -> None:
        moved = steps(0.0).moved
        first, second = moved[0 : len(moved) // 2 * 2 : 2], moved[1::2]
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        law = CosineLaw(0.0, 1.0, 1.0, rule.dim - 1.0)
        _judge("the cosine of two steps with noise of their own", np.sum(first * second, axis=1) / lengths, law, level)

    def check(name: str, claim: str, test: Callable[[], None]) -> Check:
        return Check(name=name, claim=claim, test=test, diagnose=diagnose)

    if rule.noise != "gaussian" or rule.dim < 2:
        return []
    flat = "the variance of a coordinate that the reward ignores is the rule's"
    found = [
        check("flat variance", flat, lambda: variance(0.0)),
        check("flat variance beside a signal", f"{flat}, whatever the reward is", lambda: variance(slope)),
        check("independent steps", "steps with noise of their own are unrelated", unrelated),
    ]
    if estimator_of(rule).cosine_label == "exact":
        found.append(
            check("progress", "a step leans towards the gradient of a linear reward as far as it can", direction)
        )
    if estimator_of(rule).fixed_variance:  # of the others the law is a mixture
        found.append(check("law of the norm", "the norm of a step follows its chi law", norm))
    return found


def _quiet(diagnose: Callable[[], str]) -> str:
    try:
        return diagnose()
    except ViolationError:
        return ""


def _judge(what: str, values: Array, law: Law, level: float) -> None:
    """Raise a violation where independent values do not follow a law: by mean and size of their normal scores."""
    tails = [law.tails(float(value)) for value in values]
    scores = np.array(
        [normal_quantile(max(low, 1e-300)) if low < 0.5 else -normal_quantile(max(high, 1e-300)) for low, high in tails]
    )
    mean = float(scores.sum()) / math.sqrt(len(scores))
    pvalues = (2 * normal_cdf(-abs(mean)), 2 * min(chi_square_tails(float(scores @ scores), len(scores))))
    if min(pvalues) < level / TESTS:
        raise ViolationError(
            f"{what} does not follow its law",
            example=f"{len(values)} independent values",
            measured=f"mean {values.mean():.6g}, standard deviation {values.std():.3g} (p = {min(pvalues):.1g})",
            expected=f"mean {law.mean:.6g}, standard deviation {law.std:.3g}",
        )
