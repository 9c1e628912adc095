"""The inverse question: which sigma, alpha, N and T meet a drift budget and a target at the fewest evaluations.

A z-scored run of T steps moves P = alpha c(N) rho T along the gradient while each flat coordinate gets the variance
v = alpha^2 T / N. Eliminating alpha, N T = P^2 / (v c^2 rho^2): at a given drift only rho and c(N) decide what progress
costs (docs/how-to/plan.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from estheory.errors import ConfigError
from estheory.quantities import Prediction
from estheory.rules import ESConfig
from estheory.shown import Shown
from estheory.theory.curved.ranges import step_range
from estheory.theory.planning.budgets import DriftBudget
from estheory.theory.planning.choices import LARGEST, Choices
from estheory.theory.planning.spectrum_target import SpectrumTarget
from estheory.theory.planning.targets import Arm, Attained, Target, arm
from estheory.theory.run_norm import MANY_COORDINATES, RunNorm, run_norm, steered_norm, without_few_pairs
from estheory.theory.walk import walk

FRONT_SCALES = tuple(2 ** (k / 2) for k in range(-3, 5))
"""Budgets of the front over the given one, in norm."""
STEP_LIMIT = "alpha<=sigma"
SAFE_STEPS = 5
HELD_STEPS = 10
"""Steps over which the gradient kept its direction on real runs; after 20 it had turned (experiments/refutable)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One configuration, and what it does.

    Attributes
    ----------
    arm
        Sigma, population and shaping.
    alpha
        Step size, weight units.
    steps
        T.
    attained
        Progress and target.
    used
        Drift that is not passed with the budget's confidence, by option name.
    predictions
        Laws of norm, KL and off-task change, as far as they are known.
    """

    arm: Arm
    alpha: float
    steps: int
    attained: Attained
    used: dict[str, float]
    predictions: tuple[Prediction, ...]

    @property
    def config(self) -> ESConfig:
        """The run."""
        return replace(self.arm.config, alpha=self.alpha, steps=self.steps)

    @property
    def evaluations(self) -> int:
        """N T."""
        return self.arm.population * self.steps

    @property
    def progress_std(self) -> float:
        """Standard deviation over seeds of the displacement along the gradient, weight units."""
        return self.alpha * math.sqrt(self.steps * self.arm.variance * self.arm.spread)


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan(Shown):
    """The answer.

    Attributes
    ----------
    planner
        What was asked: arms, choices, budget and target.
    recommendation
        The cheapest configuration that meets budget and target, or None.
    binding
        What rules out a cheaper one: what one step less would violate; without a recommendation, what rules out
        the target.
    best
        Without a recommendation: the configuration that attains the largest share of the target within the budget.
    share
        That share.
    needed
        Without a recommendation: the cheapest with any number of evaluations, or None.
    front
        Pareto front of evaluations against drift: (budget scale, candidate) by rising drift, falling evaluations.
    """

    planner: Planner
    recommendation: Candidate | None
    binding: tuple[str, ...]
    best: Candidate | None = None
    share: float = 1.0
    needed: Candidate | None = None
    front: tuple[tuple[float, Candidate], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Planner:
    """Search for the fewest evaluations that meet a budget and a target.

    Attributes
    ----------
    arms
        The pairs of sigma and population to try.
    choices
        What may be chosen besides.
    budget
        Limits on drift.
    target
        What the run should attain.

    Notes
    -----
    Label: exact for progress on a linear reward, small-step or mean-field for gains (that of the target). Source: ours:
    docs/how-to/plan.md.

    Examples
    --------
    >>> from estheory import ESConfig
    >>> from estheory.theory.planning.budgets import DriftBudget
    >>> from estheory.theory.planning.choices import Choices, linear_arms
    >>> from estheory.theory.planning.targets import LocalTarget
    >>> choices = Choices(sigmas=(0.0015,), populations=(30, 128))
    >>> base = ESConfig(dim=4_000_000_000, sigma=0.0015, population=30)
    >>> arms = linear_arms(base, choices, gradient_norm=100.0, reward_std=0.2)
    >>> budget, target = DriftBudget(max_norm=90.0), LocalTarget(name="target-progress", value=0.05)
    >>> best = Planner(arms=arms, choices=choices, budget=budget, target=target).plan().recommendation
    >>> best.arm.population, best.steps, best.evaluations, round(best.used["max-norm"], 2)
    (30, 121, 3630, 89.74)
    """

    arms: tuple[Arm, ...]
    choices: Choices
    budget: DriftBudget
    target: Target

    def candidate(self, one: Arm, alpha: float, steps: int) -> Candidate | None:
        """Return the configuration with what it attains and uses, whether or not it serves.

        Parameters
        ----------
        one
            The arm.
        alpha
            Step size, weight units.
        steps
            T.

        Returns
        -------
        Candidate or None
            None if the run diverges.
        """
        found = self.target.attained(one, alpha, steps)
        if found is None:
            return None
        drift, norm = one.walk(alpha, steps), self._norm(one, alpha, steps, found.progress)
        used = self.budget.used(drift, found.progress, one.spread)
        if self.budget.max_norm is not None and not norm.missing:
            used["max-norm"] = norm.law.quantile(self.budget.confidence)
        return Candidate(
            arm=one,
            alpha=alpha,
            steps=steps,
            attained=found,
            used=used,
            predictions=tuple(self.budget.predictions(drift, norm, steps)),
        )

    def _norm(self, one: Arm, alpha: float, steps: int, progress: float) -> RunNorm:
        """Return the law of a run's norm, which `predict` shows too; on curved ground progress is less."""
        config = replace(one.config, alpha=alpha)
        whole = walk(config, one.signal, steps)
        if isinstance(self.target, SpectrumTarget):
            law = steered_norm(whole, progress, one.spread)
            return replace(RunNorm.of_walk(whole), law=law, matched=law, label="large-N")
        try:
            return without_few_pairs(run_norm(config, one.signal, whole, steps), whole, steps)
        except ConfigError as error:  # of low-rank noise in few coordinates
            law = steered_norm(whole, progress, one.spread)
            return replace(RunNorm.of_walk(whole), law=law, matched=law, missing=error.what)

    def obstacles(self, one: Arm, alpha: float | None, steps: int) -> tuple[str, ...]:
        """Return what keeps a configuration from serving.

        Parameters
        ----------
        one
            The arm.
        alpha
            Step size, weight units; None for the smallest that attains the target in that many steps.
        steps
            T.

        Returns
        -------
        tuple of str
            Option names; empty if it serves.
        """
        if alpha is None:
            alpha = self.target.smallest_alpha(one, steps, one.config.sigma)
            if alpha is None:
                return (STEP_LIMIT,) if self.target.smallest_alpha(one, steps, 1e100) else (self.target.name,)
        found = self.target.attained(one, alpha, steps)
        if found is None or found.value < self.target.value * (1 - 1e-9):
            return (self.target.name,)
        exceeded = self.budget.exceeded(one.walk(alpha, steps), found.progress, one.spread)
        limit = self.budget.max_norm
        if exceeded or limit is None or one.config.dim >= MANY_COORDINATES:  # there the chi law is that of predict
            return exceeded
        norm = self._norm(one, alpha, steps, found.progress)
        beyond = norm.law.tails(limit * (1 + 1e-9))[1]
        return () if norm.missing or beyond <= 1 - self.budget.confidence else ("max-norm",)

    def cheapest_of(self, one: Arm, limit: int) -> tuple[float, int] | None:
        """Return step size and the fewest steps with which an arm serves.

        Parameters
        ----------
        one
            The arm.
        limit
            Most steps.

        Returns
        -------
        tuple or None
            alpha (weight units) and T; None if it does not serve.
        """
        alphas = self.choices.alphas or self.target.alphas(one.config.sigma) or (None,)
        best = None
        for alpha in alphas:
            steps = self._steps(one, alpha, limit)
            if steps is None:
                continue
            size = self.target.smallest_alpha(one, steps, one.config.sigma) if alpha is None else alpha
            assert size is not None  # it served
            best, limit = (size, steps), steps - 1
            if limit < 1:
                break
        return best

    def _steps(self, one: Arm, alpha: float | None, limit: int) -> int | None:
        if self.choices.steps:
            fitting = (t for t in sorted(self.choices.steps) if t <= limit)
            return next((t for t in fitting if not self.obstacles(one, alpha, t)), None)
        if alpha is not None:
            steps = self.target.smallest_steps(one, alpha, limit)
            return None if steps is None or self.obstacles(one, alpha, steps) else steps
        if self.obstacles(one, None, limit):
            return None
        low, high = 1, limit  # more steps of smaller size always drift less
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.obstacles(one, None, middle) else (low, middle)
        return high

    def search(self, max_evaluations: int) -> Candidate | None:
        """Return the cheapest configuration within a number of evaluations.

        Parameters
        ----------
        max_evaluations
            Largest N T.

        Returns
        -------
        Candidate or None
            None if none serves.
        """
        best = self._search(self.arms, max_evaluations, None)
        if best is None or self.choices.populations:
            return best
        n = best.arm.population
        near = sorted({2 * round(n * f / 2) for f in (2 ** (k / 32) for k in range(-8, 9))} - {n})
        finer = [arm(replace(best.arm.config, population=m), best.arm.signal) for m in near if m >= 4]
        return self._search(finer, best.evaluations - 1, best)

    def _search(self, candidates: Iterable[Arm], cap: int, best: Candidate | None) -> Candidate | None:
        for one in candidates:
            if (limit := cap // one.population) < 1:
                continue
            found = self.cheapest_of(one, limit)
            if found is not None:
                best = self.candidate(one, *found)
                cap = one.population * found[1] - 1
        return best

    def plan(self, *, scales: Sequence[float] = FRONT_SCALES) -> Plan:
        """Return the plan: the cheapest configuration and the front, or what rules out the target.

        Parameters
        ----------
        scales
            Budgets of the front over the given one, in norm.

        Returns
        -------
        Plan
            With a recommendation where one serves.
        """
        cap = self.choices.max_evaluations
        best = self.search(cap)
        if best is None:
            return self._infeasible(cap)
        front: list[tuple[float, Candidate]] = []
        for scale in sorted(scales):
            found = best if scale == 1 else replace(self, budget=self.budget.scaled(scale)).search(cap)
            if found is not None and (not front or found.evaluations < front[-1][1].evaluations):
                front.append((scale, found))
        return Plan(planner=self, recommendation=best, binding=self._binding(best), front=tuple(front))

    def _binding(self, best: Candidate) -> tuple[str, ...]:
        if best.steps == 1 or self.choices.steps:
            return ("steps", *self._full(best))
        fixed = bool(self.choices.alphas or self.target.alphas(best.arm.config.sigma))
        missed = self.obstacles(best.arm, best.alpha if fixed else None, best.steps - 1)
        return tuple(dict.fromkeys((*missed, *self._full(best))))

    def _full(self, best: Candidate) -> tuple[str, ...]:
        """Return the budgets of which less than 2 % is left."""
        return tuple(name for name, limit in self.budget.limits.items() if best.used[name] > 0.98 * limit)

    def _infeasible(self, cap: int) -> Plan:
        rounds = 40 if self.target.alphas(1.0) is None else 12
        low, high, best = 1e-6, 1.0, None
        for _ in range(rounds):
            middle = math.sqrt(low * high) if low < 0.1 and high < 1 else 0.5 * (low + high)
            found = replace(self, target=self.target.scaled(middle)).search(cap)
            if found is None:
                high = middle
            else:
                low, best = middle, found
        needed = self.search(LARGEST) if self.target.alphas(1.0) is None else None
        if best is None:
            return Plan(planner=self, recommendation=None, binding=(self.target.name,), share=0.0, needed=needed)
        more = replace(self, target=self.target.scaled(low * 1.01))
        limits = ("max-evaluations",) if needed is not None else ()
        return Plan(
            planner=self,
            recommendation=None,
            binding=tuple(dict.fromkeys((*more._stopped_by(best, cap), *limits))),
            best=best,
            share=best.attained.value / self.target.value,
            needed=needed,
        )

    def _stopped_by(self, best: Candidate, cap: int) -> tuple[str, ...]:
        """Return what keeps the arm of ``best`` from attaining the target within ``cap`` evaluations."""
        limit = cap // best.arm.population
        if not (self.choices.alphas or self.target.alphas(1.0)):
            return self.obstacles(best.arm, None, best.steps if self.choices.steps else limit)
        steps = best.steps if self.choices.steps else self.target.smallest_steps(best.arm, best.alpha, LARGEST)
        if steps is None:
            return (self.target.name,)
        return self.obstacles(best.arm, best.alpha, steps) or ("max-evaluations",)

    def beyond(self, best: Candidate) -> tuple[str, ...]:
        """Return in what a configuration lies outside of all that was seen to work.

        Parameters
        ----------
        best
            The configuration.

        Returns
        -------
        tuple of str
            A few words each; empty where runs have seen the like of it work.
        """
        found = []
        if best.config.step_size > best.config.sigma * (1 + 1e-9):
            found.append("alpha above sigma")
        if best.steps < SAFE_STEPS:
            found.append(f"only {best.steps} large step{'s' if best.steps > 1 else ''}")
        if best.steps > HELD_STEPS and not isinstance(self.target, SpectrumTarget):
            found.append(f"{best.steps} steps on one estimate of the gradient, which held for {HELD_STEPS} in our runs")
        return tuple(found)

    def warnings(self, best: Candidate, free_sigma: bool) -> tuple[str, ...]:
        """Return what to know about a configuration.

        Parameters
        ----------
        best
            The configuration.
        free_sigma
            Whether sigma came from a default list.

        Returns
        -------
        tuple of str
            One sentence each; empty where nothing is to be said.
        """
        found = []
        config = best.config
        if free_sigma and config.sigma == max(one.config.sigma for one in self.arms):
            found.append(
                f"sigma {config.sigma:g} is the largest of the default list: a linear reward favours the largest. "
                "Give --sigma with values at which the reward is still linear"
            )
        if config.step_size > config.sigma * (1 + 1e-9):
            found.append("alpha is above sigma: a step goes farther than the perturbations that it was estimated from")
        if best.steps < SAFE_STEPS:
            found.append(
                f"only {best.steps} large steps: the gradient must stay the same along each. Give --steps for more"
            )
        if best.steps > HELD_STEPS and not isinstance(self.target, SpectrumTarget):
            found.append(
                f"this plan assumes that the gradient keeps its direction for {best.steps} steps. In our runs it did "
                f"so for {HELD_STEPS} steps and had changed by step 20; progress then fell short of the prediction, "
                "drift did not. Measure the signal again during the run"
            )
        if self.budget.max_kl is not None and self.budget.fisher_square_trace is None:
            found.append("without --fisher-square-trace the spread of KL is unknown: only its mean keeps the budget")
        norm = self._norm(best.arm, best.alpha, best.steps, best.attained.progress)
        if norm.missing:
            found.append(
                f"the norm of this plan has no law: {norm.missing}. Its limit is that of the chi law of the same mean "
                "and variance, which fewer seeds may keep than is said. Give --population with more members"
            )
        drift = best.arm.walk(best.alpha, best.steps)
        if not self.budget.counts_all_drift(drift, best.attained.progress, best.arm.spread):
            found.append(
                "the signal moves this run along its gradient by more than 1 % of the squared norm: the limits on KL "
                "and off-task loss count the walk alone, and traces do not say how much the other behaviour depends "
                "on that direction. They are not promised here"
            )
        if isinstance(self.target, SpectrumTarget):
            found.extend(str(out) for out in step_range(config, self.target.landscape))
        return tuple(found)
