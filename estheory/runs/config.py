"""Configurations of training runs. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from estheory.errors import ConfigError, DataError
from estheory.rules import (
    Dtype,
    ESConfig,
    ESRule,
    module_factors,
    require_choice,
    require_count,
    require_positive,
    require_seed,
)
from estheory.tasks.data import Form
from estheory.theory.adamw import Schedule
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.estimator import Estimator

MemberReward = Literal["accuracy", "partial", "logprob"]
Decode = Literal["greedy", "sample"]
ExecutorName = Literal["local", "ray"]
Generator = Literal["mt19937", "philox"]
Matmul = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every fine-tuning run needs.

    Attributes
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
    max_new_tokens
        Tokens after which an answer is cut, in training and evaluation, of every task that is decoded; 0: each task's
        own number.
    temperature, top_p
        Of sampled answers: what divides the logits, and how much probability the likeliest tokens, which alone are
        drawn, have in all.
    system
        System message of prompts in chat form; "" for what the model's chat template has.
    stop_reward
        Mean reward of a step at which the run ends early.
    stop_drift
        ||theta - theta_0|| (weight) at which the run ends early.
    method
        Its name in files and on the command line.
    before
        What a file that lacks a field says by that, where it is not the default: the field is younger than the file.
    """

    method: ClassVar[str]
    before: ClassVar[Mapping[str, object]] = {}

    model: str = field(metadata={"help": "Built-in name, Hugging Face folder or hub id (default tiny-lm)."})
    task: str = field(metadata={"help": "Task to train (default addition)."})
    steps: int = field(metadata={"help": "Number of updates, T (default 100)."})
    prompts: int = field(default=64, metadata={"help": "Training prompts per step (default 64; GRPO 16)."})
    seed: int = 0
    trainable: str = field(
        default="all", metadata={"help": "Which parameters move (default all): all | last:K | lora:R | regex:..."}
    )
    device: str = field(default="cpu", metadata={"help": "Torch device."})
    threads: int = field(default=1, metadata={"help": "CPU threads."})
    checkpoint_every: int = field(
        default=0, metadata={"help": "Steps between checkpoints (default: the last one only)."}
    )
    evaluation_prompts: int = field(default=400, metadata={"help": "Held-out prompts (default 50; small models 400)."})
    evaluation_tasks: tuple[str, ...] = field(
        default=(), metadata={"help": "Further tasks to evaluate, comma list.", "option": "evaluate"}
    )
    data: str = field(default="", metadata={"help": "Folder of JSONL or Parquet files, or hf:ID, with the task."})
    form: Form = field(default="auto", metadata={"help": "Form of the prompts."})
    max_new_tokens: int = field(
        default=0, metadata={"help": "Cut answers after this many tokens (default: the task's own number)."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Temperature of sampled answers."})
    top_p: float = field(
        default=1.0, metadata={"help": "Sample from the likeliest tokens whose probabilities add up to this."}
    )
    system: str = field(default="", metadata={"help": "System message of chats (default: the chat template's)."})
    stop_reward: float = field(default=math.inf, metadata={"help": "End when the mean reward of a step reaches this."})
    stop_drift: float = field(default=math.inf, metadata={"help": "End when ||theta - theta_0|| reaches this."})

    def __post_init__(self) -> None:
        for name in ("steps", "prompts", "threads", "evaluation_prompts"):
            require_count(name, getattr(self, name), 1)
        require_seed(self.seed)
        require_count("checkpoint_every", self.checkpoint_every, 0)
        require_choice("form", self.form, get_args(Form))
        require_count("max-new-tokens", self.max_new_tokens, 0)
        require_positive("temperature", self.temperature)
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top-p must lie in (0, 1], got {self.top_p}", "give a probability, 1 for all tokens")
        if math.isnan(self.stop_reward) or not self.stop_drift > 0:
            raise ConfigError(
                f"stop-reward {self.stop_reward} or stop-drift {self.stop_drift} is no budget", "give a number (> 0)"
            )

    def is_last(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row of steps.jsonl ends the run: the last step, or a budget is spent."""
        try:
            spent = row["reward_mean"] >= self.stop_reward or row["norm"] >= self.stop_drift
        except (KeyError, TypeError) as error:
            raise DataError(f"step {row['step']} of steps.jsonl is damaged ({error!r})", "restore the file") from error
        return bool(row["step"] >= self.steps or spent)

    def keeps_checkpoint(self, step: int) -> bool:
        """Return whether the run writes a checkpoint, and evaluates, after a step."""
        every = self.checkpoint_every
        return step == self.steps or (every > 0 and step > 0 and step % every == 0)

    def to_toml(self) -> str:
        """Return the configuration as TOML; `estheory.runs.config_files` reads it back."""
        values = {"method": self.method, **dataclasses.asdict(self)}
        return "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())


@dataclass(frozen=True, kw_only=True)
class ESRunConfig(ESRule, RunConfig):
    """Evolution Strategies.

    Attributes
    ----------
    sigma, alpha, population, shaping, antithetic, noise, anchor_l2, anchor_l1, anchor_form, momentum, dtype
        As in `estheory.rules.ESConfig`.
    update_path
        As there: the terms of a step are summed and added once, or added one by one.
    restore_pairs
        How many evaluations of a step, the first ones, perturb the weights that are trained in place and restore
        them by subtraction; what rounding leaves of each pair stays. All others work on copies.
    module_sigma
        ``PATTERN=FACTOR``: the noise of tensors in whose name the regular expression is found is multiplied by the
        factor, in the perturbation and in the step. The first pattern that matches counts.
    reward
        ``accuracy``: mean score of the answers; ``partial``: their mean partial credit; ``logprob``: mean
        log-probability of the reference answer, teacher-forced.
    decode
        Answers are decoded greedily, or sampled from a stream of (seed, step, evaluation).
    matmul
        Arithmetic of the matrix products behind a member's reward, and so a part of what the reward is; weights stay
        float32, and held-out evaluations too.
    train_set
        Number of training examples that the whole run draws its prompts from; 0 draws new ones each step. Equal to
        `prompts`, every step sees all of them.
    permute_rewards
        Control: hand each member's coefficient to a random other one, so that no reward steers the walk.
    generator
        What draws the noise on the CPU (:mod:`estheory.models.noise_streams`): ``mt19937``, or ``philox``, which is
        slower and has the same bits on every processor. Runs from before there was a choice have ``philox``.
    drop_prompt_rewards
        Whether only members' mean rewards are kept, and not those by prompt (rewards.jsonl), which `pilot` and
        `forecast` read.
    mirror_every
        K: in one step of K, from the first on, what the ledger lacks is evaluated too, and never moves the run: the
        members' mirrored partners theta - sigma eps, where the members are not mirrored, and theta itself; 0: never.
    forecast_every
        Steps between forecasts (forecasts.jsonl), which `validate` judges once the run has gone on; 0: none.
    stop_net
        Reward per step: the run ends at a forecast where the upper end of its net rate is below this.
    executor, workers
        Where members are evaluated; the results do not depend on it.
    method
        ``es``.
    before
        As in `RunConfig`.
    """

    method: ClassVar[str] = "es"
    before: ClassVar[Mapping[str, object]] = {"generator": "philox", "drop_prompt_rewards": True}

    sigma: float = field(metadata={"help": "Perturbation scale, in weight units (default 0.0015; small models 0.015)."})
    alpha: float = field(metadata={"help": "Step size, in weight units (default sigma/2)."})
    population: int = field(default=30, metadata={"help": "Members evaluated per step, N."})
    module_sigma: tuple[str, ...] = field(
        default=(),
        metadata={"help": "Factors of sigma by tensor name: PATTERN=FACTOR, comma list; the first match wins."},
    )
    reward: MemberReward = field(default="accuracy", metadata={"help": "Reward of a member."})
    decode: Decode = field(default="greedy", metadata={"help": "How answers are decoded."})
    matmul: Matmul = field(
        default="float32", metadata={"help": "Arithmetic of the matrix products behind a reward; weights stay float32."}
    )
    train_set: int = field(
        default=0, metadata={"help": "Draw all prompts from this many examples (default 0: new ones in each step)."}
    )
    permute_rewards: bool = field(
        default=False, metadata={"help": "Control: hand the rewards' coefficients to other members at random."}
    )
    generator: Generator = field(
        default="mt19937", metadata={"help": "Draws the noise on a CPU; mt19937 is the faster."}
    )
    drop_prompt_rewards: bool = field(
        default=False, metadata={"help": "Keep members' mean rewards only, not those by prompt."}
    )
    mirror_every: int = field(
        default=0,
        metadata={"help": "Evaluate mirrored partners and theta itself in one step of this many (default 0: never)."},
    )
    forecast_every: int = field(
        default=0, metadata={"help": "Write down a forecast after every so many steps (default 0: never)."}
    )
    stop_net: float = field(
        default=-math.inf,
        metadata={"help": "End at a forecast where a step surely brings less reward than this, net."},
    )
    executor: ExecutorName = field(default="local", metadata={"help": "Where members are evaluated."})
    workers: int = field(default=1, metadata={"help": "Processes that evaluate members."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rules(1)
        require_choice("reward", self.reward, get_args(MemberReward))
        require_choice("decode", self.decode, get_args(Decode))
        require_choice("generator", self.generator, get_args(Generator))
        require_choice("matmul", self.matmul, get_args(Matmul))
        if self.matmul != "float32" and self.dtype != "float32":
            raise ConfigError(f"{self.dtype} weights have {self.dtype} products already", "leave matmul or dtype out")
        require_choice("executor", self.executor, get_args(ExecutorName))
        require_count("workers", self.workers, 1)
        require_count("train-set", self.train_set, 0)
        require_count("mirror-every", self.mirror_every, 0)
        require_count("forecast-every", self.forecast_every, 0)
        if math.isnan(self.stop_net) or (self.stop_net > -math.inf and not self.forecast_every):
            raise ConfigError(
                f"stop-net {self.stop_net} is asked at forecasts, and there are none", "give forecast-every"
            )
        if self.mirror_every and self.drop_prompt_rewards:
            raise ConfigError("mirror-every is of no use without rewards by prompt", "leave drop-prompt-rewards out")
        if 0 < self.train_set < self.prompts:
            raise ConfigError(f"a training set of {self.train_set} has no {self.prompts} prompts", "lower prompts")
        if self.restore_pairs > self.evaluations:
            raise ConfigError(
                f"restore-pairs {self.restore_pairs} exceeds the {self.evaluations} evaluations of a step", "lower it"
            )
        if self.decode == "greedy" and (self.temperature, self.top_p) != (1.0, 1.0):
            raise ConfigError("temperature and top-p have no effect on greedy answers", "use decode sample")
        if self.decode == "sample" and self.reward == "logprob":
            raise ConfigError("decode=sample has no effect on the reward logprob", "leave one of them out")
        if self.anchor_form == "after" and not (self.anchor_l1 or self.anchor_l2):
            raise ConfigError("anchor-form has no effect without an anchor", "give anchor-l2 or anchor-l1")
        if self.update_path == "sequential" and (self.momentum or self.anchor_l1 or self.anchor_l2):
            raise ConfigError(
                "update-path sequential adds members one by one, which momentum and anchors do not",
                "use update-path accumulated",
            )
        if self.permute_rewards and self.population < 2:
            raise ConfigError("one direction has no other to swap rewards with", "raise population")
        self.sigma_factors(())

    @property
    def evaluations(self) -> int:
        """Reward evaluations of a step: N, or 2 N for two-point, whose members are directions."""
        return self.estimator.evaluations

    def partners(self, step: int) -> int:
        """Return how many mirrored partners are evaluated beside the members of a step.

        Parameters
        ----------
        step
            Number of the step, from 1.

        Returns
        -------
        int
            0 where the members are mirrored themselves, or the step is not watched.
        """
        return 0 if self.estimator.paired or not self.watches(step) else self.evaluations

    def watches(self, step: int) -> bool:
        """Return whether theta itself, and the members' partners, are evaluated in a step.

        Parameters
        ----------
        step
            Number of the step, from 1.

        Returns
        -------
        bool
            True for the first of every `mirror_every` steps.
        """
        return self.mirror_every > 0 and (step - 1) % self.mirror_every == 0

    def evaluated(self, step: int) -> int:
        """Return the reward evaluations of a step: members, then their mirrored partners, then theta itself.

        Parameters
        ----------
        step
            Number of the step, from 1.

        Returns
        -------
        int
            The number of evaluations, each of all prompts of the step.
        """
        return self.evaluations + self.partners(step) + self.watches(step)

    @property
    def estimator(self) -> Estimator:
        """What shapes the rewards, and which evaluation uses which noise vector."""
        return estimator_of(self.rules(1))

    def rules(self, dim: int) -> ESConfig:
        """Return what the theory needs of this run.

        Parameters
        ----------
        dim
            Trainable parameters of its model.

        Returns
        -------
        ESConfig

        Examples
        --------
        >>> run = ESRunConfig(model="tiny-lm", task="addition", steps=10, sigma=0.01, alpha=0.005)
        >>> run.rules(59_184).population
        30
        """
        shared = {field.name for field in dataclasses.fields(ESConfig)} - {"dim"}
        return ESConfig(dim=dim, **{name: getattr(self, name) for name in shared})

    def sigma_factors(self, names: Sequence[str]) -> tuple[float, ...]:
        """Return the factor of sigma of each tensor.

        Parameters
        ----------
        names
            Of the tensors; none to check the form of `module_sigma` alone.

        Returns
        -------
        tuple of float
            Empty where none is given.

        Raises
        ------
        ConfigError
            An entry is malformed, or matches none of the names (if there are names).
        """
        return module_factors(self.module_sigma, names)


@dataclass(frozen=True, kw_only=True)
class GRPORunConfig(RunConfig):
    """GRPO through TRL: no KL term, AdamW, K samples per prompt.

    Attributes
    ----------
    samples
        Completions drawn for each prompt, K.
    lr
        AdamW's peak learning rate (weight per step). The default is that of the published runs on models of
        billions of parameters; a tiny model wants 1e-4.
    schedule
        Of the learning rate over the steps; ``linear`` decays to 0.
    dtype
        How weights, gradients and AdamW's moments are stored. ``bfloat16``: updated in place, with no float32 copy.
        Not ``float16``, where the second moments underflow.
    prompts
        As in `RunConfig`: `samples` completions are drawn for each.
    gradient_probe
        Minibatch gradients at each of four points of the way that their mean leads, before the run: they predict its
        norm. 0: none.
    method
        ``grpo``.
    """

    method: ClassVar[str] = "grpo"

    prompts: int = field(default=16, metadata={"help": "Training prompts per step (default 64; GRPO 16)."})
    samples: int = field(default=8, metadata={"help": "Completions per prompt, K."})
    lr: float = field(default=3e-6, metadata={"help": "AdamW's peak learning rate."})
    schedule: Schedule = field(default="linear", metadata={"help": "Learning-rate schedule."})
    gradient_probe: int = field(
        default=0, metadata={"help": "Minibatch gradients at each of 4 points before the run, which predict its norm."}
    )
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("lr", self.lr)
        if self.gradient_probe:
            require_count("gradient-probe", self.gradient_probe, 2)
        require_count("samples", self.samples, 2)
        require_choice("schedule", self.schedule, get_args(Schedule))
        require_choice("dtype", self.dtype, ("float32", "bfloat16"))


def _toml(value: object) -> str:
    """One TOML value. JSON's strings, lists, numbers and booleans are TOML's too, but for the delete character."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
