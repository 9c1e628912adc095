"""Predictions that follow from the walk alone: norms, cosines of displacements, bounds on the signal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations

from estheory.cosine_laws import CorrelationLaw, CosineLaw, MixedCorrelationLaw
from estheory.laws import ChiLaw, Law, PointLaw, SquaredLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory import signal, walk
from estheory.theory.estimators.estimator import PAPER
from estheory.theory.rounding.predictions import rounded_norm
from estheory.theory.walk import OURS, Walk

NEGLIGIBLE_TIES = 1e-9
"""Expected number of steps without motion up to which the cosine of two checkpoints is given."""


def norms(
    config: ESConfig,
    walks: dict[int, Walk],
    gains: Mapping[int, float],
    bands: Mapping[int, float],
    fluctuations: Mapping[int, float],
) -> Iterator[Prediction]:
    """Predict norms and spreads at each step.

    Parameters
    ----------
    config
        The run.
    walks
        Its walks by step.
    gains
        Rounding's factors on norms, by step.
    bands
        Declared relative half-widths of norms, by step.
    fluctuations
        Relative variance that rounding adds to squared norms, by step.

    Yields
    ------
    Prediction
        ``displacement_norm`` and ``coordinate_std`` (weight), ``effective_dimension_ratio``,
        ``member_perturbation_norm`` (weight).
    """
    for step, w in walks.items():
        gain, systematic = gains[step], bands[step] + 0.5 * w.declared_error
        norm = rounded_norm(w.norm_law, gain, fluctuations[step])
        entries: list[tuple[Quantity, Law, float]] = [
            (Quantity.DISPLACEMENT_NORM, norm, systematic),
            (Quantity.COORDINATE_STD, PointLaw(math.sqrt(w.variance) * gain), systematic),
            # the ratio to the plain law's own expectation: rounding shows up in it
            (Quantity.EFFECTIVE_DIMENSION_RATIO, SquaredLaw(norm, 1 / (w.variance * w.dim)), 2 * systematic),
        ]
        for quantity, quantity_law, band in entries:
            yield Prediction(
                quantity=quantity,
                law=quantity_law,
                label=w.label,
                source=w.source,
                assumptions=w.assumptions,
                step=step,
                systematic=band,
            )
    yield Prediction(
        quantity=Quantity.MEMBER_PERTURBATION_NORM,
        law=ChiLaw(config.sigma * math.sqrt(config.dim / (n := _member_dim(config, walks))), n),
        label="exact",
        source=PAPER,
        assumptions=("one member, before any rounding",),
        step=1,
    )


def _member_dim(config: ESConfig, walks: dict[int, Walk]) -> float:
    """Return the effective number of independent coordinates of one member's noise."""
    first = next(iter(walks.values()))
    return first.effective_dim if config.noise == "shared-seed" else float(config.dim)


def cosines(
    config: ESConfig, walks: dict[int, Walk], fluctuations: Mapping[int, float], warnings: list[str]
) -> Iterator[Prediction]:
    """Predict the cosines of pairs of checkpoints of one run, and of two independent runs.

    Parameters
    ----------
    config
        The run.
    walks
        Its walks by step, in rising order.
    fluctuations
        Relative variance that rounding adds to squared norms, by step.
    warnings
        Grows by why a cosine is missing.

    Yields
    ------
    Prediction
        ``checkpoint_cosine`` a pair of steps, ``independent_cosine`` at the last.
    """
    last_step, last = list(walks.items())[-1]
    pairs = list(combinations(walks.items(), 2))
    if pairs and config.anchor_l1:
        warnings.append("no checkpoint_cosine with an L1 anchor")
        pairs = []
    mixed = not math.isinf(last.mixing_df)
    first_step, first_walk = next(iter(walks.items()))
    alike = math.isclose(first_walk.mixing_df * last_step, last.mixing_df * first_step, rel_tol=1e-9)
    if pairs and mixed and not alike:  # with an anchor or momentum, and where the spread of the rewards changes
        warnings.append("no checkpoint_cosine: steps fluctuate, and not all alike, which has no law here")
        pairs = []
    if pairs and last.tie_probability * last_step > NEGLIGIBLE_TIES:
        warnings.append("no checkpoint_cosine: steps that tie do not move, which widens its law")
        pairs = []
    for (first, earlier), (second, w) in pairs:
        law: Law = CorrelationLaw(walk.checkpoint_correlation(config, first, second), w.effective_dim)
        if mixed:  # the variance of a step fluctuates with this shaping
            law = MixedCorrelationLaw(earlier.mixing_df, w.mixing_df - earlier.mixing_df, w.effective_dim)
        elif fluctuations[second] and not (config.anchor_l2 or config.momentum):  # steps differ in what rounds away
            freedom = 2 / fluctuations[second] / second
            law = MixedCorrelationLaw(freedom * first, freedom * (second - first), w.effective_dim)
        yield Prediction(
            quantity=Quantity.CHECKPOINT_COSINE,
            law=law,
            label="large-N" if mixed else "exact",
            source=OURS,
            assumptions=w.assumptions,
            step=second,
            where=f"{first}|{second}",
        )
    if last.effective_dim >= 2:
        yield Prediction(
            quantity=Quantity.INDEPENDENT_COSINE,
            law=CosineLaw(0.0, 1.0, 1.0, last.effective_dim - 1.0),
            label="exact",
            source=OURS,
            assumptions=(*last.assumptions, "independent seeds"),
            step=last_step,
        )


def bounds(config: ESConfig, walks: dict[int, Walk]) -> Iterator[Prediction]:
    """Bound the signal in the displacement, where the shaped rewards have a fixed length and noise is independent.

    Parameters
    ----------
    config
        The run.
    walks
        Its walks by step.

    Yields
    ------
    Prediction
        ``coherent_displacement_bound`` (weight), ``signal_share_bound`` and ``es_grpo_cosine_bound`` a step.
    """
    for step, w in walks.items():
        bound = signal.coherent_displacement_bound(config, w.coherent_steps)
        if bound is None or config.noise == "shared-seed":
            continue
        share = min(1.0, bound**2 / (w.variance * w.dim))
        for quantity, value in (
            (Quantity.COHERENT_DISPLACEMENT_BOUND, bound),
            (Quantity.SIGNAL_SHARE_BOUND, share),
            (Quantity.ES_GRPO_COSINE_BOUND, math.sqrt(share)),
        ):
            yield Prediction(
                quantity=quantity,
                law=PointLaw(value),
                label="exact",
                source=signal.OURS,
                assumptions=("any reward", "independent noise", "a bound, not an estimate"),
                step=step,
            )
