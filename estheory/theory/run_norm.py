"""The norm of a run with a linear signal: one law for what `predict` shows and what `plan` keeps to.

The signal moves the run along the gradient; everything orthogonal to it is the walk (docs/concepts/signal.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from estheory._special import chi_variance
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw
from estheory.quantities import Label
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of
from estheory.theory.norm_laws import NormLaw, StepNormLaw
from estheory.theory.reward_model import RewardModel
from estheory.theory.signal import OURS, first_step_share, following_share, progress_per_step, step_norm
from estheory.theory.steered_cosines import FEWEST
from estheory.theory.walk import Walk

MANY_COORDINATES = 2000
"""Coordinates from which the chi law of the exact two moments replaces the law itself: no tail then differs by 1 %."""
NEGLIGIBLE_SHIFT = 0.1
"""Shift of a squared norm, in its standard deviations, below which the signal's part is left out."""
SMALLEST_SHIFT = 0.002
"""The same for the law of a norm of few coordinates, whose mean that shift would show in."""
EXACT_SHIFT = 0.02
"""The same, from which a law without the signal's part is not called exact: it takes 60,000 runs to see it."""
NEGLIGIBLE_MOTION = 0.01
"""Share by which signal or curvature may change the mean square of a run that drifts as its walk does."""
_NARROWEST = 1e-14


@dataclass(frozen=True, kw_only=True)
class RunNorm:
    """The displacement norm of a run after some steps.

    Attributes
    ----------
    law
        Of the norm, weight units.
    matched
        The chi law of the same mean and variance of the square, weight units; ``law`` itself where that is one.
    label, source, assumptions
        As in :class:`estheory.quantities.Prediction`.
    signal_shift
        What the signal (or curvature) changes of the mean square, in standard deviations of the square, or of a cosine,
        whichever is more: 0 for a walk.
    systematic
        Declared relative half-width of the norm: of an L1 anchor's finite steps.
    progress, spread
        Expected displacement along the gradient, weight units, and the variance of the projection over that of a flat
        coordinate; 0 and 1 without signal, and on curved ground.
    follows
        Share of the mean square that grows with the length of the shaped rewards once more, where that takes few
        values (:func:`estheory.theory.signal.following_share`).
    missing
        Why the law is not to be shown; empty where it is.
    """

    law: NormLaw
    matched: ChiLaw
    label: Label
    source: str
    assumptions: tuple[str, ...]
    signal_shift: float = 0.0
    systematic: float = 0.0
    progress: float = 0.0
    spread: float = 1.0
    follows: float = 0.0
    missing: str = ""

    @classmethod
    def of_walk(cls, walk: Walk, signal_shift: float = 0.0) -> RunNorm:
        """Return that of a walk.

        Parameters
        ----------
        walk
            The walk.
        signal_shift
            What a signal too weak to be told changes of it, as the attribute.

        Returns
        -------
        RunNorm
            The walk's own.

        Notes
        -----
        Label: that of the walk. Source: that of the walk.
        """
        return cls(
            law=walk.norm_law,
            matched=walk.norm_law,
            label=walk.label,
            source=walk.source,
            assumptions=walk.assumptions,
            signal_shift=signal_shift,
            systematic=0.5 * walk.declared_error,
        )

    @property
    def mean_square(self) -> float:
        """E||Delta||^2, weight^2."""
        return self.matched.scale**2 * self.matched.df

    @property
    def is_walk(self) -> bool:
        """Whether the displacement is that of the walk alone, to what its own spread lets tell apart."""
        return self.signal_shift < NEGLIGIBLE_SHIFT

    @property
    def points_anywhere(self) -> bool:
        """Whether its direction is that of a walk too: of few coordinates a smaller shift shows in a cosine."""
        return self.signal_shift < (SMALLEST_SHIFT if self.matched.df < MANY_COORDINATES else NEGLIGIBLE_SHIFT)


def steered_norm(walk: Walk, progress: float, spread: float) -> ChiLaw:
    """Return the law of the displacement norm of a walk that also moved along the gradient.

    The square has mean v (d - 1 + w) + P^2 and variance 2 v^2 (d - 1) + 4 P^2 v w + 2 v^2 w^2, plus what fluctuations
    of v add, of which P has its part (raw rewards, pairs); the law is the chi law with these two moments. Of pairs the
    fluctuation is a factor of its own.

    Parameters
    ----------
    walk
        The walk; v is its variance a coordinate.
    progress
        P, expected displacement along the gradient, weight units.
    spread
        w, variance of the projection on the gradient over v.

    Returns
    -------
    ChiLaw
        Weight units.

    Notes
    -----
    Label: large-N. Source: ours: docs/how-to/plan.md. Exact moments for Gaussian rewards of constant gradient when the
    projection on the gradient is normal, which a sum over steps is.
    """
    v, rest, fluctuation = walk.variance, walk.dim - 1.0, 2 / walk.mixing_df
    square = v * (rest + spread) + progress**2
    normal = 2 * rest * walk.dim / walk.effective_dim
    variance = v * v * (normal * (1 + fluctuation) + rest**2 * fluctuation + 2 * spread**2)
    variance += 4 * progress**2 * v * (spread + rest * walk.tilt / walk.independent_steps)
    relative = max(variance / square**2, _NARROWEST)  # one dimension whose every step is a multiple of g
    if math.isinf(walk.most):
        return ChiLaw(math.sqrt(square * relative / 2), 2 / relative)
    rest_of_it = max((1 + relative) / (1 + fluctuation) - 1, _NARROWEST)  # besides the bounded factor
    return ChiLaw(math.sqrt(square * rest_of_it / 2), 2 / rest_of_it, walk.mixing_df, walk.most)


def drifts_as_walk(walk: Walk, mean_square: float) -> bool:
    """Say whether another behaviour may be told from the walk alone, whatever directions it depends on.

    Parameters
    ----------
    walk
        The walk.
    mean_square
        E||Delta||^2 of the run, weight^2.

    Returns
    -------
    bool
        Whether signal and curvature change the mean square by ``NEGLIGIBLE_MOTION`` at most.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/drift.md.
    """
    return abs(mean_square / (walk.variance * walk.dim) - 1) <= NEGLIGIBLE_MOTION


def squared_shift(walk: Walk, law: ChiLaw) -> float:
    """Return how far the mean square of ``law`` is from that of the walk, in standard deviations of the walk's square.

    Parameters
    ----------
    walk
        The walk.
    law
        Of the norm of a run that is steered besides.

    Returns
    -------
    float
        Not negative.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    square = walk.variance * walk.dim
    return abs(law.scale**2 * law.df - square) / square * math.sqrt(walk.effective_dim / 2)


def without_few_pairs(norm: RunNorm, walk: Walk, step: int) -> RunNorm:
    """Return a norm, its law withdrawn after several steps of fewer pairs than have one.

    Parameters
    ----------
    norm, walk, step
        Of a run after so many steps.

    Returns
    -------
    RunNorm
        ``norm`` itself where the law is known.

    Notes
    -----
    Label: exact or large-N, as of ``norm``. Source: ours: docs/validation/audit.md.
    """
    if step == 1 or walk.enough_pairs():
        return norm
    return replace(norm, missing="the variance of so few pairs fluctuates in a way that has no law here")


def run_norm(config: ESConfig, signal: Signal, walk: Walk, step: int, rewards: RewardModel | None = None) -> RunNorm:
    """Return the norm of a run after ``step`` steps, the signal's part in it where it is known and can be told.

    Parameters
    ----------
    config, signal
        The run and its linear signal; an unknown reliability counts as 0.
    walk
        Its walk after those steps.
    step
        T.
    rewards
        The law of a member's reward where it is not Gaussian.

    Returns
    -------
    RunNorm
        Exact for one step of Gaussian rewards and wherever the signal cannot be told from the walk's own spread.

    Raises
    ------
    ConfigError
        With an L1 anchor, shared seeds or several steps of 0/1 rewards, where the signal matters.

    Notes
    -----
    Label: exact or large-N, as it says. Source: ours: docs/concepts/signal.md. Over several steps the gradient is taken
    to stay: a gradient that turns adds less.
    """
    flat, estimator = RunNorm.of_walk(walk), estimator_of(config)
    if step == 1 and (not config.anchor_l1 or walk.effective_dim == walk.dim):
        length = first_step_share(config) * math.sqrt(walk.dim / walk.effective_dim)
        flat = replace(flat, law=estimator.step_norm(length, walk.effective_dim, signal) or flat.law)
    elif not estimator.chi_square_variance and not math.isinf(walk.mixing_df):
        flat = replace(flat, label="large-N" if walk.label == "exact" else walk.label)
    if not signal.reliability:
        return flat
    if not estimator.knows_progress(signal):
        return flat
    once, _, _ = estimator.projection_moments(signal.reliability, signal.even_share)
    each = progress_per_step(config, signal, rewards) / first_step_share(config)
    spread = max(once - each**2 / estimator.variance(signal, rewards).value, 0.0)
    if step == 1 and not config.anchor_l1:  # the after form pulls the first step already, which the walk knows
        matched = step_norm(config, signal, walk.effective_dim, rewards)
    else:
        matched = steered_norm(walk, each * walk.coherent_steps, spread)
    coherent = (each * walk.coherent_steps) ** 2 / (walk.variance * walk.dim) * math.sqrt(walk.effective_dim)
    shift = max(squared_shift(walk, matched), coherent)
    if config.noise == "shared-seed":  # along a gradient that repeats, signal acts so many times as strongly
        shift *= walk.dim / walk.effective_dim
    if shift < (NEGLIGIBLE_SHIFT if walk.dim >= MANY_COORDINATES else SMALLEST_SHIFT):
        if flat.label == "exact" and shift >= EXACT_SHIFT:
            flat = replace(flat, label="large-N")
        return replace(flat, signal_shift=shift, progress=each * walk.coherent_steps, spread=spread)
    few_factors = config.noise_rank is not None and walk.dim < MANY_COORDINATES
    if config.anchor_l1 or config.noise == "shared-seed" or few_factors:
        what = (
            "an L1 anchor"
            if config.anchor_l1
            else "low-rank noise in few coordinates"
            if few_factors
            else "shared seeds"
        )
        raise ConfigError(f"a run that its signal moves has no norm here with {what}", "leave the reliability out")
    if rewards is not None and step > 1:
        raise ConfigError("several steps of 0/1 rewards that move a run have no norm here", "ask for one step")
    law: NormLaw = matched
    label: Label = "large-N"
    plain = (
        rewards is None
        and walk.effective_dim == walk.dim
        and estimator.cosine_label == "exact"
        and estimator.chi_square_variance
    )
    if step == 1 and plain:
        label = walk.label
        if config.dim < MANY_COORDINATES:
            law = _one_step(config, signal)
    elif config.dim < FEWEST and rewards is None and estimator.chi_square_variance:
        law = _several_steps(config, signal, walk, each * walk.coherent_steps, spread)
    elif step == 1 and not config.anchor_l1:
        length = first_step_share(config) * math.sqrt(walk.dim / walk.effective_dim)
        steered = estimator.steered_step_norm(length, walk.effective_dim, walk.dim, signal)
        law, label = (steered, walk.label) if steered else (law, label)
    constant = () if step == 1 else ("the gradient keeps its direction and length",)
    missing = ""
    if step > 1 and not math.isinf(walk.most) and walk.dim < FEWEST:
        missing = "several steps of pairs that their signal moves in so few coordinates have no law here"
    return RunNorm(
        law=law,
        matched=matched,
        label=label,
        source=OURS,
        assumptions=(*(("Gaussian rewards, linear signal",) if rewards is None else walk.assumptions), *constant),
        signal_shift=shift,
        progress=each * walk.coherent_steps,
        spread=spread,
        follows=0.0 if rewards is None else following_share(config, signal, rewards),
        missing=missing,
    )


def _one_step(config: ESConfig, signal: Signal) -> StepNormLaw | ChiLaw:
    """Return the law of the first step of independent members, or of two-point directions."""
    assert signal.reliability is not None  # its caller knows
    estimator = estimator_of(config)
    a, m, b = estimator.projection(signal.reliability, signal.even_share)
    scale = first_step_share(config) * math.sqrt(estimator.variance(signal).value)
    own = not estimator.fixed_variance
    rest = config.dim - 1.0
    if b < 1e-9 and not own:
        return ChiLaw(scale, m + rest)
    return StepNormLaw(scale, a, m, b, rest, own)


def _several_steps(config: ESConfig, signal: Signal, walk: Walk, progress: float, spread: float) -> StepNormLaw:
    """Return the law after several steps that do not fluctuate, or as chi-squares do: A is a chi and a normal variable.

    The lengths along the gradient of T steps add up to nearly a chi variable again, here that of their mean and
    variance. Where a step is as long as the rewards are spread, they do so exactly: the squares of T steps are a
    chi-square of T m degrees of freedom.
    """
    assert signal.reliability is not None  # its caller knows
    estimator, scale, rest = estimator_of(config), math.sqrt(walk.variance), config.dim - 1.0
    a, m, b = estimator.projection(signal.reliability, signal.even_share)
    if not estimator.fixed_variance:
        signal_part = progress / scale / math.sqrt(walk.mixing_df)
        return StepNormLaw(scale, signal_part, walk.mixing_df, b, rest, own_length=True)
    scatter = a * a * chi_variance(m)
    ratio, df = (progress / scale) ** 2 / scatter, m * walk.independent_steps
    for _ in range(100):  # E[chi]^2 is this many variances of it: a chi variable has nearly the same whatever its df
        df = (1 + ratio) * chi_variance(df)
    noise = math.sqrt(max(spread - scatter, 0.0))
    return StepNormLaw(scale, math.sqrt(scatter / chi_variance(df)), df, noise, rest, own_length=False)
