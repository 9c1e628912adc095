"""Probes made before step 1, from which the run's drift is predicted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from estheory.errors import ConfigError
from estheory.measurement.probes import default_sigma, fisher_probes
from estheory.training.config import ESRunConfig
from estheory.training.evaluation import LARGE_DIM, kl_prompts
from estheory.training.session import Session

DIRECTIONS, LARGE_DIRECTIONS = 64, 4


def probes_before(session: Session) -> Mapping[str, object]:
    """Probe tr F of every evaluated task and predict the run's KL from it: the content of probes.json.

    Two scales: the smallest that float32 resolves well (the quadratic law), and the standard deviation that one
    coordinate will have at the end of the run (no quadratic law needed).

    Raises
    ------
    ConfigError
        If the run is not an ES run: the probes predict its walk.
    """
    config = session.config
    if not isinstance(config, ESRunConfig):
        raise ConfigError("probes predict the walk of an ES run", "leave them out for other methods")
    variance = config.alpha**2 * config.steps / config.population
    scales = {"small": default_sigma(session.parameters), "walk": math.sqrt(variance)}
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
        )
        for scale, probe in zip(scales, probes, strict=True):
            rows.append(
                {
                    "task": held.task.name,
                    "scale": scale,
                    "trace": probe.trace,
                    "trace_stderr": probe.trace_stderr,
                    "square_trace": probe.square_trace,
                    "relative_std": probe.relative_std,
                    "predicted_kl_drift": 0.5 * variance * probe.trace,
                    "probe": dataclasses.asdict(probe),
                }
            )
    return {"schema": "estheory/probes/1", "walk_variance": variance, "steps": config.steps, "fisher": rows}
