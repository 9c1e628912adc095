"""Probes made before step 1, of the reward and of what drifts, from which the run is predicted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.measurement.held_out import LARGE_DIM, kl_prompts
from estheory.measurement.probes import default_sigma, fisher_probes
from estheory.runs.config import ESRunConfig
from estheory.theory.walk import walk
from estheory.training.reward_probe import reward_probe
from estheory.training.session import Session
from estheory.training.signal_probe import signal_probe
from estheory.training.trajectory import run_noise

DIRECTIONS, LARGE_DIRECTIONS = 64, 4


def probes_before(session: Session) -> Mapping[str, object]:
    """Probe tr F of every evaluated task and the trained task's reward: the content of probes.json.

    What the reward's probe is and predicts: :mod:`estheory.training.reward_probe`. With its members KL is probed along
    the signal, too: :mod:`estheory.training.signal_probe`.

    Two scales: the smallest that float32 resolves well (the quadratic law), and the standard deviation that one
    coordinate will have at the end of the run (no quadratic law needed); the second only where the configuration
    alone tells that standard deviation, which it does not for raw and two-point shaping. The directions have the
    run's own noise structure. Half precision is too coarse for probes: there are none.

    `session`: of the untrained model; its buffer is overwritten.
    """
    config = session.config
    if not isinstance(config, ESRunConfig):
        raise ConfigError("probes predict the walk of an ES run", "leave them out for other methods")
    variance = predicted_variance(session, config)
    content: dict[str, object] = {
        "schema": "estheory/probes/1",
        "model": config.model,
        "dtype": config.dtype,
        "walk_variance": variance,
        "steps": config.steps,
    }
    found: Mapping[str, Any] = reward_probe(session)
    content |= found
    if config.dtype != "float32":
        return {**content, "fisher": [], "signal": None}
    session.parameters.vector.copy_(session.base)
    scales = {"small": default_sigma(session.parameters)}
    if variance is not None:
        scales["walk"] = math.sqrt(variance)
    structure = run_noise(config, session.parameters).structure
    directions = LARGE_DIRECTIONS if session.parameters.dim >= LARGE_DIM else DIRECTIONS
    rows = []
    for held in session.held:
        probes = fisher_probes(
            session.loaded.model,
            session.parameters,
            kl_prompts(session.loaded, session.parameters.dim, held),
            sigmas=list(scales.values()),
            directions=directions,
            seed=config.seed,
            structure=structure,
        )
        for scale, probe in zip(scales, probes, strict=True):
            rows.append(
                {
                    "task": held.task.name,
                    "scale": scale,
                    "trace": probe.trace,
                    "trace_stderr": probe.trace_stderr,
                    "square_trace": probe.square_trace,
                    "relative_std": probe.estimated_relative_std,
                    "predicted_kl_drift": None if variance is None else 0.5 * variance * probe.trace,
                    "probe": dataclasses.asdict(probe),
                }
            )
    return {**content, "fisher": rows, "signal": signal_probe(session, config, found["reward"])}


def predicted_variance(session: Session, config: ESRunConfig) -> float | None:
    """Return the variance of a flat coordinate (of noise factor 1) after the run.

    Result: weight^2; None where rewards decide it (raw and two-point shaping).
    """
    if not config.estimator.scale_free:
        return None
    rules = config.rules(session.parameters.dim)
    return walk(rules, Signal(), config.steps, session.parameters.shapes).variance
