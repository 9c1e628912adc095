"""What Evolution Strategies and GRPO runs share: the loaded model, its folder, checkpoints and evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from estheory.errors import OutputError
from estheory.files import replacing
from estheory.measurement.held_out import EVALUATED, HeldOut, evaluate, held_out, require_fit, task_for
from estheory.models.builtin import builtin_names
from estheory.models.decode import Sampler
from estheory.models.load import LoadedModel, load_model
from estheory.models.parameters import FlatParameters
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.directory import RunDirectory
from estheory.tasks import Example, Task, data_of, get_task
from estheory.training.process import quiet
from estheory.training.streams import PERMUTATION, PROBE_PROMPTS, PROMPTS, SAMPLING, TRAIN_SET, stream, stream_seed

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
        """Return the prompts of a step: fixed by (seed, step), common to all members.

        `step`: from 1; of a probe, the number of the batch from 0.
        `probe`: whether the prompts are those of a probe's batch.
        """
        purpose = PROBE_PROMPTS if probe else PROMPTS
        if len(self.train_set) == self.config.prompts:
            return list(self.train_set)
        if self.train_set:
            rng = np.random.default_rng(stream(self.config.seed, purpose, step))
            chosen = rng.choice(len(self.train_set), self.config.prompts, replace=False)
            return [self.train_set[k] for k in chosen]
        return self.task.examples("train", self.config.prompts, stream_seed(self.config.seed, purpose, step))

    def sampler(self, step: int, evaluation: int) -> Sampler:
        """Return what draws the answers of one evaluation, fixed by (seed, step, evaluation)."""
        generator = torch.Generator(self.parameters.vector.device)
        generator.manual_seed(stream_seed(self.config.seed, SAMPLING, step, evaluation) >> 1)
        return Sampler(generator=generator, temperature=self.config.temperature, top_p=self.config.top_p)

    def permutation(self, step: int, n: int) -> list[int]:
        """Return a random permutation of members, fixed by (seed, step)."""
        order: list[int] = np.random.default_rng(stream(self.config.seed, PERMUTATION, step)).permutation(n).tolist()
        return order

    def displacement_norm(self, vector: Tensor) -> float:
        """Return ||vector - theta_0||, summed in float64 in an order that does not depend on the number of threads."""
        parts = []
        for start in range(0, self.parameters.dim, _NORM_BLOCK):
            block = slice(start, start + _NORM_BLOCK)
            squares = vector[block].double().sub_(self.base[block]).square_()
            parts.append(float(squares.numpy().sum() if squares.device.type == "cpu" else squares.sum()))
        return math.sqrt(math.fsum(parts))

    def settle(self, directory: RunDirectory, step: int, *, last: bool = False) -> None:
        """Write the checkpoint and evaluations due after a step, those that are not there yet.

        `step`: the buffer must hold the parameters after it.
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

    def write_model(self, folder: Path) -> None:
        """Write the model as it is and its tokenizer as a Hugging Face folder, to a temporary name first."""
        try:
            with replacing(folder) as temporary, quiet():
                self.loaded.model.save_pretrained(temporary)
                self.loaded.tokenizer.save_pretrained(temporary)
        except SafetensorError as error:
            raise OutputError(f"cannot write {folder}: {error}", "free space or choose another folder") from error


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
    because
        Why a forecast ended the run; empty if none did.
    """

    directory: Path
    step: int
    norm: float
    stalled_steps: int
    because: str = ""


def start_session(
    config: ESRunConfig | GRPORunConfig, *, evaluates: bool = True, base: Tensor | None = None
) -> Session:
    """Load the model and check that the tasks fit it; writes nothing.

    `evaluates`: whether the session evaluates on held-out prompts; workers do not.
    `base`: what the session holds as theta_0, shape (dim,); None: a copy of the model's parameters.
    """
    names = dict.fromkeys((config.task, *(config.evaluation_tasks if evaluates else ())))
    sources = {name: data_of(name, config.data, config.task) for name in names}
    for name, data in sources.items():
        get_task(name, data=data)  # an unknown one is said before the model is loaded
    loaded = load_model(config.model, device=config.device, dtype=_DTYPES[config.dtype])
    if config.trainable.startswith("lora:"):
        from estheory.models.adapters import add_adapters

        add_adapters(loaded.model, config.trainable, seed=config.seed)
    tasks = {
        name: task_for(loaded, name, data, config.form, system=config.system, max_new_tokens=config.max_new_tokens)
        for name, data in sources.items()
    }
    task = tasks[config.task]
    parameters = FlatParameters(loaded.model, config.trainable)
    pool: list[Example] = []
    if isinstance(config, ESRunConfig):
        config.sigma_factors(parameters.names)  # a pattern that matches nothing is said before the run begins
        if config.train_set:
            pool = task.examples("train", config.train_set, stream_seed(config.seed, TRAIN_SET))
    session = Session(
        config=config,
        loaded=loaded,
        parameters=parameters,
        base=parameters.vector.clone() if base is None else base,
        task=task,
        held=tuple(held_out(loaded, each, config.evaluation_prompts) for each in tasks.values()) if evaluates else (),
        train_set=tuple(pool),
    )
    require_fit(loaded, task, session.training_examples(1))
    return session


def with_absolute_model(config: _Config) -> _Config:
    """Name a model folder by its absolute path, so that a run resumes from anywhere."""
    folder = Path(config.model).expanduser()
    if config.model in builtin_names() or not folder.is_dir():
        return config
    return replace(config, model=str(folder.resolve()))
