"""``estheory plan``: which sigma, alpha, N and T meet a drift budget and a target at the fewest evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from estheory.cli.emit import emit, json_text
from estheory.cli.options import CommonOptions, ESOptions, choice, number, numbers, options
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.rules import ESConfig
    from estheory.theory.choices import Choices
    from estheory.theory.planning import Planner
    from estheory.theory.targets import Arm, Target

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_NO_PART = (
    *("noise", "anchor_l2", "anchor_l1", "anchor_form", "momentum", "dtype", "update_path", "restore_pairs"),
    *("weights", "success", "prompts", "grpo_lr", "grpo_steps", "grpo_schedule", "grpo_norm"),
)


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Budget, target and limits; number options are text so that a config file and flags read alike."""

    max_norm: Annotated[str | None, typer.Option(help="Budget: displacement norm, weight units.")] = None
    max_kl: Annotated[str | None, typer.Option(help="Budget: KL, nats per token; needs --fisher-trace.")] = None
    max_off_task_loss: Annotated[
        str | None, typer.Option(help="Budget: loss of another task's reward; needs --off-task-... .")
    ] = None
    confidence: Annotated[str | None, typer.Option(help="Share of seeds that keep each budget (default 0.95).")] = None
    target_progress: Annotated[str | None, typer.Option(help="Mean displacement along the gradient.")] = None
    target_gain: Annotated[str | None, typer.Option(help="Or mean gain of reward.")] = None
    curvature_trace: Annotated[str | None, typer.Option(help="tr Lam, for the cost of a gain.")] = None
    gradient_curvature: Annotated[str | None, typer.Option(help="g'Lam g / ||g||^2, the same.")] = None
    max_evaluations: Annotated[str | None, typer.Option(help="Largest N*T (default 1e7).")] = None


@app.command()
@options(ESOptions, PlanOptions, CommonOptions)
def plan(
    es: ESOptions,
    wanted: PlanOptions,
    common: CommonOptions,
    plot: Annotated[Path | None, typer.Option(help="Draw evaluations against drift to this file.")] = None,
) -> None:
    """Plan the cheapest run: which sigma, alpha, population and steps meet a drift budget and a target.

    Comma lists of --sigma, --alpha, --population and --steps restrict the search. Exit code 4 if nothing meets both.
    """
    from estheory.reporting.plan import plan_json, plan_text, plot_plan

    planner, config = _planner(es, wanted)
    answer = planner.plan()
    warnings = planner.warnings(answer.recommendation, es.sigma is None) if answer.recommendation else ()
    if plot is not None and answer.front:
        plot_plan(answer, planner, plot)
    if common.json:
        emit(common, json_text(plan_json(answer, planner, config, warnings)))
    else:
        emit(common, plan_text(answer, planner, warnings))
    raise typer.Exit(0 if answer.recommendation else 4)


def _planner(es: ESOptions, wanted: PlanOptions) -> tuple[Planner, dict[str, Any]]:
    from estheory.theory.budgets import DriftBudget
    from estheory.theory.planning import Planner

    for name in _NO_PART:
        if getattr(es, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} has no part in a plan", "leave it out; predict takes it")
    base = _base(es)
    confidence = _one("confidence", wanted.confidence)
    budget = DriftBudget(
        max_norm=_one("max-norm", wanted.max_norm),
        max_kl=_one("max-kl", wanted.max_kl),
        max_off_task_loss=_one("max-off-task-loss", wanted.max_off_task_loss),
        fisher_trace=_one("fisher-trace", es.fisher_trace),
        fisher_square_trace=_one("fisher-square-trace", es.fisher_square_trace),
        off_task_trace=_one("off-task-trace", es.off_task_trace),
        off_task_gradient_norm=_one("off-task-gradient-norm", es.off_task_gradient_norm),
        confidence=0.95 if confidence is None else confidence,
    )
    choices = _choices(es, wanted)
    target, arms = _target(es, wanted, base, choices)
    given = {"sigma": choices.sigmas, "alpha": choices.alphas, "population": choices.populations}
    given |= {"steps": choices.steps}
    config: dict[str, Any] = {"dim": base.dim, "model": es.model, "shaping": base.shaping}
    config |= {"antithetic": base.antithetic or None, "max_evaluations": choices.max_evaluations}
    config |= {name: list(values) or None for name, values in given.items()}
    config |= {name: _one(name, getattr(es, name)) for name in ("reliability", "gradient_norm", "reward_std")}
    shown = {name: value for name, value in config.items() if value is not None}
    return Planner(arms=arms, choices=choices, budget=budget, target=target), shown


def _one(name: str, text: str | None) -> float | None:
    value = number(name, text)
    if value is not None and not math.isfinite(value):
        raise ConfigError(f"--{name} must be a finite number, got {value}", "correct it")
    return value


def _base(es: ESOptions) -> ESConfig:
    """Return dim and shaping; the other fields stand for whatever the search puts there."""
    from estheory.cli.es_options import cases

    shaping = choice("shaping", es.shaping, ("zscore", "centered-rank", "raw", "two-point"), "zscore")
    if shaping in ("raw", "two-point"):
        raise ConfigError(f"{shaping} shaping has no part in a plan: its alpha is no length", "use zscore")
    asked = ESOptions(dim=es.dim, model=es.model, trainable=es.trainable, shaping=es.shaping, antithetic=es.antithetic)
    rows, varied = cases(replace(asked, sigma="1", population="4"))
    if varied:
        raise ConfigError("--dim takes one number in a plan", "give one")
    return rows[0].config


def _choices(es: ESOptions, wanted: PlanOptions) -> Choices:
    from estheory.cli.es_options import whole
    from estheory.theory.choices import DEFAULT_MAX_EVALUATIONS, Choices, default_sigmas

    cap = _one("max-evaluations", wanted.max_evaluations)
    sigmas = tuple(numbers("sigma", es.sigma)) or default_sigmas(_one("weight-std", es.weight_std))
    return Choices(
        sigmas=sigmas,
        alphas=tuple(numbers("alpha", es.alpha)),
        populations=tuple(whole("population", n) for n in numbers("population", es.population)),
        steps=tuple(whole("steps", t) for t in numbers("steps", es.steps)),
        max_evaluations=DEFAULT_MAX_EVALUATIONS if cap is None else whole("max-evaluations", cap),
    )


def _target(es: ESOptions, wanted: PlanOptions, base: ESConfig, choices: Choices) -> tuple[Target, tuple[Arm, ...]]:
    """Return the target, and the arms with the linear signal that it is attained by."""
    from estheory.landscape import linear_signal
    from estheory.theory.choices import arms
    from estheory.theory.targets import LocalTarget

    progress, gain = _one("target-progress", wanted.target_progress), _one("target-gain", wanted.target_gain)
    if (progress is None) == (gain is None):
        what = "no target" if gain is None else "--target-progress and --target-gain exclude each other"
        raise ConfigError(what, "give --target-progress or --target-gain")
    known = {name: _one(name.replace("_", "-"), getattr(es, name)) for name in ("gradient_norm", "reward_std")}
    reliability = _one("reliability", es.reliability)
    trace, along = (
        _one("curvature-trace", wanted.curvature_trace),
        _one("gradient-curvature", wanted.gradient_curvature),
    )
    if es.spectrum is not None:
        if gain is None or trace is not None or along is not None or reliability is not None or known["gradient_norm"]:
            raise ConfigError(
                "--spectrum goes with --target-gain and --reward-std alone", "the spectrum fixes gradient and curvature"
            )
        return _spectrum_target(es.spectrum, gain, known["reward_std"], base, choices)
    if reliability is not None and len(choices.sigmas) > 1:
        raise ConfigError("--reliability holds at one sigma", "give one --sigma, or --gradient-norm and --reward-std")
    if reliability is None and None in known.values():
        raise ConfigError(
            "the signal is unknown", "give --gradient-norm and --reward-std, or --reliability with one --sigma"
        )
    signals = {s: linear_signal(sigma=s, reliability=reliability, **known) for s in choices.sigmas}
    slope = signals[choices.sigmas[0]].gradient_norm
    if gain is not None and slope is None:
        raise ConfigError("--target-gain needs the gradient norm", "give --gradient-norm")
    target = LocalTarget(
        name="target-progress" if gain is None else "target-gain",
        value=cast(float, progress if gain is None else gain),
        gradient_norm=1.0 if gain is None else cast(float, slope),
        trace=trace or 0.0,
        gradient_curvature=along or 0.0,
    )
    return target, arms(base, choices, signals)


def _spectrum_target(
    path: Path, gain: float, reward_std: float | None, base: ESConfig, choices: Choices
) -> tuple[Target, tuple[Arm, ...]]:
    from estheory.theory.choices import DEFAULT_POPULATIONS, arms
    from estheory.theory.landscapes import read_landscape
    from estheory.theory.spectrum_target import SpectrumTarget

    landscape = read_landscape(path, dim=base.dim, reward_std=reward_std)
    signals = {sigma: landscape.signal(sigma) for sigma in choices.sigmas}
    if not landscape.gradient_norm:
        raise ConfigError(f"{path} starts at its optimum", "give an offset above 0 to a curved row")
    coarse = replace(choices, populations=choices.populations or DEFAULT_POPULATIONS[::2])  # a trajectory each
    return SpectrumTarget(value=gain, landscape=landscape), arms(base, coarse, signals)
