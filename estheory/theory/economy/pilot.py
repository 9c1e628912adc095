"""One iteration's rewards, read: what an update would gain and cost, and whether ES will learn the task.

Everything is measured from rewards of members on prompts (docs/concepts/economy.md).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from estheory._special import chi_square_quantile
from estheory.errors import DataError
from estheory.shown import Shown
from estheory.theory.economy.intervals import LEVEL, Interval, square_interval
from estheory.theory.economy.iteration import Iteration
from estheory.theory.economy.scale import PlannedRun, Recommendation, Scale
from estheory.theory.estimators import estimator_of

Answer = Literal["learns", "stalls", "undecided"]
WORTH = 0.01
"""Share of the range of the rewards that a run must be able to gain: below it, it stalls."""


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
POWER = 0.8
"""Share of pilots that tell what is there, at the number of pairs that is asked for."""


def pairs_to_tell(odd_variance: float, noise_variance: float, prompts_error: float = 0.0) -> int | None:
    """Return how many mirrored pairs tell an odd part from noise in four pilots of five.

    A pilot tells it where the lower end of its interval is above 0: where the errors of members and of the choice of
    prompts together are below the odd part.

    Parameters
    ----------
    odd_variance
        v_odd, reward^2.
    noise_variance
        Noise of a half difference over the prompts, reward^2.
    prompts_error
        How far below v_odd the choice of prompts alone puts the lower end of its interval, reward^2.

    Returns
    -------
    int or None
        K; None where more than ``MOST_PAIRS`` are needed, or no number of pairs does it on so few prompts.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/economy.md. Gaussian means of members. The measured share of pilots is
    in the table of docs/how-to/pilot.md.

    Examples
    --------
    >>> pairs_to_tell(0.5, 1.0), pairs_to_tell(0.5, 1.0, 0.3)
    (92, 132)
    """
    if not odd_variance > 0:
        return None
    left = math.sqrt(max(1 - (prompts_error / odd_variance) ** 2, 0.0))  # of the odd part, for the error of members

    def told(pairs: int) -> bool:
        low, end = (chi_square_quantile(p, pairs) / pairs for p in (1 - POWER, 0.5 + LEVEL / 2))
        return low * (odd_variance + noise_variance) * (1 / end - 1 + left) > left * noise_variance

    if not told(MOST_PAIRS):
        return None
    return bisect.bisect_left(range(MOST_PAIRS), x=True, lo=1, key=told)


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
            chosen = square_interval(max(odd, 0.0), members.parts[2].stderr / math.sqrt(factor), prompts - 1)
            pairs = pairs_to_tell(smallest, noise / factor, -chosen.low)
            if pairs is not None:
                options.append((2 * pairs * prompts * factor, pairs, prompts * factor))
        if options:
            evaluations, pairs, wide = min(options)
            seen = "an odd part as large as estimated" if odd > 0 else "an odd part of a tenth of the members' variance"
            what = f"{pairs} mirrored pairs on {wide} prompts: four pilots of five tell {seen} from noise"
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
