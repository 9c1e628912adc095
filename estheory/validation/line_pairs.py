"""What a local quadratic reward says of the lines around two solutions, joined with what was measured there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.laws import Law, NormalLaw, PointLaw, gamma_law
from estheory.line_scores import LineStudy
from estheory.quantities import Label, Prediction, Quantity
from estheory.runs.view import OwnRun
from estheory.theory.economy.chord import chord_rise
from estheory.theory.economy.steered_run import BOTH, LEDGER
from estheory.validation.coherent_pairs import steered
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


def line_pairs(study: LineStudy, runs: Sequence[OwnRun] = ()) -> list[Pair]:
    """Return predictions and measurements of one score on the lines around two solutions.

    The rise over the chord half-way: from the slopes at the ends; from lines of the same length in random directions,
    which is what holds where the difference of the solutions is as good as random; and with a coherent part, which is
    what lies along the shorter displacement if the base was probed, or what the ledgers of two ES runs tell. If the
    base was probed, the change of the score along each displacement at its own norm and along a random direction at the
    longer norm.

    `study`: one score between the two solutions and along their directions.
    `runs`: the two runs that ended there, if both ends are of runs.
    Result: two to four of the line, and up to three of directions from the base.
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
    return [*pairs, *_with_coherent_part(study, where), *_by_ledgers(study, where, runs)]


def _with_coherent_part(study: LineStudy, where: str) -> Iterator[Pair]:
    """Yield the rise where all that the solutions share or differ by coherently lies along the shorter displacement."""
    if not study.local:
        return
    shorter, longer = sorted(study.labels, key=lambda label: study.norms[label])
    ahead, far = study.norms[shorter], study.norms[longer]
    shared = (ahead**2 + far**2 - study.length**2) / (2 * ahead)
    coherent = (ahead - shared) ** 2 * study.local[shorter].curvatures / 8
    walk = study.random_rises * (far**2 - shared**2) / study.length**2
    yield _pair(
        Quantity.INTERPOLATION_GAIN,
        f"{where}, {BOTH}",
        over_directions(walk.mean(axis=1) + float(coherent.mean())),
        study.line.middle_heights,
        walk.mean(axis=0) + coherent,
        label="small-step",
        assumptions=(
            f"along {shorter} the curvature of the base, all else as good as a random direction: "
            "learning does not pull the walk back",
            PAIRED,
        ),
    )


def _by_ledgers(study: LineStudy, where: str, runs: Sequence[OwnRun]) -> Iterator[Pair]:
    """Yield the rise between two ES runs whose reward is the score, as their ledgers tell their displacements."""
    told = [steered(run) for run in runs if run.method == "es" and run.es.reward == study.score]
    first, second = told if len(told) == 2 else (None, None)
    if first is None or second is None or first.part.bound or second.part.bound:
        return
    if runs[0].config.seed == runs[1].config.seed:
        return  # they draw the same noise
    sigmas = {run.es.sigma for run in runs}
    rises = study.random_rises * first.dim / study.length**2  # tr Lam / 8, direction by direction
    trace = 8 * float(rises.mean())
    even = float(np.mean(np.concatenate([first.part.even, second.part.even])))
    if len(sigmas) > 1 or not (trace > 0 and even > 0):
        return
    curvature = min(2 * even / sigmas.pop() ** 4 / trace, trace)
    one, other = first.displaced(curvature), second.displaced(curvature)
    law, walk = chord_rise(one, other, trace=trace, curvature=curvature), one.walk + other.walk
    coherent = law.mean - walk * trace / 8
    error = math.hypot(first.along_first(first.steps).stderr, second.along_first(second.steps).stderr)
    spread = math.hypot(
        law.std,
        walk * float(rises.mean(axis=1).std(ddof=1)) / math.sqrt(len(rises)),
        curvature * abs(one.along - other.along) * error / 4,
    )
    yield _pair(
        Quantity.INTERPOLATION_GAIN,
        f"{where}, {BOTH} of the ledgers",
        gamma_law(law.mean, spread) if spread > 0 else law,
        study.line.middle_heights,
        walk * rises.mean(axis=0) + coherent,
        label="mean-field",
        assumptions=(LEDGER, "tr Lam by lines in random directions, curved directions of one curvature", PAIRED),
    )


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
    return gamma_law(mean, spread)


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
