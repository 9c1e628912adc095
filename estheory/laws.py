"""Probability laws of scalar quantities: a prediction is a law, not a number.

Five small families; those of cosines are in :mod:`estheory.cosine_laws`. All stay accurate at relative spreads of
1e-6 and 1e12 degrees of freedom, where ``scipy.stats`` loses four digits; scipy.stats and mpmath are the oracle in the
tests.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

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
    log_root_loss,
    normal_cdf,
    normal_nodes,
    normal_quantile,
)


class Law(ABC):
    """The probability law of one scalar quantity.

    Examples
    --------
    >>> law = NormalLaw(2.0, 0.5)
    >>> law.mean, law.std
    (2.0, 0.5)
    >>> [round(end, 3) for end in law.interval(0.95)]
    [1.02, 2.98]
    >>> round(law.pvalue(3.0), 4)
    0.0455
    >>> law.sample(np.random.default_rng(0), 3).shape
    (3,)
    """

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
        """Return both tail probabilities, each accurate on its own.

        Parameters
        ----------
        x
            A value, in the quantity's unit.

        Returns
        -------
        below : float
            P(X <= x).
        above : float
            P(X > x).
        """

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return independent draws.

        Parameters
        ----------
        rng
            The random generator.
        n
            Number of draws.

        Returns
        -------
        ndarray
            Shape (n,). In the quantity's unit.
        """

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile.

        Parameters
        ----------
        p
            Probability, 0 < p < 1.

        Returns
        -------
        float
            x with P(X <= x) = p, from p = 1/2 on with P(X > x) = 1 - p, in the quantity's unit. Of a law that bounds
            its tails, which add up to more than 1, it is the outer one.
        """
        if self.std == 0.0:
            return self.mean
        target = normal_quantile(p)
        x = start = self.mean + self.std * target
        for _ in range(20):  # where the law is nearly normal its probit is nearly linear and this converges at once
            low, high = self.tails(x)
            tail = low if p < 0.5 else high
            if not 0.0 < tail < 1.0:
                break
            step = self.std * (target - (normal_quantile(tail) if p < 0.5 else -normal_quantile(tail)))
            x += step
            if abs(step) <= 1e-13 * self.std + 4e-16 * abs(x):
                return x
        if p < 0.5:
            return invert_increasing(lambda y: self.tails(y)[0], p, start, self.std)
        return invert_increasing(lambda y: -self.tails(y)[1], p - 1.0, start, self.std)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the central interval that holds the quantity with probability ``level``.

        Parameters
        ----------
        level
            In (0, 1).

        Returns
        -------
        low : float
            Lower end, in the quantity's unit.
        high : float
            Upper end.
        """
        return self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)

    def pvalue(self, x: float) -> float:
        """Return the two-sided p-value of an observation: twice the smaller tail, at most 1.

        Parameters
        ----------
        x
            The observed value, in the quantity's unit.

        Returns
        -------
        float
            In [0, 1].
        """
        return min(1.0, 2.0 * min(self.tails(x)))


class MomentLaw(Law):
    """A law whose mean and standard deviation are worked out together, once."""

    @property
    @abstractmethod
    def _moments(self) -> tuple[float, float]:
        """Mean and standard deviation, in the quantity's unit; cached."""

    @property
    def mean(self) -> float:
        """The mean."""
        return self._moments[0]

    @property
    def std(self) -> float:
        """The standard deviation."""
        return self._moments[1]


@dataclass(frozen=True)
class PointLaw(Law):
    """A value without spread (a bound, or a number that hyper-parameters fix).

    Attributes
    ----------
    value
        In the quantity's unit.
    """

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
    """A normal law.

    Attributes
    ----------
    location, scale
        Mean and standard deviation > 0, in the quantity's unit.
    """

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
class CutNormalLaw(Law):
    """A normal law of a quantity that cannot leave [low, high]: what lies beyond an end counts as that end.

    Attributes
    ----------
    location, scale
        Of the normal law, in the quantity's unit; scale > 0.
    low, high
        The ends, low < high; infinite where there is none.

    Examples
    --------
    >>> law = CutNormalLaw(0.98, 0.05, 0.0, 1.0)
    >>> [round(end, 3) for end in law.interval(0.95)]
    [0.882, 1.0]
    """

    location: float
    scale: float
    low: float = -math.inf
    high: float = math.inf

    def _moments(self) -> tuple[float, float]:
        """Return mean and mean square of the cut standard normal variable."""
        first, second = 0.0, normal_cdf(self._scaled(self.high)) - normal_cdf(self._scaled(self.low))
        for end, side in ((self.low, 1), (self.high, -1)):
            if math.isfinite(end):
                z = self._scaled(end)
                beyond, density = normal_cdf(side * z), math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
                first += z * beyond + side * density
                second += z * z * beyond + side * z * density
        return first, second

    def _scaled(self, x: float) -> float:
        return (x - self.location) / self.scale

    @property
    def mean(self) -> float:
        """The mean, what lies beyond an end counted as the end."""
        return self.location + self.scale * self._moments()[0]

    @property
    def std(self) -> float:
        """The standard deviation."""
        first, second = self._moments()
        return self.scale * math.sqrt(max(second - first * first, 0.0))

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x))."""
        if x < self.low:
            return 0.0, 1.0
        if x >= self.high:
            return 1.0, 0.0
        return normal_cdf(self._scaled(x)), normal_cdf(-self._scaled(x))

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile, an end where the normal law's lies beyond it."""
        return min(max(self.location + self.scale * normal_quantile(p), self.low), self.high)

    def pvalue(self, x: float) -> float:
        """Return the two-sided p-value: twice the smaller of P(X <= x) and P(X >= x), at most 1."""
        if not self.low <= x <= self.high:
            return 0.0
        below = 1.0 if x == self.high else normal_cdf(self._scaled(x))
        above = 1.0 if x == self.low else normal_cdf(-self._scaled(x))
        return min(1.0, 2.0 * min(below, above))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        return np.clip(rng.normal(self.location, self.scale, n), self.low, self.high)


@dataclass(frozen=True)
class VarianceFactor:
    """The factor F of mean 1 by which a common variance fluctuates: chi^2_m / m, or a Beta variable on [0, ``most``].

    Attributes
    ----------
    df
        m = 2 / Var F; finite.
    most
        The largest value; infinite for the chi-square. (most - 1) m > 2.
    """

    df: float
    most: float = math.inf

    @property
    def _shapes(self) -> tuple[float, float]:
        """Both parameters of F / most."""
        total = 0.5 * (self.most - 1) * self.df - 1
        return total / self.most, total * (1 - 1 / self.most)

    @property
    def root_moments(self) -> tuple[float, float]:
        """Mean and variance of sqrt(F)."""
        if math.isinf(self.most):
            return chi_mean(self.df) / math.sqrt(self.df), chi_variance(self.df) / self.df
        a, b = self._shapes
        loss = log_root_loss(a) - log_root_loss(a + b)  # log E sqrt(F)
        return math.exp(loss), -math.expm1(2 * loss)

    @property
    def nodes(self) -> tuple[Array, Array]:
        """Nodes of F and weights, which sum to 1."""
        if math.isinf(self.most):
            length, weights = chi_nodes(self.df)
            return length**2 / self.df, weights
        from scipy.special import betaincinv

        a, b = self._shapes
        z, weights = normal_nodes()
        # scipy's inverse has no value at 1e-31; a node beyond 1e-15 weighs nothing
        below, above = np.array([(max(normal_cdf(x), 1e-15), max(normal_cdf(-x), 1e-15)) for x in z]).T
        share = np.where(z < 0, betaincinv(a, b, below), 1 - betaincinv(b, a, above))
        return np.maximum(self.most * share, 1e-300), weights

    def tails(self, x: Array) -> Array:
        """Return P(F <= x) and P(F > x), shape (2, *x.shape)."""
        if math.isinf(self.most):
            return chi_square_tails_array(x * self.df, self.df)
        from scipy.special import betainc

        a, b = self._shapes
        share = np.clip(x / self.most, 0.0, 1.0)
        return np.stack([betainc(a, b, share), betainc(b, a, 1.0 - share)])

    def quantiles(self, p: Array) -> Array:
        """Return the quantiles at probabilities, shape as of ``p``."""
        from scipy.special import betaincinv, gammaincinv

        if math.isinf(self.most):
            return np.asarray(gammaincinv(self.df / 2, p) * 2 / self.df)
        return np.asarray(self.most * betaincinv(*self._shapes, np.maximum(p, 1e-15)))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        if math.isinf(self.most):
            return rng.chisquare(self.df, n) / self.df
        return self.most * rng.beta(*self._shapes, n)


@dataclass(frozen=True)
class ChiLaw(Law):
    """``scale`` times a chi variable of ``df`` degrees of freedom times sqrt(F), F a factor of mean 1.

    The norm of an isotropic Gaussian vector of ``df`` entries whose common variance itself fluctuates:
    like a chi-square over its m = ``mixing_df`` degrees of freedom, or as a Beta variable where it is bounded. With
    ``mixing_df`` infinite the law is plain chi.

    Attributes
    ----------
    scale
        Standard deviation of one entry, in the quantity's unit.
    df
        Positive, not necessarily whole.
    mixing_df
        m > 0, of 2/m the variance of the factor; infinite where the variance is fixed.
    most
        Largest value of the factor; infinite for a chi-square.

    Examples
    --------
    >>> law = ChiLaw(scale=1.0, df=1e12)
    >>> f"{1e6 - law.mean:.2g}", round(law.std, 4)
    ('2.5e-07', 0.7071)
    """

    scale: float
    df: float
    mixing_df: float = math.inf
    most: float = math.inf

    @property
    def _factor(self) -> VarianceFactor | None:
        return None if math.isinf(self.mixing_df) else VarianceFactor(self.mixing_df, self.most)

    @property
    def mean(self) -> float:
        """The mean."""
        mixing = 1.0 if self._factor is None else self._factor.root_moments[0]
        return self.scale * chi_mean(self.df) * mixing

    @property
    def std(self) -> float:
        """The standard deviation, without cancellation: v_df + mean_df^2 Var sqrt(F) for the unit scale."""
        mixing = 0.0 if self._factor is None else self._factor.root_moments[1]
        return self.scale * math.sqrt(chi_variance(self.df) + chi_mean(self.df) ** 2 * mixing)

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)); with a factor by quadrature over the narrower of the two variables."""
        if x <= 0.0:
            return 0.0, 1.0
        square = (x / self.scale) ** 2
        if self._factor is None:
            return chi_square_tails(square, self.df)
        if self.df > self.mixing_df:
            nodes, weights = chi_nodes(self.df, 40 if math.isinf(self.most) else 160)  # its tails bend at its end
            tails = self._factor.tails(square / nodes**2)
        else:
            nodes, weights = self._factor.nodes
            tails = chi_square_tails_array(square / nodes, self.df)
        low, high = tails @ weights
        return float(low), float(high)

    def quantile(self, p: float) -> float:
        """Return the ``p`` quantile."""
        if math.isinf(self.mixing_df):
            return self.scale * math.sqrt(chi_square_quantile(p, self.df))
        return super().quantile(p)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        draws = self.scale * np.sqrt(rng.chisquare(self.df, n))
        return draws if self._factor is None else draws * np.sqrt(self._factor.sample(rng, n))


@dataclass(frozen=True)
class SquaredLaw(Law):
    """``factor`` times the square of a chi-type variable: norms squared, KL, effective-dimension ratios.

    Attributes
    ----------
    root
        The law of the variable.
    factor
        Positive; unit of the quantity over the root's unit squared.
    """

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


def gamma_law(mean: float, std: float) -> SquaredLaw:
    """Return the gamma variable of a mean and a standard deviation, both positive: a quadratic form of Gaussians.

    Examples
    --------
    >>> law = gamma_law(2.0, 0.5)
    >>> law.mean, round(law.std, 12)
    (2.0, 0.5)
    """
    df = 2 * (mean / std) ** 2
    return SquaredLaw(ChiLaw(1.0, df), mean / df)


def noisy_pvalue(law: Law, x: float, stderr: float) -> float:
    """Return the two-sided p-value of an observation with an independent Gaussian error.

    `stderr`: standard error of the observation, in its unit; 0 for none.

    Examples
    --------
    >>> round(noisy_pvalue(PointLaw(1.0), 1.2, stderr=0.1), 4)
    0.0455
    """
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
