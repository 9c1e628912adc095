"""One door to both engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from estheory.errors import ConfigError, MissingDependencyError
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


def _on_device() -> Callable[..., Records]:
    try:
        from estheory.simulation.torch_direct import direct_on_device
    except ImportError:
        raise MissingDependencyError("--device needs torch", "pip install 'estheory[llm]'") from None
    return direct_on_device


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
    device: str | None = None,
) -> Records:
    """Run ES on a quadratic landscape many times.

    ConfigError where no engine can do it, or the reduced engine is asked for on a device.

    Parameters, result and errors are those of :func:`estheory.simulation.direct.direct`; with a ``device`` (``cpu`` or
    ``cuda``) the direct engine runs on torch.

    Examples
    --------
    >>> from estheory.simulation.presets import preset
    >>> config, landscape, steps = preset("paper")
    >>> records = simulate(config, landscape, replicas=10, steps=[100])
    >>> [round(float(norm), 2) for norm in records.gram[:2, 1, 1] ** 0.5]
    [86.85, 86.85]
    """
    if device is not None:
        if engine == "reduced":
            raise ConfigError("the reduced engine runs on no device", "choose the direct engine")
        return _on_device()(
            config, landscape, replicas=replicas, steps=steps, seed=seed, progress=progress, device=device
        )
    run = reduced if chosen_engine(config, landscape, engine) == "reduced" else direct
    return run(config, landscape, replicas=replicas, steps=steps, seed=seed, progress=progress, reward=reward)
