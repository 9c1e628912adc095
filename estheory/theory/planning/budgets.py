"""Drift budgets: how far a run may go from its base model, met with a stated probability over seeds.

Every budget is on a quantity whose law the walk gives (docs/how-to/plan.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from estheory.errors import ConfigError
from estheory.laws import Law
from estheory.quantities import Prediction, Quantity
from estheory.rules import require_nonnegative, require_positive
from estheory.theory.drift import OURS as DRIFT
from estheory.theory.drift import kl_law, off_task_loss_quantile, off_task_reward_law
from estheory.theory.run_norm import RunNorm, drifts_as_walk, steered_norm
from estheory.theory.walk import Walk

PLAN = "ours: docs/how-to/plan.md"
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True, kw_only=True)
class DriftBudget:
    """Limits on drift; each that is given must hold with probability ``confidence`` over seeds.

    Attributes
    ----------
    max_norm
        Displacement norm, weight units.
    max_kl
        KL(base || tuned), nats per token; needs ``fisher_trace``.
    max_off_task_loss
        Loss of another task's reward, reward units; needs ``off_task_trace`` or ``off_task_gradient_norm``.
    fisher_trace, fisher_square_trace
        tr F and tr F^2 per token. Without the second the spread of KL is unknown and its mean meets the budget.
    off_task_trace, off_task_square_trace, off_task_gradient_norm
        tr Lam_off >= 0, tr Lam_off^2 and ||g_off||. Without the second all curvature is taken to be in one direction,
        the worst case of curvatures of one sign.
    confidence
        In [0.5, 1).

    Raises
    ------
    ConfigError
        If no budget is given, a value is out of range, or what a budget needs is missing.
    """

    max_norm: float | None = None
    max_kl: float | None = None
    max_off_task_loss: float | None = None
    fisher_trace: float | None = None
    fisher_square_trace: float | None = None
    off_task_trace: float | None = None
    off_task_square_trace: float | None = None
    off_task_gradient_norm: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Check every field."""
        if not self.limits:
            raise ConfigError("no drift budget", "give --max-norm, --max-kl or --max-off-task-loss")
        for name, value in self.limits.items():
            require_positive(name, value)
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"confidence must lie in [0.5, 1), got {self.confidence}", "0.95 is common")
        if self.fisher_trace is not None:
            kl_law(_UNIT, fisher_trace=self.fisher_trace, fisher_square_trace=self.fisher_square_trace)
        elif self.max_kl is not None or self.fisher_square_trace is not None:
            raise ConfigError("--max-kl needs the Fisher trace", "give --fisher-trace (a probe before the run)")
        trace, gradient = self.off_task_trace, self.off_task_gradient_norm
        require_nonnegative("off-task-trace in a budget", trace or 0.0)
        require_nonnegative("off-task-gradient-norm", gradient or 0.0)
        require_nonnegative("off-task-square-trace", self.off_task_square_trace or 0.0)
        if self.max_off_task_loss is not None and not (trace or gradient):
            raise ConfigError(
                "--max-off-task-loss needs the other task", "give --off-task-trace or --off-task-gradient-norm"
            )

    @property
    def limits(self) -> dict[str, float]:
        """The budgets that are given, by option name."""
        named = {f.name.replace("_", "-"): getattr(self, f.name) for f in fields(self) if f.name.startswith("max")}
        return {name: value for name, value in named.items() if value is not None}

    def scaled(self, factor: float) -> DriftBudget:
        """Return the budgets of a run ``factor`` times as far: norms by it, KL and losses by its square.

        Parameters
        ----------
        factor
            Positive.

        Returns
        -------
        DriftBudget
            The same but for its limits.
        """
        square = factor * factor
        return replace(
            self,
            max_norm=None if self.max_norm is None else self.max_norm * factor,
            max_kl=None if self.max_kl is None else self.max_kl * square,
            max_off_task_loss=None if self.max_off_task_loss is None else self.max_off_task_loss * square,
        )

    def exceeded(self, walk: Walk, progress: float, spread: float) -> tuple[str, ...]:
        """Return the budgets that the run does not meet with the stated confidence.

        Parameters and result as of :meth:`DriftBudget.used`, the names alone.
        """
        used = self.used(walk, progress, spread)
        return tuple(name for name, limit in self.limits.items() if used[name] > limit * _ROUNDING)

    def used(self, walk: Walk, progress: float, spread: float) -> dict[str, float]:
        """Return the drift that is not passed with probability ``confidence``.

        Parameters
        ----------
        walk
            The walk after the steps in question.
        progress
            Expected displacement along the gradient, weight units.
        spread
            Variance of the projection on the gradient over that of a flat coordinate.

        Returns
        -------
        dict
            By option name (``max-norm``, ``max-kl``, ``max-off-task-loss``), in the unit of the limit.
        """
        found = {}
        if self.max_norm is not None:
            found["max-norm"] = steered_norm(walk, progress, spread).quantile(self.confidence)
        if self.max_kl is not None:
            found["max-kl"] = _quantile(self._kl(walk), self.confidence)
        if self.max_off_task_loss is not None:
            found["max-off-task-loss"] = off_task_loss_quantile(
                walk,
                trace=self.off_task_trace or 0.0,
                square_trace=self.off_task_square_trace,
                gradient_norm=self.off_task_gradient_norm or 0.0,
                level=self.confidence,
            )
        return found

    def _kl(self, walk: Walk) -> Law:
        assert self.fisher_trace is not None  # __post_init__
        return kl_law(walk, fisher_trace=self.fisher_trace, fisher_square_trace=self.fisher_square_trace)

    def _change(self, walk: Walk) -> Law:
        trace, gradient = self.off_task_trace or 0.0, self.off_task_gradient_norm or 0.0
        return off_task_reward_law(walk, trace=trace, square_trace=self.off_task_square_trace, gradient_norm=gradient)

    def counts_all_drift(self, walk: Walk, progress: float, spread: float) -> bool:
        """Say whether the limits on KL and off-task loss count all that moves the run; they count the walk alone.

        Parameters and result as of :meth:`used`; the criterion by which `predict` gives these rows.
        """
        if self.max_kl is None and self.max_off_task_loss is None:
            return True
        norm = steered_norm(walk, progress, spread)
        return drifts_as_walk(walk, norm.scale**2 * norm.df)

    def predictions(self, walk: Walk, norm: RunNorm, steps: int) -> Iterator[Prediction]:
        """Yield the laws of norm, KL and off-task change after ``steps`` steps, as far as they are known.

        Parameters
        ----------
        walk
            As of :meth:`used`.
        norm
            The law of its norm, which `predict` gives too.
        steps
            T.

        Yields
        ------
        Prediction
            Each with its label and source.
        """
        if not norm.missing:
            yield Prediction(
                quantity=Quantity.DISPLACEMENT_NORM,
                law=norm.law,
                label=norm.label,
                source=PLAN,
                assumptions=(*walk.assumptions, "constant gradient, Gaussian rewards"),
                step=steps,
                systematic=norm.systematic,
            )
        if not drifts_as_walk(walk, norm.mean_square):
            return
        small = ("small displacement", "the signal's own share of the drift is left out")
        for quantity, law in (
            (Quantity.KL_DRIFT, None if self.fisher_trace is None else self._kl(walk)),
            (
                Quantity.OFF_TASK_REWARD_CHANGE,
                self._change(walk) if self.off_task_trace or self.off_task_gradient_norm else None,
            ),
        ):
            if law is not None:
                yield Prediction(
                    quantity=quantity, law=law, label="small-step", source=DRIFT, assumptions=small, step=steps
                )


def _quantile(law: Law, p: float) -> float:
    return law.mean if law.std == 0 else law.quantile(p)


_UNIT = Walk(
    variance=1.0,
    effective_dim=1.0,
    dim=1,
    mixing_df=math.inf,
    coherent_steps=1.0,
    label="exact",
    source=PLAN,
    assumptions=(),
)
