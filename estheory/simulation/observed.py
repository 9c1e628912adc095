"""Records joined with predictions: the mean and the spread over replicas, each against what theory says of it.

A prediction is the law of one run. The mean over n runs is judged by that law's own mean and std / sqrt(n), and the
standard deviation over runs by the law of a sample's standard deviation. Where theory predicts an expected value
alone, the mean is judged by its own standard error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from estheory._special import Array, normal_quantile
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.laws import ChiLaw, PointLaw
from estheory.quantities import Measurement, Prediction, Quantity
from estheory.rules import ESConfig
from estheory.simulation.coordinates import flat_dimensions
from estheory.simulation.run_records import Records, cosine, norms, ratio
from estheory.simulation.sample_laws import mean_law, spread_law
from estheory.theory.anchor_l1 import CLOSURE_ERROR
from estheory.theory.curved.comparison import es_end_point
from estheory.theory.curved.fluctuations import reward_spread
from estheory.theory.curved.predictions import follows_spread
from estheory.theory.estimators import estimator_of
from estheory.theory.predictions import predict
from estheory.theory.rounding.precision import RoundingEffect

FLAT = "flat directions"
BAND_ERRORS = 3.0
"""Standard errors of the emulator of rounding, which all replicas share, that are declared as a band."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """One prediction and what the replicas showed of it.

    Attributes
    ----------
    prediction
        The law of one run.
    samples
        One value a replica, shape (replicas,), in the quantity's unit.
    where
        Which directions, or which pair of steps.
    spread
        Whether the standard deviation is predicted well enough to be judged.
    """

    prediction: Prediction
    samples: Array
    where: str = ""
    spread: bool = True


def observed_pairs(observed: Sequence[Observed], level: float = 0.05) -> tuple[tuple[Prediction, Measurement], ...]:
    """Return what is to be judged: for each observed quantity its mean and, where predicted, its spread.

    Parameters
    ----------
    observed
        Predictions and samples, n replicas of each; with one replica expected values and spreads cannot be judged.
    level
        Family-wise level at which they will be judged together; it sets how a standard error of few replicas is
        widened to Student's.

    Returns
    -------
    tuple of (Prediction, Measurement)
    """
    replicas = len(observed[0].samples) if observed else 0
    spread = [o for o in observed if o.spread and o.prediction.law.std > 0 and replicas >= 10]
    rows = len(observed) + len(spread)
    widening = _student(replicas, level / max(rows, 1)) if replicas > 1 else math.inf
    found = []
    for o in observed:
        p, where = o.prediction, " ".join(filter(None, (o.where, f"mean of {replicas}")))
        stderr = 0.0
        if p.law.std == 0.0:
            if replicas == 1:
                continue
            stderr = float(np.std(o.samples, ddof=1)) / math.sqrt(replicas) * widening
        measured = Measurement(
            quantity=p.quantity, value=float(np.mean(o.samples)), stderr=stderr, step=p.step, where=where
        )
        found.append((replace(p, law=mean_law(p.law, replicas)), measured))
    for o in spread:
        p, where = o.prediction, " ".join(filter(None, (o.where, f"std of {replicas}")))
        measured = Measurement(quantity=p.quantity, value=float(np.std(o.samples, ddof=1)), step=p.step, where=where)
        found.append((replace(p, law=spread_law(p.law, replicas)), measured))
    return tuple(found)


def _student(n: int, level: float) -> float:
    """Return the factor by which a standard error of ``n`` values makes the normal test Student's at ``level``."""
    from scipy.special import stdtrit

    return float(-stdtrit(n - 1, level / 2)) / normal_quantile(1 - level / 2)


def flat_observed(config: ESConfig, landscape: Landscape, records: Records, steps: Sequence[int]) -> list[Observed]:
    """Return the walk of the flat directions: norms, their ratio to expectation and cosines of checkpoints.

    `steps`: which of the recorded steps to look at.
    """
    dim = flat_dimensions(landscape)
    if dim < 1:
        return []
    known = landscape.signal(config.sigma)
    signal = estimator_of(config).walked_signal(known)
    forecast = predict(replace(config, dim=dim), checkpoints=steps, reward=signal)
    gram = records.flat_gram
    length = norms(gram)
    where = FLAT if dim < landscape.dim else ""
    found = []
    follows = follows_spread(config, landscape)
    spreads = _spreads(config, landscape, steps) if follows else {}
    for p in forecast.predictions:
        if follows:
            p = _along_the_run(p, dim, spreads)
        k = records.steps.index(p.step) if p.step in records.steps else None
        if p.quantity is Quantity.DISPLACEMENT_NORM and k is not None:
            found.append(Observed(prediction=p, samples=length[:, k], where=where, spread=not follows))
        elif p.quantity is Quantity.EFFECTIVE_DIMENSION_RATIO and k is not None:
            coordinate = forecast.get(Quantity.COORDINATE_STD, p.step)
            if follows:
                coordinate = _along_the_run(coordinate, dim, spreads)
            expected = coordinate.law.mean**2 * dim
            found.append(Observed(prediction=p, samples=length[:, k] ** 2 / expected, where=where, spread=False))
        elif p.quantity is Quantity.CHECKPOINT_COSINE and dim > 2:
            first, second = (int(step) for step in p.where.split("|"))
            samples = cosine(gram, records.steps.index(first), records.steps.index(second))
            found.append(Observed(prediction=p, samples=samples, where=f"{where} {p.where}".strip()))
    return found


def _spreads(config: ESConfig, landscape: Landscape, steps: Sequence[int]) -> dict[int | None, tuple[float, float]]:
    """Return, by step, the std of a flat coordinate whose walk follows the rewards, and its variance's band.

    The band is the declared relative half-width. Mean-field.
    """
    if config.anchor_l1:
        bands = dict.fromkeys(steps, 2 / config.population + CLOSURE_ERROR)
    else:
        spread = reward_spread(config, landscape, steps)
        bands = {s.step: 2 / config.population + s.spread_of_square**2 for s in spread}
    return {
        step: (math.sqrt(es_end_point(config, landscape, step).flat_variance), band) for step, band in bands.items()
    }


def _along_the_run(p: Prediction, dim: int, spreads: Mapping[int | None, tuple[float, float]]) -> Prediction:
    """Return a prediction of ``dim`` flat directions with the spread of the rewards as it is along the run.

    Mean-field; unchanged where the variance of the walk does not enter.
    """
    if p.step not in spreads:
        return p
    std, band = spreads[p.step]
    if p.quantity is Quantity.EFFECTIVE_DIMENSION_RATIO:
        return replace(p, label="mean-field", systematic=band)
    if p.quantity in (Quantity.DISPLACEMENT_NORM, Quantity.COORDINATE_STD):
        law = p.law
        law = replace(law, scale=std * math.sqrt(dim / law.df)) if isinstance(law, ChiLaw) else PointLaw(std)
        return replace(p, law=law, label="mean-field", systematic=0.5 * band)
    return p


def curved_observed(
    config: ESConfig, landscape: Landscape, records: Records, steps: Sequence[int]
) -> tuple[list[Observed], tuple[str, ...]]:
    """Return what the curvature fixes: reward, progress and whole displacement.

    The mean-field displacement gets the declared O(1/N) half-width of the reward, on the curved directions' share of
    its square.
    """
    forecast = predict(config, checkpoints=steps, landscape=landscape)
    length = norms(records.gram)
    curved_square = np.mean(np.diagonal(records.curved_gram, axis1=1, axis2=2), axis=0)
    share = ratio(curved_square, np.mean(length**2, axis=0))
    along = records.projection[:, 0]
    bands = {p.step: p.systematic for p in forecast.predictions if p.quantity is Quantity.REWARD}
    found = []
    for p in forecast.predictions:
        k = records.steps.index(p.step) if p.step in records.steps else -1
        if p.quantity is Quantity.REWARD:
            found.append(Observed(prediction=p, samples=records.reward[:, k]))
        elif p.quantity is Quantity.DISPLACEMENT_NORM and p.label == "mean-field":
            band = 0.5 * float(share[k]) * bands.get(p.step, 2 / config.population)
            p = replace(p, systematic=band)
            found.append(Observed(prediction=p, samples=length[:, k], spread=False))
        elif p.quantity is Quantity.STEP_NORM:
            found.append(Observed(prediction=p, samples=length[:, 0]))
        elif landscape.gradient_norm and p.quantity is Quantity.GRADIENT_COSINE:
            found.append(Observed(prediction=p, samples=ratio(along, length[:, 0])))
        elif landscape.gradient_norm and p.quantity is Quantity.PROGRESS_PER_STEP:
            found.append(Observed(prediction=p, samples=along))
        elif p.quantity is Quantity.REWARD_GAIN_PER_STEP:
            found.append(Observed(prediction=p, samples=records.reward[:, 0] - records.start_reward))
        elif landscape.gradient_norm and p.quantity is Quantity.COHERENT_DISPLACEMENT_BOUND:
            found.append(Observed(prediction=p, samples=records.projection[:, k]))
        elif landscape.gradient_norm and p.quantity is Quantity.ES_GRPO_COSINE_BOUND:
            found.append(Observed(prediction=p, samples=ratio(records.projection[:, k], length[:, k])))
    return found, forecast.warnings


def rounded_observed(
    config: ESConfig,
    landscape: Landscape,
    records: Records,
    steps: Sequence[int],
    rounding: Mapping[int, RoundingEffect],
) -> list[Observed]:
    """Return the norms of the flat directions of a 16-bit run.

    `rounding`: the emulator's effect at step 1 and at ``steps``; `BAND_ERRORS` of its standard errors are declared as
    the systematic part.
    """
    dim = flat_dimensions(landscape)
    if dim < 1:
        return []
    forecast = predict(replace(config, dim=dim), checkpoints=steps, rounding=rounding)
    length, found = norms(records.flat_gram), []
    for step in steps:
        p, effect = forecast.get(Quantity.DISPLACEMENT_NORM, step), rounding[step]
        error = 0.5 * BAND_ERRORS * effect.variance_stderr / effect.variance if effect.variance else 0.0
        samples = length[:, records.steps.index(step)]
        where = FLAT if dim < landscape.dim else ""
        p = replace(p, systematic=p.systematic + error)
        found.append(Observed(prediction=p, samples=samples, where=where, spread=False))
    return found


def observe(
    config: ESConfig,
    landscape: Landscape,
    records: Records,
    steps: Sequence[int],
    rounding: Mapping[int, RoundingEffect] | None = None,
) -> tuple[list[Observed], tuple[str, ...]]:
    """Return all that theory predicts of ``records``.

    Parameters
    ----------
    config, landscape, records, steps
        As for `flat_observed`.
    rounding
        As for `rounded_observed`, for runs in 16 bits; None for float32.

    Returns
    -------
    tuple
        List of Observed, and theory's warnings.

    Examples
    --------
    >>> from estheory.simulation.engine import simulate
    >>> from estheory.simulation.presets import preset
    >>> config, landscape, _ = preset("paper")
    >>> records = simulate(config, landscape, replicas=20, steps=[100, 400])
    >>> found, warnings = observe(config, landscape, records, [100, 400])
    >>> sorted({str(o.prediction.quantity) for o in found})
    ['checkpoint_cosine', 'displacement_norm', 'effective_dimension_ratio']
    """
    if rounding is not None:
        found = rounded_observed(config, landscape, records, steps, rounding)
        return found, (f"only the norms of flat directions are judged in {config.dtype}",)
    found = flat_observed(config, landscape, records, steps)
    if landscape.trace == 0:
        return found, ()
    try:
        curved, warnings = curved_observed(config, landscape, records, steps)
    except ConfigError as error:  # theory has nothing to say of these curved directions
        return found, (f"curved directions are not judged: {error.what}",)
    return found + curved, warnings
