"""A plan's Pareto front: evaluations against drift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estheory.reporting.page.figures import legend
from estheory.reporting.page.theme import LIGHT
from estheory.reporting.pictures.picture import Picture, log_ticks
from estheory.reporting.text.plan import DRIFT, UNITS, percent
from estheory.theory.planning.search import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plan_picture(plan: Plan) -> Picture:
    """Draw evaluations against the first budget's drift along the front, each point with its N and T."""
    planner = plan.planner
    [name, *_] = planner.budget.limits

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        front = sorted((found for _, found in plan.front), key=lambda found: found.used[name])
        drift, cost = [found.used[name] for found in front], [found.evaluations for found in front]
        ax.plot(drift, cost, "o-", color=LIGHT["series-1"], markersize=4, label="cheapest run of each budget")
        for index, found in enumerate(front):
            if index == 0 or found.evaluations != front[index - 1].evaluations:
                words = f"N {found.config.population}, T {found.config.steps}"
                at: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7.5, "color": LIGHT["muted"]}
                ax.annotate(words, (found.used[name], found.evaluations), (5, 4), **at)
        if best := plan.recommendation:
            ax.plot(best.used[name], best.evaluations, "*", color=LIGHT["bad"], markersize=13, label="recommended")
        ax.axvline(planner.budget.limits[name], linestyle="--", linewidth=1, color=LIGHT["muted"], label=f"--{name}")
        ax.set(xscale="log", yscale="log", ylim=(min(cost) / 1.4, max(cost) * 1.8))
        ax.set_xlim(min(drift) / 1.15, max(*drift, planner.budget.limits[name]) * 1.6)
        log_ticks(ax.xaxis)
        log_ticks(ax.yaxis)
        ax.set_xlabel(f"{DRIFT[name]} ({UNITS[name]}), not passed in {percent(planner)} of seeds")
        ax.set_ylabel("evaluations N T")
        legend(figure, ax)

    return Picture(draw=draw, height=260)
