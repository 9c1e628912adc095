"""What theory says of a recorded run, joined with what the run measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from estheory.cosine_laws import CorrelationLaw
from estheory.errors import DataError
from estheory.files import reading
from estheory.laws import ChiLaw, PointLaw, SquaredLaw
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.runs.view import OwnRun, known
from estheory.theory.adamw import grpo_mean_square
from estheory.theory.estimators.estimator import PAPER
from estheory.theory.walk import OURS
from estheory.validation.assumptions import CONDITIONED, DENSE, FLAT, SHARED
from estheory.validation.judge import Pair
from estheory.validation.kl import kl_pairs
from estheory.validation.recorded_walk import RecordedWalk
from estheory.validation.reward_probe import reward_pairs

Shapes = Mapping[str, tuple[int, ...]]


def walk_variances(run: OwnRun) -> dict[int, float]:
    """Return the variance of one flat coordinate after each step, given the logged coefficients. Exact.

    v_T = (alpha^2/N^2) sum_t h_{T-t}^2 sum_k w_tk^2: w are the weights of the noise vectors (the coefficients, or their
    differences within antithetic pairs), h the response of momentum and L2 anchor, 1 without them. For the plain
    walk v_T = alpha^2 T / N unless steps stalled. Without rounding, factors of modules and the pull of an L1 anchor.

    Returns
    -------
    dict of int to float
        weight^2, by the number of steps from 1 on.
    """
    walk = RecordedWalk.of(run)
    return {step: walk.variance(step) for step in range(1, len(run.steps) + 1)}


def run_pairs(
    run: OwnRun,
    tensors: Mapping[str, tuple[int, float]],
    cosines: Mapping[tuple[int, int], float],
    shapes: Shapes | None = None,
) -> list[Pair]:
    """Return predictions and measurements of one run.

    Parameters
    ----------
    tensors
        Number of entries and displacement norm of each tensor at the last checkpoint, by name.
    cosines
        Cosine of the displacements at two steps, by the pair of steps.
    shapes
        Shapes of all trained tensors by name; only the plain walk does without.
    """
    with reading(run.path), np.errstate(over="ignore", invalid="ignore"):
        pairs = list(_grpo(run) if run.method == "grpo" else _es(run, tensors, cosines, shapes))
        for prediction, measurement in pairs:
            if not all(map(math.isfinite, (prediction.law.mean, prediction.law.std, measurement.value))):
                raise ValueError(f"{prediction.quantity} has no finite number")
        return pairs


def _es(
    run: OwnRun,
    tensors: Mapping[str, tuple[int, float]],
    cosines: Mapping[tuple[int, int], float],
    shapes: Shapes | None,
) -> Iterator[Pair]:
    walk = RecordedWalk.of(run)
    if not walk.plain and shapes is None:
        raise DataError(f"{run.path}: the law of its noise needs the shapes of its tensors", "keep a checkpoint")
    shapes = shapes or {"": (run.dim,)}
    if walk.variance(len(run.steps)) == 0.0:
        yield _nothing_moved(run)
        return
    yield from _norms(run, walk, shapes)
    yield from _cosines(run, walk, shapes, cosines)
    yield from _tensors(run, walk, shapes, tensors)
    yield from kl_pairs(run, walk, shapes)
    yield from reward_pairs(run)


def _nothing_moved(run: OwnRun) -> Pair:
    """Pair the law of a run in which all rewards of every step were equal: it stays where it was."""
    quantity, step = Quantity.DISPLACEMENT_NORM, len(run.steps)
    prediction = Prediction(
        quantity=quantity,
        law=PointLaw(0.0),
        label="exact",
        source=OURS,
        assumptions=("all rewards of every step were equal: nothing moves",),
        step=step,
    )
    value, where = known(run.steps[-1].norm, "norm"), f"total:{run.path.name}"
    return prediction, Measurement(quantity=quantity, value=value, step=step, where=where, source=run.path.name)


def _how(walk: RecordedWalk) -> Any:
    """Return label, source and assumptions of the norms of a walk."""
    assumptions: tuple[str, ...] = (FLAT, CONDITIONED)
    if walk.rank is not None:
        assumptions += (f"low-rank noise of rank {walk.rank}; no factor shared with a concentrated gradient",)
    if walk.shared:
        assumptions += (SHARED,)
    if walk.module_sigma:
        assumptions += ("noise of each tensor times its module's factor",)
    if walk.pull:
        assumptions += ("constant pull of the L1 anchor on every coordinate",)
    label = "small-step" if walk.pull else "exact"
    return {"label": label, "source": PAPER if walk.plain else OURS, "assumptions": assumptions}


def _norms(run: OwnRun, walk: RecordedWalk, shapes: Shapes) -> Iterator[Pair]:
    """Pair the displacement norm at the first step, at every checkpoint and at the end."""
    last = len(run.steps)
    for step in sorted({1, last, *(s for s in run.checkpoints if s <= last)}):
        square = walk.total(step, shapes)
        if square.mean == 0.0:
            continue
        quantity = Quantity.STEP_NORM if step == 1 else Quantity.DISPLACEMENT_NORM
        yield (
            Prediction(
                quantity=quantity,
                law=ChiLaw(math.sqrt(square.mean / square.freedom), square.freedom),
                **_how(walk),
                systematic=square.error / 2,
                step=step,
            ),
            Measurement(
                quantity=quantity,
                value=known(run.steps[step - 1].norm, "norm"),
                step=step,
                where=f"total:{run.path.name}",
                source=run.path.name,
            ),
        )


def _cosines(
    run: OwnRun, walk: RecordedWalk, shapes: Shapes, cosines: Mapping[tuple[int, int], float]
) -> Iterator[Pair]:
    """Pair the cosines of displacements at two steps; there is no law for them with an L1 anchor."""
    for (first, second), value in cosines.items():
        scale = math.sqrt(walk.variance(first) * walk.variance(second))
        if walk.pull or scale == 0 or (rho := walk.covariance(first, second) / scale) >= 1:
            continue
        yield (
            Prediction(
                quantity=Quantity.CHECKPOINT_COSINE,
                law=CorrelationLaw(rho, walk.total(second, shapes).freedom),
                label="exact",
                source=OURS,
                assumptions=(FLAT, CONDITIONED),
                step=second,
            ),
            Measurement(
                quantity=Quantity.CHECKPOINT_COSINE,
                value=value,
                step=second,
                where=f"step {first}|step {second}",
                source=run.path.name,
            ),
        )


def _tensors(
    run: OwnRun, walk: RecordedWalk, shapes: Shapes, tensors: Mapping[str, tuple[int, float]]
) -> Iterator[Pair]:
    """Pair the squared displacement of each tensor, over that of independent entries of noise factor 1."""
    step, factors = len(run.steps), walk.factors(shapes)
    for name, (size, norm) in tensors.items():
        square = walk.tensor(step, shapes.get(name, (size,)), factors.get(name, 1.0))
        plain = walk.variance(step) * size
        yield (
            Prediction(
                quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
                law=SquaredLaw(ChiLaw(math.sqrt(square.mean / plain / square.freedom), square.freedom)),
                **_how(walk),
                systematic=square.error,
                step=step,
            ),
            Measurement(
                quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
                value=norm**2 / plain,
                step=step,
                where=f"tensor:{run.path.name}:{name}",
                source=run.path.name,
            ),
        )


def _grpo(run: OwnRun) -> Iterator[Pair]:
    """Pair the AdamW walk of dense gradient noise with the run's norm, at its end."""
    steps = len(run.steps)
    config = run.grpo
    if steps != config.steps:
        raise DataError(f"{run.path} stopped at step {steps} of {config.steps}", "let it finish")
    norm = math.sqrt(grpo_mean_square(run.dim, config.lr, steps, config.schedule))
    yield (
        Prediction(
            quantity=Quantity.GRPO_DISPLACEMENT_NORM,
            law=ChiLaw(norm / math.sqrt(run.dim), run.dim),
            label="mean-field",
            source="ours: docs/concepts/es-and-grpo.md",
            assumptions=(DENSE, "no weight decay"),
            step=steps,
        ),
        Measurement(
            quantity=Quantity.GRPO_DISPLACEMENT_NORM,
            value=known(run.steps[-1].norm, "norm"),
            step=steps,
            where=f"total:{run.path.name}",
            source=run.path.name,
        ),
    )


def step_pairs(run: OwnRun) -> list[tuple[int, int]]:
    """Return the pairs of checkpointed steps.

    Returns
    -------
    list of (int, int)
        The earlier first; without checkpoints beyond the last recorded step.
    """
    return list(combinations([step for step in run.checkpoints if step <= len(run.steps)], 2))
