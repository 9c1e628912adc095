"""What ``estheory simulate --geometry`` measures, from its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from estheory.cli.options import ESOptions, choice, number

if TYPE_CHECKING:
    from estheory.landscape import Landscape
    from estheory.rules import ESConfig
    from estheory.simulation.geometry_records import Geometry

USED = (
    *("fisher_trace", "fisher_square_trace", "off_task_gradient_norm"),
    *("grpo_lr", "grpo_steps", "grpo_schedule"),
)
"""ES options that have a use with ``--geometry`` alone."""


def measured_geometry(
    es: ESOptions,
    config: ESConfig,
    landscape: Landscape,
    *,
    replicas: int,
    seed: int,
    progress: Callable[[int], None],
) -> Geometry:
    """Return the geometry of ES and of gradient methods with the rates and off-task costs that the options give.

    Parameters
    ----------
    es
        Rates and off-task costs; those not given take their defaults.
    config, landscape
        The rule, and the landscape of all runs.
    progress
        Called with the number of steps of ES, over all runs, since the last call.
    """
    from typing import get_args

    from estheory.simulation.geometry import geometry
    from estheory.simulation.gradient_runs import default_runs
    from estheory.simulation.off_task import off_task_cost
    from estheory.theory.adamw import Schedule

    schedule = cast(Schedule, choice("grpo-schedule", es.grpo_schedule, get_args(Schedule), "linear"))
    steps = number("grpo-steps", es.grpo_steps)
    runs = default_runs(
        landscape,
        lr=number("grpo-lr", es.grpo_lr),
        steps=80 if steps is None else steps,
        schedule=schedule,
    )
    off_task = off_task_cost(
        landscape,
        trace=number("fisher-trace", es.fisher_trace),
        square_trace=number("fisher-square-trace", es.fisher_square_trace),
        gradient_norm=number("off-task-gradient-norm", es.off_task_gradient_norm),
    )
    return geometry(config, landscape, runs=runs, off_task=off_task, replicas=replicas, seed=seed, progress=progress)
