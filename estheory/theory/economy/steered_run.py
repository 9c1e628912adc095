"""How far a recorded run is from its start, and what that does: its walk and its coherent part together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from estheory.citations import ours
from estheory.errors import DataError
from estheory.laws import CutNormalLaw, Law, NormalLaw, PointLaw
from estheory.quantities import Label, Prediction, Quantity
from estheory.theory.economy.chord import Displaced, pulled_walk
from estheory.theory.economy.coherent import (
    FEWEST_SMOOTHED,
    SMOOTHED,
    CoherentMotion,
    CoherentPart,
    coherent_part,
    gradient_cosine,
)
from estheory.theory.economy.ledger import Ledger, Sum
from estheory.theory.economy.ledger_entry import LedgerRules

OURS = ours("economy")
BOTH = "walk and coherent part"
"""Stands in `where` beside the law of the walk alone."""
FLAT = "nearly all directions flat: nothing pulls the walk back"
LEDGER = "coherent part from the ledger: rates averaged over neighbouring updates"
START = "with the gradient of the smoothed reward at the start"


@dataclass(frozen=True, kw_only=True)
class TaskDrift:
    """What probes before a run say of the KL that its displacement makes on one task.

    Attributes
    ----------
    trace, trace_std
        tr F and its relative standard deviation over walks, nat/token/weight^2.
    curvature, curvature_stderr
        f = g^' F g^ along what the first updates have in common, nat/token/weight^2.
    """

    trace: float
    trace_std: float
    curvature: float
    curvature_stderr: float

    def kl(self, *, walk: float, square: float) -> float:
        """Return the mean KL of a displacement: 1/2 v tr F + 1/2 p^2 f.

        Parameters
        ----------
        walk
            v, variance of one coordinate of the walk, weight^2.
        square
            p^2, the square of the coherent displacement, weight^2.

        Returns
        -------
        float
            Nat per token, never negative: f is a difference of noisy probes, KL is convex about its minimum.

        Notes
        -----
        Label: small-step. Source: ours: docs/concepts/economy.md. Refuted once the reward has risen: an upper bound.

        Examples
        --------
        >>> TaskDrift(trace=10.0, trace_std=0.1, curvature=4.0, curvature_stderr=1.0).kl(walk=0.1, square=0.5)
        1.5
        """
        return 0.5 * (walk * self.trace + square * max(self.curvature, 0.0))


@dataclass(frozen=True, kw_only=True)
class SteeredRun:
    """A run whose updates add up to its displacement, as its ledger tells it.

    Attributes
    ----------
    part
        Of the updates that were read, from the first on.
    dim
        Number of trained parameters.
    drift
        What probes say of KL, by task; empty where nothing was probed.
    """

    part: CoherentPart
    dim: int
    drift: Mapping[str, TaskDrift] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Updates that were read."""
        return int(self.part.walk.size)

    def walk(self, step: int) -> Sum:
        """Return the variance of one coordinate of the walk after a step, weight^2.

        Parameters
        ----------
        step
            From 1; of a later one than was read, at the rate of the last twelfth, give or take the scatter of updates.

        Returns
        -------
        Sum
            Without error up to the last update that was read.

        Notes
        -----
        Label: exact given the coefficients; large-N for a later step. Source: ours: docs/concepts/economy.md.
        """
        walk, ahead = self.part.walk, step - self.steps
        if ahead <= 0:
            return Sum(value=float(walk[step - 1]), stderr=0.0)
        each = np.diff(walk, prepend=0.0)
        recent = float(each[-max(FEWEST_SMOOTHED, self.steps // SMOOTHED) :].mean())
        return Sum(value=float(walk[-1]) + ahead * recent, stderr=ahead * float(each.std()))

    def square(self, step: int) -> Sum:
        """Return p_T^2 after a step, weight^2.

        Parameters
        ----------
        step
            From 1; a later one than was read is reached at a rate that falls by e over as many steps as were read, give
            or take half of what that adds.

        Returns
        -------
        Sum
            Never negative, and its standard error.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md.
        """
        found = self._estimate(_square, step)
        return Sum(value=max(found.value, 0.0), stderr=found.stderr)

    def along_first(self, step: int) -> Sum:
        """Return the coherent displacement along the gradient at the start after a step, weight units.

        Parameters
        ----------
        step
            As for :meth:`square`.

        Returns
        -------
        Sum
            And its standard error.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md.
        """
        return self._estimate(_along_first, step)

    def _estimate(self, function: Callable[[int, CoherentMotion], float], step: int) -> Sum:
        found = self.part.estimate(partial(function, step))
        if step <= self.steps:
            return found
        added = found.value - function(self.steps, self.part.motion)
        return Sum(value=found.value, stderr=math.hypot(found.stderr, added / 2))

    def norm(self, step: int) -> float:
        """Return the root of E||Delta||^2 = v d + p_T^2, weight units.

        Parameters
        ----------
        step
            From 1.

        Returns
        -------
        float
            0 where nothing moved.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md. Half of p_T^2 where it is only an upper bound.
        """
        return math.sqrt(self.walk(step).value * self.dim + self._known(self.square(step)).value)

    def cosine(self, step: int) -> Sum:
        """Return the cosine of the displacement with the gradient at the start.

        Parameters
        ----------
        step
            From 1.

        Returns
        -------
        Sum
            Its standard error is that of the ledger alone, without the walk's own scatter 1/sqrt(d); 0 where nothing
            moved.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/economy.md. Half of it where it is only an upper bound.
        """
        walk, square = self.walk(step).value, self._known(self.square(step)).value
        if not walk * self.dim + square:
            return Sum(value=0.0, stderr=0.0)
        cosine = partial(gradient_cosine, square=square, walk=walk, dim=self.dim)
        along = self._known(self.along_first(step))
        return Sum(value=cosine(along=along.value), stderr=cosine(along=along.stderr))

    def displaced(self, curvature: float) -> Displaced:
        """Return where the run is after its last update, along directions of some curvature.

        Parameters
        ----------
        curvature
            Of minus the reward's Hessian, reward / weight^2.

        Returns
        -------
        Displaced
            Its walk is pulled back as the updates learn.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md.
        """
        part = self.part
        with np.errstate(divide="ignore", invalid="ignore"):
            mobility = np.where(part.gradient > 0, part.motion.progress / part.gradient, 0.0)
        return Displaced(
            walk=pulled_walk(np.diff(part.walk, prepend=0.0), mobility, curvature),
            along=self.along_first(self.steps).value,
        )

    def _known(self, found: Sum) -> Sum:
        """Return the middle of what is known."""
        share = 1.0 if self.part.bound is None else 0.5
        return Sum(value=share * found.value, stderr=share * found.stderr)

    def predictions(self, step: int) -> Iterator[Prediction]:
        """Predict norm, coherent displacement, cosine with the first gradient and KL after a step.

        Parameters
        ----------
        step
            From 1.

        Yields
        ------
        Prediction
            Of ``displacement_norm``, ``coherent_displacement`` (weight), ``gradient_cosine`` and ``kl_drift``
            (nat/token). Where the ledger is only an upper bound: half of its part, with all of it as the systematic
            half-width.

        Notes
        -----
        Label: mean-field, of KL small-step. Source: ours: docs/concepts/economy.md.
        """
        whole_walk, square = self.walk(step), self._known(self.square(step))
        walk, walk_error = whole_walk.value, whole_walk.stderr
        if walk == 0.0:
            return
        norm, cosine = self.norm(step), self.cosine(step)
        scatter = 2 * self.dim * walk**2 + 4 * walk * square.value + (self.dim * walk_error) ** 2 + square.stderr**2
        spread = math.sqrt(scatter) / (2 * norm)
        band = square.value / (2 * norm**2) if self.part.bound else 0.0
        yield self._made(Quantity.DISPLACEMENT_NORM, NormalLaw(norm, spread), step, systematic=band, where=BOTH)
        length = math.sqrt(square.value)
        error = min(square.stderr / (2 * length), math.sqrt(square.stderr)) if length else math.sqrt(square.stderr)
        whole = 1.0 if self.part.bound else 0.0
        law = CutNormalLaw(length, error, 0.0, math.inf) if error > 0 else PointLaw(length)
        yield self._made(Quantity.COHERENT_DISPLACEMENT, law, step, systematic=whole)
        free = max(1 - cosine.value**2, 0.0)  # of A / sqrt(A^2 + R^2): R is the walk's
        scattered = math.sqrt(walk) / norm * math.hypot(free, cosine.value * math.sqrt(free / 2))
        yield self._made(
            Quantity.GRADIENT_COSINE,
            NormalLaw(cosine.value, math.hypot(free * cosine.stderr, scattered)),
            step,
            START,
            systematic=whole,
        )
        for task, drift in self.drift.items():
            mean = drift.kl(walk=walk, square=0.0)
            own = drift.kl(walk=walk, square=square.value) - mean
            spread = math.hypot(
                mean * drift.trace_std,
                0.5 * walk_error * drift.trace,
                0.5 * math.hypot(square.stderr * drift.curvature, square.value * drift.curvature_stderr),
            )
            both = CutNormalLaw(mean + own, spread, 0.0, math.inf) if spread > 0 else PointLaw(mean + own)
            yield self._made(
                Quantity.KL_DRIFT,
                both,
                step,
                "KL quadratic, and along the coherent part as along what the first updates have in common: "
                "an upper bound once the reward has risen",
                systematic=own / (mean + own) if self.part.bound and mean + own > 0 else 0.0,
                where=f"{task}, {BOTH}",
                label="small-step",
            )

    def _made(
        self,
        quantity: Quantity,
        law: Law,
        step: int,
        *assumptions: str,
        systematic: float = 0.0,
        where: str = "",
        label: Label = "mean-field",
    ) -> Prediction:
        upper = ("members are not mirrored: between none of the ledger's coherent part and all of it",)
        return Prediction(
            quantity=quantity,
            law=law,
            label=label,
            source=OURS,
            assumptions=(FLAT, LEDGER, *(upper if self.part.bound else ()), *assumptions),
            step=step,
            systematic=systematic,
            where=where,
        )


def _square(step: int, motion: CoherentMotion) -> float:
    return float(motion.until(step).square()[step - 1])


def _along_first(step: int, motion: CoherentMotion) -> float:
    return float(motion.until(step).along_first()[step - 1])


def steered_run(
    book: Ledger, rules: LedgerRules, dim: int | None, drift: Mapping[str, TaskDrift] | None = None
) -> SteeredRun | None:
    """Return a run's walk and coherent part, where its log tells them.

    Parameters
    ----------
    book, rules
        Its ledger.
    dim
        Number of trained parameters; None where it is not known, or where updates do not simply add up (momentum,
        anchors, rounding).
    drift
        What probes before the run say of KL, by task.

    Returns
    -------
    SteeredRun or None
        None too where the log begins late, or does not tell prompts apart.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md.
    """
    if dim is None or book.entries[0].step != 1:
        return None
    try:
        return SteeredRun(part=coherent_part(book, rules), dim=dim, drift=drift or {})
    except DataError:
        return None
