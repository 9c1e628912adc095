"""The noise of many steps under test: its size, its law, and what may share it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from scipy.special import betainc

from estheory._special import Array, chi_square_tails
from estheory.diagnosis.noise import explain_noise, tensor_parts
from estheory.testing.failures import ViolationError
from estheory.testing.laws import StepSample
from estheory.testing.step_subject import Steps
from estheory.testing.update import REPLICAS
from estheory.theory.estimators import estimator_of

EVALUATIONS = 6000
"""Evaluations of a statistical law, at most."""


NOISE_TESTS = 8
"""Tests of the noise that share the rate of false failures."""


class StepSamples:
    """Independent first steps of a run, drawn once for each slope of the reward; the noise of the first is kept."""

    def __init__(self, steps: Steps, seed: int) -> None:
        self.steps, self.seed = steps, seed
        self.eps: Array | None = None

    def __call__(self, slope: float) -> StepSample:
        """Return the steps of a reward of this slope along the first coordinate, beside noise of its own."""
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


def require_noise(steps: Steps, sample: StepSamples, level: float) -> None:
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
        require_unrelated(one[:1], one[1:], "the noise of members of one step", level / (2 * len(eps)), one_step)
        require_unrelated(
            one, other, "the noise of two seeds", level / (2 * len(eps)), "noise repeats from seed to seed"
        )


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


def require_unrelated(one: Array, other: Array, what: str, level: float, fault: str) -> None:
    """Raise a violation where rows of two arrays are correlated: the cosine of normal vectors has a beta law."""
    if one.shape[-1] < 2 or not len(other):
        return
    lengths = np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    cosine = np.clip((one @ other.T) / np.where(lengths > 0, lengths, 1.0), -1.0, 1.0)
    pvalue = betainc((one.shape[-1] - 1) / 2, 0.5, np.maximum(1 - cosine**2, 0.0))
    if float(pvalue.min()) * pvalue.size < level:
        place = np.unravel_index(int(pvalue.argmin()), pvalue.shape)
        raise ViolationError(f"{what} is correlated", measured=f"cosine {cosine[place]:.4g}", expected="0", fault=fault)
