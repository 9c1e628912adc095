"""From members' rewards to the weights that multiply their noise in the update: what both engines share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig, require_count, require_seed
from estheory.theory.estimators import estimator_of

MEMORY_LIMIT = 2.0**32
"""Bytes that coordinates, one replica's step or the records may take."""

MEMBER_NUMBERS = 8
"""Numbers that the rewards and weights of one member take on their way."""


def step_weights(
    config: ESConfig,
    linear: Array,
    even: Array,
    reward_std: float,
    rng: np.random.Generator,
    evaluate: Callable[[Array], Array] | None = None,
) -> Array:
    """Return the weights of the noise in a step: theta <- theta + sum_i w_i eps_i.

    `linear`, `even`: the parts of the rewards that are odd and even in eps, reward units, shape (replicas, draws);
    anything that all members of a step have in common is left out.
    `reward_std`: standard deviation of the Gaussian noise of every single evaluation, reward units.
    `evaluate`: from linear + even parts, shape (replicas, evaluations), to rewards, in place of that noise
    (:func:`estheory.simulation.rewards.evaluation`).
    """
    estimator = estimator_of(config)
    rewards = estimator.in_turn(linear, even)
    if evaluate is not None:
        rewards = evaluate(rewards)
    elif reward_std:
        rewards = rewards + reward_std * rng.standard_normal(rewards.shape)
    return config.step_size / config.population * estimator.noise_weights(estimator.shape(rewards))


def anchored(config: ESConfig, displacement: Array, step: Array) -> Array:
    """Return the displacement from the start after a step and the pull of the anchor.

    The L1 pull of the ``after`` form stops at the start (it is the proximal step).
    """
    after = config.anchor_form == "after"
    if config.anchor_l1:
        before = displacement + step if after else displacement
        pull = config.anchor_l1 * np.sign(before)
        if after:
            return np.asarray(np.where(np.abs(before) <= config.anchor_l1, 0.0, before - pull))
        return displacement - pull + step
    keep = 1.0 - config.anchor_l2
    return keep * (displacement + step) if after else keep * displacement + step


def batches(replicas: int, size: int) -> list[int]:
    """Divide replicas into batches.

    `size`: largest number in a batch, at least 1.
    """
    return [min(size, replicas - done) for done in range(0, replicas, size)]


def require_memory(what: str, needed: float) -> None:
    """Check that what is to be held fits."""
    if not needed <= MEMORY_LIMIT:
        raise ConfigError(
            f"{what} would take {needed / 2**30:.3g} GiB, more than {MEMORY_LIMIT / 2**30:.0f} GiB",
            "lower dim (the reduced engine has no limit on it), replicas or steps",
        )


def checked_steps(
    config: ESConfig, landscape: Landscape, replicas: int, steps: Sequence[int], seed: int
) -> tuple[int, ...]:
    """Check a run for any engine, and return the steps to record."""
    if config.noise != "gaussian":
        raise ConfigError(f"{config.noise} noise is not simulated", "use gaussian noise")
    if config.dtype != "float32":
        raise ConfigError(f"{config.dtype} weights are not simulated", "use float32")
    require_count("replicas", replicas, 1)
    require_seed(seed)
    for step in steps:
        require_count("steps", step, 1)
    if landscape.dim != config.dim:
        raise ConfigError(f"the landscape has {landscape.dim} dimensions, the run {config.dim}", "make them equal")
    if landscape.member_std(config.sigma) == 0:
        raise ConfigError("all members have the same reward", "give a reward-std, or a landscape with curvature")
    recorded = tuple(sorted({1, *(steps or [config.steps])}))
    require_memory(f"records of {replicas} replicas", 16.0 * replicas * len(recorded) * (len(recorded) + 2))
    return recorded
