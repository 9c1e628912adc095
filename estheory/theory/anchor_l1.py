"""The constant pull of an L1 anchor: the law of flat directions, and a closure of the moments of curved ones.

Flat directions (docs/concepts/walk.md) are Brownian motion with a constant pull, corrected for steps of finite size.
On curved ground (docs/concepts/dynamics.md) the pull kappa sign(D) on the displacement D from the start does not
close the moments. D is taken as Gaussian with its mean and variance, except that E|D| falls from the Gaussian
sqrt(2/pi) standard deviations to the Laplace law's 1/sqrt(2) as the pull comes to balance the noise
(:func:`_flattening`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from estheory._special import Array, legendre_nodes, normal_cdf
from estheory.errors import ConfigError

CLOSURE_ERROR = 0.03
"""Declared relative error of a mean square by this closure: within 1.4 % of the law of flat
directions at pulls up to .03; 1.25 % off on curved ground (3,000 runs)."""
STRONG_PULL = 0.25
"""Pull, in standard deviations of a step, beyond which the density is followed instead of Brownian motion."""
SMALLEST_SQUARE = 1e-12
"""Of a flat coordinate over one step's noise: below it the anchor undoes every step."""
_SPACING = 0.04
_NUDGE = 1e-3
_DROP = 1 - math.sqrt(math.pi) / 2
_ZETA = 0.20788622497735457
"""-zeta(-1/2): a sum of square roots up to n is its integral, plus half the last term, minus this."""


@dataclass(frozen=True, kw_only=True)
class FlatLaw:
    """A flat coordinate after some steps, in units of the standard deviation of one step's noise.

    Attributes
    ----------
    second, kurtosis
        E x^2 and E x^4 / (E x^2)^2.
    error
        Declared relative half-width of ``second``.
    moved
        Chance that it is not back at 0: below 1 in the ``after`` form alone.
    """

    second: float
    kurtosis: float
    error: float
    moved: float = 1.0


def brownian_moments(scaled_time: float) -> tuple[float, float, float, float]:
    """Return E|x|^p / t^(p/2), p = 1..4, of Brownian motion with a constant pull toward 0.

    |x| is Brownian motion reflected at 0 with drift: P(|x| > u sqrt(t)) = Phi(-u-s) + exp(-2su) Phi(s-u).

    Parameters
    ----------
    scaled_time
        s = kappa sqrt(N T) / alpha: the pull over the noise of the whole time.

    Returns
    -------
    tuple of float
        The four moments, in units of the noise's standard deviation.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md.
    """
    s = scaled_time
    nodes, weights = legendre_nodes()
    top = min(12.0, 40.0 / s if s > 0 else 12.0)
    u = 0.5 * top * (nodes + 1)
    survival = np.array([normal_cdf(-x - s) + math.exp(-2 * s * x) * normal_cdf(s - x) for x in u])
    first, second, third, fourth = (
        float(np.sum(0.5 * top * weights * p * u ** (p - 1) * survival)) for p in (1, 2, 3, 4)
    )
    return first, second, third, fourth


def flat_law(pull: float, steps: int, form: str) -> FlatLaw:
    """Return the law of a flat coordinate after T steps of unit noise and a constant pull toward 0.

    Brownian motion whose last pull came half a pull too late (``before``: there is a step without pull after it) or
    too early (``after``), which adds or takes k/2 of |x|, and 2 k sqrt(2/pi) (-zeta(-1/2)) more of x^2 for the sum
    of E|x_t| over whole steps. The declared error is 0.2 k / sqrt(T) + k^3/100 of the noise's variance, in the
    ``after`` form, which stops at 0, k^2/3 more; that of the kurtosis is 0.15 (k/T + k^2) to pulls of 0.3.

    Parameters
    ----------
    pull
        k = kappa sqrt(N) / alpha, in standard deviations of one step's noise.
    steps
        T.
    form
        ``before`` or ``after``: is the new step pulled too (after)?

    Returns
    -------
    FlatLaw
        In units of one step's noise.

    Notes
    -----
    Label: small-step; exact at one step, and beyond ``STRONG_PULL``, where the density is followed step by step until
    it stays. Source: ours: docs/concepts/walk.md.
    """
    if steps == 1:
        return _first_step(pull, form)
    if pull > STRONG_PULL:
        return _iterated(pull, steps, form)
    root = math.sqrt(steps)
    first, second, third, fourth = (m * root**p for p, m in enumerate(brownian_moments(pull * root), start=1))
    late = 0.5 * pull if form == "before" else -0.5 * pull
    square = second + 2 * late * first + late**2
    to_fourth = fourth + 4 * late * third + 6 * late**2 * second + 4 * late**3 * first + late**4
    error = 0.2 * pull / root + pull**3 / 100 + (pull**2 / 3 if form == "after" else 0.0)
    corrected = square + 2 * pull * math.sqrt(2 / math.pi) * _ZETA
    return FlatLaw(second=corrected, kurtosis=to_fourth / square**2, error=error / corrected)


def response_to_length(pull: float, steps: int, form: str) -> float:
    """Return by which power of the variance of a step the variance of a flat coordinate grows: 1 without a pull.

    f(k) the mean square of :func:`flat_law`, it is 1 - 1/2 d log f / d log k: longer steps are pulled by fewer of their
    standard deviations, so what makes steps of a run long together makes the run longer still.

    Parameters
    ----------
    pull, steps, form
        As of :func:`flat_law`.

    Returns
    -------
    float
        At least 1.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/walk.md.

    Examples
    --------
    >>> round(response_to_length(0.05, 100, "before"), 2)
    1.27
    """
    high, low = (flat_law(pull * factor, steps, form).second for factor in (1 + _NUDGE, 1 - _NUDGE))
    return 1 - 0.25 * math.log(high / low) / _NUDGE


@lru_cache(maxsize=64)
def _iterated(pull: float, steps: int, form: str) -> FlatLaw:
    """Return the law by the density of every step, on half a line: it is even. Exact to 1e-6.

    Composite Simpson's rule from 0, where the pull changes sign. The ``after`` form has an atom at 0.
    """
    reach = 9.0 + 12.5 / pull  # the settled law falls off as exp(-2 pull x)
    count = 2 * int(reach / _SPACING / 2) + 1
    x = np.linspace(0.0, reach, count)
    weight = np.full(count, 2.0)
    weight[1::2] = 4.0
    weight[[0, -1]] = 1.0
    weight *= (x[1] - x[0]) / 3

    def normal(z: Array) -> Array:
        return np.asarray(np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))

    pulled = x - pull if form == "before" else x
    place = x if form == "before" else x + pull
    kernel = (normal(place[:, None] - pulled[None, :]) + normal(place[:, None] + pulled[None, :])) * weight
    from_atom = normal(place)
    density, atom = np.zeros(count), 1.0
    settled = 0.0
    for _ in range(steps):
        density = kernel @ density + atom * from_atom
        atom = 0.0 if form == "before" else max(1 - 2 * float(weight @ density), 0.0)
        second = 2 * float((weight * x**2) @ density)
        if abs(second - settled) < 1e-12 * second:
            break
        settled = second
    if second < SMALLEST_SQUARE:
        raise ConfigError(
            f"an L1 pull of {pull:.3g} standard deviations of a step undoes every step", "lower --anchor-l1"
        )
    fourth = 2 * float((weight * x**4) @ density)
    return FlatLaw(second=second, kurtosis=fourth / second**2, error=0.0, moved=1 - atom)


def _first_step(pull: float, form: str) -> FlatLaw:
    """Return the law of a normal variable, which the ``after`` form pulls at once. Exact."""
    if form == "before":
        return FlatLaw(second=1.0, kurtosis=3.0, error=0.0)
    nodes, weights = legendre_nodes()
    x = 6.0 * (nodes + 1)  # the distance beyond the pull
    density = 12.0 * weights * np.exp(-0.5 * (x + pull) ** 2) / math.sqrt(2 * math.pi)
    second, fourth = float(density @ x**2), float(density @ x**4)
    if second < SMALLEST_SQUARE:
        raise ConfigError(
            f"an L1 pull of {pull:.3g} standard deviations of a step undoes every step", "lower --anchor-l1"
        )
    return FlatLaw(second=second, kurtosis=fourth / second**2, error=0.0, moved=2 * normal_cdf(-pull))


def _flattening(variance: Array, noise: Array, pull: float) -> Array:
    """Return E|D| over sqrt(2 Var D / pi), shape (m,), as a function of h = pull std / noise per step.

    1 at h = 0 and sqrt(pi)/2 at h = 1/sqrt(2), where a flat direction has settled into its Laplace law. Between them
    two exact curves differ by at most 0.8 %: that of a walk on its way there, and that of a settled direction of any
    curvature, exp(-A x^2 - B |x|). The parabola runs between the two.
    """
    h = np.minimum(math.sqrt(2) * pull * np.sqrt(variance) / noise, 1.0)
    return np.asarray(1 - _DROP * h * (0.55 + 0.45 * h))


def _parts(mean: Array, std: Array) -> tuple[Array, Array]:
    """Return 2 Phi(mean/std) - 1 and std times the standard normal density at mean/std; limits where std is 0."""
    from scipy.special import erf

    ratio = np.clip(mean / np.where(std > 0, std, 1e-300), -1e3, 1e3)
    density = std * np.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    return np.asarray(erf(ratio / math.sqrt(2))), density


def pulled_before(
    mean: Array, variance: Array, start: Array, *, pull: float, contraction: Array, noise: Array
) -> tuple[Array, Array]:
    """Return mean and variance after a step whose pull is that of the place where it starts.

    Parameters
    ----------
    mean, variance
        Of the distance from the optimum before the step, shapes (m,), weight and weight^2.
    start
        That distance at the start of the run, where the anchor is, shape (m,), weight units.
    pull
        kappa, weight units.
    contraction
        1 - a lam, shape (m,).
    noise
        Variance that the step adds, shape (m,), weight^2.

    Returns
    -------
    mean : ndarray
        Shape (m,). After the step, weight units.
    variance : ndarray
        Shape (m,). After the step, weight^2.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md. A closure: the distance as Gaussian but for the mean of
    its size; off by at most ``CLOSURE_ERROR`` of a mean square.
    """
    sign, density = _parts(mean - start, np.sqrt(variance))
    density = density * _flattening(variance, noise, pull)
    scatter = np.where(variance > 0, 1.0 - sign**2, 0.0)
    after = contraction**2 * variance - 4 * pull * contraction * density + pull**2 * scatter
    return contraction * mean - pull * sign, np.maximum(after, 0.0) + noise


def pulled_after(
    mean: Array, variance: Array, start: Array, *, pull: float, contraction: Array, noise: Array
) -> tuple[Array, Array]:
    """Return mean and variance where the step comes first and the pull, which stops at the start, after it.

    Parameters and result as of :func:`pulled_before`.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md. The same closure.
    """
    shift, before = contraction * mean - start, contraction**2 * variance + noise
    first, second = soft_threshold(shift, before, pull)
    density = _parts(shift, np.sqrt(before))[1] * (1 - _flattening(variance, noise, pull))
    return start + first, np.maximum(second + 4 * pull * density - first**2, 0.0)


def soft_threshold(mean: Array, variance: Array, pull: float) -> tuple[Array, Array]:
    """Return E Y and E Y^2 of Y = sign(X) max(|X| - pull, 0) for a normal X.

    Parameters
    ----------
    mean, variance
        Of X, shapes (m,).
    pull
        What is taken off its size, in the unit of X.

    Returns
    -------
    first : ndarray
        Shape (m,). E Y.
    second : ndarray
        Shape (m,). E Y^2.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/dynamics.md.
    """
    std = np.sqrt(variance)
    first, second = np.zeros_like(mean), np.zeros_like(mean)
    for side in (1.0, -1.0):
        shifted = side * mean - pull
        sign, density = _parts(shifted, std)
        beyond = 0.5 * (1.0 + sign)
        first = first + side * (shifted * beyond + density)
        second = second + (shifted**2 + variance) * beyond + shifted * density
    return first, second
