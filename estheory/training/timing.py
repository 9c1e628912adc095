"""What an ES run will take, told by timing its parts: members, a step, a probe's direction, an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import TypeVar

from estheory.measurement.held_out import LARGE_DIM, evaluate, kl_prompts
from estheory.measurement.probes import default_sigma, fisher_probe
from estheory.runs.config import ESRunConfig
from estheory.training.executors import LocalExecutor, shares
from estheory.training.member_rewards import Members
from estheory.training.process import torch_threads
from estheory.training.reward_probe_size import PAIRS, probe_batches, why_unprobed
from estheory.training.run_probes import DIRECTIONS, LARGE_DIRECTIONS
from estheory.training.session import Session, start_session
from estheory.training.trajectory import Trajectory

_LEAST = 0.3  # seconds to time a part for, once what happens the first time only has happened
_PROBED = 2  # directions to time of the probe

_Made = TypeVar("_Made")


def estimated_seconds(config: ESRunConfig, *, starting: float = 0.0) -> float:
    """Return about how many seconds a run takes, from the start of its process to its last evaluation.

    The model is loaded and its parts are timed as things stand: on a machine that is busy now they say how it is now.

    `starting`: seconds that a process takes to import this package and torch.
    """
    with torch_threads(config.threads):
        session, loading = timed(lambda: start_session(config))
        members = Members(session, config, Trajectory(session.parameters, session.base, config))
        members.rewards([], [0])
        _, first = timed(lambda: members.rewards([], [0]))
        most = -(-config.evaluations // config.workers)
        count = max(1, min(most, int(_LEAST / first)))  # what a step makes once is shared by as many as in the run
        member = timed(lambda: members.rewards([], range(count)))[1] / count
        draw = _mean(lambda: members.walk.place(session.parameters.vector, 0))
        norm = _mean(lambda: session.displacement_norm(members.walk.theta))
        session.parameters.vector.copy_(session.base)
        evaluating, probing = evaluation_seconds(session), _fisher_seconds(session)
        if not why_unprobed(config):
            probing += probe_batches(config) * (2 * PAIRS + 1) * member
        crowd, waiting = _crowd(config, members, count) if config.workers > 1 else (1.0, 0.0)
    parts = 1 if config.momentum or config.anchor_l1 or config.anchor_l2 else config.workers
    step = crowd * (most * member + config.population * draw / parts) + norm
    watched = sum(config.evaluated(step) - config.evaluations for step in range(1, config.steps + 1))
    evaluated = 1 + sum(config.keeps_checkpoint(step) for step in range(1, config.steps + 1))
    stepping = config.steps * step + crowd * member * watched / config.workers
    return starting + loading + probing + waiting + stepping + evaluated * evaluating


def _crowd(config: ESRunConfig, alone: Members, count: int) -> tuple[float, float]:
    """Return how much longer all workers at once take for a member than one alone, and seconds until they are there."""
    few = replace(config, population=2 * config.workers * max(1, count // 2), restore_pairs=0, mirror_every=0)
    own = Members(alone.session, few, Trajectory(alone.session.parameters, alone.session.base, few))
    share = shares(few.evaluations, config.workers)[0]
    executor = LocalExecutor(few, own)
    try:
        _, first = timed(lambda: executor.rewards([]))
        _, together = timed(lambda: executor.rewards([]))
    finally:
        executor.close()
    _, one = timed(lambda: own.rewards([], share))
    return together / one, max(0.0, first - together)


def _fisher_seconds(session: Session) -> float:
    """Return how long the probes of the drift take: two scales along each direction, a task after the other."""
    if session.config.dtype != "float32":
        return 0.0
    sigma = default_sigma(session.parameters)
    model, dim = session.loaded.model, session.parameters.dim
    directions = LARGE_DIRECTIONS if dim >= LARGE_DIM else DIRECTIONS
    total = 0.0
    for held in session.held:
        prompts = kl_prompts(session.loaded, dim, held)
        probe = fisher_probe(model, session.parameters, prompts, sigma=sigma, directions=_PROBED)
        total += 2 * directions * probe.seconds / _PROBED
    return total


def evaluation_seconds(session: Session) -> float:
    """Return how long the evaluation of all tasks takes."""

    def all_tasks() -> None:
        for held in session.held:
            list(evaluate(session.loaded, session.parameters, session.base, held, session.config.prompts))

    return timed(all_tasks)[1]


def timed(part: Callable[[], _Made]) -> tuple[_Made, float]:
    """Return what a part makes and the seconds that it takes."""
    started = perf_counter()
    return part(), perf_counter() - started


def _mean(part: Callable[[], object]) -> float:
    """Return the mean seconds of a part after its first time."""
    part()
    started, count = perf_counter(), 0
    while (spent := perf_counter() - started) < _LEAST or not count:
        part()
        count += 1
    return spent / count
