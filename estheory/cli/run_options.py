"""The options of ``estheory run``: fields of the run configurations, and what concerns the command alone."""

# no postponed annotations: see options.py

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from estheory.cli import complete
from estheory.cli.options import ANCHORS, MACHINE, RECORDS, ROUNDING, VARIANTS, ConfigOptions
from estheory.rules import ESConfig
from estheory.runs.config import ESRunConfig, GRPORunConfig

_RUN = ("model", "task", "steps", "prompts", "trainable", "dtype")
_RECORDS = ("data", "form", "checkpoint_every", "evaluation_tasks", "evaluation_prompts", "stop_reward", "stop_drift")
_ANSWERS = ("max_new_tokens", "temperature", "top_p", "system")
_MACHINE = ("device", "threads")
_HELP = {field.name: field.metadata["help"] for field in fields(ESConfig) if field.metadata} | {
    "model": "Built-in name, Hugging Face folder or hub id (default tiny-lm).",
    "task": "Task to train (default addition).",
    "data": "Folder of JSONL or Parquet files, or hf:ID, with the task.",
    "form": "Form of the prompts.",
    "steps": "Number of updates, T (default 100).",
    "prompts": "Training prompts per step (default 64; GRPO 16).",
    "trainable": "Which parameters move (default all): all | last:K | lora:R | regex:...",
    "device": "Torch device.",
    "dtype": "How the weights are stored and updated.",
    "threads": "CPU threads.",
    "checkpoint_every": "Steps between checkpoints (default: the last one only).",
    "evaluation_tasks": "Further tasks to evaluate, comma list.",
    "evaluation_prompts": "Held-out prompts (default 50; small models 400).",
    "stop_reward": "End when a step's mean reward reaches this.",
    "stop_drift": "End when ||theta - theta_0|| reaches this.",
    "sigma": "Perturbation scale, in weight units (default 0.0015; small models 0.015).",
    "module_sigma": "Factors of sigma by tensor name: PATTERN=FACTOR, comma list; the first match wins.",
    "reward": "Reward of a member.",
    "decode": "How answers are decoded.",
    "train_set": "Draw all prompts from this many examples (default 0: new ones in each step).",
    "permute_rewards": "Control: hand the rewards' coefficients to other members at random.",
    "generator": "Draws the noise on a CPU; mt19937 is the faster.",
    "drop_prompt_rewards": "Keep members' mean rewards only, not those by prompt.",
    "max_new_tokens": "Cut answers after this many tokens (default: the task's own number).",
    "temperature": "Of sampled answers.",
    "top_p": "Sample from the likeliest tokens of this probability in all.",
    "system": "System message of chats (default: the chat template's).",
    "executor": "Where members are evaluated.",
    "workers": "Processes that evaluate members.",
    "samples": "Completions per prompt, K.",
    "lr": "AdamW's peak learning rate.",
    "schedule": "Learning-rate schedule.",
}
_COMPLETE = {"model": complete.models, "task": complete.tasks, "evaluation_tasks": complete.tasks}
SHARED = ConfigOptions(
    ESRunConfig,
    {"Run": _RUN, "Answers": _ANSWERS, RECORDS: _RECORDS, MACHINE: _MACHINE},
    help=_HELP,
    complete=_COMPLETE,
)
"""What every run takes."""
SEQUENCE_SHARED = ConfigOptions(
    ESRunConfig,
    {
        "Run": tuple(name for name in _RUN if name != "task"),
        "Answers": _ANSWERS,
        RECORDS: tuple(name for name in _RECORDS if name != "evaluation_tasks"),
        MACHINE: _MACHINE,
    },
    help=_HELP,
    complete=_COMPLETE,
)
"""What the runs of a sequence take: it has tasks of its own, and evaluates all of them."""
ES = ConfigOptions(
    ESRunConfig,
    {
        "Evolution strategies": ("sigma", "alpha", "population", "shaping", "antithetic", "noise", "reward"),
        VARIANTS: ("module_sigma", "decode", "train_set", "permute_rewards", "generator", "drop_prompt_rewards"),
        ANCHORS: ("anchor_l2", "anchor_l1", "anchor_form", "momentum"),
        ROUNDING: ("update_path", "restore_pairs"),
        MACHINE: ("executor", "workers"),
    },
    help=_HELP,
)
"""What an ES run takes beside them."""
GRPO = ConfigOptions(GRPORunConfig, {"GRPO": ("samples", "lr", "schedule")}, help=_HELP)
"""What a GRPO run takes beside them."""


@dataclass(frozen=True, kw_only=True)
class OutOptions:
    """Where a run goes."""

    panel: ClassVar[str] = "Run"

    out: Annotated[Path | None, typer.Option(help="Run directory to make.")] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the resolved configuration, its cost and forecast; run nothing.")
    ] = False
    tracker: Annotated[
        Literal["tensorboard", "wandb", "trackio"] | None, typer.Option(help="Also log there", rich_help_panel=RECORDS)
    ] = None


@dataclass(frozen=True, kw_only=True)
class PresetOptions:
    """Settings of published GRPO runs."""

    panel: ClassVar[str] = "GRPO"

    preset: Annotated[
        Literal["paper"] | None, typer.Option(help="Settings of arXiv:2604.01499, where other options leave them open")
    ] = None
