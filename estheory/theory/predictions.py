"""Everything that theory predicts for one configuration, as a list of predictions and warnings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.laws import ChiLaw, NormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig, require_count, require_positive
from estheory.theory import adamw, precision, signal, walk, walk_predictions
from estheory.theory.precision import NormBand, RoundingEffect
from estheory.theory.walk import OURS, Shapes, Walk

if TYPE_CHECKING:
    from estheory.theory.landscape_predictions import OffTask
    from estheory.theory.prompt_batch import PromptBatch

CURVED_SHARE = 1e-6
"""Relative effect of curvature on ||Delta||^2 from which the displacement norm takes it in."""


@dataclass(frozen=True, kw_only=True)
class GRPOConfig:
    """The gradient-based run that ES is compared with: AdamW's hyper-parameters, or its measured displacement norm.

    Attributes
    ----------
    lr, steps, schedule
        Peak learning rate (weight units), number of optimiser steps, and decay (``constant``, ``linear``, ``cosine``).
    norm
        A measured ||Delta_GRPO||, weight units, in place of the hyper-parameters.
    """

    lr: float | None = None
    steps: int | None = None
    schedule: adamw.Schedule = "linear"
    norm: float | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        if self.norm is not None:
            require_positive("grpo-norm", self.norm)
        if (self.lr is None) != (self.steps is None):
            raise ConfigError("grpo-lr and grpo-steps belong together", "give both, or a measured --grpo-norm")
        if self.lr is not None and self.steps is not None:
            require_positive("grpo-lr", self.lr)
            require_count("grpo-steps", self.steps, 1)
        elif self.norm is None:
            raise ConfigError("nothing is known of the GRPO run", "give --grpo-lr and --grpo-steps, or --grpo-norm")


@dataclass(frozen=True)
class Forecast:
    """Predictions for one configuration, and what could not be predicted or should be known about them."""

    config: ESConfig
    predictions: tuple[Prediction, ...]
    warnings: tuple[str, ...] = field(default=())

    def get(self, quantity: Quantity, step: int | None = None) -> Prediction:
        """Return the prediction of ``quantity`` (at ``step``, when given); KeyError if there is none."""
        for prediction in self.predictions:
            if prediction.quantity == quantity and (step is None or prediction.step == step):
                return prediction
        raise KeyError(f"no prediction of {quantity}" + (f" at step {step}" if step else ""))


def predict(
    config: ESConfig,
    *,
    checkpoints: Sequence[int] = (),
    reward: Signal | None = None,
    shapes: Shapes | None = None,
    rounding: Mapping[int, RoundingEffect] | None = None,
    band: Mapping[int, NormBand] | None = None,
    grpo: GRPOConfig | None = None,
    landscape: Landscape | None = None,
    off_task: OffTask | None = None,
    batch: PromptBatch | None = None,
) -> Forecast:
    """Predict the geometry of an ES run before it is run.

    Parameters
    ----------
    config
        The run.
    checkpoints
        Steps at which to predict; ``config.steps`` alone when empty.
    reward
        What is known of the reward's linear signal; on-task predictions need it.
    shapes
        Shapes of the trainable tensors, where the noise makes them matter.
    rounding
        What rounding does to the walk at every checkpoint and at step 1, for low-precision runs of known weights
        (:func:`estheory.theory.precision.rounding_effects`, or the emulator's).
    band
        Where the weights are unknown, the band of norms over a family of weights, at the same steps; None computes it
        from the closed forms.
    grpo
        The gradient-based run to compare with.
    landscape
        Curvature of the reward around the model; it takes the place of ``reward``.
    off_task
        What is known of another behaviour, for drift.
    batch
        The prompts behind 0/1 rewards, whose exact forms then take the place of the Gaussian ones; ``reward`` is
        that of ``batch.signal``. With a landscape only their ties are told of.

    Returns
    -------
    Forecast
        One prediction a quantity (and step), each with its law, label, source and assumptions.

    Raises
    ------
    ConfigError
        For contradictory or insufficient input.

    Examples
    --------
    >>> run = ESConfig(dim=4_022_468_096, sigma=0.0015, alpha=0.00075, population=30, steps=100)
    >>> round(predict(run).get(Quantity.DISPLACEMENT_NORM).law.mean, 3)
    86.845
    """
    if landscape is not None or off_task is not None:
        from estheory.theory import landscape_predictions as curved  # imported when needed: a cold start stays short
    if landscape is not None:
        if reward is not None:
            raise ConfigError("a landscape and a linear signal were both given", "give one of them")
        if landscape.dim != config.dim:
            raise ConfigError(f"the landscape has {landscape.dim} dimensions, the run {config.dim}", "make them equal")
        reward = curved.landscape_signal(config, landscape)
    reward = reward or Signal()
    steps = sorted(set(checkpoints)) or [config.steps]
    for step in steps:
        require_count("steps", step, 1)
    warnings: list[str] = []
    last = steps[-1]
    gains, bands = _precision(config, {1, *steps}, rounding, band, warnings)
    if config.antithetic and reward.reliability is None:
        warnings.append("antithetic without --reliability: the pair correlation is taken as 0 (pure noise)")
    if config.noise_rank is not None and shapes is None:
        warnings.append("low-rank without --model: the spread of norms is that of independent entries, too narrow")
    kept = rounding[1].signal if rounding is not None and config.dtype != "float32" else 1.0
    walks = {step: walk.walk(config, reward, step, shapes) for step in steps}
    first = walks.get(1) or walk.walk(config, reward, 1, shapes)
    if landscape is not None:  # flat directions follow the spread of the rewards along the run
        walks = {step: curved.flat_walk(config, landscape, w, step) for step, w in walks.items()}
    if batch is not None:
        from estheory.theory import prompt_batch as binary

        binary.require_supported(config)
        model = binary.member_rewards(batch, reward, config)
        if landscape is not None:
            warnings.append(
                f"0/1 rewards are taken as Gaussian with a spectrum; all are equal in {binary.ties(config, model):.2g} "
                "of the first steps"
            )
            batch = None
        else:
            walks = {step: binary.walked(w, config, model) for step, w in walks.items()}
    predictions: list[Prediction] = [
        *walk_predictions.norms(config, walks, gains, bands),
        *walk_predictions.cosines(config, walks, warnings),
        *_one_step(config, reward, first, gains[1], bands[1], kept, warnings),
        *walk_predictions.bounds(config, walks),
    ]
    if landscape is not None:
        linear = (Quantity.PROGRESS_PER_STEP, Quantity.REWARD_GAIN_PER_STEP)  # the landscape's own replace these
        predictions = [_curved(p, config, landscape, walks) for p in predictions if p.quantity not in linear]
        predictions.extend(curved.on_task(config, landscape, steps, warnings))
        if grpo is not None:
            predictions.append(curved.against_optimum(config, landscape, steps[-1]))
    if batch is not None:
        gaussian = (Quantity.GRADIENT_COSINE, Quantity.PROGRESS_PER_STEP, Quantity.REWARD_GAIN_PER_STEP)
        predictions = [p for p in predictions if p.quantity not in gaussian]
        predictions.extend(binary.on_task(config, model, reward))
    if off_task is not None:
        predictions.extend(curved.off_task_predictions(off_task, walks, {s: gain**2 for s, gain in gains.items()}))
    if rounding is not None:
        predictions.extend(_rounding(rounding, steps))
    if grpo is not None:
        predictions.extend(_against_grpo(config, walks[last], grpo, last, gains[last], bands[last]))
    if batch is not None:
        predictions = [binary.thinned(p, walks) for p in predictions]
    order = list(Quantity)
    predictions.sort(key=lambda p: order.index(p.quantity))  # stable: steps stay in order
    return Forecast(config, tuple(predictions), tuple(warnings))


def _curved(p: Prediction, config: ESConfig, landscape: Landscape, walks: dict[int, Walk]) -> Prediction:
    """Return a prediction with what the curvature of the landscape does to it."""
    if p.quantity is Quantity.GRADIENT_COSINE:
        return replace(p, label="large-N", assumptions=("locally quadratic reward", "Gaussian rewards"))
    if p.quantity is Quantity.DISPLACEMENT_NORM and p.step is not None and isinstance(p.law, ChiLaw):
        from estheory.theory.landscape_predictions import curved_share

        share = curved_share(config, landscape, walks[p.step], p.step)
        if abs(share - 1) > CURVED_SHARE:
            law = replace(p.law, scale=p.law.scale * math.sqrt(share))
            return replace(
                p, law=law, label="mean-field", assumptions=("curved directions by mean field; their spread as flat",)
            )
    return p


def _precision(
    config: ESConfig,
    steps: set[int],
    rounding: Mapping[int, RoundingEffect] | None,
    band: Mapping[int, NormBand] | None,
    warnings: list[str],
) -> tuple[dict[int, float], dict[int, float]]:
    """Return by step rounding's factor on norms (1 where unknown), and the systematic half-width of norms."""
    plain, none = dict.fromkeys(steps, 1.0), dict.fromkeys(steps, 0.0)
    if config.dtype == "float32":
        return plain, none
    last = max(steps)
    if rounding is not None:
        if warning := precision.swallowed_warning(rounding[last], config.dtype):
            warnings.append(warning)
        # an emulated gain has a standard error: granted at 95 %, on the norm, as a systematic part
        errors = {s: 1.96 * rounding[s].variance_stderr / (2 * rounding[s].variance or 1.0) for s in steps}
        return {s: math.sqrt(rounding[s].variance) for s in steps}, errors
    if band is None:
        closest = config
        if not precision.has_closed_form(config):
            closest = replace(config, restore_pairs=0, anchor_l1=0.0, anchor_l2=0.0, momentum=0.0)
            if not precision.has_closed_form(closest):
                closest = replace(closest, update_path="accumulated", shaping="zscore", antithetic=False)
            warnings.append("the band is of rounded additions alone, without restore pairs, anchors and momentum")
        band = precision.unknown_weights_band(closest, steps)
    warnings.append(
        f"{config.dtype} without --weights or --weight-std: over weights of rms {precision.FAMILY_RMS[0]:g} to "
        f"{precision.FAMILY_RMS[-1]:g} rounding multiplies the norm after {last} steps by {band[last].low:.3f} to "
        f"{band[last].high:.3f}; norms keep the plain law and carry that as a declared systematic band"
    )
    return plain, {s: band[s].half_width for s in steps}


def _rounding(rounding: Mapping[int, RoundingEffect], steps: Sequence[int]) -> Iterator[Prediction]:
    """Predict the factor on the variance and the retained projection at each step."""
    for step in steps:
        effect = rounding[step]
        emulated = effect.variance_stderr > 0
        for quantity, value, error in (
            (Quantity.PRECISION_GAIN, effect.variance, effect.variance_stderr),
            (Quantity.PRECISION_SIGNAL, effect.signal, effect.signal_stderr),
        ):
            yield Prediction(
                quantity=quantity,
                law=NormalLaw(value, error) if emulated else PointLaw(value),
                label="exact" if emulated or step == 1 else "mean-field",
                source="ours: docs/concepts/precision.md",
                assumptions=(
                    "emulated; the spread is its standard error" if emulated else "Gaussian diffusion over binades",
                    "flat directions: rewards are noise",
                ),
                step=step,
            )


def _one_step(
    config: ESConfig,
    reward: Signal,
    first: Walk,
    gain: float,
    systematic: float,
    kept: float,
    warnings: list[str],
) -> Iterator[Prediction]:
    """Predict one step, ``first`` that of flat directions; rounding multiplies its length by ``gain``.

    It multiplies its progress by ``kept``.
    """
    gaussian: tuple[str, ...] = ("Gaussian rewards, linear signal",)
    law = signal.step_norm(config, reward, first.effective_dim)
    # the after form of an L1 anchor pulls the first step already
    pulled = math.sqrt(first.variance / walk.step_variance(config, reward).value) if config.anchor_l1 else 1.0
    yield Prediction(
        quantity=Quantity.STEP_NORM,
        law=ChiLaw(law.scale * gain * pulled, law.df, law.mixing_df),
        label="exact",
        source=OURS,
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
            source=OURS,
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
        source=OURS,
        assumptions=(*gaussian, "an expected value: single steps scatter around it"),
        step=1,
    )
    if reward.gradient_norm is not None:
        yield Prediction(
            quantity=Quantity.REWARD_GAIN_PER_STEP,
            law=PointLaw(reward.gradient_norm * progress),
            label="exact",
            source=OURS,
            assumptions=(*gaussian, "no curvature", "an expected value: single steps scatter around it"),
            step=1,
        )


def _against_grpo(
    config: ESConfig, last: Walk, grpo: GRPOConfig, step: int, gain: float, systematic: float
) -> Iterator[Prediction]:
    square, half_width = last.variance * last.dim * gain**2, systematic + 0.5 * last.declared_error
    known: tuple[str, ...]
    dense = ("dense, independent gradient noise", "no weight decay, fp32 master weights")
    if grpo.norm is not None:
        grpo_norm, known = grpo.norm, ("measured GRPO norm",)
    else:
        assert grpo.lr is not None  # GRPOConfig checks both
        assert grpo.steps is not None
        grpo_norm = math.sqrt(adamw.grpo_mean_square(config.dim, grpo.lr, grpo.steps, grpo.schedule))
        known = dense
        yield Prediction(
            quantity=Quantity.GRPO_DISPLACEMENT_NORM,
            law=ChiLaw(grpo_norm / math.sqrt(config.dim), config.dim),
            label="mean-field",
            source="ours: docs/concepts/es-and-grpo.md",
            assumptions=dense,
            step=grpo.steps,
        )
    norm = last.norm_law
    for quantity, law in (
        (Quantity.NORM_RATIO, ChiLaw(norm.scale * gain / grpo_norm, norm.df, norm.mixing_df)),
        (Quantity.MATCHING_POPULATION, PointLaw(config.population * square / grpo_norm**2)),
    ):
        if quantity is Quantity.MATCHING_POPULATION and config.shaping != "zscore":
            continue
        yield Prediction(
            quantity=quantity,
            law=law,
            label="mean-field" if grpo.norm is None else last.label,
            source="ours: docs/concepts/es-and-grpo.md",
            assumptions=(*last.assumptions, *known),
            step=step,
            systematic=half_width * (2 if quantity is Quantity.MATCHING_POPULATION else 1),
        )
