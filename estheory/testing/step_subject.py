"""A step under test: it draws its own noise, and the reward function it is given records where it is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.diagnosis.coefficients import direction_weights
from estheory.diagnosis.noise import mirrored_rows, tensor_parts
from estheory.rules import ESConfig
from estheory.simulation.update_steps import anchored
from estheory.testing.failures import ViolationError
from estheory.testing.subject import Subject, checked_array
from estheory.theory.estimators import estimator_of


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
