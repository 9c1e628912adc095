"""What a forward-only probe of the reward predicts of a run, before it is run (docs/concepts/signal.md).

The probe gives five moments of member rewards, with their covariance: sigma^2 ||g||^2, 1/2 sigma^4 tr Lam^2, S^2,
1/2 sigma^2 tr Lam and sigma^4 g'Lam g. The gradient is followed as one direction of curvature g'Lam g / ||g||^2; the
rest of the curvature costs what a walk costs. Directions of unequal curvature would rise at least as far (the gain is
convex in the curvature) and at most linearly: that range is the declared systematic part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.estimates import propagated
from estheory.quantities import Label, Quantity
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of
from estheory.theory.probe.reward import (
    ProbedReward,
    critical_population_and_alpha,
    mean_change,
    probed_signal,
    unseen_population,
)
from estheory.theory.signal import gradient_cosine, progress_per_step

OURS = ours("signal")
EARLY_STEPS = 8
"""Steps from which a run's first gain and its reliability are measured."""


@dataclass(frozen=True, kw_only=True)
class ProbedPrediction:
    """One prediction made from a probe.

    Attributes
    ----------
    quantity, step, label, source, assumptions, systematic
        As of :class:`estheory.quantities.Prediction`.
    mean
        The predicted mean.
    probe_stderr
        Its standard error from the probe.
    spread
        Standard deviation of single runs around it.
    """

    quantity: Quantity
    mean: float
    probe_stderr: float
    spread: float
    label: Label
    assumptions: tuple[str, ...]
    step: int | None = None
    systematic: float = 0.0
    source: str = OURS

    @property
    def std(self) -> float:
        """Both spreads together."""
        return math.hypot(self.probe_stderr, self.spread)


def early_slope_weights(steps: int) -> Array:
    """Return the weights of the least-squares slope over equally spaced points.

    Parameters
    ----------
    steps
        Number of points, less one.

    Returns
    -------
    ndarray
        Shape (steps + 1,). They sum to 0.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.

    Examples
    --------
    >>> [round(float(w), 3) for w in early_slope_weights(2)]
    [-0.5, 0.0, 0.5]
    """
    centred = np.arange(steps + 1) - steps / 2
    return np.asarray(centred / (centred @ centred))


def predict_from_probe(
    config: ESConfig, probe: ProbedReward, steps: Sequence[int]
) -> tuple[list[ProbedPrediction], list[str]]:
    """Predict a run from a probe of its reward.

    Parameters
    ----------
    config
        The run.
    probe
        The moments of its reward at its start.
    steps
        Steps after which the change of the reward is predicted.

    Returns
    -------
    predictions : list of ProbedPrediction
        Each with its label and source.
    missing : list of str
        What cannot be predicted, with the reason.
    """
    found: list[ProbedPrediction] = []
    missing: list[str] = []
    local = ("reward quadratic at the scale of sigma and of the run",)
    along = ("one curvature along the gradient, the rest a walk; systematic: up to a straight rise",)

    def add(quantity: Quantity, compute: Callable[[], ProbedPrediction]) -> None:
        try:
            made = compute()
            if not all(map(math.isfinite, (made.mean, made.std, made.systematic))):
                raise ConfigError("the probe does not resolve it", "probe more")
            found.append(made)
        except (ConfigError, ValueError, OverflowError, ZeroDivisionError) as error:
            missing.append(f"no {quantity}: {error.what if isinstance(error, ConfigError) else error}")

    def simple(
        quantity: Quantity,
        function: Callable[[Array], float],
        label: Label,
        *assumptions: str,
        step: int | None = 1,
        systematic: Callable[[], float] = float,
    ) -> None:
        def compute() -> ProbedPrediction:
            estimate = propagated(function, probe.mean, probe.covariance)
            return ProbedPrediction(
                quantity=quantity,
                mean=estimate.value,
                probe_stderr=estimate.stderr,
                spread=0.0,
                label=label,
                assumptions=assumptions,
                step=step,
                systematic=systematic(),
            )

        add(quantity, compute)

    simple(
        Quantity.REWARD_RELIABILITY,
        lambda m: float((m[0] + m[1]) / m[2]),
        "exact",
        f"as at the start for the first {EARLY_STEPS} steps",
    )
    simple(Quantity.MEMBER_REWARD_STD, lambda m: math.sqrt(m[2]), "exact", f"as at the start for {EARLY_STEPS} steps")
    if probe.steered:
        simple(
            Quantity.PROGRESS_PER_STEP,
            lambda m: progress_per_step(config, probed_signal(config, m)),
            "exact",
            "Gaussian rewards, linear signal",
        )
        add(Quantity.GRADIENT_COSINE, lambda: _cosine(config, probe))
        unseen = (*local, "one sign of curvature; systematic: curvature beyond what the probe tells")
        for part, quantity in enumerate((Quantity.CRITICAL_POPULATION, Quantity.OPTIMAL_ALPHA)):
            best = partial(_best_step, config, part)
            simple(quantity, best, "large-N", *unseen, systematic=partial(_unseen, config, probe, part))
    early = min(EARLY_STEPS, config.steps - 1)
    if early >= 3:
        slope, assumptions = early_slope_weights(early), (*local, *along, f"mean slope of the first {early} steps")
        gain = Quantity.REWARD_GAIN_PER_STEP
        add(gain, partial(_rise, config, probe, gain, slope, assumptions))
    for step in sorted(steps):
        if any(why.startswith(f"no {Quantity.REWARD_CHANGE}:") for why in missing):
            break  # nor at any later step
        ends = np.zeros(step + 1)
        ends[0], ends[-1] = -1.0, 1.0
        change = Quantity.REWARD_CHANGE
        add(change, partial(_rise, config, probe, change, ends, (*local, *along)))
    if probe.steered:
        add(Quantity.REWARD_PEAK_STEP_LOWER_BOUND, partial(_peak, config, probe, local))
    return found, missing


def _best_step(config: ESConfig, part: int, moments: Array) -> float:
    """Return N_crit (0) or the best step size (1)."""
    return critical_population_and_alpha(config, moments)[part]


def _unseen(config: ESConfig, probe: ProbedReward, part: int) -> float:
    """Return the relative error that curvature the probe does not tell may leave in N_crit (0) or the best step (1)."""
    population, _ = critical_population_and_alpha(config, probe.mean)
    whole = population if part == 0 else config.population - 2 + population
    unseen = unseen_population(probe.mean)
    if unseen >= whole:
        share = 2 * probe.mean[1] / probe.mean[2]
        raise ConfigError(
            f"curvature has so large a part in the rewards ({share:.2g}) that it needs the spectrum", "give a landscape"
        )
    return unseen / whole


def _cosine(config: ESConfig, probe: ProbedReward) -> ProbedPrediction:
    def mean_of(moments: Array) -> float:
        return gradient_cosine(config, probed_signal(config, moments).reliability or 0.0).mean

    estimate = propagated(mean_of, probe.mean, probe.covariance)
    return ProbedPrediction(
        quantity=Quantity.GRADIENT_COSINE,
        mean=estimate.value,
        probe_stderr=estimate.stderr,
        spread=gradient_cosine(config, probed_signal(config, probe.mean).reliability or 0.0).std,
        label="exact",
        assumptions=("Gaussian rewards, linear signal", "gradient of the smoothed reward"),
        step=1,
    )


def _rise(
    config: ESConfig, probe: ProbedReward, quantity: Quantity, weights: Array, assumptions: tuple[str, ...]
) -> ProbedPrediction:
    """Predict a weighted sum of the mean curve, weights of shape (steps + 1,) that sum to 0."""
    steps = weights.size - 1

    def curve(moments: Array) -> float:
        return float(weights @ mean_change(config, probe, moments, steps, straight=False))

    highest = float(mean_change(config, probe, probe.mean, steps, straight=False).max())
    if highest > probe.ceiling:
        what = f"the quadratic rises by {highest:.3g} within {steps} steps, the reward can by {probe.ceiling:.3g}"
        raise ConfigError(what, "predict fewer steps")
    estimate = propagated(curve, probe.mean, probe.covariance)
    mean = estimate.value
    signal = probed_signal(config, probe.mean)
    assert signal.gradient_norm is not None
    # later weights act on every earlier increment; the walk along the gradient and that of the other curvature
    carried = np.cumsum(weights[::-1])[::-1][1:]
    walk = estimator_of(config).variance(signal).value
    spread = math.hypot(
        signal.gradient_norm * math.sqrt(walk * float(carried @ carried)),
        walk * float(np.abs(carried).sum()) * math.sqrt(max(probe.mean[1], 0.0)) / config.sigma**2,
    )
    systematic, steered = 0.0, probe.steered
    if steered:
        straight = float(
            weights @ np.minimum(mean_change(config, probe, probe.mean, steps, straight=True), probe.ceiling)
        )
        systematic = abs(straight - mean) / abs(mean)
    return ProbedPrediction(
        quantity=quantity,
        mean=estimate.value,
        probe_stderr=estimate.stderr,
        spread=spread,
        systematic=systematic,
        label="mean-field" if steered else "small-step",
        assumptions=assumptions if steered else ("permuted coefficients: a walk on a quadratic reward",),
        step=1 if quantity is Quantity.REWARD_GAIN_PER_STEP else steps,
    )


def _peak(config: ESConfig, probe: ProbedReward, local: tuple[str, ...]) -> ProbedPrediction:
    """Predict the step before which the mean reward does not peak."""

    def peak(moments: Array) -> float:
        return float(np.argmax(mean_change(config, probe, moments, config.steps, straight=False)))

    estimate = propagated(peak, probe.mean, probe.covariance)
    if estimate.value >= config.steps:
        raise ConfigError(f"the mean reward is predicted to rise through all {config.steps} steps", "run longer")
    return ProbedPrediction(
        quantity=Quantity.REWARD_PEAK_STEP_LOWER_BOUND,
        mean=estimate.value,
        probe_stderr=estimate.stderr,
        spread=0.0,
        label="mean-field",
        assumptions=(*local, "one curvature along the gradient: an uneven one peaks later"),
    )
