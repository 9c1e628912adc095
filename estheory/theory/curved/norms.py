"""The displacement norm of a run on a quadratic reward: curved directions travel and settle, flat ones walk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.laws import ChiLaw
from estheory.quantities import Label
from estheory.rules import ESConfig
from estheory.theory.curved.fluctuations import squared_norms
from estheory.theory.curved.long_runs import MOST_SINGLE_STEPS
from estheory.theory.curved.predictions import STRONGEST_PULL
from estheory.theory.curved.recursion import states, step_rule, with_flat_row
from estheory.theory.curved.step import step_moments
from estheory.theory.estimators import estimator_of
from estheory.theory.run_norm import EXACT_SHIFT, NEGLIGIBLE_SHIFT, RunNorm, without_few_pairs
from estheory.theory.steered_cosines import DisplacementPair
from estheory.theory.walk import Walk

OURS = ours("dynamics")
MOST_UNKNOWN_VARIANCE = 0.1
"""Share of the variance of a squared norm that the kurtosis of raw rewards may add to it unseen: 5 % of its spread."""


def curved_norms(
    config: ESConfig, landscape: Landscape, walks: Mapping[int, Walk], warnings: list[str]
) -> dict[int, RunNorm]:
    """Return the norm of a run after each of some steps.

    Parameters
    ----------
    config, landscape
        The run.
    walks
        The walk of its flat directions by step.
    warnings
        Grows by why there are no norms.

    Returns
    -------
    dict
        By step; the walk's own norm where the curved directions cannot be told from its spread. Empty where the
        recursion diverges.

    Notes
    -----
    Label: mean-field; large-N for one step. Source: ours: docs/concepts/dynamics.md. The chi law of the mean and the
    variance of the square.
    """
    even, estimator = landscape.signal(config.sigma).even_share, estimator_of(config)
    if even > estimator.even_share_limit:
        warnings.append(f"no norms: {even:.2g} of the rewards' variance is common to a pair, which then hardly moves")
        return {}
    ground = with_flat_row(landscape)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            moments = dict(zip(walks, squared_norms(config, ground, list(walks)), strict=True))
    except ConfigError as error:
        warnings.append(f"no norms: {error.what}")
        return {}
    found: dict[int, RunNorm] = {}
    one_step = step_moments(config, landscape)
    # what curvature adds to the relative variance of a step's square; a pair's difference drops it
    curved = estimator.curved_fluctuation(one_step.excess_kurtosis) - 1
    excess = 0.0 if estimator.paired else 2 * curved / (config.population - 1)
    for step, walk in walks.items():
        mean, rows, variance = moments[step]
        if not (np.all(np.isfinite(rows)) and math.isfinite(variance)):
            warnings.append(f"no norms: the recursion diverges by step {step}")
            return {}
        if config.anchor_l1:  # of flat directions the walk has the law itself, the recursion a closure
            rows = np.append(rows[:-1], walk.variance)
        if step == 1:
            mean, first = np.append(-one_step.displacement, 0.0), np.append(one_step.second_moment, walk.variance)
            variance *= float(ground.multiplicity @ first / (ground.multiplicity @ rows)) ** 2
            rows = first
        norm = _norm(ground, walk, mean, rows, variance, "large-N" if step == 1 else "mean-field")
        found[step] = without_few_pairs(norm, walk, step)
        unseen = excess / step * float(ground.multiplicity @ rows) ** 2
        if unseen > MOST_UNKNOWN_VARIANCE * variance and not found[step].is_walk:
            warnings.append(
                f"no norms: curvature gives a member's reward an excess kurtosis of {one_step.excess_kurtosis:.2g}, "
                "and raw rewards no law of the length of a step with it"
            )
            return {}
    moved = any(not norm.is_walk for norm in found.values())
    if config.anchor_l1 and moved:
        pull = config.anchor_l1 / math.sqrt(estimator.variance(landscape.signal(config.sigma)).value)
        if pull > STRONGEST_PULL or not estimator.fixed_variance:
            warnings.append("no norms: curvature moves a run with such an L1 anchor, which has no law of the norm here")
            return {}
    return found


def _norm(ground: Landscape, walk: Walk, mean: Array, rows: Array, variance: float, label: Label) -> RunNorm:
    """Return the norm whose square has these means by row and this variance."""
    square, plain = float(ground.multiplicity @ rows), walk.variance * walk.dim
    # by size, as what travels and what settles must not cancel
    shift = float(ground.multiplicity @ np.abs(rows - walk.variance)) / plain * math.sqrt(walk.effective_dim / 2)
    coherent = float(ground.multiplicity @ mean**2) / plain * math.sqrt(walk.effective_dim)
    shift = max(shift, coherent)
    if shift < NEGLIGIBLE_SHIFT:
        flat = RunNorm.of_walk(walk, shift)
        return replace(flat, label="large-N") if flat.label == "exact" and shift >= EXACT_SHIFT else flat
    # noise whose entries are not independent, and the law of an L1 anchor, change the flat part alone
    rest = float(ground.multiplicity[-1])
    variance += 2 * (walk.variance * rest) ** 2 * (1 / walk.effective_dim - 1 / walk.dim)
    df = 2 * square**2 / variance
    law = ChiLaw(math.sqrt(square / df), df)
    return RunNorm(
        law=law,
        matched=law,
        label=label,
        source=OURS,
        assumptions=("locally quadratic reward", "Gaussian reward noise", "the chi law of mean and variance"),
        signal_shift=shift,
        systematic=0.5 * walk.declared_error,
    )


def curved_cosines(
    config: ESConfig, landscape: Landscape, steps: Sequence[int]
) -> dict[tuple[int, int], DisplacementPair]:
    """Return the moments of pairs of displacements: of two checkpoints of one run, and of the ends of two runs.

    Parameters
    ----------
    config, landscape
        The run.
    steps
        Its checkpoints, rising.

    Returns
    -------
    dict
        By pair of steps; the last step with itself stands for two independent runs. Empty with momentum, an L1 anchor,
        raw, two-point or paired rewards (whose common fluctuations widen the cosine) and beyond ``MOST_SINGLE_STEPS``.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md.
    """
    if not estimator_of(config).fixed_variance or config.momentum or config.anchor_l1 or steps[-1] > MOST_SINGLE_STEPS:
        return {}
    ground, rule = with_flat_row(landscape), step_rule(config, landscape)
    kept, at = np.ones_like(ground.offset), {}
    for state in states(config, ground):
        if state.step in steps:
            at[state.step] = (state.mean - ground.offset, state.variance, kept)
        if state.step == steps[-1]:
            break
        kept = kept * (rule.keep - rule.fresh * rule.rate(state.member_square) * ground.eigenvalue)
    found = {}
    for first, second in [*combinations(steps, 2), (steps[-1], steps[-1])]:
        (a, x, before), (b, y, after) = at[first], at[second]
        with np.errstate(divide="ignore", invalid="ignore"):
            passed = np.where(before != 0, after / before, 0.0)
        found[first, second] = DisplacementPair(
            count=ground.multiplicity,
            first_mean=a,
            second_mean=b,
            first=x,
            second=y,
            cross=passed * x if first != second else np.zeros_like(x),
        )
    return found
