"""KL along what members of a probe have in common, beside the same members with their coefficients permuted."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.measurement.held_out import kl_from_base
from estheory.measurement.pair_moments import LINEAR
from estheory.measurement.probes import PROBE_STEP, default_sigma
from estheory.runs.config import ESRunConfig
from estheory.training.reward_probe_size import permutations
from estheory.training.session import Session
from estheory.training.trajectory import run_noise
from estheory.watching import counted_out


def signal_probe(
    session: Session, config: ESRunConfig, reward: Mapping[str, Any] | None
) -> Mapping[str, object] | None:
    """Probe f = g^' F g^ of every evaluated task, forward-only, with the members that the reward's probe has evaluated.

    Their half differences d make one update, sum d eps, whose coherent length is n sqrt(v_odd) in units of its scale.
    KL of it, less the mean KL of the same directions with the d permuted and their signs drawn, is 1/2 f times its
    square. No rewards are evaluated; KL is, once and once for each permutation.

    `session`: of the untrained model; its buffer is overwritten.
    `reward`: what the reward's probe found; None where there was none.
    Result: what probes.json holds of it: by task ``curvature`` (nat/token/weight^2) and its error. None where the
    reward's probe shows no odd part.
    """
    differences = np.ravel((reward or {}).get("half_differences", ()))
    linear = float(np.mean(np.array(reward["moments"])[:, LINEAR])) if reward else 0.0
    return curvature_along(session, config, differences, linear)


def curvature_along(
    session: Session, config: ESRunConfig, differences: Array, linear: float
) -> Mapping[str, Any] | None:
    """Probe f = g^' F g^ of every evaluated task along the update that mirrored pairs' half differences make.

    `differences`: of each pair of the noise of the probe step, reward, shape (n,).
    `linear`: sigma^2 ||g||^2, reward^2.
    Result: as of :func:`signal_probe`.
    """
    if not differences.any() or not linear > 0:
        return None
    started = time.perf_counter()
    count = permutations(session.parameters.dim)
    rng = np.random.default_rng(config.seed)
    noise, buffer = run_noise(config, session.parameters), session.parameters.vector
    buffer.copy_(session.base)
    scale = default_sigma(session.parameters) / math.sqrt(float(differences @ differences))
    moved = scale * differences.size * math.sqrt(linear)

    def kls(coefficients: Array) -> list[float]:
        buffer.copy_(session.base)
        noise.add_weighted(buffer, coefficients.tolist(), scale=scale, step=PROBE_STEP)
        shifted = buffer.clone()
        found = []
        for held in session.held:
            buffer.copy_(shifted)
            found.append(kl_from_base(session.loaded, session.parameters, session.base, held).value)
        return found

    permuted = [
        rng.permutation(differences) * rng.choice((-1.0, 1.0), differences.size)
        for _ in counted_out("probing KL along the signal", range(count), count)
    ]
    real, random = np.array(kls(differences)), np.array([kls(each) for each in permuted])
    buffer.copy_(session.base)
    error = random.std(axis=0, ddof=1) * math.sqrt(1 + 1 / count)
    tasks = [
        {
            "task": held.task.name,
            "kl": float(real[k]),
            "kl_permuted": float(random[:, k].mean()),
            "curvature": float(2 * (real[k] - random[:, k].mean()) / moved**2),
            "curvature_stderr": float(2 * error[k] / moved**2),
        }
        for k, held in enumerate(session.held)
    ]
    return {
        "members": 2 * differences.size,
        "permutations": count,
        "coherent_displacement": moved,
        "kl_evaluations": count + 1,
        "seconds": time.perf_counter() - started,
        "tasks": tasks,
    }
