"""Runs of ES on a quadratic in every coordinate: the oracle of ledgers and forecasts; uses nothing of the package."""

import math

import numpy as np


def es_run(
    rng, *, steps, members=16, prompts=32, dim=120, sigma=0.1, alpha=0.05, curvature=0.8, gradient=1.0, spread=2.0,
    noise=0.3, mirrored=True, permuted=False,
):  # fmt: skip
    """Rows (member rewards by prompt, centre's, coefficients, rewards of mirrored partners) and the centre's rewards.

    R(theta) = -curvature/2 |theta - theta*|^2, prompts with gradients of their own; returns R at 0, 1, ..., steps.
    """
    theta, best = np.zeros(dim), np.zeros(dim)
    best[0] = gradient / curvature

    def value(points):
        return -0.5 * curvature * ((points - best) ** 2).sum(axis=-1)

    rows, path = [], [value(theta)]
    for _ in range(steps):
        own = spread * rng.standard_normal((prompts, dim)) / math.sqrt(dim)
        level = rng.standard_normal(prompts)
        eps = rng.standard_normal((members // 2 if mirrored else members, dim))
        if mirrored:
            eps = np.stack([eps, -eps], axis=1).reshape(members, dim)

        def scored(perturbation, own=own, level=level, theta=theta):
            effect = value(theta + perturbation)[:, None] + perturbation @ own.T
            return effect + level + noise * rng.standard_normal(effect.shape)

        rewards, partners = scored(sigma * eps), scored(-sigma * eps)
        centre = value(theta) + level + noise * rng.standard_normal(prompts)
        means = rewards.mean(axis=1)
        z = (means - means.mean()) / means.std()
        if permuted:
            z = z[rng.permutation(members)]
        rows.append((rewards, centre, z, partners))
        theta = theta + alpha / members * z @ eps
        path.append(value(theta))
    return rows, np.array(path)
