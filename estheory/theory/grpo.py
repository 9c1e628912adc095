"""The GRPO run that ES is compared with, and the predictions about it (docs/concepts/es-and-grpo.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from estheory.errors import ConfigError
from estheory.laws import ChiLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig, require_count, require_positive
from estheory.theory import adamw
from estheory.theory.estimators import estimator_of
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
    config: ESConfig, last: Walk, grpo: GRPOConfig, step: int, gain: float, systematic: float
) -> Iterator[Prediction]:
    """Predict the norm of the GRPO run, the ratio of the norms and the population that would match them.

    Parameters
    ----------
    config, last, step
        The ES run, its walk at the last step, and that step.
    grpo
        The run to compare with.
    gain, systematic
        Rounding's factor on the norm of ES, and the declared relative half-width of that norm.

    Yields
    ------
    Prediction
        ``grpo_displacement_norm`` (weight; where it is not measured), ``norm_ratio``, ``matching_population``. Label
        mean-field, or that of the walk beside a measured norm. Source: ours: docs/concepts/es-and-grpo.md.
    """
    square, half_width = last.variance * last.dim * gain**2, systematic + 0.5 * last.declared_error
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
            law=ChiLaw(grpo_norm / math.sqrt(config.dim), config.dim),
            label="mean-field",
            source="ours: docs/concepts/es-and-grpo.md",
            assumptions=dense,
            step=grpo.steps,
        )
    norm = last.norm_law
    for quantity, law in (
        (Quantity.NORM_RATIO, ChiLaw(norm.scale * gain / grpo_norm, norm.df, norm.mixing_df)),
        (Quantity.MATCHING_POPULATION, PointLaw(config.population * square / grpo_norm**2)),
    ):
        if quantity is Quantity.MATCHING_POPULATION and not estimator_of(config).divides_by_spread:
            continue
        yield Prediction(
            quantity=quantity,
            law=law,
            label="mean-field" if grpo.norm is None else last.label,
            source="ours: docs/concepts/es-and-grpo.md",
            assumptions=(*last.assumptions, *known),
            step=step,
            systematic=half_width * (2 if quantity is Quantity.MATCHING_POPULATION else 1),
        )
