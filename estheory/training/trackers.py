"""Copies of a run's figures in TensorBoard, Weights & Biases or trackio, as it proceeds. Imports no torch.

The record of a run is its own folder: a tracker is given what is on the disk already, and where it
fails the run goes on without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from estheory.errors import MissingDependencyError
from estheory.rules import require_choice
from estheory.runs.directory import RunDirectory

TrackerName = Literal["tensorboard", "wandb", "trackio"]

Log = Callable[[dict[str, float], int], None]
"""Takes the figures of a step."""

PROJECT = "estheory"


@contextmanager
def tracked(name: str, directory: Path, warn: Callable[[str], None]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Copy a run's rows to a tracker as they come.

    Copied are the numbers of the row (reward_mean, norm, ...), and as ``accuracy/TASK`` and ``kl_drift/TASK`` the
    evaluations made after that step, or before the first. A resumed run goes on where it was copied before.

    `name`: ``tensorboard``: event files in ``DIRECTORY/tensorboard``. ``wandb``: in ``DIRECTORY/wandb``, offline unless
    the environment variable WANDB_MODE says otherwise. ``trackio``: in trackio's own folder on this machine, unless its
    environment variables name a server.
    `directory`: of the run; read at the first step.
    `warn`: called with a line, once, where the tracker fails.
    """
    require_tracker(name)
    close = contextlib.ExitStack()
    log: Log | None = None
    failed = False

    def guarded(act: Callable[[], None]) -> None:
        nonlocal failed
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # stdout is for the run's result
                act()
        except Exception as error:  # another package's, of any kind: the run matters more
            failed = True
            warn(f"{name} failed ({type(error).__name__}: {error}): {directory} goes on without it")

    def on_step(row: Mapping[str, Any]) -> None:
        def copy() -> None:
            nonlocal log
            run, step = RunDirectory.open(directory), int(row["step"])
            begins_at = 0 if step == 1 else step
            log = log or _OPEN[name](run, begins_at, close)
            if begins_at == 0:
                log(_evaluated(run, 0), 0)
            numbers = {key: float(value) for key, value in row.items() if isinstance(value, int | float)}
            del numbers["step"]
            log(numbers | _evaluated(run, step), step)

        if not failed:
            guarded(copy)

    try:
        yield on_step
    finally:
        if not failed:
            guarded(close.close)


def require_tracker(name: str) -> None:
    """Check that a tracker exists and is installed."""
    require_choice("tracker", name, get_args(TrackerName))
    if find_spec(name) is None:
        raise MissingDependencyError(f"the tracker {name} is not installed", f"pip install 'estheory[{name}]'")


def _evaluated(run: RunDirectory, step: int) -> dict[str, float]:
    """Return the evaluations made after a step, by quantity and task."""
    rows = [row for row in run.rows("evaluations") if row["step"] == step]
    return {f"{row['quantity']}/{row['task']}": row["value"] for row in rows}


def _key(run: RunDirectory) -> str:
    """Return what tells a run from all others, the same when it is resumed."""
    written = (run.path / "config.toml").stat().st_mtime_ns
    return hashlib.sha256(f"{run.path.resolve()} {written}".encode()).hexdigest()[:16]


def _open_tensorboard(run: RunDirectory, step: int, close: contextlib.ExitStack) -> Log:
    from torch.utils.tensorboard import SummaryWriter

    # what a cut-off run had written from this step on counts no more
    writer: Any = SummaryWriter(str(run.path / "tensorboard"), purge_step=step)
    close.callback(writer.close)

    def log(figures: dict[str, float], step: int) -> None:
        for key, value in figures.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    return log


def _open_wandb(run: RunDirectory, step: int, close: contextlib.ExitStack) -> Log:
    mode = os.environ.setdefault("WANDB_MODE", "offline")
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    wandb: Any = import_module("wandb")

    key = _key(run)
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False, disable_git=True)
    names = {"project": PROJECT, "name": f"{run.path.name}-{key[:8]}", "id": key, "resume": "allow"}
    opened = wandb.init(dir=str(run.path), config=dataclasses.asdict(run.config), settings=settings, **names)
    close.callback(opened.finish)
    opened.define_metric("*", step_metric="step")  # a resumed run may make steps again
    return lambda figures, step: opened.log({"step": step, **figures})


def _open_trackio(run: RunDirectory, step: int, close: contextlib.ExitStack) -> Log:
    trackio: Any = import_module("trackio")
    opened = trackio.init(
        project=PROJECT,
        name=f"{run.path.name}-{_key(run)[:8]}",
        config=dataclasses.asdict(run.config),
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    close.callback(trackio.finish)  # the run's own leaves it current, to be finished again at exit
    return lambda figures, step: opened.log(figures, step=step)


_OPEN: dict[str, Callable[[RunDirectory, int, contextlib.ExitStack], Log]] = {
    "tensorboard": _open_tensorboard,
    "wandb": _open_wandb,
    "trackio": _open_trackio,
}
