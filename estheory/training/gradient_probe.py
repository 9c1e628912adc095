"""Minibatch gradients along the way that their mean leads, made before a GRPO run: how far AdamW will go."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from estheory._special import Array
from estheory.errors import DataError
from estheory.runs.config import GRPORunConfig
from estheory.theory.adamw import learning_rates
from estheory.theory.gradient_path import POINTS, point_times
from estheory.training.grpo_trainer import STILL, Scorer, make_trainer
from estheory.training.session import Session, start_session
from estheory.watching import counted_out


def gradient_probe(session: Session) -> Mapping[str, object]:
    """Probe what the minibatch gradients of a GRPO run have in common, before it: the content of probes.json.

    At each point half of the minibatches give one mean gradient and half another; each is divided, weight by weight, by
    the root mean square of the gradients so far, as AdamW does. The model then moves to the next point as AdamW would
    by the mean alone. It is put back at the end. A run in 16 bits is probed in float32, since 16 bits would swallow
    steps of that way.

    `session`: of the untrained model.
    Result: empty where the configuration asks for no probe.
    Raises DataError: for gradients that are not finite, or zero in every minibatch at the start.
    """
    config = session.config
    if not isinstance(config, GRPORunConfig) or not config.gradient_probe:
        return {}
    started = time.perf_counter()
    written = config.dtype
    if written != "float32":
        config = replace(config, dtype="float32")
        session = start_session(config)
    rates = config.lr * learning_rates(config.steps, config.schedule)
    way = _Way(times=point_times(rates, POINTS), rates=rates, each=config.gradient_probe)
    probed = replace(config, steps=way.minibatches, lr=STILL, schedule="constant", checkpoint_every=0)
    scratch = Path(tempfile.mkdtemp(prefix="estheory-probe-"))
    hook = register_optimizer_step_post_hook(way.after)
    try:
        make_trainer(session, probed, Scorer(session, probed, probe=True), scratch).train()
    finally:
        hook.remove()
        shutil.rmtree(scratch, ignore_errors=True)
        session.loaded.model.train(False)
        session.parameters.vector.copy_(session.base)
    found = way.path(session.parameters.dim)
    return {
        "schema": "estheory/probes/1",
        "model": config.model,
        "dtype": written,
        "steps": config.steps,
        "gradients": {
            "task": config.task, "lr": config.lr, "schedule": config.schedule, "steps": config.steps,
            "minibatches": way.minibatches, "seconds": time.perf_counter() - started, **found,
        },
    }  # fmt: skip


class _Way:
    """Receives the gradients of the points one after another, and moves the model from each to the next."""

    def __init__(self, *, times: list[int], rates: Array, each: int) -> None:
        self._times, self._rates, self._each = times, rates, each
        self._count = 0
        self._square: Array = np.zeros(0)
        self._sums: list[Array] = []
        self._last_square: Array | None = None
        self._behind: Array = np.zeros(0)  # integral of the mean square over the steps so far
        self._means: list[tuple[Array, Array]] = []
        self._squares: list[float] = []
        self._start: tuple[Array, Array] = (np.zeros(0), np.zeros(0))
        self._told = counted_out("probing gradients", range(self.minibatches), self.minibatches)
        next(self._told)

    @property
    def minibatches(self) -> int:
        return len(self._times) * self._each

    def after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Take the gradient of a minibatch."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad.detach() for p in parameters]
        gradient = torch.cat([part.flatten() for part in parts]).float().cpu().numpy()
        if not np.isfinite(gradient).all():
            raise DataError("a gradient of the probe is not finite", "lower --temperature or choose another model")
        if not self._sums:
            self._sums = [np.zeros_like(gradient), np.zeros_like(gradient)]
            self._square = np.zeros_like(gradient)
        self._sums[self._count % 2] += gradient
        self._square += gradient**2
        self._count += 1
        if self._count % self._each == 0:
            self._end_point(parameters)
        next(self._told, None)

    def _end_point(self, parameters: list[torch.nn.Parameter]) -> None:
        at = len(self._means)
        halves = (self._each + 1) // 2, self._each // 2
        first, second = (total / n for total, n in zip(self._sums, halves, strict=True))
        mean, square = sum(self._sums) / np.float32(self._each), self._square / np.float32(self._each)
        if at == 0:
            if not square.any():
                raise DataError(
                    "no minibatch of the probe has a gradient: all rewards of every group are equal",
                    "more --samples or another task, or leave --gradient-probe out",
                )
            self._start, self._behind = (first, second), np.zeros_like(square)
        if self._last_square is not None:
            self._behind += (self._times[at] - self._times[at - 1]) / 2 * (self._last_square + square)
        averaged = self._behind / np.float32(self._times[at]) if at else square
        scale = np.divide(1.0, np.sqrt(averaged), out=np.zeros_like(averaged), where=averaged > 0)
        self._means.append((first * scale, second * scale))
        self._squares.append(float(np.mean(square * scale**2, dtype=np.float64)))
        self._last_square, self._sums = square, []
        if at + 1 < len(self._times):
            moved = -np.float32(self._rates[self._times[at] : self._times[at + 1]].sum()) * mean * scale
            begin = 0
            with torch.no_grad():
                for parameter in parameters:
                    part = moved[begin : begin + parameter.numel()].reshape(parameter.shape)
                    parameter.add_(torch.from_numpy(part).to(parameter))
                    begin += parameter.numel()

    def path(self, dim: int) -> dict[str, object]:
        """Return the tables of :class:`estheory.theory.gradient_path.GradientPath`, with those of either half."""
        firsts, seconds = zip(*self._means, strict=True)
        crossed = _products(firsts, seconds)
        shared = (_products(firsts, firsts) + _products(seconds, seconds) + 2 * crossed) / 4  # of the halves' means
        # independent minibatches: of one point, the two halves
        np.fill_diagonal(shared, np.diag(crossed))
        one, other = self._start
        square, start = _product(one, other), one + other
        along = [(_product(first, start) + _product(second, start)) / 4 for first, second in self._means]
        along[0] = (_product(firsts[0], other) + _product(seconds[0], one)) / 2
        return {
            "dim": dim,
            "times": self._times,
            "shared": (shared / dim).tolist(),
            "crossed": (crossed / dim).tolist(),
            "squares": self._squares,
            "along": [each / math.sqrt(square) for each in along] if square > 0 else None,
        }


def _product(a: Array, b: Array) -> float:
    return float(np.sum(a * b, dtype=np.float64))


def _products(left: Sequence[Array], right: Sequence[Array]) -> Array:
    """Return the products of all pairs, symmetric, shape (P, P)."""
    found = np.array([[_product(a, b) for b in right] for a in left])
    return np.asarray((found + found.T) / 2)
