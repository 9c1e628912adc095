"""What a sequence of tasks is, and the manifest that ties a folder to it. Imports no torch."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from estheory.errors import ConfigError, DataError
from estheory.parsing import parse_json
from estheory.rules import require_choice, require_seed
from estheory.tasks import data_of
from estheory.tasks.files import data_hashes
from estheory.training.config import ESRunConfig, GRPORunConfig
from estheory.training.config_files import KINDS, younger_fields

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
        One configuration a method, whose task, model and seed each stage replaces. Its steps, `stop_reward` and
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

        Parameters
        ----------
        model_bytes
            Of the base model's weights as they are trained.
        """
        kept = {"all": len(self.tasks), "last": 1, "none": 0}[self.retention] * len(self.seeds) * len(self.configs)
        moments = 4 if any(config.method == "grpo" for config in self.configs) else 0  # two trainer states, two each
        in_the_making = 2 + max(1, *(1 + c.steps // c.checkpoint_every for c in self.configs if c.checkpoint_every), 1)
        return model_bytes * (kept + in_the_making + moments)

    def stage(self, method: AnyConfig, task: str) -> AnyConfig:
        """Return a method's configuration for the stage of a task, which evaluates all others, too.

        Returns
        -------
        ESRunConfig or GRPORunConfig
            With the task set; model and seed are the method's.
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

    Parameters
    ----------
    wanted
        Of the sequence to go on with (`SequenceConfig.manifest`).
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
