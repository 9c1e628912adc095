"""What theory says of a recorded run, joined with what the run measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from estheory.citations import ours
from estheory.cosine_laws import CorrelationLaw
from estheory.errors import DataError
from estheory.files import reading
from estheory.laws import ChiLaw, PointLaw, SquaredLaw
from estheory.models.renames import NamedShapes
from estheory.quantities import Prediction, Quantity
from estheory.runs.view import OwnRun, known
from estheory.theory.adamw import walk_factor
from estheory.theory.estimators.estimator import PAPER
from estheory.theory.probe.prediction_law import FewDirectionsLaw
from estheory.theory.walk import OURS
from estheory.validation.assumptions import CONDITIONED, DENSE, FLAT, SHARED
from estheory.validation.coherent_pairs import coherent_pairs
from estheory.validation.forecast_pairs import forecast_pairs
from estheory.validation.gradient_path_pairs import gradient_path_pairs, has_gradient, run_rates
from estheory.validation.judge import Pair, paired
from estheory.validation.recorded_walk import RecordedWalk
from estheory.validation.reward_probe_pairs import reward_pairs


def walk_variances(run: OwnRun) -> dict[int, float]:
    """Return the variance of one flat coordinate after each step, given the logged coefficients. Exact.

    v_T = (alpha^2/N^2) sum_t h_{T-t}^2 sum_k w_tk^2: w are the weights of the noise vectors (the coefficients, or their
    differences within antithetic pairs), h the response of momentum and L2 anchor, 1 without them. For the plain
    walk v_T = alpha^2 T / N unless steps stalled. Without rounding, factors of modules and the pull of an L1 anchor.

    Result: weight^2, by the number of steps from 1 on.
    """
    walk = RecordedWalk.of(run)
    return {step: walk.variance(step) for step in range(1, len(run.steps) + 1)}


def run_pairs(
    run: OwnRun,
    tensors: Mapping[str, tuple[int, float]],
    cosines: Mapping[tuple[int, int], float],
    shapes: NamedShapes | None = None,
) -> list[Pair]:
    """Return predictions and measurements of one run.

    `tensors`: number of entries and displacement norm of each tensor at the last checkpoint, by name.
    `cosines`: cosine of the displacements at two steps, by the pair of steps.
    `shapes`: namedShapes of all trained tensors by name; only the plain walk does without.
    """
    with reading(run.path), np.errstate(over="ignore", invalid="ignore"):
        pairs = list(_grpo(run, cosines) if run.method == "grpo" else _es(run, tensors, cosines, shapes))
        for prediction, measurement in pairs:
            if not all(map(math.isfinite, (prediction.law.mean, prediction.law.std, measurement.value))):
                raise ValueError(f"{prediction.quantity} has no finite number")
        return pairs


def _es(
    run: OwnRun,
    tensors: Mapping[str, tuple[int, float]],
    cosines: Mapping[tuple[int, int], float],
    shapes: NamedShapes | None,
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
    yield from coherent_pairs(run)
    yield from reward_pairs(run)
    yield from forecast_pairs(run)


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
    return paired(prediction, value, where=where, source=run.path.name)


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


def _norms(run: OwnRun, walk: RecordedWalk, shapes: NamedShapes) -> Iterator[Pair]:
    """Pair the displacement norm at the first step, at every checkpoint and at the end."""
    last = len(run.steps)
    for step in sorted({1, last, *(s for s in run.checkpoints if s <= last)}):
        square = walk.total(step, shapes)
        if square.mean == 0.0:
            continue
        quantity = Quantity.STEP_NORM if step == 1 else Quantity.DISPLACEMENT_NORM
        yield paired(
            Prediction(
                quantity=quantity,
                law=ChiLaw(math.sqrt(square.mean / square.freedom), square.freedom),
                **_how(walk),
                systematic=square.error / 2,
                step=step,
            ),
            known(run.steps[step - 1].norm, "norm"),
            where=f"total:{run.path.name}",
            source=run.path.name,
        )


def _cosines(
    run: OwnRun, walk: RecordedWalk, shapes: NamedShapes, cosines: Mapping[tuple[int, int], float]
) -> Iterator[Pair]:
    """Pair the cosines of displacements at two steps; there is no law for them with an L1 anchor."""
    for (first, second), value in cosines.items():
        scale = math.sqrt(walk.variance(first) * walk.variance(second))
        if walk.pull or scale == 0 or (rho := walk.covariance(first, second) / scale) >= 1:
            continue
        yield paired(
            Prediction(
                quantity=Quantity.CHECKPOINT_COSINE,
                law=CorrelationLaw(rho, walk.total(second, shapes).freedom),
                label="exact",
                source=OURS,
                assumptions=(FLAT, CONDITIONED),
                step=second,
            ),
            value,
            where=f"step {first}|step {second}",
            source=run.path.name,
        )


def _tensors(
    run: OwnRun, walk: RecordedWalk, shapes: NamedShapes, tensors: Mapping[str, tuple[int, float]]
) -> Iterator[Pair]:
    """Pair the squared displacement of each tensor, over that of independent entries of noise factor 1."""
    step, factors = len(run.steps), walk.factors(shapes)
    for name, (size, norm) in tensors.items():
        square = walk.tensor(step, shapes.get(name, (size,)), factors.get(name, 1.0))
        plain = walk.variance(step) * size
        yield paired(
            Prediction(
                quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
                law=SquaredLaw(ChiLaw(math.sqrt(square.mean / plain / square.freedom), square.freedom)),
                **_how(walk),
                systematic=square.error,
                step=step,
            ),
            norm**2 / plain,
            where=f"tensor:{run.path.name}:{name}",
            source=run.path.name,
        )


def _grpo(run: OwnRun, cosines: Mapping[tuple[int, int], float]) -> Iterator[Pair]:
    """Pair the AdamW walk of dense gradient noise with the run's norm, at its end, and what its probe says."""
    steps = len(run.steps)
    config = run.grpo
    if steps != config.steps:
        raise DataError(f"{run.path} stopped at step {steps} of {config.steps}", "let it finish")
    rates, active = run_rates(run), has_gradient(run)
    each = math.sqrt(walk_factor(rates, active=active) * float(rates @ rates)) if active.any() else 0.0
    stalled = steps - int(active.sum())
    yield paired(
        Prediction(
            quantity=Quantity.GRPO_DISPLACEMENT_NORM,
            law=ChiLaw(each, run.dim) if each else PointLaw(0.0),
            label="mean-field",
            source=ours("es-and-grpo"),
            assumptions=(DENSE, "no weight decay", *((f"{stalled} steps without a gradient",) if stalled else ())),
            step=steps,
        ),
        known(run.steps[-1].norm, "norm"),
        where=f"total:{run.path.name}",
        source=run.path.name,
    )
    yield from gradient_path_pairs(run, cosines)


def step_pairs(run: OwnRun) -> list[tuple[int, int]]:
    """Return the pairs of checkpointed steps.

    Result: the earlier first; without checkpoints beyond the last recorded step.
    """
    return list(combinations([step for step in run.checkpoints if step <= len(run.steps)], 2))


def kl_pairs(run: OwnRun, walk: RecordedWalk, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Pair]:
    """Pair the KL of the run with the probes made before it, on the same prompts.

    Two predictions of the same number: the quadratic law 1/2 v tr F from the smallest probe, and the probe at the
    scale of the walk itself, which needs no quadratic law. Both are rescaled by the walk's logged variance.

    `run`: an ES run; one without probes, or whose KL was not evaluated at its end, has no pairs.
    Yields: of `kl_drift` (nat/token), for each task and each scale of the probes.
    """
    measured = run.evaluated(Quantity.KL_DRIFT)
    for row in run.probes.get("fisher", ()):
        kl = measured.get((len(run.steps), row["task"]))
        if kl is None:
            continue
        variance = walk.variance(len(run.steps))
        if walk.pull:  # L1 shortens the walk of all coordinates alike
            variance = walk.total(len(run.steps), shapes).mean / run.dim
        mean = 0.5 * variance * float(row["trace"])
        # the probe's own spread is estimated from its directions, which may be few
        error = float(row["trace_stderr"]) / float(row["trace"])
        count = len(row["probe"]["samples"])
        matched = row["scale"] == "walk"
        yield paired(
            Prediction(
                quantity=Quantity.KL_DRIFT,
                law=FewDirectionsLaw(mean, error * math.sqrt(count), count),
                label="small-step",
                source=ours("drift"),
                assumptions=(
                    f"isotropic drift; spread over seeds as over the probe's {count} directions, itself an estimate",
                    "probe at the walk's own scale" if matched else "KL quadratic up to the walk's length",
                ),
                step=len(run.steps),
            ),
            kl[0],
            where=f"{row['task']}, {'probe at the scale of the walk' if matched else 'quadratic law'}",
            source=run.path.name,
        )
