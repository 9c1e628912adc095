"""Laws of the norm of one step whose rewards fluctuate or hold a signal (docs/concepts/signal.md, walk.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np

from estheory._special import (
    Array,
    chi_mean,
    chi_nodes,
    chi_square_tails_array,
    chi_variance,
    legendre_nodes,
    normal_cdf,
    normal_nodes,
    normal_tails,
)
from estheory.laws import ChiLaw, Law, MomentLaw, SquaredLaw

_REACH = 9.0
_SHORT = 24
"""Nodes a variable, where three are integrated at once."""


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
        rest, rest_weights = _chi_grid(self.rest_df) if self.rest_df else (np.zeros(1), np.ones(1))
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
            low, high = _rest_tails(squares - (self.signal * length) ** 2, self.rest_df) @ weights
            return float(low), float(high)
        start = np.clip((-root - self.signal * length) / self.noise, -_REACH, _REACH)
        stop = np.clip((root - self.signal * length) / self.noise, -_REACH, _REACH)
        unit, unit_weights = legendre_nodes()
        # sin takes the square-root ends out of the integrand
        place, jacobian = np.sin(0.5 * math.pi * unit), 0.5 * math.pi * np.cos(0.5 * math.pi * unit)
        half = 0.5 * (stop - start)
        z = 0.5 * (start + stop)[:, None] + half[:, None] * place
        density = half[:, None] * unit_weights * jacobian * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        tails = _rest_tails(squares[:, None] - (self.signal * length[:, None] + self.noise * z) ** 2, self.rest_df)
        inside = np.sum(density * tails, axis=-1)
        outside = np.array([normal_cdf(a) + normal_cdf(-b) for a, b in zip(start, stop, strict=True)])
        return float(weights @ inside[0]), float(weights @ (inside[1] + outside))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        length = np.sqrt(rng.chisquare(self.signal_df, n))
        along = self.signal * length + self.noise * rng.standard_normal(n)
        norm = np.sqrt(along**2 + rng.chisquare(self.rest_df, n))
        return np.asarray(self.scale * norm * (length / math.sqrt(self.signal_df) if self.own_length else 1.0))


def _rest_tails(squares: Array, df: float) -> Array:
    """Return both tails of a chi-square at what may be negative; without degrees of freedom it is 0."""
    if df:
        return chi_square_tails_array(np.maximum(squares, 0.0), df)
    return np.stack([squares >= 0, squares < 0]).astype(np.float64)


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


@dataclass(frozen=True)
class SteeredPairNormLaw(MomentLaw):
    """``scale`` sqrt(V (A^2 + chi^2_n)), A = ``signal`` X + ``noise`` Z: the norm of a step of pairs with a signal.

    X = chi_p is the length of the p odd parts of the pairs' rewards and Y = chi_(p-1) that of the even ones:
    V = 2 (1+kappa) X^2 / ((1+kappa) X^2 + (1-kappa) Y^2).

    Attributes
    ----------
    scale
        alpha / sqrt(N), in the quantity's unit.
    pairs
        p, at least 2.
    kappa
        Minus the correlation of the two rewards of a pair, > -1.
    signal, noise
        Of the projection on the gradient, in standard deviations of a flat coordinate; > 0, >= 0.
    rest_df
        n, number of coordinates orthogonal to the gradient.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. Gaussian rewards, linear signal, independent noise.
    """

    scale: float
    pairs: int
    kappa: float
    signal: float
    noise: float
    rest_df: float

    @cached_property
    def _lengths(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Nodes and weights of X and of Y."""
        dense = 64 if self.rest_df else 120  # the less noise, the sharper a projection as long as X bends the integrand
        return _short_chi_nodes(self.pairs, dense), _short_chi_nodes(self.pairs - 1.0)

    def _variances(self) -> Array:
        """Return V at the nodes of X and Y."""
        (odd, _), (even, _) = self._lengths
        square = (1 + self.kappa) * odd[:, None] ** 2
        return np.asarray(2 * square / (square + (1 - self.kappa) * even**2))

    @cached_property
    def _moments(self) -> tuple[float, float]:
        (odd, odd_weights), (_, even_weights) = self._lengths
        root = np.sqrt(self._variances())
        step = root @ even_weights
        step_variance = (root - step[:, None]) ** 2 @ even_weights
        unit, unit_weights = normal_nodes()
        rest, rest_weights = _short_chi_nodes(self.rest_df) if self.rest_df else (np.zeros(1), np.ones(1))
        along = self.signal * odd[:, None] + self.noise * unit
        norm = np.sqrt(along[:, :, None] ** 2 + rest**2)
        length = norm @ rest_weights @ unit_weights
        length_variance = (norm - length[:, None, None]) ** 2 @ rest_weights @ unit_weights
        mean = float(odd_weights @ (step * length))
        given = step**2 * length_variance + step_variance * length**2 + step_variance * length_variance
        variance = float(odd_weights @ (given + (step * length - mean) ** 2))
        return self.scale * mean, self.scale * math.sqrt(variance)

    @cached_property
    def _variance_is_wider(self) -> bool:
        """Whether V scatters more than the squared length beside it: the wider of the two is integrated exactly."""
        (_, odd_weights), (_, even_weights) = self._lengths
        v = self._variances()
        mean = odd_weights @ v @ even_weights
        along = self.signal**2 * self.pairs
        square = self.rest_df + along + self.noise**2
        spread = 2 * self.rest_df + 4 * along * self.noise**2 + 2 * self.noise**4
        return bool(odd_weights @ (v - mean) ** 2 @ even_weights / mean**2 > spread / square**2)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x))."""
        if x <= 0.0:
            return 0.0, 1.0
        square = (x / self.scale) ** 2
        low, high = self._of_even_parts(square) if self._variance_is_wider else self._of_rest(square)
        return float(low), float(high)

    def _of_even_parts(self, square: float) -> Array:
        """Return the tails with Y integrated exactly: V falls with it, and is 2 at most."""
        (odd, odd_weights), _ = self._lengths
        unit, unit_weights = normal_nodes(_SHORT if self.rest_df < 20 else 8)  # a small part of the norm
        along = (self.signal * odd[:, None] + self.noise * unit) ** 2
        weights = odd_weights[:, None] * unit_weights
        least = 0.5 * square - along  # of chi^2_n, below which the norm is less whatever Y is
        if self.rest_df:
            inside, outside = _rest_tails(least, self.rest_df)
            rest, chance = _chi_beyond_each(np.sqrt(np.maximum(least, 0.0)), self.rest_df)
            excess = 2 * (along[..., None] + rest**2) / square - 1
        else:
            inside, outside = (least >= 0).astype(np.float64), (least < 0).astype(np.float64)
            excess, chance = -2 * least[..., None] / square, np.ones_like(least)[..., None]
        even = (1 + self.kappa) / (1 - self.kappa) * odd[:, None, None] ** 2 * np.maximum(excess, 0.0)
        above, below = np.sum(chance * chi_square_tails_array(even, self.pairs - 1.0), axis=-1)
        return np.array([np.sum(weights * (inside + outside * below)), np.sum(weights * outside * above)])

    def _of_rest(self, square: float) -> Array:
        """Return the tails with chi^2_n integrated exactly, or Z where there is none."""
        (odd, odd_weights), (_, even_weights) = self._lengths
        squares = square / self._variances()
        root, ahead = np.sqrt(squares), self.signal * odd[:, None]
        weights = odd_weights[:, None] * even_weights
        if self.noise < 1e-9:
            tails = _rest_tails(squares - ahead**2, self.rest_df)
            return np.asarray(np.sum(weights * tails, axis=(1, 2)))
        start, stop = (np.clip((side * root - ahead) / self.noise, -_REACH, _REACH) for side in (-1, 1))
        ends = normal_tails(np.stack([start, stop]))  # below and above, at either end
        outside = ends[0, 0] + ends[1, 1]
        if not self.rest_df:
            inside = np.where(start > 0, ends[1, 0] - ends[1, 1], ends[0, 1] - ends[0, 0])
            return np.array([np.sum(weights * inside), np.sum(weights * outside)])
        unit, unit_weights = legendre_nodes(32)
        # sin takes the square-root ends out of the integrand
        place, jacobian = np.sin(0.5 * math.pi * unit), 0.5 * math.pi * np.cos(0.5 * math.pi * unit)
        half = 0.5 * (stop - start)[..., None]
        z = 0.5 * (start + stop)[..., None] + half * place
        density = half * unit_weights * jacobian * np.exp(-0.5 * z**2)
        density *= ((1 - outside) / np.maximum(density.sum(axis=-1), 1e-300))[..., None]
        tails = _rest_tails(squares[..., None] - (ahead[..., None] + self.noise * z) ** 2, self.rest_df)
        below, above = np.sum(density * tails, axis=-1)
        return np.array([np.sum(weights * below), np.sum(weights * (above + outside))])

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        odd, even = rng.chisquare(self.pairs, n), rng.chisquare(self.pairs - 1, n)
        v = 2 * (1 + self.kappa) * odd / ((1 + self.kappa) * odd + (1 - self.kappa) * even)
        along = self.signal * np.sqrt(odd) + self.noise * rng.standard_normal(n)
        rest = rng.chisquare(self.rest_df, n) if self.rest_df else 0.0
        return np.asarray(self.scale * np.sqrt(v * (along**2 + rest)))


NormLaw: TypeAlias = ChiLaw | StepNormLaw | PairNormLaw | SteeredPairNormLaw
"""The laws of a norm; each has a ``scale``."""


@dataclass(frozen=True)
class SquaredNormLaw(Law):
    """The law of the square of a norm over a number, whose mean and spread are known by themselves.

    Attributes
    ----------
    root
        Of the norm.
    matched
        A law of the same quantity with its mean and standard deviation.
    factor
        Positive; unit of the quantity over that of the norm squared.

    Notes
    -----
    Label: exact or large-N, as of both. Source: ours: docs/concepts/signal.md.
    """

    root: NormLaw
    matched: SquaredLaw
    factor: float

    @property
    def mean(self) -> float:
        """The mean."""
        return self.matched.mean

    @property
    def std(self) -> float:
        """The standard deviation."""
        return self.matched.std

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x))."""
        return self.root.tails(math.sqrt(max(x, 0.0) / self.factor))

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile."""
        return self.factor * self.root.quantile(p) ** 2

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        return self.factor * np.square(self.root.sample(rng, n))


@lru_cache(maxsize=64)
def _short_chi_nodes(df: float, n: int = _SHORT) -> tuple[Array, Array]:
    """Return few nodes and weights, which sum to 1, of a chi variable: of few degrees of freedom in the square root."""
    if df >= 30:
        return chi_nodes(df, n)
    peak = math.sqrt(max(df - 1, 0.0))
    low, high = math.sqrt(max(peak - 7, 0.0)), math.sqrt(peak + 7)
    unit, weights = legendre_nodes(n)
    root = 0.5 * (low + high) + 0.5 * (high - low) * unit
    log = (2 * df - 1) * np.log(root) - 0.5 * root**4
    weights = weights * np.exp(log - log.max())
    return root**2, weights / weights.sum()


def _chi_beyond_each(edge: Array, df: float) -> tuple[Array, Array]:
    """Return few nodes and weights, which sum to 1, of a chi variable given that it is above each edge: a last axis."""
    peak = math.sqrt(max(df - 1, 0.0))
    start, stop = np.maximum(edge, peak - 7.0)[..., None], np.maximum(edge, peak)[..., None] + 7.0
    unit, weights = legendre_nodes(_SHORT)
    length = 0.5 * (start + stop) + 0.5 * (stop - start) * np.sin(0.5 * math.pi * unit)
    away = length - peak
    log = -0.5 * length**2 if df <= 1 else (df - 1) * np.log1p(away / peak) - away * (peak + 0.5 * away)
    weights = weights * np.cos(0.5 * math.pi * unit) * np.exp(log - log.max(axis=-1, keepdims=True))
    return length, weights / weights.sum(axis=-1, keepdims=True)


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
