"""What an ES run's own rewards say about its landscape, forward-only. Imports no torch.

With M_ti the mean reward of member i at step t over P prompts, which all members of a step share, the
variance of M between members is S^2. Whatever differs between prompts at random is noise of that mean; what
all prompts agree on is signal (linear, even, or anything else the perturbation does to every prompt alike),
so the reliability is an upper bound on the share of the linear part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estheory.errors import DataError


@dataclass(frozen=True, kw_only=True)
class RewardStatistics:
    """Spread and reliability of member rewards, pooled over steps.

    Attributes
    ----------
    reward_std, reward_std_stderr
        S, the standard deviation of a member's mean reward (reward).
    reliability, reliability_stderr
        rho^2, the share of S^2 that all prompts agree on (1). Not truncated to [0, 1]: truncating would bias
        it.
    noise_std
        s = S sqrt(1 - rho^2), the part from the choice of prompts; 0 where the estimate of rho^2 exceeds 1.
    """

    reward_std: float
    reward_std_stderr: float
    reliability: float
    reliability_stderr: float
    noise_std: float


@dataclass(frozen=True, kw_only=True)
class CurvatureTrace:
    """tr Lam from the smoothing gap.

    Attributes
    ----------
    value, stderr
        tr Lam and its standard error (reward / weight^2).
    gap
        R(theta) - mean member reward (reward).
    """

    value: float
    stderr: float
    gap: float


def reward_statistics(rewards: NDArray[np.float64]) -> RewardStatistics:
    """Return S and rho^2 from the rewards of every member on every prompt.

    `rewards`: shape (steps, N, P), reward of each member on each prompt; the prompts of a step are the same for all its
    members.
    Result: rho^2 is the mean split-half covariance over **all** halvings of the prompts divided by the variance of M,
    both pooled over steps (a ratio of means: one step at N = 30 is too noisy). For pooled halves that is the
    Spearman-Brown corrected correlation; the mean over all halvings is the mean covariance of two different prompts.
    Variances divide by N - 1. Standard errors: jackknife over members, steps as strata.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared, own = rng.standard_normal((5, 200, 1)), rng.standard_normal((5, 200, 9))
    >>> found = reward_statistics(shared + 3 * own)  # rho^2 = 1 / (1 + 9 / 9)
    >>> abs(found.reliability - 0.5) < 4 * found.reliability_stderr
    True
    """
    values = _finite(rewards, 3, "rewards")
    _, members, prompts = values.shape
    if members < 3 or prompts < 2:
        raise DataError(f"{members} members on {prompts} prompts are too few", "use at least 3 members, 2 prompts")
    centred = values - values.mean(axis=1, keepdims=True)
    squares = np.concatenate([centred, centred.sum(axis=2, keepdims=True)], axis=2) ** 2
    variances = squares.sum(axis=1) / (members - 1)
    without = ((members - 1) * variances[:, None] - members / (members - 1) * squares) / (members - 2)
    total, agreed = _variance_and_covariance(variances.mean(axis=0))
    if not total > 0:
        raise DataError("all members have the same reward", "use a larger sigma or a finer reward")
    pooled = variances.mean(axis=0) + (without - variances[:, None]) / len(variances)
    total_without, agreed_without = _variance_and_covariance(pooled)
    reliability = float(agreed / total)
    return RewardStatistics(
        reward_std=float(np.sqrt(total)),
        reward_std_stderr=_jackknife(np.sqrt(np.maximum(total_without, 0.0))),
        reliability=reliability,
        reliability_stderr=_jackknife(agreed_without / total_without),
        noise_std=float(np.sqrt(total * max(0.0, 1.0 - reliability))),
    )


def curvature_trace(centre: NDArray[np.float64], members: NDArray[np.float64], sigma: float) -> CurvatureTrace:
    """Return tr Lam = 2 (R(theta) - mean member reward) / sigma^2, exact for a quadratic reward.

    `members`: shape (N, P), rewards of independent members theta + sigma eps on the same prompts.
    Result: the standard error adds the spread between members and the spread of the gap between prompts; the part
    common to both is counted twice, so it errs on the large side.
    """
    centre, members = _finite(centre, 1, "centre"), _finite(members, 2, "members")
    if members.shape[1] != centre.size or min(members.shape) < 2 or not sigma > 0:
        what = f"centre {centre.shape}, members {members.shape} and sigma {sigma} do not go together"
        raise DataError(what, "give 2 or more members on the centre's own 2 or more prompts, and sigma > 0")
    gaps = centre - members.mean(axis=0)
    between = members.mean(axis=1).var(ddof=1) / len(members) + gaps.var(ddof=1) / gaps.size
    scale = 2.0 / sigma**2
    gap = float(gaps.mean())
    return CurvatureTrace(value=scale * gap, stderr=scale * float(np.sqrt(between)), gap=gap)


def _variance_and_covariance(
    variances: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of the mean over prompts, and mean covariance of two prompts.

    The last axis holds the variance of each of the P prompts and, last, of their sum.
    """
    prompts = variances.shape[-1] - 1
    total = variances[..., -1]
    return total / prompts**2, (total - variances[..., :-1].sum(axis=-1)) / (prompts * (prompts - 1))


def _jackknife(left_out: NDArray[np.float64]) -> float:
    """Return the standard error from leave-one-out values of shape (steps, N), strata first."""
    members = left_out.shape[1]
    spread = ((left_out - left_out.mean(axis=1, keepdims=True)) ** 2).sum()
    return float(np.sqrt((members - 1) / members * spread))


def _finite(values: NDArray[np.float64], axes: int, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes or not np.isfinite(array).all():
        raise DataError(f"{name} must be {axes}-dimensional and finite, not {array.shape}", "check the reward log")
    return array
