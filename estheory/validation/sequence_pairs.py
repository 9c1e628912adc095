"""The distance of a sequence's stages from the base, which no stage's own records predict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from estheory._special import Array
from estheory.laws import ChiLaw
from estheory.quantities import Prediction, Quantity
from estheory.runs.sequence import SequenceRecord
from estheory.runs.view import OwnRun, known
from estheory.theory.walk import OURS
from estheory.validation.assumptions import CONDITIONED, FLAT
from estheory.validation.judge import Pair, paired
from estheory.validation.recorded_walk import RecordedWalk


def renamed(pairs: Iterable[Pair], run: OwnRun, name: str) -> list[Pair]:
    """Return pairs whose measurements name the stage ``name`` in place of the run's folder."""
    short = run.path.name
    return [
        (prediction, replace(m, where=m.where.replace(f":{short}", f":{name}"), source=name if m.source else ""))
        for prediction, m in pairs
    ]


def joint_pairs(sequence: SequenceRecord) -> Iterator[Pair]:
    """Yield the distance of every ES stage after the first from the base, given the coefficients of all of them.

    Members' noise is named by seed and step, so the stages of one seed draw the same vectors and their weights add
    before they are squared: v = (alpha/N)^2 sum_ti (sum_k z_kti)^2. Exact for flat directions of plain walks.

    `sequence`: with the records of its ES stages; a seed ends at the first that is unfinished or not additive.
    """
    for method, seed in ((m, s) for m in sequence.methods if m == "es" for s in sequence.seeds):
        weights: dict[tuple[int, int], Array] = {}
        for stage in sequence.of(method, seed):
            if stage.run is None or not stage.done or not RecordedWalk.of(stage.run).additive:
                break
            settings = stage.run.settings
            for row in stage.run.steps:
                key = known(row.stream, "seed")
                weights[key] = weights.get(key, 0.0) + row.weights(settings)
            variance = sum(float(np.sum(step**2)) for step in weights.values())
            if stage.number == 1 or variance == 0:
                continue
            prediction = Prediction(
                quantity=Quantity.DISPLACEMENT_NORM,
                law=ChiLaw(math.sqrt(variance), stage.run.dim),
                label="exact",
                source=OURS,
                assumptions=(FLAT, CONDITIONED, "stages of one seed draw the same noise vectors"),
                step=len(stage.run.steps),
            )
            yield paired(
                prediction,
                float(stage.done["norm_from_base"]),
                where=f"from the base, after {stage.number} stages",
                source=stage.name,
            )
