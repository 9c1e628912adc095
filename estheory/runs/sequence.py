"""A sequence of tasks: what it is, the manifest that ties a folder to it, and what its folder tells."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError, DataError
from estheory.files import DAMAGED, parse_json, reading
from estheory.rules import require_choice, require_seed
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.config_files import KINDS, younger_fields
from estheory.runs.directory import RunDirectory, is_run
from estheory.runs.view import OwnRun
from estheory.tasks import data_of
from estheory.tasks.data_files import data_hashes

Retention = Literal["all", "last", "none"]
AnyConfig = ESRunConfig | GRPORunConfig


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """A sequence.

    Attributes
    ----------
    tasks
        Trained in this order; all of them are evaluated at every stage.
    configs
        One configuration per method, whose task, model and seed each stage replaces. Its steps, `stop_reward` and
        `stop_drift` are each stage's budget.
    seeds
        One sequence each.
    retention
        Stage models that are kept: ``all``; the ``last`` of each sequence; ``none``. The next stage's start is kept
        until that stage is done.
    """

    tasks: tuple[str, ...]
    configs: tuple[ESRunConfig | GRPORunConfig, ...]
    seeds: tuple[int, ...] = (0,)
    retention: Retention = "last"

    def __post_init__(self) -> None:
        if not self.tasks or not self.configs or not self.seeds:
            raise ConfigError("a sequence needs tasks, methods and seeds", "give at least one of each")
        for name, values in (("task", self.tasks), ("seed", self.seeds), ("method", [c.method for c in self.configs])):
            if len(set(values)) < len(values):
                raise ConfigError(f"a {name} is named twice in the sequence", f"name each {name} once")
        for seed in self.seeds:
            require_seed(seed)
        require_choice("keep", self.retention, ("all", "last", "none"))
        if any(c.trainable.startswith("lora:") for c in self.configs):
            raise ConfigError(
                "a sequence cannot train LoRA adapters: each stage starts from a whole model", "train all"
            )
        if len({c.model for c in self.configs}) > 1:
            raise ConfigError("the methods of a sequence start from different models", "give them one")

    def bytes_on_disk(self, model_bytes: int) -> int:
        """Return the most that the folder will take.

        `model_bytes`: of the base model's weights as they are trained.
        """
        kept = {"all": len(self.tasks), "last": 1, "none": 0}[self.retention] * len(self.seeds) * len(self.configs)
        moments = 4 if any(config.method == "grpo" for config in self.configs) else 0  # two trainer states, two each
        in_the_making = 2 + max(1, *(1 + c.steps // c.checkpoint_every for c in self.configs if c.checkpoint_every), 1)
        return model_bytes * (kept + in_the_making + moments)

    def stage(self, method: AnyConfig, task: str) -> AnyConfig:
        """Return a method's configuration for the stage of a task, which evaluates all others, too.

        Result: with the task set; model and seed are the method's.
        """
        return replace(method, task=task, evaluation_tasks=tuple(name for name in self.tasks if name != task))

    def manifest(self) -> dict[str, Any]:
        """Return the content of ``sequence.json``, which says what a folder's sequence is."""
        content = {
            "schema": "estheory/sequence-config/1",
            "tasks": list(self.tasks),
            "seeds": list(self.seeds),
            "keep": self.retention,
            "configs": {c.method: tomllib.loads(c.to_toml()) for c in self.configs},
        }
        if data := self.configs[0].data:
            content["data"] = {task: data_hashes(data, task) for task in self.tasks if data_of(task, data, task)}
        plain: dict[str, Any] = _finite(content)
        return plain


def require_same(manifest: Path, wanted: Mapping[str, Any]) -> None:
    """Check that a folder's sequence is the wanted one.

    `wanted`: of the sequence to go on with (`SequenceConfig.manifest`).
    """
    try:
        content = parse_json(manifest.read_bytes())
        for method in content.get("configs", {}).keys() & KINDS.keys():
            values = content["configs"][method]
            values |= _finite(younger_fields(method, values))
        known = flattened(content)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{manifest} is damaged ({error})", "restore it, or choose another folder") from error
    here = flattened(wanted)
    for name in sorted(known.keys() | here.keys()):
        if known.get(name) != here.get(name):
            raise ConfigError(
                f"{manifest.parent} holds another sequence: {name} is {known.get(name)!r} there, "
                f"{here.get(name)!r} here",
                "choose another folder, or give the options it was begun with",
            )


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by their dotted names.

    Examples
    --------
    >>> flattened({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    leaves: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            leaves |= flattened(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves


def _finite(value: Any) -> Any:
    """Return a value as JSON has it: infinities as None, tuples as lists."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a sequence.

    Attributes
    ----------
    name
        ``es/seed-0/1-countdown``, its folder below that of the sequence.
    method, seed, number, task
        What it is; stages are numbered from 1.
    run
        Its record; None if it has not begun or cannot be read.
    done
        done.json: norms, and accuracy and KL of every task before and after; empty while it is not finished.
    lack
        Why it is not complete, in words; empty if it is.
    """

    name: str
    method: str
    seed: int
    number: int
    task: str
    run: OwnRun | None
    done: Mapping[str, Any]
    lack: str


@dataclass(frozen=True, kw_only=True)
class SequenceRecord:
    """What the folder of a sequence holds.

    Attributes
    ----------
    path
        The folder.
    tasks, methods, seeds
        In order.
    stages
        Every planned stage, method by method and seed by seed.
    cosines
        Names of the last models' displacements from the base and their cosines, shape (K, K); None until all are done.
    """

    path: Path
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    stages: tuple[Stage, ...]
    cosines: tuple[tuple[str, ...], Array] | None

    def of(self, method: str, seed: int) -> list[Stage]:
        """Return the stages of one method and seed."""
        return [stage for stage in self.stages if (stage.method, stage.seed) == (method, seed)]

    def matrix(self, method: str, seed: int, quantity: str) -> Array:
        """Return what was evaluated before the first stage and after each.

        Result: shape (stages + 1, tasks), NaN where nothing was evaluated; KL before the first stage is 0.
        """
        states = np.full((len(self.tasks) + 1, len(self.tasks)), np.nan)
        for stage in self.of(method, seed):
            for row, when in ((stage.number - 1, "before"), (stage.number, "after")):
                for column, task in enumerate(self.tasks):
                    known = stage.done.get(when, {}).get(task, {})
                    missing = 0.0 if (quantity, row) == ("kl", 0) and known else np.nan
                    value = known.get(quantity, missing)
                    states[row, column] = value if np.isnan(states[row, column]) else states[row, column]
        return states


def is_sequence(path: Path) -> bool:
    """Return whether a folder looks like that of a sequence."""
    return (path / "sequence.json").is_file()


def read_sequence(path: Path, prefix: str = "") -> SequenceRecord:
    """Read the folder of a sequence, whichever of its stages are there.

    `prefix`: what precedes the names of its stages, to tell them from another sequence's.
    Result: with every planned stage; what one lacks is said in it.
    """
    with reading(path / "sequence.json"):
        plan = parse_json((path / "sequence.json").read_bytes())
        tasks, seeds = tuple(map(str, plan["tasks"])), tuple(map(int, plan["seeds"]))
        planned = {str(method): int(config["steps"]) for method, config in plan["configs"].items()}
        stages = tuple(
            _stage(path, prefix, method, seed, number, task, steps)
            for method, steps in planned.items()
            for seed in seeds
            for number, task in enumerate(tasks, start=1)
        )
        cosines = None
    with reading(path / "summary.json"):
        if (path / "summary.json").is_file():
            found = parse_json((path / "summary.json").read_bytes()).get("cosines")
            if found:
                names, values = tuple(map(str, found["of"])), np.array(found["values"], dtype=np.float64)
                if values.shape != (len(names), len(names)):
                    raise ValueError(f"cosines of shape {values.shape} for {len(names)} models")
                cosines = names, values
        return SequenceRecord(
            path=path, tasks=tasks, methods=tuple(planned), seeds=seeds, stages=stages, cosines=cosines
        )


def _stage(path: Path, prefix: str, method: str, seed: int, number: int, task: str, steps: int) -> Stage:
    below = f"{method}/seed-{seed}/{number}-{task}"
    folder, run, done, lack = path / below, None, {}, ""
    if not is_run(folder):
        lack = "not begun" if not folder.exists() else "its records are gone"
    else:
        try:
            run = RunDirectory.open(folder).record()
        except DataError as error:
            lack = str(error)
        if (folder / "done.json").is_file():
            try:
                done = _done((folder / "done.json").read_bytes())
            except DAMAGED as error:
                lack = f"its done.json is damaged ({type(error).__name__}: {error})"
        elif run is not None:
            lack = f"at step {len(run.steps)} of {steps}, still running or cut off"
    return Stage(name=prefix + below, method=method, seed=seed, number=number, task=task, run=run, done=done, lack=lack)


def _done(raw: bytes) -> dict[str, Any]:
    """Return what done.json holds, its numbers as floats."""
    content = parse_json(raw, finite=True)
    states = {
        when: {
            str(task): {str(name): float(value) for name, value in known.items()}
            for task, known in content[when].items()
        }
        for when in ("before", "after")
    }
    return {**states, "norm": float(content["norm"]), "norm_from_base": float(content["norm_from_base"])}
