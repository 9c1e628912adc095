"""What Evolution Strategies and GRPO runs share: the loaded model, its folder, checkpoints and evaluations."""

from __future__ import annotations

import math
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from logging import ERROR
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from estheory.errors import DataError
from estheory.models.builtin import builtin_names
from estheory.models.load import LoadedModel, load_model
from estheory.models.parameters import FlatParameters
from estheory.tasks import Example, Task, data_of, get_task
from estheory.tasks.files import data_hashes
from estheory.training.config import ESRunConfig, GRPORunConfig
from estheory.training.evaluation import EVALUATED, HeldOut, evaluate, held_out, require_fit, task_for
from estheory.training.run_directory import RunDirectory

_PROMPTS = 0x70726D70  # random streams of one seed, by purpose
_PERMUTATION = 0x7065726D
_SAMPLING = 0x73616D70
_TRAIN_SET = 0x73657473
_PROBE_PROMPTS = 0x70726F62
_NORM_BLOCK = 1 << 18
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_Config = TypeVar("_Config", bound=ESRunConfig | GRPORunConfig)


@dataclass(frozen=True, kw_only=True)
class Session:
    """A model that is being trained.

    Attributes
    ----------
    config
        The run's configuration.
    loaded
        Model and tokenizer.
    parameters
        The model's trainable parameters: their buffer is what the model computes with.
    base : Tensor, shape (dim,)
        theta_0.
    task
        The task that is trained.
    held
        Prompts of the evaluations.
    train_set
        The examples that every step draws from; empty where each step draws new ones.
    """

    config: ESRunConfig | GRPORunConfig
    loaded: LoadedModel
    parameters: FlatParameters
    base: Tensor
    task: Task
    held: tuple[HeldOut, ...]
    train_set: tuple[Example, ...] = ()

    def training_examples(self, step: int, *, probe: bool = False) -> list[Example]:
        """Return the prompts of `step`: fixed by (seed, step), common to all members; of a probe batch if `probe`."""
        purpose = _PROBE_PROMPTS if probe else _PROMPTS
        if len(self.train_set) == self.config.prompts:
            return list(self.train_set)
        if self.train_set:
            rng = np.random.default_rng(stream(self.config.seed, purpose, step))
            chosen = rng.choice(len(self.train_set), self.config.prompts, replace=False)
            return [self.train_set[k] for k in chosen]
        seed = int(stream(self.config.seed, purpose, step).generate_state(1, np.uint64)[0])
        return self.task.examples("train", self.config.prompts, seed)

    def sampling(self, step: int, evaluation: int) -> torch.Generator:
        """Return the generator of the answers that one evaluation samples, fixed by (seed, step, evaluation)."""
        generator = torch.Generator(self.parameters.vector.device)
        state = stream(self.config.seed, _SAMPLING, step, evaluation).generate_state(1, np.uint64)
        return generator.manual_seed(int(state[0]) >> 1)

    def permutation(self, step: int, n: int) -> list[int]:
        """Return a random permutation of n members, fixed by (seed, step)."""
        order: list[int] = np.random.default_rng(stream(self.config.seed, _PERMUTATION, step)).permutation(n).tolist()
        return order

    def displacement_norm(self, vector: Tensor) -> float:
        """||vector - theta_0||, summed in float64 in an order that does not depend on the number of threads."""
        parts = []
        for start in range(0, self.parameters.dim, _NORM_BLOCK):
            block = slice(start, start + _NORM_BLOCK)
            squares = vector[block].double().sub_(self.base[block]).square_()
            parts.append(float(squares.numpy().sum() if squares.device.type == "cpu" else squares.sum()))
        return math.sqrt(math.fsum(parts))

    def settle(self, directory: RunDirectory, step: int, *, last: bool = False) -> None:
        """Write the checkpoint and evaluations due after `step`, those that are not there yet.

        The buffer must hold the parameters after `step`; `last` says that the run ends there.
        """
        if step > 0 and not (last or self.config.keeps_checkpoint(step)):
            return
        if step > 0 and not directory.checkpoint(step).exists():
            self.parameters.write_safetensors(directory.checkpoint(step))
        known = directory.rows("evaluations")
        done = {(row["step"], row["task"], row["quantity"]) for row in known}
        for held in self.held:
            key = step, held.task.name
            if {(*key, quantity) for quantity in EVALUATED} <= done:
                continue
            rows = evaluate(self.loaded, self.parameters, self.base, held, self.config.prompts)
            missing = [row for row in rows if (*key, row["quantity"]) not in done]  # a kill may leave one of two
            place = {"step": step, "task": held.task.name, "split": "test"}
            directory.append_all("evaluations", [{**place, **row} for row in missing])


BeforeFirstStep = Callable[[Session], Mapping[str, object]]
"""Makes the content of probes.json from the untrained model. It may overwrite the buffer."""

OnStep = Callable[[Mapping[str, Any]], None]
"""Receives each row of steps.jsonl after it is on the disk."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    directory
        The run's folder.
    step
        Steps done.
    norm
        ||theta_T - theta_0|| (weight).
    stalled_steps
        Steps in which all members had equal rewards and nothing moved (ES), or every group had (GRPO).
    """

    directory: Path
    step: int
    norm: float
    stalled_steps: int


def start_session(config: ESRunConfig | GRPORunConfig, *, evaluates: bool = True) -> Session:
    """Load the model and check that the tasks fit it; writes nothing.

    Parameters
    ----------
    config
        The run.
    evaluates
        Whether the session evaluates on held-out prompts; workers do not.

    Raises
    ------
    ConfigError, DataError
        The model cannot be loaded, a task is unknown, or prompts do not fit.
    """
    names = dict.fromkeys((config.task, *config.evaluation_tasks))
    for name in names:
        get_task(
            name, data=data_of(name, config.data, config.task)
        )  # an unknown one is said before the model is loaded
    loaded = load_model(config.model, device=config.device, dtype=_DTYPES[config.dtype])
    if config.trainable.startswith("lora:"):
        from estheory.models.adapters import add_adapters

        add_adapters(loaded.model, config.trainable, seed=config.seed)
    task = task_for(loaded, config.task, config.data, config.form)
    parameters = FlatParameters(loaded.model, config.trainable)
    pool: list[Example] = []
    if isinstance(config, ESRunConfig):
        config.sigma_factors(parameters.names)  # a pattern that matches nothing is said before the run begins
        if config.train_set:
            seed = int(stream(config.seed, _TRAIN_SET).generate_state(1, np.uint64)[0])
            pool = task.examples("train", config.train_set, seed)
    session = Session(
        config=config,
        loaded=loaded,
        parameters=parameters,
        base=parameters.vector.clone(),
        task=task,
        held=tuple(
            held_out(loaded, name, config.evaluation_prompts, data_of(name, config.data, config.task), config.form)
            for name in names
        )
        if evaluates
        else (),
        train_set=tuple(pool),
    )
    require_fit(loaded, task, session.training_examples(1))
    return session


def with_absolute_model(config: _Config) -> _Config:
    """Return the configuration with a model folder named by its absolute path, so that a run resumes from anywhere."""
    folder = Path(config.model).expanduser()
    if config.model in builtin_names() or not folder.is_dir():
        return config
    return replace(config, model=str(folder.resolve()))


def record_environment(session: Session, directory: RunDirectory) -> None:
    """Write environment.json, or check that the model and the data are those it names.

    Raises
    ------
    DataError
        The folder's run began from another model or with other data.
    """
    config = session.config
    names = (config.task, *config.evaluation_tasks)
    data = {name: data_hashes(place, name) for name in names if (place := data_of(name, config.data, config.task))}
    model = {"name": session.loaded.name, "sha256": session.loaded.sha256, "dim": session.parameters.dim}
    known = directory.read_json("environment.json")
    if known is None:
        content: dict[str, object] = {
            "model": model,
            "data": data,
            "dtype": str(session.parameters.vector.dtype).removeprefix("torch."),
            "device": str(session.parameters.vector.device),
            "threads": session.config.threads,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: _version(name) for name in ("torch", "transformers", "trl", "numpy", "safetensors")},
            "seeds": {
                "root": session.config.seed,
                "noise": "Philox4x64: key from the root, counter from (step, member, tensor, block)",
                "prompts": f"SeedSequence(root, spawn_key=({_PROMPTS}, step))",
                "probe prompts": f"SeedSequence(root, spawn_key=({_PROBE_PROMPTS}, batch))",
                "permutation": f"SeedSequence(root, spawn_key=({_PERMUTATION}, step))",
                "sampling": f"SeedSequence(root, spawn_key=({_SAMPLING}, step, evaluation))",
                "training set": f"SeedSequence(root, spawn_key=({_TRAIN_SET},))",
            },
        }
        directory.write_json("environment.json", content)
    elif (began := _sha256_of(known)) != model["sha256"]:
        raise DataError(
            f"{directory.path} began from a model with SHA-256 {began}, "
            f"{session.config.model} now has {model['sha256']}",
            "restore the model's files",
        )
    elif changed := _difference(known.get("data", data), data):
        raise DataError(f"{directory.path} began with other data: {changed}", "restore the files, or run anew")


def _difference(known: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> str:
    """Return in words the first file whose SHA-256 is not what it was, "" if there is none."""
    for task in sorted(known.keys() | now.keys()):
        before, after = known.get(task, {}), now.get(task, {})
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                hashes = (before.get(name) or "none")[:16], (after.get(name) or "none")[:16]
                return f"the SHA-256 of {name} (task {task}) was {hashes[0]}, is {hashes[1]}"
    return ""


def _sha256_of(environment: Mapping[str, Any]) -> object:
    """Return the model's hash in environment.json; None if it names none."""
    model = environment.get("model")
    return model.get("sha256") if isinstance(model, Mapping) else None


def stream(seed: int, *purpose: int) -> np.random.SeedSequence:
    """Return the random stream of a seed for a purpose: a constant and, as a rule, a step."""
    return np.random.SeedSequence(seed, spawn_key=purpose)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers, and what builds on it, from writing warnings, notices and progress bars for a while."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _version(package: str) -> str | None:
    """Version of an installed package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
