"""Predictions of one step on a linear reward: its length, direction and progress (docs/concepts/signal.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from estheory.landscape import Signal
from estheory.laws import PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory import signal
from estheory.theory.rounding.predictions import rounded_norm
from estheory.theory.step_variance import step_variance
from estheory.theory.walk import Walk


def first_step(
    config: ESConfig,
    reward: Signal,
    first: Walk,
    gain: float,
    systematic: float,
    fluctuation: float,
    kept: float,
    warnings: list[str],
) -> Iterator[Prediction]:
    """Predict the norm, cosine, progress and gain of one step.

    Parameters
    ----------
    config
        The run.
    reward
        What is known of its linear signal.
    first
        Its walk after one step, that of flat directions.
    gain
        Rounding's factor on the length of the step.
    systematic
        Declared relative half-width of that length.
    fluctuation
        Relative variance that rounding adds to its square.
    kept
        Rounding's factor on the progress.
    warnings
        Grows by what to know.

    Yields
    ------
    Prediction
        ``step_norm`` (weight) and, where they are known, ``gradient_cosine``, ``progress_per_step`` (weight) and
        ``reward_gain_per_step`` (reward).
    """
    gaussian: tuple[str, ...] = ("Gaussian rewards, linear signal",)
    law = signal.step_norm(config, reward, first.effective_dim)
    # the after form of an L1 anchor pulls the first step already
    pulled = math.sqrt(first.variance / step_variance(config, reward).value) if config.anchor_l1 else 1.0
    yield Prediction(
        quantity=Quantity.STEP_NORM,
        law=rounded_norm(law, gain * pulled, fluctuation),
        label="exact",
        source=signal.OURS,
        assumptions=gaussian if reward.reliability is not None else ("reliability unknown, taken as 0",),
        step=1,
        systematic=systematic,
    )
    if config.noise == "shared-seed" and reward.reliability is not None:
        warnings.append("cosine and progress are for independent noise; shared seeds multiply both by unknown factors")
    if reward.reliability is not None and kept != 1.0:
        gaussian = (*gaussian, "the gradient lies on large and small weights alike")
        warnings.append(f"gradient_cosine is that of exact arithmetic: rounding multiplies it by {kept / gain:.3f}")
    if reward.reliability is not None and config.dim >= 2:
        yield Prediction(
            quantity=Quantity.GRADIENT_COSINE,
            law=signal.gradient_cosine(config, reward.reliability, reward.even_share),
            label="large-N" if config.shaping == "centered-rank" else "exact",
            source=signal.OURS,
            assumptions=gaussian,
            step=1,
        )
    knows_progress = reward.gradient_norm if config.shaping in ("raw", "two-point") else reward.reliability
    if knows_progress is None:
        return
    progress = kept * signal.progress_per_step(config, reward)
    yield Prediction(
        quantity=Quantity.PROGRESS_PER_STEP,
        law=PointLaw(progress),
        label="exact",
        source=signal.OURS,
        assumptions=(*gaussian, "an expected value: single steps scatter around it"),
        step=1,
    )
    if reward.gradient_norm is not None:
        yield Prediction(
            quantity=Quantity.REWARD_GAIN_PER_STEP,
            law=PointLaw(reward.gradient_norm * progress),
            label="exact",
            source=signal.OURS,
            assumptions=(*gaussian, "no curvature", "an expected value: single steps scatter around it"),
            step=1,
        )
