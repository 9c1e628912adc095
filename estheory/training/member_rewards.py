"""The reward of one member of an ES step: what a worker computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from estheory.errors import DataError
from estheory.measurement.accuracy import ExampleScorer
from estheory.models.noise import Part
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row
from estheory.training.session import Session, start_session
from estheory.training.shared import SharedVector, Tickets
from estheory.training.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """Rewards of some evaluations of a step, in their order.

    Attributes
    ----------
    values
        Mean over the step's prompts, of each evaluation.
    halves
        Mean over every other prompt, from the first on: split halves tell the rewards' reliability.
    by_prompt
        Of each evaluation, on each of the step's prompts.
    perturbing
        Seconds that making the members took.
    """

    values: list[float]
    halves: list[float]
    by_prompt: list[list[float]]
    perturbing: float

    def first(self, count: int) -> Rewards:
        """Return those of the first evaluations."""
        return replace(self, values=self.values[:count], halves=self.halves[:count], by_prompt=self.by_prompt[:count])


class Members:
    """A model and the walk of a run: evaluates any member of the step to come.

    Where processes share theta, one of them moves it and the others follow.

    Rewards depend on the configuration, the rows before the step and the number of the evaluation alone.

    `session`: the loaded model; its buffer is overwritten.
    `walk`: the parameters after the last step; moved by the rows of later ones.
    `made`: where theta is another process's: what its next value is written to, shape (dim,).
    """

    def __init__(self, session: Session, config: ESRunConfig, walk: Trajectory, made: Tensor | None = None) -> None:
        self.session = session
        self.config = config
        self.walk = walk
        self._made = made
        self._follows = made is not None

    @classmethod
    def load(cls, config: ESRunConfig, shared: Tickets | None = None) -> Members:
        """Load the model in a process of its own.

        `shared`: memory of the process that moves theta; None, or out of reach: the walk is made here, from the base.
        """
        theta, made = (None, None) if shared is None else (shared.theta.vector(), shared.made.vector())
        session = start_session(config, evaluates=False, base=theta)
        anchored = bool(config.anchor_l1 or config.anchor_l2)
        takes_base = theta is not None or not anchored
        return cls(session, config, Trajectory(session.parameters, session.base, config, takes_base=takes_base), made)

    def share(self) -> tuple[SharedVector, SharedVector]:
        """Move theta, and the buffer that the model computes with, into memory that other processes can map.

        Between steps the buffer is free: parts of theta's next value are written there.
        """
        theta, made = SharedVector(self.walk.theta), SharedVector(self.session.parameters.vector)
        self.walk.theta = theta.vector
        self.session.parameters.move_to(made.vector)
        self._made = made.vector
        return theta, made

    def write_part(self, row: Row, part: Part) -> bool:
        """Write a part of theta after the next step, a row, where the others see it; False where they would not."""
        if self._made is None or self.walk.step + 1 != row["step"]:
            return False
        self.walk.write_part(self._made, row, part)
        return True

    def advance(self, rows: Sequence[Row]) -> None:
        """Move the walk by the rows of the steps that it has not made yet.

        `rows`: in the order of their steps; of those, one not made yet follows the last one made.
        """
        for row in rows:
            if row["step"] > self.walk.step:
                (self.walk.follow if self._follows else self.walk.advance)(row)

    def rewards(self, rows: Sequence[Row], evaluations: Sequence[int]) -> Rewards:
        """Return the rewards of some evaluations of the step to come.

        `rows`: steps of the run; those that the walk has not made yet are applied first.
        Result: NaN where the member gives logits that are not numbers.
        """
        self.advance(rows)
        reward, perturbing = self._reward_function(), 0.0
        values: list[float] = []
        halves: list[float] = []
        by_prompt: list[list[float]] = []
        for evaluation in evaluations:
            started = perf_counter()
            self.walk.place(self.session.parameters.vector, evaluation)
            perturbing += perf_counter() - started
            try:
                scores = reward(evaluation)
            except DataError:
                scores = np.full(self.config.prompts, np.nan)
            values.append(float(scores.mean()))
            halves.append(float(scores[0::2].mean()))
            by_prompt.append(scores.tolist())
        return Rewards(values=values, halves=halves, by_prompt=by_prompt, perturbing=perturbing)

    def _reward_function(self) -> Callable[[int], NDArray[np.float64]]:
        """Make a function that returns the model's reward on each of the step's examples."""
        session, step = self.session, self.walk.step + 1
        scorer = ExampleScorer(
            session.loaded.model,
            session.loaded.tokenizer,
            session.task,
            session.training_examples(step),
            scoring=self.config.reward,
            half_products=self.config.matmul == "bfloat16",
        )

        def reward(evaluation: int) -> NDArray[np.float64]:
            return scorer.scores(session.sampler(step, evaluation) if self.config.decode == "sample" else None)

        return reward
