"""What one step gains along the gradient of a linear reward (docs/concepts/signal.md).

A z-scored step projects onto the gradient as alpha/sqrt(N) A, and onto every orthogonal direction as an independent
normal of the walk's variance: cosine, progress and norm all follow from the law of A.
"""

from __future__ import annotations

import math

import numpy as np

from estheory._special import chi_mean, chi_nodes
from estheory.cosine_laws import CosineLaw
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw, Law
from estheory.rules import ESConfig
from estheory.theory.step_variance import odd_part_nodes, step_variance

OURS = "ours: docs/concepts/signal.md"


def mean_population_std(population: int) -> float:
    """Return c(N) = sqrt(2/N) Gamma(N/2) / Gamma((N-1)/2): the mean population std of N standard normals.

    Parameters
    ----------
    population
        N, at least 2.

    Returns
    -------
    float
        In (0, 1), about 1 - 3/(4N).

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.

    Examples
    --------
    >>> round(mean_population_std(30), 4)
    0.9748
    """
    return chi_mean(population - 1) / math.sqrt(population)


def mean_largest_rank_overlap() -> float:
    """Return 1/(2 sqrt(pi)) = E of (1/N) sum u_(i) e_(i) for centred ranks u of normals e, for every N.

    Returns
    -------
    float
        0.282.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    return 0.5 / math.sqrt(math.pi)


def mean_pair_overlap(population: int, odd_share: float) -> float:
    """Return E of (1/N) sum z_i x_i over rho for antithetic pairs: sqrt(2) c(N) E[B / sqrt(w B + (1-w)(1-B))].

    B is the odd part of the members' rewards over all of it at equal variances
    (:func:`estheory.theory.step_variance.odd_part_nodes`).

    Parameters
    ----------
    population
        N, even, at least 4.
    odd_share
        w in (0, 1]: variance of the odd part of a pair over that of a member's reward.

    Returns
    -------
    float
        Progress along the gradient over alpha rho.

    Notes
    -----
    Label: exact, for Gaussian even parts. Source: ours: docs/concepts/signal.md.
    """
    part, weight = odd_part_nodes(population // 2)
    inside = odd_share * part + (1 - odd_share) * (1 - part)
    return math.sqrt(2) * mean_population_std(population) * float(weight @ (part / np.sqrt(inside)))


def mean_difference_variance(population: int) -> float:
    """Return the variance of Gini's mean difference of N standard normals (Nair 1936).

    Parameters
    ----------
    population
        N, at least 2.

    Returns
    -------
    float
        Pure number, O(1/N).

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    n = population
    return 4 / (n * (n - 1)) * ((n + 1) / 3 + (2 * math.sqrt(3) * (n - 2) - 2 * (2 * n - 3)) / math.pi)


def pair_correlation(config: ESConfig, reliability: float, even_share: float = 0.0) -> float:
    """Return the correlation of a pair's reward difference with its signal, sqrt(2 rho^2 / (1 + kappa)).

    kappa = rho^2 - ``even_share``: the rest is independent noise of the two members.

    Parameters
    ----------
    config
        Antithetic pairs or two-point shaping.
    reliability
        rho^2 of one member, in [0, 1].
    even_share
        As of :class:`estheory.landscape.Signal`.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ConfigError
        For estimators without pairs.

    Notes
    -----
    Label: exact, for Gaussian rewards. Source: ours: docs/concepts/signal.md.
    """
    if not (config.antithetic or config.shaping == "two-point"):
        raise ConfigError("pair_correlation is for antithetic and two-point estimators", "use a paired configuration")
    return math.sqrt(2 * reliability / max(1 + reliability - even_share, 1e-12))


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


def progress_per_step(config: ESConfig, signal: Signal) -> float:
    """Return E[Delta . g_hat] of one step: alpha rho c(N) for z-scores, whatever the dimension.

    Parameters
    ----------
    config
        The run.
    signal
        Its reliability (raw and two-point shaping: its gradient norm) must be known.

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
    Label: exact. Source: ours: docs/concepts/signal.md. Gaussian rewards, linear signal, independent noise.

    Examples
    --------
    >>> from estheory import ESConfig, linear_signal
    >>> run = ESConfig(dim=4_000_000_000, sigma=0.0015, population=30)
    >>> f"{progress_per_step(run, linear_signal(sigma=0.0015, reliability=0.3)):.4g}"
    '0.0004004'
    """
    n, alpha = config.population, config.step_size
    first = first_step_share(config)
    if config.shaping in ("raw", "two-point"):
        if signal.gradient_norm is None:
            raise ConfigError(f"progress with {config.shaping} shaping needs the gradient norm", "give --gradient-norm")
        return first * alpha * signal.gradient_norm * ((n - 1) / n if config.shaping == "raw" else 1.0)
    if signal.reliability is None or signal.correlation is None:
        raise ConfigError("progress needs the reliability", "give --reliability, or --gradient-norm and --reward-std")
    rho = signal.correlation
    if config.shaping == "centered-rank":
        return first * alpha * rho * mean_largest_rank_overlap()
    if not config.antithetic:
        return first * alpha * rho * mean_population_std(n)
    return first * alpha * rho * mean_pair_overlap(n, (1 + signal.kappa) / 2)


def projection(config: ESConfig, reliability: float, even_share: float = 0.0) -> tuple[float, float, float]:
    """Return (a, m, b) of the projection A = a chi_m + b Z of a step on the gradient, in units of the flat std."""
    n, rho = config.population, math.sqrt(reliability)
    if config.shaping == "two-point":
        rho, m = pair_correlation(config, reliability, even_share), n
    elif config.antithetic:
        rho, m = pair_correlation(config, reliability, even_share), n // 2
    else:
        m = n - 1
    return rho, float(m), math.sqrt(max(1.0 - rho * rho, 0.0))


def rank_projection(population: int, reliability: float) -> tuple[float, float]:
    """Return mean and variance of A for centred ranks: rho L + sqrt(1-rho^2) Z, L = sum u_i R_i / sqrt(sum u_i^2).

    Exact.
    """
    n = population
    overlap = n * mean_largest_rank_overlap()
    squares = n * (n + 1) / (12 * (n - 1))
    # sum u_i R_i = N G / 4 with G the mean difference
    variance = (n / 4) ** 2 * mean_difference_variance(n) / squares
    return math.sqrt(reliability) * overlap / math.sqrt(squares), 1 - reliability + reliability * variance


def _rank_chi(population: int) -> tuple[float, float]:
    """Return scale and degrees of freedom of the chi variable with the mean and variance of L of `rank_projection`.

    L is exactly a chi variable for two members, and close to one beyond.
    """
    mean, variance = rank_projection(population, 1.0)
    spread = variance / mean**2
    low, high = 1.0, 1.0 + 1.0 / spread
    for _ in range(100 if spread > 1e-7 else 0):  # the relative variance of a chi variable falls with its degrees
        middle = (low + high) / 2
        low, high = (middle, high) if middle / chi_mean(middle) ** 2 - 1.0 > spread else (low, middle)
    df = (low + high) / 2 if spread > 1e-7 else 0.5 / spread
    return mean / chi_mean(df), df


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
    rest = config.dim - 1.0
    if rest < 1:
        raise ConfigError("the cosine with the gradient needs at least 2 dimensions", "raise dim")
    if config.shaping == "centered-rank":
        scale, df = _rank_chi(config.population)
        return CosineLaw(math.sqrt(reliability) * scale, df, math.sqrt(1.0 - reliability), rest)
    a, m, b = projection(config, reliability, even_share)
    return CosineLaw(a, m, b, rest)


def projection_moments(config: ESConfig, reliability: float, even_share: float) -> tuple[float, float, float]:
    """Return E[V A^2]/E[V], E[V^2 A^2]/E[V^2] and E[V^2 A^4]/E[V^2] of the projection A.

    V is the step's own variance over its mean. It is fixed for z-scores and ranks; for raw and two-point shaping it is
    chi_m^2 / m with the chi_m of A, which tilts the moments of chi_m^2 to m + 2 and m + 4 degrees of freedom; for
    antithetic pairs both depend on the odd part of the rewards.
    """
    if config.shaping == "centered-rank":
        mean, variance = rank_projection(config.population, reliability)
        second = mean**2 + variance
        return second, second, mean**4 + 6 * mean**2 * variance + 3 * variance**2
    a, m, b = projection(config, reliability, even_share)
    kappa = max(reliability - even_share, 1e-12 - 1.0)
    if config.antithetic:
        x, wx = chi_nodes(m)
        y, wy = chi_nodes(m - 1)
        square = x[:, None] ** 2
        v = (1 + kappa) * square / ((1 + kappa) * square + (1 - kappa) * y[None, :] ** 2)
        squared = a * a * square + b * b
        to_fourth = a**4 * square**2 + 6 * a * a * b * b * square + 3 * b**4
        one, two = wx @ v @ wy, wx @ v**2 @ wy
        return (
            float(wx @ (v * squared) @ wy / one),
            float(wx @ (v**2 * squared) @ wy / two),
            float(wx @ (v**2 * to_fourth) @ wy / two),
        )
    once, twice = (m + 2, m + 4) if config.shaping in ("raw", "two-point") else (m, m)
    fourth = a**4 * twice * (twice + 2) + 6 * a * a * b * b * twice + 3 * b**4
    return a * a * once + b * b, a * a * twice + b * b, fourth


def step_norm(config: ESConfig, signal: Signal, effective_dim: float) -> ChiLaw:
    """Return the law of the norm of the first step: for z-scores E||Delta||^2 = (alpha^2/N)(d + (N-2) rho^2).

    The law is the chi law (with the walk's mixing) of the exact mean and variance of the square, exactly so at rho = 0.

    Parameters
    ----------
    config
        The run.
    signal
        An unknown reliability counts as 0.
    effective_dim
        Effective number of independent coordinates of the walk.

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
    one = step_variance(config, signal)
    scale = first_step_share(config)
    once, twice, fourth = projection_moments(config, signal.reliability or 0.0, signal.even_share)
    rest = config.dim - 1.0
    square = rest + once
    spread = 2 * rest * config.dim / effective_dim + 2 * rest * (twice - once) + fourth - once**2
    df = 2 * square**2 / spread
    return ChiLaw(scale * math.sqrt(one.value * square / df), df, one.mixing_df)


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
    n = config.population
    if config.shaping in ("raw", "two-point"):
        return None
    if config.shaping == "centered-rank":
        overlap = mean_largest_rank_overlap()
    elif config.antithetic:
        overlap = math.sqrt(2 / n) * chi_mean(n / 2)
    else:
        overlap = mean_population_std(n)
    return config.step_size * overlap * coherent_steps
