"""ES and gradient methods from one start, side by side: where they go, what it costs elsewhere, what lies between them.

The synthetic counterpart of what is measured on checkpoints of a real run: displacements split into the directions
that the task sees and those that it does not, the cost of both to another behaviour, cosines between end points,
rewards on the line between them and along their directions. All of it in every coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig, require_count, require_positive
from estheory.simulation.direct import BATCH_NORMALS, DirectES, Method
from estheory.simulation.gradient import (
    BATCH_COORDINATES,
    GradientDescent,
    GroupAdvantage,
    NoisyGradient,
    Optimiser,
    rates_for,
)
from estheory.simulation.members import batches, checked_steps, draw_count, require_memory
from estheory.simulation.records import Progress
from estheory.theory.adamw import Schedule

LINE = np.linspace(0.0, 1.0, 11)
"""Positions on the line from the ES end point to that of a gradient method."""
PROBES = np.linspace(0.0, 2.0, 11)
"""Distances along a normalised direction, over the distance from the start to the optimum."""
METHODS = ("sgd", "adamw", "grpo")


@dataclass(frozen=True, kw_only=True)
class OffTaskCost:
    """Another behaviour, seen by flat directions alone: 1/2 Delta' F Delta nats, and a reward g.Delta - the same.

    Attributes
    ----------
    directions
        m: F is f on so many flat coordinates and 0 elsewhere, so that (tr F)^2 / tr F^2 = m.
    trace
        tr F = m f, nat (or reward) per weight^2.
    gradient_norm
        ||g_off||, spread evenly over the flat coordinates that F leaves free (over all where it leaves none).
    """

    directions: int
    trace: float
    gradient_norm: float

    @property
    def square_trace(self) -> float:
        """Tr F^2."""
        return self.trace**2 / self.directions

    def cost(self, flat: Array) -> tuple[Array, Array]:
        """Return KL and reward change of displacements of the flat coordinates, (replicas, n), shapes (replicas,)."""
        quadratic = 0.5 * self.trace / self.directions * np.sum(np.square(flat[:, : self.directions]), axis=1)
        free = flat[:, self.directions :] if flat.shape[1] > self.directions else flat
        return quadratic, self.gradient_norm * free.sum(axis=1) / math.sqrt(free.shape[1]) - quadratic


@dataclass(frozen=True, kw_only=True)
class GradientRuns:
    """The gradient runs that ES is compared with; each of them takes ``steps`` steps.

    Attributes
    ----------
    steps
        T.
    sgd_lr
        Constant learning rate of SGD, weight^2 / reward; its noise has covariance c Lam.
    adamw_lr, schedule
        Peak learning rate, weight, and schedule of AdamW and of the GRPO-like method.
    aligned, dense
        Noise c of SGD, reward units, and that of AdamW in every coordinate, reward / weight.
    group
        The GRPO-like estimator.
    """

    steps: int
    sgd_lr: float
    adamw_lr: float
    schedule: Schedule
    aligned: float
    dense: float
    group: GroupAdvantage


def default_runs(
    landscape: Landscape,
    *,
    lr: float | None = None,
    steps: float = 80,
    schedule: Schedule = "linear",
    noise: float = 0.1,
) -> GradientRuns:
    """Return gradient runs that reach the optimum of the sharp directions.

    SGD at half the inverse of the largest eigenvalue; AdamW at a rate whose steps add up to twice the largest offset
    if ``lr`` is not given. Both estimators' noise is, over all coordinates, ``noise`` times the gradient at the start.

    Raises
    ------
    ConfigError
        For a landscape without gradient at the start, or a value out of range.
    """
    require_count("grpo-steps", steps, 1)
    steps = int(steps)
    if not landscape.gradient_norm:
        raise ConfigError("the reward has no gradient at the start", "give a landscape with curvature and offsets")
    if lr is None:
        reach = float(np.sum(rates_for(landscape, "adamw", 1.0, steps, schedule)))
        lr = 2.0 * float(np.max(landscape.offset[landscape.eigenvalue > 0])) / reach
    require_positive("grpo-lr", lr)
    total = (noise * landscape.gradient_norm) ** 2
    return GradientRuns(
        steps=steps,
        sgd_lr=0.5 / float(np.max(landscape.eigenvalue)),
        adamw_lr=lr,
        schedule=schedule,
        aligned=total / landscape.trace,
        dense=math.sqrt(total / landscape.dim),
        group=GroupAdvantage(),
    )


def off_task_cost(
    landscape: Landscape,
    *,
    trace: float | None = None,
    square_trace: float | None = None,
    gradient_norm: float | None = None,
) -> OffTaskCost:
    """Return the off-task behaviour of a landscape; what is not known is like the task itself, in flat directions.

    tr F is that of the landscape's Fisher information, else tr Lam; m follows from tr F^2, else is a tenth of the flat
    directions; ||g_off|| is the landscape's, else ||g||.

    Raises
    ------
    ConfigError
        If there are no flat directions, or F needs more of them than there are.
    """
    flat = landscape.dim - int(landscape.multiplicity[landscape.eigenvalue > 0].sum())
    if flat < 2:
        raise ConfigError("there are no flat directions", "raise dim above the number of curved directions")
    given = trace, landscape.fisher_trace, landscape.trace
    trace = next(value for value in given if value is not None)
    require_positive("fisher-trace", trace)
    square_trace = landscape.fisher_square_trace if square_trace is None else square_trace
    directions = max(1, flat // 10)
    if square_trace is not None:
        require_positive("fisher-square-trace", square_trace)
        directions = max(1, round(trace**2 / square_trace))
    if directions > flat:
        raise ConfigError(f"tr F^2 makes {directions} directions of {flat} flat ones", "raise fisher-square-trace")
    steepness = gradient_norm, landscape.off_task_gradient_norm, landscape.gradient_norm
    return OffTaskCost(
        directions=directions, trace=trace, gradient_norm=next(value for value in steepness if value is not None)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodGeometry:
    """Where one method went, one value a replica unless said otherwise.

    Attributes
    ----------
    reward
        R - R* at the end, reward units, shape (replicas,).
    curve
        R - R* after 0..T steps, shape (replicas, T + 1).
    on_task_square, off_task_square
        ||Delta||^2 in the curved and in the flat directions, weight^2, shape (replicas,).
    kl, off_task_change
        Off-task cost, nat, and change of the other reward, shape (replicas,).
    gradient_cosine
        Of Delta with the gradient at the start, shape (replicas,).
    repeat_cosine, repeat_flat_cosine
        Of the displacements of two independent runs, whole and flat, shape (replicas // 2,).
    probe
        R - R* along the normalised displacement, at PROBES, shape (replicas, 11).
    """

    reward: Array
    curve: Array
    on_task_square: Array
    off_task_square: Array
    kl: Array
    off_task_change: Array
    gradient_cosine: Array
    repeat_cosine: Array
    repeat_flat_cosine: Array
    probe: Array

    @property
    def norm(self) -> Array:
        """||Delta||, weight units, shape (replicas,)."""
        return np.asarray(np.sqrt(self.on_task_square + self.off_task_square))


@dataclass(frozen=True, kw_only=True, eq=False)
class Between:
    """ES against one gradient method, replica by replica.

    Attributes
    ----------
    cosine, flat_cosine
        Of the displacements, whole and flat (NaN where the method does not move), shape (replicas,).
    line
        R - R* on the line from ES to the method, at LINE, shape (replicas, 11).
    """

    cosine: Array
    flat_cosine: Array
    line: Array

    @property
    def rise(self) -> Array:
        """Rise over the chord at LINE, reward units, shape (replicas, 11)."""
        return np.asarray(self.line - (1 - LINE) * self.line[:, :1] - LINE * self.line[:, -1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """All that was measured: ``methods`` has ``es`` and METHODS, ``between`` has METHODS.

    ``random_probe`` is R - R* at PROBES along random directions, shape (replicas, 11).
    """

    config: ESConfig
    landscape: Landscape
    runs: GradientRuns
    off_task: OffTaskCost
    methods: dict[str, MethodGeometry]
    between: dict[str, Between]
    random_probe: Array

    @property
    def replicas(self) -> int:
        """Number of runs of each method."""
        return int(self.random_probe.shape[0])


def cosines(one: Array, two: Array) -> Array:
    """Return the cosine of each pair of rows, shape (replicas,); NaN where one of them is zero.

    ``one`` and ``two`` have shape (replicas, dim).
    """
    length = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    product = np.sum(one * two, axis=1)
    return np.asarray(np.divide(product, length, out=np.full(length.shape, np.nan), where=length > 0))


def rewards_along(eigenvalue: Array, origin: Array, direction: Array, at: Array) -> Array:
    """Return R - R* at ``origin`` + x ``direction`` (both from the optimum, (replicas, r)), shape (replicas, n)."""
    return np.stack([-0.5 * np.square(origin + x * direction) @ eigenvalue for x in at], axis=1)


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
    at_once = batches(size, max(1, BATCH_NORMALS // (draw_count(config) * config.dim)))
    parts = []
    for count, child in zip(at_once, es_seed.spawn(len(at_once)), strict=True):
        es = DirectES(config, landscape, count, child)
        parts.append(_followed(es, config.steps, progress))
    start, lam = es.start, es.eigenvalue
    ends = {"es": (np.concatenate([delta for delta, _ in parts]), np.concatenate([curve for _, curve in parts]))}
    plan: dict[str, tuple[NoisyGradient | GroupAdvantage, Optimiser, float, Schedule]] = {
        "sgd": (NoisyGradient(aligned=runs.aligned), "sgd", runs.sgd_lr, "constant"),
        "adamw": (NoisyGradient(dense=runs.dense), "adamw", runs.adamw_lr, runs.schedule),
        "grpo": (runs.group, "adamw", runs.adamw_lr, runs.schedule),
    }
    for name, child in zip(METHODS, seeds, strict=True):
        estimator, optimiser, lr, schedule = plan[name]
        rates = rates_for(landscape, optimiser, lr, runs.steps, schedule)
        rng = np.random.Generator(np.random.SFC64(child))
        ends[name] = _followed(GradientDescent(landscape, estimator, rates, optimiser, size, rng), runs.steps)
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

    Parameters
    ----------
    config, landscape
        The ES run.
    runs, off_task
        The gradient runs and the other behaviour; :func:`default_runs` and :func:`off_task_cost` of the landscape.
    replicas
        Number of independent runs of each method.
    seed
        Root of the tree of seeds.
    progress
        Called with the number of replica-steps of ES done; the gradient runs are cheap beside them.

    Returns
    -------
    Geometry

    Raises
    ------
    ConfigError
        For what the direct engine does not do, a landscape without gradient or flat directions, or what does not fit
        the memory.
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
