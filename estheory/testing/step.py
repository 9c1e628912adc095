"""Checks of a whole step, which draws its own noise: theta, a reward function and a seed in, theta out.

The reward function that a step is given records where it is evaluated. So the noise of every member is seen, the
rewards can be chosen member by member, and a step is held to the same invariants as an update whose noise is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.diagnosis.coefficients import direction_weights
from estheory.diagnosis.noise import explain_noise
from estheory.errors import ConfigError
from estheory.rules import ESConfig
from estheory.testing.algebra import Response, compare, explained, plain_rewards, reward_checks
from estheory.testing.failures import Check, ViolationError
from estheory.testing.laws import law_checks
from estheory.testing.step_noise import StepSamples, require_noise
from estheory.testing.step_subject import Steps
from estheory.testing.subject import as_array, shown
from estheory.testing.update import TIGHT, require_room
from estheory.theory.estimators import estimator_of

SMALLEST_DIM = 8
"""Dimensions below which noise vectors are alike by chance."""
EXAMPLES = 6
"""Examples of an invariant of rewards: each costs two steps or more."""
RESIDUE = "rounding is left: perturbations are taken back by subtraction, or equal rewards get coefficients beside 0"
CHAIN = 6
"""Steps of a run with memory."""


def step_checks(
    step: Callable[..., Any], rule: ESConfig, shapes: Sequence[tuple[int, ...]] | None, seed: int, level: float
) -> list[Check]:
    """Return the checks of ``step(theta, reward_function, seed) -> theta``."""
    require_room(rule)
    if rule.dim < SMALLEST_DIM:
        raise ConfigError(f"{rule.dim} dimensions are too few to tell members apart", f"give {SMALLEST_DIM} or more")
    if rule.dtype != "float32":
        raise ConfigError(f"{rule.dtype} steps are not checked", "check the step in float32")
    if shapes is not None and sum(math.prod(shape) for shape in shapes) != rule.dim:
        raise ConfigError(f"the shapes do not have the rule's {rule.dim} elements", "make them equal")
    if shapes is None and rule.noise != "gaussian":
        raise ConfigError(f"{rule.noise} noise needs the shapes of the tensors", "give shapes")
    steps = Steps(step, rule, shapes, seed)
    if steps.remembers and not hasattr(step, "start"):
        raise ConfigError(
            "a step with momentum or an anchor has memory, which a check must start anew",
            "give an object with start(theta), called before the first step of a run",
        )
    rewards = plain_rewards(rule, seed)
    noise: dict[int, Array] = {}

    def eps_of(number: int) -> Array:
        if number not in noise:
            noise[number] = steps.members(number)
        return noise[number]

    def diagnose() -> str:
        return _diagnosis(steps, rewards, seed)

    def deterministic() -> None:
        first, second = (steps.started(steps.generic, seed)[0] for _ in range(2))
        if not np.array_equal(first, second):
            raise ViolationError(
                "two steps of one seed differ",
                measured=shown(second),
                expected=shown(first),
                fault="randomness that the seed does not fix, or memory from call to call",
            )

    def untouched() -> None:
        steps.begin(steps.theta)
        packed = steps.packed(steps.theta)
        steps.subject.raw(packed, lambda parameters: steps.generic(steps.flat(parameters, steps.subject.name)), seed)
        after = steps.flat(packed, steps.subject.name)
        if not np.array_equal(after, steps.theta):
            raise ViolationError(
                "theta is changed in place",
                measured=shown(after),
                expected=shown(steps.theta),
                fault="the step updates the caller's array (copy it), or does not take its perturbations back",
            )

    def kept() -> None:
        steps.begin(steps.theta)
        result = steps.subject.raw(
            steps.packed(steps.theta, np.float32),
            lambda parameters: steps.generic(steps.flat(parameters, steps.subject.name)),
            seed,
        )
        for part in [result] if steps.given is None else result:
            found = as_array(part, steps.subject.name)
            if found.dtype.itemsize < 4 or found.dtype.kind in "iub":
                raise ViolationError(
                    "theta comes back in a narrower number format", measured=str(found.dtype), expected="float32"
                )

    def restored() -> None:
        moved = steps.started(lambda position: 1.0, seed)[0]
        if np.any(moved):
            size = float(np.abs(moved).max() / np.abs(steps.theta).max())
            raise ViolationError(
                "where all rewards are equal, theta does not come back bit by bit",
                example="all rewards 1",
                measured=f"off by {np.abs(moved).max():.3g}",
                expected="the very bits",
                fault=RESIDUE if size < TIGHT else "",
            )

    def seeds() -> None:
        one, other = eps_of(seed), eps_of(seed + 1)
        if any(np.allclose(row, again, atol=1e-3) for row in one for again in other):
            raise ViolationError(
                f"seeds {seed} and {seed + 1} draw the same noise", fault="the seed does not reach the noise"
            )

    def workers() -> None:
        one, two = (steps.started(steps.generic, seed, workers=count)[0] for count in (1, 2))
        if not np.array_equal(one, two):
            raise ViolationError("two workers do not make the step of one", measured=shown(two), expected=shown(one))

    def alpha() -> None:
        once, twice = (steps.started(steps.generic, seed, alpha=k * rule.step_size)[0] for k in (1, 2))
        compare("twice the alpha does not move twice as far", twice, 2 * once, example=f"seed {seed}")

    def remembered() -> None:
        steps.begin(steps.theta)
        theta, taken = steps.theta, []
        for number in range(CHAIN):
            moved, visited, found = steps.take(theta, steps.generic, seed + number)
            eps, values = steps.ordered((visited - theta) / rule.sigma, found)
            taken.append((values, eps))
            compare(
                f"theta after step {number + 1} of a run is not the rule's",
                moved - steps.theta,
                steps.walked(taken),
                example=f"seeds {seed} to {seed + number}",
            )
            theta = moved

    def check(name: str, claim: str, test: Callable[[], None], *, basic: bool = False) -> Check:
        return Check(name=name, claim=claim, test=test, diagnose=diagnose, basic=basic)

    sample = StepSamples(steps, seed)
    response = Response(
        rule=rule,
        of=lambda values: steps.move(values, eps_of(seed), seed),
        expected=lambda values: steps.expected(values, eps_of(seed)),
        diagnose=diagnose,
        seed=seed,
        examples=EXAMPLES,
    )
    found = [
        check("result", "a step returns theta's shapes, in finite numbers", lambda: _one(steps, seed), basic=True),
        check("determinism", "the same seed gives the same bits", deterministic, basic=True),
        check("members", _members_claim(rule), lambda: _counted(steps, seed), basic=True),
        check("inputs", "theta is left as it was", untouched),
        check("number format", "theta in float32 does not come back in fewer bits", kept),
        check("restore", "equal rewards return theta bit by bit", restored),
        check("seeds", "another seed draws other noise", seeds),
        check("noise", _noise_claim(rule), lambda: require_noise(steps, sample, level)),
    ]
    if steps.subject.takes("workers"):
        found.append(check("workers", "one worker and two give the same bits", workers))
    if steps.subject.takes("alpha"):
        found.append(check("alpha", "the step is proportional to alpha", alpha))
    found += reward_checks(response)
    if steps.remembers:
        found.append(check("memory", "momentum and anchor act as the rule says, step after step", remembered))
    return found + law_checks(sample, rule, level, diagnose)


def _members_claim(rule: ESConfig) -> str:
    estimator = estimator_of(rule)
    return f"a step evaluates {estimator.evaluations} members{', each with its mirror image' * estimator.paired}"


def _noise_claim(rule: ESConfig) -> str:
    kinds = {"gaussian": "independent standard normals", "shared-seed": "shared by tensors of equal size"}
    kind = kinds.get(rule.noise, f"A B'/sqrt({rule.noise_rank}) of normal factors per matrix")
    return f"members stand at theta + sigma eps, eps {kind}"


def _one(steps: Steps, seed: int) -> None:
    steps.started(steps.generic, seed)


def _counted(steps: Steps, seed: int) -> None:
    """Raise a violation where members are missing, doubled, accumulated or wrongly mirrored."""
    _, eps, rewards = steps.started(steps.generic, seed)
    clauses = [clause for clause in explain_noise(eps, steps.rule, steps.shapes) if "member" in clause]
    try:
        steps.ordered(eps, rewards)
    except ViolationError as found:
        raise ViolationError(
            found.what, expected=found.expected, example=f"seed {seed}", fault="; ".join(clauses)
        ) from None
    if clauses:
        raise ViolationError("the members are not those of the rule", example=f"seed {seed}", fault="; ".join(clauses))


def _diagnosis(steps: Steps, rewards: Array, seed: int) -> str:
    """Return what is probably wrong with a step: its noise, or what multiplies it."""
    rule = steps.rule
    _, rows, values = steps.started(steps.generic, seed)
    if clauses := explain_noise(rows, rule, steps.shapes):
        return "; ".join(clauses)
    eps, _ = steps.ordered(rows, values)
    if len(eps) > rule.dim:
        return ""
    plain = rule.step_size / rule.population * direction_weights(rewards, rule) @ eps
    kept = float(steps.expected(rewards, eps) @ plain) / float(plain @ plain)  # what momentum and anchor leave at once

    def weights(values: Array) -> Array:
        moved = steps.move(values, eps, seed) / (kept or 1.0)
        return np.asarray(np.linalg.lstsq(eps.T, moved, rcond=None)[0]) * rule.population / rule.step_size

    moved = steps.move(rewards, eps, seed)
    spanned = kept * rule.step_size / rule.population * weights(rewards) @ eps
    if np.linalg.norm(moved - spanned) > 1e-3 * np.linalg.norm(moved):
        return "the step moves out of the span of its members' noise (other noise is added than was evaluated)"
    return explained(weights, rewards, rule)
