"""How far a planned run is carried along its gradients, from what a pilot or a probe measured before it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from estheory.citations import ours
from estheory.landscape import Signal
from estheory.laws import Law, NormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory.economy.coherent import CoherentMotion, turning_per_update
from estheory.theory.estimators import estimator_of
from estheory.theory.signal import progress_per_step

OURS = ours("economy")
MEASURED = "the gradient measured before the run keeps its size, and only the walk turns it: too much once rewards rise"


def planned_predictions(
    config: ESConfig, signal: Signal, even_variance: float, steps: Sequence[int]
) -> Iterator[Prediction]:
    """Predict the coherent displacement of a run and the cosine of its displacement with the gradient at its start.

    Parameters
    ----------
    config
        The run; with momentum, an anchor, 16 bits or other than Gaussian noise nothing is predicted.
    signal
        With gradient norm and spread, as measured.
    even_variance
        v_even, reward^2; 0 where it is not known, and then nothing turns the gradient.
    steps
        After which to predict.

    Yields
    ------
    Prediction
        Of ``coherent_displacement`` (weight), and from the second step on of ``gradient_cosine``.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md.
    """
    if config.momentum or config.anchor_l1 or config.anchor_l2 or not signal.gradient_norm:
        return
    if config.noise != "gaussian" or config.dtype != "float32":
        return
    walk, progress = estimator_of(config).variance(signal).value, progress_per_step(config, signal)
    last = max(steps)
    grown = 2 * walk / config.sigma**2 * max(even_variance, 0.0)
    odd = (config.sigma * signal.gradient_norm) ** 2 + grown * np.arange(last, dtype=np.float64)
    turning = turning_per_update(np.full(last, walk), config.sigma, odd, np.full(last, even_variance))
    turning[0] = 1.0
    motion = CoherentMotion(progress=np.full(last, progress), turning=turning)
    square, along = motion.square(), motion.along_first()
    for step in steps:
        norm = math.sqrt(walk * step * config.dim + float(square[step - 1]))
        cosine = min(float(along[step - 1]) / norm, 1.0)
        # the walk scatters along the gradient, and in its length
        spread = (1 - cosine**2) / math.sqrt(config.dim) * math.sqrt((1 - cosine**2) + cosine**2 / 2)
        laws: list[tuple[Quantity, Law]] = [
            (Quantity.COHERENT_DISPLACEMENT, PointLaw(math.sqrt(float(square[step - 1]))))
        ]
        if step > 1:  # the first step's is exact
            laws.append((Quantity.GRADIENT_COSINE, NormalLaw(cosine, spread)))
        for quantity, law in laws:
            yield Prediction(
                quantity=quantity, law=law, label="mean-field", source=OURS, assumptions=(MEASURED,), step=step
            )
