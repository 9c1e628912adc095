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
from estheory.theory.walk import Walk

EVEN_SHARE_LIMIT = 0.3
"""Share of the rewards' variance in curvature up to which the cosine with the gradient is that of Gaussian rewards."""


def step_norm(reward: Signal, first: RunNorm, w: Walk, rounding: NormRounding) -> Prediction:
    """Predict the norm of the first step.

    Parameters
    ----------
    reward
        What is known of its linear signal.
    first, w
        The law of its displacement after one step, and its walk.
    rounding
        What rounding does to its length.

    Returns
    -------
    Prediction
        ``step_norm`` (weight).
    """
    plain = rounding.is_exact
    unknown = () if reward.reliability is not None else ("reliability unknown, taken as 0",)
    norm = Prediction(
        quantity=Quantity.STEP_NORM,
        law=first.law if plain else rounding.law(first.matched),
        label=first.label if plain else "mean-field",
        source=first.source,
        assumptions=(*first.assumptions, *unknown),
        step=1,
        systematic=rounding.half_width + first.systematic,
    )
    return w.scattered(norm, 0.5, first.follows)


def linear_step(
    config: ESConfig,
    reward: Signal,
    first: RunNorm | None,
    rounding: NormRounding,
    warnings: list[str],
    rewards: RewardModel | None = None,
) -> Iterator[Prediction]:
    """Predict the cosine, progress and gain of one step on a linear reward.

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
        ``tie_probability`` of 0/1 rewards and, where they are known, ``gradient_cosine``, ``progress_per_step``
        (weight) and ``reward_gain_per_step`` (reward).
    """
    estimator = estimator_of(config)
    if rewards is None:
        given: tuple[str, ...] = ("Gaussian rewards, linear signal",)
    else:
        given = ("0/1 rewards, prompts independent given the perturbation",)
        yield _predicted(Quantity.TIE_PROBABILITY, PointLaw(tie_probability(rewards, config.population)), given)
    noise = _noise_allows(config, reward, first, rounding, warnings)
    if noise is None:
        return
    label, given = noise[0], (*given, *noise[1])
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
    progress = rounding.kept * signal.progress_per_step(config, reward, rewards)
    yield _predicted(Quantity.PROGRESS_PER_STEP, PointLaw(progress), (*given, mean), label)
    if reward.gradient_norm is not None:
        gain_of_reward = PointLaw(reward.gradient_norm * progress)
        yield _predicted(Quantity.REWARD_GAIN_PER_STEP, gain_of_reward, (*given, "no curvature", mean), label)


def curved_cosine(
    config: ESConfig, reward: Signal, first: RunNorm | None, rounding: NormRounding, warnings: list[str]
) -> Iterator[Prediction]:
    """Predict the cosine of one step with the gradient on a quadratic.

    Parameters
    ----------
    config, reward, first, rounding, warnings
        As of :func:`linear_step`.

    Yields
    ------
    Prediction
        ``gradient_cosine``, where curvature has little part in the rewards.
    """
    allowed = _noise_allows(config, reward, first, rounding, warnings) is not None
    if reward.even_share > EVEN_SHARE_LIMIT:
        warnings.append(f"no gradient_cosine: {reward.even_share:.2g} of the rewards' variance is curvature")
        return
    if allowed and reward.reliability is not None and config.dim >= 2:
        cosine = estimator_of(config).cosine(config.dim, reward)
        assert cosine is not None  # Gaussian rewards always have one
        yield _predicted(Quantity.GRADIENT_COSINE, cosine, ("locally quadratic reward", "Gaussian rewards"), "large-N")


def _noise_allows(
    config: ESConfig, reward: Signal, first: RunNorm | None, rounding: NormRounding, warnings: list[str]
) -> tuple[Label, tuple[str, ...]] | None:
    """Return the label that noise and rounding leave to cosine and progress, and what they assume; None: no result."""
    given: tuple[str, ...] = ()
    if config.noise == "shared-seed" and reward.reliability is not None:
        warnings.append("cosine and progress are for independent noise; shared seeds multiply both by unknown factors")
    if reward.reliability is not None and rounding.kept != 1.0:
        given = ("the gradient lies on large and small weights alike",)
        factor = rounding.kept / rounding.gain
        warnings.append(f"gradient_cosine is that of exact arithmetic: rounding multiplies it by {factor:.3f}")
    if config.anchor_l1 and config.anchor_form == "after" and reward.reliability is not None:
        warnings.append("no gradient_cosine and progress: the after form of an L1 anchor pulls the first step already")
        return None
    if config.noise_rank is None:
        return "exact", given
    if config.dim < MANY_COORDINATES and first is None:
        warnings.append("no gradient_cosine and progress: low-rank noise in few coordinates shares factors with them")
        return None
    # entries of one factor are not Gaussian together, nor is the signal then
    return "large-N", (*given, "no factor shared with a concentrated gradient")


def _predicted(quantity: Quantity, law: Law, assumptions: tuple[str, ...], label: Label = "exact") -> Prediction:
    return Prediction(quantity=quantity, law=law, label=label, source=signal.OURS, assumptions=assumptions, step=1)
