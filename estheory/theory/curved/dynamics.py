"""T steps on a quadratic reward: the mean curve of the reward, its peak, and when it reaches a target.

Mean-field: every direction's mean and variance are followed under the spread of rewards that the average over
directions has (docs/concepts/dynamics.md). The spread of a single run around the curve is in
:mod:`estheory.theory.curved.fluctuations`, the end state in :mod:`estheory.theory.curved.stationary`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.quantities import Label
from estheory.rules import ESConfig, require_count
from estheory.theory.curved.long_runs import MOST_SINGLE_STEPS, sparse_states
from estheory.theory.curved.recursion import states, step_rule

OURS = ours("dynamics")
DIVERGENCE_FACTOR = 1e6
"""The recursion has diverged when the gap is this many times what its start and an unchanged noise would make it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """The mean curve of a run.

    Attributes
    ----------
    reward
        E R_t - R* for t = 0..T, shape (T + 1,), reward units; shorter when the recursion diverged.
    member_std
        sqrt(V) at those steps, shape (T + 1,): S, or with two-point shaping the standard deviation of half a pair's
        difference.
    diverged_at
        The step at which the recursion was found to diverge, or None.
    steps
        The steps of both arrays where they are not 0..T: a run too long to be followed step by step.
    label
        ``exact`` for raw rewards and two-point shaping (whose moments close), else ``mean-field``.
    """

    reward: Array
    member_std: Array
    diverged_at: int | None
    label: Label
    steps: Array | None = None

    def at(self, step: int) -> float:
        """Return E R - R* after ``step`` steps.

        Parameters
        ----------
        step
            0 to T.

        Returns
        -------
        float
            <= 0, reward units.

        Raises
        ------
        ConfigError
            Beyond the curve, or from the step on at which it diverged.
        """
        require_count("step", step, 0)
        if self.diverged_at is not None and step >= self.diverged_at:
            raise ConfigError(f"the reward diverges at step {self.diverged_at}", "lower alpha, or raise the population")
        if self.steps is not None:
            found = np.flatnonzero(self.steps == step)
            if not found.size:
                raise ConfigError(f"step {step} is not among those that were followed", "ask for it")
            return float(self.reward[found[0]])
        if step >= self.reward.size:
            raise ConfigError(f"step {step} is beyond the {self.reward.size - 1} that were followed", "ask for more")
        return float(self.reward[step])

    @property
    def peak(self) -> tuple[int, float] | None:
        """Step and E R - R* of the highest point; None while the curve has not come down from it."""
        best = int(np.argmax(self.reward))
        # a plateau: the stationary state is approached from below, up to rounding
        if self.reward[best] - self.reward[-1] <= 1e-9 * abs(self.reward[best]):
            return None
        return best if self.steps is None else int(self.steps[best]), float(self.reward[best])

    def time_to(self, reward: float) -> int | None:
        """Return the first step at which E R - R* is at least ``reward``.

        Parameters
        ----------
        reward
            <= 0, reward units.

        Returns
        -------
        int or None
            None if it never is.
        """
        reached = np.flatnonzero(self.reward >= reward)
        if not reached.size:
            return None
        return int(reached[0]) if self.steps is None else int(self.steps[reached[0]])


def mean_field(
    config: ESConfig, landscape: Landscape, steps: int | None = None, checkpoints: Sequence[int] = ()
) -> Trajectory:
    """Return the mean curve of the reward over ``steps`` steps.

    q_k <- q_k - 2 a lam_k q_k + (alpha^2/N)(1 + 2 x_k (N-1)(N-2)/(N(N+1)) + (N-2) sigma^2 lam_k^2 q_k / S^2) for
    z-scores, with S^2 = sigma^2 sum_k lam_k^2 q_k + 1/2 sigma^4 tr Lam^2 + s^2. An L1 anchor by a Gaussian closure
    (:mod:`estheory.theory.anchor_l1`).

    Parameters
    ----------
    config
        Any shaping, anchor and momentum. Low-rank noise counts as Gaussian: good where an eigenvector is spread over
        many rows and columns. So does shared-seed noise: see :mod:`estheory.theory.shared_seed`.
    landscape
        Offsets are those of the start.
    steps
        T; ``config.steps`` when not given.
    checkpoints
        Steps that the curve must have even where the run is too long for all.

    Returns
    -------
    Trajectory
        With its label.

    Raises
    ------
    ConfigError
        If all members have the same reward.

    Notes
    -----
    Label: mean-field; exact for raw rewards and two-point shaping. Source: ours: docs/concepts/dynamics.md. Error
    O(1/N), and O(1/r) in the number r of directions that S is averaged over
    (:func:`estheory.theory.curved.fluctuations.reward_spread` gives its size).

    Examples
    --------
    >>> from estheory import ESConfig
    >>> from estheory.theory.curved.spectra import two_scale
    >>> curve = mean_field(ESConfig(dim=1005, sigma=0.01, alpha=0.01, population=30, steps=400), two_scale())
    >>> curve.peak[0], round(curve.at(20), 3), round(curve.at(400), 4)
    (125, -1.186, -0.013)
    """
    total = config.steps if steps is None else steps
    require_count("steps", total, 0)
    weight = -0.5 * landscape.multiplicity * landscape.eigenvalue
    if total > MOST_SINGLE_STEPS:
        seen = [
            (state.step, float(weight @ state.square), state.member_square)
            for state in sparse_states(config, landscape, [*checkpoints, total])
        ]
        at, curve, spread = (np.array(column, dtype=np.float64) for column in zip(*seen, strict=True))
        return Trajectory(reward=curve, member_std=np.sqrt(spread), diverged_at=None, label=_label(config), steps=at)
    reward, square = np.empty(total + 1), np.empty(total + 1)
    allowed = growth = 0.0
    diverged_at = None
    for state in states(config, landscape):
        t = state.step
        reward[t], square[t] = weight @ state.square, state.member_square
        if t == 1:
            growth = abs(reward[1] - reward[0]) + float(-weight @ state.variance)
        allowed = DIVERGENCE_FACTOR * (abs(reward[0]) + t * growth)
        if t > 1 and not abs(reward[t]) <= allowed:
            diverged_at = t
            reward, square = reward[:t], square[:t]
            break
        if t == total:
            break
    return Trajectory(
        reward=reward,
        member_std=np.sqrt(square),
        diverged_at=diverged_at,
        label=_label(config),
    )


def _label(config: ESConfig) -> Label:
    return "exact" if step_rule(config).fixed.scale_power and not config.anchor_l1 else "mean-field"


def coordinate_variance(config: ESConfig, eigenvalue: float, member_std: float, step: int) -> float:
    """Return the variance of a direction of constant S after ``step`` steps.

    f^2 (alpha^2/N)(1 - (1-m)^(2t)) / (1 - (1-m)^2) for z-scores, m = kappa + f a lam, a = alpha c sigma / S; kappa is
    that of an L2 anchor, f = 1 - kappa in its ``after`` form, else 1. An AR(1) process, in the limit of small m an
    Ornstein-Uhlenbeck one. m -> 0 is the walk, alpha^2 t / N.

    Parameters
    ----------
    config
        The run; its landscape does not enter.
    eigenvalue
        lam, reward / weight^2.
    member_std
        S, reward units.
    step
        t.

    Returns
    -------
    float
        weight^2.

    Raises
    ------
    ConfigError
        If m >= 2, where the direction diverges, or the configuration has momentum or an L1 anchor.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/dynamics.md. Good where S is constant (noise dominates the rewards) and
    x_k is small.
    """
    if config.momentum or config.anchor_l1:
        raise ConfigError("no closed form at constant S with momentum or an L1 anchor", "follow the recursion")
    rule = step_rule(config)
    now = rule.at(member_std**2)
    shrink = config.anchor_l2 + rule.fresh * now.rate * eigenvalue
    noise = rule.fresh**2 * now.noise
    if shrink >= 2:
        raise ConfigError(f"a lam = {shrink:.3g} >= 2: the direction diverges", "lower alpha")
    if shrink == 0:
        return noise * step
    if shrink < 1:  # no cancellation at small a lam
        log_keep = 2 * math.log1p(-shrink)
        return noise * math.expm1(step * log_keep) / math.expm1(log_keep)
    keep = (1 - shrink) ** 2
    return noise * (1 - keep**step) / (1 - keep)


def relaxation_time(config: ESConfig, eigenvalue: float, member_std: float) -> float:
    """Return the number of steps in which a direction forgets its start at constant S: 1/(kappa + f a lam).

    kappa and f of an L2 anchor as in :func:`coordinate_variance`; momentum does not change it where it is long.

    Parameters
    ----------
    config
        The run; its landscape does not enter.
    eigenvalue
        lam, reward / weight^2.
    member_std
        S, reward units.

    Returns
    -------
    float
        Steps; infinite when flat.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/dynamics.md.
    """
    rule = step_rule(config)
    shrink = config.anchor_l2 + rule.fresh * rule.rate(member_std**2) * eigenvalue
    return 1 / shrink if shrink else math.inf
