"""One iteration's rewards, read: what an update would gain and cost, and whether ES will learn the task.

Everything is measured from rewards of members on prompts (docs/concepts/economy.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from estheory._special import Array, chi_square_quantile
from estheory.errors import DataError
from estheory.quantities import Label, Quantity
from estheory.rules import ESConfig, Shaping, require_count, require_positive
from estheory.shown import Shown
from estheory.theory.economy.intervals import LEVEL, Interval, recovered
from estheory.theory.economy.update import best_split, best_step, largest_measured_alpha, update_cost, update_gain
from estheory.theory.economy.variance_components import OURS, Iteration, Members, MirroredMembers, members_of
from estheory.theory.estimators import estimator_of, kind_of

Answer = Literal["learns", "stalls", "undecided"]
WORTH = 0.01
"""Share of the range of the rewards that a run must be able to gain: below it, it stalls."""


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
class NextStep:
    """What would settle the question, and what it costs.

    Attributes
    ----------
    what
        In plain words.
    evaluations
        Rollouts: one member on one prompt each.
    """

    what: str
    evaluations: int


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
        paired = self.members.mirrored and kind_of(self.config.shaping).divides_by_spread and even
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
        if not signal > 0 or math.isnan(gap) or not kind_of(self.config.shaping).divides_by_spread:
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Pilot(Shown):
    """What a pilot says.

    Attributes
    ----------
    scales
        By sigma, in the order of the data.
    chosen
        Position of the scale that the verdict is about: the one of the largest net gain of an update at its best alpha.
    verdict, because
        Whether the planned run learns, and why, in one sentence.
    next
        What would settle or improve it.
    recommendation
        Configuration for the rollouts at hand; None where the pilot supports none.
    warnings
        What else limits the result.
    """

    scales: tuple[Scale, ...]
    chosen: int
    verdict: Answer
    because: str
    next: tuple[NextStep, ...]
    recommendation: Recommendation | None
    warnings: tuple[str, ...]

    @property
    def scale(self) -> Scale:
        """The scale that the verdict is about."""
        return self.scales[self.chosen]


def pilot(iterations: Sequence[Iteration], planned: PlannedRun | None = None) -> Pilot:
    """Say from rewards of members on prompts whether ES will learn, and with which sigma, alpha, N and B.

    Parameters
    ----------
    iterations
        One or more; those of one sigma are pooled. Where some are mirrored, the others of that sigma are left out.
    planned
        The run; as the pilot where left out.

    Returns
    -------
    Pilot

    Raises
    ------
    DataError
        If there is no iteration.
    ConfigError
        If the planned run is none.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/economy.md. "learns" is said of a pilot without signal in at most 2.5 %
    of cases: the lower end of a 95 % interval of the odd variance, and of the net gain where the cost is known, lies
    above 0.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> odd = np.repeat(rng.standard_normal((15, 1)), 2, axis=0) * np.tile([[1.0], [-1.0]], (15, 1))
    >>> rewards = 0.5 + 0.05 * odd + 0.2 * rng.standard_normal((30, 64))
    >>> found = pilot([Iteration(rewards=rewards, sigma=1e-3, mirrored=True)])
    >>> found.verdict
    'learns'
    """
    if not iterations:
        raise DataError("there are no rewards", "give a matrix of members by prompts")
    planned = planned or PlannedRun()
    sigmas = list(dict.fromkeys(iteration.sigma for iteration in iterations))
    scales = tuple(Scale.of([i for i in iterations if i.sigma == sigma], planned) for sigma in sigmas)
    chosen = max(range(len(scales)), key=lambda k: _rank(scales[k]))
    scale = scales[chosen]
    verdict, because = _verdict(scale, planned, iterations)
    return Pilot(
        scales=scales,
        chosen=chosen,
        verdict=verdict,
        because=because,
        next=tuple(_next(scale)),
        recommendation=scale.recommendation(planned.rollouts),
        warnings=tuple(_warnings(scale, iterations)),
    )


def _rank(scale: Scale) -> tuple[float, float]:
    """Return what scales are compared by: net gain at the best alpha, else gain over alpha."""
    x = scale.centre
    gain = scale.gain(x) / scale.config.step_size
    return (scale.best(x)[1] if scale.members.gap and scale.cost(x) > 0 else 0.0, gain)


def _verdict(scale: Scale, planned: PlannedRun, iterations: Sequence[Iteration]) -> tuple[Answer, str]:
    members, net, alpha = scale.members, scale.net_interval, scale.config.step_size
    if not members.parts[0].value > 0 and not members.seen(scale.centre) > 0:
        return "stalls", "no member's mean reward differs from another's: z-scores are 0 and nothing moves"
    per = f"per update at alpha = {alpha:g}, N = {scale.config.population}"
    if members.gap and net.high <= 0:
        side = "even the upper bound of the gain is" if scale.bound else "the gain is"
        return "stalls", f"{side} below what the random part costs: net at most {net.high:.2g} {per}"
    span = max(float(np.ptp(i.rewards)) for i in iterations)
    if planned.steps and planned.steps * max(net.high, 0.0) < WORTH * span:
        return (
            "stalls",
            f"{planned.steps} updates gain at most {planned.steps * net.high:.2g}, less than 1 % of the range",
        )
    if scale.bound:
        reliable = scale.interval(members.true).low > 0
        what = "members differ reliably" if reliable else "members do not differ beyond the noise of their prompts"
        return "undecided", (
            f"{what}, but without mirrored members nothing tells which part has a sign that an update can follow: "
            f"the gain is at most {scale.interval(scale.gain).high:.2g} {per}"
        )
    if not scale.signal_interval.low > 0:
        return "undecided", (
            "the odd part of the members' effects is not told from noise: "
            f"the gain is {_with_error(scale.interval(scale.gain))} {per}"
        )
    if not members.gap:
        return "learns", (
            f"the odd part of the members' effects is real, and the gain is {_with_error(net)} {per}; "
            "without the centre's rewards its cost is not known, but a small enough alpha pays"
        )
    if net.low > 0:
        return "learns", f"the net gain is {_with_error(net)} {per}"
    best = scale.best(scale.centre)[0]
    return "undecided", (
        f"the odd part of the members' effects is real, but the net gain is {_with_error(net)} {per}: "
        f"the best alpha is {best:.2g}"
    )


def _with_error(found: Interval) -> str:
    return f"{found.value:.2g} ({found.low:.2g} to {found.high:.2g})"


MOST_PAIRS = 10_000


def pairs_to_tell(odd_variance: float, noise_variance: float) -> int | None:
    """Return how many mirrored pairs tell an odd part from noise: chi^2_K / K at its upper end is below seen / noise.

    Parameters
    ----------
    odd_variance
        v_odd, reward^2.
    noise_variance
        Noise of a half difference, w/(2B), reward^2.

    Returns
    -------
    int or None
        K; None where more than ``MOST_PAIRS`` are needed.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/economy.md. At this K one pilot in two tells it.

    Examples
    --------
    >>> pairs_to_tell(0.5, 1.0)
    38
    """
    if not odd_variance > 0:
        return None
    ratio = 1 + odd_variance / noise_variance if noise_variance > 0 else math.inf
    low, high = 1, MOST_PAIRS
    if chi_square_quantile(0.5 + LEVEL / 2, high) / high > ratio:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (low, middle) if chi_square_quantile(0.5 + LEVEL / 2, middle) / middle <= ratio else (middle + 1, high)
        )
    return low


def _next(scale: Scale) -> list[NextStep]:
    """Return what would settle the question, cheapest first."""
    members, x, found = scale.members, scale.centre, []
    count, prompts = members.members, members.prompts
    if members.gap is None:
        found.append(NextStep(what="the rewards of the centre on the same prompts: the cost", evaluations=prompts))
    if not members.mirrored:
        even = count + count % 2
        what = f"one mirrored iteration, {even // 2} pairs on {prompts} prompts: which part of the gain is real"
        found.append(NextStep(what=what, evaluations=even * prompts))
    elif not scale.signal_interval.low > 0:
        noise = float(x[1])
        odd = members.signal(x)
        smallest = odd if odd > 0 else 0.1 * members.seen(x)
        options = []
        for factor in (1, 2, 4, 8):
            pairs = pairs_to_tell(smallest, noise / factor)
            if pairs is not None:
                options.append((2 * pairs * prompts * factor, pairs, prompts * factor))
        if options:
            evaluations, pairs, wide = min(options)
            seen = "an odd part as large as estimated" if odd > 0 else "an odd part of a tenth of the members' variance"
            what = f"{pairs} mirrored pairs on {wide} prompts: tells {seen} from noise in every second pilot"
            found.append(NextStep(what=what, evaluations=evaluations))
    return sorted(found, key=lambda step: step.evaluations)


def _warnings(scale: Scale, iterations: Sequence[Iteration]) -> list[str]:
    members, found = scale.members, []
    if members.members < 30:
        found.append(f"{members.members} members: intervals are wide; more prompts do not narrow them, more members do")
    if members.mirrored and any(not i.mirrored and i.sigma == members.sigma for i in iterations):
        found.append("iterations without mirrored members are left out")
    if members.mirrored and estimator_of(scale.config).members_per_direction == 1:
        found.append(f"the planned {scale.config.shaping} update is taken with independent members")
    if members.gap and members.gap.high < 0:
        found.append("members are better than their centre: the reward is convex here, and the cost is negative")
    return found
