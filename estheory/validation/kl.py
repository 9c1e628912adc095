"""The KL of a recorded run against the probes made before it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from estheory.quantities import Measurement, Prediction, Quantity
from estheory.runs.view import OwnRun
from estheory.theory.probe.prediction_law import FewDirectionsLaw
from estheory.validation.judge import Pair
from estheory.validation.recorded_walk import RecordedWalk


def kl_pairs(run: OwnRun, walk: RecordedWalk, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Pair]:
    """Pair the KL of the run with the probes made before it, on the same prompts.

    Two predictions of the same number: the quadratic law 1/2 v tr F from the smallest probe, and the probe at the
    scale of the walk itself, which needs no quadratic law. Both are rescaled by the walk's logged variance.

    Parameters
    ----------
    run
        An ES run; one without probes, or whose KL was not evaluated at its end, has no pairs.

    Yields
    ------
    tuple of Prediction and Measurement
        Of `kl_drift` (nat/token), for each task and each scale of the probes.
    """
    measured = run.evaluated(Quantity.KL_DRIFT)
    for row in run.probes.get("fisher", ()):
        kl = measured.get((len(run.steps), row["task"]))
        if kl is None:
            continue
        variance = walk.variance(len(run.steps))
        if walk.pull:  # L1 shortens the walk of all coordinates alike
            variance = walk.total(len(run.steps), shapes).mean / run.dim
        mean = 0.5 * variance * float(row["trace"])
        # the probe's own spread is estimated from its directions, which may be few
        error = float(row["trace_stderr"]) / float(row["trace"])
        count = len(row["probe"]["samples"])
        matched = row["scale"] == "walk"
        yield (
            Prediction(
                quantity=Quantity.KL_DRIFT,
                law=FewDirectionsLaw(mean, error * math.sqrt(count), count),
                label="small-step",
                source="ours: docs/concepts/drift.md",
                assumptions=(
                    f"isotropic drift; spread over seeds as over the probe's {count} directions, itself an estimate",
                    "probe at the walk's own scale" if matched else "KL quadratic up to the walk's length",
                ),
                step=len(run.steps),
            ),
            Measurement(
                quantity=Quantity.KL_DRIFT,
                value=kl[0],
                step=len(run.steps),
                where=f"{row['task']}, {'probe at the scale of the walk' if matched else 'quadratic law'}",
                source=run.path.name,
            ),
        )
