"""Evolution strategies with every coordinate simulated, from the definitions. numpy alone: nothing of the package.

The shaping rule stands here once more on purpose: an oracle that shares it with the theory sees no fault in it.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is simulated; names as in `estheory.ESConfig`, restated."""

    dim: int
    sigma: float
    alpha: float
    population: int
    shaping: str = "zscore"
    antithetic: bool = False
    noise: str = "gaussian"
    shapes: tuple = ()
    momentum: float = 0.0
    anchor_l2: float = 0.0
    anchor_l1: float = 0.0
    anchor_form: str = "before"
    reward: str = "noise"
    """noise, linear, quadratic or success."""
    gradient: np.ndarray | None = None
    curvature: np.ndarray | None = None
    optimum: np.ndarray | None = None
    reward_std: float = 1.0
    success: float = 0.5
    prompts: int = 1
    looks: tuple = field(default=(1,))
    dtype: str = "float32"
    update_path: str = "accumulated"
    weights: np.ndarray | None = None
    """Those at the start, where they are stored in a narrow format."""


def draws(run, members, replicas, rng):
    """Noise of some members, (replicas, members, dim)."""
    if run.noise == "gaussian":
        return rng.standard_normal((replicas, members, run.dim))
    parts, shared = [], {}
    for shape in run.shapes:
        count = int(np.prod(shape))
        if run.noise == "shared-seed":
            if count not in shared:
                shared[count] = rng.standard_normal((replicas, members, count))
            parts.append(shared[count])
        elif len(shape) < 2:
            parts.append(rng.standard_normal((replicas, members, count)))
        else:
            rank = int(run.noise.split(":")[1])
            left = rng.standard_normal((replicas, members, shape[0], rank))
            right = rng.standard_normal((replicas, members, count // shape[0], rank))
            parts.append((left @ right.swapaxes(-1, -2)).reshape(replicas, members, count) / np.sqrt(rank))
    return np.concatenate(parts, axis=-1)


def rewards(run, place, noise, rng):
    """Rewards of members at ``place`` + sigma ``noise``, (replicas, members)."""
    size = noise.shape[:2]
    if run.reward == "success":
        chance = run.success + (run.sigma * (noise @ run.gradient) if run.gradient is not None else np.zeros(size))
        return rng.binomial(run.prompts, np.clip(chance, 0, 1)) / run.prompts
    found = run.reward_std * rng.standard_normal(size)
    if run.reward == "linear":
        found += (place[:, None, :] + run.sigma * noise) @ run.gradient
    if run.reward == "quadratic":
        found -= 0.5 * (place[:, None, :] + run.sigma * noise - run.optimum) ** 2 @ run.curvature
    return found


def shaped(values, shaping, sigma):
    """Shaped rewards, (replicas, members); equal rewards share the mean of their ranks and z-scores of them are 0."""
    centred = values - values.mean(axis=1, keepdims=True)
    if shaping == "zscore":
        spread = values.std(axis=1, keepdims=True)
        moves = spread > 1e-12 * np.abs(values).max(axis=1, keepdims=True)
        return np.where(moves, centred / np.where(moves, spread, 1.0), 0.0)
    if shaping == "raw":
        return centred / sigma
    if shaping != "centered-rank":
        raise ValueError(shaping)
    below = (values[:, None, :] < values[:, :, None]).sum(axis=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    return (below + 0.5 * (equal - 1)) / (values.shape[1] - 1) - 0.5


def stored(values, dtype):
    """Values rounded to the nearest number of a narrow format, ties to even."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float64)
    bits = values.astype(np.float32).view(np.uint32)
    kept = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return kept.view(np.float32).astype(np.float64)


def rounded(run, replicas, rng):
    """Displacements by look of weights in a narrow format, and the displacements that were meant, of pure noise."""
    start = weights = np.tile(run.weights, (replicas, 1))
    meant, found, intended = np.zeros_like(start), {}, {}
    for step in range(1, max(run.looks) + 1):
        noise = rng.standard_normal((replicas, run.population, run.dim))
        z = shaped(rng.standard_normal((replicas, run.population)), run.shaping, run.sigma)
        terms = run.alpha / run.population * z[:, :, None] * noise
        meant = meant + terms.sum(axis=1)
        if run.update_path == "accumulated":
            weights = stored(weights + terms.sum(axis=1), run.dtype)
        else:
            for k in range(run.population):
                weights = stored(weights + terms[:, k], run.dtype)
        if step in run.looks or step == 1:
            found[step], intended[step] = weights - start, meant.copy()
    return found, intended, run.sigma * noise[:, 0]


def update(run, place, rng):
    """One update before momentum and anchor, and whether all rewards were equal."""
    replicas, n = place.shape[0], run.population
    if run.shaping == "two-point":
        noise = draws(run, n, replicas, rng)
        weights = (rewards(run, place, noise, rng) - rewards(run, place, -noise, rng)) / (2 * run.sigma)
        tied = np.zeros(replicas, dtype=bool)
    else:
        noise = draws(run, n // 2 if run.antithetic else n, replicas, rng)
        if run.antithetic:
            noise = np.concatenate([noise, -noise], axis=1)
        values = rewards(run, place, noise, rng)
        weights, tied = shaped(values, run.shaping, run.sigma), values.max(axis=1) == values.min(axis=1)
    return run.alpha / n * np.einsum("rn,rnd->rd", weights, noise), tied, noise[:, 0]


def simulate(run, replicas, rng):
    """Displacements by look, (replicas, dim); rewards by step; of the first step its ties, and one member's noise."""
    place, velocity, found = np.zeros((replicas, run.dim)), np.zeros((replicas, run.dim)), {}
    curve = []
    for step in range(1, max(run.looks) + 1):
        change, tied, member = update(run, place, rng)
        if step == 1:
            first_ties, first_member = tied, run.sigma * member
        velocity = run.momentum * velocity + (1 - run.momentum) * change
        if run.anchor_form == "before":
            place = place - run.anchor_l2 * place - run.anchor_l1 * np.sign(place) + velocity
        else:
            place = (1 - run.anchor_l2) * (place + velocity)
            place = np.sign(place) * np.maximum(np.abs(place) - run.anchor_l1, 0)
        if run.reward == "quadratic":
            curve.append(-0.5 * (place - run.optimum) ** 2 @ run.curvature)
        if step in run.looks or step == 1:
            found[step] = place.copy()
    return found, np.stack(curve, axis=1) if curve else None, first_ties, first_member


def adamw(replicas, dim, steps, lr, schedule, rng):
    """Norms of AdamW's displacement on independent Gaussian gradients, (replicas,)."""
    at = np.arange(steps) / steps
    rates = {"constant": np.ones(steps), "linear": 1 - at, "cosine": 0.5 * (1 + np.cos(np.pi * at))}[schedule]
    place, first, second = (np.zeros((replicas, dim)) for _ in range(3))
    for t, rate in enumerate(rates, start=1):
        gradient = rng.standard_normal((replicas, dim))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        place -= lr * rate * (first / (1 - 0.9**t)) / np.sqrt(second / (1 - 0.999**t))
    return np.linalg.norm(place, axis=1)
