"""Configurations of training runs, and their TOML form. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from estheory.errors import DataError
from estheory.rules import require_choice, require_count, require_positive
from estheory.tasks.data import Form

Reward = Literal["accuracy", "partial", "logprob"]
Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every fine-tuning run needs.

    Parameters
    ----------
    model
        Built-in name, Hugging Face folder or hub id.
    task
        Name of the task that is trained.
    steps
        Number of updates, T.
    prompts
        Training prompts of one step; drawn afresh each step from (seed, step).
    seed
        Root of every random number of the run.
    trainable
        Which parameters move (see `estheory.models.parameters.FlatParameters`).
    device
        Torch device.
    threads
        CPU threads of the process while the run lasts.
    checkpoint_every
        Steps between checkpoints; 0 keeps the last one only.
    evaluation_prompts
        Held-out prompts of each evaluation.
    evaluation_tasks
        Further tasks evaluated beside `task`.
    data
        Folder of JSONL or Parquet files, or ``hf:ID``, whose tasks are used by their names; "" for none.
    form
        Of the prompts of tasks that are text: ``auto``, ``few-shot``, ``chat`` or ``likelihood`` (see
        `estheory.tasks.data.DataTask`).
    """

    method: ClassVar[str]

    model: str
    task: str
    steps: int
    prompts: int = 64
    seed: int = 0
    trainable: str = "all"
    device: str = "cpu"
    threads: int = 1
    checkpoint_every: int = 0
    evaluation_prompts: int = 400
    evaluation_tasks: tuple[str, ...] = ()
    data: str = ""
    form: Form = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "prompts", "threads", "evaluation_prompts"):
            require_count(name, getattr(self, name), 1)
        for name in ("seed", "checkpoint_every"):
            require_count(name, getattr(self, name), 0)
        require_choice("form", self.form, get_args(Form))

    def keeps_checkpoint(self, step: int) -> bool:
        """Whether the run writes a checkpoint, and evaluates, after `step`."""
        every = self.checkpoint_every
        return step == self.steps or (every > 0 and step > 0 and step % every == 0)

    def to_toml(self) -> str:
        """Return the configuration as TOML, one key a line; `parse_config` reads it back."""
        values = {"method": self.method, **dataclasses.asdict(self)}
        return "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())


@dataclass(frozen=True, kw_only=True)
class ESRunConfig(RunConfig):
    """Evolution Strategies with z-scored rewards, in float32.

    Parameters
    ----------
    sigma
        Perturbation scale (weight).
    alpha
        Step size (weight): theta <- theta + (alpha / N) sum_i z_i eps_i.
    population
        Members evaluated per step, N.
    reward
        ``accuracy``: mean score of greedy answers; ``partial``: mean partial credit of greedy answers; ``logprob``:
        mean log-probability of the reference answer, teacher-forced.
    permute_rewards
        Control: hand each member's coefficient to a random other one, so that no reward steers the walk.
    """

    method: ClassVar[str] = "es"

    sigma: float
    alpha: float
    population: int = 30
    reward: Reward = "accuracy"
    permute_rewards: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("sigma", self.sigma)
        require_positive("alpha", self.alpha)
        require_count("population", self.population, 2)
        require_choice("reward", self.reward, get_args(Reward))


@dataclass(frozen=True, kw_only=True)
class GRPORunConfig(RunConfig):
    """GRPO through TRL: no KL term, AdamW, K samples a prompt at temperature 1.

    Parameters
    ----------
    samples
        Completions drawn for each prompt, K.
    lr
        AdamW's peak learning rate (weight per step). The default is that of the published runs on models of
        billions of parameters; a tiny model wants 1e-4.
    schedule
        Of the learning rate over the steps; ``linear`` decays to 0.
    """

    method: ClassVar[str] = "grpo"

    prompts: int = 16
    samples: int = 8
    lr: float = 3e-6
    schedule: Schedule = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("lr", self.lr)
        require_count("samples", self.samples, 2)
        require_choice("schedule", self.schedule, get_args(Schedule))


def parse_config(text: str, source: str) -> ESRunConfig | GRPORunConfig:
    """Read the TOML form of a configuration.

    Parameters
    ----------
    text
        What `RunConfig.to_toml` wrote.
    source
        Where it comes from, for messages.

    Raises
    ------
    DataError
        It is no TOML, or a key is missing, unknown or of the wrong type.
    ConfigError
        A value is out of range.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{source} is not TOML ({error})", "restore it or start a new run") from error
    kinds: dict[str, type[ESRunConfig] | type[GRPORunConfig]] = {"es": ESRunConfig, "grpo": GRPORunConfig}
    method = values.pop("method", None)
    if not isinstance(method, str) or method not in kinds:
        raise DataError(f"{source}: method = {method!r}", f"use one of {', '.join(kinds)}")
    return _build(kinds[method], values, source)


def load_config(path: Path) -> ESRunConfig | GRPORunConfig:
    """Read a configuration file; raises as `parse_config`, and `DataError` where the file cannot be read."""
    try:
        return parse_config(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}", "give the folder of a run") from error


def _build(
    kind: type[ESRunConfig] | type[GRPORunConfig], values: Mapping[str, object], source: str
) -> ESRunConfig | GRPORunConfig:
    """Return a configuration from its values, each checked against the type of its field."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - set(fields)):
        raise DataError(f"{source}: unknown key {unknown[0]!r}", "remove it")
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise DataError(f"{source}: {missing[0]!r} is missing", "add it")
    hints = get_type_hints(kind)
    checked: dict[str, Any] = {name: _typed(value, hints[name], f"{source}: {name}") for name, value in values.items()}
    return kind(**checked)


def _typed(value: object, hint: Any, where: str) -> object:
    """`value` as the type that `hint` names."""
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise DataError(f"{where} = {value!r}", f"use one of {', '.join(get_args(hint))}")
    if get_origin(hint) is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    raise DataError(f"{where} = {value!r} has the wrong type", f"give {getattr(hint, '__name__', 'a list of strings')}")


def _toml(value: object) -> str:
    """One TOML value. JSON's strings, lists, numbers and booleans are TOML's too, but for the delete character."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
