"""Rewards by name, each a way in which the theory's assumptions may break: saturating, 0/1, heavy-tailed, cubic.

Each tells theory what a user would: the quadratic expansion of its mean at the start, and the spread of one evaluation.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import require_choice, require_count
from estheory.simulation.coordinates import curved_rows
from estheory.simulation.rewards import Reward, gaussian_outcome

REWARDS = {
    "quadratic": (),
    "sigmoid": ("start_accuracy", "best_accuracy"),
    "bernoulli": ("start_accuracy", "best_accuracy", "prompts"),
    "heavy-tail": ("noise_df",),
    "cubic": ("cubic",),
}
"""Names of rewards and of the parameters that each takes."""


def local_expansion(
    landscape: Landscape, *, slope: float, steepness: float, along: float, reward_std: float
) -> Landscape:
    """Return the landscape of gradient ``steepness`` g and curvature ``slope`` Lam + ``along`` g_hat g_hat'.

    Exact: the rank-one term mixes only the rows' offset directions, in which the matrix is diagonalised.

    `slope`, `steepness`, `along`: as above; ``slope`` and ``steepness`` > 0, ``along`` >= 0 (reward / weight^2).
    """
    if along == 0.0:
        eigenvalue, offset = landscape.eigenvalue * slope, landscape.offset * steepness / slope
        return replace(landscape, eigenvalue=eigenvalue, offset=offset, reward_std=reward_std)
    lam, count, offset = curved_rows(landscape)
    gradient = lam * offset * np.sqrt(count)
    pulled = gradient > 0
    unit = gradient[pulled] / np.linalg.norm(gradient)
    eigenvalue, vectors = np.linalg.eigh(np.diag(slope * lam[pulled]) + along * np.outer(unit, unit))
    component = np.abs(vectors.T @ gradient[pulled]) * steepness
    left = count - pulled
    rest = left > 0
    return replace(
        landscape,
        eigenvalue=np.concatenate([eigenvalue, slope * lam[rest]]),
        multiplicity=np.concatenate([np.ones(eigenvalue.size), left[rest]]),
        offset=np.concatenate([component / eigenvalue, np.zeros(int(rest.sum()))]),
        reward_std=reward_std,
    )


_UPWARD = (
    "the reward bends upward along its gradient at the start, which theory is not told: its landscapes are concave"
)


def _require_gap(landscape: Landscape, kind: str) -> float:
    if not landscape.gap > 0:
        raise ConfigError(f"a {kind} reward needs a start away from the optimum", "give a curved row an offset above 0")
    return landscape.gap


def sigmoid_reward(
    landscape: Landscape, *, start_accuracy: float = 0.5, best_accuracy: float = 0.95, prompts: int | None = None
) -> Reward:
    """Return an accuracy that saturates: its log-odds are linear in Q, from the start's to the optimum's.

    `landscape`: the quadratic; Gaussian noise of its ``reward_std`` is added unless there are prompts.
    `start_accuracy`, `best_accuracy`: at the start and at the optimum, 0 < start < best < 1.
    `prompts`: B: a member's reward is the share of B independent 0/1 outcomes of that probability, and nothing else.

    Examples
    --------
    >>> land = Landscape(dim=100, eigenvalue=[2.0], multiplicity=[1], offset=[1.0], reward_std=0.1)
    >>> reward = sigmoid_reward(land, start_accuracy=0.5, best_accuracy=0.9)
    >>> [round(float(p), 2) for p in reward.mean(np.array([-land.gap, 0.0]), np.zeros((2, 0)))]  # start, optimum
    [0.5, 0.9]
    """
    gap = _require_gap(landscape, "saturating")
    if not 0 < start_accuracy < best_accuracy < 1:
        raise ConfigError(
            f"start-accuracy {start_accuracy} and best-accuracy {best_accuracy} must be 0 < start < best < 1",
            "the defaults are 0.5 and 0.95",
        )
    low, high = (math.log(p / (1 - p)) for p in (start_accuracy, best_accuracy))
    rate = (high - low) / gap
    spread = start_accuracy * (1 - start_accuracy)
    reward_std, outcome = landscape.reward_std, gaussian_outcome(landscape.reward_std)
    if prompts is not None:
        require_count("prompts", prompts, 1)
        count = int(prompts)
        reward_std = math.sqrt(spread / count)

        def outcome(mean: Array, rng: np.random.Generator) -> Array:
            return rng.binomial(count, mean) / count

    bend = spread * (2 * start_accuracy - 1) * (rate * landscape.gradient_norm) ** 2
    told = local_expansion(
        landscape, slope=rate * spread, steepness=rate * spread, along=max(bend, 0.0), reward_std=reward_std
    )
    return Reward(
        mean=lambda quadratic, coordinates: 0.5 + 0.5 * np.tanh(0.5 * (high + rate * quadratic)),
        outcome=outcome,
        told=told,
        optimum=start_accuracy + told.gap,
        warnings=(_UPWARD,) if bend < 0 else (),
    )


def heavy_tail_reward(landscape: Landscape, *, noise_df: float = 3.0) -> Reward:
    """Return the quadratic under Student-t noise whose standard deviation is the landscape's ``reward_std``."""
    if not 2 < noise_df <= 1e6:
        raise ConfigError(f"noise-df must lie between 2 and 1e6, got {noise_df}", "at 2 or less there is no variance")
    if landscape.reward_std == 0:
        raise ConfigError("heavy-tailed noise of zero reward-std is no noise", "give a reward-std above 0")
    scale = landscape.reward_std * math.sqrt((noise_df - 2) / noise_df)
    return Reward(
        mean=lambda quadratic, coordinates: quadratic,
        outcome=lambda mean, rng: mean + scale * rng.standard_t(noise_df, mean.shape),
        told=landscape,
    )


def cubic_reward(landscape: Landscape, *, cubic: float = 0.5) -> Reward:
    """Return the quadratic with a cubic term along g_hat, the direction of its gradient at the start.

    The term is (gamma/6) (g_hat . (theta - theta*))^3, which at the start is -``cubic`` times R* - R: the gradient
    there is 1 + 1.5 ``cubic`` times the quadratic's.

    `cubic`: size of the term, between -2/3 and 1e6.
    """
    gap = _require_gap(landscape, "cubic")
    if not -2 / 3 < cubic <= 1e6:
        raise ConfigError(
            f"cubic must lie between -2/3 and 1e6, got {cubic}", "below, the start's gradient turns round"
        )
    lam, count, offset = curved_rows(landscape)
    unit = lam * offset * np.sqrt(count) / landscape.gradient_norm
    distance = 2 * gap / landscape.gradient_norm  # of the start along g_hat
    third = cubic * gap / distance**3
    along = 6 * third * distance
    told = local_expansion(
        landscape, slope=1.0, steepness=1 + 1.5 * cubic, along=max(along, 0.0), reward_std=landscape.reward_std
    )
    return Reward(
        mean=lambda quadratic, coordinates: quadratic + third * (coordinates @ unit) ** 3,
        outcome=gaussian_outcome(landscape.reward_std),
        told=told,
        optimum=told.gap - gap * (1 + cubic),
        explicit=True,
        warnings=(_UPWARD,) if along < 0 else (),
    )


def named_reward(kind: str, landscape: Landscape, **parameters: float) -> Reward | None:
    """Return the reward of a name.

    `parameters`: those that REWARDS lists for the kind; ``prompts`` of ``bernoulli`` are 16 when not given.
    """
    require_choice("reward", kind, tuple(REWARDS))
    for name in parameters:
        if name not in REWARDS[kind]:
            users = ", ".join(other for other, names in REWARDS.items() if name in names)
            raise ConfigError(f"--{name.replace('_', '-')} has no use with --reward {kind}", f"it is for {users}")
    if kind == "quadratic":
        return None
    if kind == "heavy-tail":
        return heavy_tail_reward(landscape, **parameters)
    if kind == "cubic":
        return cubic_reward(landscape, **parameters)
    if kind == "bernoulli":
        parameters.setdefault("prompts", 16)
    return sigmoid_reward(landscape, **parameters)  # type: ignore[arg-type]  # prompts is checked to be whole
