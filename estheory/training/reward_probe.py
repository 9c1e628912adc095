"""The probe of a run's own reward, made before step 1: signal, noise and curvature, and what they predict.

Members are those of the run, theta_0 +- sigma eps with the run's sigma, noise structure, reward and number of prompts,
but mirrored and with the noise of step 0, which no step uses.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping

import numpy as np

from estheory.errors import ConfigError, DataError
from estheory.estimates import Estimate
from estheory.measurement.accuracy import ExampleScorer
from estheory.measurement.pair_moments import GAP, VARIANCE, PairMoments, pair_moments
from estheory.measurement.probes import PROBE_STEP
from estheory.runs.config import ESRunConfig
from estheory.theory.probe.predictions import predict_from_probe
from estheory.theory.probe.reward import ProbedReward
from estheory.training.reward_probe_size import PAIRS, probe_batches, why_unprobed
from estheory.training.session import Session
from estheory.training.trajectory import run_noise
from estheory.watching import counted_out

CEILINGS = {"accuracy": 1.0, "partial": 1.0, "logprob": 0.0}
"""The largest value of each reward."""


def reward_probe(session: Session) -> Mapping[str, object]:
    """Probe the trained task's reward: estimates, their cost, and predictions.

    `session`: of the untrained model; its buffer is overwritten.
    Result: what probes.json holds of it. Where there is no probe, the reason takes the place of the content.
    """
    config = session.config
    if not isinstance(config, ESRunConfig):
        raise ConfigError("the reward of an ES run is probed", "leave it out for other methods")
    if why := why_unprobed(config):
        return {"reward": None, "predictions": [], "unpredicted": [why]}
    started = time.perf_counter()
    count = probe_batches(config)
    try:
        batches = list(_batches(session, config, count))
    except DataError as error:
        return {"reward": None, "predictions": [], "unpredicted": [f"no reward probe: {error.what}"]}
    moments_of = np.array([batch for _, batch, _ in batches])
    centres = np.array([centre for centre, _, _ in batches])
    members = centres - moments_of[:, GAP]
    moments = PairMoments(batches=moments_of, sigma=config.sigma)
    if not moments.mean[VARIANCE] > 0:
        return {"reward": None, "predictions": [], "unpredicted": ["no reward probe: all members have the same reward"]}
    evaluations = count * (2 * PAIRS + 1)
    estimates = {
        "reward": Estimate(value=float(centres.mean()), stderr=float(centres.std(ddof=1) / math.sqrt(count))),
        "member_reward": Estimate(value=float(members.mean()), stderr=float(members.std(ddof=1) / math.sqrt(count))),
        "member_reward_std": moments.member_std,
        "noise_std": moments.noise_std,
        "reliability": moments.reliability,
        "linear_reliability": moments.linear_reliability,
        "gradient_norm": moments.gradient_norm,
        "trace": moments.trace,
        "square_trace": moments.square_trace,
        "gradient_curvature": moments.gradient_curvature,
    }
    reward: dict[str, object] = {
        "task": config.task,
        "sigma": config.sigma,
        "seed": config.seed,
        "batches": count,
        "pairs": PAIRS,
        "prompts": config.prompts,
        "estimates": {name: _finite(estimate) for name, estimate in estimates.items()},
        "moments": moments.batches.tolist(),
        "half_differences": [differences for _, _, differences in batches],
        "evaluations": evaluations,
        "share_of_run": evaluations / (config.steps * config.evaluations),
        "seconds": time.perf_counter() - started,
    }
    probe = ProbedReward(
        mean=moments.mean,
        covariance=moments.covariance,
        ceiling=CEILINGS[config.reward] - estimates["reward"].value,
        steered=not config.permute_rewards,
    )
    evaluated = [step for step in range(1, config.steps + 1) if config.keeps_checkpoint(step)]
    predictions, missing = predict_from_probe(config.rules(session.parameters.dim), probe, evaluated)
    rows = [{**dataclasses.asdict(p), "quantity": str(p.quantity), "std": p.std} for p in predictions]
    return {"reward": reward, "predictions": rows, "unpredicted": missing}


def _finite(estimate: Estimate) -> dict[str, float | None]:
    """Return value and stderr, None where the data give none."""
    return {k: v if math.isfinite(v) else None for k, v in dataclasses.asdict(estimate).items()}


def _batches(session: Session, config: ESRunConfig, count: int) -> Iterator[tuple[float, np.ndarray, list[float]]]:
    """Yield the centre's mean reward, the moments and the pairs' half differences of each batch."""
    noise = run_noise(config, session.parameters)
    buffer, evaluation = session.parameters.vector, 0
    for batch in counted_out("probing the reward", range(count), count):
        scorer = ExampleScorer(
            session.loaded.model,
            session.loaded.tokenizer,
            session.task,
            session.training_examples(batch, probe=True),
            scoring=config.reward,
            half_products=config.matmul == "bfloat16",
        )
        rewards = []
        for number in range(2 * PAIRS + 1):  # the centre, then + and - of each pair
            if number:
                sigma = config.sigma if number % 2 else -config.sigma
                member = batch * PAIRS + (number - 1) // 2
                noise.perturb(buffer, session.base, sigma=sigma, step=PROBE_STEP, member=member)
            else:
                buffer.copy_(session.base)
            sampler = session.sampler(PROBE_STEP, evaluation) if config.decode == "sample" else None
            rewards.append(scorer.scores(sampler))
            evaluation += 1
        centre, members = rewards[0], np.array(rewards[1:])
        plus, minus = members[0::2], members[1::2]
        yield float(centre.mean()), pair_moments(centre, plus, minus), ((plus - minus).mean(axis=1) / 2).tolist()
