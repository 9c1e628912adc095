"""The forward-only probe of a model's Fisher trace: what a random walk of its weights will do to its outputs.

What the samples mean is in :mod:`estheory.measurement.fisher`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from estheory.errors import ConfigError
from estheory.measurement.fisher import FisherProbe
from estheory.measurement.kl import Prompts, collect_kl, divergences, prompt_logits
from estheory.models.noise import MemberNoise
from estheory.models.noise_streams import INDEPENDENT, NoiseStructure
from estheory.models.parameters import FlatParameters
from estheory.watching import counted_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RELATIVE_SIGMA = 3e-3
"""Default sigma_p in units of the rms weight: see :func:`default_sigma`."""

PROBE_STEP = 0
"""Step number of the probes' noise; a run's steps count from 1, so that no probe repeats a run's noise."""


def default_sigma(parameters: FlatParameters) -> float:
    """Return sigma_p = 0.003 times the rms weight.

    The quadratic law errs by a share of the order of KL itself (the cubic term is odd in eps and averages out), and
    float32 forward passes leave a floor of 6e-12 nats per token. This scale lies far from both: it moves language
    models of 6e4 and 1.3e8 parameters by 4e-5 to 8e-4 nats, and half or twice the scale changes tr F by under 0.5 %.
    """
    rms = float(parameters.vector.double().norm()) / math.sqrt(parameters.dim)
    if not rms > 0:
        raise ConfigError("all trainable weights are zero, so the probe has no natural scale", "give sigma")
    return RELATIVE_SIGMA * rms


def fisher_probe(
    model: PreTrainedModel,
    parameters: FlatParameters,
    prompts: Prompts,
    *,
    sigma: float | None = None,
    directions: int = 8,
    seed: int = 0,
    batch_size: int = 16,
) -> FisherProbe:
    """Probe tr F at one scale (see :func:`fisher_probes`)."""
    scale = default_sigma(parameters) if sigma is None else sigma
    return fisher_probes(
        model, parameters, prompts, sigmas=[scale], directions=directions, seed=seed, batch_size=batch_size
    )[0]


def fisher_probes(
    model: PreTrainedModel,
    parameters: FlatParameters,
    prompts: Prompts,
    *,
    sigmas: Sequence[float],
    directions: int = 8,
    seed: int = 0,
    batch_size: int = 16,
    structure: NoiseStructure = INDEPENDENT,
) -> list[FisherProbe]:
    """Probe tr F at several scales along the same random directions.

    The directions come from the runs' own noise. The model is put back bit for bit, also after an error.
    Memory: one copy of the parameters, and the logits of the prompts (tokens x vocabulary). Cost: 1 + scales
    x directions forward passes over the prompts.

    `parameters`: its trainable parameters, the directions in which it may move.
    `sigmas`: scales sigma_p (weight): :func:`default_sigma` for tr F, sqrt(v) for the KL of a walk of variance v.
    `directions`: number of random directions K, at least 2.
    `structure`: of the directions: the run's own, for then the samples average to tr(F C) with C the covariance of its
    noise.
    """
    if parameters.vector.dtype not in (torch.float32, torch.float64):
        what = f"the parameters are {parameters.vector.dtype}, too coarse for a small perturbation"
        raise ConfigError(what, "load the model in float32 to probe it")
    if directions < 2 or not sigmas or not all(sigma > 0 and math.isfinite(sigma) for sigma in sigmas):
        what = f"a probe with {directions} directions at scales {list(sigmas)} is impossible"
        raise ConfigError(what, "use 2 or more directions and positive scales")
    base = [logits.clone() for logits in prompt_logits(model, prompts, batch_size=batch_size)]
    tokens = sum(len(prompt) for prompt in prompts)
    noise = MemberNoise(parameters=parameters, seed=seed, structure=structure)
    probes = []
    with parameters.restored() as centre:
        for sigma in sigmas:
            started = time.perf_counter()
            samples = []
            for member in counted_out("probing KL", range(directions), directions):
                noise.perturb(parameters.vector, centre, sigma=sigma, step=PROBE_STEP, member=member)
                moved = prompt_logits(model, prompts, batch_size=batch_size)
                drift = collect_kl(divergences(a, b) for a, b in zip(base, moved, strict=True))
                samples.append(2 * drift.value / sigma**2)
            probes.append(
                FisherProbe(
                    sigma=sigma,
                    samples=tuple(samples),
                    seed=seed,
                    dim=parameters.dim,
                    tokens=tokens,
                    seconds=time.perf_counter() - started,
                )
            )
    return probes
