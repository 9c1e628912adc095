"""What theory says of a recorded run, joined with what the run measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import cast

import numpy as np

from estheory._special import Array
from estheory.cosine_laws import CorrelationLaw
from estheory.errors import DataError
from estheory.laws import ChiLaw, PointLaw, SquaredLaw
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory.adamw import Schedule, grpo_mean_square
from estheory.theory.walk import OURS, PAPER, response
from estheory.validation.records import RunRecord, reading

Pair = tuple[Prediction, Measurement]

CONDITIONED = "conditioned on the logged coefficients: v = (alpha^2/N^2) sum z^2"
FLAT = "all but a vanishing share of the coordinates are flat"


def walk_variances(run: RunRecord) -> dict[int, float]:
    """Return the variance of one flat coordinate after each step, given the logged coefficients. Exact.

    v_T = (alpha^2/N^2) sum_t h_{T-t}^2 sum_k w_tk^2: w are the weights of the noise vectors (the coefficients, or their
    differences within antithetic pairs), h the response of momentum and L2 anchor, 1 without them. For the plain
    walk v_T = alpha^2 T / N unless steps stalled.

    Raises
    ------
    DataError
        If the run is not an ES run, a row has no coefficients, or no law here covers its options.
    """
    squares, h = _walk(run)
    return {step: _covariance(squares, h, step, step) for step in range(1, len(run.steps) + 1)}


def walk_covariance(run: RunRecord, first: int, second: int) -> float:
    """Return the covariance of one flat coordinate's displacement after two steps; raises as `walk_variances`."""
    return _covariance(*_walk(run), min(first, second), max(first, second))


def _covariance(squares: Array, h: Array | None, first: int, second: int) -> float:
    if h is None:
        return float(squares[:first].sum())
    lags = np.arange(first)
    return float(np.sum(squares[:first][::-1] * h[lags] * h[lags + second - first]))


def _walk(run: RunRecord) -> tuple[Array, Array | None]:
    """Return the variance that each step adds to a flat coordinate, and the response to it (None: it stays)."""
    config = run.config
    for name, plain in (("noise", "gaussian"), ("module_sigma", []), ("anchor_l1", 0.0), ("dtype", "float32")):
        if config.get(name, plain) != plain:
            raise DataError(
                f"{run.path}: the law of a run with {name} = {config[name]} is not that of the plain walk",
                "compare its norms with estheory predict",
            )
    try:
        scale = (float(config["alpha"]) / int(config["population"])) ** 2
        squares = np.array([_weight_square(row["coefficients"], bool(config.get("antithetic"))) for row in run.steps])
        rules = ESConfig(
            dim=1,
            sigma=1.0,
            population=2,
            anchor_l2=float(config.get("anchor_l2", 0.0)),
            anchor_form=config.get("anchor_form", "before"),
            momentum=float(config.get("momentum", 0.0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{run.path}: no ES coefficients ({error})", "give the folder of an ES run") from error
    return scale * squares, response(rules, len(squares))


def _weight_square(coefficients: list[float], antithetic: bool) -> float:
    """Return the sum of the squared weights of one step's noise vectors."""
    values = np.asarray(coefficients, dtype=np.float64)
    weights = values[0::2] - values[1::2] if antithetic else values
    return float(np.sum(np.square(weights)))


def run_pairs(
    run: RunRecord, tensors: Mapping[str, tuple[int, float]], cosines: Mapping[tuple[int, int], float]
) -> list[Pair]:
    """Return predictions and measurements of one run.

    Parameters
    ----------
    run
        The record.
    tensors
        Number of entries and displacement norm of each tensor at the last checkpoint, by name.
    cosines
        Cosine of the displacements at two steps, by the pair of steps.

    Raises
    ------
    DataError
        If a record does not hold what it should, or no law here covers the run's options.
    """
    with reading(run.path), np.errstate(over="ignore", invalid="ignore"):
        pairs = list(_pairs(run, tensors, cosines))
        for prediction, measurement in pairs:
            if not all(map(math.isfinite, (prediction.law.mean, prediction.law.std, measurement.value))):
                raise ValueError(f"{prediction.quantity} has no finite number")
        return pairs


def _pairs(
    run: RunRecord, tensors: Mapping[str, tuple[int, float]], cosines: Mapping[tuple[int, int], float]
) -> Iterator[Pair]:
    if run.method == "grpo":
        yield from _grpo(run)
        return
    variances = walk_variances(run)
    if not any(variances.values()):
        yield _nothing_moved(run)
        return
    yield from _norms(run, variances)
    yield from _cosines(run, variances, cosines)
    yield from _tensors(run, variances[len(run.steps)], tensors)
    yield from _kl(run, variances)


def _nothing_moved(run: RunRecord) -> Pair:
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
    value, where = float(run.steps[-1]["norm"]), f"total:{run.path.name}"
    return prediction, Measurement(quantity=quantity, value=value, step=step, where=where, source=run.path.name)


def _norms(run: RunRecord, variances: Mapping[int, float]) -> Iterator[Pair]:
    """Pair the displacement norm at the first step, at every checkpoint and at the end."""
    last = len(run.steps)
    for step in sorted({1, last, *(s for s in run.checkpoints if s <= last)}):
        if variances[step] == 0.0:
            continue
        quantity = Quantity.STEP_NORM if step == 1 else Quantity.DISPLACEMENT_NORM
        yield (
            Prediction(
                quantity=quantity,
                law=ChiLaw(math.sqrt(variances[step]), run.dim),
                label="exact",
                source=PAPER,
                assumptions=(FLAT, CONDITIONED),
                step=step,
            ),
            Measurement(
                quantity=quantity,
                value=float(run.steps[step - 1]["norm"]),
                step=step,
                where=f"total:{run.path.name}",
                source=run.path.name,
            ),
        )


def _cosines(
    run: RunRecord, variances: Mapping[int, float], cosines: Mapping[tuple[int, int], float]
) -> Iterator[Pair]:
    for (first, second), value in cosines.items():
        scale = math.sqrt(variances[first] * variances[second])
        if scale == 0 or (rho := walk_covariance(run, first, second) / scale) >= 1:
            continue
        yield (
            Prediction(
                quantity=Quantity.CHECKPOINT_COSINE,
                law=CorrelationLaw(rho, run.dim),
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


def _tensors(run: RunRecord, variance: float, tensors: Mapping[str, tuple[int, float]]) -> Iterator[Pair]:
    step = len(run.steps)
    for name, (size, norm) in tensors.items():
        yield (
            Prediction(
                quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
                law=SquaredLaw(ChiLaw(1 / math.sqrt(size), size)),
                label="exact",
                source=PAPER,
                assumptions=(FLAT, CONDITIONED),
                step=step,
            ),
            Measurement(
                quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
                value=norm**2 / (variance * size),
                step=step,
                where=f"tensor:{run.path.name}:{name}",
                source=run.path.name,
            ),
        )


def _kl(run: RunRecord, variances: Mapping[int, float]) -> Iterator[Pair]:
    """Pair the KL of the run with the probes made before it, on the same prompts.

    Two predictions of the same number: the quadratic law 1/2 v tr F from the smallest probe, and the probe at the
    scale of the walk itself, which needs no quadratic law. Both are rescaled by the walk's logged variance.
    """
    measured = run.evaluated(Quantity.KL_DRIFT)
    for row in run.probes.get("fisher", ()):
        kl = measured.get((len(run.steps), row["task"]))
        if kl is None:
            continue
        variance = variances[len(run.steps)]
        mean = 0.5 * variance * float(row["trace"])
        # chi-square of the probe's relative spread over directions, mixed with the error of its mean
        df = 2 / float(row["relative_std"]) ** 2
        error = float(row["trace_stderr"]) / float(row["trace"])
        matched = row["scale"] == "walk"
        yield (
            Prediction(
                quantity=Quantity.KL_DRIFT,
                law=SquaredLaw(ChiLaw(1.0, df, 2 / error**2), mean / df),
                label="small-step",
                source="ours: docs/concepts/drift.md",
                assumptions=(
                    "isotropic drift; spread over seeds as over the probe's directions, a scaled chi-square",
                    "probe at the walk's own scale" if matched else "KL quadratic up to the walk's length",
                ),
                step=len(run.steps),
            ),
            Measurement(
                quantity=Quantity.KL_DRIFT,
                value=kl[0],
                step=len(run.steps),
                where=f"{row['task']}, {'probe at the scale of the walk' if matched else 'quadratic law'}",
                source=run.path.name,
            ),
        )


def _grpo(run: RunRecord) -> Iterator[Pair]:
    """Pair the AdamW walk of dense gradient noise with the run's norm, at its end."""
    steps = len(run.steps)
    if steps != int(run.config["steps"]):
        raise DataError(f"{run.path} stopped at step {steps} of {run.config['steps']}", "let it finish")
    schedule = cast(Schedule, run.config["schedule"])
    norm = math.sqrt(grpo_mean_square(run.dim, float(run.config["lr"]), steps, schedule))
    yield (
        Prediction(
            quantity=Quantity.GRPO_DISPLACEMENT_NORM,
            law=ChiLaw(norm / math.sqrt(run.dim), run.dim),
            label="mean-field",
            source="ours: docs/concepts/es-and-grpo.md",
            assumptions=("dense, independent gradient noise", "no weight decay"),
            step=steps,
        ),
        Measurement(
            quantity=Quantity.GRPO_DISPLACEMENT_NORM,
            value=float(run.steps[-1]["norm"]),
            step=steps,
            where=f"total:{run.path.name}",
            source=run.path.name,
        ),
    )


def step_pairs(run: RunRecord) -> list[tuple[int, int]]:
    """Return the pairs of checkpointed steps."""
    return list(combinations([step for step in run.checkpoints if step <= len(run.steps)], 2))
