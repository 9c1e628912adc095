"""Targets of a plan: progress along the gradient or gain of reward, and what a configuration attains of them.

One step of fixed sigma and population does the same, up to the factor alpha, whatever alpha is; :class:`Arm` holds
what a step does at alpha = 1. Derivations in docs/how-to/plan.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.rules import ESConfig, require_nonnegative, require_positive
from estheory.theory.estimators import estimator_of
from estheory.theory.signal import progress_per_step
from estheory.theory.walk import Walk, walk

TargetName = Literal["target-progress", "target-gain"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What a step of given sigma and population does, per unit of alpha.

    Attributes
    ----------
    config
        dim, sigma, population and shaping; alpha 1.
    signal
        The linear signal at this sigma.
    progress
        Expected displacement along the gradient: rho c(N) for z-scores.
    variance
        Of a flat coordinate, 1/N for z-scores.
    spread
        w: variance of the projection on the gradient over that of a flat coordinate.
    """

    config: ESConfig
    signal: Signal
    progress: float
    variance: float
    spread: float

    @property
    def population(self) -> int:
        """N."""
        return self.config.population

    def walk(self, alpha: float, steps: int) -> Walk:
        """Return the walk after ``steps`` steps of step size ``alpha``.

        Parameters
        ----------
        alpha
            Step size, weight units.
        steps
            T.

        Returns
        -------
        Walk
            As of :func:`estheory.theory.walk.walk`.
        """
        one = walk(self.config, self.signal, 1)
        return replace(
            one,
            variance=one.variance * alpha**2 * steps,
            mixing_df=one.mixing_df * steps,
            independent_steps=float(steps),
        )


def arm(config: ESConfig, signal: Signal) -> Arm:
    """Return the arm of a configuration.

    For z-scores of Gaussian rewards w = 1 - rho^2 + rho^2 (N - 1 - N c^2).

    Parameters
    ----------
    config
        The run; its alpha is ignored.
    signal
        The linear signal at its sigma.

    Returns
    -------
    Arm
        Progress and variance a unit of alpha.

    Raises
    ------
    ConfigError
        If the reliability is unknown.
    """
    unit = replace(config, alpha=1.0)
    progress, variance = progress_per_step(unit, signal), walk(unit, signal, 1).variance
    square, _, _ = estimator_of(config).projection_moments(signal.reliability or 0.0, signal.even_share)
    return Arm(
        config=unit,
        signal=signal,
        progress=progress,
        variance=variance,
        spread=max(square - progress**2 / variance, 0.0),
    )


@dataclass(frozen=True, kw_only=True)
class Attained:
    """What a run attains on its task.

    Attributes
    ----------
    progress
        Displacement along the gradient, weight units.
    value
        The target's own value, mean over seeds, in its unit.
    """

    progress: float
    value: float


class Target(Protocol):
    """What a run should attain on its task, in the mean over seeds."""

    @property
    def name(self) -> TargetName:
        """The option that sets it."""

    @property
    def value(self) -> float:
        """What is wanted, in weight units (progress) or reward units (gain)."""

    def scaled(self, factor: float) -> Target:
        """Return the target of ``factor`` times the value.

        Parameters
        ----------
        factor
            Positive.

        Returns
        -------
        Target
            The same but for its value.
        """

    def attained(self, arm: Arm, alpha: float, steps: int) -> Attained | None:
        """Return what a run attains.

        Parameters
        ----------
        arm
            Sigma, population and shaping.
        alpha
            Step size, weight units.
        steps
            T.

        Returns
        -------
        Attained or None
            None when the run diverges.
        """

    def smallest_alpha(self, arm: Arm, steps: int, limit: float) -> float | None:
        """Return the smallest step size that attains the target.

        Parameters
        ----------
        arm
            Sigma, population and shaping.
        steps
            T.
        limit
            Largest step size, weight units.

        Returns
        -------
        float or None
            Weight units; None if none does.
        """

    def smallest_steps(self, arm: Arm, alpha: float, limit: int) -> int | None:
        """Return the smallest number of steps that attains the target.

        Parameters
        ----------
        arm
            Sigma, population and shaping.
        alpha
            Step size, weight units.
        limit
            Most steps.

        Returns
        -------
        int or None
            None if none does.
        """

    def alphas(self, sigma: float) -> tuple[float, ...] | None:
        """Return the step sizes to try.

        Parameters
        ----------
        sigma
            Perturbation scale, weight units.

        Returns
        -------
        tuple of float, or None
            Weight units; None where the smallest that serves is known in closed form.
        """


@dataclass(frozen=True, kw_only=True)
class LocalTarget:
    """A target on a reward of known gradient and, for gains, known traces of its curvature; a :class:`Target`.

    With u = g'Lam g/||g||^2 the curvature along the gradient and a = alpha c rho/||g||, S taken constant: progress
    (||g||/u)(1 - (1-a u)^T) and gain (||g||^2/2u)(1 - (1-a u)^(2T)) - 1/2 v (tr Lam - u (1 - w)). At T = 1 it is the
    sheet's gain of one step; with u = 0 the progress is alpha c rho T.

    Attributes
    ----------
    name, value
        ``target-progress`` (weight) or ``target-gain`` (reward).
    gradient_norm
        ||g||, reward / weight; 1 where only progress matters.
    trace, gradient_curvature
        tr Lam and u, reward / weight^2, both 0 for a linear reward.

    Raises
    ------
    ConfigError
        For a value out of range, or a curvature that contradicts the trace or the target.

    Notes
    -----
    Label: small-step; exact for progress on a linear reward. Source: ours: docs/how-to/plan.md.
    """

    name: TargetName
    value: float
    gradient_norm: float = 1.0
    trace: float = 0.0
    gradient_curvature: float = 0.0

    def __post_init__(self) -> None:
        """Check every field."""
        require_positive(self.name, self.value)
        require_positive("gradient-norm", self.gradient_norm)
        for name, value in (("curvature-trace", self.trace), ("gradient-curvature", self.gradient_curvature)):
            require_nonnegative(name, value)
        if self.name == "target-progress" and self.trace:
            raise ConfigError("curvature-trace has no part in --target-progress", "use --target-gain, or leave it out")
        if self.gradient_curvature > self.trace:
            raise ConfigError(
                f"gradient-curvature {self.gradient_curvature:g} exceeds curvature-trace {self.trace:g}",
                "it is one direction's share of the trace: g'Lam g / ||g||^2",
            )

    def scaled(self, factor: float) -> LocalTarget:
        """Return the target of ``factor`` times the value.

        Parameters and result as of :meth:`Target.scaled`.
        """
        return replace(self, value=self.value * factor)

    def attained(self, arm: Arm, alpha: float, steps: int) -> Attained | None:
        """Return what a run attains; None when it diverges along the gradient.

        Parameters and result as of :meth:`Target.attained`.
        """
        g, u = self.gradient_norm, self.gradient_curvature
        shrink = alpha * arm.progress * u / g
        if shrink >= 2:
            return None
        if shrink == 0:
            progress, coherent = alpha * arm.progress * steps, alpha * arm.progress * steps * g
        else:
            log_keep = math.log1p(-shrink) if shrink < 1 else math.log(max(shrink - 1, 1e-300))
            lost = -math.expm1(steps * log_keep) if shrink <= 1 or steps % 2 == 0 else 1 + math.exp(steps * log_keep)
            progress, coherent = g / u * lost, -(g * g / (2 * u)) * math.expm1(2 * steps * log_keep)
        cost = 0.5 * alpha**2 * steps * arm.variance * (self.trace - u * (1 - arm.spread))
        return Attained(progress=progress, value=progress if self.name == "target-progress" else coherent - cost)

    def _value(self, arm: Arm, alpha: float, steps: int) -> float:
        found = self.attained(arm, alpha, steps)
        return -math.inf if found is None else found.value

    def smallest_alpha(self, arm: Arm, steps: int, limit: float) -> float | None:
        """Return the smallest alpha <= limit that attains the target, or None; the value is concave up to a u = 1.

        Parameters and result as of :meth:`Target.smallest_alpha`.
        """
        if arm.progress == 0:
            return None
        if self.trace == 0:
            alpha = self.value / (self.gradient_norm if self.name == "target-gain" else 1.0) / (arm.progress * steps)
            return alpha if alpha <= limit * (1 + 1e-12) else None
        top = limit
        if self.gradient_curvature:
            top = min(top, self.gradient_norm / (arm.progress * self.gradient_curvature))
        low, high = 0.0, top
        for _ in range(80):  # golden section would save a few of these
            left, right = low + (high - low) / 3, high - (high - low) / 3
            if self._value(arm, left, steps) < self._value(arm, right, steps):
                low = left
            else:
                high = right
        if self._value(arm, high, steps) < self.value:
            return None
        low = 0.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self._value(arm, middle, steps) < self.value else (low, middle)
        return high

    def smallest_steps(self, arm: Arm, alpha: float, limit: int) -> int | None:
        """Return the smallest number of steps <= limit that attains the target, or None; the value is concave.

        Parameters and result as of :meth:`Target.smallest_steps`.
        """
        low, high = 1, limit
        while low < high:  # the last step that still adds
            middle = (low + high) // 2
            if self._value(arm, alpha, middle + 1) > self._value(arm, alpha, middle):
                low = middle + 1
            else:
                high = middle
        short_of = self.value * (1 - 1e-12)
        if self._value(arm, alpha, high) < short_of:
            return None
        low = 1
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._value(arm, alpha, middle) < short_of else (low, middle)
        return high

    def alphas(self, sigma: float) -> None:
        """Return None: the smallest alpha is found by bisection.

        Parameters as of :meth:`Target.alphas`.
        """
