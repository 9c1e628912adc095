"""GRPO through TRL's GRPOTrainer, recorded in the same run directory as Evolution Strategies.

Settings of the published runs (arXiv:2604.01499): no KL term, one update a batch, AdamW without weight decay, K samples
a prompt at temperature 1, rewards normalised within each prompt's group.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from estheory.errors import ConfigError, DataError, OutputError
from estheory.runs.config import GRPORunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.environment import record_environment
from estheory.training.grpo_trainer import Recorder, make_trainer, require_answers, trainer_states
from estheory.training.process import quiet, restored_random_state, torch_threads
from estheory.training.session import (
    BeforeFirstStep,
    OnStep,
    RunResult,
    Session,
    start_session,
    with_absolute_model,
)


def run_grpo(
    config: GRPORunConfig,
    directory: Path,
    *,
    before_first_step: BeforeFirstStep | None = None,
    on_step: OnStep | None = None,
) -> RunResult:
    """Fine-tune a model by GRPO and record the run.

    Parameters
    ----------
    config
        The run.
    directory
        Folder to make; must be free.
    before_first_step
        Makes probes.json before step 1.
    on_step
        Called after each step with its row: step, task, reward_mean and reward_std over all completions, lr,
        grad_norm, loss, norm, and stalled (every group's rewards were equal, so no reward steered the step).

    Returns
    -------
    RunResult

    Raises
    ------
    ConfigError, DataError, OutputError
        The model, the task or the folder cannot be used; the parameters are no longer numbers; the disk is full.
    """
    RunDirectory.require_free(directory)
    with torch_threads(config.threads), quiet(), restored_random_state():
        session = start_session(config)
        require_answers(session)
        config = with_absolute_model(config)
        run = RunDirectory.create(directory, config)
        with run.held():
            return _run(session, config, run, before_first_step, on_step)


def resume_grpo(
    directory: Path, *, before_first_step: BeforeFirstStep | None = None, on_step: OnStep | None = None
) -> RunResult:
    """Continue a GRPO run that was cut off, from its last checkpoint; its result has the bits of an uninterrupted run.

    What was recorded after that checkpoint is made again. A run that is complete is left as it is.
    """
    run = RunDirectory.open(directory)
    config = run.config
    if not isinstance(config, GRPORunConfig):
        raise ConfigError(f"{directory} is a run of {config.method}, not grpo", f"use estheory run {config.method}")
    with torch_threads(config.threads), quiet(), restored_random_state():
        session = start_session(config)
        with run.held():
            run.repair()
            return _run(session, config, run, before_first_step, on_step)


def _run(
    session: Session,
    config: GRPORunConfig,
    run: RunDirectory,
    before_first_step: BeforeFirstStep | None,
    on_step: OnStep | None,
) -> RunResult:
    """Go on from the last checkpoint to the end."""
    record_environment(session, run)
    start = max((step for step in trainer_states(run) if run.checkpoint(step).exists()), default=0)
    recorded = run.steps()
    if start > len(recorded):
        raise DataError(f"{run.path / 'steps.jsonl'} ends before checkpoint {start}", "restore the file")
    if len(recorded) > start:
        run.keep_until(start)
    if not recorded and before_first_step is not None and run.read_json("probes.json") is None:
        if found := before_first_step(session):
            run.write_json("probes.json", found)
        session.parameters.vector.copy_(session.base)
    if start:
        session.parameters.read_safetensors(run.checkpoint(start))
        norm = session.displacement_norm(session.parameters.vector)
        if norm != recorded[start - 1]["norm"]:
            raise DataError(
                f"{run.checkpoint(start)} is not what the run recorded (norm {norm!r})", "restore the checkpoint"
            )
    done = bool(start) and config.is_last(recorded[start - 1])
    session.settle(run, start, last=done)
    recorder = Recorder(session, config, run, on_step)
    if not done:
        scratch = run.path / "checkpoints" / "trainer.tmp"
        state = trainer_states(run).get(start)
        try:
            make_trainer(session, config, recorder, scratch).train(resume_from_checkpoint=str(state) if state else None)
        except OSError as error:
            raise OutputError(
                f"cannot write in {scratch}: {error}", "free space, then continue with --resume"
            ) from error
        finally:
            session.loaded.model.train(False)
        shutil.rmtree(scratch, ignore_errors=True)
    rows = run.steps()
    return RunResult(
        directory=run.path,
        step=len(rows),
        norm=rows[-1]["norm"],
        stalled_steps=sum(row["stalled"] for row in rows),
    )
