"""The GRPO run that ES is compared with, and the predictions about it (docs/concepts/es-and-grpo.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig, require_count, require_positive
from estheory.theory import adamw
from estheory.theory.estimators import estimator_of
from estheory.theory.rounding.predictions import NormRounding
from estheory.theory.run_norm import RunNorm
from estheory.theory.walk import Walk


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
            source="ours: docs/concepts/es-and-grpo.md",
            assumptions=dense,
            step=grpo.steps,
        )
    norm = rounding.law(length.matched)
    ratio = Prediction(
        quantity=Quantity.NORM_RATIO,
        law=replace(norm, scale=norm.scale / grpo_norm),
        label="mean-field" if grpo.norm is None else length.label if length.law == length.matched else "large-N",
        source="ours: docs/concepts/es-and-grpo.md",
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
    population = estimator.of_equal_noise(inverse, signal)
    if population is None:
        return
    yield Prediction(
        quantity=Quantity.MATCHING_POPULATION,
        law=PointLaw(population),
        label="mean-field" if grpo.norm is None else last.label,
        source="ours: docs/concepts/es-and-grpo.md",
        assumptions=(*last.assumptions, *known),
        step=step,
        systematic=2 * half_width,
    )
