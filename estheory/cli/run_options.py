"""The options of ``estheory run``: fields of the run configurations, and what concerns the command alone."""

# no postponed annotations: see options.py

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from estheory.cli import complete
from estheory.cli.options import ANCHORS, ANSWERS, MACHINE, RECORDS, ROUNDING, VARIANTS, ConfigOptions
from estheory.runs.config import ESRunConfig, GRPORunConfig

_RUN = ("model", "task", "steps", "prompts", "trainable", "dtype")
_RECORDS = ("data", "form", "checkpoint_every", "evaluation_tasks", "evaluation_prompts", "stop_reward", "stop_drift")
_ANSWERS = ("max_new_tokens", "temperature", "top_p", "system")
_MACHINE = ("device", "threads")
_COMPLETE = {"model": complete.models, "task": complete.tasks, "evaluation_tasks": complete.tasks}
SHARED = ConfigOptions(
    ESRunConfig,
    {"Run": _RUN, ANSWERS: _ANSWERS, RECORDS: _RECORDS, MACHINE: _MACHINE},
    complete=_COMPLETE,
)
"""What every run takes."""
SEQUENCE_SHARED = ConfigOptions(
    ESRunConfig,
    {
        "Run": tuple(name for name in _RUN if name != "task"),
        ANSWERS: _ANSWERS,
        RECORDS: tuple(name for name in _RECORDS if name != "evaluation_tasks"),
        MACHINE: _MACHINE,
    },
    complete=_COMPLETE,
)
"""What the runs of a sequence take: it has tasks of its own, and evaluates all of them."""
ES = ConfigOptions(
    ESRunConfig,
    {
        "Evolution strategies": ("sigma", "alpha", "population", "shaping", "antithetic", "noise", "reward"),
        VARIANTS: ("module_sigma", "decode", "matmul", "train_set", "permute_rewards", "generator"),
        RECORDS: ("drop_prompt_rewards", "mirror_every", "forecast_every", "stop_net"),
        ANCHORS: ("anchor_l2", "anchor_l1", "anchor_form", "momentum"),
        ROUNDING: ("update_path", "restore_pairs"),
        MACHINE: ("executor", "workers"),
    },
)
"""What an ES run takes beside them."""
GRPO = ConfigOptions(GRPORunConfig, {"GRPO": ("samples", "lr", "schedule"), RECORDS: ("gradient_probe",)})
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
