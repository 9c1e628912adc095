"""What one iteration's rewards of members on prompts hold: variance components (docs/concepts/economy.md).

R_ib = mu_b + t_i + e_ib: reward of member i (theta + sigma eps_i) on prompt b. t_i is the member's true effect, what a
fresh set of prompts would see too, of variance v; e_ib is everything else, of variance w. A member's mean over B
prompts has the variance S^2 = v + w/B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.theory.economy.intervals import Interval, known, variance_interval

OURS = ours("economy")


@dataclass(frozen=True, kw_only=True)
class Component:
    """One variance component of a set of members' rewards: of all, of the half differences, or of the half sums.

    Attributes
    ----------
    seen
        Variance between members of their means over the prompts, reward^2.
    noise
        The part of ``seen`` that comes from the prompts at hand, w/B; 0 for a fixed set of prompts.
    prompts
        Standard error of the true variance that comes from the choice of prompts, reward^2.
    """

    seen: Interval
    noise: Interval
    prompts: float

    @classmethod
    def of(cls, effects: Array, *, centred: bool, fixed: bool) -> Self:
        """Return the component of effects of shape (n, B).

        Parameters
        ----------
        effects
            Rewards, half differences or half sums, reward units.
        centred
            Whether their mean is unknown; half differences have mean 0 by the symmetry of the noise.
        fixed
            Whether a gain is about these very prompts, whose rewards hold no other noise.

        Returns
        -------
        Component

        Notes
        -----
        Label: exact in the mean (``seen`` - ``noise`` is unbiased for v). Source: ours: docs/concepts/economy.md.
        """
        n, prompts = effects.shape
        df = n - 1 if centred else n
        seen, noise, means, values = seen_and_noise(effects, centred=centred, fixed=fixed)
        spread = _variance_stderr(means, centred=centred)
        interval = variance_interval(seen, max(spread, seen * math.sqrt(2 / df)))
        if fixed:
            return cls(seen=interval, noise=known(0.0), prompts=0.0)
        with_others, _ = _by_prompt(values, df)
        scatter = float(with_others.var(ddof=1)) - noise * prompts * seen / df  # less what members' noise makes of it
        return cls(
            seen=interval,
            noise=variance_interval(noise, noise * math.sqrt(2 / (df * (prompts - 1)))),
            prompts=2 * math.sqrt(max(scatter, 0.0) / prompts),
        )


def _by_prompt(values: Array, df: int) -> tuple[Array, Array]:
    """Return each prompt's covariance with the mean of the other prompts, and its own variance, (B,), reward^2.

    The true variance is the mean of the covariances. A prompt's own noise enters its variance alone.
    """
    prompts = values.shape[1]
    own = np.asarray(np.square(values).sum(axis=0)) / df
    return (prompts * (values.T @ values.mean(axis=1)) / df - own) / (prompts - 1), own


def noise_of_prompts(rewards: Array) -> float:
    """Return the standard error of w/B that comes from the choice of prompts, some of which are noisier than others.

    Noisy prompts are often those that also have larger effects; the error then counts what the two have in common, so
    that with that of v it makes the error of S^2.

    Parameters
    ----------
    rewards
        Shape (N, B), reward units.

    Returns
    -------
    float
        reward^2.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/economy.md.
    """
    members, prompts = rewards.shape
    with_others, own = _by_prompt(rewards - rewards.mean(axis=0), members - 1)
    both = np.cov(with_others, own / prompts)
    return math.sqrt((4 * max(float(both[0, 1]), 0.0) + float(both[1, 1])) / prompts)


def seen_and_noise(effects: Array, *, centred: bool, fixed: bool) -> tuple[float, float, Array, Array]:
    """Return the variance of members' means over the prompts, and the part of it that is noise.

    Parameters
    ----------
    effects
        Shape (n, B), reward units.
    centred, fixed
        As of :meth:`Component.of`.

    Returns
    -------
    seen, noise : float
        reward^2.
    means : ndarray
        Shape (n,), about their mean if ``centred``.
    values : ndarray
        Shape (n, B), the same by prompt.

    Notes
    -----
    Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
    """
    n, prompts = effects.shape
    values = effects - effects.mean(axis=0) if centred else effects
    means = values.mean(axis=1)
    df = n - 1 if centred else n
    seen = float(means @ means) / df
    if fixed:
        return seen, 0.0, means, values
    # the residual's square is that of the values less that of their means
    residual = max(float(np.vdot(values, values)) - prompts * float(means @ means), 0.0)
    return seen, residual / (df * (prompts - 1) * prompts), means, values


def smoothing_gap(rewards: Array, centre: Array, *, mirrored: bool, fixed: bool) -> tuple[float, float]:
    """Return R(theta) minus the members' mean and its standard error: prompts and members both count.

    The centre is one draw: its noise is at least what members scatter by on a prompt, even where rare successes leave
    the differences themselves without scatter.

    Parameters
    ----------
    rewards
        Shape (N, B), pairs side by side if ``mirrored``; reward units.
    centre
        Shape (B,).
    mirrored, fixed
        As of :class:`Iteration` and :class:`Members`.

    Returns
    -------
    gap, stderr : float
        Reward units.

    Notes
    -----
    Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
    """
    gaps = centre - rewards.mean(axis=0)
    effects = (rewards[0::2] + rewards[1::2]) / 2 if mirrored else rewards
    seen, noise, _, _ = seen_and_noise(effects, centred=True, fixed=fixed)
    square = max(seen - noise, 0.0) / len(effects)
    if not fixed:
        one_draw = float(rewards.var(axis=0, ddof=1).mean())
        square += max(float(gaps.var(ddof=1)), one_draw) / gaps.size
    return float(gaps.mean()), math.sqrt(square)


def _variance_stderr(means: Array, *, centred: bool) -> float:
    """Return the jackknife standard error of a variance between members, reward^2."""
    n, squares = means.size, means**2
    if not centred:
        return float(squares.std(ddof=1)) / math.sqrt(n)
    if n < 3:
        return 0.0
    without = -n / (n - 1) * squares / (n - 2)  # plus what all have in common
    return math.sqrt((n - 1) * float(without.var()))
