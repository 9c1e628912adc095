"""What one iteration's rewards of members on prompts hold: variance components (docs/concepts/economy.md).

R_ib = mu_b + t_i + e_ib: reward of member i (theta + sigma eps_i) on prompt b. t_i is the member's true effect, what a
fresh set of prompts would see too, of variance v; e_ib is everything else, of variance w. A member's mean over B
prompts has the variance S^2 = v + w/B.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.theory.economy.intervals import Interval, known, normal_interval, pooled, variance_interval

OURS = "ours: docs/concepts/economy.md"


@dataclass(frozen=True, kw_only=True, eq=False)
class Iteration:
    """Rewards of the members of one iteration.

    Attributes
    ----------
    rewards
        Shape (N, B), reward units: member i on prompt b, the same prompts for all.
    sigma
        Perturbation scale, weight units.
    mirrored
        Members 2k and 2k + 1 are theta + sigma eps_k and theta - sigma eps_k.
    centre
        Rewards of theta itself on the prompts, shape (B,); None where it was not evaluated.
    step
        Of the run; None outside one.

    Raises
    ------
    DataError
        Naming row and column of what is unusable.
    """

    rewards: Array
    sigma: float
    mirrored: bool = False
    centre: Array | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        """Check the matrix and the centre."""
        require_matrix(self.rewards)
        members, prompts = self.rewards.shape
        if self.mirrored and (members % 2 or members < 4):
            raise DataError(
                f"{members} rows are no mirrored pairs (row {members} has no partner)"
                if members % 2
                else f"{members} rows are one mirrored pair: it has no spread",
                "give an even number of rows, of at least 4",
            )
        if self.centre is not None and (self.centre.shape != (prompts,) or not np.isfinite(self.centre).all()):
            raise DataError(
                f"the centre has {self.centre.size} rewards for {prompts} columns"
                if self.centre.size != prompts
                else f"the centre's reward of column {1 + int(np.argmin(np.isfinite(self.centre)))} is no number",
                "give its reward on each prompt",
            )


def require_matrix(rewards: Array) -> None:
    """Refuse rewards that hold no variance component, naming row and column.

    Parameters
    ----------
    rewards
        Shape (N, B) asked for, reward units.

    Raises
    ------
    DataError
        No matrix, one member, one prompt, a number that is none, all equal, or a member on another scale.
    """
    if rewards.ndim != 2:
        raise DataError(f"the rewards have {rewards.ndim} axes, not members by prompts", "give a matrix")
    members, prompts = rewards.shape
    if members < 2 or prompts < 2:
        what = "1 row has no spread between members" if members < 2 else "1 column cannot tell effect from noise"
        raise DataError(f"{what} ({members} rows, {prompts} columns)", "give 2 or more members on 2 or more prompts")
    bad = np.argwhere(~np.isfinite(rewards))
    if bad.size:
        row, column = bad[0] + 1
        raise DataError(f"row {row}, column {column} is no finite number", "correct it, or leave the prompt out")
    if np.ptp(rewards) == 0:
        value = rewards[0, 0]
        raise DataError(
            f"all rewards are equal (row 1, column 1 to row {members}, column {prompts} are {value:g})",
            "use other prompts, a finer reward or a larger sigma",
        )
    alone = _other_scale(rewards)
    if alone is not None:
        column = int(np.argmax(np.abs(rewards[alone])))
        raise DataError(
            f"row {alone + 1} is on another scale than the others (column {column + 1} is {rewards[alone, column]:g})",
            "give all members' rewards on one scale",
        )


_FEW = 10
_FAR = 8.0


def _other_scale(rewards: Array) -> int | None:
    """Return a member whose rewards are on a scale of their own; None where there is none.

    Of rewards with few values: one whose values, but 0, no other member has. Of many: one whose spread around the
    prompts' medians is 8 times that of the median member, with 8 prompts or more.
    """
    members, prompts = rewards.shape
    if members < 3:
        return None
    values, codes = np.unique(rewards, return_inverse=True)
    if values.size <= 2 * _FEW:
        has = np.zeros((members, values.size), dtype=bool)
        has[np.arange(members)[:, None], codes.reshape(rewards.shape)] = True
        alone = has.sum(axis=0) == 1
        others = has.any(axis=0) & ~alone & (values != 0)
        for row in np.flatnonzero((has & alone).any(axis=1)):
            own = has[row] & (values != 0)
            if own.sum() and not (own & ~alone).any() and others.any() and (rewards[row] != 0).sum() >= 3:
                return int(row)
        return None
    if prompts < 8:
        return None
    spread = np.sqrt(np.mean((rewards - np.median(rewards, axis=0)) ** 2, axis=1))
    usual = np.median(spread)
    widest = int(np.argmax(spread))
    return widest if usual > 0 and spread[widest] > _FAR * usual else None


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
        Error of the true variance that comes from the choice of prompts; its value is 0.
    """

    seen: Interval
    noise: Interval
    prompts: Interval

    @property
    def parts(self) -> tuple[Interval, Interval, Interval]:
        """The three, in this order."""
        return self.seen, self.noise, self.prompts

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
            return cls(seen=interval, noise=known(0.0), prompts=known(0.0))
        along = values.T @ means / df  # covariance of each prompt's effects with the means
        scatter = float(along.var(ddof=1)) - noise * prompts * seen / df
        error = 2 * math.sqrt(max(scatter, 0.0) / prompts)
        return cls(
            seen=interval,
            noise=variance_interval(noise, noise * math.sqrt(2 / (df * (prompts - 1)))),
            prompts=normal_interval(0.0, error, prompts - 1),
        )


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


class Members(ABC):
    """Iterations at one sigma, pooled: what their rewards hold, as functions of independent estimates.

    Every method takes the values of ``parts`` as a vector, so that an interval moves each part by its own error
    (:func:`estheory.theory.economy.intervals.recovered`).

    Attributes
    ----------
    sigma
        Perturbation scale, weight units.
    members, prompts
        N and B of one iteration.
    fixed
        Whether gains are about these very prompts.
    parts
        The components' parts, then the smoothing gap where a centre was evaluated.
    mirrored
        Whether the odd part is known.

    Parameters
    ----------
    iterations
        At least one, all of one kind.
    fixed
        As the attribute.
    """

    mirrored: bool

    def __init__(self, iterations: Sequence[Iteration], *, fixed: bool = False) -> None:
        """Estimate the parts; members and prompts are those of the first iteration."""
        self.members: int = iterations[0].rewards.shape[0]
        self.prompts: int = iterations[0].rewards.shape[1]
        self.sigma = iterations[0].sigma
        self.fixed = fixed
        each = [self._components(iteration.rewards) for iteration in iterations]
        found: list[Interval] = []
        for same in zip(*each, strict=True):
            found += [
                pooled([c.seen for c in same], variance_interval),
                pooled([c.noise for c in same], variance_interval),
            ]
            found.append(pooled([c.prompts for c in same], self._normal))
        gaps = [self._gap(iteration) for iteration in iterations if iteration.centre is not None]
        self.gap = pooled(gaps, self._normal) if gaps else None
        self.parts = (*found, *([self.gap] if self.gap else []))

    def _normal(self, value: float, stderr: float) -> Interval:
        return normal_interval(value, stderr, min(self._df, self.prompts - 1))

    def _gap(self, iteration: Iteration) -> Interval:
        assert iteration.centre is not None
        return self._normal(
            *smoothing_gap(iteration.rewards, iteration.centre, mirrored=self.mirrored, fixed=self.fixed)
        )

    @cached_property
    @abstractmethod
    def _df(self) -> int:
        """Degrees of freedom between members."""

    @abstractmethod
    def _components(self, rewards: Array) -> list[Component]:
        """Return the components of one iteration."""

    @abstractmethod
    def seen(self, x: Array) -> float:
        """Return S^2 at the B of the data.

        Parameters
        ----------
        x
            Values of ``parts``.

        Returns
        -------
        float
            reward^2.

        Notes
        -----
        Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
        """

    @abstractmethod
    def noise(self, x: Array) -> float:
        """Return w/B at the B of the data. Parameters and result as of :meth:`Members.seen`.

        Notes
        -----
        Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
        """

    @abstractmethod
    def signal(self, x: Array) -> float:
        """Return the variance that can move an update: the odd part, or all where it is not known apart.

        Parameters and result as of :meth:`Members.seen`.

        Notes
        -----
        Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
        """

    def true(self, x: Array) -> float:
        """Return v, the variance of the members' true effects. Parameters and result as of :meth:`Members.seen`.

        Notes
        -----
        Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
        """
        return self.seen(x) - self.noise(x)

    def share(self, part: float, x: Array) -> float:
        """Return a part of S^2 over all of it.

        Parameters
        ----------
        part
            reward^2.
        x
            Values of ``parts``.

        Returns
        -------
        float
            NaN where no member differs from another.

        Notes
        -----
        Label: exact, a ratio. Source: ours: docs/concepts/economy.md.
        """
        seen = self.seen(x)
        return part / seen if seen > 0 else math.nan

    def gap_of(self, x: Array) -> float:
        """Return the smoothing gap, NaN without a centre. Parameters and result as of :meth:`Members.seen`.

        Notes
        -----
        Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
        """
        return float(x[-1]) if self.gap else math.nan


class IndependentMembers(Members):
    """Members of independent noise: the odd part of their effects is not known apart from the even one."""

    mirrored = False

    @cached_property
    def _df(self) -> int:
        return self.members - 1

    def _components(self, rewards: Array) -> list[Component]:
        return [Component.of(rewards, centred=True, fixed=self.fixed)]

    def seen(self, x: Array) -> float:
        """Return S^2 from the components."""
        return float(x[0] + x[2])

    def noise(self, x: Array) -> float:
        """Return w/B from the components."""
        return float(x[1])

    def signal(self, x: Array) -> float:
        """Return all of v: how much of it is odd is not known."""
        return self.true(x)


class MirroredMembers(Members):
    """Mirrored pairs: half differences hold the odd part of the effects, half sums the even one."""

    mirrored = True

    @cached_property
    def _df(self) -> int:
        return self.members // 2 - 1

    def _components(self, rewards: Array) -> list[Component]:
        plus, minus = rewards[0::2], rewards[1::2]
        return [
            Component.of((plus - minus) / 2, centred=False, fixed=self.fixed),
            Component.of((plus + minus) / 2, centred=True, fixed=self.fixed),
        ]

    def seen(self, x: Array) -> float:
        """Return S^2 from the components."""
        return float(x[0] + x[2] + x[3] + x[5])

    def noise(self, x: Array) -> float:
        """Return w/B from the components."""
        return float(x[1] + x[4])

    def signal(self, x: Array) -> float:
        """Return the odd part of v."""
        return float(x[0] + x[2] - x[1])

    def even(self, x: Array) -> float:
        """Return the variance of the even part, which no update follows.

        Parameters and result as of :meth:`Members.seen`.

        Notes
        -----
        Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
        """
        return float(x[3] + x[5] - x[4])


def members_of(iterations: Sequence[Iteration], *, fixed: bool = False) -> Members:
    """Return the pooled members of iterations at one sigma: mirrored ones alone where there are any.

    Parameters
    ----------
    iterations
        At least one, all at one sigma.
    fixed
        Gains are about these very prompts, not fresh ones.

    Returns
    -------
    Members

    Notes
    -----
    Label: exact, in the mean. Source: ours: docs/concepts/economy.md.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> effects, noise = rng.standard_normal((400, 1)), rng.standard_normal((400, 50))
    >>> found = members_of([Iteration(rewards=effects + noise, sigma=1e-3)])
    >>> x = np.array([part.value for part in found.parts])
    >>> abs(found.true(x) - 1) < 0.2
    True
    """
    mirrored = [iteration for iteration in iterations if iteration.mirrored]
    kind = MirroredMembers if mirrored else IndependentMembers
    return kind(mirrored or iterations, fixed=fixed)
