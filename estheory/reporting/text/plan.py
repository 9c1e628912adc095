"""A plan as tables, as sentences, as JSON and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estheory.reporting.text.forecast import prediction_json
from estheory.reporting.text.tables import Sheet, Table, short
from estheory.theory.planning.search import Candidate, Plan, Planner

DRIFT = {"max-norm": "norm", "max-kl": "KL", "max-off-task-loss": "off-task loss"}
UNITS = {"max-norm": "w", "max-kl": "nat/token", "max-off-task-loss": "R"}


def candidate_json(candidate: Candidate, confidence: float) -> dict[str, Any]:
    """Return a configuration, what it attains and what it uses of the budgets as a JSON object."""
    config = candidate.config
    return {
        "sigma": config.sigma,
        "alpha": config.step_size,
        "population": config.population,
        "steps": config.steps,
        "evaluations": candidate.evaluations,
        "reliability": candidate.arm.signal.reliability,
        "progress": {"mean": candidate.attained.progress, "std": candidate.progress_std, "unit": "weight"},
        "target": candidate.attained.value,
        "drift_at_confidence": dict(candidate.used),
        "predictions": [prediction_json(p, confidence) for p in candidate.predictions],
    }


def plan_json(
    plan: Plan, config: dict[str, Any], warnings: Sequence[str], hours: float | None = None
) -> dict[str, Any]:
    """Return the whole document of ``estheory plan --json``."""
    planner, level = plan.planner, plan.planner.budget.confidence
    document: dict[str, Any] = {
        "schema": "estheory/plan/1",
        "config": config,
        "budget": {**planner.budget.limits, "confidence": level},
        "target": {"kind": planner.target.name, "value": planner.target.value},
        "recommendation": candidate_json(plan.recommendation, level) if plan.recommendation else None,
        "front": [{"budget_scale": scale, **candidate_json(found, level)} for scale, found in plan.front],
        "binding": list(plan.binding),
        "statement": statement(plan),
        "warnings": list(warnings),
        "beyond": list(planner.beyond(plan.recommendation)) if plan.recommendation else [],
    }
    if hours is not None and plan.recommendation is not None:
        document["hours"] = hours
    if plan.recommendation is None:
        document["best"] = candidate_json(plan.best, level) if plan.best else None
        document["share_of_target"] = plan.share
        document["needed"] = candidate_json(plan.needed, level) if plan.needed else None
    return document


def plan_sheet(plan: Plan, warnings: Sequence[str], hours: float | None = None) -> Sheet:
    """Return the recommendation, the front, and what they mean in plain words."""
    parts: list[Table | str] = []
    planner = plan.planner
    if plan.recommendation:
        if beyond := planner.beyond(plan.recommendation):
            parts.append(f"Beyond what was seen to work: {'; '.join(beyond)}.\n")
        parts.append(_recommendation(plan.recommendation, planner))
    if len(plan.front) > 1:
        parts.append(_front(plan, planner))
    parts.append(statement(plan))
    if hours is not None and plan.recommendation is not None:
        parts.append(f"The recommended run takes {short(hours, 3)} hours.")
    parts.extend(f"warning: {warning}" for warning in warnings)
    return Sheet(*parts)


def _recommendation(best: Candidate, planner: Planner) -> Table:
    table = Table(">sigma", ">alpha", ">N", ">T", ">evaluations", *_heads(planner), title="recommendation")
    table.add_row(*_cells(best, planner))
    return table


def _front(plan: Plan, planner: Planner) -> Table:
    columns = (">budget", ">sigma", ">alpha", ">N", ">T", ">evaluations", *_heads(planner))
    table = Table(*columns, title="evaluations against drift: the same target on other budgets")
    for scale, found in plan.front:
        table.add_row(f"x {short(scale, 3)}", *_cells(found, planner))
    return table


def _heads(planner: Planner) -> list[str]:
    return [">progress", *(f">{DRIFT[name]}, {percent(planner)}" for name in planner.budget.limits)]


def _cells(found: Candidate, planner: Planner) -> list[str]:
    config = found.config
    progress = f"{short(found.attained.progress, 3)} +-{short(found.progress_std, 1)}"
    sizes = [short(config.sigma, 3), short(config.step_size, 3), str(config.population), str(config.steps)]
    used = [short(found.used[name], 4) for name in planner.budget.limits]
    return [*sizes, f"{found.evaluations:,}", progress, *used]


def _budgets(planner: Planner) -> str:
    return " and ".join(f"--{name} {value:g}" for name, value in planner.budget.limits.items())


def _attained(found: Candidate, planner: Planner) -> str:
    if planner.target.name == "target-gain":
        return f"gain {short(found.attained.value, 3)} reward"
    return f"move {short(found.attained.progress, 3)} along the gradient"


def statement(plan: Plan) -> str:
    """Return the answer in plain words."""
    best, planner = plan.recommendation, plan.planner
    if best is None:
        return _infeasible(plan, planner)
    config = best.config
    used = " and ".join(
        f"the {DRIFT[name]} under {short(best.used[name], 4)} {UNITS[name]} (budget {limit:g})"
        for name, limit in planner.budget.limits.items()
    )
    words = (
        f"Run {best.steps} steps of {config.population} members at sigma {short(config.sigma, 3)} and alpha "
        f"{short(config.step_size, 4)}: {best.evaluations:,} evaluations {_attained(best, planner)} on average "
        f"and keep {used}{', each' if len(planner.budget.limits) > 1 else ''} in {percent(planner)} of seeds."
    )
    if plan.binding:
        words += f" Fewer evaluations are ruled out by {_named(plan.binding)}."
    scales = {round(scale, 6): found.evaluations for scale, found in plan.front}
    others = [(words_of, scales.get(scale)) for words_of, scale in (("half", 0.5), ("twice", 2.0))]
    differing = [f"{name} the norm takes {count:,}" for name, count in others if count and count != best.evaluations]
    if differing:
        words += f" For the same target, a budget of {' and of '.join(differing)} evaluations."
    return words


def _named(limits: Sequence[str]) -> str:
    """Return limits as options and conditions in words."""
    shown = [limit.replace("<=", " <= ") if "<=" in limit else f"--{limit}" for limit in limits]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def percent(planner: Planner) -> str:
    """Return the confidence of the budgets."""
    return f"{100 * planner.budget.confidence:.4g} %"


def _infeasible(plan: Plan, planner: Planner) -> str:
    cap = planner.choices.max_evaluations
    what = planner.target.name.removeprefix("target-")
    words = f"No configuration meets {_budgets(planner)} with --{planner.target.name} {planner.target.value:g}"
    if plan.best is None:
        words += f": not even a millionth of the {what} is within reach of these choices"
    else:
        config = plan.best.config
        value = plan.best.attained.value
        choice = f"sigma {short(config.sigma, 3)}, alpha {short(config.step_size, 4)}, N {config.population}"
        words += f": the best {what} within the budget at N*T <= {cap:,} is {short(value, 4)}, "
        words += f"{short(100 * plan.share, 3)} % of it ({choice}, T {config.steps}), "
        words += f"limited by {_named(plan.binding) or 'the choices given'}"
    if plan.needed is not None:
        return words + f". The target would take {plan.needed.evaluations:,} evaluations (--max-evaluations)."
    limit = planner.budget.max_norm
    if planner.target.name == "target-progress" and limit is not None and planner.target.value >= limit:
        return words + ". The target is itself longer than --max-norm: no number of evaluations helps."
    return words + ". More evaluations alone do not help: relax the budget, the target or the choices given."
