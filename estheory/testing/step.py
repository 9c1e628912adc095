"""Checks of a whole step, which draws its own noise: theta, a reward function and a seed in, theta out.

The reward function that a step is given records where it is evaluated. So the noise of every member is seen, the
rewards can be chosen member by member, and a step is held to the same invariants as an update whose noise is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import betainc

from estheory._special import Array, chi_square_tails
from estheory.diagnosis.coefficients import direction_weights
from estheory.diagnosis.noise import explain_noise, mirrored_rows, tensor_parts
from estheory.errors import ConfigError
from estheory.rules import ESConfig
from estheory.simulation.update_steps import anchored
from estheory.testing.algebra import Response, compare, explained, plain_rewards, reward_checks
from estheory.testing.failures import Check, ViolationError
from estheory.testing.laws import StepSample, law_checks
from estheory.testing.subject import Subject, as_array, checked_array, shown
from estheory.testing.update import REPLICAS, TIGHT, require_room
from estheory.theory.estimators import estimator_of

SMALLEST_DIM = 8
"""Dimensions below which noise vectors are alike by chance."""
EVALUATIONS = 6000
"""Evaluations of a statistical law, at most."""
EXAMPLES = 6
"""Examples of an invariant of rewards: each costs two steps or more."""
RESIDUE = "rounding is left: perturbations are taken back by subtraction, or equal rewards get coefficients beside 0"
CHAIN = 6
"""Steps of a run with memory."""
NOISE_TESTS = 8
"""Tests of the noise that share the rate of false failures."""


class Steps:
    """A step under test, with the tensors it moves.

    Parameters
    ----------
    step
        ``step(theta, reward_function, seed) -> theta``.
    rule
        What it claims to be.
    shapes
        Of the tensors, where theta is a list of them; None for a vector.
    seed
        Of what the checks draw.
    """

    def __init__(
        self, step: Callable[..., Any], rule: ESConfig, shapes: Sequence[tuple[int, ...]] | None, seed: int
    ) -> None:
        self.subject, self.rule, self.given = Subject(step), rule, shapes
        self.estimator = estimator_of(rule)
        self.shapes = tuple(shapes) if shapes is not None else ((rule.dim,),)
        self.remembers = bool(rule.momentum or rule.anchor_l1 or rule.anchor_l2)
        rng = np.random.default_rng([seed, 14])
        # of the size of sigma, and exact in float32, so that single precision resolves the perturbations
        self.theta = (rule.sigma * rng.standard_normal(rule.dim)).astype(np.float32).astype(np.float64)
        self.ruler = rng.standard_normal(rule.dim)

    def packed(self, flat: Array, dtype: type = np.float64) -> Any:
        """Return what the step is given for a vector."""
        parts: list[Any] = [
            part.reshape(s).astype(dtype) for part, s in zip(tensor_parts(flat, self.shapes), self.shapes, strict=True)
        ]
        return parts[0] if self.given is None else parts

    def flat(self, packed: Any, what: str) -> Array:
        """Return the vector of what the step returned or evaluated."""
        if self.given is None:
            return checked_array(packed, (self.rule.dim,), what)
        if packed is None or not isinstance(packed, Sequence) or len(packed) != len(self.shapes):
            size = f"{len(packed)} parts" if isinstance(packed, Sequence) else type(packed).__name__
            raise ViolationError(f"{what} returned {size}", expected=f"a list of {len(self.shapes)} tensors")
        return np.concatenate(
            [checked_array(part, shape, what).ravel() for part, shape in zip(packed, self.shapes, strict=True)]
        )

    def begin(self, theta: Array) -> None:
        """Tell a step with memory that a run starts."""
        if self.remembers:
            run: Any = self.subject.function
            Subject(run.start).raw(self.packed(theta))

    def take(
        self, theta: Array, score: Callable[[Array], float], seed: int, **keywords: Any
    ) -> tuple[Array, Array, Array]:
        """Return theta after a step, and where and with what rewards members were evaluated, the centre left out."""
        visited: list[Array] = []
        rewards: list[float] = []

        def reward_function(parameters: Any) -> float:
            position = self.flat(parameters, "the reward function's caller")
            value = float(score(position))
            if np.linalg.norm(position - theta) > 1e-6 * np.linalg.norm(theta):
                visited.append(position.copy())
                rewards.append(value)
            return value

        moved = self.flat(self.subject.raw(self.packed(theta), reward_function, seed, **keywords), self.subject.name)
        return moved, np.array(visited).reshape(-1, self.rule.dim), np.array(rewards)

    def started(self, score: Callable[[Array], float], seed: int, **keywords: Any) -> tuple[Array, Array, Array]:
        """Return displacement, noise and rewards of the first step of a run, in the order of evaluation."""
        self.begin(self.theta)
        moved, visited, rewards = self.take(self.theta, score, seed, **keywords)
        return moved - self.theta, (visited - self.theta) / self.rule.sigma, rewards

    def ordered(self, eps: Array, rewards: Array) -> tuple[Array, Array]:
        """Return the noise vectors that were drawn, shape (directions, d), and the rewards with pairs in turn."""
        expected = self.estimator.evaluations
        if len(eps) != expected:
            raise ViolationError(
                f"a step evaluates {len(eps)} members other than the centre",
                expected=f"{expected}: population {self.rule.population}{', both signs' * self.estimator.paired}",
            )
        if not self.estimator.paired:
            return eps, rewards
        pairs = mirrored_rows(eps)
        if 2 * len(pairs) != len(eps):
            raise ViolationError(f"{len(eps) - 2 * len(pairs)} of {len(eps)} members have no mirrored one")
        order = [k for pair in pairs for k in pair]
        return eps[order][0::2], rewards[order]

    def generic(self, position: Array) -> float:
        """Return a reward that is different for every member."""
        return float(self.ruler @ (position - self.theta)) / self.rule.sigma + 3.0

    def members(self, seed: int) -> Array:
        """Return the noise vectors that a seed draws for the first step."""
        _, eps, rewards = self.started(self.generic, seed)
        return self.ordered(eps, rewards)[0]

    def move(self, rewards: Array, eps: Array, seed: int) -> Array:
        """Return the displacement where the members have given rewards, pairs in turn."""
        signed = np.stack([eps, -eps], axis=1).reshape(-1, self.rule.dim) if self.estimator.paired else eps
        places = signed @ self.ruler

        def score(position: Array) -> float:
            place = float((position - self.theta) @ self.ruler) / self.rule.sigma
            return float(rewards[int(np.argmin(np.abs(places - place)))])

        return self.started(score, seed)[0]

    def expected(self, rewards: Array, eps: Array) -> Array:
        """Return the displacement of the rule in its first step."""
        return self.walked([(rewards, eps)])

    def walked(self, steps: Sequence[tuple[Array, Array]]) -> Array:
        """Return the displacement of the rule after some steps, of given rewards and noise vectors."""
        rule, displacement, velocity = self.rule, np.zeros(self.rule.dim), np.zeros(self.rule.dim)
        for rewards, eps in steps:
            update = rule.step_size / rule.population * direction_weights(rewards, rule) @ eps
            velocity = rule.momentum * velocity + (1 - rule.momentum) * update
            displacement = anchored(rule, displacement, velocity)
        return displacement


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

    sample = _Samples(steps, seed)
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
        check("noise", _noise_claim(rule), lambda: _noise(steps, sample, level)),
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


class _Samples:
    """Independent first steps of a run, drawn once for each slope of the reward; the noise of the first is kept."""

    def __init__(self, steps: Steps, seed: int) -> None:
        self.steps, self.seed = steps, seed
        self.eps: Array | None = None

    def __call__(self, slope: float) -> StepSample:
        steps, rule = self.steps, self.steps.rule
        size = estimator_of(rule).evaluations
        replicas = int(np.clip(EVALUATIONS / size, 8, REPLICAS))
        rng = np.random.default_rng([self.seed, 15, int(slope > 0)])
        moved, given, noise = [], [], []
        first = self.seed + 1000 * (1 + int(slope > 0))

        def score(position: Array) -> float:
            return float(slope * (position - steps.theta)[0] + rng.standard_normal())

        for k in range(replicas):
            displacement, rows, values = steps.started(score, first + k)
            eps, values = steps.ordered(rows, values)
            moved.append(displacement)
            given.append(values)
            noise.append(eps)
        self.eps = np.array(noise)
        if not np.any(moved):
            raise ViolationError("no step moves")
        return StepSample(moved=np.array(moved), rewards=np.array(given), slope=slope)


def _noise(steps: Steps, sample: _Samples, level: float) -> None:
    """Raise a violation where the noise of many steps is not what the rule says."""
    if sample.eps is None:
        sample(0.0)
    eps, rule = sample.eps, steps.rule
    assert eps is not None
    flat = eps.reshape(-1, rule.dim)
    one_step = "; ".join(explain_noise(eps[0], rule, steps.shapes))
    level = level / NOISE_TESTS
    _kind(steps, flat, one_step)
    if rule.noise != "gaussian":
        return
    square, freedom = float(np.sum(flat**2)), flat.size
    if min(chi_square_tails(square, freedom)) < level / 2:
        raise ViolationError(
            "the perturbations are not of size sigma",
            example=f"{len(flat)} members",
            measured=f"standard deviation {math.sqrt(square / freedom):.5g} sigma",
            expected=f"1 sigma +- {1 / math.sqrt(2 * freedom):.2g}",
            fault=one_step,
        )
    from scipy.stats import kstest

    few = flat.ravel()[:: max(1, flat.size // 50_000)]
    if kstest(few, "norm").pvalue < level:
        raise ViolationError(
            "the perturbations are not normal",
            example=f"{few.size} coordinates",
            measured=f"mean {few.mean():.4g}, fourth moment {np.mean(few**4):.4g}, largest {np.abs(few).max():.4g}",
            expected="mean 0, fourth moment 3",
            fault=one_step or ("noise is uniform, not normal" if np.abs(few).max() < 3 else ""),
        )
    for one, other in pairwise(eps):
        _unrelated(one[:1], one[1:], "the noise of members of one step", level / (2 * len(eps)), one_step)
        _unrelated(one, other, "the noise of two seeds", level / (2 * len(eps)), "noise repeats from seed to seed")


def _kind(steps: Steps, flat: Array, fault: str) -> None:
    """Raise a violation where tensors share noise and should not, or do not and should, or a factor's rank is off."""
    rule, parts = steps.rule, tensor_parts(flat, steps.shapes)
    sizes = [part.shape[1] for part in parts]
    for later in range(len(parts)):
        for earlier in range(later):
            if sizes[later] != sizes[earlier]:
                continue
            same = np.allclose(parts[later], parts[earlier], atol=1e-3)
            if same != (rule.noise == "shared-seed") and (same or sizes[later] > 1):
                word = "share" if same else "do not share"
                raise ViolationError(f"tensors {earlier} and {later} {word} their noise", fault=fault)
    if rule.noise_rank is None:
        return
    for number, (part, shape) in enumerate(zip(parts, steps.shapes, strict=True)):
        if len(shape) < 2:
            continue
        matrices = part.reshape(len(part), shape[0], -1)
        rank = int(np.linalg.matrix_rank(matrices[0], tol=1e-4 * float(np.linalg.norm(matrices[0]))))
        expected = min(rule.noise_rank, *matrices.shape[1:])
        if rank != expected:
            raise ViolationError(
                f"the noise of tensor {number} has rank {rank}", expected=f"rank {expected}", fault=fault
            )
        rows, columns = matrices.shape[1:]
        mean = float(np.mean(part**2))
        variance = 2 / (rule.noise_rank * rows * columns) * (rows + columns + rule.noise_rank + 1)
        error = math.sqrt(variance / len(part))
        if abs(mean - 1) > 6.5 * error:  # a mean of hundreds of squares is not quite normal: far in its tail
            raise ViolationError(
                f"the noise of tensor {number} has not the variance of the rule",
                measured=f"{mean:.4g} +- {error:.2g}",
                expected="1",
                fault=fault or "; ".join(explain_noise(part[:100], rule, [shape])),
            )


def _unrelated(one: Array, other: Array, what: str, level: float, fault: str) -> None:
    """Raise a violation where rows of two arrays are correlated: the cosine of normal vectors has a beta law."""
    if one.shape[-1] < 2 or not len(other):
        return
    lengths = np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    cosine = np.clip((one @ other.T) / np.where(lengths > 0, lengths, 1.0), -1.0, 1.0)
    pvalue = betainc((one.shape[-1] - 1) / 2, 0.5, np.maximum(1 - cosine**2, 0.0))
    if float(pvalue.min()) * pvalue.size < level:
        place = np.unravel_index(int(pvalue.argmin()), pvalue.shape)
        raise ViolationError(f"{what} is correlated", measured=f"cosine {cosine[place]:.4g}", expected="0", fault=fault)


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
