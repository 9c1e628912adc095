"""What a local quadratic reward says of the lines around two solutions, joined with what was measured there."""

from __future__ import annotations

import math

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.laws import ChiLaw, Law, NormalLaw, PointLaw, SquaredLaw
from estheory.line_scores import LineStudy
from estheory.quantities import Label, Prediction, Quantity
from estheory.validation.judge import Pair, paired

SOURCE = ours("es-and-grpo")
PAIRED = "same prompts for probe and measurement; the error is that of their difference"


def slope_rises(study: LineStudy) -> Array:
    """Return the rise over the chord that the slopes at the ends predict for each prompt.

    (R'(0) - R'(1)) / 8, exact for a quadratic and a cubic along the line; the slopes are differences over a small
    share of the line to both sides, whose error on a cubic is the same at both ends and cancels.

    `study`: its scores next to both ends are used.
    """
    before, after, short_of, beyond = study.end_scores
    return np.asarray(((after - before) - (beyond - short_of)) / (16 * study.slope_share))


def line_pairs(study: LineStudy) -> list[Pair]:
    """Return predictions and measurements of one score on the lines around two solutions.

    The rise over the chord half-way: from the slopes at the ends; and from lines of the same length in random
    directions, which is what holds where the difference of the solutions is as good as random. If the base was probed,
    the change of the score along each displacement at its own norm and along a random direction at the longer norm.

    `study`: one score between the two solutions and along their directions.
    Result: two of the line, and up to three of directions from the base.
    """
    start, end = study.labels
    where = f"{start}|{end}, {study.score}"
    heights = study.line.middle_heights
    slopes = slope_rises(study)
    randoms = study.random_rises
    pairs = [
        _pair(
            Quantity.INTERPOLATION_GAIN,
            f"{where}, slopes at the ends",
            PointLaw(float(slopes.mean())),
            heights,
            slopes,
            label="exact",
            assumptions=("reward quadratic or cubic along the line", PAIRED),
        ),
        _pair(
            Quantity.INTERPOLATION_GAIN,
            f"{where}, random directions",
            over_directions(randoms.mean(axis=1)),
            heights,
            randoms.mean(axis=0),
            label="small-step",
            assumptions=("the difference of the solutions is as good as a random direction", PAIRED),
        ),
    ]
    radii, scores = study.directions.radii, study.directions.scores
    place = {name: k for k, name in enumerate(study.directions.labels)}
    for name, local in study.local.items():
        norm = study.norms[name]
        at = int(np.argmin(np.abs(radii - norm)))
        pairs.append(
            _pair(
                Quantity.DIRECTION_GAIN,
                f"{name}, {study.score}, at its norm",
                PointLaw(float(np.mean(expected := norm * local.slopes - 0.5 * norm**2 * local.curvatures))),
                scores[place[name], at] - scores[place[name], 0],
                expected,
                label="small-step",
                assumptions=(f"reward quadratic from the base on, probed at {local.radius:.3g}", PAIRED),
            )
        )
    if study.around_base is not None:
        norm = max(study.norms.values())
        at = int(np.argmin(np.abs(radii - norm)))
        falls = -0.5 * norm**2 * study.around_base.values
        pairs.append(
            _pair(
                Quantity.DIRECTION_GAIN,
                f"{study.directions.labels[-1]}, {study.score}, at the longer norm",
                over_directions(falls.mean(axis=1)),
                scores[-1, at] - scores[-1, 0],
                falls.mean(axis=0),
                label="small-step",
                assumptions=(
                    f"no slope along a random direction; tr Lam probed at {study.around_base.radius:.3g}",
                    PAIRED,
                ),
            )
        )
    return pairs


def over_directions(values: Array) -> Law:
    """Return the law of one further direction, given the values of random ones.

    A scaled chi-square where they are positive on average, as a quadratic form of a random direction is, else a normal
    law. Its variance is theirs times (1 + 1/K), for the error of their mean, and (K-1)/(K-3), as Student's law has it.

    Result: of the mean and the unit of the values; a point where all are equal.
    """
    count, mean = values.size, float(values.mean())
    spread = float(values.std(ddof=1)) * math.sqrt((1 + 1 / count) * (count - 1) / (count - 3))
    if spread == 0.0:
        return PointLaw(mean)
    if mean <= 0:
        return NormalLaw(mean, spread)
    df = 2 * (mean / spread) ** 2
    return SquaredLaw(ChiLaw(1.0, df), mean / df)


def _pair(
    quantity: Quantity,
    where: str,
    law: Law,
    measured: Array,
    expected: Array,
    *,
    label: Label,
    assumptions: tuple[str, ...],
) -> Pair:
    """Pair the means over prompts; the standard error is that of their difference, prompt by prompt."""
    error = float((measured - expected).std(ddof=1) / math.sqrt(measured.size))
    prediction = Prediction(
        quantity=quantity, law=law, label=label, source=SOURCE, assumptions=assumptions, where=where
    )
    return paired(prediction, float(measured.mean()), stderr=error, where=where)
