"""A measured geometry joined with what theory predicts of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.cosine_laws import CosineLaw
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import Law, PointLaw
from estheory.quantities import Label, Measurement, Prediction, Quantity
from estheory.simulation.coordinates import flat_dimensions
from estheory.simulation.geometry_results import Geometry
from estheory.simulation.observed import FLAT, Observed, observed_pairs
from estheory.theory import drift
from estheory.theory.adamw import grpo_mean_square
from estheory.theory.curved import comparison
from estheory.theory.curved.dynamics import mean_field
from estheory.theory.curved.stationary import stationary_state
from estheory.theory.estimators import estimator_of
from estheory.theory.walk import Walk, walk

AGAINST = ours("es-and-grpo")
DYNAMICS = ours("dynamics")
WALK = ours("walk")
STATIONARY_WITHIN = 0.01
"""The stationary state is judged where the mean-field reward has come this close to it, relatively."""
PEAK_RESAMPLES = 400
"""Bootstrap resamples for the standard error of the peak of the mean curve."""


def flat_walk(geometry: Geometry) -> Walk:
    """Return the walk of ES in the flat directions.

    Result: assumes rewards as at the start where their spread enters (antithetic pairs, raw and two-point shaping).
    """
    config, landscape = geometry.config, geometry.landscape
    signal: Signal = landscape.signal(config.sigma)
    estimator = estimator_of(config)
    found = walk(replace(config, dim=flat_dimensions(landscape)), estimator.walked_signal(signal), config.steps)
    if not estimator.fixed_variance:  # the spread of the rewards changes along the run
        found = replace(found, assumptions=(*found.assumptions, "rewards as at the start"))
    return found


def _cosine_law(directions: int) -> Law:
    return CosineLaw(0.0, 1.0, 1.0, directions - 1.0)


def _off_task(geometry: Geometry, w: Walk) -> Iterator[Observed]:
    """Yield drift: the walk's laws are exact here, where the cost is quadratic and sees flat directions alone."""
    steps, cost = geometry.config.steps, geometry.off_task
    assumptions = (*w.assumptions, "isotropic drift", "quadratic in the displacement")

    def observed(quantity: Quantity, law: Law, method: str, samples: Array, label: Label) -> Observed:
        at = steps if method == "es" else geometry.runs.steps
        source = ours("drift") if method == "es" else AGAINST
        p = Prediction(quantity=quantity, law=law, label=label, source=source, assumptions=assumptions, step=at)
        return Observed(prediction=p, samples=samples, where=method)

    es, adamw = geometry.methods["es"], geometry.methods["adamw"]
    law = drift.kl_law(w, fisher_trace=cost.trace, fisher_square_trace=cost.square_trace)
    yield observed(Quantity.KL_DRIFT, law, "es", es.kl, "small-step")
    if cost.directions < w.dim:  # else the slope and the curvature share their directions
        law = drift.off_task_reward_law(
            w, trace=cost.trace, square_trace=cost.square_trace, gradient_norm=cost.gradient_norm
        )
        yield observed(Quantity.OFF_TASK_REWARD_CHANGE, law, "es", es.off_task_change, "small-step")
    runs = geometry.runs
    if runs.dense:
        mean = 0.5 * cost.trace * grpo_mean_square(1, runs.adamw_lr, runs.steps, runs.schedule)
        found = observed(Quantity.KL_DRIFT, PointLaw(mean), "adamw", adamw.kl, "mean-field")
        assumptions = ("dense, independent Gaussian gradients in flat directions", "no weight decay")
        yield replace(found, prediction=replace(found.prediction, assumptions=assumptions))


def _cosines(geometry: Geometry, w: Walk) -> Iterator[Observed]:
    """Yield cosines in flat directions: the floor under every comparison of end points."""
    entries = {"es|es": geometry.methods["es"].repeat_flat_cosine}
    entries |= {f"es|{name}": geometry.between[name].flat_cosine for name in ("adamw", "grpo")}
    for where, samples in entries.items():
        if not samples.size or np.isnan(samples).any():
            continue
        p = Prediction(
            quantity=Quantity.INDEPENDENT_COSINE,
            law=_cosine_law(w.dim),
            label="exact",
            source=WALK,
            assumptions=(*w.assumptions, "independent seeds"),
            step=geometry.config.steps,
        )
        yield Observed(prediction=p, samples=samples, where=f"{where} {FLAT}")


def _against_sgd(geometry: Geometry) -> Iterator[Observed]:
    """Yield what mean field says of ES against SGD: cosine, and rise over the chord between their end points."""
    config, landscape, runs = geometry.config, geometry.landscape, geometry.runs
    es = comparison.es_end_point(config, landscape, config.steps)
    sgd = comparison.sgd_end_point(landscape, lr=runs.sgd_lr, steps=runs.steps, noise=runs.aligned)
    between = geometry.between["sgd"]
    laws: list[tuple[Quantity, Law, Array]] = [
        (
            Quantity.DISPLACEMENT_COSINE,
            PointLaw(comparison.displacement_cosine(landscape, es, sgd)),
            between.cosine,
        ),
        (Quantity.INTERPOLATION_GAIN, comparison.interpolation_gain(landscape, es, sgd), between.rise[:, 5]),
    ]
    for quantity, law, samples in laws:
        p = Prediction(
            quantity=quantity,
            law=PointLaw(law.mean),
            label="mean-field",
            source=AGAINST,
            assumptions=("locally quadratic reward", "Gaussian reward noise", "gradient noise of covariance c Lam"),
            step=config.steps,
            systematic=2 / config.population,
        )
        yield Observed(prediction=p, samples=samples, where="es|sgd")


def _end_state(geometry: Geometry) -> Iterator[Observed]:
    """Yield the stationary gap, where the mean-field curve has come to it."""
    config, landscape = geometry.config, geometry.landscape
    gap = stationary_state(config, landscape).gap
    if abs(mean_field(config, landscape, config.steps).reward[-1] + gap) > STATIONARY_WITHIN * gap:
        return
    p = Prediction(
        quantity=Quantity.STATIONARY_REWARD_GAP,
        law=PointLaw(gap),
        label="mean-field",
        source=DYNAMICS,
        assumptions=("locally quadratic reward", "Gaussian reward noise"),
        step=config.steps,
        systematic=2 / config.population + STATIONARY_WITHIN,
    )
    yield Observed(prediction=p, samples=-geometry.methods["es"].reward, where="es")


def peak(geometry: Geometry) -> tuple[Prediction, Measurement] | None:
    """Return the peak of the mean reward curve, predicted and measured.

    Result: mean-field prediction (step), and measurement with the standard error of a bootstrap over replicas. None
    where theory has no peak, or with fewer than 10 replicas.
    """
    config = geometry.config
    predicted = mean_field(config, geometry.landscape, config.steps).peak
    if predicted is None or geometry.replicas < 10:
        return None
    curve = geometry.methods["es"].curve
    rng = np.random.default_rng(0)
    weights = rng.multinomial(geometry.replicas, np.full(geometry.replicas, 1 / geometry.replicas), PEAK_RESAMPLES)
    resampled = np.argmax(weights @ curve, axis=1)
    p = Prediction(
        quantity=Quantity.REWARD_PEAK_STEP,
        law=PointLaw(float(predicted[0])),
        label="mean-field",
        source=DYNAMICS,
        assumptions=("locally quadratic reward", "Gaussian reward noise"),
        systematic=2 / config.population,
    )
    stderr = max(float(np.std(resampled, ddof=1)), 1 / math.sqrt(12))  # a step is a whole number
    measured = float(np.argmax(curve.mean(axis=0)))
    return p, Measurement(
        quantity=p.quantity, value=measured, stderr=stderr, where=f"es peak of the mean of {geometry.replicas}"
    )


def geometry_pairs(
    geometry: Geometry, level: float
) -> tuple[tuple[tuple[Prediction, Measurement], ...], tuple[str, ...]]:
    """Return what is to be judged of a geometry.

    Result: pairs of prediction and measurement; and warnings for what theory has no result about.
    """
    w = flat_walk(geometry)
    observed: list[Observed] = [*_off_task(geometry, w), *_cosines(geometry, w)]
    warnings: list[str] = []
    found: Sequence[tuple[Prediction, Measurement]] = ()
    try:
        observed += [*_against_sgd(geometry), *_end_state(geometry)]
        best = peak(geometry)
        found = () if best is None else (best,)
    except ConfigError as error:
        warnings.append(f"curved directions are not judged: {error.what}")
    by_count: dict[int, list[Observed]] = {}
    for o in observed:
        by_count.setdefault(o.samples.size, []).append(o)
    joined = [pair for group in by_count.values() for pair in observed_pairs(group, level * len(group) / len(observed))]
    return (*joined, *found), tuple(warnings)
