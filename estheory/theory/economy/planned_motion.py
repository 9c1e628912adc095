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
from estheory.theory.curved.comparison import EndPoint, es_end_point, interpolation_gain
from estheory.theory.curved.spectra import from_probes
from estheory.theory.economy.coherent import CoherentMotion, gradient_cosine, turning_per_update
from estheory.theory.estimators import estimator_of
from estheory.theory.signal import progress_per_step

OURS = ours("economy")
MEASURED = "the gradient measured before the run keeps its size, and only the walk turns it: too much once rewards rise"


def _adds_up(config: ESConfig) -> bool:
    """Whether the displacement is the plain sum of updates whose coordinates are independent."""
    if config.momentum or config.anchor_l1 or config.anchor_l2:
        return False
    return config.noise == "gaussian" and config.dtype == "float32"


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
        Of ``coherent_displacement`` (weight), from the second step on of ``gradient_cosine``, and at the last of
        ``independent_cosine``, of two runs that learn the same.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/economy.md.
    """
    if not (_adds_up(config) and signal.gradient_norm):
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
        ahead, moved = float(along[step - 1]), float(square[step - 1])
        cosine = gradient_cosine(along=ahead, square=moved, walk=walk * step, dim=config.dim)
        # the walk scatters along the gradient, and in its length
        spread = (1 - cosine**2) / math.sqrt(config.dim) * math.sqrt((1 - cosine**2) + cosine**2 / 2)
        laws: list[tuple[Quantity, Law]] = [(Quantity.COHERENT_DISPLACEMENT, PointLaw(math.sqrt(moved)))]
        if step > 1:  # the first step's is exact
            laws.append((Quantity.GRADIENT_COSINE, NormalLaw(cosine, spread)))
        if step == last > 1:
            both = cosine**2  # shared-cosine; its spread is that of either walk along the gradient and of both lengths
            scatter = (1 - both) * math.sqrt((1 + 2 * both - both**2) / config.dim)
            laws.append((Quantity.INDEPENDENT_COSINE, NormalLaw(both, scatter)))
        for quantity, law in laws:
            yield Prediction(
                quantity=quantity, law=law, label="mean-field", source=OURS, assumptions=(MEASURED,), step=step
            )


def planned_gain(
    config: ESConfig, signal: Signal, *, even_variance: float, trace: float, steps: Sequence[int]
) -> Iterator[Prediction]:
    """Predict the rise over the chord between a run and a gradient run that ends at the optimum.

    Both parts of D' Lam D / 8 follow the mean-field recursion on the isotropic block of what was measured: learning
    shortens the coherent part's distance to the optimum, and pulls the walk back.

    Parameters
    ----------
    config
        The run; predicted as far as by :func:`planned_predictions`.
    signal
        With gradient norm and spread, as measured.
    even_variance
        v_even = 1/2 sigma^4 tr Lam^2, reward^2.
    trace
        tr Lam from the smoothing gap, reward / weight^2.
    steps
        After which to predict.

    Yields
    ------
    Prediction
        Of ``interpolation_gain``, reward units; none where either is not positive.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md.
    """
    odd = (config.sigma * (signal.gradient_norm or 0.0)) ** 2
    if not (_adds_up(config) and odd > 0 and signal.member_std and trace > 0 and even_variance > 0):
        return
    landscape = from_probes(
        dim=config.dim,
        trace=trace,
        gradient_norm=signal.gradient_norm or 0.0,
        reward_std=math.sqrt(max(signal.member_std**2 - odd - even_variance, 0.0)),
        square_trace=2 * even_variance / config.sigma**4,
    )
    nowhere = np.zeros_like(landscape.offset)
    for step in steps:
        law = interpolation_gain(
            landscape, es_end_point(config, landscape, step), EndPoint(mean=nowhere, variance=nowhere)
        )
        yield Prediction(
            quantity=Quantity.INTERPOLATION_GAIN,
            law=law,
            label="mean-field",
            source=ours("es-and-grpo"),
            assumptions=(
                "reward quadratic, its curved directions of one curvature, as measured before the run",
                "GRPO ends at the optimum of the curved directions",
            ),
            step=step,
        )
