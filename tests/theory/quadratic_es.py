"""Brute-force evolution strategies on a quadratic: every coordinate, every member, many replicas at once."""

import math

import numpy as np

from estheory.landscape import Landscape
from estheory.rules import ESConfig
from tests.statistics import Z, shape_rewards


def landscape(*rows, reward_std=0.0, dim=10**6):
    """A landscape of (eigenvalue, multiplicity, offset) rows."""
    columns = np.array(rows, dtype=float)
    return Landscape(
        dim=dim, eigenvalue=columns[:, 0], multiplicity=columns[:, 1], offset=columns[:, 2], reward_std=reward_std
    )


def config(**changes):
    return ESConfig(**({"dim": 10**6} | changes))


def expand(values, where):
    """One value a direction instead of one a row."""
    return np.repeat(values, where.multiplicity.astype(int))


def one_step(rng, c, where, distance):
    """One update, shape (replicas, r), from the signed distances theta - theta* of every replica, same shape."""
    replicas, r = distance.shape
    paired = c.antithetic or c.shaping == "two-point"
    draws = c.population // 2 if c.antithetic else c.population
    eps = rng.standard_normal((replicas, draws, r))
    members = np.concatenate([eps, -eps], axis=1) if paired else eps
    rewards = -0.5 * (distance[:, None, :] + c.sigma * members) ** 2 @ expand(where.eigenvalue, where)
    rewards += where.reward_std * rng.standard_normal(rewards.shape)
    if c.shaping == "two-point":
        weights = (rewards[:, :draws] - rewards[:, draws:]) / (2 * c.sigma)
    else:
        weights = shape_rewards(rewards, c.shaping, c.sigma)
        if paired:
            weights = weights[:, :draws] - weights[:, draws:]
    return c.step_size / c.population * np.einsum("rn,rnk->rk", weights, eps)


def moved(c, displacement, velocity, update):
    """Displacement from the start and velocity after an update, with anchor and momentum."""
    velocity = c.momentum * velocity + (1 - c.momentum) * update
    after, pull = c.anchor_form == "after", c.anchor_l1
    if pull and after:
        there = displacement + velocity
        return np.sign(there) * np.maximum(np.abs(there) - pull, 0), velocity
    if pull:
        return displacement - pull * np.sign(displacement) + velocity, velocity
    keep = 1 - c.anchor_l2
    return keep * (displacement + velocity) if after else keep * displacement + velocity, velocity


def steps_from_start(seed, c, where, replicas, batch=10_000):
    """Updates of the first step, shape (replicas, r); positive is toward the optimum."""
    rng = np.random.default_rng(seed)
    start = -expand(where.offset, where)
    sizes = [min(batch, replicas - done) for done in range(0, replicas, batch)]
    return np.concatenate([one_step(rng, c, where, np.tile(start, (size, 1))) for size in sizes])


def run(seed, c, where, replicas, at):
    """Rewards R - R* of every replica after the steps ``at``: a dict of arrays of shape (replicas,)."""
    rng = np.random.default_rng(seed)
    start = np.tile(-expand(where.offset, where), (replicas, 1))
    displacement, velocity, found = np.zeros_like(start), np.zeros_like(start), {}
    for t in range(1, max(at) + 1):
        update = one_step(rng, c, where, start + displacement)
        displacement, velocity = moved(c, displacement, velocity, update)
        if t in at:
            found[t] = -0.5 * (start + displacement) ** 2 @ expand(where.eigenvalue, where)
    return found


def within(samples, expected, relative):
    """Whether the sample mean is within ``relative`` of ``expected``, at a false-failure rate of 1e-6 at the edge."""
    samples = np.asarray(samples, dtype=np.float64)
    stderr = samples.std(ddof=1) / math.sqrt(samples.size)
    return bool(abs(samples.mean() - expected) < relative * abs(expected) + Z * stderr)


def std_within(samples, expected, relative):
    """The same for the standard deviation, through the spread of squared deviations."""
    samples = np.asarray(samples, dtype=np.float64)
    deviations = (samples - samples.mean()) ** 2 * samples.size / (samples.size - 1)
    return within(deviations, expected**2, 2 * relative)
