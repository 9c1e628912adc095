"""Laws of the norm of one step whose rewards fluctuate or hold a signal (docs/concepts/signal.md, walk.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from estheory._special import (
    Array,
    chi_mean,
    chi_nodes,
    chi_square_tails_array,
    chi_variance,
    legendre_nodes,
    normal_cdf,
)
from estheory.laws import MomentLaw

_REACH = 9.0


@dataclass(frozen=True)
class StepNormLaw(MomentLaw):
    """``scale`` F sqrt(A^2 + chi^2_n), A = ``signal`` chi_m + ``noise`` Z: the norm of one step on a linear reward.

    F is 1 for z-scores; with ``own_length`` (raw and two-point shaping) it is chi_m / sqrt(m), the chi_m of A.

    Attributes
    ----------
    scale
        Standard deviation of a flat coordinate, in the quantity's unit.
    signal, signal_df, noise, rest_df
        As of :class:`estheory.cosine_laws.CosineLaw`; ``signal``^2 + ``noise``^2 = 1.
    own_length
        Whether the step is as long as the rewards are spread.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. Gaussian rewards, linear signal, independent noise.

    Examples
    --------
    >>> from estheory.laws import ChiLaw
    >>> law = StepNormLaw(scale=1.0, signal=0.0, signal_df=3.0, noise=1.0, rest_df=3.0, own_length=False)
    >>> round(law.mean, 5), round(ChiLaw(1.0, 4.0).mean, 5)
    (1.87997, 1.87997)
    """

    scale: float
    signal: float
    signal_df: float
    noise: float
    rest_df: float
    own_length: bool

    @cached_property
    def _moments(self) -> tuple[float, float]:
        length, weights = _chi_grid(self.signal_df)
        unit, unit_weights = _normal_grid()
        rest, rest_weights = _chi_grid(self.rest_df)
        along = self.signal * length[:, None] + self.noise * unit[None, :]
        root = np.sqrt(along[:, :, None] ** 2 + rest**2) @ rest_weights
        factor = length / math.sqrt(self.signal_df) if self.own_length else np.ones_like(length)
        mean = float((weights * factor) @ root @ unit_weights)
        second = float((weights * factor**2) @ (along**2 + self.rest_df) @ unit_weights)
        return self.scale * mean, self.scale * math.sqrt(second - mean**2)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)): the chi-square exactly, chi_m and Z by quadrature beside its kink."""
        if x <= 0.0:
            return 0.0, 1.0
        # where the signal's part alone is as long as x
        kink = x / self.scale / self.signal if self.signal else math.inf
        length, weights = _chi_parts(
            math.sqrt(kink * math.sqrt(self.signal_df)) if self.own_length else kink, self.signal_df
        )
        squares = np.full(length.shape, (x / self.scale) ** 2)
        if self.own_length:
            squares = squares * self.signal_df / length**2
        root = np.sqrt(squares)
        if self.noise < 1e-9:  # a noiseless reward: the projection is the length itself
            tails = chi_square_tails_array(np.maximum(squares - length**2, 0.0), self.rest_df)
            low, high = tails @ weights
            return float(low), float(high)
        start = np.clip((-root - self.signal * length) / self.noise, -_REACH, _REACH)
        stop = np.clip((root - self.signal * length) / self.noise, -_REACH, _REACH)
        unit, unit_weights = legendre_nodes()
        # sin takes the square-root ends out of the integrand
        place, jacobian = np.sin(0.5 * math.pi * unit), 0.5 * math.pi * np.cos(0.5 * math.pi * unit)
        half = 0.5 * (stop - start)
        z = 0.5 * (start + stop)[:, None] + half[:, None] * place
        density = half[:, None] * unit_weights * jacobian * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        rest = np.maximum(squares[:, None] - (self.signal * length[:, None] + self.noise * z) ** 2, 0.0)
        tails = chi_square_tails_array(rest, self.rest_df)
        inside = np.sum(density * tails, axis=-1)
        outside = np.array([normal_cdf(a) + normal_cdf(-b) for a, b in zip(start, stop, strict=True)])
        return float(weights @ inside[0]), float(weights @ (inside[1] + outside))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        length = np.sqrt(rng.chisquare(self.signal_df, n))
        along = self.signal * length + self.noise * rng.standard_normal(n)
        norm = np.sqrt(along**2 + rng.chisquare(self.rest_df, n))
        return np.asarray(self.scale * norm * (length / math.sqrt(self.signal_df) if self.own_length else 1.0))


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


@dataclass(frozen=True)
class PairNormLaw(MomentLaw):
    """``scale`` sqrt(V) chi_n with V = 2 (1+kappa) B / ((1+kappa) B + (1-kappa)(1-B)): the norm of a step of pairs.

    B ~ Beta(p/2, (p-1)/2) for p pairs is the odd part of their rewards at equal variances
    (:meth:`estheory.theory.estimators.pairs.MirroredPairs.odd_variance`).

    Attributes
    ----------
    scale
        alpha / sqrt(N), in the quantity's unit.
    pairs
        p, at least 2.
    kappa
        Minus the correlation of the two rewards of a pair.
    df
        n.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md. Gaussian rewards; without signal.
    """

    scale: float
    pairs: int
    kappa: float
    df: float

    @cached_property
    def _moments(self) -> tuple[float, float]:
        part, weight = odd_part_nodes(self.pairs)
        share = self._share(part)
        root = float(weight @ np.sqrt(share))
        mean = root * chi_mean(self.df)
        # Var(sqrt(V) chi) = E V Var chi + Var(sqrt V) (E chi)^2
        scatter = float(weight @ (np.sqrt(share) - root) ** 2)
        square = float(weight @ share) * chi_variance(self.df) + scatter * chi_mean(self.df) ** 2
        return self.scale * mean, self.scale * math.sqrt(square)

    def _share(self, part: Array) -> Array:
        odd = (1 + self.kappa) * part
        return np.asarray(2 * odd / (odd + (1 - self.kappa) * (1 - part)))

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)): the wider of V and the chi variable exactly, the other by quadrature."""
        if x <= 0.0:
            return 0.0, 1.0
        if self.df < 4 * self.pairs:
            part, weight = odd_part_nodes(self.pairs)
            low, high = chi_square_tails_array((x / self.scale) ** 2 / self._share(part), self.df) @ weight
            return float(low), float(high)
        from scipy.special import betainc

        edge = x / self.scale / math.sqrt(2)  # V is at most 2
        below, above = chi_square_tails_array(np.array([edge**2]), self.df)[:, 0]
        length, weight = _chi_beyond(edge, self.df)
        # V = v at B = (1-kappa) v / ((1-kappa) v + (1+kappa)(2 - v))
        inside = np.minimum((x / self.scale / length) ** 2, 2.0)
        even, odd = (1 - self.kappa) * inside, (1 + self.kappa) * (2 - inside)
        part = even / (even + odd)
        low = below + above * (weight @ betainc(self.pairs / 2, (self.pairs - 1) / 2, part))
        high = above * (weight @ betainc((self.pairs - 1) / 2, self.pairs / 2, 1.0 - part))
        return float(low), float(high)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        share = self._share(rng.beta(self.pairs / 2, (self.pairs - 1) / 2, n))
        return np.asarray(self.scale * np.sqrt(share * rng.chisquare(self.df, n)))


def _chi_beyond(edge: float, df: float) -> tuple[Array, Array]:
    """Return nodes and weights, which sum to 1, of a chi variable of ``df`` >= 2 given that it is above ``edge``.

    sin takes a square root at the edge out of the integrand.
    """
    peak = math.sqrt(df - 1)
    start, stop = max(edge, peak - 8.0, 0.0), max(edge, peak) + 8.0
    unit, weights = legendre_nodes()
    length = 0.5 * (start + stop) + 0.5 * (stop - start) * np.sin(0.5 * math.pi * unit)
    away = length - peak
    log = (df - 1) * np.log1p(away / peak) - away * (peak + 0.5 * away)
    weights = weights * np.cos(0.5 * math.pi * unit) * np.exp(log - log.max())
    return length, weights / weights.sum()


def _chi_parts(kink: float, df: float) -> tuple[Array, Array]:
    """Return nodes and weights, which sum to 1, of a chi variable below and above where an integrand bends."""
    peak = math.sqrt(max(df - 1, 0.0))
    low, high = max(peak - _REACH, 0.0), peak + _REACH
    middle = min(max(kink, low), high)
    unit, weights = legendre_nodes()
    place, jacobian = np.sin(0.5 * math.pi * unit), np.cos(0.5 * math.pi * unit)
    ends = [(a, b) for a, b in ((low, middle), (middle, high)) if b > a]
    length = np.concatenate([0.5 * (a + b) + 0.5 * (b - a) * place for a, b in ends])
    log = (df - 1) * np.log(length) - 0.5 * length**2
    weights = np.concatenate([(b - a) * weights * jacobian for a, b in ends]) * np.exp(log - log.max())
    return length, weights / weights.sum()


def _chi_grid(df: float) -> tuple[Array, Array]:
    """Return nodes and weights of a chi variable, dense enough for integrands that bend within it."""
    return chi_nodes(df, 80)


def _normal_grid() -> tuple[Array, Array]:
    unit, weights = legendre_nodes()
    z = _REACH * unit
    weights = weights * np.exp(-0.5 * z**2)
    return z, weights / weights.sum()
