"""Special functions that stay accurate at 1e12 degrees of freedom and need no scipy for large arguments.

scipy.special takes over below ``_TEMME_MIN`` degrees of freedom, where it is accurate, and is imported only then:
a cold ``estheory predict`` at the dimension of a language model never pays for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STANDARD_NORMAL = NormalDist()
_TEMME_MIN = 20_000.0
"""Degrees of freedom from which Temme's expansion (two terms: error below 1e-12) replaces scipy."""


def gamma_half_ratio(x: float) -> float:
    """Return Gamma(x + 1/2) / Gamma(x), to about 1e-15 relative.

    Upward recursion to x >= 30 and the asymptotic series there. A difference of log-gammas would lose 2e-4 at 1e12.
    """
    factor = 1.0
    while x < 30.0:
        factor *= x / (x + 0.5)
        x += 1.0
    return factor * math.sqrt(x) * (1 + _half_ratio_excess(x))


def _half_ratio_excess(x: float) -> float:
    """Return Gamma(x + 1/2) / (Gamma(x) sqrt(x)) - 1 for x >= 30."""
    u = 1.0 / x
    return u * (
        -1 / 8
        + u
        * (
            1 / 128
            + u * (5 / 1024 + u * (-21 / 32768 + u * (-399 / 262144 + u * (869 / 4194304 + u * 39325 / 33554432))))
        )
    )


def log_root_loss(x: float) -> float:
    """Return log(Gamma(x + 1/2) / (Gamma(x) sqrt(x))), without cancellation at large ``x``."""
    if x < 30.0:
        return math.log(gamma_half_ratio(x) / math.sqrt(x))
    return math.log1p(_half_ratio_excess(x))


def chi_mean(df: float) -> float:
    """Return the mean of a chi variable, sqrt(2) Gamma((df+1)/2) / Gamma(df/2)."""
    return math.sqrt(2.0) * gamma_half_ratio(df / 2.0)


def chi_variance(df: float) -> float:
    """Return the variance of a chi variable, df - chi_mean(df)^2, without its cancellation at large ``df``."""
    if df < 100.0:
        return df - chi_mean(df) ** 2
    u = 1.0 / df
    return 0.5 + u * (-1 / 8 + u * (-1 / 16 + u * (5 / 128 + u * (23 / 256 + u * (-53 / 1024 - u * 593 / 2048)))))


def normal_cdf(z: float) -> float:
    """Return the standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def normal_tails(z: Array) -> Array:
    """Return both standard normal tails."""
    from scipy.special import ndtr

    return np.stack([ndtr(z), ndtr(-z)])


def normal_quantile(p: float) -> float:
    """Return the standard normal quantile; infinite at the ends, a ``ValueError`` beyond them."""
    if p in (0.0, 1.0):
        return math.inf if p else -math.inf
    return _STANDARD_NORMAL.inv_cdf(p)


def _log1p_excess(mu: float) -> float:
    """Return mu - log(1 + mu) >= 0 without cancellation near mu = 0."""
    if abs(mu) > 0.05:
        return mu - math.log1p(mu)
    total, power = 0.0, mu * mu
    for k in range(2, 14):
        total += power / k if k % 2 == 0 else -power / k
        power *= mu
    return total


_FAR = 1e30  # beyond it Q underflows, and the cubes of its expansion overflow


def _temme(x: float, a: float) -> tuple[float, float]:
    """Return (P, Q) of the regularised incomplete gamma function by Temme's uniform expansion, for a >= 1e4."""
    mu = x / a - 1.0
    if mu <= -1.0:
        return 0.0, 1.0
    if mu > _FAR:
        return 1.0, 0.0
    eta = math.copysign(math.sqrt(2.0 * _log1p_excess(mu)), mu)
    if abs(eta) < 0.1:
        c0 = -1 / 3 + eta * (1 / 12 + eta * (-2 / 135 + eta * (1 / 864 + eta * (1 / 2835 + eta * (-139 / 777600)))))
        c1 = -1 / 540 + eta * (-1 / 288 + eta * (25 / 12096 - eta * 223 / 1088640))
    else:
        c0 = 1 / mu - 1 / eta
        c1 = 1 / eta**3 - 1 / mu**3 - 1 / mu**2 - 1 / (12 * mu)
    rest = math.exp(-0.5 * a * eta * eta) / math.sqrt(2 * math.pi * a) * (c0 + c1 / a)
    argument = eta * math.sqrt(a / 2)
    return 0.5 * math.erfc(-argument) - rest, 0.5 * math.erfc(argument) + rest


def chi_square_tails(x: float, df: float) -> tuple[float, float]:
    """Return both tails of a chi-square variable X."""
    if x <= 0.0:
        return 0.0, 1.0
    if df >= _TEMME_MIN:
        return _temme(x / 2.0, df / 2.0)
    from scipy.special import gammainc, gammaincc

    return float(gammainc(df / 2, x / 2)), float(gammaincc(df / 2, x / 2))


def chi_square_tails_array(x: Array, df: float) -> Array:
    """Return :func:`chi_square_tails` of an array.

    Result: shape (2, *x.shape). P(X <= x) and P(X > x).
    """
    if df >= _TEMME_MIN:
        return np.array([chi_square_tails(value, df) for value in x.ravel()]).T.reshape(2, *x.shape)
    if df == 2.0:
        return np.stack([-np.expm1(-x / 2), np.exp(-x / 2)])
    from scipy.special import erf, erfc, gammainc, gammaincc

    if df == 1.0:  # ten times as fast as the incomplete gamma function
        return np.stack([erf(np.sqrt(x / 2)), erfc(np.sqrt(x / 2))])
    return np.stack([gammainc(df / 2, x / 2), gammaincc(df / 2, x / 2)])


def chi_square_quantile(p: float, df: float) -> float:
    """Return a quantile of a chi-square variable.

    `p`: probability; outside (0, 1) the end of the range.
    """
    if p <= 0.0:
        return 0.0
    return chi_square_at_score(normal_quantile(p), df) if p < 1.0 else math.inf


def chi_square_at_score(score: float, df: float) -> float:
    """Return the chi-square quantile at the probability Phi(``score``), accurate in both tails."""
    if df < _TEMME_MIN:
        from scipy.special import gammainccinv, gammaincinv

        if score < 0:
            return 2.0 * float(gammaincinv(df / 2, normal_cdf(score)))
        return 2.0 * float(gammainccinv(df / 2, normal_cdf(-score)))
    spread = math.sqrt(2.0 * df)
    x = df + spread * score
    for _ in range(12):  # the probit of the distribution function is nearly linear: each pass gains two digits
        low, high = chi_square_tails(x, df)
        reached = normal_quantile(low) if low < 0.5 else -normal_quantile(high)
        step = spread * (score - reached)
        x += step
        if abs(step) <= 1e-15 * x:
            break
    return x


@lru_cache(maxsize=8)
def normal_nodes(n: int = 40) -> tuple[Array, Array]:
    """Return nodes and weights of Gauss quadrature for the expectation over a standard normal."""
    from numpy.polynomial.hermite_e import hermegauss

    nodes, weights = hermegauss(n)
    return nodes, weights / math.sqrt(2 * math.pi)


@lru_cache(maxsize=8)
def legendre_nodes(n: int = 120) -> tuple[Array, Array]:
    """Return nodes and weights of Gauss-Legendre quadrature on [-1, 1]."""
    from numpy.polynomial.legendre import leggauss

    nodes, weights = leggauss(n)
    return nodes, weights


_FEW_DEGREES = 30.0
_LEAST_DEGREES = 0.5


@lru_cache(maxsize=64)
def chi_nodes(df: float, n: int = 40) -> tuple[Array, Array]:
    """Return nodes and weights, which sum to 1, for the expectation over a chi variable.

    Of few degrees of freedom at least 64, of Gauss-Legendre in the square root, which takes a power at 0 out; else the
    ``n`` quantiles at the nodes of a standard normal, whose map onto a chi variable of few degrees is far from linear.
    """
    if not _LEAST_DEGREES <= df < _FEW_DEGREES:
        nodes, weights = normal_nodes(n)
        return np.array([math.sqrt(chi_square_at_score(z, df)) for z in nodes]), weights
    peak = math.sqrt(max(df - 1, 0.0))
    low, high = math.sqrt(max(peak - 9, 0.0)), math.sqrt(peak + 9)
    unit, weights = legendre_nodes(max(n, 64))
    root = 0.5 * (low + high) + 0.5 * (high - low) * unit
    log = (2 * df - 1) * np.log(root) - 0.5 * root**4
    weights = weights * np.exp(log - log.max())
    return root**2, weights / weights.sum()


def invert_increasing(function: Callable[[float], float], target: float, start: float, spread: float) -> float:
    """Solve ``function(x) == target`` for an increasing function, whose first bracket is ``start`` +- ``spread``."""
    low, high = start - spread, start + spread
    for _ in range(200):
        if function(low) <= target:
            break
        low -= high - low
    for _ in range(200):
        if function(high) >= target:
            break
        high += high - low
    if function(high) <= target:  # what no bracket reaches, and a level that is met at the end itself
        return high
    return _bracketed_root(lambda x: function(x) - target, low, high, 1e-13 * spread)


def _bracketed_root(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Return where a function changes its sign between two points (Chandrupatla 1997).

    Inverse quadratic interpolation where it is safe, else halves. A cold start has no time for ``scipy.optimize``.
    """
    (a, fa), (b, fb), part = (high, function(high)), (low, function(low)), 0.5
    for _ in range(200):
        x = a + part * (b - a)
        fx = function(x)
        if (fx > 0) == (fa > 0):
            c, fc = a, fa
        else:
            c, fc, b, fb = b, fb, a, fa
        a, fa = x, fx
        best, least = (b, abs(fb)) if abs(fb) < abs(fa) else (a, abs(fa))
        margin = (tolerance + 1e-15 * abs(best)) / abs(b - c)
        if margin > 0.5 or least == 0:
            return best
        place, level = (a - b) / (c - b), (fa - fb) / (fc - fb)
        part = 0.5
        if level**2 < place and (1 - level) ** 2 < 1 - place:
            part = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        part = min(1 - margin, max(margin, part))
    return a
