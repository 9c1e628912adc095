"""Predictions that follow from the walk alone: norms, cosines of displacements, bounds on the signal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from estheory.cosine_laws import CorrelationLaw, CosineLaw, MixedCorrelationLaw
from estheory.landscape import Signal
from estheory.laws import ChiLaw, Law, PointLaw, SquaredLaw
from estheory.quantities import Label, Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory import signal, walk
from estheory.theory.effective_dimension import Shapes, low_rank_dimension, shared_seed_dimension
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.estimator import PAPER
from estheory.theory.norm_laws import SquaredNormLaw
from estheory.theory.rounding.predictions import NormRounding
from estheory.theory.run_norm import EXACT_SHIFT, RunNorm
from estheory.theory.steered_cosines import DisplacementPair
from estheory.theory.walk import OURS, Walk

LEAST_MIXED = 30
"""Coordinates below which the cosine of two checkpoints has no law where steps fluctuate."""
MOST_BOUNDED_PULL = 2.0
"""Pull of an L1 anchor, in standard deviations of a step, up to which it takes back no more than the step went."""
NEGLIGIBLE_TIES = 1e-9
"""Expected number of steps without motion up to which the cosine of two checkpoints is given."""


def norms(
    config: ESConfig,
    walks: dict[int, Walk],
    lengths: Mapping[int, RunNorm],
    rounding: Mapping[int, NormRounding],
    shapes: Shapes | None,
    warnings: list[str],
) -> Iterator[Prediction]:
    """Predict norms and spreads at each step.

    Parameters
    ----------
    config
        The run.
    walks
        Its walks by step.
    lengths
        Its displacement norms by step, with what signal and curvature add to the walk.
    rounding
        What rounding does to norms, by step.
    shapes
        Of the tensors, for the spread of low-rank noise.
    warnings
        Grows by why a norm is missing.

    Yields
    ------
    Prediction
        ``displacement_norm`` and ``coordinate_std`` (weight), ``effective_dimension_ratio``,
        ``member_perturbation_norm`` (weight).
    """
    for step, w in walks.items():
        rounded = rounding[step]
        # else the gradient's own coordinate is the only one
        if w.dim > 1 or step not in lengths or lengths[step].is_walk:
            yield Prediction(
                quantity=Quantity.COORDINATE_STD,
                law=PointLaw(math.sqrt(w.variance) * rounded.gain),
                label=w.label if rounded.is_exact else _rounded_label(w.label),
                source=w.source,
                assumptions=w.assumptions,
                step=step,
                systematic=rounded.half_width + 0.5 * w.declared_error,
            )
        if step in lengths and lengths[step].missing:
            warnings.append(f"no displacement_norm at step {step}: {lengths[step].missing}")
        elif step in lengths:
            yield from _lengths(lengths[step], w, step, rounded)
    n = _member_dim(config, shapes)
    given: tuple[str, ...] = ("one member, before any rounding",)
    if config.noise_rank is not None:
        given = (*given, "the chi law of the exact mean and variance of the square")
    yield Prediction(
        quantity=Quantity.MEMBER_PERTURBATION_NORM,
        law=ChiLaw(config.sigma * math.sqrt(config.dim / n), n),
        label="exact" if config.noise == "gaussian" else "large-N",
        source=PAPER,
        assumptions=given,
        step=1,
    )


def _lengths(length: RunNorm, w: Walk, step: int, rounded: NormRounding) -> Iterator[Prediction]:
    """Predict the norm after some steps, and its square over what the plain walk is expected to have."""
    matched, plain = rounded.law(length.matched), rounded.is_exact
    systematic = rounded.half_width + length.systematic
    label = length.label if plain else _rounded_label(length.label)
    norm = Prediction(
        quantity=Quantity.DISPLACEMENT_NORM,
        law=length.law if plain else matched,
        label=label,
        source=length.source,
        assumptions=length.assumptions,
        step=step,
        systematic=systematic,
    )
    # the ratio to the plain law's own expectation: rounding, signal and curvature show up in it
    over = 1 / (w.variance * w.dim)
    square = SquaredLaw(matched, over)
    same = not plain or length.law == length.matched
    ratio = replace(
        norm,
        quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
        law=square if same else SquaredNormLaw(length.law, square, over),
        systematic=2 * systematic,
    )
    yield w.scattered(norm, 0.5, length.follows)
    yield w.scattered(ratio, 1.0, length.follows)


def _rounded_label(label: Label) -> Label:
    """Return the label of a row whose law rounding has changed: a closure over binades, and its fourth moment."""
    return "mean-field" if label in ("exact", "large-N") else label


def _member_dim(config: ESConfig, shapes: Shapes | None) -> float:
    """Return the effective number of independent coordinates of one member's noise."""
    if config.noise == "shared-seed" and shapes is not None:
        return shared_seed_dimension(shapes)
    if config.noise_rank is not None and shapes is not None:
        return low_rank_dimension(shapes, config.noise_rank, 1.0, 1.0)
    return float(config.dim)


def cosines(
    config: ESConfig,
    walks: dict[int, Walk],
    lengths: Mapping[int, RunNorm],
    rounding: Mapping[int, NormRounding],
    shapes: Shapes | None,
    curved: Mapping[tuple[int, int], DisplacementPair] | None,
    warnings: list[str],
) -> Iterator[Prediction]:
    """Predict the cosines of pairs of checkpoints of one run, and of two independent runs.

    Parameters
    ----------
    config
        The run.
    walks
        Its walks by step, in rising order.
    lengths
        Its displacement norms by step: where they are not the walk's, its directions are not either.
    rounding
        What rounding does to norms, by step.
    shapes
        Of the tensors, for the spread of low-rank noise.
    curved
        Moments of pairs of displacements on curved ground; None for a linear reward.
    warnings
        Grows by why a cosine is missing.

    Yields
    ------
    Prediction
        ``checkpoint_cosine`` a pair of steps, ``independent_cosine`` at the last.
    """
    last_step, last = list(walks.items())[-1]
    pairs = list(combinations(walks.items(), 2))
    if len(lengths) < len(walks):
        warnings.append("no checkpoint_cosine and no independent_cosine without norms")
        return
    if any(not length.points_anywhere for length in lengths.values()):
        yield from _steered(config, walks, lengths, curved, warnings)
        return
    if any(rounded.half_width >= 1 for rounded in rounding.values()) and not config.anchor_l1:
        return
    if pairs and config.anchor_l1:
        warnings.append("no checkpoint_cosine with an L1 anchor")
        pairs = []
    mixed = not math.isinf(last.mixing_df)
    first_step, first_walk = next(iter(walks.items()))
    alike = math.isclose(first_walk.mixing_df * last_step, last.mixing_df * first_step, rel_tol=1e-9)
    if pairs and mixed and not alike:  # with an anchor or momentum, and where the spread of the rewards changes
        warnings.append("no checkpoint_cosine: steps fluctuate, and not all alike, which has no law here")
        pairs = []
    if pairs and mixed and last.effective_dim < LEAST_MIXED:
        warnings.append("no checkpoint_cosine: steps fluctuate, and so few coordinates have no law of it here")
        pairs = []
    if pairs and last.tie_probability * last_step > NEGLIGIBLE_TIES:
        warnings.append("no checkpoint_cosine: steps that tie do not move, which widens its law")
        pairs = []
    for (first, earlier), (second, w) in pairs:
        if mixed and not (earlier.enough_pairs() and w.enough_pairs(earlier)):
            warnings.append(
                f"no checkpoint_cosine of steps {first} and {second}: the variance of so few pairs before or between "
                "them fluctuates in a way that has no law here"
            )
            continue
        coordinates = checkpoint_pairs(config, walks, shapes, first, second) / rounding[second].unevenness
        law: Law = CorrelationLaw(walk.checkpoint_correlation(config, first, second), coordinates)
        if mixed:  # the variance of a step fluctuates with this shaping
            between = w.mixing_df - earlier.mixing_df
            law = MixedCorrelationLaw(earlier.mixing_df, between, coordinates, w.most)
        elif (extra := rounding[second].fluctuation) and not (config.anchor_l2 or config.momentum):
            freedom = 2 / extra / second  # steps differ in what rounds away
            law = MixedCorrelationLaw(freedom * first, freedom * (second - first), coordinates)
        yield Prediction(
            quantity=Quantity.CHECKPOINT_COSINE,
            law=law,
            label="large-N"
            if mixed or config.noise != "gaussian"
            else "exact"
            if rounding[second].is_exact
            else "mean-field",
            source=OURS,
            assumptions=w.assumptions,
            step=second,
            where=f"{first}|{second}",
        )
    # entries of equal variance without correlation: 1/d exactly, whatever their law
    shifted = max(length.signal_shift for length in lengths.values()) >= EXACT_SHIFT
    coordinates = last.effective_dim if config.noise == "shared-seed" else float(config.dim)
    coordinates /= rounding[last_step].unevenness
    if coordinates >= 2 and last.declared_error < 1:  # else an L1 anchor leaves next to nothing moved
        yield Prediction(
            quantity=Quantity.INDEPENDENT_COSINE,
            law=CosineLaw(0.0, 1.0, 1.0, coordinates - 1.0),
            label="large-N"
            if config.noise != "gaussian" or config.anchor_l1 or shifted
            else "exact"
            if rounding[last_step].is_exact
            else "mean-field",
            source=OURS,
            assumptions=(*last.assumptions, "independent seeds"),
            step=last_step,
        )


def _steered(
    config: ESConfig,
    walks: dict[int, Walk],
    lengths: Mapping[int, RunNorm],
    curved: Mapping[tuple[int, int], DisplacementPair] | None,
    warnings: list[str],
) -> Iterator[Prediction]:
    """Predict the cosines of a run that signal or curvature moves by more than the spread of a walk."""
    last = max(walks)
    moments = _linear_pairs(config, walks, lengths) if curved is None else curved
    for quantity, pairs in (
        (Quantity.CHECKPOINT_COSINE, list(combinations(walks, 2))),
        (Quantity.INDEPENDENT_COSINE, [(last, last)]),
    ):
        laws = {pair: moments[pair].law for pair in pairs if pair in moments}
        if pairs and len([law for law in laws.values() if law is not None]) < len(pairs):
            warnings.append(
                f"no {quantity}: signal or curvature moves the run by more than the spread of a walk; its law has no "
                "result here"
            )
        for (first, second), law in laws.items():
            if law is None:
                continue
            yield Prediction(
                quantity=quantity,
                law=law,
                label="large-N" if curved is None else "mean-field",
                source=OURS,
                assumptions=lengths[second].assumptions,
                step=second,
                where=f"{first}|{second}" if quantity is Quantity.CHECKPOINT_COSINE else "",
            )


def _linear_pairs(
    config: ESConfig, walks: dict[int, Walk], lengths: Mapping[int, RunNorm]
) -> dict[tuple[int, int], DisplacementPair]:
    """Return the moments of pairs of displacements along the gradient and across it, where steps do not fluctuate."""
    if not all(math.isinf(w.mixing_df) and w.tie_probability == 0 for w in walks.values()):
        return {}
    last, found = max(walks), {}
    for first, second in [*combinations(walks, 2), (last, last)]:
        one, two = walks[first], walks[second]
        correlation = 0.0 if first == second else walk.checkpoint_correlation(config, first, second)
        spread = np.array([lengths[second].spread, 1.0])
        found[first, second] = DisplacementPair(
            count=np.array([1.0, config.dim - 1.0]),
            first_mean=np.array([lengths[first].progress, 0.0]),
            second_mean=np.array([lengths[second].progress, 0.0]),
            first=one.variance * spread,
            second=two.variance * spread,
            cross=correlation * math.sqrt(one.variance * two.variance) * spread,
        )
    return found


def checkpoint_pairs(
    config: ESConfig, walks: Mapping[int, Walk], shapes: Shapes | None, first: int, second: int
) -> float:
    """Return the number of independent coordinate pairs that a cosine of two checkpoints scatters like.

    The squared norm of a step of low-rank noise scatters more than that of independent entries, by E over its mean
    squared. The variance of the cosine r is then (1-r^2)^2/d + r^2 E sum_t (h_t h'_t/(h.h') - h_t^2/2h.h -
    h'_t^2/2h'.h')^2, h and h' what is left of step t at either checkpoint.

    Parameters
    ----------
    config
        The run.
    walks
        Its walks by step.
    shapes
        Of the tensors; None takes entries as independent.
    first, second
        The two steps, in rising order.

    Returns
    -------
    float
        At most the number of coordinates.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/walk.md.
    """
    if config.noise_rank is None or shapes is None:
        return walks[second].effective_dim
    one = walk.step_effective_dim(config, shapes)
    excess = 2 / one - 2 / config.dim
    correlation = walk.checkpoint_correlation(config, first, second)
    h = walk.response(config, second)
    late = np.ones(second) if h is None else h[::-1]
    early = np.concatenate([np.ones(first) if h is None else h[:first][::-1], np.zeros(second - first)])
    lopsided = late * early / (late @ early) - early**2 / (2 * early @ early) - late**2 / (2 * late @ late)
    rest = (1 - correlation**2) ** 2
    return float(rest / (rest / config.dim + correlation**2 * excess * float(lopsided @ lopsided)))


def bounds(config: ESConfig, walks: dict[int, Walk], warnings: list[str]) -> Iterator[Prediction]:
    """Bound the signal in the displacement, where the shaped rewards have a fixed length and noise is independent.

    Parameters
    ----------
    config
        The run.
    walks
        Its walks by step.
    warnings
        Grows by an L1 anchor that overshoots: what it takes from a step's mean may be more than the step gave.

    Yields
    ------
    Prediction
        ``coherent_displacement_bound`` (weight), ``signal_share_bound`` and ``es_grpo_cosine_bound`` a step.
    """
    estimator = estimator_of(config)
    if config.anchor_l1 and estimator.fixed_variance:
        pull = config.anchor_l1 / math.sqrt(estimator.variance(Signal()).value)
        if pull > MOST_BOUNDED_PULL:
            warnings.append(
                f"no bounds of the signal: the L1 anchor pulls by {pull:.3g} standard deviations of a step, beyond the "
                "start and farther back than the step went"
            )
            return
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
