"""Any step of an ES run, rebuilt from the base weights and steps.jsonl."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from estheory.errors import ConfigError, DataError
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row, RunDirectory
from estheory.training.environment import record_environment
from estheory.training.process import torch_threads
from estheory.training.session import Session, start_session
from estheory.training.trajectory import Trajectory

_NORM_TOLERANCE = 1e-13  # rounding of a pairwise float64 sum of 2^40 squares: about 40 * 2^-53


def replay(directory: Path, step: int) -> Tensor:
    """Return the flat parameter vector after `step`, from base weights and logged coefficients alone.

    `step`: 0 (the base) to the number of recorded steps.
    """
    return _replayed(directory, step)[1]


def write_replay(directory: Path, step: int, out: Path) -> None:
    """Write the model after a step as a Hugging Face folder."""
    RunDirectory.require_free(out)
    session, theta = _replayed(directory, step)
    session.parameters.vector.copy_(theta)
    session.write_model(out)


def es_config(directory: RunDirectory) -> ESRunConfig:
    """Return the configuration of an ES run."""
    if not isinstance(directory.config, ESRunConfig):
        raise ConfigError(
            f"{directory.path} is a {directory.config.method} run, not es",
            f"use estheory run {directory.config.method}",
        )
    return directory.config


def rebuild(
    session: Session, config: ESRunConfig, directory: RunDirectory, rows: Sequence[Row], *, checkpoints: bool = True
) -> Trajectory:
    """Return the walk after `rows`: from the latest checkpoint among them, then step by step.

    Momentum remembers every step, so its walk is made again from the base.
    """
    walk = Trajectory(session.parameters, session.base, config)
    usable = [step for step in directory.checkpoints() if step <= len(rows)]
    if usable and checkpoints and not config.momentum:
        walk.step = max(usable)
        session.parameters.read_safetensors(directory.checkpoint(walk.step), walk.theta)
    try:
        sum(sum(row["coefficients"]) for row in rows)  # those before the checkpoint are read by others
        for row in rows[walk.step :]:
            walk.advance(row)
        recorded = float(rows[-1]["norm"]) if rows else 0.0
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{directory.path / 'steps.jsonl'} is damaged: {error!r}", "restore the file") from error
    norm = session.displacement_norm(walk.theta)
    if not math.isclose(norm, recorded, rel_tol=_NORM_TOLERANCE):
        raise DataError(
            f"{directory.path}: step {len(rows)} is rebuilt at norm {norm!r}, the run recorded {recorded!r}",
            "use the versions and device of environment.json, or restore steps.jsonl and the checkpoints",
        )
    return walk


def _replayed(directory: Path, step: int) -> tuple[Session, Tensor]:
    """Return a session of the run's model, and theta after `step`."""
    run = RunDirectory.open(directory)
    config = es_config(run)
    rows = run.steps()
    if not 0 <= step <= len(rows):
        raise ConfigError(f"{directory} has no step {step}", f"give one of 0 to {len(rows)}")
    with torch_threads(config.threads):
        session = start_session(config)
        record_environment(session, run)
        return session, rebuild(session, config, run, rows[:step], checkpoints=False).theta
