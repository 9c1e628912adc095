"""``estheory plan``: which sigma, alpha, N and T meet a drift budget and a target at the fewest evaluations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from estheory.cli.emit import cite, emit, json_text
from estheory.cli.options import CommonOptions, ESOptions, number, numbers, options
from estheory.errors import ConfigError

if TYPE_CHECKING:
    from estheory.rules import ESConfig
    from estheory.theory.planning.choices import Choices
    from estheory.theory.planning.search import Plan

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_NO_PART = (
    *("noise", "anchor_l2", "anchor_l1", "anchor_form", "momentum", "dtype", "update_path", "restore_pairs"),
    *("weights", "success", "prompts", "grpo_lr", "grpo_steps", "grpo_schedule", "grpo_norm"),
)
_SIGNAL = ("reliability", "gradient_norm", "reward_std")


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
    from estheory.reporting.text.plan import plan_json, plan_text, plot_plan

    answer, config = _answer(es, wanted)
    best = answer.recommendation
    warnings = answer.planner.warnings(best, es.sigma is None) if best else ()
    if plot is not None and answer.front:
        plot_plan(answer, plot)
    if common.json:
        emit(common, json_text(plan_json(answer, config, warnings)))
    else:
        emit(common, plan_text(answer, warnings))
    shown = [best, *(found for _, found in answer.front)]
    cite(common, [p for found in shown if found for p in found.predictions])
    raise typer.Exit(0 if answer.recommendation else 4)


def _answer(es: ESOptions, wanted: PlanOptions) -> tuple[Plan, dict[str, Any]]:
    """Return the plan, and the options behind it as JSON shows them."""
    from estheory.theory.curved.spectra import read_landscape
    from estheory.theory.planning.budgets import DriftBudget
    from estheory.theory.planning.plan import plan

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
        off_task_square_trace=_one("off-task-square-trace", es.off_task_square_trace),
        off_task_gradient_norm=_one("off-task-gradient-norm", es.off_task_gradient_norm),
        confidence=0.95 if confidence is None else confidence,
    )
    choices = _choices(es, wanted)
    known = {name: _one(name.replace("_", "-"), getattr(es, name)) for name in _SIGNAL}
    landscape = None
    if es.spectrum is not None:
        landscape = read_landscape(es.spectrum, dim=base.dim, reward_std=known["reward_std"])
    answer = plan(
        dim=base.dim,
        budget=budget,
        target_progress=_one("target-progress", wanted.target_progress),
        target_gain=_one("target-gain", wanted.target_gain),
        reliability=known["reliability"],
        gradient_norm=known["gradient_norm"],
        reward_std=known["reward_std"] if landscape is None else None,  # the landscape has it
        curvature_trace=_one("curvature-trace", wanted.curvature_trace),
        gradient_curvature=_one("gradient-curvature", wanted.gradient_curvature),
        landscape=landscape,
        choices=choices,
        shaping=base.shaping,
        antithetic=base.antithetic,
    )
    given = {"sigma": choices.sigmas, "alpha": choices.alphas, "population": choices.populations}
    given |= {"steps": choices.steps}
    config: dict[str, Any] = {"dim": base.dim, "model": es.model, "shaping": base.shaping}
    config |= {"antithetic": base.antithetic or None, "max_evaluations": choices.max_evaluations}
    config |= {name: list(values) or None for name, values in given.items()} | known
    return answer, {name: value for name, value in config.items() if value is not None}


def _one(name: str, text: str | None) -> float | None:
    value = number(name, text)
    if value is not None and not math.isfinite(value):
        raise ConfigError(f"--{name} must be a finite number, got {value}", "correct it")
    return value


def _base(es: ESOptions) -> ESConfig:
    """Return dim, shaping and pairing; the other fields stand for whatever the search puts there."""
    from estheory.cli.es_options import cases

    asked = ESOptions(dim=es.dim, model=es.model, trainable=es.trainable, shaping=es.shaping, antithetic=es.antithetic)
    rows, varied = cases(replace(asked, sigma="1", population="4"))
    if varied:
        raise ConfigError("--dim takes one number in a plan", "give one")
    return rows[0].config


def _choices(es: ESOptions, wanted: PlanOptions) -> Choices:
    from estheory.cli.es_options import whole
    from estheory.theory.planning.choices import DEFAULT_MAX_EVALUATIONS, Choices, default_sigmas

    cap = _one("max-evaluations", wanted.max_evaluations)
    sigmas = tuple(numbers("sigma", es.sigma)) or default_sigmas(_one("weight-std", es.weight_std))
    return Choices(
        sigmas=sigmas,
        alphas=tuple(numbers("alpha", es.alpha)),
        populations=tuple(whole("population", n) for n in numbers("population", es.population)),
        steps=tuple(whole("steps", t) for t in numbers("steps", es.steps)),
        max_evaluations=DEFAULT_MAX_EVALUATIONS if cap is None else whole("max-evaluations", cap),
    )
