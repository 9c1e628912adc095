"""Probability laws of cosines: of a step with a fixed direction, and of two displacements of one walk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from estheory._special import (
    Array,
    chi_mean,
    chi_nodes,
    chi_square_tails_array,
    legendre_nodes,
    normal_cdf,
    normal_nodes,
    normal_tails,
)
from estheory.laws import Law, MomentLaw, VarianceFactor


@dataclass(frozen=True)
class CosineLaw(MomentLaw):
    """The law of A / sqrt(A^2 + chi^2_n), A = ``signal`` * chi_m + ``noise`` * Z: the cosine with a fixed direction.

    With ``signal`` 0 and ``noise`` 1 it is the cosine of a random direction; with ``noise`` 0 and ``signal`` 1 its
    square is Beta(m/2, n/2).

    Attributes
    ----------
    signal
        Factor of chi_m in A.
    signal_df
        m > 0.
    noise
        Factor of the standard normal Z in A, >= 0.
    rest_df
        n, number of coordinates orthogonal to the direction.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.

    Examples
    --------
    >>> law = CosineLaw(signal=0.0, signal_df=1.0, noise=1.0, rest_df=9999.0)
    >>> law.mean, round(law.std, 4)
    (0.0, 0.01)
    """

    signal: float
    signal_df: float
    noise: float
    rest_df: float

    @cached_property
    def _moments(self) -> tuple[float, float]:
        if self.signal == 0.0 and self.noise == 1.0:
            return 0.0, 1.0 / math.sqrt(self.rest_df + 1.0)
        # 1/sqrt(x) and 1/x as integrals of exp(-t x) over t > 0: every expectation is then elementary, and the
        # trapezoidal rule in log t exact to rounding, as the integrands are analytic around the real line
        a, b, m, n = self.signal, self.noise, self.signal_df, self.rest_df
        width = 0.2
        t = np.exp(width * np.arange(-400, 300)) / (m + n + 2.0)
        noise, both = np.log1p(2 * t * b * b), np.log1p(2 * t * (a * a + b * b))
        rest = -0.5 * n * np.log1p(2 * t)
        mean = a * chi_mean(m) * width / math.sqrt(math.pi)
        mean *= float(np.sum(np.exp(0.5 * np.log(t) + rest + (m / 2 - 1) * noise - (m + 1) / 2 * both)))
        common = t * np.exp(rest + (m - 1) / 2 * noise - m / 2 * both)
        square = width * float(np.sum(common * (b * b * np.exp(-noise) + a * a * m * np.exp(-noise - both))))
        if (variance := square - mean**2) > 1e-5 * square:
            return mean, math.sqrt(variance)
        return mean, self._narrow_std(mean)

    def _narrow_std(self, mean: float) -> float:
        """Return the standard deviation where it is far below the mean: three nested quadratures, no cancellation."""
        m, wm = chi_nodes(self.signal_df)
        n, wn = chi_nodes(self.rest_df)
        z, wz = normal_nodes() if self.noise else (np.zeros(1), np.ones(1))
        along = self.signal * m[:, None, None] + self.noise * z[None, :, None]
        cosine = along / np.hypot(along, n[None, None, :])
        weight = wm[:, None, None] * wz[None, :, None] * wn[None, None, :]
        return math.sqrt(float(np.sum(weight * (cosine - mean) ** 2)))

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)): the widest variable integrated exactly, the others by quadrature."""
        if abs(x) >= 1.0:
            return (1.0, 0.0) if x > 0 else (0.0, 1.0)
        t = x / math.sqrt((1.0 - x) * (1.0 + x))
        if self.signal == 0.0 and self.noise == 1.0 and self.rest_df < 1e5:
            from scipy.special import betainc

            outer = 0.5 * float(betainc(self.rest_df / 2, 0.5, (1.0 - x) * (1.0 + x)))  # P(cos > |x|)
            return (1.0 - outer, outer) if x > 0 else (outer, 1.0 - outer)
        n, wn = chi_nodes(self.rest_df)
        if self.signal == 0.0:
            pairs = np.array([(normal_cdf(t * node), normal_cdf(-t * node)) for node in n / self.noise])
            low, high = wn @ pairs
        elif self.noise > 0.7 * self.signal:  # 0.7: the standard deviation of a chi variable
            m, wm = chi_nodes(self.signal_df)
            z = (t * n[None, :] - self.signal * m[:, None]) / self.noise
            low, high = wm @ normal_tails(z) @ wn
        elif self.noise > 0.0 or self.rest_df >= self.signal_df:
            z, wz = normal_nodes() if self.noise else (np.zeros(1), np.ones(1))
            y = np.maximum(t * n[None, :] - self.noise * z[:, None], 0.0) / self.signal
            low, high = wz @ chi_square_tails_array(y * y, self.signal_df) @ wn
        else:
            m, wm = chi_nodes(self.signal_df)
            y = self.signal * m / t if t > 0.0 else np.full(m.shape, np.inf)
            high, low = chi_square_tails_array(y * y, self.rest_df) @ wm
        return float(low), float(high)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        a = self.noise * rng.standard_normal(n)
        if self.signal:
            a += self.signal * np.sqrt(rng.chisquare(self.signal_df, n))
        return np.asarray(a / np.sqrt(a * a + rng.chisquare(self.rest_df, n)))


@dataclass(frozen=True)
class CorrelationLaw(Law):
    """The cosine of two Gaussian vectors of ``df`` independent coordinate pairs with correlation ``rho``.

    Hotelling's density of a sample correlation about known means, written in delta = atanh(r) - atanh(rho):
    proportional to sech(delta)^df sqrt((1 - rho r) / (1 - r^2)) 2F1(1/2, 1/2; df + 1/2; (1 + rho r) / 2), which
    loses nothing at df = 1e12.

    Attributes
    ----------
    rho
        |rho| < 1.
    df
        Number of pairs, >= 1.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md.

    Examples
    --------
    >>> law = CorrelationLaw(rho=0.5, df=1e6)
    >>> round(law.mean, 4), round(law.std, 6)
    (0.5, 0.00075)
    """

    rho: float
    df: float

    def _integrate(self, low: float, high: float) -> Array:
        """Return the integrals of density * (1, r - rho, (r - rho)^2) over delta in [low, high], shape (3,)."""
        nodes, weights = legendre_nodes(64 if self.df > 1e3 else 160)  # the fewer pairs, the longer the tails
        delta = 0.5 * (high + low) + 0.5 * (high - low) * nodes
        zeta = math.atanh(self.rho)
        shift = np.sinh(delta) / (np.cosh(zeta + delta) * math.cosh(zeta))  # r - rho
        r = self.rho + shift
        u, term, series = (1.0 + self.rho * r) / 2.0, np.ones_like(r), np.ones_like(r)
        for k in range(60):  # with many pairs two terms are all there is
            term = term * u * (k + 0.5) ** 2 / ((self.df + 0.5 + k) * (k + 1.0))
            series = series + term
            if term[-1] < 1e-18 and term[0] < 1e-18:  # u is monotonous
                break
        root = np.sqrt(1.0 - self.rho * r) * np.cosh(zeta + delta)
        density = np.exp(-self.df * np.log1p(2.0 * np.sinh(delta / 2.0) ** 2)) * root * series
        mass = weights * density * 0.5 * (high - low)
        return np.array([mass.sum(), mass @ shift, (mass * shift) @ shift])

    @cached_property
    def _reach(self) -> float:
        return math.acosh(math.exp(80.0 / self.df)) if self.df > 0.2 else math.inf  # sech^df = e^-80 there

    @cached_property
    def _moments(self) -> Array:
        return self._integrate(-self._reach, self._reach)

    @property
    def mean(self) -> float:
        """The mean."""
        return self.rho + float(self._moments[1] / self._moments[0])

    @cached_property
    def std(self) -> float:  # a quantile asks for it often
        """The standard deviation, (1 - rho^2) / sqrt(df) to leading order."""
        _, first, second = self._moments / self._moments[0]
        return math.sqrt(second - first * first)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x))."""
        if abs(x) >= 1.0:
            return (1.0, 0.0) if x > 0 else (0.0, 1.0)
        excess = (x - self.rho) / (1.0 - self.rho * x)  # tanh(delta), which may round to +-1
        delta = math.atanh(excess) if abs(excess) < 1.0 else math.copysign(math.inf, excess)
        delta = min(max(delta, -self._reach), self._reach)
        if delta > 0.0:  # the smaller tail is integrated, and the other is what is left
            high = self._integrate(delta, self._reach)[0] / self._moments[0]
            return float(1.0 - high), float(high)
        low = self._integrate(-self._reach, delta)[0] / self._moments[0]
        return float(low), float(1.0 - low)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        spread = math.sqrt((1.0 - self.rho) * (1.0 + self.rho))
        if self.df == 1.0:  # two numbers: the cosine is +-1, with P(equal signs) = 1/2 + asin(rho) / pi
            return np.where(rng.random(n) < 0.5 + math.asin(self.rho) / math.pi, 1.0, -1.0)
        return CosineLaw(self.rho / spread, self.df, 1.0, self.df - 1.0).sample(rng, n)


@dataclass(frozen=True)
class MixedCorrelationLaw(MomentLaw):
    """The cosine of two positions of a walk whose steps' variances fluctuate, as with raw rewards.

    The share B of the later position's variance that the earlier one has is Beta(first_df/2, later_df/2), of
    chi-squares, or that of two Beta variables where ``most`` is finite; given B, the
    cosine is of vectors of ``df`` coordinates with correlation sqrt(B): atanh(cos) is taken as normal about
    atanh(sqrt(B)) with variance 1/df, an error of relative order 1/df.

    Attributes
    ----------
    first_df, later_df
        Degrees of freedom of the summed step variances before the earlier position, and between the two; their means
        are as these.
    df
        Independent coordinates.
    most
        Largest step variance over its mean (:class:`estheory.laws.VarianceFactor`).

    Notes
    -----
    Label: large-N, in the number of coordinates. Source: ours: docs/concepts/walk.md.
    """

    first_df: float
    later_df: float
    df: float
    most: float = math.inf

    @property
    def _factors(self) -> tuple[VarianceFactor, VarianceFactor]:
        return VarianceFactor(self.first_df, self.most), VarianceFactor(self.later_df, self.most)

    @cached_property
    def _centres(self) -> tuple[Array, Array]:
        """atanh(sqrt(B)) at nodes, and weights, which sum to 1."""
        if math.isinf(self.most):
            from scipy.special import betaincinv

            z, weights = normal_nodes()
            share = betaincinv(self.first_df / 2, self.later_df / 2, np.array([normal_cdf(x) for x in z]))
            return np.asarray(np.arctanh(np.sqrt(np.clip(share, 0.0, 1.0 - 1e-16)))), weights
        (first, one), (later, two) = (factor.nodes for factor in self._factors)
        before, between = self.first_df * first[:, None], self.later_df * later[None, :]
        share = before / (before + between)
        return np.arctanh(np.sqrt(np.minimum(share, 1.0 - 1e-16))).ravel(), np.outer(one, two).ravel()

    def _share_tails(self, share: Array) -> Array:
        """Return P(B <= share) and P(B > share), shape (2, *share.shape)."""
        if math.isinf(self.most):
            from scipy.special import betainc

            a, b = self.first_df / 2, self.later_df / 2
            return np.stack([betainc(a, b, share), betainc(b, a, 1.0 - share)])
        odds = share / np.maximum(1.0 - share, 1e-300) * self.later_df / self.first_df
        first, later = self._factors
        if self.first_df < self.later_df:  # the wider of the two exactly
            nodes, weights = later.nodes
            return np.asarray(first.tails(odds[..., None] * nodes) @ weights)
        nodes, weights = first.nodes
        return np.asarray(later.tails(nodes / np.maximum(odds[..., None], 1e-300)) @ weights)[::-1]

    @cached_property
    def _moments(self) -> tuple[float, float]:
        (centres, chances), (z, weights) = self._centres, normal_nodes()
        cosine = np.tanh(centres[:, None] + z / math.sqrt(self.df))
        mean = float(chances @ cosine @ weights)
        return mean, math.sqrt(float(chances @ (cosine - mean) ** 2 @ weights))

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x))."""
        if abs(x) >= 1.0:
            return (1.0, 0.0) if x > 0 else (0.0, 1.0)
        (centres, chances), (z, weights) = self._centres, normal_nodes()
        centre = float(chances @ centres)
        if float(chances @ (centres - centre) ** 2) < 1 / self.df:  # the wider of the two is integrated exactly
            low, high = normal_tails((math.atanh(x) - centres) * math.sqrt(self.df)) @ chances
        else:
            root = np.tanh(math.atanh(x) - z / math.sqrt(self.df))
            low, high = self._share_tails(np.maximum(root, 0.0) ** 2) @ weights
        return float(low), float(high)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        first, later = (factor.sample(rng, n) * factor.df for factor in self._factors)
        zeta = np.arctanh(np.sqrt(first / (first + later)))
        return np.asarray(np.tanh(zeta + rng.standard_normal(n) / math.sqrt(self.df)))
