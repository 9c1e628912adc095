"""0/1 rewards of a batch of prompts: what real runs have, and what it changes in a forecast (docs/concepts/signal.md).

The forms are exact for the reward model of :func:`estheory.theory.rewards.bernoulli_rewards`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from estheory._special import chi_mean
from estheory.cosine_laws import CosineLaw
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import Law, PointLaw
from estheory.quantities import Label, Prediction, Quantity
from estheory.rules import ESConfig, require_count
from estheory.theory.rewards import (
    RewardModel,
    bernoulli_rewards,
    rank_overlap,
    tie_probability,
    zscore_overlap,
)
from estheory.theory.signal import first_step_share, rank_projection
from estheory.theory.step_variance import NO_TIES
from estheory.theory.ties import TiedLaw
from estheory.theory.walk import Walk

OURS = "ours: docs/concepts/signal.md"
MAX_PROMPTS = 2000
_CONSTANT = 1e6
_MOST_SIGNAL = 1e3
"""sigma ||g|| beyond which every member's success is cut off at 0 or 1."""
SCALED = {
    Quantity.DISPLACEMENT_NORM: 0.5,
    Quantity.STEP_NORM: 0.5,
    Quantity.NORM_RATIO: 0.5,
    Quantity.EFFECTIVE_DIMENSION_RATIO: 1.0,
    Quantity.KL_DRIFT: 1.0,
}
"""Quantities that scale with a power of the variance of the walk."""


@dataclass(frozen=True, kw_only=True)
class PromptBatch:
    """A member's reward is the share of B prompts it answers right; the base model answers each with probability p.

    Attributes
    ----------
    success
        p, in (0, 1).
    prompts
        B.

    Raises
    ------
    ConfigError
        If p leaves (0, 1), or B is no count or above ``MAX_PROMPTS``.

    Examples
    --------
    >>> PromptBatch(success=0.1, prompts=9).reward_std
    0.1
    """

    success: float
    prompts: int

    def __post_init__(self) -> None:
        """Check both."""
        if not 0 < self.success < 1:
            raise ConfigError(
                f"success must lie between 0 and 1, got {self.success}",
                "it is the base model's accuracy on the prompts",
            )
        require_count("prompts", self.prompts, 1)
        if self.prompts > MAX_PROMPTS:
            raise ConfigError(
                f"{self.prompts} prompts are more than {MAX_PROMPTS}",
                f"such rewards are Gaussian: give --reward-std {self.reward_std:.3g} instead",
            )

    @property
    def reward_std(self) -> float:
        """The reward noise s = sqrt(p (1-p) / B), reward units."""
        return math.sqrt(self.success * (1 - self.success) / self.prompts)

    def model(self, signal_std: float) -> RewardModel:
        """Return the joint law of a member's reward and its coordinate along the gradient.

        Parameters
        ----------
        signal_std
            sigma ||g||, reward units.

        Returns
        -------
        RewardModel
            Of B prompts of equal success.
        """
        return bernoulli_rewards(self.success, prompts=self.prompts, signal_std=signal_std)

    def signal(self, *, sigma: float, reliability: float | None = None, gradient_norm: float | None = None) -> Signal:
        """Return the linear signal: S^2 = p (1-p) / B + (1 - 1/B) (sigma ||g||)^2 where nothing is cut off at 0 or 1.

        With ``reliability`` the gradient is the one whose rewards have it, cut off at 0 and 1 as they are.

        Parameters
        ----------
        sigma
            Perturbation scale, weight units.
        reliability
            rho^2, in [0, 1).
        gradient_norm
            ||g||, reward / weight, in place of ``reliability``.

        Returns
        -------
        Signal
            Without gradient where neither is given.

        Raises
        ------
        ConfigError
            For both, a reliability outside [0, 1), or one that no gradient gives such rewards.
        """
        if gradient_norm is not None and reliability is not None:
            raise ConfigError("success, prompts, gradient-norm and reliability are one too many", "leave one out")
        if reliability is not None:
            if not 0 <= reliability < 1:
                raise ConfigError(f"reliability must lie in [0, 1) here, got {reliability}", "0/1 rewards have noise")
            gradient_norm = self._signal_std(reliability) / sigma
        if not gradient_norm:
            return Signal(reliability=reliability, member_std=self.reward_std, sigma=sigma)
        model = self.model(sigma * gradient_norm)
        return Signal(reliability=model.correlation**2, gradient_norm=gradient_norm, member_std=model.std, sigma=sigma)

    def _signal_std(self, reliability: float) -> float:
        """Return sigma ||g|| of the smallest gradient that gives the rewards this reliability."""
        if reliability == 0:
            return 0.0

        def excess(spread: float) -> float:
            return self.model(spread).correlation ** 2 - reliability

        # without the cut at 0 and 1: where it starts to matter more signal is needed
        low = self.reward_std * math.sqrt(reliability / (1 - reliability * (1 - 1 / self.prompts)))
        if abs(excess(low)) < 1e-9 * reliability:
            return low
        high, best = low, excess(low)
        while best < 0:
            high *= 1.5
            found = excess(high)
            if found <= best or high > _MOST_SIGNAL:
                raise ConfigError(
                    f"0/1 rewards of {self.prompts} prompts at success {self.success:g} reach a reliability of "
                    f"{best + reliability:.3g} at most, not {reliability:g}",
                    "lower --reliability, give --gradient-norm, or leave --success and --prompts out",
                )
            best = found
        low = min(low, high / 1.5)
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
            if high - low < 1e-12 * high:
                break
        return high


def member_rewards(batch: PromptBatch, signal: Signal, config: ESConfig) -> RewardModel:
    """Return the reward model of a run.

    Parameters
    ----------
    batch
        The prompts.
    signal
        An unknown gradient counts as 0.
    config
        The run; sigma alone enters.

    Returns
    -------
    RewardModel
        Of one member.
    """
    return batch.model(config.sigma * (signal.gradient_norm or 0.0))


def require_supported(config: ESConfig) -> None:
    """Refuse paired members: the two rewards of a pair share their prompts in a way not modelled.

    Parameters
    ----------
    config
        The run.

    Raises
    ------
    ConfigError
        For antithetic pairs and two-point shaping.
    """
    if config.antithetic or config.shaping == "two-point":
        raise ConfigError("0/1 rewards of paired members have no result here", "give --reward-std instead of --success")


def variance_mixing(config: ESConfig, model: RewardModel) -> float | None:
    """Return the degrees of freedom of a raw step's variance from the rewards' kurtosis: 2 / (2/(N-1) + kappa/N).

    Parameters
    ----------
    config
        The run.
    model
        A member's rewards.

    Returns
    -------
    float or None
        None for shapings that take the spread out.

    Notes
    -----
    Label: exact, the relative variance of a sample variance. Source: ours: docs/concepts/signal.md.
    """
    if config.shaping != "raw":
        return None
    centred = (model.values - model.mean) / model.std
    kurtosis = float(model.probabilities @ centred**4) - 3
    return 2 / (2 / (config.population - 1) + kurtosis / config.population)


def walked(w: Walk, config: ESConfig, model: RewardModel) -> Walk:
    """Return a walk with the ties and the kurtosis of its rewards in its variance.

    Parameters
    ----------
    w
        The walk of Gaussian rewards.
    config
        The run.
    model
        A member's rewards.

    Returns
    -------
    Walk
        With its tie probability.

    Notes
    -----
    Label: exact, where that of the walk is. Source: ours: docs/concepts/signal.md.
    """
    stays, freedom = ties(config, model), variance_mixing(config, model)
    if freedom is None:
        return replace(w, variance=w.variance * (1 - stays), tie_probability=stays)
    # a raw step's mean variance counts ties already; what is left of its fluctuation is that of steps that move
    left = (1 + 2 / freedom) * (1 - stays) - 1
    moving = max(1.0, w.independent_steps * (1 - stays))
    return replace(
        w,
        tie_probability=stays,
        mixing_df=2 / left * moving if left > 1e-12 else math.inf,
        label="large-N" if w.label == "exact" else w.label,
    )


def ties(config: ESConfig, model: RewardModel) -> float:
    """Return the share of steps that do not move: P(all N rewards equal) for z-scores and raw rewards.

    Centred ranks break ties at random and move all the same.

    Parameters
    ----------
    config
        The run.
    model
        A member's rewards.

    Returns
    -------
    float
        In [0, 1]; 0 for other shapings.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    return tie_probability(model, config.population) if config.shaping in ("zscore", "raw") else 0.0


def overlap(config: ESConfig, model: RewardModel) -> float:
    """Return E[Delta . g_hat] / alpha of one step, by the exact forms of 0/1 rewards.

    Parameters
    ----------
    config
        The run.
    model
        A member's rewards.

    Returns
    -------
    float
        Pure number; reward / weight for raw rewards.

    Raises
    ------
    ConfigError
        If all rewards are equal.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. For the reward model; prompts independent given the
    perturbation.
    """
    if config.shaping == "zscore":
        found = zscore_overlap(model, config.population)
    elif config.shaping == "centered-rank":
        found = rank_overlap(model)
    else:
        found = (config.population - 1) / config.population * model.correlation * model.std / config.sigma
    return first_step_share(config) * found


def gradient_cosine(config: ESConfig, model: RewardModel) -> CosineLaw | None:
    """Return the law of the cosine of a step with the gradient, given that it moves.

    The projection A = sum z_i x_i / sqrt(N) has the exact mean; its variance is to first order in rho^2, with the
    skewness gamma of the rewards: 1 + rho^2 ((N-1)/P(move) - 1 - gamma^2) - (E A)^2 for z-scores.

    Parameters
    ----------
    config
        The run.
    model
        A member's rewards.

    Returns
    -------
    CosineLaw or None
        None for raw rewards.

    Raises
    ------
    ConfigError
        If all rewards are equal.

    Notes
    -----
    Label: large-N. Source: ours: docs/concepts/signal.md.
    """
    n, rho2 = config.population, model.correlation**2
    if config.shaping == "zscore":
        move = 1 - tie_probability(model, n)
        mean = math.sqrt(n) * zscore_overlap(model, n) / move
        skewness = float(model.probabilities @ ((model.values - model.mean) / model.std) ** 3)
        variance = max(1 + rho2 * ((n - 1) / move - 1 - skewness**2) - mean**2, 0.1)
    elif config.shaping == "centered-rank":
        mean = math.sqrt(n) * rank_overlap(model) / math.sqrt((n + 1) / (12 * (n - 1)))
        variance = rank_projection(n, rho2)[1]
    else:
        return None
    # a chi variable of so many degrees of freedom is a constant beside the normal part
    signal = mean / chi_mean(_CONSTANT)
    return CosineLaw(signal, _CONSTANT, math.sqrt(variance - 0.5 * signal**2), config.dim - 1.0)


def on_task(config: ESConfig, model: RewardModel, signal: Signal) -> Iterator[Prediction]:
    """Predict ties and, where the gradient is known, cosine, progress and gain of one step.

    Parameters
    ----------
    config
        The run.
    model
        A member's rewards.
    signal
        The linear signal, of :meth:`PromptBatch.signal`.

    Yields
    ------
    Prediction
        ``tie_probability``, ``gradient_cosine``, ``progress_per_step`` (weight), ``reward_gain_per_step`` (reward).
    """
    batch = ("0/1 rewards, prompts independent given the perturbation",)

    def predicted(quantity: Quantity, law: Law, *assumptions: str, large: bool = False) -> Prediction:
        label: Label = "large-N" if large else "exact"
        return Prediction(
            quantity=quantity, law=law, label=label, source=OURS, assumptions=(*batch, *assumptions), step=1
        )

    yield predicted(Quantity.TIE_PROBABILITY, PointLaw(tie_probability(model, config.population)))
    if signal.gradient_norm is None:
        return
    cosine = gradient_cosine(config, model) if config.dim >= 2 else None
    if cosine is not None:
        yield predicted(Quantity.GRADIENT_COSINE, cosine, "a step that moves", "a weak signal", large=True)
    mean = ("an expected value: single steps scatter around it",)
    progress = config.step_size * overlap(config, model)
    yield predicted(Quantity.PROGRESS_PER_STEP, PointLaw(progress), *mean)
    yield predicted(Quantity.REWARD_GAIN_PER_STEP, PointLaw(signal.gradient_norm * progress), "no curvature", *mean)


def thinned(p: Prediction, walks: dict[int, Walk]) -> Prediction:
    """Return a prediction with the binomial number of steps that moved in its law.

    Parameters
    ----------
    p
        The prediction, of a walk whose variance counts ties.
    walks
        The walks by step.

    Returns
    -------
    Prediction
        ``p`` itself where its quantity is none of ``SCALED``, or no step ties. Exact for the plain walk; with an anchor
        or momentum the number of steps is the effective one.
    """
    power = SCALED.get(p.quantity)
    w = walks.get(p.step or 0, next(iter(walks.values())))
    if power is None or w.tie_probability == 0:
        return p
    count = 1 if p.quantity is Quantity.STEP_NORM else max(1, round(w.independent_steps))
    law = TiedLaw(p.law, count, 1 - w.tie_probability, power)
    whole = p.quantity is Quantity.STEP_NORM or math.isclose(count, w.independent_steps, rel_tol=1e-9)
    label: Label = "large-N" if p.label == "exact" and not whole else p.label
    assumption = f"a step ties with probability {w.tie_probability:.3g} and does not move"
    return replace(p, law=law, label=label, assumptions=(*(a for a in p.assumptions if a != NO_TIES), assumption))
