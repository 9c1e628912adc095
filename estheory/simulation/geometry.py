"""ES and gradient methods from one start, side by side: where they go, what it costs elsewhere, what lies between them.

The synthetic counterpart of what is measured on checkpoints of a real run: displacements split into the directions
that the task sees and those that it does not, the cost of both to another behaviour, cosines between end points,
rewards on the line between them and along their directions. All of it in every coordinate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.direct import BATCH_NORMALS, DirectES
from estheory.simulation.geometry_results import (
    LINE,
    METHODS,
    PROBES,
    Between,
    Geometry,
    MethodGeometry,
    cosines,
    rewards_along,
)
from estheory.simulation.gradient import BATCH_COORDINATES, Descent, GradientDescent
from estheory.simulation.gradient_estimators import GroupAdvantage, NoisyGradient
from estheory.simulation.gradient_runs import GradientRuns, default_runs
from estheory.simulation.off_task import OffTaskCost, off_task_cost
from estheory.simulation.run_records import Method, Progress
from estheory.simulation.update_steps import batches, checked_steps, require_memory
from estheory.theory.estimators import estimator_of


def _followed(method: Method, steps: int, progress: Progress = lambda done: None) -> tuple[Array, Array]:
    """Return the displacements after ``steps`` steps, (replicas, dim), and the rewards, (replicas, steps + 1)."""
    curve = np.empty((method.replicas, steps + 1))
    curve[:, 0] = method.reward()
    for t in range(1, steps + 1):
        method.step()
        curve[:, t] = method.reward()
        progress(method.replicas)
    return method.displacement, curve


def _measured(delta: Array, curve: Array, start: Array, eigenvalue: Array, off_task: OffTaskCost) -> MethodGeometry:
    r, pairs = start.size, 2 * (delta.shape[0] // 2)
    curved, flat = delta[:, :r], delta[:, r:]
    kl, change = off_task.cost(flat)
    length = np.linalg.norm(delta, axis=1, keepdims=True)
    unit = np.divide(curved, length, out=np.zeros_like(curved), where=length > 0) * np.linalg.norm(start)
    gradient = np.zeros(delta.shape[1])
    gradient[:r] = -eigenvalue * start
    return MethodGeometry(
        reward=curve[:, -1],
        curve=curve,
        on_task_square=np.sum(np.square(curved), axis=1),
        off_task_square=np.sum(np.square(flat), axis=1),
        kl=kl,
        off_task_change=change,
        gradient_cosine=cosines(delta, np.broadcast_to(gradient, delta.shape)),
        repeat_cosine=cosines(delta[:pairs:2], delta[1:pairs:2]),
        repeat_flat_cosine=cosines(flat[:pairs:2], flat[1:pairs:2]),
        probe=rewards_along(eigenvalue, np.broadcast_to(start, unit.shape), unit, PROBES),
    )


def _batch(
    config: ESConfig,
    landscape: Landscape,
    runs: GradientRuns,
    off_task: OffTaskCost,
    size: int,
    seed: np.random.SeedSequence,
    progress: Progress,
) -> tuple[dict[str, MethodGeometry], dict[str, Between], Array]:
    es_seed, random_seed, *seeds = seed.spawn(2 + len(METHODS))
    at_once = batches(size, max(1, BATCH_NORMALS // (estimator_of(config).directions * config.dim)))
    parts = []
    for count, child in zip(at_once, es_seed.spawn(len(at_once)), strict=True):
        es = DirectES(config, landscape, count, child)
        parts.append(_followed(es, config.steps, progress))
    start, lam = es.start, es.eigenvalue
    ends = {"es": (np.concatenate([delta for delta, _ in parts]), np.concatenate([curve for _, curve in parts]))}
    sgd = Descent(lr=runs.sgd_lr, steps=runs.steps, optimiser="sgd")
    adamw = Descent(lr=runs.adamw_lr, steps=runs.steps, schedule=runs.schedule)
    plan: dict[str, tuple[NoisyGradient | GroupAdvantage, Descent]] = {
        "sgd": (NoisyGradient(aligned=runs.aligned), sgd),
        "adamw": (NoisyGradient(dense=runs.dense), adamw),
        "grpo": (runs.group, adamw),
    }
    for name, child in zip(METHODS, seeds, strict=True):
        estimator, rule = plan[name]
        rng = np.random.Generator(np.random.SFC64(child))
        run = GradientDescent(landscape, estimator, rule.rates(landscape), rule.optimiser, size, rng)
        ends[name] = _followed(run, runs.steps)
    methods = {name: _measured(*end, start, lam, off_task) for name, end in ends.items()}
    delta = ends["es"][0]
    between = {}
    for name in METHODS:
        other = ends[name][0]
        across = (other - delta)[:, : start.size]
        between[name] = Between(
            cosine=cosines(delta, other),
            flat_cosine=cosines(delta[:, start.size :], other[:, start.size :]),
            line=rewards_along(lam, start + delta[:, : start.size], across, LINE),
        )
    random = np.random.Generator(np.random.SFC64(random_seed)).standard_normal(delta.shape)
    unit = random[:, : start.size] / np.linalg.norm(random, axis=1, keepdims=True) * np.linalg.norm(start)
    return methods, between, rewards_along(lam, np.broadcast_to(start, unit.shape), unit, PROBES)


def _together(parts: Sequence[Any]) -> Any:
    return type(parts[0])(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(parts[0])})


def geometry(
    config: ESConfig,
    landscape: Landscape,
    *,
    runs: GradientRuns | None = None,
    off_task: OffTaskCost | None = None,
    replicas: int = 200,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Geometry:
    """Run ES, SGD, AdamW and the GRPO-like method from one start and measure their geometry.

    `runs`, `off_task`: the gradient runs and the other behaviour; those that
    :func:`estheory.simulation.gradient_runs.default_runs` and :func:`estheory.simulation.off_task.off_task_cost` make
    of the landscape when not given.
    `progress`: called with the number of replica-steps of ES done; the gradient runs are cheap beside them.

    Examples
    --------
    >>> land = Landscape(dim=200, eigenvalue=[2.0], multiplicity=[10], offset=[0.3], reward_std=0.1)
    >>> run = ESConfig(dim=200, sigma=0.02, alpha=0.02, population=16, steps=5)
    >>> measured = geometry(run, land, replicas=4)
    >>> sorted(measured.between)
    ['adamw', 'grpo', 'sgd']
    >>> bool(measured.methods["es"].norm.mean() < measured.methods["sgd"].norm.mean())
    True
    """
    checked_steps(config, landscape, replicas, [], seed)
    runs = runs or default_runs(landscape)
    off_task = off_task or off_task_cost(landscape)
    require_memory("geometry in every coordinate", 8.0 * config.dim * 24)
    require_memory(f"curves of {replicas} replicas", 8.0 * replicas * (config.steps + 3 * runs.steps + 200))
    sizes = batches(replicas, 2 * max(1, BATCH_COORDINATES // (2 * landscape.dim)))
    children = np.random.SeedSequence(seed).spawn(len(sizes))
    parts = [
        _batch(config, landscape, runs, off_task, size, child, progress)
        for size, child in zip(sizes, children, strict=True)
    ]
    return Geometry(
        config=config,
        landscape=landscape,
        runs=runs,
        off_task=off_task,
        methods={name: _together([part[0][name] for part in parts]) for name in ("es", *METHODS)},
        between={name: _together([part[1][name] for part in parts]) for name in METHODS},
        random_probe=np.concatenate([part[2] for part in parts]),
    )
