"""Iterations at one sigma, pooled: what their members' rewards hold (docs/concepts/economy.md)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

from estheory._special import Array
from estheory.theory.economy.intervals import Interval, normal_interval, pooled, square_interval, variance_interval
from estheory.theory.economy.iteration import Iteration
from estheory.theory.economy.variance_components import Component, noise_of_prompts, smoothing_gap


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
        Of each component the variance seen, the noise, and what the choice of prompts adds to the true variance; what
        that choice adds to the noise; and the smoothing gap where a centre was evaluated.
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
            seen = pooled([c.seen for c in same], variance_interval)
            noise = pooled([c.noise for c in same], variance_interval)
            chosen = _of_mean([c.prompts for c in same])
            found += [seen, noise, square_interval(seen.value - noise.value, chosen, self.prompts - 1)]
        unlike = 0.0 if fixed else _of_mean([noise_of_prompts(iteration.rewards) for iteration in iterations])
        found.append(normal_interval(0.0, unlike, self.prompts - 1))
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
        return float(x[0] + x[2] + x[3])

    def noise(self, x: Array) -> float:
        """Return w/B from the components."""
        return float(x[1] + x[3])

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
        return float(x[0] + x[2] + x[3] + x[5] + x[6])

    def noise(self, x: Array) -> float:
        """Return w/B from the components."""
        return float(x[1] + x[4] + x[6])

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


def _of_mean(errors: Sequence[float]) -> float:
    """Return the standard error of a mean of independent estimates of these standard errors, in their unit."""
    return math.hypot(*errors) / len(errors)


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
    >>> import numpy as np
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
