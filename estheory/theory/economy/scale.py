"""The members of one sigma and the update planned with them: what it would gain and cost, with intervals.

Everything is measured from rewards of members on prompts (docs/concepts/economy.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from estheory._special import Array
from estheory.landscape import Signal, linear_signal
from estheory.quantities import Label, Quantity
from estheory.rules import ESConfig, Shaping, require_count, require_positive
from estheory.theory.economy.intervals import Interval, recovered
from estheory.theory.economy.iteration import Iteration
from estheory.theory.economy.pooled_members import Members, MirroredMembers, members_of
from estheory.theory.economy.update import best_split, best_step, largest_measured_alpha, update_cost, update_gain
from estheory.theory.economy.variance_components import OURS
from estheory.theory.estimators import estimator_of


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """The run that a pilot is for; what is left out is as in the pilot.

    Attributes
    ----------
    alpha
        Step size, weight units; sigma / 2 where left out.
    population, prompts
        N and B of each update.
    steps
        T; None where the length is open.
    dim
        Number of parameters; None where the norm is not asked for.
    shaping
        Of the rewards.
    rollouts
        N B of an update that may be split anew; those of population and prompts where left out.
    fixed
        The run trains on the pilot's own prompts, and a gain is meant on them.

    Raises
    ------
    ConfigError
        For a value out of range.
    """

    alpha: float | None = None
    population: int | None = None
    prompts: int | None = None
    steps: int | None = None
    dim: int | None = None
    shaping: Shaping = "zscore"
    rollouts: int | None = None
    fixed: bool = False

    def __post_init__(self) -> None:
        """Check every number that is given."""
        if self.alpha is not None:
            require_positive("alpha", self.alpha)
        for name, least in (("population", 2), ("prompts", 1), ("steps", 1), ("dim", 1), ("rollouts", 1)):
            value = getattr(self, name)
            if value is not None:
                require_count(name, value, least)


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """A quantity estimated from a pilot, or predicted from one.

    Attributes
    ----------
    quantity, sigma
        What, and the perturbation scale of the members it comes from.
    value
        The estimate, not cut off at 0: cut off it would be biased.
    stderr
        Its standard error.
    low, high
        Ends of its interval at ``LEVEL``; infinite where there is no limit.
    bound
        ``upper`` where the estimate is only an upper bound: without mirrored members the odd part is not known.
    label, assumptions
        Of a prediction.
    source
        The page of the derivation.
    """

    quantity: Quantity
    sigma: float
    value: float
    stderr: float
    low: float
    high: float
    bound: Literal["upper"] | None = None
    label: Label = "large-N"
    assumptions: tuple[str, ...] = ()
    source: str = OURS


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The configuration with the largest net gain of an update.

    Attributes
    ----------
    sigma, alpha, population, prompts
        The configuration.
    net
        Its net gain, reward units.
    bound
        As of :class:`Estimated`.
    """

    sigma: float
    alpha: float
    population: int
    prompts: int
    net: float
    bound: Literal["upper"] | None


class Scale:
    """The members of one sigma, and the update that is planned with them.

    Attributes
    ----------
    members
        What the rewards hold.
    config
        The planned update.
    prompts
        B of the planned update.

    Parameters
    ----------
    members, config, prompts
        As the attributes.
    """

    def __init__(self, members: Members, config: ESConfig, prompts: int) -> None:
        """Take the three as they are."""
        self.members, self.config, self.prompts = members, config, prompts

    def __repr__(self) -> str:
        who = self.members
        return f"Scale(sigma={who.sigma:g}, members={who.members}, prompts={who.prompts})"

    @classmethod
    def of(cls, iterations: Sequence[Iteration], planned: PlannedRun) -> Scale:
        """Pool the iterations of one sigma and make the planned update's configuration.

        Parameters
        ----------
        iterations
            At least one.
        planned
            The run.

        Returns
        -------
        Scale

        Notes
        -----
        Label: large-N. Source: ours: docs/concepts/economy.md.
        """
        members = members_of(iterations, fixed=planned.fixed)
        config = ESConfig(
            dim=planned.dim or 1,
            sigma=members.sigma,
            alpha=planned.alpha,
            population=planned.population or members.members,
            shaping=planned.shaping,
            steps=planned.steps or 1,
        )
        scale = cls(members, config, planned.prompts or members.prompts)
        return scale.with_update(config.step_size, config.population, scale.prompts)

    def with_update(self, alpha: float, population: int, prompts: int) -> Scale:
        """Return the same members with another update: mirrored as they are, where N and the shaping allow it.

        Parameters
        ----------
        alpha
            Step size, weight units.
        population, prompts
            N and B.

        Returns
        -------
        Scale

        Notes
        -----
        Label: large-N. Source: ours: docs/concepts/economy.md.
        """
        even = population % 2 == 0 and population >= 4
        paired = self.members.mirrored and estimator_of(self.config).divides_by_spread and even
        config = replace(self.config, alpha=alpha, population=population, antithetic=paired)
        return Scale(self.members, config, prompts)

    @property
    def bound(self) -> Literal["upper"] | None:
        """Whether gains are upper bounds."""
        return None if self.members.mirrored else "upper"

    def seen(self, x: Array) -> float:
        """Return S^2 at the planned number of prompts, reward^2.

        Parameters
        ----------
        x
            Values of the members' parts.

        Returns
        -------
        float

        Notes
        -----
        Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
        """
        spared = 1 - self.members.prompts / self.prompts
        return float(self.members.seen(x) - self.members.noise(x) * spared)

    def _kappa(self, x: Array) -> float:
        """Return odd minus even share of S^2 at the planned number of prompts."""
        members = self.members
        if not isinstance(members, MirroredMembers) or not self.seen(x) > 0:
            return 0.0
        return float(np.clip((members.signal(x) - members.even(x)) / self.seen(x), 1e-9 - 1, 1.0))

    def gain(self, x: Array) -> float:
        """Return the gain of the planned update, reward units. Parameters and result as of :meth:`Scale.seen`.

        Notes
        -----
        Label: large-N. Source: ours: docs/concepts/economy.md.
        """
        return update_gain(self.config, self.members.signal(x), self.seen(x), self._kappa(x))

    def cost(self, x: Array) -> float:
        """Return its diffusion cost, reward units; NaN without a centre.

        Parameters and result as of :meth:`Scale.seen`.

        Notes
        -----
        Label: small-step. Source: ours: docs/concepts/economy.md.
        """
        return update_cost(self.config, self.members.gap_of(x), self.seen(x), self._kappa(x))

    def net(self, x: Array) -> float:
        """Return gain less cost, reward units. Parameters and result as of :meth:`Scale.seen`.

        Notes
        -----
        Label: small-step. Source: ours: docs/concepts/economy.md.
        """
        return self.gain(x) - self.cost(x)

    def best(self, x: Array) -> tuple[float, float]:
        """Return the best alpha and the net gain there.

        Parameters
        ----------
        x
            Values of the members' parts.

        Returns
        -------
        alpha : float
            Weight units.
        net : float
            Reward units.

        Notes
        -----
        Label: small-step. Source: ours: docs/concepts/economy.md.
        """
        factor, net = best_step(self.gain(x), self.cost(x))
        return factor * self.config.step_size, net

    def largest_measured_alpha(self, x: Array) -> float:
        """Return :func:`estheory.theory.economy.update.largest_measured_alpha` of the update, weight units.

        Parameters and result as of :meth:`Scale.seen`.

        Notes
        -----
        No label: a declared choice.
        """
        seen = self.seen(x)
        share = max(self.members.signal(x), 0.0) / seen if seen > 0 else 0.0
        return largest_measured_alpha(sigma=self.config.sigma, population=self.config.population, reliability=share)

    def interval(self, function: Callable[[Array], float]) -> Interval:
        """Return a function of the parts with its interval.

        Parameters
        ----------
        function
            Of the values of the members' parts.

        Returns
        -------
        Interval
            In the unit of the function.

        Notes
        -----
        Label: large-N. Source: ours: docs/concepts/economy.md.
        """
        with np.errstate(all="ignore"):
            return recovered(function, self.members.parts)

    @cached_property
    def signal_interval(self) -> Interval:
        """The variance that can move an update, reward^2."""
        return self.interval(self.members.signal)

    @cached_property
    def net_interval(self) -> Interval:
        """The net gain of the planned update, reward units; that of the gain where the cost is not known."""
        return self.interval(self.net if self.members.gap else self.gain)

    @property
    def centre(self) -> Array:
        """The parts' values."""
        return np.array([part.value for part in self.members.parts])

    def planned_signal(self) -> Signal | None:
        """Return the linear signal of the planned updates: the odd variance's share of S^2.

        Returns
        -------
        Signal or None
            None without mirrored members, whose odd variance is not known.

        Notes
        -----
        Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
        """
        seen = self.seen(self.centre)
        if not self.members.mirrored or not seen > 0:
            return None
        share = min(max(self.members.signal(self.centre) / seen, 0.0), 1.0)
        return linear_signal(sigma=self.config.sigma, reliability=share)

    def estimates(self) -> list[Estimated]:
        """Return what the rewards hold.

        Returns
        -------
        list of Estimated
            S, reliability, odd variance (an upper bound without mirrored members), even variance, gap.

        Notes
        -----
        Label: large-N. Source: ours: docs/concepts/economy.md.
        """
        members = self.members
        found = [
            self._row(Quantity.MEMBER_REWARD_STD, lambda x: math.sqrt(max(members.seen(x), 0.0))),
            self._row(Quantity.REWARD_RELIABILITY, lambda x: members.share(members.true(x), x)),
            self._row(Quantity.ODD_VARIANCE, members.signal, bounded=True),
        ]
        if isinstance(members, MirroredMembers):
            found.append(self._row(Quantity.EVEN_VARIANCE, members.even))
        if members.gap:
            found.append(self._row(Quantity.SMOOTHING_GAP, members.gap_of))
        return found

    def predictions(self) -> list[Estimated]:
        """Return what one update would gain and cost.

        Returns
        -------
        list of Estimated
            Only the gain where the centre was not evaluated.

        Notes
        -----
        Label: small-step. Source: ours: docs/concepts/economy.md.
        """
        about = "gain on these prompts, their rewards without other noise" if self.members.fixed else "fresh prompts"
        odd = "odd part linear" if self.members.mirrored else "all true variance taken as odd: an upper bound"
        gain = (about, odd)
        found = [self._row(Quantity.REWARD_GAIN_PER_STEP, self.gain, *gain, bounded=True)]
        if not self.members.gap:
            return found
        local = "reward quadratic at the scale of sigma"
        found += [
            self._row(Quantity.DIFFUSION_COST_PER_STEP, self.cost, local, label="small-step"),
            self._row(Quantity.NET_GAIN_PER_STEP, self.net, *gain, local, label="small-step", bounded=True),
            self._row(
                Quantity.OPTIMAL_ALPHA, lambda x: self.best(x)[0], *gain, local, label="small-step", bounded=True
            ),
            self._row(
                Quantity.BEST_NET_GAIN, lambda x: self.best(x)[1], *gain, local, label="small-step", bounded=True
            ),
        ]
        return found

    def _row(
        self,
        quantity: Quantity,
        function: Callable[[Array], float],
        *assumptions: str,
        label: Label = "large-N",
        bounded: bool = False,
    ) -> Estimated:
        found = self.interval(function)
        low = found.low
        if bounded and self.bound:  # the odd part may be nothing at all
            low = self._without_signal(quantity)
        if quantity in (Quantity.OPTIMAL_ALPHA, Quantity.BEST_NET_GAIN):
            low = max(low, 0.0)
        return Estimated(
            quantity=quantity,
            sigma=self.members.sigma,
            value=found.value,
            stderr=found.stderr,
            low=low,
            high=found.high,
            bound=self.bound if bounded else None,
            label=label,
            assumptions=assumptions,
        )

    def _without_signal(self, quantity: Quantity) -> float:
        """Return the least that a quantity can be where nothing of the variance is odd."""
        return -self.interval(self.cost).high if quantity is Quantity.NET_GAIN_PER_STEP else 0.0

    def recommendation(self, rollouts: int | None) -> Recommendation | None:
        """Return the best alpha, and the best split of an update's rollouts where they may be split anew.

        Parameters
        ----------
        rollouts
            N B; None keeps the planned N and B.

        Returns
        -------
        Recommendation or None
            None without signal or centre. Where the gap is none, nothing but the measured range limits alpha.

        Notes
        -----
        Label: small-step. Source: ours: docs/concepts/economy.md. Within :meth:`largest_measured_alpha`.
        """
        x, members = self.centre, self.members
        signal, gap = members.signal(x), members.gap_of(x)
        if not signal > 0 or math.isnan(gap) or not estimator_of(self.config).divides_by_spread:
            return None
        population, prompts = self.config.population, self.prompts
        if rollouts is not None and gap > 0:
            population, prompts, _ = best_split(
                rollouts,
                sigma=members.sigma,
                signal_variance=signal,
                true_variance=members.true(x),
                noise_variance=members.noise(x) * members.prompts,
                gap=gap,
            )
        update = self.with_update(self.config.step_size, population, prompts)
        alpha = min(update.best(x)[0], update.largest_measured_alpha(x))
        net = self.with_update(alpha, population, prompts).net(x)
        return Recommendation(
            sigma=members.sigma, alpha=alpha, population=population, prompts=prompts, net=net, bound=self.bound
        )
