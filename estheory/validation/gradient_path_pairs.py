"""What the gradients probed before a GRPO run say of its norm and its path, joined with what it recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import DataError
from estheory.laws import Law, NormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.runs.view import OwnRun, known
from estheory.theory.adamw import learning_rates
from estheory.theory.gradient_path import GradientPath
from estheory.validation.judge import Pair, paired

SOURCE = ours("es-and-grpo")
PROBED = "gradients probed before the run"
ASSUMED = (
    PROBED,
    "a common part of the gradients along the way of their mean, dense independent noise beside it, no weight decay",
)


def gradient_path(run: OwnRun) -> GradientPath | None:
    """Return what a GRPO run's gradients have in common; None where they were not probed.

    Raises DataError: if they were probed for another task, learning rate or model than the run's.
    """
    found = run.probes.get("gradients")
    if found is None:
        return None
    config = run.grpo
    own = {name: getattr(config, name) for name in ("task", "lr", "schedule", "steps")} | {"dim": run.dim}
    for name, value in own.items():
        if found[name] != value:
            raise DataError(
                f"{run.path}: its gradients were probed for {name} {found[name]}, the run has {value}",
                "leave probes.json as the run wrote it",
            )
    times, along = np.array(found["times"], dtype=np.float64), found["along"]
    shared, crossed = (np.array(found[name], dtype=np.float64) for name in ("shared", "crossed"))
    return GradientPath(
        dim=run.dim,
        times=times,
        shared=shared,
        squares=np.array(found["squares"], dtype=np.float64),
        along=np.zeros(times.size) if along is None else np.array(along, dtype=np.float64),
        # products of all minibatches less those of independent halves: as large as the error of the former
        error=float(np.sqrt(np.mean((shared - crossed)[np.triu_indices(times.size, 1)] ** 2)))
        if times.size > 1
        else 0.0,
    )


def run_rates(run: OwnRun) -> Array:
    """Return the learning rate of each step of a GRPO run, weight units: as logged, with any warm-up and schedule."""
    config, logged = run.grpo, [step.lr for step in run.steps]
    if len(logged) == config.steps and all(rate is not None for rate in logged):
        return np.array(logged, dtype=np.float64)
    return np.asarray(config.lr * learning_rates(config.steps, config.schedule))


def has_gradient(run: OwnRun) -> Array:
    """Return which steps of a GRPO run had a gradient, shape (T,): not those whose groups all had equal rewards."""
    return np.array([not step.stalled for step in run.steps])


def probed_norm(run: OwnRun, path: GradientPath, step: int) -> tuple[float, float, float]:
    """Return the norm after a step (weight), its standard error, and what half of the points change, relative."""
    rates = run_rates(run)
    norm, fewer = (math.sqrt(each.mean_square(rates, step)) for each in (path, path.thinned()))
    return norm, _scatter(run) * path.mean_square_error(rates, step) / (2 * norm), abs(fewer / norm - 1)


def _scatter(run: OwnRun) -> float:
    """Return by how much a run scatters more than its probe: its own minibatches do as the probe's."""
    return math.sqrt(1 + float(run.probes["gradients"]["minibatches"]) / len(run.steps))


def gradient_path_pairs(run: OwnRun, cosines: Mapping[tuple[int, int], float]) -> Iterator[Pair]:
    """Yield the norms of a GRPO run at its checkpoints and the cosines of these, as its gradient probe predicts them.

    `run`: a finished one; without a gradient probe it has no pairs.
    `cosines`: of the displacements at two steps.
    Yields: of ``grpo_displacement_norm`` (weight) and ``checkpoint_cosine``.
    """
    path = gradient_path(run)
    if path is None:
        return
    rates, thinned, last = run_rates(run), path.thinned(), len(run.steps)
    both = _scatter(run)
    for step in sorted({last, *(s for s in run.checkpoints if 1 < s <= last)}):
        yield paired(
            _predicted(Quantity.GRPO_DISPLACEMENT_NORM, *probed_norm(run, path, step), step),
            known(run.steps[step - 1].norm, "norm"),
            where=f"total:{run.path.name}, {PROBED}",
            source=run.path.name,
        )
    for (first, second), value in cosines.items():
        cosine, fewer = (p.checkpoint_cosine(rates, first, second) for p in (path, thinned))
        error = both * (1 - cosine**2) * path.mean_square_error(rates, second) / path.mean_square(rates, second)
        yield paired(
            _predicted(Quantity.CHECKPOINT_COSINE, cosine, error, abs(fewer / cosine - 1), second),
            value,
            where=f"step {first}|step {second}, {PROBED}",
            source=run.path.name,
        )


def _predicted(quantity: Quantity, mean: float, std: float, systematic: float, step: int) -> Prediction:
    law: Law = NormalLaw(mean, std) if std > 0 else PointLaw(mean)
    return Prediction(
        quantity=quantity,
        law=law,
        label="mean-field",
        source=SOURCE,
        assumptions=(*ASSUMED, "systematic: what half of the points change"),
        step=step,
        systematic=systematic,
    )
