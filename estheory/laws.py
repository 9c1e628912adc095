"""Probability laws of scalar quantities: a prediction is a law, not a number.

Six small families. All stay accurate at relative spreads of 1e-6 and 1e12 degrees of freedom, where ``scipy.stats``
loses four digits; scipy.stats and mpmath are the oracle in the tests.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from estheory._special import (
    Array,
    chi_mean,
    chi_nodes,
    chi_square_quantile,
    chi_square_tails,
    chi_square_tails_array,
    chi_variance,
    invert_increasing,
    legendre_nodes,
    normal_cdf,
    normal_nodes,
    normal_quantile,
    normal_tails,
)


class Law(ABC):
    """The probability law of one scalar quantity."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """The mean, in the quantity's unit."""

    @property
    @abstractmethod
    def std(self) -> float:
        """The standard deviation, in the quantity's unit."""

    @abstractmethod
    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)), each accurate on its own."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` independent draws, shape (n,)."""

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile, 0 < p < 1."""
        if self.std == 0.0:
            return self.mean
        target = normal_quantile(p)
        x = start = self.mean + self.std * target
        for _ in range(20):  # where the law is nearly normal its probit is nearly linear and this converges at once
            low, high = self.tails(x)
            if not 0.0 < min(low, high) < 1.0:
                break
            step = self.std * (target - (normal_quantile(low) if low < 0.5 else -normal_quantile(high)))
            x += step
            if abs(step) <= 1e-13 * self.std + 4e-16 * abs(x):
                return x
        return invert_increasing(lambda y: self.tails(y)[0], p, start, self.std)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the central interval that holds the quantity with probability ``level``."""
        return self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)

    def pvalue(self, x: float) -> float:
        """Return the two-sided p-value of the observation ``x``: twice the smaller tail, at most 1."""
        return min(1.0, 2.0 * min(self.tails(x)))


@dataclass(frozen=True)
class PointLaw(Law):
    """A value without spread (a bound, or a number that hyper-parameters fix)."""

    value: float

    @property
    def mean(self) -> float:
        """The value itself."""
        return self.value

    @property
    def std(self) -> float:
        """Zero."""
        return 0.0

    def tails(self, x: float) -> tuple[float, float]:
        """Return (1, 1) at the value, to rounding, and (0, 1) or (1, 0) elsewhere."""
        if math.isclose(x, self.value, rel_tol=1e-12, abs_tol=1e-300):
            return 1.0, 1.0
        return (1.0, 0.0) if x > self.value else (0.0, 1.0)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return the value ``n`` times, shape (n,)."""
        return np.full(n, self.value)


@dataclass(frozen=True)
class NormalLaw(Law):
    """A normal law with the given ``location`` and ``scale`` > 0."""

    location: float
    scale: float

    @property
    def mean(self) -> float:
        """The location."""
        return self.location

    @property
    def std(self) -> float:
        """The scale."""
        return self.scale

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x))."""
        z = (x - self.location) / self.scale
        return normal_cdf(z), normal_cdf(-z)

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile."""
        return self.location + self.scale * normal_quantile(p)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        return rng.normal(self.location, self.scale, n)


@dataclass(frozen=True)
class ChiLaw(Law):
    """``scale`` times a chi variable of ``df`` > 0 degrees of freedom times sqrt(chi^2_m / m), m = ``mixing_df``.

    The norm of an isotropic Gaussian vector of ``df`` entries whose common variance itself fluctuates like a
    chi-square over its m degrees of freedom; with ``mixing_df`` infinite the law is plain chi.
    """

    scale: float
    df: float
    mixing_df: float = math.inf

    @property
    def mean(self) -> float:
        """The mean."""
        mixing = 1.0 if math.isinf(self.mixing_df) else chi_mean(self.mixing_df) / math.sqrt(self.mixing_df)
        return self.scale * chi_mean(self.df) * mixing

    @property
    def std(self) -> float:
        """The standard deviation, without cancellation: v_df + mean_df^2 v_m / m for the unit scale."""
        mixing = 0.0 if math.isinf(self.mixing_df) else chi_variance(self.mixing_df) / self.mixing_df
        return self.scale * math.sqrt(chi_variance(self.df) + chi_mean(self.df) ** 2 * mixing)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)); with mixing by quadrature over the narrower of the two chi variables."""
        if x <= 0.0:
            return 0.0, 1.0
        y = x / self.scale
        if math.isinf(self.mixing_df):
            return chi_square_tails(y * y, self.df)
        y *= math.sqrt(self.mixing_df)
        nodes, weights = chi_nodes(max(self.df, self.mixing_df))
        tails = np.array([chi_square_tails((y / node) ** 2, min(self.df, self.mixing_df)) for node in nodes])
        low, high = weights @ tails
        return float(low), float(high)

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile."""
        if math.isinf(self.mixing_df):
            return self.scale * math.sqrt(chi_square_quantile(p, self.df))
        return super().quantile(p)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        draws = self.scale * np.sqrt(rng.chisquare(self.df, n))
        return (
            draws if math.isinf(self.mixing_df) else draws * np.sqrt(rng.chisquare(self.mixing_df, n) / self.mixing_df)
        )


@dataclass(frozen=True)
class SquaredLaw(Law):
    """``factor`` times the square of a chi-type variable: norms squared, KL, effective-dimension ratios."""

    root: ChiLaw
    factor: float = 1.0

    @property
    def mean(self) -> float:
        """The mean."""
        return self.factor * self.root.scale**2 * self.root.df

    @property
    def std(self) -> float:
        """The standard deviation: relative variance (1 + 2/df)(1 + 2/m) - 1."""
        n, m = 2.0 / self.root.df, 2.0 / self.root.mixing_df
        return self.mean * math.sqrt(n + m + n * m)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x))."""
        return self.root.tails(math.sqrt(max(x, 0.0) / self.factor))

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile."""
        return self.factor * self.root.quantile(p) ** 2

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        return self.factor * np.square(self.root.sample(rng, n))


@dataclass(frozen=True)
class CosineLaw(Law):
    """The law of A / sqrt(A^2 + chi^2_n), A = ``signal`` * chi_m + ``noise`` * Z: the cosine with a fixed direction.

    ``signal_df`` is m and ``rest_df`` is n, the number of coordinates orthogonal to the direction. With ``signal`` 0
    and ``noise`` 1 it is the cosine of a random direction; with ``noise`` 0 and ``signal`` 1 its square is
    Beta(m/2, n/2).
    """

    signal: float
    signal_df: float
    noise: float
    rest_df: float

    @cached_property
    def _moments(self) -> tuple[float, float]:
        if self.signal == 0.0 and self.noise == 1.0:
            return 0.0, 1.0 / math.sqrt(self.rest_df + 1.0)
        # three nested quadratures, over chi_m, Z and chi_n
        m, wm = chi_nodes(self.signal_df)
        n, wn = chi_nodes(self.rest_df)
        z, wz = normal_nodes() if self.noise else (np.zeros(1), np.ones(1))
        a = self.signal * m[:, None, None] + self.noise * z[None, :, None]
        cosine = a / np.hypot(a, n[None, None, :])
        weight = wm[:, None, None] * wz[None, :, None] * wn[None, None, :]
        mean = float(np.sum(weight * cosine))
        return mean, math.sqrt(float(np.sum(weight * (cosine - mean) ** 2)))

    @property
    def mean(self) -> float:
        """The mean."""
        return self._moments[0]

    @property
    def std(self) -> float:
        """The standard deviation."""
        return self._moments[1]

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
    """The cosine of two Gaussian vectors of ``df`` independent coordinate pairs with correlation ``rho``, |rho| < 1.

    Exact (Hotelling's density of a sample correlation about known means), written in delta = atanh(r) - atanh(rho):
    proportional to sech(delta)^df sqrt((1 - rho r) / (1 - r^2)) 2F1(1/2, 1/2; df + 1/2; (1 + rho r) / 2), which
    loses nothing at df = 1e12.
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
        for k in range(60):
            term = term * u * (k + 0.5) ** 2 / ((self.df + 0.5 + k) * (k + 1.0))
            series = series + term
        root = np.sqrt(1.0 - self.rho * r) * np.cosh(zeta + delta)
        density = np.exp(-self.df * np.log1p(2.0 * np.sinh(delta / 2.0) ** 2)) * root * series
        mass = weights * density * 0.5 * (high - low)
        return np.array([np.sum(mass), np.sum(mass * shift), np.sum(mass * shift * shift)])

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

    @property
    def std(self) -> float:
        """The standard deviation, (1 - rho^2) / sqrt(df) to leading order."""
        _, first, second = self._moments / self._moments[0]
        return math.sqrt(second - first * first)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x))."""
        if abs(x) >= 1.0:
            return (1.0, 0.0) if x > 0 else (0.0, 1.0)
        excess = (x - self.rho) / (1.0 - self.rho * x)  # tanh(delta)
        delta = min(max(math.atanh(excess), -self._reach), self._reach)
        total = self._moments[0]
        low, high = self._integrate(-self._reach, delta)[0], self._integrate(delta, self._reach)[0]
        return float(low / total), float(high / total)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        spread = math.sqrt((1.0 - self.rho) * (1.0 + self.rho))
        return CosineLaw(self.rho / spread, self.df, 1.0, self.df - 1.0).sample(rng, n)


def noisy_pvalue(law: Law, x: float, stderr: float) -> float:
    """Return the two-sided p-value of ``x``, an observation of ``law`` with independent Gaussian error ``stderr``."""
    if stderr == 0.0:
        return law.pvalue(x)
    if law.std == 0.0:
        return NormalLaw(law.mean, stderr).pvalue(x)
    nodes, weights = normal_nodes()
    if law.std <= stderr:  # integrate the error exactly, the law by quadrature over its quantiles
        values = [law.quantile(min(max(normal_cdf(z), 1e-300), 1 - 1e-16)) for z in nodes]
        tails = np.array([NormalLaw(v, stderr).tails(x) for v in values])
    else:
        tails = np.array([law.tails(x - stderr * z) for z in nodes])
    low, high = weights @ tails
    return min(1.0, 2.0 * min(float(low), float(high)))
