"""``estheory run``: a real fine-tuning run of a causal language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from estheory.cli.emit import emit, json_text, narrate
from estheory.cli.es_options import whole
from estheory.cli.options import CommonOptions, choice, number, options
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.training.config import ESRunConfig, GRPORunConfig
    from estheory.training.session import RunResult

DEFAULT_MODEL = "tiny-lm"
SMALL_DIM = 10_000_000

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
    trainable: Annotated[str | None, typer.Option(help="all | last:K | regex:... (default all).")] = None
    device: Annotated[str | None, typer.Option(help="Torch device (default cpu).")] = None
    threads: Annotated[int | None, typer.Option(help="CPU threads (default 1).")] = None
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints (default: last only).")] = None
    evaluate: Annotated[str | None, typer.Option(help="Further tasks to evaluate, comma list.")] = None
    evaluation_prompts: Annotated[int | None, typer.Option(help="Held-out prompts (default 50; small models 400).")] = (
        None
    )
    out: Annotated[Path | None, typer.Option(help="Run directory to make.")] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the resolved configuration and run nothing.")] = False


@app.callback()
def run() -> None:
    """Fine-tune a language model by ES or GRPO and record everything that the theory needs."""


@app.command("es")
@options(RunOptions, CommonOptions)
def es(
    run: RunOptions,
    common: CommonOptions,
    sigma: Annotated[
        str | None,
        typer.Option(help="Perturbation scale (default 0.0015; small models 0.015)."),
    ] = None,
    alpha: Annotated[str | None, typer.Option(help="Step size, weight units (default sigma/2).")] = None,
    population: Annotated[str | None, typer.Option(help="Members evaluated per step (default 30).")] = None,
    reward: Annotated[str | None, typer.Option(help="accuracy | partial | logprob (default accuracy).")] = None,
    permute_rewards: Annotated[
        bool, typer.Option("--permute-rewards", help="Control: coefficients permuted between members.")
    ] = False,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Rebuild the weights of a recorded run; with --step.")] = None,
    step: Annotated[int | None, typer.Option(help="Which step --replay rebuilds.")] = None,
) -> None:
    """Fine-tune by Evolution Strategies: theta += (alpha/N) sum z_i eps_i, z-scored rewards, float32."""
    from estheory.training.config import ESRunConfig, Reward

    if resume is not None:
        from estheory.training.es import resume as continue_run
        from estheory.training.probing import probes_before

        _go(common, resume, lambda on_step: continue_run(resume, before_first_step=probes_before, on_step=on_step))
        return
    if replay is not None:
        _replay(common, replay, step, run.out)
        return
    given_sigma, given_alpha = number("sigma", sigma), number("alpha", alpha)
    default_sigma = 0.015 if _is_small(run.model or DEFAULT_MODEL) else 0.0015
    scale = default_sigma if given_sigma is None else given_sigma
    config = ESRunConfig(
        **_shared(run, common, prompts="64"),
        sigma=scale,
        alpha=scale / 2 if given_alpha is None else given_alpha,
        population=whole("population", number("population", population or "30") or 0),
        reward=choice("reward", reward, _choices(Reward), "accuracy"),  # type: ignore[arg-type]  # checked by choice
        permute_rewards=permute_rewards,
    )
    if run.dry_run:
        _show(common, config)
        return
    out = _out(run)
    from estheory.training.es import run_es
    from estheory.training.probing import probes_before

    _go(common, out, lambda on_step: run_es(config, out, before_first_step=probes_before, on_step=on_step))


@app.command("grpo")
@options(RunOptions, CommonOptions)
def grpo(
    run: RunOptions,
    common: CommonOptions,
    samples: Annotated[str | None, typer.Option(help="Completions of a prompt, K (default 8).")] = None,
    lr: Annotated[str | None, typer.Option(help="AdamW's peak learning rate (default 3e-6).")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant | linear | cosine (default linear).")] = None,
) -> None:
    """Fine-tune by GRPO through TRL: no KL term, AdamW, linear decay (the settings of arXiv:2604.01499)."""
    from estheory.training.config import GRPORunConfig, Schedule

    config = GRPORunConfig(
        **_shared(run, common, prompts="16"),
        samples=whole("samples", number("samples", samples or "8") or 0),
        lr=number("lr", lr or "3e-6") or 0.0,
        schedule=choice("schedule", schedule, _choices(Schedule), "linear"),  # type: ignore[arg-type]
    )
    if run.dry_run:
        _show(common, config)
        return
    out = _out(run)
    from estheory.training.grpo import run_grpo

    _go(common, out, lambda on_step: run_grpo(config, out, on_step=on_step))


def _is_small(model: str) -> bool:
    """Return whether a model has fewer than 10 million parameters, as far as its files tell without a download."""
    import math

    from estheory.models.builtin import builtin_models
    from estheory.models.shapes import tensor_shapes

    known = {row.name: row.parameters for row in builtin_models()}
    if model in known:
        return known[model] < SMALL_DIM
    return Path(model).is_dir() and sum(map(math.prod, tensor_shapes(model).values())) < SMALL_DIM


def _choices(literal: Any) -> tuple[str, ...]:
    from typing import get_args

    return get_args(literal)


def _shared(run: RunOptions, common: CommonOptions, prompts: str) -> dict[str, Any]:
    """Return the fields that ES and GRPO configurations share."""
    values = {
        "model": run.model or DEFAULT_MODEL,
        "task": run.task or "addition",
        "data": str(Path(run.data).resolve()) if run.data and not run.data.startswith("hf:") else run.data,
        "form": run.form,
        "steps": whole("steps", number("steps", run.steps or "100") or 0),
        "prompts": whole("prompts", number("prompts", run.prompts or prompts) or 0),
        "seed": common.seed,
        "trainable": run.trainable,
        "device": run.device,
        "threads": run.threads,
        "checkpoint_every": run.checkpoint_every,
        "evaluation_prompts": run.evaluation_prompts or (400 if _is_small(run.model or DEFAULT_MODEL) else 50),
        "evaluation_tasks": tuple(run.evaluate.split(",")) if run.evaluate else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _out(run: RunOptions) -> Path:
    if run.out is None:
        raise ConfigError("--out is missing", "name the run directory to make, e.g. --out runs/addition")
    return run.out


def _show(common: CommonOptions, config: ESRunConfig | GRPORunConfig) -> None:
    import dataclasses

    document = {"schema": "estheory/run-config/1", "method": config.method, **dataclasses.asdict(config)}
    emit(common, json_text(document) if common.json else config.to_toml())


def _go(common: CommonOptions, out: Path, train: Callable[[Callable[[Mapping[str, Any]], None]], RunResult]) -> None:
    """Run with a progress bar on stderr and say how it ended."""
    from estheory.cli.progress import step_progress

    with step_progress(common, out) as on_step:
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
        return
    stalled = f"; {result.stalled_steps} of them did not move (equal rewards)" if result.stalled_steps else ""
    emit(common, f"{result.directory}: {result.step} steps{stalled}; ||theta - theta_0|| = {result.norm:.6g}\n")


def _replay(common: CommonOptions, directory: Path, step: int | None, out: Path | None) -> None:
    from estheory.training.replay import write_replay

    if step is None or out is None:
        raise ConfigError("--replay needs --step and --out", "e.g. --replay DIR --step 50 --out FOLDER")
    write_replay(directory, step, out)
    emit(
        common,
        json_text({"schema": "estheory/replay/1", "step": step, "folder": str(out)}) if common.json else f"{out}\n",
    )
