"""What one step gains along the gradient of a linear reward (docs/concepts/signal.md).

A z-scored step projects onto the gradient as alpha/sqrt(N) A, and onto every orthogonal direction as an independent
normal of the walk's variance: cosine, progress and norm all follow from the law of A.
"""

from __future__ import annotations

import math

from estheory._special import chi_mean, chi_nodes
from estheory.cosine_laws import CosineLaw
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw, Law, NormalLaw
from estheory.rules import ESConfig
from estheory.theory.walk import step_variance


def mean_population_std(population: int) -> float:
    """Return c(N) = sqrt(2/N) Gamma(N/2) / Gamma((N-1)/2): the mean population std of N standard normals. Exact.

    Examples
    --------
    >>> round(mean_population_std(30), 4)
    0.9748
    """
    return chi_mean(population - 1) / math.sqrt(population)


def mean_largest_rank_overlap() -> float:
    """Return 1/(2 sqrt(pi)) = E of (1/N) sum u_(i) e_(i) for centred ranks u of normals e, for every N. Exact."""
    return 0.5 / math.sqrt(math.pi)


def pair_correlation(config: ESConfig, reliability: float, even_share: float = 0.0) -> float:
    """Return the correlation of a pair's reward difference with its signal, sqrt(2 rho^2 / (1 + kappa)).

    ConfigError for estimators without pairs.

    kappa = rho^2 - ``even_share``: the rest is independent noise of the two members. Exact for Gaussian rewards.
    """
    if not (config.antithetic or config.shaping == "two-point"):
        raise ConfigError("pair_correlation is for antithetic and two-point estimators", "use a paired configuration")
    return math.sqrt(2 * reliability / max(1 + reliability - even_share, 1e-12))


def first_step_share(config: ESConfig) -> float:
    """Return the share of a step that is in the displacement at once: momentum and an anchor withhold the rest."""
    keep = 1.0 - config.anchor_l2 if config.anchor_form == "after" else 1.0
    return (1.0 - config.momentum) * keep


def progress_per_step(config: ESConfig, signal: Signal) -> float:
    """Return E[Delta . g_hat] of one step, weight units: alpha rho c(N) for z-scores. Exact for Gaussian rewards.

    Raises
    ------
    ConfigError
        If the reliability (or, for raw and two-point shaping, the gradient norm) is unknown.
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
    x, wx = chi_nodes(n / 2)
    y, wy = chi_nodes(n / 2 - 1)
    kappa = signal.kappa
    odd, even = (1 + kappa) * x[:, None] ** 2, (1 - kappa) * y[None, :] ** 2
    mean = float(wx @ (odd / (odd + even) ** 0.5) @ wy)
    return first * 2 * alpha * rho / ((1 + kappa) * math.sqrt(n)) * mean


def _projection(config: ESConfig, reliability: float, even_share: float = 0.0) -> tuple[float, float, float]:
    """Return (a, m, b) of the projection A = a chi_m + b Z of a step on the gradient, in units of the flat std."""
    n, rho = config.population, math.sqrt(reliability)
    if config.shaping == "two-point":
        rho, m = pair_correlation(config, reliability, even_share), n
    elif config.antithetic:
        rho, m = pair_correlation(config, reliability, even_share), n // 2
    else:
        m = n - 1
    return rho, float(m), math.sqrt(max(1.0 - rho * rho, 0.0))


def _rank_projection(population: int, reliability: float) -> tuple[float, float]:
    """Return mean and variance of A for centred ranks: rho L + sqrt(1-rho^2) Z, L = sum u_i R_i / sqrt(sum u_i^2).

    The variance of L is Nair's variance of Gini's mean difference of a normal sample. Exact.
    """
    n = population
    overlap = n * mean_largest_rank_overlap()
    squares = n * (n + 1) / (12 * (n - 1))
    gini_variance = 4 / (n * (n - 1)) * ((n + 1) / 3 + (2 * math.sqrt(3) * (n - 2) - 2 * (2 * n - 3)) / math.pi)
    # sum u_i R_i = N G / 4 with G the mean difference
    variance = (n / 4) ** 2 * gini_variance / squares
    return math.sqrt(reliability) * overlap / math.sqrt(squares), 1 - reliability + reliability * variance


def gradient_cosine(config: ESConfig, reliability: float, even_share: float = 0.0) -> Law:
    """Return the law of the cosine of one step with the gradient; ``even_share`` as of a Signal, for pairs.

    ConfigError in one dimension.

    Exact for Gaussian rewards and independent noise; for centred ranks a normal law with exact moments of the
    projection, whose cosine is large-N.
    """
    rest = config.dim - 1.0
    if config.shaping == "centered-rank":
        mean, variance = _rank_projection(config.population, reliability)
        length = math.sqrt(rest + mean**2 + variance)
        return NormalLaw(mean / length, math.sqrt(variance) / length)
    a, m, b = _projection(config, reliability, even_share)
    if rest < 1:
        raise ConfigError("the cosine with the gradient needs at least 2 dimensions", "raise dim")
    return CosineLaw(a, m, b, rest)


def _projection_moments(config: ESConfig, reliability: float, even_share: float) -> tuple[float, float, float]:
    """Return E[V A^2]/E[V], E[V^2 A^2]/E[V^2] and E[V^2 A^4]/E[V^2] of the projection A.

    V is the step's own variance over its mean. It is fixed for z-scores and ranks; for raw and two-point shaping it is
    chi_m^2 / m with the chi_m of A, which tilts the moments of chi_m^2 to m + 2 and m + 4 degrees of freedom; for
    antithetic pairs both depend on the odd part of the rewards.
    """
    if config.shaping == "centered-rank":
        mean, variance = _rank_projection(config.population, reliability)
        second = mean**2 + variance
        return second, second, mean**4 + 6 * mean**2 * variance + 3 * variance**2
    a, m, b = _projection(config, reliability, even_share)
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

    Exact mean and variance of the square for Gaussian rewards; the law is the chi law (with the walk's mixing) that has
    them, exactly so at rho = 0.

    Parameters
    ----------
    config
        The run.
    signal
        An unknown reliability counts as 0.
    effective_dim
        Effective number of independent coordinates of the walk.
    """
    one = step_variance(config, signal)
    scale = first_step_share(config)
    once, twice, fourth = _projection_moments(config, signal.reliability or 0.0, signal.even_share)
    rest = config.dim - 1.0
    square = rest + once
    spread = 2 * rest * config.dim / effective_dim + 2 * rest * (twice - once) + fourth - once**2
    df = 2 * square**2 / spread
    return ChiLaw(scale * math.sqrt(one.value * square / df), df, one.mixing_df)


def coherent_displacement_bound(config: ESConfig, coherent_steps: float) -> float | None:
    """Return the bound on the mean displacement along a direction, weight units: alpha c(N) T for z-scores.

    ``coherent_steps`` is the number of steps that may add up, T for a plain run.

    Holds for any reward with independent noise: the shaped rewards have a fixed length, so their overlap with the
    members' coordinates along one direction is largest when they are its own. None for raw and two-point shaping,
    whose steps are unbounded. Exact.
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
