"""Statistical assertions with a stated false-failure rate, and the brute force they are made on.

``Z`` is the two-sided normal bound at 1e-6: a true formula fails a test with that chance over seeds, and with fixed
seeds either never or always. Every use comes with a negative control: the same test on a deliberately wrong formula
must fail, so that passing means something.
"""

import math

import numpy as np

Z = 4.8916  # normal quantile at 1 - 0.5e-6


def z_score(samples, expected):
    """Standardised difference of the sample mean from ``expected``."""
    samples = np.asarray(samples, dtype=np.float64)
    return (samples.mean() - expected) / (samples.std(ddof=1) / math.sqrt(samples.size))


def agrees(samples, expected):
    """Whether the sample mean is within Z standard errors of ``expected``."""
    return bool(abs(z_score(samples, expected)) < Z)


def variance_agrees(samples, expected):
    """Whether the sample variance is within Z standard errors of ``expected``, by the spread of squared deviations."""
    samples = np.asarray(samples, dtype=np.float64)
    return agrees((samples - samples.mean()) ** 2 * samples.size / (samples.size - 1), expected)


def ks_agrees(samples, cdf):
    """Whether a Kolmogorov-Smirnov test at level 1e-6 accepts the samples."""
    from scipy.stats import kstest

    # the distribution at a thousand of the samples, and a straight line between neighbours: off by their 0.001 at most
    ordered = np.sort(np.ravel(samples))
    grid = ordered[np.linspace(0, ordered.size - 1, 1001).astype(int)]
    below = np.vectorize(cdf, otypes=[float])(grid)
    return bool(kstest(ordered, lambda x: np.interp(x, grid, below)).pvalue > 1e-6)


def shape_rewards(rewards, shaping, sigma):
    """Shaped rewards along axis 1, (replicas, N), written from the definitions."""
    if shaping == "zscore":
        return (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
    if shaping == "centered-rank":
        from scipy.stats import rankdata

        return (rankdata(rewards, axis=1) - 1) / (rewards.shape[1] - 1) - 0.5
    if shaping == "raw":
        return (rewards - rewards.mean(1, keepdims=True)) / sigma
    raise AssertionError(shaping)


def brute_force_steps(
    rng,
    *,
    replicas,
    dim,
    population,
    sigma,
    alpha,
    steps=1,
    shaping="zscore",
    antithetic=False,
    slope=0.0,
    noise=1.0,
    reward=None,
    noise_draw=None,
):
    """Per-step updates of ES in every coordinate, (steps, replicas, dim), for a reward of the first coordinate.

    The reward is ``slope`` x_1 plus Gaussian noise, or ``reward(x_1, rng)``; ``noise_draw`` replaces the Gaussian eps.
    The reward does not depend on theta (a linear reward's signal does not), so steps are independent.
    """
    updates = np.empty((steps, replicas, dim))
    for t in range(steps):
        pairs = antithetic or shaping == "two-point"
        count = population // 2 if antithetic else population
        eps = noise_draw(rng, (replicas, count, dim)) if noise_draw else rng.standard_normal((replicas, count, dim))
        full = np.concatenate([eps, -eps], axis=1) if pairs else eps
        x = sigma * full[:, :, 0]
        rewards = reward(x, rng) if reward else slope * x + noise * rng.standard_normal(x.shape)
        if shaping == "two-point":
            weights = (rewards[:, :count] - rewards[:, count:]) / (2 * sigma)
            updates[t] = alpha / count * np.einsum("rn,rnd->rd", weights, eps)
        else:
            weights = shape_rewards(rewards, shaping, sigma)
            updates[t] = alpha / population * np.einsum("rn,rnd->rd", weights, full)
    return updates
