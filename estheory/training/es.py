"""Evolution Strategies: theta <- theta + (alpha / N) sum_i z_i eps_i, and its variants.

The setting is that of arXiv:2509.24372 and arXiv:2604.01499. Noise is regenerated from its counter, so a run needs
three vectors (theta_0, theta, and the buffer the model computes with), and base weights with steps.jsonl are a
complete record of it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from estheory.errors import DataError
from estheory.runs.config import ESRunConfig, ExecutorName
from estheory.runs.directory import Row, RunDirectory
from estheory.runs.prompt_rewards import packed_rewards
from estheory.training.environment import record_environment
from estheory.training.executors import Executor, LocalExecutor
from estheory.training.foresight import Foresight
from estheory.training.member_rewards import Members
from estheory.training.process import torch_threads
from estheory.training.replay import es_config, rebuild
from estheory.training.session import (
    BeforeFirstStep,
    OnStep,
    RunResult,
    Session,
    start_session,
    with_absolute_model,
)
from estheory.training.trajectory import Trajectory


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
        Makes probes.json before step 1 (:func:`estheory.training.run_probes.probes_before`).
    on_step
        Called after each step with its row.

    Returns
    -------
    RunResult

    Raises
    ------
    ConfigError, DataError, OutputError
        The model, the task or the folder cannot be used; a reward is not a number; the disk is full.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> size = {"steps": 2, "population": 4, "prompts": 4, "evaluation_prompts": 4}
    >>> run = ESRunConfig(model="tiny-lm", task="addition", sigma=0.015, alpha=0.0075, **size)
    >>> result = run_es(run, Path(mkdtemp()) / "run")
    >>> result.step, (result.directory / "steps.jsonl").is_file()
    (2, True)
    """
    RunDirectory.require_free(directory)
    with torch_threads(config.threads):
        session = start_session(config)
        config = with_absolute_model(config)
        run = RunDirectory.create(directory, config)
        with run.held():
            return _run(session, config, run, before_first_step, on_step)


def resume(
    directory: Path,
    *,
    before_first_step: BeforeFirstStep | None = None,
    on_step: OnStep | None = None,
    executor: ExecutorName | None = None,
    workers: int | None = None,
    stop_net: float | None = None,
) -> RunResult:
    """Continue an ES run that was cut off; its result has the bits of an uninterrupted run.

    A run that is complete is left as it is.

    `before_first_step`: as for `run_es`; called only if the run was cut off before step 1.
    `executor`, `workers`, `stop_net`: in place of those of the run; a run that a forecast ended goes on with a lower
    `stop_net`.
    """
    run = RunDirectory.open(directory)
    config = es_config(run)
    config = replace(
        config,
        executor=executor or config.executor,
        workers=workers or config.workers,
        stop_net=config.stop_net if stop_net is None else stop_net,
    )
    with torch_threads(config.threads):
        session = start_session(config)
        with run.held():
            run.repair()
            return _run(session, config, run, before_first_step, on_step)


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
    directory.drop_rewards_after(len(rows))
    walk = rebuild(session, config, directory, rows)
    if not rows and before_first_step is not None and directory.read_json("probes.json") is None:
        directory.write_json("probes.json", before_first_step(session))
    session.parameters.vector.copy_(walk.theta)
    foresight = Foresight(config, directory)

    def settled() -> tuple[bool, str]:
        """Write what is due after the last step, its forecast after its evaluation; say whether the run ends."""
        ends = bool(rows) and config.is_last(rows[-1])
        session.settle(directory, len(rows), last=ends)
        because = foresight.stops(len(rows)) if rows else ""
        if because:
            session.settle(directory, len(rows), last=True)
        return ends or bool(because), because

    done, because = settled()
    if not done:
        executor = _open_executor(config, Members(session, config, walk))
        try:
            while not done:
                rows.append(_step(session, config, directory, walk, executor, rows))
                session.parameters.vector.copy_(walk.theta)
                done, because = settled()
                if on_step is not None:
                    on_step(rows[-1])
        finally:
            executor.close()
    stalled = sum(not any(row["coefficients"]) for row in rows)
    return RunResult(
        directory=directory.path,
        step=len(rows),
        norm=float(rows[-1]["norm"]) if rows else 0.0,
        stalled_steps=stalled,
        because=because,
    )


def _step(
    session: Session,
    config: ESRunConfig,
    directory: RunDirectory,
    walk: Trajectory,
    executor: Executor,
    rows: list[Row],
) -> Row:
    """Evaluate the members, move the walk, and record the step."""
    started, step = perf_counter(), walk.step + 1
    everything = executor.rewards(rows)
    evaluated = everything.first(config.evaluations)
    for member, value in enumerate(evaluated.values):
        if not math.isfinite(value):
            raise DataError(f"the reward of member {member} in step {step} is {value}", "lower sigma or alpha")
    rewarded = perf_counter()
    row: Row = {"step": step, "task": config.task, "seeds": {"seed": config.seed, "step": step}}
    row["rewards"] = evaluated.values
    if config.prompts > 1:
        row["half_rewards"] = evaluated.halves
    row["coefficients"] = config.estimator.shape(np.asarray(evaluated.values)).tolist()
    if config.permute_rewards:
        row["permutation"] = session.permutation(step, config.population)
        row["coefficients"] = [row["coefficients"][member] for member in row["permutation"]]
    row["reward_mean"] = float(np.mean(evaluated.values))
    row["reward_std"] = float(np.std(evaluated.values)) if any(row["coefficients"]) else 0.0
    executor.advance(row)
    row["norm"] = session.displacement_norm(walk.theta)
    if not math.isfinite(row["norm"]):
        raise DataError(f"step {step} leaves parameters that are no numbers", "lower alpha")
    updated = perf_counter()
    if not config.drop_prompt_rewards:
        watched = everything.by_prompt[config.evaluations :]
        directory.append("rewards", packed_rewards(step, evaluated.by_prompt, watched))
    directory.append("steps", row)
    timing = {
        "step": step,
        "seconds": perf_counter() - started,
        "perturb": evaluated.perturbing,
        "rewards": rewarded - started - evaluated.perturbing,
        "update": updated - rewarded,
    }
    directory.append("timings", timing)
    return row


def _open_executor(config: ESRunConfig, own: Members) -> Executor:
    """Return the executor of a configuration; ``own`` is this process's model and walk, kept at the last step."""
    if config.executor == "ray":
        from estheory.training.ray_executor import RayExecutor

        return RayExecutor(config, own)
    return LocalExecutor(config, own)
