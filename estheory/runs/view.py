"""What a run tells, whoever's code wrote it: its settings, its steps, its evaluations and where its weights lie.

Readers (`estheory.runs.read`) return an `OwnRun` or a `ForeignRun`; both are a `RunRecord`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.quantities import Measurement
from estheory.rules import AnchorForm, Arithmetic, Dtype, ESConfig, Shaping, UpdatePath
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.theory.adamw import Schedule
from estheory.theory.estimators import Estimator, kind_of

Format = Literal["estheory", "ESvsGRPO ES", "ESvsGRPO GRPO", "es-awd", "es-at-scale", "TRL", "verl", "log"]
Method = Literal["es", "grpo"]

BY_COEFFICIENTS = "conditioned on the logged coefficients: v = (alpha^2/N^2) sum z^2"
BY_REWARDS = "conditioned on the logged reward spreads: a step of equal rewards moves nothing"
BY_HYPERPARAMETERS = "no step with equal rewards (nothing is logged of them)"

_T = TypeVar("_T")


def known(value: _T | None, what: str) -> _T:
    """Return a value that a record holds; ValueError, which `estheory.files.reading` names, where it does not."""
    if value is None:
        raise ValueError(f"no {what} is recorded")
    return value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The hyper-parameters of a run as far as they are told; None: not told.

    Attributes
    ----------
    method
        ``es``, or ``grpo`` for every gradient method.
    model, task
        What was trained on what.
    dim
        Number of trained parameters.
    steps
        Planned updates, T.
    prompts
        Prompts of a step.
    prompts_fixed
        Whether every step saw the same prompts.
    sigma, alpha, population, shaping, antithetic, noise, anchor_l2, anchor_l1, anchor_form, momentum, dtype
        As in `estheory.rules.ESConfig`.
    update_path, restore_pairs
        As there: how 16-bit weights were changed in place.
    lr, schedule
        Peak learning rate (weight per step) of a gradient method, and its course.
    """

    method: Method | None = None
    model: str | None = None
    task: str | None = None
    dim: int | None = None
    steps: int | None = None
    prompts: int | None = None
    prompts_fixed: bool | None = None
    sigma: float | None = None
    alpha: float | None = None
    population: int | None = None
    shaping: Shaping | None = None
    antithetic: bool | None = None
    noise: str | None = None
    anchor_l2: float | None = None
    anchor_l1: float | None = None
    anchor_form: AnchorForm | None = None
    momentum: float | None = None
    dtype: Dtype | None = None
    update_path: UpdatePath | None = None
    restore_pairs: int | None = None
    lr: float | None = None
    schedule: Schedule | None = None

    @staticmethod
    def of(config: ESRunConfig | GRPORunConfig, dim: int) -> Settings:
        """Return what the configuration of a run of this package tells.

        `dim`: trained parameters of its model.
        """
        shared = {f.name for f in fields(Settings)} & {f.name for f in fields(config)}
        told: dict[str, Any] = {name: getattr(config, name) for name in shared}
        if isinstance(config, ESRunConfig):
            told["prompts_fixed"] = config.train_set == config.prompts
        return Settings(method="es" if isinstance(config, ESRunConfig) else "grpo", dim=dim, **told)

    @property
    def shaping_used(self) -> Shaping:
        """Its shaping; where it is not told, the default of `estheory.rules.ESConfig`."""
        return self.shaping or ESConfig.shaping

    @property
    def kind(self) -> type[Estimator]:
        """The kind of its estimator; what is not told has the default of `estheory.rules.ESConfig`."""
        return kind_of(self.shaping_used, bool(self.antithetic))

    def rules(self) -> ESConfig:
        """Return what the theory needs of an ES run; what is not told has the default of `estheory.rules.ESConfig`.

        Raises DataError: without dim, sigma, alpha or population, which have no default that could be taken for
        granted.
        """
        if missing := [name for name in ("dim", "sigma", "alpha", "population") if getattr(self, name) is None]:
            raise DataError(f"the run's {missing[0]} is not told", f"give --{missing[0]}")
        values = {f.name: getattr(self, f.name, None) for f in fields(ESConfig)}
        return ESConfig(**{name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """What a run recorded of one update; None: not recorded.

    Attributes
    ----------
    step
        Number of the update, from 1: its members were perturbed around theta_(step - 1).
    rewards : ndarray, shape (N,)
        Mean reward of each evaluated member (reward). Mirrored members are neighbours: 2 k and 2 k + 1.
    half_rewards : ndarray, shape (N,)
        The same over the first half of the prompts.
    prompt_rewards : ndarray, shape (N, B)
        Each member's reward on each prompt.
    mirror_rewards : ndarray, shape (N, B)
        Of members that mirror them and never moved the run.
    centre_rewards : ndarray, shape (B,)
        Rewards of the unperturbed theta_(step - 1) on the same prompts.
    centre_reward
        Their mean.
    reward_mean, reward_std
        Mean and population standard deviation of the members' mean rewards; of a gradient method, of its samples.
    coefficients : ndarray, shape (N,)
        z: the update is alpha/N sum_k z_k eps_k.
    coefficients_abs_sum
        sum_k abs(z_k), where only that is recorded.
    seeds
        One for each member, as logged.
    stream
        (seed, step) that name the noise of a run of this package.
    norm
        ||theta_step - theta_0|| (weight), after the update.
    kl
        KL to the start, as the code measures it (nat/token).
    lr
        Learning rate of the update (weight per step).
    stalled
        Whether the rewards of every group were equal, so that a gradient method had no gradient.
    """

    step: int
    rewards: Array | None = None
    half_rewards: Array | None = None
    prompt_rewards: Array | None = None
    mirror_rewards: Array | None = None
    centre_rewards: Array | None = None
    centre_reward: float | None = None
    reward_mean: float | None = None
    reward_std: float | None = None
    coefficients: Array | None = None
    coefficients_abs_sum: float | None = None
    seeds: tuple[int, ...] = ()
    stream: tuple[int, int] | None = None
    norm: float | None = None
    kl: float | None = None
    lr: float | None = None
    stalled: bool = False

    def weights(self, settings: Settings) -> Array:
        """Return the weights of the step's noise vectors, alpha z / N, or of pairs alpha (z+ - z-) / N.

        `settings`: of the run: alpha, population and whether members are mirrored.
        Result: shape (N,), or (N/2,), weight units.
        Raises ValueError: if coefficients, alpha or the population are not recorded.
        """
        z = known(self.coefficients, "coefficient")
        scale = known(settings.alpha, "alpha") / known(settings.population, "population")
        return scale * settings.kind.noise_weights(z)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One figure that a run measured on held-out prompts.

    Attributes
    ----------
    step, task
        After which update, and on which task.
    quantity
        Its name, as in `estheory.quantities.Quantity`.
    value, stderr
        In the unit of the quantity.
    """

    step: int
    task: str
    quantity: str
    value: float
    stderr: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What every run tells.

    Attributes
    ----------
    path
        Its folder, or its log file.
    format
        Whose code wrote it.
    steps
        Its updates in order, 1, 2, 3, ...; empty where the code logs none.
    checkpoints
        Files or folders of weights by the number of steps behind them, in order.
    """

    path: Path
    format: Format
    steps: tuple[Step, ...] = ()
    checkpoints: Mapping[int, Path] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """Its hyper-parameters, as far as they are told."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class OwnRun(RunRecord):
    """A run directory of this package, finished or interrupted, without its weights.

    Attributes
    ----------
    format
        ``estheory``.
    config
        config.toml.
    dim
        Number of trained parameters, from environment.json.
    probes
        probes.json; empty when nothing was probed.
    evaluations
        Rows of evaluations.jsonl.
    forecasts
        Rows of forecasts.jsonl: what the run foretold of itself, and after which step.
    """

    format: Format = "estheory"
    config: ESRunConfig | GRPORunConfig
    dim: int
    probes: Mapping[str, Any] = field(default_factory=dict)
    evaluations: tuple[Evaluation, ...] = ()
    forecasts: tuple[Mapping[str, Any], ...] = ()

    @property
    def settings(self) -> Settings:
        """Its hyper-parameters; config.toml tells all of them."""
        return Settings.of(self.config, self.dim)

    @property
    def method(self) -> str:
        """``es`` or ``grpo``."""
        return self.config.method

    @property
    def es(self) -> ESRunConfig:
        """The configuration of an ES run; DataError where it is none."""
        if not isinstance(self.config, ESRunConfig):
            raise DataError(f"{self.path} is no ES run", "give the folder of an ES run")
        return self.config

    @property
    def grpo(self) -> GRPORunConfig:
        """The configuration of a GRPO run; DataError where it is none."""
        if not isinstance(self.config, GRPORunConfig):
            raise DataError(f"{self.path} is no GRPO run", "give the folder of a GRPO run")
        return self.config

    def evaluated(self, quantity: str) -> dict[tuple[int, str], tuple[float, float]]:
        """Return the values of one evaluated quantity.

        Result: value and standard error, in the quantity's unit, by step and task.
        """
        return {(e.step, e.task): (e.value, e.stderr) for e in self.evaluations if e.quantity == quantity}


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller says of a run whose directory does not; None: nothing. It wins over the directory.

    Attributes
    ----------
    alpha, sigma
        Step size and perturbation scale (weight).
    population
        Members a step, N.
    update_path
        How updates are added to 16-bit weights.
    restore_pairs
        Members a step that were perturbed and restored on the copy that is updated.
    shaping, antithetic
        As in `estheory.rules.ESConfig`; of a log of no known code.
    """

    alpha: float | None = None
    population: int | None = None
    sigma: float | None = None
    update_path: UpdatePath | None = None
    restore_pairs: int | None = None
    shaping: Shaping | None = None
    antithetic: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """One way in which the code may have changed weights in place; rounding depends on it.

    Attributes
    ----------
    update_path
        ``sequential``: member by member; ``accumulated``: once a step.
    arithmetic
        Whose operations (`estheory.rules.Arithmetic`).
    restore_pairs
        Members a step that were perturbed and restored on the copy that is updated.
    """

    update_path: UpdatePath
    arithmetic: Arithmetic = "rounded"
    restore_pairs: int = 0

    def __str__(self) -> str:
        return f"{self.update_path}, {self.restore_pairs} restores per step"


@dataclass(frozen=True, kw_only=True)
class ForeignRun(RunRecord):
    """A run directory or a log of other people's code.

    Attributes
    ----------
    told
        Its hyper-parameters.
    base
        The base weights inside the folder; None if it has none.
    increments : ndarray, shape (T,)
        Variance that each ES step added to a flat coordinate (weight^2); empty for gradient methods.
    weights : ndarray, shape (T, m), or None
        The weights of each step's m noise vectors (alpha z / N), where they are logged.
    population
        Noise vectors a step, where they are not.
    condition
        What the increments are conditioned on, as an assumption.
    keep
        1 - kappa of an L2 anchor that also pulls the new step; 1 without an anchor.
    pull
        Pull of an L1 anchor each step (weight); variances are without it.
    rates : ndarray, shape (T,)
        Learning rate of each step of a gradient method (weight); empty for ES.
    optimizer
        File of the state of a gradient method's optimiser; None where there is none.
    copies
        Whether AdamW keeps float32 weights beside those in 16 bits: every way that the folder leaves open.
    logged_norms
        Logged displacement norms by step, each with the number of entries it counts.
    logged_layers
        Logged norms of layers, by step and name of the layer.
    dtype
        How the log says that weights were stored; checkpoints tell it themselves.
    sigma
        Perturbation scale; None where it is not logged or not the same throughout.
    mirrored
        Whether each noise vector was also tried with the other sign.
    implementations
        How the code may have rounded: every way that the folder leaves open.
    uncounted
        Steps by which the number of steps is uncertain.
    shown
        Measured by the run itself, not predicted; each with the reason.
    unjudged
        What the theory cannot judge here and why, one line each.
    """

    told: Settings = Settings()
    base: Path | None = None
    increments: Array = field(default_factory=lambda: np.zeros(0))
    weights: Array | None = None
    population: int = 0
    condition: str = ""
    keep: float = 1.0
    pull: float = 0.0
    rates: Array = field(default_factory=lambda: np.zeros(0))
    optimizer: Path | None = None
    copies: tuple[bool, ...] = (False, True)
    logged_norms: Mapping[int, tuple[float, int]] = field(default_factory=dict)
    logged_layers: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    dtype: Dtype = "float32"
    sigma: float | None = None
    mirrored: bool = False
    implementations: tuple[Implementation, ...] = ()
    uncounted: int = 0
    shown: tuple[Shown, ...] = ()
    unjudged: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """Its hyper-parameters, as far as they are told."""
        return self.told

    @property
    def variances(self) -> Array:
        """Variance of a flat coordinate after 0, 1, ..., T steps (weight^2), shape (T + 1,)."""
        values = np.zeros(len(self.increments) + 1)
        for step, increment in enumerate(self.increments, start=1):
            values[step] = self.keep**2 * (values[step - 1] + increment)
        return values


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A measurement that a log holds and the theory does not predict, and why not.

    Attributes
    ----------
    measurement
        The figure.
    reason
        Why nothing predicts it.
    """

    measurement: Measurement
    reason: str

    @property
    def quantity(self) -> str:
        """What was measured."""
        return str(self.measurement.quantity)

    @property
    def step(self) -> int | None:
        """The training step; None where none is known."""
        return self.measurement.step

    @property
    def where(self) -> str:
        """The run and the task."""
        return f"{self.measurement.source}, {self.measurement.where}"

    @property
    def value(self) -> float:
        """In the unit of the quantity."""
        return self.measurement.value
