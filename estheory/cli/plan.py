"""``estheory plan``: which sigma, alpha, N and T meet a drift budget and a target at the fewest evaluations."""

# no postponed annotations: see options.py

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, Union

import typer

from estheory.cli import values
from estheory.cli.emit import cite, show
from estheory.cli.es_options import ModelOption, ModelOptions, SpectrumOption, TrainableOption, cases
from estheory.cli.measured import MeasuredOptions, measured, pilot_ends
from estheory.cli.options import CURVATURE, OFF_TASK, Command, ConfigOptions, TableOptions, given_in, options, program
from estheory.cli.price import PriceOptions
from estheory.errors import ConfigError
from estheory.rules import ESConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from estheory.theory.planning.choices import Choices
    from estheory.theory.planning.search import Candidate, Plan

app = program()
_Group = TypeVar("_Group", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class SizeOptions:
    """How many parameters are trained."""

    panel: ClassVar[str] = "Model"

    dim: Annotated[int | None, typer.Option(help="Number of trainable parameters, e.g. 4e9 or 3B.")] = None
    model: ModelOption = None
    trainable: TrainableOption = None


SEARCHED = ConfigOptions(
    ESConfig,
    {"Restrict the search (comma lists)": ("sigma", "alpha", "population", "steps")},
    lists=True,
    defaults=False,
    help={
        "sigma": "Perturbation scales to try, in weight units.",
        "alpha": "Step sizes to try, in weight units (default: searched).",
        "population": "Populations N to try (default: searched).",
        "steps": "Numbers of steps T to try (default: searched).",
    },
)


@dataclass(frozen=True, kw_only=True)
class EstimatorOptions:
    """The estimators whose alpha is a length, which a plan needs."""

    panel: ClassVar[str] = "Rules of the run"

    shaping: Annotated[
        Literal["zscore", "centered-rank"],
        typer.Option(help="How rewards become weights of the members (default zscore)"),
    ] = "zscore"
    antithetic: Annotated[
        bool, typer.Option("--antithetic", help="The N members are N/2 pairs theta +- sigma eps.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What else the search takes."""

    panel: ClassVar[str] = "Restrict the search (comma lists)"

    weight_std: Annotated[
        float | None, typer.Option(help="Standard deviation of the weights: scales the sigmas to try.")
    ] = None
    max_evaluations: Annotated[int | None, typer.Option(help="Largest N*T (default 1e7).")] = None


@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """What the run may cost in drift."""

    panel: ClassVar[str] = "Drift budget (one or more)"

    max_norm: Annotated[
        float | None, typer.Option(help="Largest displacement norm, in weight units.", parser=values.finite)
    ] = None
    max_kl: Annotated[
        float | None, typer.Option(help="Largest KL, in nats per token; needs --fisher-trace.", parser=values.finite)
    ] = None
    max_off_task_loss: Annotated[
        float | None,
        typer.Option(help="Largest loss of another task's reward; needs --off-task-...", parser=values.finite),
    ] = None
    confidence: Annotated[
        float | None, typer.Option(help="Share of seeds that keep each budget (default 0.95).", parser=values.finite)
    ] = None


@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """What the run shall reach."""

    panel: ClassVar[str] = "Target (one)"

    target_progress: Annotated[
        float | None, typer.Option(help="Mean displacement along the gradient, in weight units.", parser=values.finite)
    ] = None
    target_gain: Annotated[float | None, typer.Option(help="Mean gain of reward.", parser=values.finite)] = None
    curvature_trace: Annotated[
        float | None,
        typer.Option(help="tr Lam: curvature lowers the gain.", parser=values.finite, rich_help_panel=CURVATURE),
    ] = None
    gradient_curvature: Annotated[
        float | None,
        typer.Option(
            help="g'Lam g / ||g||^2: curvature along the gradient.", parser=values.finite, rich_help_panel=CURVATURE
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class KnownOptions:
    """What is known of the rewards."""

    panel: ClassVar[str] = "Signal in the rewards"

    reliability: Annotated[
        float | None,
        typer.Option(help="rho^2: share of the variance of member rewards that is signal.", parser=values.finite),
    ] = None
    gradient_norm: Annotated[
        float | None, typer.Option(help="||g||, in reward per weight unit.", parser=values.finite)
    ] = None
    reward_std: Annotated[float | None, typer.Option(help="s: noise of one member's reward.", parser=values.finite)] = (
        None
    )
    spectrum: SpectrumOption = None


@dataclass(frozen=True, kw_only=True)
class DriftOptions:
    """What is known of another task."""

    panel: ClassVar[str] = OFF_TASK

    fisher_trace: Annotated[float | None, typer.Option(help="tr F per token.", parser=values.finite)] = None
    fisher_square_trace: Annotated[
        float | None, typer.Option(help="tr F^2, for the spread over seeds.", parser=values.finite)
    ] = None
    off_task_trace: Annotated[
        float | None, typer.Option(help="Trace of another task's curvature.", parser=values.finite)
    ] = None
    off_task_square_trace: Annotated[
        float | None, typer.Option(help="Trace of its square, for the spread over seeds.", parser=values.finite)
    ] = None
    off_task_gradient_norm: Annotated[
        float | None, typer.Option(help="||g|| of another task.", parser=values.finite)
    ] = None


@app.command(
    cls=Command,
    epilog=(
        "estheory plan --dim 3B --sigma 0.001 --gradient-norm 2 --reward-std 0.01 --max-norm 90 --target-progress 0.05"
    ),
)
@options(
    SizeOptions,
    BudgetOptions,
    TargetOptions,
    KnownOptions,
    MeasuredOptions,
    DriftOptions,
    SEARCHED,
    SearchOptions,
    EstimatorOptions,
    PriceOptions,
    TableOptions,
)
def plan(
    size: SizeOptions,
    budget: BudgetOptions,
    target: TargetOptions,
    known: KnownOptions,
    files: MeasuredOptions,
    drift: DriftOptions,
    searched: Mapping[str, Any],
    search: SearchOptions,
    estimator: EstimatorOptions,
    price: PriceOptions,
    common: TableOptions,
    plot: Annotated[Path | None, typer.Option(help="Draw evaluations against drift to this file.")] = None,
) -> None:
    """Plan the cheapest run: which sigma, alpha, population and steps meet a drift budget and a target.

    Exit code 4 if nothing meets both.
    """
    from estheory.reporting.text.plan import plan_json, plan_sheet

    found = measured(common, files, given_in(target, known, drift, searched))
    known, drift = _with(known, found), _with(drift, found)
    if target.target_gain is not None:
        target = _with(target, found)
    if "sigma" in found and "sigma" not in searched:
        searched = {**searched, "sigma": (found["sigma"],)}
    _require_all(size, budget, target, known, searched)
    choices = _choices(searched, search)
    answer, config = _answer(size, budget, target, known, drift, choices, estimator)
    best = answer.recommendation
    warnings = list(answer.planner.warnings(best, "sigma" not in searched) if best else ())
    if files.pilot is not None and "gradient_norm" in found:
        ends = pilot_ends(files.pilot)
        norms = () if ends is None else ends
        others = [
            _answer(size, budget, target, replace(known, gradient_norm=g), drift, choices, estimator) for g in norms
        ]
        warnings.append(_spread([other.recommendation for other, _ in others]))
    if plot is not None and answer.front:
        from estheory.reporting.pictures.plan import plan_picture

        plan_picture(answer).save(plot)
    hours = price.hours(best.evaluations if best else 0)
    show(
        common,
        lambda: plan_json(answer, config, warnings, hours),
        lambda: plan_sheet(answer, warnings, hours),
        warnings,
    )
    shown = [best, *(found for _, found in answer.front)]
    cite(common, [p for found in shown if found for p in found.predictions])
    raise typer.Exit(0 if answer.recommendation else 4)


def _with(group: _Group, found: Mapping[str, float]) -> _Group:
    """Return a group with what was measured in the options that were not given."""
    names = {field.name for field in fields(group)}
    return replace(group, **{name: value for name, value in found.items() if name in names})


def _spread(ends: Sequence[Union["Candidate", None]]) -> str:
    """Return what the ends of a pilot's interval would take."""
    if not ends:
        return "the pilot's interval of the signal has no lower end above 0: the plan may reach nothing"
    low, high = (f"{end.evaluations:,}" if end else "no number of" for end in ends)
    return f"over the pilot's interval of the signal the plan takes {high} to {low} evaluations"


def _require_all(
    size: SizeOptions, budget: BudgetOptions, target: TargetOptions, known: KnownOptions, searched: Mapping[str, Any]
) -> None:
    """Refuse a plan that lacks something, naming all that it lacks."""
    budgets = (budget.max_norm, budget.max_kl, budget.max_off_task_loss)
    told = known.spectrum is not None or known.reliability is not None
    told = told or None not in (known.gradient_norm, known.reward_std)
    needs = {
        "the number of parameters (--dim or --model)": size.dim is None and size.model is None,
        "a drift budget (--max-norm, --max-kl or --max-off-task-loss)": budgets == (None, None, None),
        "a target (--target-progress or --target-gain)": (target.target_progress, target.target_gain) == (None, None),
        "the signal (--gradient-norm and --reward-std, --reliability with one --sigma, or --spectrum)": not told,
    }
    if lacking := [what for what, missing in needs.items() if missing]:
        raise ConfigError(f"a plan needs {'; '.join(lacking)}", "estheory plan --help shows an example")


def _answer(
    size: SizeOptions,
    budget: BudgetOptions,
    target: TargetOptions,
    known: KnownOptions,
    drift: DriftOptions,
    choices: "Choices",
    estimator: EstimatorOptions,
) -> tuple["Plan", dict[str, Any]]:
    """Return the plan, and the options behind it as JSON shows them."""
    from estheory.theory.curved.spectra import read_landscape
    from estheory.theory.planning.budgets import DriftBudget
    from estheory.theory.planning.plan import plan

    dim = _dim(size)
    limits = {name: value for name, value in vars(budget).items() if value is not None}
    landscape, signal = None, {name: value for name, value in vars(known).items() if name != "spectrum"}
    if known.spectrum is not None:
        landscape = read_landscape(known.spectrum, dim=dim, reward_std=known.reward_std)
    answer = plan(
        dim=dim,
        budget=DriftBudget(**limits, **vars(drift)),
        **vars(target),
        **signal | ({} if landscape is None else {"reward_std": None}),  # the landscape has it
        landscape=landscape,
        choices=choices,
        **vars(estimator),
    )
    given = {"sigma": choices.sigmas, "alpha": choices.alphas, "population": choices.populations}
    given |= {"steps": choices.steps}
    config: dict[str, Any] = {"dim": dim, "model": size.model, **vars(estimator)}
    config |= {"antithetic": estimator.antithetic or None, "max_evaluations": choices.max_evaluations}
    config |= {name: list(values) or None for name, values in given.items()} | signal
    return answer, {name: value for name, value in config.items() if value is not None}


def _dim(size: SizeOptions) -> int:
    """Return the number of trained parameters."""
    lists = ModelOptions(dim=() if size.dim is None else (size.dim,), model=size.model, trainable=size.trainable)
    return cases(lists, {"sigma": (1.0,), "population": (4,)})[0][0].config.dim


def _choices(searched: Mapping[str, Any], search: SearchOptions) -> "Choices":
    from estheory.theory.planning.choices import DEFAULT_MAX_EVALUATIONS, Choices, default_sigmas

    return Choices(
        sigmas=searched.get("sigma") or default_sigmas(search.weight_std),
        alphas=searched.get("alpha", ()),
        populations=searched.get("population", ()),
        steps=searched.get("steps", ()),
        max_evaluations=DEFAULT_MAX_EVALUATIONS if search.max_evaluations is None else search.max_evaluations,
    )
