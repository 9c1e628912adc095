"""The options of ``estheory run``, declared once for its subcommands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every run takes."""

    model: Annotated[str | None, typer.Option(help="Built-in name, Hugging Face folder or id (default tiny-lm).")] = (
        None
    )
    task: Annotated[str | None, typer.Option(help="Task to train (default addition).")] = None
    data: Annotated[str | None, typer.Option(help="Folder of JSONL or Parquet files, or hf:ID, with the task.")] = None
    form: Annotated[str | None, typer.Option(help="auto | few-shot | chat | likelihood (default auto).")] = None
    max_new_tokens: Annotated[
        str | None, typer.Option(help="Cut answers after this many tokens (default: the task's own number).")
    ] = None
    temperature: Annotated[str | None, typer.Option(help="Of sampled answers (default 1).")] = None
    top_p: Annotated[str | None, typer.Option(help="Sample from the likeliest tokens of this probability.")] = None
    system: Annotated[str | None, typer.Option(help="System message of chats (default: the chat template's).")] = None
    steps: Annotated[str | None, typer.Option(help="Number of updates, T (default 100).")] = None
    prompts: Annotated[str | None, typer.Option(help="Prompts of a step (default 64; GRPO 16).")] = None
    trainable: Annotated[str | None, typer.Option(help="all | last:K | lora:R | regex:... (default all).")] = None
    device: Annotated[str | None, typer.Option(help="Torch device (default cpu).")] = None
    dtype: Annotated[
        str | None,
        typer.Option(help="Of the weights: float32 | bfloat16 | float16 (default float32)."),
    ] = None
    threads: Annotated[int | None, typer.Option(help="CPU threads (default 1).")] = None
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints (default: last only).")] = None
    evaluate: Annotated[str | None, typer.Option(help="Further tasks to evaluate, comma list.")] = None
    evaluation_prompts: Annotated[int | None, typer.Option(help="Held-out prompts (default 50; small models 400).")] = (
        None
    )
    stop_reward: Annotated[str | None, typer.Option(help="End when a step's mean reward reaches this.")] = None
    stop_drift: Annotated[str | None, typer.Option(help="End when ||theta - theta_0|| reaches this.")] = None
    tracker: Annotated[str | None, typer.Option(help="Also log to tensorboard | wandb | trackio.")] = None
    out: Annotated[Path | None, typer.Option(help="Run directory to make.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the resolved configuration and run nothing.")] = False


@dataclass(frozen=True, kw_only=True)
class ESRunOptions:
    """What an ES run takes beside `RunOptions`."""

    sigma: Annotated[str | None, typer.Option(help="Perturbation scale (default 0.0015; small models 0.015).")] = None
    alpha: Annotated[str | None, typer.Option(help="Step size, weight units (default sigma/2).")] = None
    population: Annotated[str | None, typer.Option(help="Members evaluated per step (default 30).")] = None
    shaping: Annotated[str | None, typer.Option(help="zscore | centered-rank | raw | two-point (default zscore).")] = (
        None
    )
    antithetic: Annotated[bool, typer.Option("--antithetic", help="The N members are N/2 pairs.")] = False
    noise: Annotated[str | None, typer.Option(help="gaussian | low-rank:R | shared-seed (default gaussian).")] = None
    module_sigma: Annotated[
        str | None, typer.Option(help="Factors of sigma by tensor name: PATTERN=FACTOR, comma list; first match wins.")
    ] = None
    anchor_l2: Annotated[str | None, typer.Option(help="Proportional pull to the start per step.")] = None
    anchor_l1: Annotated[str | None, typer.Option(help="Constant pull to the start per step, weight units.")] = None
    anchor_form: Annotated[str | None, typer.Option(help="before | after: is the new step pulled too (after)?")] = None
    momentum: Annotated[str | None, typer.Option(help="Heavy-ball momentum, (1-B) convention.")] = None
    update_path: Annotated[str | None, typer.Option(help="accumulated | sequential (default accumulated).")] = None
    restore_pairs: Annotated[
        str | None, typer.Option(help="Evaluations a step that perturb and restore the weights in place.")
    ] = None
    reward: Annotated[str | None, typer.Option(help="accuracy | partial | logprob (default accuracy).")] = None
    decode: Annotated[str | None, typer.Option(help="greedy | sample (default greedy).")] = None
    train_set: Annotated[
        str | None, typer.Option(help="Draw all prompts from this many examples (default 0: new ones each step).")
    ] = None
    permute_rewards: Annotated[
        bool, typer.Option("--permute-rewards", help="Control: coefficients permuted between members.")
    ] = False
    generator: Annotated[
        str | None, typer.Option(help="Draws the noise on a CPU: mt19937 | philox (default mt19937, the faster).")
    ] = None
    no_prompt_rewards: Annotated[
        bool, typer.Option("--no-prompt-rewards", help="Keep members' mean rewards only, not those by prompt.")
    ] = False
    executor: Annotated[str | None, typer.Option(help="local | ray (default local).")] = None
    workers: Annotated[int | None, typer.Option(help="Processes that evaluate members (default 1).")] = None


@dataclass(frozen=True, kw_only=True)
class GRPOOptions:
    """What a GRPO run takes beside `RunOptions`."""

    preset: Annotated[str | None, typer.Option(help="paper: the settings of arXiv:2604.01499; other options win.")] = (
        None
    )
    samples: Annotated[str | None, typer.Option(help="Completions of a prompt, K (default 8).")] = None
    lr: Annotated[str | None, typer.Option(help="AdamW's peak learning rate (default 3e-6).")] = None
    schedule: Annotated[str | None, typer.Option(help="constant | linear | cosine (default linear).")] = None
