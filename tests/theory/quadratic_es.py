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
    eps = rng.standard_normal((replicas, c.population, r))
    rewards = -0.5 * (distance[:, None, :] + c.sigma * eps) ** 2 @ expand(where.eigenvalue, where)
    rewards += where.reward_std * rng.standard_normal(rewards.shape)
    weights = shape_rewards(rewards, c.shaping, c.sigma)
    return c.step_size / c.population * np.einsum("rn,rnk->rk", weights, eps)


def steps_from_start(seed, c, where, replicas, batch=10_000):
    """Updates of the first step, shape (replicas, r); positive is toward the optimum."""
    rng = np.random.default_rng(seed)
    start = -expand(where.offset, where)
    sizes = [min(batch, replicas - done) for done in range(0, replicas, batch)]
    return np.concatenate([one_step(rng, c, where, np.tile(start, (size, 1))) for size in sizes])


def run(seed, c, where, replicas, at):
    """Rewards R - R* of every replica after the steps ``at``: a dict of arrays of shape (replicas,)."""
    rng = np.random.default_rng(seed)
    distance, found = np.tile(-expand(where.offset, where), (replicas, 1)), {}
    for t in range(1, max(at) + 1):
        distance = distance + one_step(rng, c, where, distance)
        if t in at:
            found[t] = -0.5 * distance**2 @ expand(where.eigenvalue, where)
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
