"""Predictions of one step on a linear reward: its length, direction and progress (docs/concepts/signal.md)."""

from __future__ import annotations

from collections.abc import Iterator

from estheory.landscape import Signal
from estheory.laws import Law, PointLaw
from estheory.quantities import Label, Prediction, Quantity
from estheory.rules import ESConfig
from estheory.theory import signal
from estheory.theory.estimators import estimator_of
from estheory.theory.reward_model import RewardModel, tie_probability
from estheory.theory.rounding.predictions import NormRounding
from estheory.theory.run_norm import MANY_COORDINATES, RunNorm


def first_step(
    config: ESConfig,
    reward: Signal,
    first: RunNorm | None,
    rounding: NormRounding,
    warnings: list[str],
    rewards: RewardModel | None = None,
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
    rounding
        What rounding does to its length and progress.
    warnings
        Grows by what to know.
    rewards
        The law of a member's reward where it is not Gaussian, which then takes the place of the Gaussian forms.

    Yields
    ------
    Prediction
        ``tie_probability`` of 0/1 rewards, ``step_norm`` (weight) and, where they are known, ``gradient_cosine``,
        ``progress_per_step`` (weight) and ``reward_gain_per_step`` (reward).
    """
    estimator = estimator_of(config)
    if rewards is None:
        given: tuple[str, ...] = ("Gaussian rewards, linear signal",)
    else:
        given = ("0/1 rewards, prompts independent given the perturbation",)
        yield _predicted(Quantity.TIE_PROBABILITY, PointLaw(tie_probability(rewards, config.population)), given)
    if first is not None:
        plain = rounding.is_exact
        exact = plain or first.law == first.matched or first.label != "exact"
        yield Prediction(
            quantity=Quantity.STEP_NORM,
            law=first.law if plain else rounding.law(first.matched),
            label=(first.label if exact else "large-N") if plain else "mean-field",
            source=first.source,
            assumptions=first.assumptions
            if reward.reliability is not None
            else (*first.assumptions, "reliability unknown, taken as 0"),
            step=1,
            systematic=rounding.half_width + first.systematic,
        )
    if config.noise == "shared-seed" and reward.reliability is not None:
        warnings.append("cosine and progress are for independent noise; shared seeds multiply both by unknown factors")
    kept = rounding.kept
    if reward.reliability is not None and kept != 1.0:
        given = (*given, "the gradient lies on large and small weights alike")
        warnings.append(
            f"gradient_cosine is that of exact arithmetic: rounding multiplies it by {kept / rounding.gain:.3f}"
        )
    if config.anchor_l1 and config.anchor_form == "after" and reward.reliability is not None:
        warnings.append("no gradient_cosine and progress: the after form of an L1 anchor pulls the first step already")
        return
    label: Label = "exact"
    if config.noise_rank is not None:  # entries of one factor are not Gaussian together, nor is the signal then
        given, label = (*given, "no factor shared with a concentrated gradient"), "large-N"
    if config.noise_rank is not None and config.dim < MANY_COORDINATES and first is None:
        warnings.append("no gradient_cosine and progress: low-rank noise in few coordinates shares factors with them")
        return
    if reward.reliability is not None and config.dim >= 2:
        cosine = estimator.cosine(config.dim, reward, rewards)
        if cosine is None:
            warnings.append("no gradient_cosine: these 0/1 rewards have no law of it, or too strong a signal for it")
        if cosine is not None and rewards is not None:
            yield _predicted(
                Quantity.GRADIENT_COSINE, cosine, (*given, "a step that moves", "a weak signal"), "large-N"
            )
        elif cosine is not None:
            yield _predicted(
                Quantity.GRADIENT_COSINE, cosine, given, estimator.cosine_label if label == "exact" else label
            )
    if not estimator.knows_progress(reward):
        return
    mean = "an expected value: single steps scatter around it"
    progress = kept * signal.progress_per_step(config, reward, rewards)
    yield _predicted(Quantity.PROGRESS_PER_STEP, PointLaw(progress), (*given, mean), label)
    if reward.gradient_norm is not None:
        gain_of_reward = PointLaw(reward.gradient_norm * progress)
        yield _predicted(Quantity.REWARD_GAIN_PER_STEP, gain_of_reward, (*given, "no curvature", mean), label)


def _predicted(quantity: Quantity, law: Law, assumptions: tuple[str, ...], label: Label = "exact") -> Prediction:
    return Prediction(quantity=quantity, law=law, label=label, source=signal.OURS, assumptions=assumptions, step=1)
