"""The variance of a flat coordinate in one step, for every shaping (docs/concepts/walk.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from estheory._special import Array, legendre_nodes
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.quantities import Label
from estheory.rules import ESConfig

OURS = "ours: docs/concepts/walk.md"
PAPER = "arXiv:2604.01499"


NO_TIES = "not all rewards of a step equal"


@dataclass(frozen=True, kw_only=True)
class StepVariance:
    """Variance of one flat coordinate in one step.

    Attributes
    ----------
    value
        The mean variance, weight^2.
    mixing_df
        Degrees of freedom of its own fluctuation from step to step; infinite when it is fixed.
    fourth_moment
        Mean of w^4 over (mean of w^2)^2 for the weights w that multiply the members' noise.
    label, source, assumptions
        As in :class:`estheory.quantities.Prediction`.
    """

    value: float
    mixing_df: float
    fourth_moment: float
    label: Label
    source: str
    assumptions: tuple[str, ...]


@lru_cache(maxsize=64)
def odd_part_nodes(pairs: int) -> tuple[Array, Array]:
    """Return nodes and weights of B = X / (X + Y), X ~ chi^2_n and Y ~ chi^2_(n-1): the odd parts of n pairs.

    Gauss-Legendre in the angle of (sqrt X, sqrt Y), over twelve standard deviations about the mode.

    Parameters
    ----------
    pairs
        n, at least 2.

    Returns
    -------
    nodes : ndarray
        Shape (120,). Values of B in [0, 1].
    weights : ndarray
        Shape (120,). They sum to 1.

    Notes
    -----
    Label: exact, up to 1e-14 of a smooth mean. Source: ours: docs/concepts/walk.md. Gaussian rewards.
    """
    mode = math.atan2(math.sqrt(pairs - 1), math.sqrt(pairs - 2))
    reach = 6.0 / math.sqrt(pairs)
    low, high = max(0.0, mode - reach), min(math.pi / 2, mode + reach)
    nodes, weights = legendre_nodes()
    angle = low + 0.5 * (high - low) * (nodes + 1)
    # sin^(n-1) cos^(n-2) over its value at the mode, whose logarithm would lose all digits at large n
    tangent, sine, change = math.tan(mode), np.sin(angle - mode), -2 * np.sin(0.5 * (angle - mode)) ** 2
    log_density = (pairs - 1) * np.log1p(change + sine / tangent)
    if pairs > 2:
        log_density += (pairs - 2) * np.log1p(change - sine * tangent)
    weights = weights * np.exp(log_density - log_density.max())
    return np.sin(angle) ** 2, weights / weights.sum()


def antithetic_share(population: int, kappa: float) -> tuple[float, float]:
    """Return mean and relative variance of V, where a step's flat variance is (alpha^2/N) V with antithetic pairs.

    V = 2 (1+kappa) X / ((1+kappa) X + (1-kappa) Y), X ~ chi^2_{N/2}, Y ~ chi^2_{N/2-1}: the odd part of the members'
    rewards over all of it. Its mean expands as (1+kappa)(1 + (1-kappa)(1-2 kappa)/N).

    Parameters
    ----------
    population
        N, even, at least 4.
    kappa
        Minus the correlation of R+ and R- of one pair, in (-1, 1].

    Returns
    -------
    mean : float
        E V.
    spread : float
        Var V / (E V)^2.

    Notes
    -----
    Label: exact, for Gaussian rewards. Source: ours: docs/concepts/walk.md.

    Examples
    --------
    >>> round(antithetic_share(30, 0.0)[0] * 29 / 30, 12)
    1.0
    """
    part, weight = odd_part_nodes(population // 2)
    odd = (1 + kappa) * part
    share = 2 * odd / (odd + (1 - kappa) * (1 - part))
    mean = float(weight @ share)
    return mean, float(weight @ (share - mean) ** 2) / mean**2


def step_variance(config: ESConfig, signal: Signal) -> StepVariance:
    """Return the variance of one flat coordinate in one step.

    Parameters
    ----------
    config
        The run.
    signal
        kappa of pairs, and the spread of the rewards with raw or two-point shaping; else it does not enter.

    Returns
    -------
    StepVariance
        With its label and source.

    Raises
    ------
    ConfigError
        With raw or two-point shaping when the spread of the rewards is unknown.

    Notes
    -----
    Label: exact. Source: arXiv:2604.01499 for z-scores; ours: docs/concepts/walk.md for other shapings.

    Examples
    --------
    >>> from estheory import ESConfig, Signal
    >>> one = step_variance(ESConfig(dim=10, sigma=0.01, alpha=0.03, population=9), Signal())
    >>> f"{one.value:.6g}", one.label
    ('0.0001', 'exact')
    """
    n, alpha, sigma = config.population, config.step_size, config.sigma
    gaussian_fourth = 3 * (n - 1) / (n + 1)  # of z-scores of Gaussian rewards
    if config.antithetic:
        kappa = signal.kappa
        mean, spread = antithetic_share(n, kappa)
        return StepVariance(
            value=alpha**2 / n * mean,
            mixing_df=2 / spread if spread > 1e-12 else math.inf,
            fourth_moment=gaussian_fourth,
            label="exact",
            source=OURS,
            assumptions=(
                "Gaussian rewards" if signal.even_share else "Gaussian rewards without even part",
                f"{kappa = :g}",
            ),
        )
    if config.shaping == "zscore":
        return StepVariance(
            value=alpha**2 / n,
            mixing_df=math.inf,
            fourth_moment=gaussian_fourth,
            label="exact",
            source=PAPER,
            assumptions=(NO_TIES,),
        )
    if config.shaping == "centered-rank":
        ranks = np.arange(n) / (n - 1) - 0.5 if n < 10_000 else np.linspace(-0.5, 0.5, 10_000)
        return StepVariance(
            value=alpha**2 * (n + 1) / (12 * n * (n - 1)),
            mixing_df=math.inf,
            fourth_moment=float(np.mean(ranks**4) / np.mean(ranks**2) ** 2),
            label="exact",
            source=OURS,
            assumptions=("no ties among the rewards",),
        )
    if signal.member_std is None:
        raise ConfigError(
            f"the walk with {config.shaping} shaping needs the spread of the rewards",
            "give --gradient-norm with --reward-std, or --reliability with one of them",
        )
    if config.shaping == "raw":
        value = alpha**2 * signal.member_std**2 * (n - 1) / (n**2 * sigma**2)
        freedom = n - 1
    else:
        slope = signal.gradient_norm or 0.0
        noise = max(signal.member_std**2 * (1 - signal.even_share) - (sigma * slope) ** 2, 0.0)
        value = alpha**2 / n * (slope**2 + noise / (2 * sigma**2))
        freedom = n
    return StepVariance(
        value=value,
        mixing_df=freedom,
        fourth_moment=3.0,
        label="exact",
        source=OURS,
        assumptions=("Gaussian rewards of constant spread",),
    )
