"""The GRPO run that ES is compared with, and the predictions about it (docs/concepts/es-and-grpo.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw, PointLaw
from estheory.quantities import Label, Prediction, Quantity
from estheory.rules import ESConfig, require_count, require_positive
from estheory.theory import adamw
from estheory.theory.estimators import estimator_of
from estheory.theory.rounding.predictions import NormRounding
from estheory.theory.run_norm import RunNorm
from estheory.theory.walk import Walk

UNEQUAL_NOISE = 1e-3
"""Share of the signal's motion in the squared norm, and of steps that tie, that the mean square may leave out."""
MOST_SIGNAL = 0.1
"""Share of the signal's motion in the squared norm up to which the walk of more members has the rest."""
MANY_MEMBERS = 1e6
"""Members from which the progress of a step is that of any number, to 1e-6."""


@dataclass(frozen=True, kw_only=True)
class GRPOConfig:
    """The gradient-based run that ES is compared with: AdamW's hyper-parameters, or its measured displacement norm.

    Attributes
    ----------
    lr, steps, schedule
        Peak learning rate (weight units), number of optimiser steps, and decay (``constant``, ``linear``, ``cosine``).
    norm
        A measured ||Delta_GRPO||, weight units, in place of the hyper-parameters.
    """

    lr: float | None = None
    steps: int | None = None
    schedule: adamw.Schedule = "linear"
    norm: float | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        if self.norm is not None:
            require_positive("grpo-norm", self.norm)
        if (self.lr is None) != (self.steps is None):
            raise ConfigError("grpo-lr and grpo-steps belong together", "give both, or a measured --grpo-norm")
        if self.lr is not None and self.steps is not None:
            require_positive("grpo-lr", self.lr)
            require_count("grpo-steps", self.steps, 1)
        elif self.norm is None:
            raise ConfigError("nothing is known of the GRPO run", "give --grpo-lr and --grpo-steps, or --grpo-norm")


def against_grpo(
    config: ESConfig,
    signal: Signal,
    last: Walk,
    length: RunNorm,
    grpo: GRPOConfig,
    step: int,
    rounding: NormRounding,
) -> Iterator[Prediction]:
    """Predict the norm of the GRPO run, the ratio of the norms and the population that would match them.

    Parameters
    ----------
    config, signal, last, length, step
        The ES run, its linear signal, its walk and its norm at the last step, and that step.
    grpo
        The run to compare with.
    rounding
        What rounding does to the norm of ES.

    Yields
    ------
    Prediction
        ``grpo_displacement_norm`` (weight; where it is not measured), ``norm_ratio``, ``matching_population``. Label
        mean-field, or that of the walk beside a measured norm. Source: ours: docs/concepts/es-and-grpo.md.
    """
    half_width = rounding.half_width + 0.5 * last.declared_error
    known: tuple[str, ...]
    dense = ("dense, independent gradient noise", "no weight decay, fp32 master weights")
    if grpo.norm is not None:
        grpo_norm, known = grpo.norm, ("measured GRPO norm",)
    else:
        assert grpo.lr is not None  # GRPOConfig checks both
        assert grpo.steps is not None
        grpo_norm = math.sqrt(adamw.grpo_mean_square(config.dim, grpo.lr, grpo.steps, grpo.schedule))
        known = dense
        yield Prediction(
            quantity=Quantity.GRPO_DISPLACEMENT_NORM,
            # the first step is a sign in every coordinate
            law=PointLaw(grpo_norm) if grpo.steps == 1 else ChiLaw(grpo_norm / math.sqrt(config.dim), config.dim),
            label="mean-field",
            source=ours("es-and-grpo"),
            assumptions=dense,
            step=grpo.steps,
        )
    if length.missing:
        return
    norm = length.law if rounding.is_exact else rounding.law(length.matched)
    ratio = Prediction(
        quantity=Quantity.NORM_RATIO,
        law=replace(norm, scale=norm.scale / grpo_norm),
        label="mean-field" if grpo.norm is None else length.label,
        source=ours("es-and-grpo"),
        assumptions=(*length.assumptions, *known),
        step=step,
        systematic=half_width,
    )
    yield last.scattered(ratio, 0.5, length.follows)
    # only then does the mean square fall as 1/N: the walk's own, with z-scores
    estimator = estimator_of(config)
    if not estimator.divides_by_spread or not length.is_walk:
        return
    inverse = last.variance * last.dim * rounding.gain**2 / grpo_norm**2 * config.population
    steered = _signal_share(inverse, config, signal, last, grpo_norm / rounding.gain)
    steered = 0.0 if steered <= UNEQUAL_NOISE else steered
    # on curved ground, where the norm knows no progress, the gradient does not stay
    unknown = steered > (MOST_SIGNAL if length.progress else 0.0)
    if unknown or _tie_share(inverse, config, last) > UNEQUAL_NOISE:
        return
    population = estimator.of_equal_noise(inverse / (1 - steered), signal)
    if population is None:
        return
    walks: Label = "large-N" if steered else last.label
    constant = ("the gradient keeps its direction and length",) if steered else ()
    yield Prediction(
        quantity=Quantity.MATCHING_POPULATION,
        law=PointLaw(population),
        label="mean-field" if grpo.norm is None else walks,
        source=ours("es-and-grpo"),
        assumptions=(*last.assumptions, *known, *constant),
        step=step,
        systematic=2 * half_width,
    )


def _signal_share(population: float, config: ESConfig, signal: Signal, last: Walk, norm: float) -> float:
    """Return the share of the signal's motion in the square of ``norm`` (weight units) of a run of ``population``."""
    estimator = estimator_of(config)
    if not signal.reliability or not estimator.knows_progress(signal):
        return 0.0
    members = max(2 * math.ceil(min(population, MANY_MEMBERS) / 2), config.population)
    progress = replace(estimator, population=members).progress(signal) * last.coherent_steps
    # along a gradient that repeats in shared seeds, signal acts so many times as strongly
    repeats = last.dim / last.effective_dim if config.noise == "shared-seed" else 1.0
    return repeats * (progress / norm) ** 2


def _tie_share(population: float, config: ESConfig, last: Walk) -> float:
    """Return the most that the share of steps that tie may be, with ``population`` members or as many as there are."""
    if not last.tie_probability:
        return 0.0
    # log sum p^n is convex in n and 0 at 1
    fewer = (min(population, config.population) - 1) / (config.population - 1)
    return float(last.tie_probability ** max(fewer, 0.0))
