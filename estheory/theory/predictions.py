"""Everything that theory predicts for one configuration, as a list of predictions and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from estheory.errors import ConfigError
from estheory.landscape import Landscape, Signal
from estheory.quantities import Prediction, Quantity
from estheory.rules import ESConfig, require_count
from estheory.shown import Shown
from estheory.theory import walk_predictions
from estheory.theory.effective_dimension import Shapes
from estheory.theory.estimators import estimator_of
from estheory.theory.grpo import GRPOConfig, against_grpo
from estheory.theory.rounding.precision import NormBand, RoundingEffect
from estheory.theory.rounding.predictions import norm_roundings, rounding_predictions
from estheory.theory.run_norm import RunNorm, run_norm, without_few_pairs
from estheory.theory.step_predictions import curved_cosine, linear_step, step_norm
from estheory.theory.walk import Walk, walk

if TYPE_CHECKING:
    from estheory.theory.curved.predictions import OffTask
    from estheory.theory.prompt_batch import PromptBatch
    from estheory.theory.reward_model import RewardModel

_GIVEN_BY: dict[Quantity | str, str] = {
    Quantity.CHECKPOINT_COSINE: "checkpoints= with two steps or more",
    **dict.fromkeys(
        (Quantity.GRADIENT_COSINE, Quantity.PROGRESS_PER_STEP, Quantity.REWARD_GAIN_PER_STEP),
        "reward=linear_signal(...), or landscape=",
    ),
    **dict.fromkeys(
        (Quantity.REWARD, Quantity.REWARD_PEAK_STEP, Quantity.STATIONARY_REWARD_GAP, Quantity.OPTIMAL_ALPHA),
        "landscape=",
    ),
    Quantity.CRITICAL_POPULATION: "landscape=",
    **dict.fromkeys((Quantity.KL_DRIFT, Quantity.OFF_TASK_REWARD_CHANGE), "off_task=OffTask(...)"),
    **dict.fromkeys(
        (Quantity.GRPO_DISPLACEMENT_NORM, Quantity.NORM_RATIO, Quantity.MATCHING_POPULATION), "grpo=GRPOConfig(...)"
    ),
    Quantity.INTERPOLATION_GAIN: "landscape= and grpo=GRPOConfig(...)",
    **dict.fromkeys((Quantity.PRECISION_GAIN, Quantity.PRECISION_SIGNAL), "rounding="),
}
"""By quantity, the argument that a prediction of it needs."""


@dataclass(frozen=True)
class Forecast(Shown):
    """Predictions for one configuration, and what could not be predicted or should be known about them.

    Attributes
    ----------
    config
        The run.
    predictions
        In the order of :class:`estheory.quantities.Quantity`, by rising step.
    warnings
        One sentence each.
    """

    config: ESConfig
    predictions: tuple[Prediction, ...]
    warnings: tuple[str, ...] = field(default=())

    def get(self, quantity: Quantity, step: int | None = None) -> Prediction:
        """Return the prediction of a quantity.

        Parameters
        ----------
        quantity
            What is predicted.
        step
            The training step; None for the first there is.

        Returns
        -------
        Prediction
            With law, label, source and assumptions.

        Raises
        ------
        KeyError
            If there is none.
        """
        for prediction in self.predictions:
            if prediction.quantity == quantity and (step is None or prediction.step == step):
                return prediction
        known = any(p.quantity == quantity for p in self.predictions)
        given = "checkpoints=" if known else _GIVEN_BY.get(quantity)
        remedy = f": give predict {given}" if given else ""
        raise KeyError(f"no prediction of {quantity}{f' at step {step}' if step else ''}{remedy}")


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
        (:func:`estheory.theory.rounding.precision.rounding_effects`, or the emulator's).
    band
        Where the weights are unknown, the band of norms over a family of weights, at the same steps; None computes it
        from the closed forms.
    grpo
        The gradient-based run to compare with.
    landscape
        Curvature of the reward around the model; it takes the place of ``reward``.
    off_task
        What is known of another behaviour, for drift; it wins over what the landscape has.
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
    >>> norm = predict(run).get(Quantity.DISPLACEMENT_NORM)
    >>> round(norm.law.mean, 3), norm.label, norm.source
    (86.845, 'exact', 'arXiv:2604.01499')
    >>> [round(end, 3) for end in norm.law.interval(0.95)]
    [86.844, 86.847]

    With what is known of the reward:

    >>> from estheory import linear_signal
    >>> forecast = predict(run, reward=linear_signal(sigma=0.0015, reliability=0.3))
    >>> f"{forecast.get(Quantity.PROGRESS_PER_STEP).law.mean:.4g}"
    '0.0004004'
    """
    if landscape is not None or off_task is not None:
        from estheory.theory.curved import predictions as curved  # imported when needed: a cold start stays short
        from estheory.theory.curved.norms import curved_cosines, curved_norms
    if landscape is not None:
        if reward is not None:
            raise ConfigError("a landscape and a linear signal were both given", "give one of them")
        if landscape.dim != config.dim:
            raise ConfigError(f"the landscape has {landscape.dim} dimensions, the run {config.dim}", "make them equal")
        reward = curved.landscape_signal(config, landscape)
        off_task = curved.landscape_off_task(landscape, off_task)
    reward = reward or Signal()
    reward.require_sigma(config.sigma)
    steps = sorted(set(checkpoints)) or [config.steps]
    for step in steps:
        require_count("steps", step, 1)
    warnings: list[str] = []
    last = steps[-1]
    rounded = norm_roundings(config, {1, *steps}, rounding, band, warnings)
    if estimator_of(config).members_per_direction > 1 and reward.reliability is None:
        warnings.append("antithetic without --reliability: the pair correlation is taken as 0 (pure noise)")
    if config.noise_rank is not None and shapes is None:
        warnings.append("low-rank without --model: the spread of norms is that of independent entries, too narrow")
    rewards = None if batch is None else batch.model(config.sigma * (reward.gradient_norm or 0.0))
    if rewards is not None and landscape is not None:
        stays = estimator_of(config).variance(reward, rewards).tie_probability
        warnings.append(
            f"0/1 rewards are taken as Gaussian with a spectrum; all are equal in {stays:.2g} of the first steps"
        )
        rewards = None
    walks = {step: walk(config, reward, step, shapes, rewards) for step in sorted({1, *steps})}
    if landscape is not None:  # flat directions follow the spread of the rewards along the run
        walks = {step: curved.flat_walk(config, landscape, w, step) for step, w in walks.items()}
    lengths: Mapping[int, RunNorm]
    pair_moments = None
    if landscape is not None:
        lengths = curved_norms(config, landscape, walks, warnings)
        pair_moments = curved_cosines(config, landscape, steps) if lengths else {}
    else:
        lengths = _linear_norms(config, reward, walks, rewards, warnings)
    first, first_walk = lengths.get(1), walks[1]
    walks = {step: w for step, w in walks.items() if step in steps}
    lengths = {step: length for step, length in lengths.items() if step in steps}
    predictions: list[Prediction] = [
        *walk_predictions.norms(config, walks, lengths, rounded, shapes, warnings),
        *walk_predictions.cosines(config, walks, lengths, rounded, shapes, pair_moments, warnings),
        *walk_predictions.bounds(config, walks, warnings),
    ]
    if first is not None:
        predictions.append(step_norm(reward, first, first_walk, rounded[1]))
    if landscape is None:
        predictions.extend(linear_step(config, reward, first, rounded[1], warnings, rewards))
    else:
        predictions.extend(curved_cosine(config, reward, first, rounded[1], warnings))
        predictions.extend(curved.on_task(config, landscape, steps, warnings))
        if grpo is not None:
            predictions.extend(curved.against_optimum(config, landscape, steps[-1], predictions))
    if off_task is not None:
        gains = {step: effect.gain**2 for step, effect in rounded.items()}
        if landscape is None and (steered := list(curved.steered_kl(off_task, walks, lengths, gains))):
            predictions.extend(steered)
            off_task = replace(off_task, fisher_trace=None)
        drifting = curved.drifting(off_task, walks, lengths, landscape, warnings)
        predictions.extend(curved.off_task_predictions(off_task, drifting, gains, warnings))
        if drifting:
            warnings.extend(curved.off_task_warnings(off_task))
    if rounding is not None:
        predictions.extend(rounding_predictions(rounding, steps))
    if grpo is not None and last in lengths:
        predictions.extend(against_grpo(config, reward, walks[last], lengths[last], grpo, last, rounded[last]))
    order = list(Quantity)
    predictions.sort(key=lambda p: order.index(p.quantity))  # stable: steps stay in order
    return Forecast(config, tuple(predictions), tuple(warnings))


def _linear_norms(
    config: ESConfig,
    reward: Signal,
    walks: Mapping[int, Walk],
    rewards: RewardModel | None,
    warnings: list[str],
) -> dict[int, RunNorm]:
    """Return the norms by step; none where there is no law."""
    try:
        found = {step: run_norm(config, reward, w.at_mean_length, step, rewards) for step, w in walks.items()}
    except ConfigError as error:
        warnings.append(f"no norms: {error.what}")
        return {}
    return {step: without_few_pairs(norm, walks[step], step) for step, norm in found.items()}
