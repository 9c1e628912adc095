"""One door to both engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from estheory.landscape import Landscape
from estheory.rules import ESConfig, require_choice
from estheory.simulation.direct import direct
from estheory.simulation.records import Progress, Records
from estheory.simulation.reduced import reduced, unsupported
from estheory.simulation.rewards import Reward

Engine = Literal["auto", "direct", "reduced"]


def chosen_engine(config: ESConfig, landscape: Landscape, engine: Engine = "auto") -> Literal["direct", "reduced"]:
    """Return the engine that ``auto`` means: the reduced one wherever it is exact in law."""
    require_choice("engine", engine, get_args(Engine))
    if engine != "auto":
        return engine
    return "reduced" if unsupported(config, landscape) is None else "direct"


def simulate(
    config: ESConfig,
    landscape: Landscape,
    *,
    replicas: int = 200,
    steps: Sequence[int] = (),
    seed: int = 0,
    engine: Engine = "auto",
    progress: Progress = lambda done: None,
    reward: Reward | None = None,
) -> Records:
    """Run ES on a quadratic landscape many times.

    Parameters, result and errors are those of :func:`estheory.simulation.direct.direct`.

    Examples
    --------
    >>> from estheory.simulation.presets import preset
    >>> config, landscape, steps = preset("paper")
    >>> records = simulate(config, landscape, replicas=10, steps=[100])
    >>> [round(float(norm), 2) for norm in records.gram[:2, 1, 1] ** 0.5]
    [86.85, 86.85]
    """
    run = reduced if chosen_engine(config, landscape, engine) == "reduced" else direct
    return run(config, landscape, replicas=replicas, steps=steps, seed=seed, progress=progress, reward=reward)
