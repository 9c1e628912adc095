"""Evolution Strategies: theta <- theta + (alpha / N) sum_i z_i eps_i with z-scored rewards.

The setting is that of arXiv:2509.24372 and arXiv:2604.01499. Noise is regenerated from its counter, so a run needs
three vectors (theta_0, theta, and the buffer the model computes with), and base weights with steps.jsonl are a
complete record of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from torch import Tensor

from estheory.errors import DataError
from estheory.measurement.accuracy import ExampleScorer
from estheory.models.noise import perturb
from estheory.tasks import Example
from estheory.training.config import ESRunConfig
from estheory.training.replay import apply_step, es_config, rebuild
from estheory.training.run_directory import Row, RunDirectory
from estheory.training.session import (
    BeforeFirstStep,
    OnStep,
    RunResult,
    Session,
    record_environment,
    start_session,
    torch_threads,
    with_absolute_model,
)


def run_es(
    config: ESRunConfig,
    directory: Path,
    *,
    before_first_step: BeforeFirstStep | None = None,
    on_step: OnStep | None = None,
) -> RunResult:
    """Fine-tune a model by Evolution Strategies and record the run.

    Parameters
    ----------
    config
        The run.
    directory
        Folder to make; must be free.
    before_first_step
        Makes probes.json before step 1.
    on_step
        Called after each step with its row.

    Raises
    ------
    ConfigError, DataError, OutputError
        The model, the task or the folder cannot be used; a reward is not a number; the disk is full.
    """
    RunDirectory.require_free(directory)
    with torch_threads(config.threads):
        session = start_session(config)
        config = with_absolute_model(config)
        return _run(session, config, RunDirectory.create(directory, config), before_first_step, on_step)


def resume(
    directory: Path, *, before_first_step: BeforeFirstStep | None = None, on_step: OnStep | None = None
) -> RunResult:
    """Continue an ES run that was cut off; its result has the bits of an uninterrupted run.

    A run that is complete is left as it is. Parameters as for `run_es`; `before_first_step` is called only if the run
    was cut off before step 1.

    Raises
    ------
    ConfigError, DataError, OutputError
        As for `run_es`; also where the folder holds no ES run, its record is damaged or its model has changed.
    """
    run = RunDirectory.open(directory)
    config = es_config(run)
    with torch_threads(config.threads):
        session = start_session(config)
        run.repair()
        return _run(session, config, run, before_first_step, on_step)


def zscores(rewards: Sequence[float]) -> list[float]:
    """(R - mean R) / std R with the population standard deviation; all 0 where all rewards are equal."""
    values = np.asarray(rewards, dtype=np.float64)
    if values.min() == values.max():
        return [0.0] * len(values)
    scores: list[float] = ((values - values.mean()) / values.std()).tolist()
    return scores


def _run(
    session: Session,
    config: ESRunConfig,
    directory: RunDirectory,
    before_first_step: BeforeFirstStep | None,
    on_step: OnStep | None,
) -> RunResult:
    """Go on from the last recorded step to the end."""
    record_environment(session, directory)
    rows = directory.steps()
    theta = rebuild(session, config, directory, rows)
    buffer = session.parameters.vector
    if not rows and before_first_step is not None and directory.read_json("probes.json") is None:
        directory.write_json("probes.json", before_first_step(session))
    buffer.copy_(theta)
    session.settle(directory, len(rows))
    stalled = sum(not any(row["coefficients"]) for row in rows)
    norm = float(rows[-1]["norm"]) if rows else 0.0
    for step in range(len(rows) + 1, config.steps + 1):
        row = _step(session, config, directory, theta, step)
        stalled += not any(row["coefficients"])
        norm = row["norm"]
        buffer.copy_(theta)
        session.settle(directory, step)
        if on_step is not None:
            on_step(row)
    return RunResult(directory=directory.path, step=max(config.steps, len(rows)), norm=norm, stalled_steps=stalled)


def _step(session: Session, config: ESRunConfig, directory: RunDirectory, theta: Tensor, step: int) -> Row:
    """Evaluate the members, move `theta`, and record the step."""
    started = perf_counter()
    reward = _reward_function(session, config, session.training_examples(step))
    rewards, perturbing = [], 0.0
    for member in range(config.population):
        before = perf_counter()
        perturb(
            session.parameters.vector,
            theta,
            session.parameters,
            sigma=config.sigma,
            seed=config.seed,
            step=step,
            member=member,
            threads=config.threads,
        )
        perturbing += perf_counter() - before
        rewards.append(reward())
        if not math.isfinite(rewards[-1]):
            raise DataError(
                f"the reward of member {member} in step {step} is {rewards[-1]}", "lower sigma or alpha, then resume"
            )
    evaluated = perf_counter()
    row: Row = {"step": step, "task": config.task, "seeds": {"seed": config.seed, "step": step}, "rewards": rewards}
    row["coefficients"] = zscores(rewards)
    if config.permute_rewards:
        row["permutation"] = session.permutation(step, config.population)
        row["coefficients"] = [row["coefficients"][member] for member in row["permutation"]]
    row["reward_mean"] = float(np.mean(rewards))
    row["reward_std"] = float(np.std(rewards)) if any(row["coefficients"]) else 0.0
    apply_step(theta, session, config, row)
    row["norm"] = session.displacement_norm(theta)
    updated = perf_counter()
    directory.append("steps", row)
    timing = {
        "step": step,
        "seconds": perf_counter() - started,
        "perturb": perturbing,
        "rewards": evaluated - started - perturbing,
        "update": updated - evaluated,
    }
    directory.append("timings", timing)
    return row


def _reward_function(session: Session, config: ESRunConfig, examples: Sequence[Example]) -> Callable[[], float]:
    """Make a function that returns the mean reward of the model, as it then is, over the examples."""
    scorer = ExampleScorer(
        session.loaded.model, session.loaded.tokenizer, session.task, examples, scoring=config.reward
    )
    return lambda: float(scorer.scores().mean())
