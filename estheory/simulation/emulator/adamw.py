"""AdamW on gradient noise in 16 bits: what rounding leaves of its walk, on a sample of the model's weights.

Two ways of keeping the weights. *In place*: weights, gradients and both moments are stored in 16 bits, as torch's
AdamW keeps them for a model loaded in 16 bits; most of a small step is lost. *With a copy*: AdamW runs in float32 and
the weights are rounded when they are saved. See docs/concepts/precision.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.floats import FORMATS, Float32, FloatFormat, rounded
from estheory.rules import Dtype
from estheory.simulation.emulator.emulate import GROUP_SIZE, GROUPS
from estheory.simulation.emulator.strata import Design, SampledWeights
from estheory.theory.gradient_path import GradientPath
from estheory.watching import counted_out

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True)
class RoundedWalk:
    """What AdamW's walk became.

    Attributes
    ----------
    variance
        Mean square displacement of a weight, weight^2.
    stderr
        Its standard error.
    kurtosis
        E[moved^4]/E[moved^2]^2 over weights and noise.
    """

    variance: float
    stderr: float
    kurtosis: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradients:
    """Gradients of a weight at every step: a common part that is normal over weights, and independent noise.

    Attributes
    ----------
    means : ndarray, shape (T, P)
        Makes the common part of each step from P standard normal numbers of a weight.
    noise : ndarray, shape (T,)
        Standard deviation of the rest.
    """

    means: Array
    noise: Array

    @classmethod
    def of_noise(cls, steps: int, active: Array | None = None) -> Gradients:
        """Return noise of unit scale; none at the steps that are not `active`."""
        return cls(means=np.zeros((steps, 0)), noise=np.ones(steps) if active is None else active.astype(np.float64))

    @classmethod
    def along(cls, path: GradientPath, steps: int) -> Gradients:
        """Return what a probed path tells, in units of the root mean square of the gradient at its start."""
        at = path.at(steps)
        values, vectors = np.linalg.eigh(path.shared)
        means = at.T @ (vectors * np.sqrt(np.maximum(values, 0.0)))
        squares = path.squares @ at
        scales, behind = np.ones(steps), 0.0
        for step in range(steps):  # D is the square over the mean of those so far, itself among them
            share = min(float(squares[step]) / (step + 1), 1 - 1e-6)
            scales[step] = math.sqrt(share * behind / (1 - share)) if step else 1.0
            behind += scales[step] ** 2
        seen = np.sqrt(np.cumsum(scales**2) / np.arange(1, steps + 1))
        noise = np.sqrt(np.maximum(squares - (means**2).sum(axis=1), 0.0))
        return cls(means=means * seen[:, None], noise=noise * seen)


def adamw_walks(
    weights: SampledWeights,
    dtype: Dtype,
    rates: Array,
    steps: Sequence[int],
    *,
    copy: bool,
    gradients: Gradients | None = None,
    seed: int = 0,
) -> dict[int, RoundedWalk]:
    """Emulate AdamW (betas 0.9 and 0.999, no weight decay) on dense Gaussian gradients.

    `rates`: learning rate of each step (weight), shape (T,).
    `steps`: steps at which to look, at most T.
    `copy`: whether float32 weights are kept beside the stored ones.
    `gradients`: independent noise of unit scale where left out.
    Result: by step. Label mean-field; the errors are those of the sample.
    """
    to = FORMATS[dtype]
    looked = tuple(sorted(set(steps)))
    design = Design.of(weights, GROUP_SIZE, floor=float(rates.max()) / 64)
    of = gradients or Gradients.of_noise(len(rates))
    found = np.stack(
        [
            np.stack([design.shares @ design.means(m) for m in _group(design, to, rates, of, looked, copy, stream)])
            for stream in counted_out("emulating rounding", np.random.SeedSequence(seed).spawn(GROUPS), GROUPS)
        ]
    )
    square, fourth = found.mean(axis=0).T
    errors = found[:, :, 0].std(axis=0, ddof=1) / math.sqrt(GROUPS)
    return {
        step: RoundedWalk(
            variance=float(square[k]),
            stderr=float(errors[k]),
            kurtosis=float(fourth[k] / square[k] ** 2) if square[k] > 0 else 3.0,
        )
        for k, step in enumerate(looked)
    }


def _group(
    design: Design,
    to: FloatFormat,
    rates: Array,
    gradients: Gradients,
    steps: tuple[int, ...],
    copy: bool,
    seed: np.random.SeedSequence,
) -> Iterator[Array]:
    """Run one group; yield (n, 2): the second and fourth powers of each weight's displacement, at each of ``steps``."""
    rng = np.random.default_rng(seed)
    start = rounded(design.draw(rng), to)
    run = (_Exact if copy else _InPlace)(start, to)
    common = rng.standard_normal((len(start), gradients.means.shape[1]), dtype=np.float32)
    for step, rate in enumerate(rates[: steps[-1]], start=1):
        gradient = np.float32(gradients.noise[step - 1]) * rng.standard_normal(len(start), dtype=np.float32)
        gradient += common @ gradients.means[step - 1].astype(np.float32)
        run.step(gradient, float(rate), step)
        if step in steps:
            moved = rounded(run.weights, to).astype(np.float64) - start
            yield np.stack([moved**2, moved**4], axis=1)


class _Exact:
    """AdamW in float32, whose weights are rounded only where they are looked at."""

    def __init__(self, start: Float32, to: FloatFormat) -> None:
        self.weights, self.to = start.copy(), to
        self.first, self.second = np.zeros_like(start), np.zeros_like(start)

    def step(self, gradient: Float32, rate: float, step: int) -> None:
        """Take a step of a number from 1."""
        self.first += np.float32(1 - BETA1) * (gradient - self.first)
        self.second += np.float32(1 - BETA2) * (gradient**2 - self.second)
        scale = np.sqrt(self.second) / np.float32(math.sqrt(1 - BETA2**step)) + np.float32(EPS)
        self.weights = np.asarray(self.weights - np.float32(rate / (1 - BETA1**step)) * self.first / scale)


class _InPlace(_Exact):
    """AdamW on stored weights: torch's operations one by one, each rounded to the storage format."""

    def step(self, gradient: Float32, rate: float, step: int) -> None:
        """Take a step of a number from 1."""
        to, first, second = self.to, self.first, self.second
        gradient = rounded(gradient, to)
        first[:] = rounded(first + np.float32(1 - BETA1) * (gradient - first), to)
        second[:] = rounded(rounded(second * np.float32(BETA2), to) + np.float32(1 - BETA2) * gradient * gradient, to)
        scale = rounded(rounded(np.sqrt(second), to) / np.float32(math.sqrt(1 - BETA2**step)), to)
        scale = rounded(scale + np.float32(EPS), to)
        with np.errstate(divide="ignore", invalid="ignore"):
            move = np.float32(rate / (1 - BETA1**step)) * first / scale
        self.weights = rounded(self.weights - np.where(scale > 0, move, np.float32(0)), to)
