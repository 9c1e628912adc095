"""Progress when reward noise is not Gaussian: 0/1 rewards of a few prompts above all (docs/concepts/signal.md).

One member's reward R and its coordinate x along the gradient have a joint law; members are independent. Everything
follows from E[z_1 x_1], an integral over t of the Laplace transform of the members' sum of squared deviations,

    E exp(-t sum (R_i - mean R)^2)  =  sqrt(N t / pi) int du (E exp(-t (R - u)^2))^N,

which is exact for every N and costs two quadratures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, normal_cdf, normal_nodes
from estheory.errors import ConfigError
from estheory.rules import require_count

_STEP = 0.1  # of the trapezoids over log t: error exp(-pi^2 / step)
_NEGLIGIBLE = 1e-25  # probability of a value that is left out


@dataclass(frozen=True, kw_only=True, eq=False)
class RewardModel:
    """The joint law of one member's reward R and its standard normal coordinate x along the gradient.

    R = v_k + gaussian_std Z with probability p_k, and E[x | k, Z] = overlap_k + (gaussian_signal / gaussian_std) Z.

    Attributes
    ----------
    values, probabilities, overlap
        v_k (reward units), p_k, and E[x | k], shapes (m,).
    gaussian_std
        Standard deviation of the Gaussian part of R, reward units.
    gaussian_signal
        sigma ||g||, reward units, where the signal is in the Gaussian part; at most ``gaussian_std``.
    """

    values: Array
    probabilities: Array
    overlap: Array
    gaussian_std: float = 0.0
    gaussian_signal: float = 0.0

    @property
    def mean(self) -> float:
        """E R, reward units."""
        return float(self.probabilities @ self.values)

    @property
    def std(self) -> float:
        """S, reward units."""
        return math.sqrt(float(self.probabilities @ (self.values - self.mean) ** 2) + self.gaussian_std**2)

    @property
    def correlation(self) -> float:
        """The correlation of R and x, rho = Corr(R, x)."""
        covariance = float(self.probabilities @ ((self.values - self.mean) * self.overlap)) + self.gaussian_signal
        return covariance / self.std


def additive_noise(values: Array, probabilities: Array, *, signal_std: float, gaussian_std: float = 0.0) -> RewardModel:
    """Return R = sigma g.eps + noise, the noise independent of eps: v_k with probability p_k, plus a Gaussian.

    Parameters
    ----------
    values, probabilities
        Shapes (m,), reward units and shares that sum to 1.
    signal_std
        sigma ||g||, reward units.
    gaussian_std
        Standard deviation of the Gaussian part of the noise, reward units.

    Returns
    -------
    RewardModel
        Of one member.

    Raises
    ------
    ConfigError
        Where the probabilities are none, or a spread is negative.
    """
    v, p = np.asarray(values, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if v.shape != p.shape or v.ndim != 1 or not (np.all(p >= 0) and math.isclose(float(np.sum(p)), 1, rel_tol=1e-9)):
        raise ConfigError("reward probabilities must be >= 0, sum to 1 and match the values", "give one per value")
    if not (signal_std >= 0 and gaussian_std >= 0):
        raise ConfigError(f"signal_std {signal_std} and gaussian_std {gaussian_std} must be >= 0", "they are spreads")
    return RewardModel(
        values=v,
        probabilities=p,
        overlap=np.zeros_like(v),
        gaussian_std=math.hypot(signal_std, gaussian_std),
        gaussian_signal=signal_std,
    )


def bernoulli_rewards(success: float | Array, *, prompts: int | None = None, signal_std: float) -> RewardModel:
    """Return the mean of 0/1 rewards over a batch of prompts whose success probabilities move with x.

    Prompt j succeeds with probability p_j + tau_j x, cut off at 0 and 1, tau_j proportional to p_j (1 - p_j) with
    mean ``signal_std``; given x the prompts are independent. All members see the same batch.

    Parameters
    ----------
    success
        p_j of each prompt, shape (B,), or one p for all.
    prompts
        B, with one p.
    signal_std
        sigma ||g||: what one standard deviation of x adds to the success rate.

    Returns
    -------
    RewardModel
        Of one member.

    Raises
    ------
    ConfigError
        For probabilities outside [0, 1], and a negative spread.
    """
    p = np.atleast_1d(np.asarray(success, dtype=np.float64))
    if prompts is not None:
        require_count("prompts", prompts, 1)
        p = np.broadcast_to(p, (int(prompts),))
    if not np.all((p >= 0) & (p <= 1)) or not signal_std >= 0:
        raise ConfigError("success probabilities must lie in [0, 1] and signal_std must be >= 0", "correct them")
    spread = p * (1 - p)
    slope = signal_std * spread / max(float(np.mean(spread)), 1e-300)
    x, weights = normal_nodes(80)
    if prompts is not None:
        counts = _binomial(p.size, np.clip(p[0] + slope[0] * x, 0.0, 1.0))
    else:
        counts = np.zeros((x.size, p.size + 1))
        counts[:, 0] = 1.0
        for chance, tau in zip(p, slope, strict=True):  # one prompt more: a convolution with (1 - p, p)
            now = np.clip(chance + tau * x, 0.0, 1.0)[:, None]
            counts[:, 1:] = counts[:, 1:] * (1 - now) + counts[:, :-1] * now
            counts[:, :1] *= 1 - now
    marginal = weights @ counts
    kept = marginal > _NEGLIGIBLE
    return RewardModel(
        values=np.flatnonzero(kept) / p.size,
        probabilities=marginal[kept] / float(np.sum(marginal[kept])),
        # without signal the quadrature would leave its rounding
        overlap=(weights * x) @ counts[:, kept] / marginal[kept] if signal_std else np.zeros(int(kept.sum())),
    )


def _binomial(trials: int, chance: Array) -> Array:
    """Return the probabilities of 0 to ``trials`` successes for each chance, shape (m, trials + 1)."""
    k = np.arange(trials + 1, dtype=np.float64)
    ways = np.concatenate([[0.0], np.cumsum(np.log((trials - k[:-1]) / k[1:]))])
    inside = np.clip(chance, 1e-300, 1 - 1e-16)[:, None]
    found = np.exp(ways + k * np.log(inside) + (trials - k) * np.log1p(-inside))
    found[chance <= 0] = k == 0
    found[chance >= 1] = k == trials
    return np.asarray(found)


def tie_probability(model: RewardModel, population: int) -> float:
    """Return P(all N rewards equal): no motion. Every variance of the walk is multiplied by 1 - P.

    Parameters
    ----------
    model
        A member's rewards.
    population
        N, at least 2.

    Returns
    -------
    float
        0 for continuous rewards.

    Raises
    ------
    ConfigError
        For a population below 2.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.

    Examples
    --------
    >>> round(tie_probability(bernoulli_rewards(0.9, prompts=1, signal_std=0.0), 30), 4)
    0.0424
    """
    require_count("population", population, 2)
    return 0.0 if model.gaussian_std else float(np.sum(model.probabilities**population))


def _integrate(model: RewardModel, population: int, integrand: Callable[[float, Array], Array]) -> float:
    """Return int_0^inf t^(-1/2) (N t / pi)^(1/2) int du integrand(t, v - u) dt.

    Over t by trapezoids in y, t = exp(y - exp(-y)) / (N S^2), up to where nothing is left; over u by trapezoids too,
    both exponentially accurate.
    """
    low, high = float(np.min(model.values)), float(np.max(model.values))
    total, y = 0.0, -4.0
    scale = population * model.std**2
    last = math.inf
    if model.gaussian_std == 0:  # one member apart from the others by the smallest step: exp(-40) is left
        last = 40 / (float(np.min(np.diff(np.sort(model.values)))) ** 2 * (1 - 1 / population))
    for _ in range(1000):
        t = math.exp(y - math.exp(-y)) / scale
        width = math.sqrt((1 + 2 * t * model.gaussian_std**2) / (2 * t * population))
        count = int((high - low) / width * 1.2) + 24
        u, spacing = np.linspace(low - 9 * width, high + 9 * width, count, retstep=True)
        inner = float(np.sum(integrand(t, model.values[:, None] - u))) * float(spacing)
        term = t * math.sqrt(population / math.pi) * inner * (1 + math.exp(-y)) * _STEP
        total += term
        if y > 0 and (t > last or abs(term) <= 1e-15 * abs(total)):
            break
        y += _STEP
    return total


def _require_spread(model: RewardModel) -> None:
    if model.std == 0:
        raise ConfigError("every member has the same reward", "give rewards some spread")


def zscore_overlap(model: RewardModel, population: int) -> float:
    """Return E[z_1 x_1]: progress along the gradient is alpha times it.

    z is 0 where all rewards are equal. With additive noise it is sigma ||g|| ((N-2)/N) E[1/std R]; where E[x | R] is
    linear, as for weak signals in binomial rewards, it is rho E[std R] / S.

    Parameters
    ----------
    model
        A member's rewards.
    population
        N, at least 2.

    Returns
    -------
    float
        In [0, 1); c(N) rho for Gaussian rewards.

    Raises
    ------
    ConfigError
        If all rewards are equal, or for a population below 2.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. For the reward model.

    Examples
    --------
    >>> gaussian = additive_noise([0.0], [1.0], signal_std=0.5, gaussian_std=0.5 * 3**0.5)
    >>> round(zscore_overlap(gaussian, 30) / 0.9748, 4)
    0.5
    """
    require_count("population", population, 2)
    _require_spread(model)
    weight, overlap = model.probabilities[:, None], model.overlap[:, None]

    def integrand(t: float, distance: Array) -> Array:
        d = 1 + 2 * t * model.gaussian_std**2
        kernel = weight * np.exp(-t * distance**2 / d) / math.sqrt(d)
        signal = overlap * distance + model.gaussian_signal * (1 - 2 * t * distance**2 / d)
        return np.asarray(np.sum(kernel, axis=0) ** (population - 1) * np.sum(kernel * signal, axis=0) / d)

    return math.sqrt(population / math.pi) * _integrate(model, population, integrand)


def mean_inverse_std(model: RewardModel, population: int) -> float:
    """Return E[1/std R; not all equal] of the population std of N rewards.

    Parameters
    ----------
    model
        A member's rewards.
    population
        N; at least 3 for continuous rewards, 2 for others.

    Returns
    -------
    float
        1 / reward.

    Raises
    ------
    ConfigError
        If all rewards are equal, or for a smaller population.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    require_count("population", population, 3 if model.gaussian_std else 2)
    _require_spread(model)
    equal = model.probabilities[:, None] ** population if not model.gaussian_std else np.zeros((1, 1))
    weight = model.probabilities[:, None]

    def integrand(t: float, distance: Array) -> Array:
        d = 1 + 2 * t * model.gaussian_std**2
        kernel = np.sum(weight * np.exp(-t * distance**2 / d), axis=0) ** population / d ** (population / 2)
        # the part in which all are equal is the same at every t: it is no motion
        return np.asarray(kernel - np.sum(equal * np.exp(-population * t * distance**2), axis=0))

    return math.sqrt(population / math.pi) * _integrate(model, population, integrand)


def rank_overlap(model: RewardModel) -> float:
    """Return E[u_1 x_1] for centred ranks, ties broken at random: sigma ||g|| int f_R^2 with additive noise.

    Parameters
    ----------
    model
        A member's rewards.

    Returns
    -------
    float
        The same for every N; rho / (2 sqrt(pi)) for Gaussian rewards.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    weight = model.probabilities
    apart = model.values[:, None] - model.values[None, :]
    if model.gaussian_std == 0:
        above = 0.5 * (1 + np.sign(apart))
        return float((weight * model.overlap) @ above @ weight)
    scale = math.sqrt(2) * model.gaussian_std
    above = np.vectorize(normal_cdf)(apart / scale)
    density = np.exp(-0.5 * (apart / scale) ** 2) / (math.sqrt(2 * math.pi) * scale)
    return float(weight @ (model.overlap[:, None] * above + model.gaussian_signal * density) @ weight)
