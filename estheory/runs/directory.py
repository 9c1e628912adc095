"""The folder of a training run: what is written where, how it is resumed after a crash, and how it is read.

Files: ``config.toml``, ``environment.json``, ``probes.json`` (written once, before step 1), ``steps.jsonl`` (one line
a step; bit-reproducible), ``rewards.jsonl`` (each step's rewards by prompt, before its line in steps.jsonl;
:mod:`estheory.runs.prompt_rewards`), ``forecasts.jsonl`` (never rewritten), ``timings.jsonl``, ``evaluations.jsonl``
and ``checkpoints/step_000100.safetensors``.

Lines are appended, flushed and synchronised one at a time, so that a kill can tear only the last one; whole files
are written under a temporary name and renamed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.errors import DataError, OutputError
from estheory.files import make_folder, plainly, read_lines, read_object, reading, write_json, write_text
from estheory.rules import LARGEST_COUNT
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.config_files import load_config
from estheory.runs.prompt_rewards import PromptRewards, unpacked_rewards
from estheory.runs.view import Evaluation, OwnRun, Step

Row = dict[str, Any]

_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "steps": {"step": int},
    "rewards": {"step": int, "shape": list, "float64": str},
    "timings": {"step": int},
    "forecasts": {"step": int, "predictions": list, "stop": dict},
    "evaluations": {"step": int, "task": str, "quantity": str, "value": (int, float), "stderr": (int, float)},
}
"""What every line of a file holds, beside more."""

_CHECKPOINT = re.compile(r"step_(\d{6,})\.safetensors")


class RunDirectory:
    """One run's folder. Make it with `create` or `open`.

    `path`, `config`: the folder, and the run that its config.toml holds.
    """

    def __init__(self, path: Path, config: ESRunConfig | GRPORunConfig) -> None:
        self.path = path
        self.config = config

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing to the run; the lock ends with the process, however that ends."""
        try:
            import fcntl
        except ImportError:  # a system without it
            yield
            return
        folder = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(f"another process is writing to {self.path}", "wait for it, or end it") from error
            except OSError:
                pass  # a file system without locks
            yield
        finally:
            os.close(folder)

    @classmethod
    def create(cls, path: Path, config: ESRunConfig | GRPORunConfig) -> RunDirectory:
        """Make the folder and write its config.toml."""
        cls.require_free(path)
        make_folder(path)
        directory = cls(path, config)
        write_text(path / "config.toml", config.to_toml())
        return directory

    @staticmethod
    def require_free(path: Path) -> None:
        """Check that a folder can be made."""
        try:
            occupied = path.exists() and any(entry.name != "config.toml.tmp" for entry in path.iterdir())
        except OSError as error:
            raise OutputError(f"cannot use {path} as a folder: {plainly(error)}", "choose another folder") from error
        if occupied:
            raise OutputError(f"{path} is occupied", "choose a new folder, or continue the run in it with --resume")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run."""
        if not (path / "config.toml").is_file():
            raise DataError(f"{path} is no run directory (it has no config.toml)", "give the folder of a run")
        return cls(path, load_config(path / "config.toml"))

    def repair(self) -> None:
        """Remove what a kill left half done: torn last lines and temporary files."""
        try:
            for name in _FIELDS:
                file = self.path / f"{name}.jsonl"
                if file.exists():
                    content = file.read_bytes()
                    os.truncate(file, content.rfind(b"\n") + 1)
            for leftover in (*self.path.glob("*.tmp"), *(self.path / "checkpoints").glob("*.tmp")):
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot repair {self.path}: {plainly(error)}", "make the folder writable") from error

    def append(self, name: str, row: Mapping[str, object]) -> None:
        """Append one line to ``<name>.jsonl`` and bring it to the disk."""
        self.append_all(name, [row])

    def append_all(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Append lines to ``<name>.jsonl`` in one write."""
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        try:
            with _uninterrupted(), (self.path / f"{name}.jsonl").open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path / name}.jsonl: {plainly(error)}", "free space, then continue with --resume"
            ) from error

    def rows(self, name: str) -> list[Row]:
        """Return the complete lines of ``<name>.jsonl``."""
        file = self.path / f"{name}.jsonl"
        if not file.exists():
            return []
        rows: list[Row] = []
        for number, row in read_lines(file, finite=True, appended=True):
            if not all(key in row and isinstance(row[key], kind) for key, kind in _FIELDS[name].items()):
                raise DataError(f"{file}: line {number} is damaged", "restore the file, or cut it before that line")
            rows.append(row)
        return rows

    def steps(self) -> list[Row]:
        """Return the rows of steps.jsonl."""
        rows = self.rows("steps")
        for number, row in enumerate(rows, start=1):
            if row.get("step") != number:
                raise DataError(
                    f"{self.path / 'steps.jsonl'}: line {number} is step {row.get('step')}", "restore the file"
                )
        return rows

    def prompt_rewards(self) -> dict[int, PromptRewards]:
        """Return each recorded step's rewards by prompt; empty where none were kept."""
        try:
            return {row["step"]: unpacked_rewards(row) for row in self.rows("rewards")}
        except ValueError as error:
            raise DataError(f"{self.path / 'rewards.jsonl'}: {error}", "restore or delete the file") from error

    def drop_rewards_after(self, step: int) -> None:
        """Drop from rewards.jsonl what a kill left of a step that steps.jsonl lacks."""
        if any(row["step"] > step for row in self.rows("rewards")):
            self._keep_until("rewards", step)

    def keep_until(self, step: int) -> None:
        """Drop the rows of later steps from all files, each file as a whole."""
        for name in ("evaluations", "timings", "rewards", "steps"):
            if name != "rewards" or self.rows(name):
                self._keep_until(name, step)

    def _keep_until(self, name: str, step: int) -> None:
        kept = [row for row in self.rows(name) if row["step"] <= step]
        write_text(self.path / f"{name}.jsonl", "".join(json.dumps(row, allow_nan=False) + "\n" for row in kept))

    def write_json(self, name: str, content: Mapping[str, object]) -> None:
        """Write a JSON file of the run as a whole."""
        write_json(self.path / name, content)

    def read_json(self, name: str) -> Row | None:
        """Read a JSON file of the run."""
        file = self.path / name
        return read_object(file, "restore it or start a new run", finite=True) if file.exists() else None

    def checkpoint(self, step: int) -> Path:
        """Return the path of a checkpoint, whether it exists or not."""
        return self.path / "checkpoints" / f"step_{step:06d}.safetensors"

    def checkpoints(self) -> dict[int, Path]:
        """Return the checkpoints that exist.

        Result: files by step, in the order of the steps.
        """
        found = {
            int(match[1]): file
            for file in (self.path / "checkpoints").glob("*.safetensors")
            if (match := _CHECKPOINT.fullmatch(file.name))
        }
        return dict(sorted(found.items()))

    def record(self) -> OwnRun:
        """Return what the run tells, without its weights.

        Result: with at least one step.
        """
        environment = self.read_json("environment.json")
        if environment is None:
            raise DataError(f"{self.path / 'environment.json'} is missing", "restore it, or run again")
        with reading(self.path):
            dim = int(environment["model"]["dim"])
            if not 1 <= dim <= LARGEST_COUNT:
                raise ValueError("its model's number of parameters is too large, or none")
            kept = self.prompt_rewards()
            steps = tuple(_with_rewards(step_of(row), kept.get(row["step"])) for row in self.steps())
            evaluations = tuple(map(_evaluation, self.rows("evaluations")))
        if not steps:
            raise DataError(f"{self.path} has no finished step", "let the run make at least one")
        probes = self.read_json("probes.json") or {}
        with reading(self.path):
            _require_own_probes(self.path, probes, self.config)
        return OwnRun(
            path=self.path,
            config=self.config,
            dim=dim,
            steps=steps,
            checkpoints=self.checkpoints(),
            probes=probes,
            evaluations=evaluations,
            forecasts=tuple(self.rows("forecasts")),
        )


def _require_own_probes(path: Path, probes: Mapping[str, Any], config: ESRunConfig | GRPORunConfig) -> None:
    """Refuse probes of another model, format, task, perturbation or length than the run's, and name the difference."""
    reward = probes.get("reward") or {}
    pairs = {
        "model": (probes.get("model"), config.model),
        "dtype": (probes.get("dtype"), config.dtype),
        "task": (reward.get("task"), config.task),
        "sigma": (reward.get("sigma"), getattr(config, "sigma", None)),
        "steps": (probes.get("steps"), config.steps),
    }
    for name, (probed, own) in pairs.items():
        if probed is not None and probed != own:
            raise DataError(
                f"{path}: probes.json is of {name} {probed}, the run has {own}",
                "put back the probes.json that the run wrote",
            )


def is_run(path: Path) -> bool:
    """Return whether a folder looks like a run directory of this package."""
    return (path / "config.toml").is_file() and not (path / "log.jsonl").is_file()


def step_of(row: Row) -> Step:
    """Return what a row of steps.jsonl says; TypeError, ValueError or KeyError where it is damaged."""
    seeds = row.get("seeds")
    values: dict[str, Any] = {
        name: float(row[name]) for name in ("reward_mean", "reward_std", "norm", "lr") if name in row
    }
    values |= {name: _array(row[name]) for name in ("rewards", "half_rewards", "coefficients") if name in row}
    stream = None if seeds is None else (int(seeds["seed"]), int(seeds["step"]))
    return Step(step=row["step"], stream=stream, stalled=bool(row.get("stalled", False)), **values)


def _with_rewards(step: Step, kept: PromptRewards | None) -> Step:
    if kept is None:
        return step
    return replace(
        step,
        prompt_rewards=kept.members,
        mirror_rewards=kept.partners,
        centre_rewards=kept.centre,
        centre_reward=None if kept.centre is None else float(kept.centre.mean()),
    )


def _array(values: Any) -> Array:
    array = np.array(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError("it is no list of numbers")
    return array


def _evaluation(row: Row) -> Evaluation:
    return Evaluation(
        step=row["step"],
        task=row["task"],
        quantity=row["quantity"],
        value=float(row["value"]),
        stderr=float(row["stderr"]),
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the line that is being written is whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pending:
            signal.raise_signal(signal.SIGINT)
