"""Measured displacements of checkpoints, joined with the forecast of the run behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from estheory.errors import ConfigError
from estheory.measurement.displacement import Displacements
from estheory.quantities import Quantity
from estheory.theory.predictions import Forecast
from estheory.validation.judge import Pair, paired


def displacement_pairs(
    measured: Displacements, forecast: Forecast, *, steps: Sequence[int] = (), source: str = ""
) -> list[Pair]:
    """Return predictions and measurements of the norms of one run's checkpoints and of the cosines between them.

    Parameters
    ----------
    measured
        Displacements of K checkpoints from their base, of `estheory.measurement.displacement.measure_displacements`.
    forecast
        Predictions of the run at every one of ``steps``.
    steps
        Step of each checkpoint, length K; what their names tell when empty.
    source
        What was measured, for the reader of the verdicts.

    Returns
    -------
    list of (Prediction, Measurement)
        The norms (weight) in the order of the checkpoints, then the cosines that are predicted.

    Raises
    ------
    ConfigError
        If there is not one step for each checkpoint, or none is predicted there.
    """
    at = tuple(steps) or measured.steps
    if len(at) != len(measured.labels) or None in at:
        known = len([step for step in at if step is not None])
        raise ConfigError(f"{len(measured.labels)} checkpoints but {known} steps", "give --steps with one for each")
    pairs: list[Pair] = []
    for step, label, norm in zip(at, measured.labels, measured.norms.tolist(), strict=True):
        where = f"total:{label}"
        try:
            prediction = forecast.get(Quantity.DISPLACEMENT_NORM, step)
        except KeyError:
            raise ConfigError(f"nothing is predicted at step {step}", "predict at the checkpoints' steps") from None
        pairs.append(paired(prediction, norm, where=where, source=source))
    cosines = {p.where: p for p in forecast.predictions if p.quantity is Quantity.CHECKPOINT_COSINE}
    for a, b in np.argwhere(np.triu(np.ones_like(measured.cosines), 1)).tolist():
        between = cosines.get(f"{at[a]}|{at[b]}") or cosines.get(f"{at[b]}|{at[a]}")
        if between is not None:
            where = f"{measured.labels[a]}|{measured.labels[b]}"
            pairs.append(paired(between, float(measured.cosines[a, b]), where=where, source=source))
    return pairs
