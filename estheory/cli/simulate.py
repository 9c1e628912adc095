"""``estheory simulate``: Monte Carlo on a quadratic landscape, judged against the closed forms."""

# no postponed annotations: see options.py

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from estheory.cli.emit import cite, show
from estheory.cli.es_options import RULES, cases
from estheory.cli.options import ROUNDING, Command, TableOptions, options, program
from estheory.cli.progress import counted
from estheory.cli.simulate_geometry import GeometryOptions, measured_geometry
from estheory.cli.values import level as probability
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.landscape import Landscape
    from estheory.rules import ESConfig
    from estheory.theory.rounding.precision import RoundingEffect

app = program()


@dataclass(frozen=True, kw_only=True)
class LandscapeOptions:
    """What is optimised."""

    panel: ClassVar[str] = "Landscape"

    landscape: Annotated[
        Path | None, typer.Option(help="CSV file of spectrum rows, or TOML file of rows and options.")
    ] = None
    preset: Annotated[
        Literal["paper", "two-scale", "power-law"] | None,
        typer.Option(help="Or a built-in one; ES options win over it"),
    ] = None
    dim: Annotated[int | None, typer.Option(help="Number of trainable parameters.")] = None
    reward_std: Annotated[float | None, typer.Option(help="s: noise of one member's reward.")] = None


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """Rewards made of the quadratic one."""

    panel: ClassVar[str] = "Other rewards"

    reward: Annotated[
        Literal["quadratic", "sigmoid", "bernoulli", "heavy-tail", "cubic"] | None,
        typer.Option(help="Kind of reward (default quadratic)"),
    ] = None
    start_accuracy: Annotated[
        float | None, typer.Option(help="sigmoid, bernoulli: accuracy at the start (default 0.5).")
    ] = None
    best_accuracy: Annotated[
        float | None, typer.Option(help="sigmoid, bernoulli: accuracy at the optimum (default 0.95).")
    ] = None
    prompts: Annotated[int | None, typer.Option(help="bernoulli: prompts that a member's reward averages over.")] = None
    noise_df: Annotated[float | None, typer.Option(help="heavy-tail: Student's degrees of freedom (default 3).")] = None
    cubic: Annotated[
        float | None, typer.Option(help="cubic: the cubic term over R - R* at the start (default 0.5).")
    ] = None


@dataclass(frozen=True, kw_only=True)
class SpreadOptions:
    """The weights that rounding acts on."""

    panel: ClassVar[str] = ROUNDING

    weight_std: Annotated[float | None, typer.Option(help="Standard deviation of the weights, taken as normal.")] = None


@app.command(cls=Command, epilog="estheory simulate --preset two-scale --steps 20 --replicas 50")
@options(LandscapeOptions, RULES, RewardOptions, GeometryOptions, SpreadOptions, TableOptions)
def simulate(
    place: LandscapeOptions,
    rules: Mapping[str, Any],
    rewards: RewardOptions,
    compare: GeometryOptions,
    spread: SpreadOptions,
    common: TableOptions,
    replicas: Annotated[int, typer.Option(help="Number of independent runs.")] = 200,
    engine: Annotated[
        Literal["auto", "direct", "reduced"], typer.Option(help="direct takes every coordinate, reduced any dim")
    ] = "auto",
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Run the direct engine on torch in place of numpy")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw trajectory and norms against theory to this file.")] = None,
    level: Annotated[float, typer.Option(help="Family-wise level (Holm).", parser=probability)] = 1e-3,
    every: Annotated[bool, typer.Option("--all", help="Show every verdict, however many there are.")] = False,
) -> None:
    """Run ES on a quadratic landscape, or another reward made of one, many times and judge the theory by it.

    Exit code 3 if any prediction is refuted, 4 if none is consistent.
    """
    from estheory.quantities import Quantity
    from estheory.reporting.text.geometry import geometry_json, geometry_sheet
    from estheory.reporting.text.simulation import SimulationReport, simulation_json, simulation_sheet
    from estheory.reporting.text.tables import Sheet
    from estheory.simulation.engine import Engine, chosen_engine
    from estheory.simulation.engine import simulate as run
    from estheory.simulation.named_rewards import named_reward
    from estheory.simulation.observed import observe, observed_pairs
    from estheory.validation.judge import exit_code, judge, without_band

    compare.require_used()
    config, where, steps = _problem(place, rules)
    wanted: Engine = engine
    kind = rewards.reward or "quadratic"
    given = {name: value for name, value in vars(rewards).items() if name != "reward" and value is not None}
    if kind == "bernoulli" and place.reward_std is not None:
        raise ConfigError("--reward-std has no use with --reward bernoulli", "its noise is that of --prompts outcomes")
    form = named_reward(kind, where, **given)
    if device is not None:
        wanted = "direct" if wanted == "auto" else wanted
    weight_std, geometry = spread.weight_std, compare.geometry
    rounding = _rounding(config, weight_std, steps, common.seed or 0)
    if geometry and rounding is not None:
        raise ConfigError(f"--geometry compares runs in float32, not in {config.dtype}", "leave out --dtype")
    if form is not None and (device is not None or geometry):
        raise ConfigError("--device and --geometry are for the quadratic reward", f"leave out --reward {kind}")
    seed = common.seed or 0
    start = time.perf_counter()
    with counted(common, "simulating", replicas * config.steps) as progress:
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

        with counted(common, "simulating", replicas * config.steps) as progress:
            compared = measured_geometry(compare, config, where, replicas=replicas, seed=seed, progress=progress)
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
        from estheory.reporting.pictures.geometry import geometry_picture

        geometry_picture(compared).save(plot)
    elif plot is not None:
        norms = [o for o in observed if o.prediction.quantity is Quantity.DISPLACEMENT_NORM and (o.spread or rounding)]
        from estheory.reporting.pictures.simulation import simulation_picture

        simulation_picture(
            report,
            curve=records.curve,
            rewards=[o.prediction for o in observed if o.prediction.quantity is Quantity.REWARD],
            norms=[(o.prediction, o.samples) for o in norms],
        ).save(plot)
    gradient = {} if compared is None else {"geometry": geometry_json(compared)}
    show(
        common,
        lambda: simulation_json(report) | gradient,
        lambda: simulation_sheet(report, every=every) + (Sheet() if compared is None else geometry_sheet(compared)),
        report.warnings,
    )
    cite(common, [used for v in verdicts for used in (v.prediction, v.measurement)])
    raise typer.Exit(exit_code(verdicts))


def _rounding(
    config: "ESConfig", weight_std: float | None, steps: tuple[int, ...], seed: int
) -> dict[int, "RoundingEffect"] | None:
    """Return what the emulator says of a 16-bit run, in the simulation's own arithmetic; None in float32."""
    if config.dtype == "float32" or weight_std is None:
        return None
    from estheory.simulation.emulator.emulate import emulate
    from estheory.simulation.emulator.strata import SampledWeights
    from estheory.theory.rounding.weights import normal_weights

    weights = SampledWeights.of(normal_weights(weight_std))
    emulation = emulate(config, weights, sorted({1, *steps}), seed=seed, arithmetic="fused")
    return {step: emulation.effect(step) for step in emulation.steps}


def _problem(place: LandscapeOptions, rules: Mapping[str, Any]) -> tuple["ESConfig", "Landscape", tuple[int, ...]]:
    """Return what is to be simulated: configuration, landscape and the steps to record."""
    from estheory.simulation.presets import preset as get_preset
    from estheory.theory.curved.spectra import read_landscape

    if (place.landscape is None) == (place.preset is None):
        raise ConfigError("simulate needs one of --landscape and --preset", "e.g. --preset two-scale")
    filled: dict[str, Any] = {}
    if place.landscape is not None:
        landscape = read_landscape(place.landscape, dim=place.dim, reward_std=place.reward_std)
    else:
        assert place.preset is not None  # one of the two is given
        config, landscape, steps = get_preset(place.preset)
        landscape = replace(
            landscape,
            dim=landscape.dim if place.dim is None else place.dim,
            reward_std=landscape.reward_std if place.reward_std is None else place.reward_std,
        )
        filled = {"sigma": (config.sigma,), "population": (config.population,), "steps": steps}
        if "sigma" not in rules:
            filled["alpha"] = (config.step_size,)
    rows, varied = cases({"dim": (landscape.dim,)}, filled | dict(rules))
    if varied:
        raise ConfigError(f"--{varied[0].replace('_', '-')} has several values", "simulate one configuration at a time")
    return rows[0].config, landscape, rows[0].checkpoints
