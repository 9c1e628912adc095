"""The parameters that an ES run trains, and the one place that moves them: run, workers, resume and replay alike."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from estheory.models.noise import WHOLE, MemberNoise, Part
from estheory.models.noise_streams import NoiseStructure
from estheory.models.parameters import FlatParameters
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row

_BLOCK = 1 << 18


def run_noise(config: ESRunConfig, parameters: FlatParameters) -> MemberNoise:
    """Return the noise of a run's members.

    `config`: the run: its seed, noise structure and factors of sigma.
    """
    factors = config.sigma_factors(parameters.names)
    structure = NoiseStructure(kind=config.noise, scales=factors, generator=config.generator)
    return MemberNoise(parameters=parameters, seed=config.seed, structure=structure, threads=config.threads)


class Trajectory:
    """theta of an ES run, moved by the rows of steps.jsonl in turn.

    One step, with u = (alpha / N) sum_k w_k eps_k accumulated in float32 and m the momentum's velocity:

        m <- beta m + (1 - beta) u
        theta <- theta + m - kappa2 (theta - theta_0) - kappa1 sign(theta - theta_0)          anchor form "before"
        theta <- theta + m, then theta - kappa2 (theta - theta_0) - kappa1 sign(theta - theta_0)          "after"

    computed in float32 and rounded once to the dtype of the weights; with update path "sequential" the terms of u are
    added and rounded one by one. Perturb-restore pairs on theta itself come first.

    Parameters
    ----------
    parameters
        Gives names, shapes and the buffer; the buffer is not touched.
    base : Tensor, shape (dim,)
        theta_0; kept, not changed.
    config
        The run.
    takes_base
        `base` becomes theta itself and moves, which saves a copy of the model. Not with an anchor, which pulls to it.

    Attributes
    ----------
    theta : Tensor, shape (dim,)
        The parameters after `step` steps.
    step
        Steps applied so far.
    """

    def __init__(
        self, parameters: FlatParameters, base: Tensor, config: ESRunConfig, *, takes_base: bool = False
    ) -> None:
        self.base = base
        self.config = config
        self.theta = base if takes_base else base.clone()
        self.step = 0
        self._noise = run_noise(config, parameters)
        self._velocity = torch.zeros_like(base, dtype=torch.float32) if config.momentum else None
        self._worn: Tensor | None = None  # theta after some of the coming step's perturb-restore pairs
        self._pairs = 0

    def place(self, out: Tensor, evaluation: int) -> None:
        """Set a vector to the parameters of one evaluation of the step to come.

        `evaluation`: as `estheory.runs.config.ESRunConfig.evaluated` counts: members, partners, theta itself.
        """
        config = self.config
        centre = self.theta
        if evaluation >= config.evaluations:
            of = evaluation - config.evaluations
            if of == config.partners(self.step + 1):
                out.copy_(centre)
                return
            direction, sign = config.estimator.direction_of(of)
            self._perturb(out, centre, direction, -sign)
            return
        if evaluation < config.restore_pairs:
            centre = self._after_pairs(evaluation)
        direction, sign = config.estimator.direction_of(evaluation)
        self._perturb(out, centre, direction, sign)

    def advance(self, row: Row) -> None:
        """Move theta by the step that a row records.

        `row`: of steps.jsonl: the next step's seeds and coefficients.
        """
        weights = self._weights(row)
        if self.config.restore_pairs:
            self.theta.copy_(self._after_pairs(self.config.restore_pairs))
        if self._moves_alone:
            self._move(weights)
        elif any(weights):
            self._add(self.theta, weights)
        self.follow(row)

    def in_parts(self, row: Row) -> bool:
        """Return whether the step of a row can be made by `write_part` and `take` in place of `advance`."""
        return not self._moves_alone and not self.config.restore_pairs and any(self._weights(row))

    def write_part(self, out: Tensor, row: Row, part: Part) -> None:
        """Write one part of theta after the step of a row; theta stays as it is, so that this can be done again.

        `out`: shape (dim,); entries of other parts are left alone.
        """
        self._add(out, self._weights(row), start=self.theta, part=part)

    def take(self, made: Tensor, row: Row) -> None:
        """Move theta by the step of a row to what `write_part` made of it."""
        self.theta.copy_(made)
        self.follow(row)

    def follow(self, row: Row) -> None:
        """Count the step of a row, by which theta has been moved already."""
        self._weights(row)
        self.step += 1
        self._worn, self._pairs = None, 0

    @property
    def _moves_alone(self) -> bool:
        """Whether a step is more than a sum of noise vectors."""
        return bool(self.config.momentum or self.config.anchor_l2 or self.config.anchor_l1)

    def _weights(self, row: Row) -> list[float]:
        """Return the weights of the noise vectors in a row, which must be the next step's."""
        config = self.config
        shaped = np.array([float(value) for value in row["coefficients"]])
        if len(shaped) != config.population:
            raise ValueError(f"step {row['step']} has {len(shaped)} coefficients")
        if row["seeds"] != {"seed": config.seed, "step": self.step + 1}:
            raise ValueError(f"step {row['step']} has seeds {row['seeds']}")
        weights: list[float] = config.estimator.noise_weights(shaped).tolist()
        return weights

    def _move(self, weights: list[float]) -> None:
        """Take a step with momentum or an anchor."""
        config = self.config
        update = torch.zeros_like(self.theta, dtype=torch.float32)
        if any(weights):
            self._add(update, weights)
        if self._velocity is not None:
            update = self._velocity.mul_(config.momentum).add_(update.mul_(1 - config.momentum))
        for start in range(0, len(update), _BLOCK):
            block = slice(start, start + _BLOCK)
            base, old = self.base[block].float(), self.theta[block].float()
            new = old + update[block]
            away = (new if config.anchor_form == "after" else old) - base
            if config.anchor_l2:
                new.sub_(away * config.anchor_l2)
            if config.anchor_l1:
                new.sub_(away.sign_().mul_(config.anchor_l1))
            self.theta[block].copy_(new)

    def _add(self, out: Tensor, weights: list[float], *, start: Tensor | None = None, part: Part = WHOLE) -> None:
        """Add (alpha / N) sum_k w_k eps_k of the step to come to `out`, or write its sum with `start` there."""
        config = self.config
        add = self._noise.add_in_turn if config.update_path == "sequential" else self._noise.add_weighted
        scale = config.alpha / config.population
        add(out, weights, scale=scale, step=self.step + 1, start=start, part=part)

    def _after_pairs(self, count: int) -> Tensor:
        """Return theta after the first `count` perturb-restore pairs of the step to come."""
        if self._worn is None or self._pairs > count:
            self._worn, self._pairs = self.theta.clone(), 0
        for evaluation in range(self._pairs, count):
            direction, sign = self.config.estimator.direction_of(evaluation)
            self._perturb(self._worn, self._worn, direction, sign)
            self._perturb(self._worn, self._worn, direction, -sign)
        self._pairs = count
        return self._worn

    def _perturb(self, out: Tensor, centre: Tensor, direction: int, sign: float) -> None:
        self._noise.perturb(out, centre, sigma=sign * self.config.sigma, step=self.step + 1, member=direction)
