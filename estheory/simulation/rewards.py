"""Rewards beyond the quadratic: where the theory's assumptions may break.

Both engines know of every member its value Q of the quadratic, R - R* at its perturbed parameters, and on request its
coordinates along the explicit directions: one a curved row of the landscape, along the row's offset (all of a row of
multiplicity 1). A reward is any function of these, and any law of one evaluation around it: saturating accuracy,
0/1 outcomes of a batch of prompts, heavy-tailed noise, a cubic term, or a callable.

A reward carries what a user would tell theory of it: gradient and curvature of its mean at the start, and the spread
of one evaluation there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.rules import ESConfig, require_choice, require_count
from estheory.simulation.members import is_paired

MeanReward = Callable[[Array, Array], Array]
"""Expected reward of (Q, coordinates), shapes (..., n) and (..., n, r) to (..., n)."""
Outcome = Callable[[Array, np.random.Generator], Array]
"""One evaluation of each of an array of expected rewards."""

REWARDS = {
    "quadratic": (),
    "sigmoid": ("start_accuracy", "best_accuracy"),
    "bernoulli": ("start_accuracy", "best_accuracy", "prompts"),
    "heavy-tail": ("noise_df",),
    "cubic": ("cubic",),
}
"""Names of rewards and of the parameters that each takes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reward:
    """A reward on a landscape.

    Attributes
    ----------
    mean
        Expected reward, from the quadratic's value Q = R - R* and the explicit coordinates theta - theta*.
    outcome
        One evaluation of it, everything random but the perturbation.
    told
        What theory is told: the quadratic expansion of ``mean`` at the start, and s there.
    optimum
        ``mean`` at the optimum of ``told``; rewards are reported as their difference to it.
    explicit
        Whether ``mean`` needs the coordinates (otherwise their last axis is empty).
    warnings
        What ``told`` leaves out.
    """

    mean: MeanReward
    outcome: Outcome
    told: Landscape
    optimum: float = 0.0
    explicit: bool = False
    warnings: tuple[str, ...] = ()


def evaluation(
    reward: Reward, config: ESConfig, quadratic: Array, position: Array, shift: Array, rng: np.random.Generator
) -> Callable[[Array], Array]:
    """Return the function from the members' varying parts of Q, shape (replicas, members), to their rewards.

    Parameters
    ----------
    reward, config
        What is evaluated; paired members are theta + sigma eps, then theta - sigma eps.
    quadratic, position
        Q and the explicit coordinates at the centre, shapes (replicas,) and (replicas, r).
    shift
        Explicit coordinates of eps, shape (replicas, draws, r).
    rng
        Source of the outcomes.
    """
    moved = config.sigma * shift
    coordinates = position[:, None] + (np.concatenate([moved, -moved], axis=1) if is_paired(config) else moved)
    return lambda varying: reward.outcome(reward.mean(quadratic[:, None] + varying, coordinates), rng)


def curved_rows(landscape: Landscape) -> tuple[Array, Array, Array]:
    """Return eigenvalue, multiplicity and offset of the rows that have curvature."""
    curved = (landscape.eigenvalue > 0) & (landscape.multiplicity > 0)
    return landscape.eigenvalue[curved], landscape.multiplicity[curved], landscape.offset[curved]


def with_explicit_rows(landscape: Landscape) -> Landscape:
    """Return the same landscape, rotated so that the offset of each curved row is one direction; those come first."""
    lam, count, offset = curved_rows(landscape)
    if lam.size == 0:
        return landscape
    more = count > 1
    return replace(
        landscape,
        eigenvalue=np.concatenate([lam, lam[more]]),
        multiplicity=np.concatenate([np.ones(lam.size), count[more] - 1]),
        offset=np.concatenate([offset * np.sqrt(count), np.zeros(int(more.sum()))]),
    )


def gaussian_outcome(std: float) -> Outcome:
    """Return Gaussian reward noise of standard deviation ``std``."""
    return lambda mean, rng: mean + std * rng.standard_normal(mean.shape) if std else mean


def explicit_reward(
    landscape: Landscape, mean: Callable[[Array], Array], *, optimum: float = 0.0, outcome: Outcome | None = None
) -> Reward:
    """Return an arbitrary reward of r explicit coordinates; whatever ``landscape`` leaves out is flat.

    Parameters
    ----------
    landscape
        Its curved rows are the coordinates (multiplicity 1: the coordinate itself; more: along the row's offset), and
        it is what theory is told.
    mean
        From theta - theta*, shape (replicas, members, r), to expected rewards, (replicas, members). The start is
        at minus the offsets.
    optimum
        Subtracted from the rewards that are reported.
    outcome
        Law of one evaluation; Gaussian noise of the landscape's ``reward_std`` when not given.

    Examples
    --------
    >>> land = Landscape(dim=10**9, eigenvalue=[2.0], multiplicity=[1], offset=[1.0], reward_std=0.1)
    >>> cosine = explicit_reward(land, lambda x: np.cos(x[..., 0]), optimum=1.0)
    >>> float(cosine.mean(np.zeros(1), np.zeros((1, 1)))[0])
    1.0
    """
    return Reward(
        mean=lambda quadratic, coordinates: mean(coordinates),
        outcome=outcome or gaussian_outcome(landscape.reward_std),
        told=landscape,
        optimum=optimum,
        explicit=True,
    )


def local_expansion(
    landscape: Landscape, *, slope: float, steepness: float, along: float, reward_std: float
) -> Landscape:
    """Return the landscape of gradient ``steepness`` g and curvature ``slope`` Lam + ``along`` g_hat g_hat'.

    Exact: the rank-one term mixes only the rows' offset directions, in which the matrix is diagonalised.

    Parameters
    ----------
    landscape
        Of g, Lam and g_hat.
    slope, steepness, along
        As above; ``slope`` and ``steepness`` > 0, ``along`` >= 0 (reward / weight^2).
    reward_std
        s of the result.
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

    ConfigError unless 0 < ``start_accuracy`` < ``best_accuracy`` < 1 and the start is off the optimum.

    Parameters
    ----------
    landscape
        The quadratic; Gaussian noise of its ``reward_std`` is added unless there are prompts.
    start_accuracy, best_accuracy
        At the start and at the optimum, 0 < start < best < 1.
    prompts
        B: a member's reward is the share of B independent 0/1 outcomes of that probability, and nothing else.
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
    """Return the quadratic under Student-t noise of ``noise_df`` > 2 degrees of freedom and std ``reward_std``.

    ConfigError for other ``noise_df``, and without noise.
    """
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

    ConfigError unless ``cubic`` lies between -2/3 and 1e6 and the start is off the optimum.

    The term is (gamma/6) (g_hat . (theta - theta*))^3, which at the start is -``cubic`` times R* - R: the gradient
    there is 1 + 1.5 ``cubic`` times the quadratic's. ``cubic`` > -2/3.
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
    """Return the reward of a name in REWARDS, None for the quadratic itself, which needs none.

    Raises
    ------
    ConfigError
        For an unknown name, or a parameter that this kind does not take.
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
