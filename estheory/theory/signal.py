"""What one step gains along the gradient of a linear reward (docs/concepts/signal.md).

A z-scored step projects onto the gradient as alpha/sqrt(N) A, and onto every orthogonal direction as an independent
normal of the walk's variance: cosine, progress and norm all follow from the law of A.
"""

from __future__ import annotations

import math

from estheory.citations import ours
from estheory.landscape import Signal
from estheory.laws import ChiLaw, Law
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of
from estheory.theory.reward_model import RewardModel
from estheory.theory.ties import Lengths

OURS = ours("signal")


def first_step_share(config: ESConfig) -> float:
    """Return the share of a step that is in the displacement at once: momentum and an anchor withhold the rest.

    Parameters
    ----------
    config
        The run.

    Returns
    -------
    float
        In (0, 1]; 1 for the plain run.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    keep = 1.0 - config.anchor_l2 if config.anchor_form == "after" else 1.0
    return (1.0 - config.momentum) * keep


def progress_per_step(config: ESConfig, signal: Signal, rewards: RewardModel | None = None) -> float:
    """Return E[Delta . g_hat] of one step: alpha rho c(N) for z-scores, whatever the dimension.

    Parameters
    ----------
    config
        The run.
    signal
        Its reliability (raw and two-point shaping: its gradient norm) must be known.
    rewards
        The law of a member's reward where it is not Gaussian; the signal then is in it.

    Returns
    -------
    float
        Weight units.

    Raises
    ------
    ConfigError
        If the reliability (or, for raw and two-point shaping, the gradient norm) is unknown.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. Linear signal, independent noise; Gaussian rewards
    unless ``rewards`` says otherwise.

    Examples
    --------
    >>> from estheory import ESConfig, linear_signal
    >>> run = ESConfig(dim=4_000_000_000, sigma=0.0015, population=30)
    >>> f"{progress_per_step(run, linear_signal(sigma=0.0015, reliability=0.3)):.4g}"
    '0.0004004'
    """
    return first_step_share(config) * estimator_of(config).progress(signal, rewards)


def gradient_cosine(config: ESConfig, reliability: float, even_share: float = 0.0) -> Law:
    """Return the law of the cosine of one step with the gradient.

    Parameters
    ----------
    config
        The run, of at least 2 dimensions.
    reliability
        rho^2, in [0, 1].
    even_share
        As of :class:`estheory.landscape.Signal`; enters for pairs alone.

    Returns
    -------
    Law
        A pure number in [-1, 1].

    Raises
    ------
    ConfigError
        In one dimension.

    Notes
    -----
    Label: exact; large-N for centred ranks, where a chi variable has the exact mean and variance of the projection.
    Source: ours: docs/concepts/signal.md. Gaussian rewards, linear signal, independent noise.

    Examples
    --------
    >>> from estheory import ESConfig
    >>> round(gradient_cosine(ESConfig(dim=50, sigma=1.0, population=30), reliability=0.49).mean, 4)
    0.4687
    """
    law = estimator_of(config).cosine(config.dim, Signal(reliability=reliability, even_share=even_share))
    assert law is not None  # it has a result for every kind
    return law


def step_norm(config: ESConfig, signal: Signal, effective_dim: float, rewards: RewardModel | None = None) -> ChiLaw:
    """Return the law of the norm of the first step: for z-scores E||Delta||^2 = (alpha^2/N)(d + (N-2) rho^2).

    The law is the chi law (with the walk's mixing) of the exact mean and variance of the square, exactly so at rho = 0.
    Where the length of the shaped rewards takes few values, it is the law at the mean of their squares
    (:func:`following_share`).

    Parameters
    ----------
    config
        The run.
    signal
        An unknown reliability counts as 0.
    effective_dim
        Effective number of independent coordinates of the walk.
    rewards
        The law of a member's reward where it is not Gaussian.

    Returns
    -------
    ChiLaw
        Weight units.

    Raises
    ------
    ConfigError
        With raw or two-point shaping when the spread of the rewards is unknown.

    Notes
    -----
    Label: exact, mean and variance of the square. Source: ours: docs/concepts/signal.md. Gaussian rewards, linear
    signal.
    """
    estimator = estimator_of(config)
    one = estimator.variance(signal, rewards)
    rest = config.dim - 1.0
    walk = 2 * rest * config.dim / effective_dim
    if one.lengths:
        along, across = _projection_square(config, signal, one.lengths)
        square, mixing_df = rest + along + across, math.inf
        spread = walk + 4 * along * across + 2 * across**2
    else:
        once, twice, fourth = estimator.projection_moments(signal.reliability or 0.0, signal.even_share)
        square, mixing_df = rest + once, one.mixing_df
        spread = walk + fourth - once**2 + 2 * rest * (twice - once)  # long steps have long projections
    df = 2 * square**2 / spread
    return ChiLaw(first_step_share(config) * math.sqrt(one.value * square / df), df, mixing_df, one.most)


def following_share(config: ESConfig, signal: Signal, rewards: RewardModel) -> float:
    """Return the share of the first step's mean square that grows with the squared length Q of its shaped rewards.

    Of rewards of few values: the projection on the gradient is a sqrt(m Q) + b Z for a of their overlap with the
    gradient, in units of the step's own flat coordinates, which are as long as Q besides.

    Parameters
    ----------
    config
        The run.
    signal
        With its reliability.
    rewards
        The law of a member's reward.

    Returns
    -------
    float
        In [0, 1); 0 where the lengths of the shaped rewards take many values.

    Notes
    -----
    Label: large-N; its share of the mean is exact for 0/1 rewards of one prompt. Source: ours: docs/concepts/signal.md.
    """
    lengths = estimator_of(config).variance(signal, rewards).lengths
    if not lengths:
        return 0.0
    along, across = _projection_square(config, signal, lengths)
    return along / (config.dim - 1.0 + along + across)


def _projection_square(config: ESConfig, signal: Signal, lengths: Lengths) -> tuple[float, float]:
    """Return a^2 m E[Q^2] and b^2: the mean square of the projection of a step as long as Q, by its two parts."""
    a, m, b = estimator_of(config).projection(signal.reliability or 0.0, signal.even_share)
    return a * a * m * sum(chance * length**2 for length, chance in lengths), b * b


def coherent_displacement_bound(config: ESConfig, coherent_steps: float) -> float | None:
    """Return the bound on the mean displacement along a direction: alpha c(N) T for z-scores.

    The shaped rewards have a fixed length, so their overlap with the members' coordinates along one direction is
    largest when they are its own.

    Parameters
    ----------
    config
        The run.
    coherent_steps
        Number of steps that may add up, T for a plain run.

    Returns
    -------
    float or None
        Weight units; None for raw and two-point shaping, whose steps are unbounded.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. Any reward; independent noise.

    Examples
    --------
    >>> from estheory import ESConfig
    >>> run = ESConfig(dim=4_022_468_096, sigma=0.0015, alpha=0.00075, population=30, steps=100)
    >>> round(coherent_displacement_bound(run, 100), 4)
    0.0731
    """
    a_step = estimator_of(config).bound()
    return None if a_step is None else a_step * coherent_steps
