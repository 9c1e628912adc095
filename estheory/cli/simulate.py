"""``estheory simulate``: Monte Carlo on a quadratic landscape, judged against the closed forms."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from estheory.cli.emit import cite, emit, json_text
from estheory.cli.es_options import whole
from estheory.cli.options import CommonOptions, ESOptions, checked_level, choice, number, options
from estheory.cli.simulate_geometry import USED, measured_geometry
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.landscape import Landscape
    from estheory.rules import ESConfig
    from estheory.theory.rounding.precision import RoundingEffect

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_UNUSED = (
    *("model", "trainable", "weights", "reliability", "gradient_norm"),
    *(
        "success",
        "prompts",
        "spectrum",
        "fisher_trace",
        "fisher_square_trace",
        "off_task_trace",
        "off_task_gradient_norm",
    ),
    *("grpo_lr", "grpo_steps", "grpo_schedule", "grpo_norm"),
)
"""ES options that a simulation has no use for."""


@app.command()
@options(ESOptions, CommonOptions)
def simulate(
    es: ESOptions,
    common: CommonOptions,
    landscape: Annotated[Path | None, typer.Option(help="CSV or TOML: spectrum rows (TOML: and options).")] = None,
    preset: Annotated[str | None, typer.Option(help="paper | two-scale | power-law; ES options win over it.")] = None,
    replicas: Annotated[int | None, typer.Option(help="Number of independent runs (default 200).")] = None,
    engine: Annotated[str | None, typer.Option(help="auto | direct (every coordinate) | reduced (any dim).")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu | cuda: the direct engine on torch, in place of numpy.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw trajectory and norms against theory to this file.")] = None,
    level: Annotated[float | None, typer.Option(help="Family-wise level, Holm (default 0.001).")] = None,
    reward: Annotated[
        str | None, typer.Option(help="quadratic (default) | sigmoid | bernoulli | heavy-tail | cubic.")
    ] = None,
    start_accuracy: Annotated[float | None, typer.Option(help="sigmoid, bernoulli: at the start (0.5).")] = None,
    best_accuracy: Annotated[float | None, typer.Option(help="sigmoid, bernoulli: at the optimum (0.95).")] = None,
    noise_df: Annotated[float | None, typer.Option(help="heavy-tail: Student's degrees of freedom (3).")] = None,
    cubic: Annotated[float | None, typer.Option(help="cubic: the term over R - R* at the start (0.5).")] = None,
    geometry: Annotated[
        bool, typer.Option("--geometry", help="Compare with SGD, AdamW and a GRPO-like run; --plot draws this.")
    ] = False,
) -> None:
    """Run ES on a quadratic landscape, or another reward made of one, many times and judge the theory by it.

    Exit code 3 if any prediction is refuted, 4 if none is consistent.
    """
    from estheory.quantities import Quantity
    from estheory.reporting.text.geometry import geometry_json, geometry_text, plot_geometry
    from estheory.reporting.text.simulation import SimulationReport, plot_simulation, simulation_json, simulation_text
    from estheory.simulation.engine import Engine, chosen_engine
    from estheory.simulation.engine import simulate as run
    from estheory.simulation.named_rewards import REWARDS, named_reward
    from estheory.simulation.observed import observe, observed_pairs
    from estheory.validation.judge import exit_code, judge, without_band

    replicas, level = 200 if replicas is None else replicas, 1e-3 if level is None else level
    checked_level(level)
    unused: dict[str, Any] = dict.fromkeys((*USED, "prompts") if geometry else ("prompts",))
    config, where, steps = _problem(replace(es, **unused), landscape, preset)
    wanted = cast(Engine, choice("engine", engine, ("auto", "direct", "reduced"), "auto"))
    kind = choice("reward", reward, tuple(REWARDS), "quadratic")
    given = {
        "start_accuracy": start_accuracy,
        "best_accuracy": best_accuracy,
        "prompts": None if es.prompts is None else whole("prompts", number("prompts", es.prompts) or 0),
        "noise_df": noise_df,
        "cubic": cubic,
    }
    if kind == "bernoulli" and es.reward_std is not None:
        raise ConfigError("--reward-std has no use with --reward bernoulli", "its noise is that of --prompts outcomes")
    form = named_reward(kind, where, **{name: value for name, value in given.items() if value is not None})
    if device is not None:
        choice("device", device, ("cpu", "cuda"), "")
        wanted = "direct" if wanted == "auto" else wanted
    weight_std = number("weight-std", es.weight_std)
    rounding = _rounding(config, weight_std, steps, common.seed or 0)
    if geometry and rounding is not None:
        raise ConfigError(f"--geometry compares runs in float32, not in {config.dtype}", "leave out --dtype")
    if form is not None and (device is not None or geometry):
        raise ConfigError("--device and --geometry are for the quadratic reward", f"leave out --reward {kind}")
    seed = common.seed or 0
    start = time.perf_counter()
    with _progress(common, replicas * config.steps) as progress:
        records = run(
            config,
            where,
            replicas=replicas,
            steps=steps,
            seed=seed,
            engine=wanted,
            progress=progress,
            reward=form,
            device=device,
            weight_std=weight_std,
        )
    seconds = time.perf_counter() - start
    told = where if form is None else form.told
    observed, warnings = observe(config, told, records, steps, rounding)
    compared = None
    joined = observed_pairs(observed, level)
    if geometry:
        from estheory.simulation.geometry_observed import geometry_pairs

        with _progress(common, replicas * config.steps) as progress:
            compared = measured_geometry(es, config, where, replicas=replicas, seed=seed, progress=progress)
        more, unjudged = geometry_pairs(compared, level)
        joined, warnings = joined + more, warnings + unjudged
    verdicts = judge(joined, level)
    report = SimulationReport(
        config=config,
        landscape=told,
        reward=kind,
        engine=chosen_engine(config, where, wanted),
        device=device,
        replicas=replicas,
        seed=seed,
        seconds=seconds,
        verdicts=verdicts,
        plain=without_band(verdicts, level),
        level=level,
        warnings=warnings if form is None else (*form.warnings, *warnings),
    )
    if compared is not None and plot is not None:
        plot_geometry(compared, plot)
    elif plot is not None:
        norms = [o for o in observed if o.prediction.quantity is Quantity.DISPLACEMENT_NORM and (o.spread or rounding)]
        plot_simulation(
            report,
            plot,
            curve=records.curve,
            rewards=[o.prediction for o in observed if o.prediction.quantity is Quantity.REWARD],
            norms=[(o.prediction, o.samples) for o in norms],
        )
    if common.json:
        document = simulation_json(report)
        emit(common, json_text(document if compared is None else {**document, "geometry": geometry_json(compared)}))
    else:
        text = simulation_text(report)
        emit(common, text if compared is None else f"{text}\n{geometry_text(compared)}")
    cite(common, [used for v in verdicts for used in (v.prediction, v.measurement)])
    raise typer.Exit(exit_code(verdicts))


def _rounding(
    config: ESConfig, weight_std: float | None, steps: tuple[int, ...], seed: int
) -> dict[int, RoundingEffect] | None:
    """Return what the emulator says of a 16-bit run, in the simulation's own arithmetic; None in float32."""
    if config.dtype == "float32" or weight_std is None:
        return None
    from estheory.simulation.emulator.emulate import emulate
    from estheory.simulation.emulator.strata import SampledWeights
    from estheory.theory.rounding.weights import normal_weights

    weights = SampledWeights.of(normal_weights(weight_std))
    emulation = emulate(config, weights, sorted({1, *steps}), seed=seed, arithmetic="fused")
    return {step: emulation.effect(step) for step in emulation.steps}


def _problem(es: ESOptions, path: Path | None, name: str | None) -> tuple[ESConfig, Landscape, tuple[int, ...]]:
    """Return what is to be simulated: configuration, landscape and the steps to record."""
    from estheory.cli.es_options import cases
    from estheory.simulation.presets import PRESETS
    from estheory.simulation.presets import preset as get_preset
    from estheory.theory.curved.spectra import read_landscape

    for option in _UNUSED:
        if getattr(es, option) is not None:
            raise ConfigError(
                f"--{option.replace('_', '-')} has no use in a simulation", "the landscape determines the rewards"
            )
    if (path is None) == (name is None):
        raise ConfigError("simulate needs one of --landscape and --preset", "e.g. --preset two-scale")
    reward_std = number("reward-std", es.reward_std)
    given: dict[str, Any] = {}
    if path is not None:
        dim = number("dim", es.dim)
        landscape = read_landscape(path, dim=dim, reward_std=reward_std)
    else:
        config, landscape, steps = get_preset(choice("preset", name, PRESETS, ""))
        landscape = replace(
            landscape,
            dim=cast(int, number("dim", es.dim) or landscape.dim),
            reward_std=landscape.reward_std if reward_std is None else reward_std,
        )
        given = {"sigma": config.sigma, "population": config.population}
        given |= {"steps": ",".join(map(str, steps))}
        if es.sigma is None:
            given["alpha"] = config.step_size
    filled: dict[str, Any] = {key: str(value) for key, value in given.items() if getattr(es, key) is None}
    rows, varied = cases(replace(es, **filled, dim=str(landscape.dim), reward_std=None))
    if varied:
        raise ConfigError(f"--{varied[0].replace('_', '-')} has several values", "simulate one configuration at a time")
    return rows[0].config, landscape, rows[0].checkpoints


@contextmanager
def _progress(common: CommonOptions, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts replica-steps on a bar on stderr, when it is a terminal."""
    if common.quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("simulating", total=total)
        yield lambda done: bar.update(task, advance=done)
