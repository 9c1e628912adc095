"""Predictions of one step on a linear reward: its length, direction and progress (docs/concepts/signal.md)."""

from __future__ import annotations

from collections.abc import Iterator

from estheory.landscape import Signal
from estheory.laws import PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory import signal
from estheory.theory.rounding.predictions import rounded_norm
from estheory.theory.step_norm import RunNorm


def first_step(
    config: ESConfig,
    reward: Signal,
    first: RunNorm | None,
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
        The law of its displacement after one step; None where it has none.
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
    if first is not None:
        plain = gain == 1.0 and fluctuation == 0.0
        exact = plain or first.law == first.matched or first.label != "exact"
        yield Prediction(
            quantity=Quantity.STEP_NORM,
            law=first.law if plain else rounded_norm(first.matched, gain, fluctuation),
            label=first.label if exact else "large-N",
            source=first.source,
            assumptions=first.assumptions
            if reward.reliability is not None
            else (*first.assumptions, "reliability unknown, taken as 0"),
            step=1,
            systematic=systematic,
        )
    if config.noise == "shared-seed" and reward.reliability is not None:
        warnings.append("cosine and progress are for independent noise; shared seeds multiply both by unknown factors")
    if reward.reliability is not None and kept != 1.0:
        gaussian = (*gaussian, "the gradient lies on large and small weights alike")
        warnings.append(f"gradient_cosine is that of exact arithmetic: rounding multiplies it by {kept / gain:.3f}")
    if config.anchor_l1 and config.anchor_form == "after" and reward.reliability is not None:
        warnings.append("no gradient_cosine and progress: the after form of an L1 anchor pulls the first step already")
        return
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
