"""A target on a reward whose whole spectrum is known: gain by the mean-field recursion."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from estheory.landscape import Landscape
from estheory.rules import require_positive
from estheory.theory.curved.recursion import states
from estheory.theory.planning.targets import Arm, Attained, TargetName

MAX_SPECTRUM_STEPS = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectrumTarget:
    """A gain on a landscape of known spectrum, by the mean-field recursion.

    One kind of :class:`~estheory.theory.planning.targets.Target`.

    Attributes
    ----------
    value
        The gain, reward units.
    landscape
        The quadratic; its offsets are the start.
    name
        ``target-gain``.

    Raises
    ------
    ConfigError
        If the value is not > 0.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md.
    """

    value: float
    landscape: Landscape
    name: TargetName = "target-gain"
    _known: dict[tuple[float, ...], tuple[int | None, int]] = field(default_factory=dict, repr=False)
    """Steps to a gain, and the limit they were sought within: no budget has a part in them."""

    def __post_init__(self) -> None:
        """Check the value: it cannot be more than there is to gain."""
        require_positive(self.name, self.value)

    def scaled(self, factor: float) -> SpectrumTarget:
        """Return the target of ``factor`` times the value.

        Parameters and result as of :meth:`estheory.theory.planning.targets.Target.scaled`.
        """
        return replace(self, value=self.value * factor)

    def alphas(self, sigma: float) -> tuple[float, ...]:
        """Return sigma, sigma/2, ... sigma/32.

        Parameters and result as of :meth:`estheory.theory.planning.targets.Target.alphas`.
        """
        return tuple(sigma * 0.5**k for k in range(6))

    def _follow(self, arm: Arm, alpha: float, limit: int, stop_at: float) -> tuple[int, Attained] | None:
        """Return the first step whose gain is at least ``stop_at``, or the last; None when it diverged.

        Stops where the gain has fallen back for longer than it rose, or where the last doubling of the steps closed
        less than 1 % of what was missing.
        """
        shape = self.landscape
        weight = -0.5 * shape.multiplicity * shape.eigenvalue
        best, best_step = -math.inf, 0
        check, before = 64, -math.inf
        for state in states(replace(arm.config, alpha=alpha), shape):
            gain = shape.gap + float(weight @ state.square)
            if not math.isfinite(gain) or gain < -1e6 * shape.gap:
                break
            if gain > best:
                best, best_step = gain, state.step
            hopeless = stop_at < math.inf and state.step > 2 * best_step + 20
            if state.step == check:
                hopeless = hopeless or gain - before < 0.01 * (stop_at - gain) < math.inf
                check, before = 2 * check, gain
            if state.step and (gain >= stop_at or state.step == limit or hopeless):
                moved = float(shape.multiplicity @ (shape.offset - state.mean) ** 2)
                return state.step, Attained(progress=math.sqrt(moved), value=gain)
        return None

    def attained(self, arm: Arm, alpha: float, steps: int) -> Attained | None:
        """Return what a run attains; None when it diverges.

        Parameters and result as of :meth:`estheory.theory.planning.targets.Target.attained`.
        """
        found = self._follow(arm, alpha, steps, math.inf)
        return None if found is None else found[1]

    def smallest_alpha(self, arm: Arm, steps: int, limit: float) -> float | None:
        """Return the smallest of the step sizes tried that attains the target in ``steps`` steps, or None.

        Parameters and result as of :meth:`estheory.theory.planning.targets.Target.smallest_alpha`.
        """
        for alpha in reversed(self.alphas(limit)):
            found = self.attained(arm, alpha, steps)
            if found is not None and found.value >= self.value:
                return alpha
        return None

    def smallest_steps(self, arm: Arm, alpha: float, limit: int) -> int | None:
        """Return the first step <= limit (and <= MAX_SPECTRUM_STEPS) whose mean gain attains the target, or None.

        Parameters and result as of :meth:`estheory.theory.planning.targets.Target.smallest_steps`.
        """
        key = (arm.config.sigma, arm.population, alpha, self.value)
        steps, within = self._known.get(key, (None, 0))
        if steps is None and within < min(limit, MAX_SPECTRUM_STEPS):
            found = self._follow(arm, alpha, min(limit, MAX_SPECTRUM_STEPS), self.value)
            steps = found[0] if found is not None and found[1].value >= self.value else None
            gave_up = found is None or (steps is None and found[0] < min(limit, MAX_SPECTRUM_STEPS))
            self._known[key] = (steps, MAX_SPECTRUM_STEPS if gave_up else limit)
        return steps if steps is not None and steps <= limit else None
