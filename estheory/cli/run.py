"""``estheory run``: a real fine-tuning run of a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from estheory.cli.emit import cite, emit, json_text, narrate
from estheory.cli.options import CommonOptions, options
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.training.config import ESRunConfig, GRPORunConfig
    from estheory.training.session import RunResult

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every run takes."""

    model: Annotated[str | None, typer.Option(help="Built-in name, Hugging Face folder or id (default tiny-lm).")] = (
        None
    )
    task: Annotated[str | None, typer.Option(help="Task to train (default addition).")] = None
    data: Annotated[str | None, typer.Option(help="Folder of JSONL or Parquet files, or hf:ID, with the task.")] = None
    form: Annotated[str | None, typer.Option(help="auto | few-shot | chat | likelihood (default auto).")] = None
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


@app.callback()
def run() -> None:
    """Fine-tune a language model by ES or GRPO and record everything that the theory needs."""


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
    executor: Annotated[str | None, typer.Option(help="local | ray (default local).")] = None
    workers: Annotated[int | None, typer.Option(help="Processes that evaluate members (default 1).")] = None


@app.command("es")
@options(RunOptions, ESRunOptions, CommonOptions)
def es(
    run: RunOptions,
    settings: ESRunOptions,
    common: CommonOptions,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Rebuild the weights of a recorded run; with --step.")] = None,
    step: Annotated[int | None, typer.Option(help="Which step --replay rebuilds.")] = None,
) -> None:
    """Fine-tune by Evolution Strategies: theta += (alpha/N) sum z_i eps_i, and its variants."""
    if resume is not None and replay is not None:
        raise ConfigError("--resume and --replay exclude each other", "give one")
    if step is not None and replay is None:
        raise ConfigError("--step has no effect without --replay", "give --replay DIR, or leave it out")
    if resume is not None:
        from estheory.cli.run_settings import require_unchanged
        from estheory.training.es import resume as continue_run
        from estheory.training.probing import probes_before

        free = require_unchanged(resume, run, settings, common)
        _go(
            common,
            run,
            resume,
            lambda on_step: continue_run(resume, before_first_step=probes_before, on_step=on_step, **free),
        )
        return
    if replay is not None:
        _replay(common, replay, step, run.out)
        return
    from estheory.cli.run_settings import es_config

    config = es_config(run, settings, common)
    if run.dry_run:
        _show(common, config)
        return
    out = _out(run)
    from estheory.training.es import run_es
    from estheory.training.probing import probes_before

    _go(common, run, out, lambda on_step: run_es(config, out, before_first_step=probes_before, on_step=on_step))


@dataclass(frozen=True, kw_only=True)
class GRPOOptions:
    """What a GRPO run takes beside `RunOptions`."""

    preset: Annotated[str | None, typer.Option(help="paper: the settings of arXiv:2604.01499; other options win.")] = (
        None
    )
    samples: Annotated[str | None, typer.Option(help="Completions of a prompt, K (default 8).")] = None
    lr: Annotated[str | None, typer.Option(help="AdamW's peak learning rate (default 3e-6).")] = None
    schedule: Annotated[str | None, typer.Option(help="constant | linear | cosine (default linear).")] = None


@app.command("grpo")
@options(RunOptions, GRPOOptions, CommonOptions)
def grpo(
    run: RunOptions,
    settings: GRPOOptions,
    common: CommonOptions,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
) -> None:
    """Fine-tune by GRPO through TRL: no KL term, AdamW, linear decay (the settings of arXiv:2604.01499)."""
    if resume is not None:
        from estheory.cli.run_settings import require_unchanged
        from estheory.training.grpo import resume_grpo

        require_unchanged(resume, run, settings, common)
        _go(common, run, resume, lambda on_step: resume_grpo(resume, on_step=on_step))
        return
    from estheory.cli.run_settings import grpo_config

    config = grpo_config(run, settings, common)
    if run.dry_run:
        _show(common, config)
        return
    out = _out(run)
    from estheory.training.grpo import run_grpo

    _go(common, run, out, lambda on_step: run_grpo(config, out, on_step=on_step))


@app.command("sequence")
@options(RunOptions, ESRunOptions, GRPOOptions, CommonOptions)
def sequence(
    run: RunOptions,
    es: ESRunOptions,
    grpo: GRPOOptions,
    common: CommonOptions,
    tasks: Annotated[str | None, typer.Option(help="Tasks in the order of training, comma list.")] = None,
    methods: Annotated[str | None, typer.Option(help="es | grpo, comma list (default es,grpo).")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, comma list (default 0).")] = None,
    grpo_steps: Annotated[str | None, typer.Option(help="Steps of a GRPO stage (default --steps).")] = None,
    grpo_prompts: Annotated[str | None, typer.Option(help="Prompts of a GRPO step (default 16).")] = None,
    keep: Annotated[str | None, typer.Option(help="Stage models to keep: all | last | none (default last).")] = None,
) -> None:
    """Train tasks one after another by ES and by GRPO from one base, evaluating all of them at every stage.

    The same command goes on with a sequence that was cut off.
    """
    from estheory.cli.run_settings import sequence_config

    config = sequence_config(run, es, grpo, common, tasks, methods, seeds, grpo_steps, grpo_prompts, keep)
    from estheory.cli.run_preview import preview_sequence

    shown, size = preview_sequence(config)
    if run.dry_run:
        emit(common, json_text(shown))
        _cite(common, *config.configs)
        return
    out = _out(run)
    narrate(common, f"up to {size / 1e9:.2g} GB of disk (keep {config.retention})")
    if run.tracker is not None:
        from estheory.training.trackers import require_tracker

        require_tracker(run.tracker)
    from estheory.cli.progress import watch_run
    from estheory.training.sequence import run_sequence

    summary = run_sequence(
        config, out, watch=lambda stage: watch_run(common, stage, run.tracker), say=lambda text: narrate(common, text)
    )
    if common.json:
        emit(common, json_text(summary))
    else:
        from estheory.reporting.sequence import sequence_text

        emit(common, sequence_text(summary))
    _cite(common, *config.configs)


def _out(run: RunOptions) -> Path:
    if run.out is None:
        raise ConfigError("--out is missing", "name the run directory to make, e.g. --out runs/addition")
    return run.out


def _show(common: CommonOptions, config: ESRunConfig | GRPORunConfig) -> None:
    from estheory.cli.run_preview import preview

    emit(common, preview(config, as_json=common.json))
    _cite(common, config)


def _cite(common: CommonOptions, *configs: ESRunConfig | GRPORunConfig) -> None:
    """Cite the methods that runs are made of."""
    if not common.cite:
        return
    from estheory.citations import METHODS
    from estheory.training.config import ESRunConfig

    parts: list[str] = []
    for config in configs:
        parts.append(config.method)
        if isinstance(config, ESRunConfig):
            anchored = config.anchor_l1 > 0 or config.anchor_l2 > 0
            parts += [config.shaping, config.noise.partition(":")[0], "anchor" if anchored else ""]
    cite(common, [source for part in parts for source in METHODS.get(part, ())])


def _go(
    common: CommonOptions,
    run: RunOptions,
    out: Path,
    train: Callable[[Callable[[Mapping[str, Any]], None]], RunResult],
) -> None:
    """Run with a progress bar on stderr and say how it ended."""
    from estheory.cli.progress import watch_run

    with watch_run(common, out, run.tracker) as on_step:
        result = train(on_step)
    if result.stalled_steps:
        narrate(common, f"{result.stalled_steps} steps did not move: all rewards were equal")
    document = {
        "schema": "estheory/run/1",
        "directory": str(result.directory),
        "steps": result.step,
        "displacement_norm": result.norm,
        "stalled_steps": result.stalled_steps,
    }
    if common.json:
        emit(common, json_text(document))
    else:
        stalled = f"; {result.stalled_steps} of them did not move (equal rewards)" if result.stalled_steps else ""
        emit(common, f"{result.directory}: {result.step} steps{stalled}; ||theta - theta_0|| = {result.norm:.6g}\n")
    if common.cite:
        from estheory.training.run_directory import RunDirectory

        _cite(common, RunDirectory.open(result.directory).config)


def _replay(common: CommonOptions, directory: Path, step: int | None, out: Path | None) -> None:
    from estheory.training.replay import write_replay

    if step is None or out is None:
        raise ConfigError("--replay needs --step and --out", "e.g. --replay DIR --step 50 --out FOLDER")
    write_replay(directory, step, out)
    emit(
        common,
        json_text({"schema": "estheory/replay/1", "step": step, "folder": str(out)}) if common.json else f"{out}\n",
    )
    if common.cite:
        from estheory.training.run_directory import RunDirectory

        _cite(common, RunDirectory.open(directory).config)
