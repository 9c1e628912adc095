"""One door to both engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from estheory.errors import ConfigError, MissingDependencyError
from estheory.landscape import Landscape
from estheory.rules import ESConfig, require_choice
from estheory.simulation.direct import direct
from estheory.simulation.emulator.direct import rounded_direct
from estheory.simulation.reduced import reduced, unsupported
from estheory.simulation.rewards import Reward
from estheory.simulation.run_records import Progress, Records

Engine = Literal["auto", "direct", "reduced"]


def chosen_engine(config: ESConfig, landscape: Landscape, engine: Engine = "auto") -> Literal["direct", "reduced"]:
    """Return the engine that ``auto`` means: the reduced one wherever it is exact in law.

    Result: ``direct`` or ``reduced``; ``engine`` itself unless it is ``auto``.
    """
    require_choice("engine", engine, get_args(Engine))
    if engine != "auto":
        return engine
    return "reduced" if config.dtype == "float32" and unsupported(config, landscape) is None else "direct"


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
    weight_std: float | None = None,
) -> Records:
    """Run ES on a quadratic landscape many times.

    Parameters
    ----------
    config, landscape
        The run; ``dim`` of both must agree.
    replicas
        Number of independent runs.
    steps
        When to record; ``config.steps`` when empty. The first step is recorded too.
    seed
        Root of the tree of seeds.
    engine
        ``direct``: every coordinate. ``reduced``: exact in law at a cost that does not depend on ``dim``. ``auto``: the
        reduced one wherever it is exact.
    progress
        Called with the number of replica-steps done.
    reward
        In place of the quadratic with Gaussian noise.
    device
        ``cpu`` or ``cuda``: the direct engine on torch. None: on numpy.
    weight_std
        Standard deviation (weight) of the weights that a ``dtype`` of 16 bits rounds; None in float32.

    Returns
    -------
    Records

    Raises
    ------
    ConfigError
        Where no engine can do it, or the one asked for cannot.
    MissingDependencyError
        If a device is asked for and torch is not installed.

    Examples
    --------
    >>> from estheory.simulation.presets import preset
    >>> config, landscape, steps = preset("paper")
    >>> records = simulate(config, landscape, replicas=10, steps=[100])
    >>> [round(float(norm), 2) for norm in records.gram[:2, 1, 1] ** 0.5]
    [86.85, 86.85]
    """
    if (config.dtype == "float32") != (weight_std is None):
        raise ConfigError(f"{config.dtype} and weight-std {weight_std} do not go together", "16 bits need --weight-std")
    if weight_std is not None:
        if engine == "reduced" or reward is not None or device is not None:
            raise ConfigError(f"{config.dtype} is simulated by the direct engine, on the quadratic", "use float32")
        return rounded_direct(
            config, landscape, weight_std=weight_std, replicas=replicas, steps=steps, seed=seed, progress=progress
        )
    if device is not None:
        if engine == "reduced":
            raise ConfigError("the reduced engine runs on no device", "choose the direct engine")
        return _on_device()(
            config, landscape, replicas=replicas, steps=steps, seed=seed, progress=progress, device=device
        )
    run = reduced if chosen_engine(config, landscape, engine) == "reduced" else direct
    return run(config, landscape, replicas=replicas, steps=steps, seed=seed, progress=progress, reward=reward)
