"""What ``estheory simulate --geometry`` measures, from its options."""

# no postponed annotations: see options.py

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from estheory.cli.options import GEOMETRY
from estheory.errors import ConfigError
from estheory.theory.adamw import Schedule

if TYPE_CHECKING:
    from estheory.landscape import Landscape
    from estheory.rules import ESConfig
    from estheory.simulation.geometry_results import Geometry


@dataclass(frozen=True, kw_only=True)
class GeometryOptions:
    """The comparison with gradient methods, and what has a use with it alone."""

    panel: ClassVar[str] = GEOMETRY

    geometry: Annotated[
        bool, typer.Option("--geometry", help="Compare with SGD, AdamW and a GRPO-like run; --plot draws this.")
    ] = False
    fisher_trace: Annotated[float | None, typer.Option(help="tr F of another task.")] = None
    fisher_square_trace: Annotated[float | None, typer.Option(help="tr F^2 of another task.")] = None
    off_task_gradient_norm: Annotated[float | None, typer.Option(help="||g|| of another task.")] = None
    grpo_lr: Annotated[float | None, typer.Option(help="Peak learning rate of the GRPO-like run.")] = None
    grpo_steps: Annotated[int | None, typer.Option(help="Its number of steps (default 80).")] = None
    grpo_schedule: Annotated[Schedule | None, typer.Option(help="Its schedule (default linear)")] = None

    def require_used(self) -> None:
        """Refuse options that have no effect without --geometry."""
        idle = [f.name for f in fields(self) if f.name != "geometry" and getattr(self, f.name) is not None]
        if idle and not self.geometry:
            raise ConfigError(f"--{idle[0].replace('_', '-')} has an effect with --geometry alone", "add --geometry")


def measured_geometry(
    compare: GeometryOptions,
    config: "ESConfig",
    landscape: "Landscape",
    *,
    replicas: int,
    seed: int,
    progress: Callable[[int], None],
) -> "Geometry":
    """Return the geometry of ES and of gradient methods with the rates and off-task costs that the options give.

    `compare`: rates and off-task costs; those not given take their defaults.
    `progress`: called with the number of steps of ES, over all runs, since the last call.
    """
    from estheory.simulation.geometry import geometry
    from estheory.simulation.gradient_runs import default_runs
    from estheory.simulation.off_task import off_task_cost

    runs = default_runs(
        landscape,
        lr=compare.grpo_lr,
        steps=80 if compare.grpo_steps is None else compare.grpo_steps,
        schedule=compare.grpo_schedule or "linear",
    )
    off_task = off_task_cost(
        landscape,
        trace=compare.fisher_trace,
        square_trace=compare.fisher_square_trace,
        gradient_norm=compare.off_task_gradient_norm,
    )
    return geometry(config, landscape, runs=runs, off_task=off_task, replicas=replicas, seed=seed, progress=progress)
