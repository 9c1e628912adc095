"""``estheory run``: a real fine-tuning run of a causal language model."""

# no postponed annotations: see options.py

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import typer

from estheory.cli.emit import cite, emit, interruptible, json_text, narrate, show
from estheory.cli.options import Command, CommonOptions, TableOptions, given_in, options, program
from estheory.cli.run_options import ES, GRPO, SEQUENCE_SHARED, SHARED, OutOptions, PresetOptions
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.runs.config import ESRunConfig, GRPORunConfig
    from estheory.training.session import RunResult

app = program()


@app.callback()
def run() -> None:
    """Fine-tune a language model by ES or GRPO and record everything that the theory needs."""


@app.command("es", cls=Command, epilog="estheory run es --task addition --steps 20 --population 16 --out runs/es")
@options(OutOptions, SHARED, ES, CommonOptions)
def es(
    where: OutOptions,
    shared: Mapping[str, Any],
    rules: Mapping[str, Any],
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
    given = _given(shared, rules, common=common)
    if resume is not None:
        from estheory.cli.run_settings import require_unchanged
        from estheory.training.es import resume as continue_run
        from estheory.training.run_probes import probes_before

        _require_resumable(where)
        free = require_unchanged(resume, given)
        _go(
            common,
            where,
            resume,
            "es",
            lambda on_step: continue_run(resume, before_first_step=probes_before, on_step=on_step, **free),
        )
        return
    if replay is not None:
        _replay(common, replay, step, where.out)
        return
    from estheory.cli.run_settings import es_config

    config = es_config(given)
    if where.dry_run:
        _show(common, config)
        return
    out = _out(where)
    from estheory.training.es import run_es
    from estheory.training.run_probes import probes_before

    _go(common, where, out, "es", lambda on_step: run_es(config, out, before_first_step=probes_before, on_step=on_step))


@app.command("grpo", cls=Command, epilog="estheory run grpo --task addition --steps 20 --lr 1e-4 --out runs/grpo")
@options(OutOptions, SHARED, GRPO, PresetOptions, CommonOptions)
def grpo(
    where: OutOptions,
    shared: Mapping[str, Any],
    settings: Mapping[str, Any],
    published: PresetOptions,
    common: CommonOptions,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
) -> None:
    """Fine-tune by GRPO through TRL: no KL term, AdamW, linear decay (the settings of arXiv:2604.01499)."""
    given = _given(shared, settings, common=common)
    if resume is not None:
        from estheory.cli.run_settings import GRPO_PRESETS, require_unchanged
        from estheory.training.grpo import resume_grpo

        _require_resumable(where)
        require_unchanged(resume, (GRPO_PRESETS[published.preset] if published.preset else {}) | given)
        from estheory.training.gradient_probe import gradient_probe

        _go(
            common,
            where,
            resume,
            "grpo",
            lambda on_step: resume_grpo(resume, before_first_step=gradient_probe, on_step=on_step),
        )
        return
    from estheory.cli.run_settings import grpo_config

    config = grpo_config(given, published.preset)
    if where.dry_run:
        _show(common, config)
        return
    out = _out(where)
    from estheory.training.gradient_probe import gradient_probe
    from estheory.training.grpo import run_grpo

    _go(
        common,
        where,
        out,
        "grpo",
        lambda on_step: run_grpo(config, out, before_first_step=gradient_probe, on_step=on_step),
    )


@app.command(
    "sequence", cls=Command, epilog="estheory run sequence --tasks addition,reversal --steps 10 --out runs/sequence"
)
@options(OutOptions, SEQUENCE_SHARED, ES, GRPO, PresetOptions, TableOptions)
def sequence(
    where: OutOptions,
    shared: Mapping[str, Any],
    rules: Mapping[str, Any],
    settings: Mapping[str, Any],
    published: PresetOptions,
    common: TableOptions,
    tasks: Annotated[tuple[str, ...], typer.Option(help="Tasks in the order of training, comma list.")] = (),
    methods: Annotated[tuple[str, ...], typer.Option(help="es, grpo or both (default es,grpo).")] = (),
    seeds: Annotated[tuple[int, ...], typer.Option(help="Seeds, comma list (default 0).")] = (),
    grpo_steps: Annotated[int | None, typer.Option(help="Steps of a GRPO stage (default --steps).")] = None,
    grpo_prompts: Annotated[int | None, typer.Option(help="Prompts per GRPO step (default 16).")] = None,
    keep: Annotated[Literal["all", "last", "none"], typer.Option(help="Stage models to keep")] = "last",
) -> None:
    """Train tasks one after another by ES and by GRPO from one base, evaluating all of them at every stage.

    The same command goes on with a sequence that was cut off.
    """
    from estheory.cli.run_settings import sequence_config

    if common.seed is not None and seeds:
        raise ConfigError("--seed and --seeds exclude each other", "give --seeds")
    stage = {"steps": grpo_steps, "prompts": grpo_prompts}
    of_es = {name: value for name, value in shared.items() if name == "prompts"}
    config = sequence_config(
        {name: value for name, value in shared.items() if name != "prompts"},
        of_es | dict(rules),
        dict(settings) | {name: value for name, value in stage.items() if value is not None},
        preset=published.preset,
        tasks=tasks or (),
        methods=methods or ("es", "grpo"),
        seeds=seeds or (common.seed or 0,),
        retention=keep,
    )
    from estheory.cli.run_preview import preview_sequence, sequence_seconds

    shown, size = preview_sequence(config)
    if where.dry_run:
        emit(common, json_text({**shown, "seconds": sequence_seconds(config)}))
        _cite(common, *config.configs)
        return
    out = _out(where)
    narrate(common, f"up to {size / 1e9:.2g} GB of disk (keep {config.retention})")
    if where.tracker is not None:
        from estheory.training.trackers import require_tracker

        require_tracker(where.tracker)
    from estheory.cli.progress import watch_run
    from estheory.training.sequence import run_sequence

    with interruptible(lambda: "the same command goes on with the sequence"):
        summary = run_sequence(
            config,
            out,
            watch=lambda stage: watch_run(common, stage, where.tracker),
            say=lambda text: narrate(common, text),
        )
    from estheory.reporting.text.sequence import sequence_sheet

    show(common, lambda: summary, lambda: sequence_sheet(summary))
    _cite(common, *config.configs)


def _given(*groups: Mapping[str, Any], common: CommonOptions) -> dict[str, Any]:
    """Return the fields of a run's configuration that were given."""
    return given_in(*groups) | ({} if common.seed is None else {"seed": common.seed})


def _require_resumable(where: OutOptions) -> None:
    """Refuse what has no effect beside ``--resume``."""
    for name, given in (("out", where.out is not None), ("dry-run", where.dry_run)):
        if given:
            raise ConfigError(f"--{name} has no effect with --resume", "leave it out")


def _out(where: OutOptions) -> Path:
    if where.out is None:
        raise ConfigError("--out is missing", "name the run directory to make, e.g. --out runs/addition")
    return where.out


def _show(common: CommonOptions, config: Union["ESRunConfig", "GRPORunConfig"]) -> None:
    from estheory.cli.run_preview import preview

    emit(common, preview(config, as_json=common.json))
    _cite(common, config)


def _cite(common: CommonOptions, *configs: Union["ESRunConfig", "GRPORunConfig"]) -> None:
    """Cite the methods that runs are made of."""
    if not common.cite:
        return
    from estheory.citations import METHODS
    from estheory.runs.config import ESRunConfig

    parts: list[str] = []
    for config in configs:
        parts.append(config.method)
        if isinstance(config, ESRunConfig):
            anchored = config.anchor_l1 > 0 or config.anchor_l2 > 0
            parts += [config.shaping, config.noise.partition(":")[0], "anchor" if anchored else ""]
    cite(common, [source for part in parts for source in METHODS.get(part, ())])


def _go(
    common: CommonOptions,
    where: OutOptions,
    out: Path,
    method: str,
    train: Callable[[Callable[[Mapping[str, Any]], None]], "RunResult"],
) -> None:
    """Run with a progress bar on stderr and say how it ended."""
    from estheory.cli.progress import watch_run

    def go_on() -> str:
        if (out / "config.toml").is_file():
            return f"estheory run {method} --resume {out} goes on from the last complete step"
        return "the run had not begun; the same command starts over"

    with interruptible(go_on), watch_run(common, out, where.tracker) as on_step:
        result = train(on_step)
    if result.stalled_steps:
        narrate(common, f"{result.stalled_steps} steps did not move: all rewards were equal")
    if result.because:
        narrate(common, f"stopped after step {result.step}: {result.because}; a lower --stop-net goes on with --resume")
    document = {
        "schema": "estheory/run/1",
        "directory": str(result.directory),
        "steps": result.step,
        "displacement_norm": result.norm,
        "stalled_steps": result.stalled_steps,
        "stopped": result.because or None,
    }
    if common.json:
        emit(common, json_text(document))
    else:
        stalled = f"; {result.stalled_steps} of them did not move (equal rewards)" if result.stalled_steps else ""
        emit(common, f"{result.directory}: {result.step} steps{stalled}; ||theta - theta_0|| = {result.norm:.6g}\n")
    if common.cite:
        from estheory.runs.directory import RunDirectory

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
        from estheory.runs.directory import RunDirectory

        _cite(common, RunDirectory.open(directory).config)
