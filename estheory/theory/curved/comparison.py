"""ES against gradient descent on one quadratic landscape (docs/concepts/es-and-grpo.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.landscape import Landscape
from estheory.laws import Law, PointLaw, gamma_law
from estheory.rules import ESConfig, require_count, require_nonnegative, require_positive
from estheory.theory.curved.dynamics import mean_field
from estheory.theory.curved.long_runs import state_after
from estheory.theory.curved.recursion import with_flat_row

OURS = ours("es-and-grpo")


@dataclass(frozen=True, kw_only=True, eq=False)
class EndPoint:
    """Where a method ends: moments of theta_k - theta*_k of one direction of each row, as Gaussian.

    Attributes
    ----------
    mean, variance
        Shapes (m,), weight and weight^2; the mean is positive on the side of the start.
    flat_variance
        Variance of one flat coordinate, weight^2.
    """

    mean: Array
    variance: Array
    flat_variance: float = 0.0

    def reward(self, landscape: Landscape) -> float:
        """Return E R - R*.

        Parameters
        ----------
        landscape
            The quadratic whose rows the end point is of.

        Returns
        -------
        float
            <= 0, reward units.
        """
        return -0.5 * float(landscape.multiplicity @ (landscape.eigenvalue * (self.mean**2 + self.variance)))

    def displacement_square(self, landscape: Landscape) -> float:
        """Return E||theta_T - theta_0||^2, flat directions included.

        Parameters
        ----------
        landscape
            The quadratic; its offsets are the start.

        Returns
        -------
        float
            weight^2.
        """
        curved = float(landscape.multiplicity @ ((self.mean - landscape.offset) ** 2 + self.variance))
        return curved + (landscape.dim - float(np.sum(landscape.multiplicity))) * self.flat_variance


def interpolation_curve(u: Array, *, start: float, end: float, curvature: float) -> Array:
    """Return R((1-u) theta_a + u theta_b): the chord plus 1/2 u (1-u) D' Lam D.

    Parameters
    ----------
    u
        Positions, shape (n,).
    start, end
        R(theta_a) and R(theta_b), reward units.
    curvature
        D' Lam D, D = theta_a - theta_b, reward units; flat directions do not enter.

    Returns
    -------
    ndarray
        Shape (n,). Reward at each position, reward units.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/es-and-grpo.md. Quadratic reward.

    Examples
    --------
    >>> [float(r) for r in interpolation_curve([0.0, 0.5, 1.0], start=0.0, end=1.0, curvature=0.8)]
    [0.0, 0.6, 1.0]
    """
    u = np.asarray(u, dtype=np.float64)
    return np.asarray((1 - u) * start + u * end + 0.5 * u * (1 - u) * curvature)


def interpolation_gain(landscape: Landscape, first: EndPoint, second: EndPoint) -> Law:
    """Return the law of the largest rise over the chord, D' Lam D / 8 at the middle, for independent end points.

    It is never negative: no barrier, whatever the curvatures. The law is the gamma variable of its exact mean and
    variance.

    Parameters
    ----------
    landscape
        The quadratic.
    first, second
        The two end points.

    Returns
    -------
    Law
        Reward units.

    Notes
    -----
    Label: exact, given the end points. Source: ours: docs/concepts/es-and-grpo.md. Quadratic reward.
    """
    count, lam = landscape.multiplicity, landscape.eigenvalue
    mean, variance = first.mean - second.mean, first.variance + second.variance
    gain = float(count @ (lam * (mean**2 + variance))) / 8
    spread = float(count @ (lam**2 * (2 * variance**2 + 4 * mean**2 * variance))) / 64
    if spread == 0:
        return PointLaw(gain)
    return gamma_law(gain, math.sqrt(spread))


def displacement_cosine(landscape: Landscape, first: EndPoint, second: EndPoint) -> float:
    """Return the cosine of two independent displacements from one start, E(D1.D2) / sqrt(E||D1||^2 E||D2||^2).

    Only the mean displacements of curved directions overlap; what each method walks at random only dilutes them.

    Parameters
    ----------
    landscape
        The quadratic; its offsets are the start.
    first, second
        Where the two runs end.

    Returns
    -------
    float
        0 where a method does not move.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md. Norms concentrate where many directions move.
    """
    overlap = (first.mean - landscape.offset) * (second.mean - landscape.offset)
    squares = first.displacement_square(landscape) * second.displacement_square(landscape)
    return float(landscape.multiplicity @ overlap) / math.sqrt(squares) if squares else 0.0


def es_end_point(config: ESConfig, landscape: Landscape, steps: int) -> EndPoint:
    """Return where ES is after ``steps`` steps.

    Flat directions, of the rows or outside, walk as the recursion says of a row without curvature: where the noise of a
    step follows S along the run (raw, two-point, antithetic) they follow it too.

    Parameters
    ----------
    config, landscape
        The run.
    steps
        T.

    Returns
    -------
    EndPoint
        Moments of each row's directions and of a flat one.

    Raises
    ------
    ConfigError
        If all members have the same reward.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/dynamics.md.
    """
    state = state_after(config, with_flat_row(landscape), steps)
    return EndPoint(mean=state.mean[:-1], variance=state.variance[:-1], flat_variance=float(state.variance[-1]))


def sgd_end_point(landscape: Landscape, *, lr: float, steps: int, noise: float = 0.0) -> EndPoint:
    """Return where SGD is after ``steps`` steps: curved directions contract by 1 - lr lam_k, flat ones never move.

    Gradient noise has the covariance ``noise`` Lam, as that of a likelihood near its optimum; its stationary variance
    lr noise / (2 - lr lam_k) is nearly the same in every curved direction.

    Parameters
    ----------
    landscape
        The quadratic.
    lr
        Learning rate, weight^2 / reward.
    steps
        T.
    noise
        Gradient noise covariance over Lam, reward units: its trace over tr Lam.

    Returns
    -------
    EndPoint
        Its flat variance is 0.

    Raises
    ------
    ConfigError
        If lr lam >= 2 in some direction, where SGD diverges.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/es-and-grpo.md.
    """
    require_positive("lr", lr)
    require_count("steps", steps, 0)
    require_nonnegative("gradient noise", noise)
    shrink = lr * landscape.eigenvalue
    if (worst := float(np.max(shrink))) >= 2:
        raise ConfigError(f"lr lam = {worst:.3g} >= 2: SGD diverges", f"use lr below {2 * lr / worst:.3g}")
    keep = (1 - shrink) ** (2 * steps)
    # lr^2 noise lam (1 - keep) / (1 - (1 - shrink)^2), the last being shrink (2 - shrink)
    variance = lr * noise * (1 - keep) / (2 - shrink)
    return EndPoint(mean=landscape.offset * (1 - shrink) ** steps, variance=np.where(shrink > 0, variance, 0.0))


@dataclass(frozen=True, kw_only=True)
class MatchedProgress:
    """ES and SGD at the same on-task reward, and what it cost off task.

    Attributes
    ----------
    reward
        The target E R - R*, reward units.
    es_steps, sgd_steps
        Steps at which each first reaches it.
    es_displacement_square, sgd_displacement_square
        E||theta_T - theta_0||^2, weight^2.
    es_share_flat
        Share of the first that lies in flat directions, which the task does not see.
    """

    reward: float
    es_steps: int
    sgd_steps: int
    es_displacement_square: float
    sgd_displacement_square: float
    es_share_flat: float

    @property
    def price_ratio(self) -> float:
        """Off-task cost of ES over that of SGD when off-task curvature is spread evenly over all directions."""
        return self.es_displacement_square / self.sgd_displacement_square

    def off_task_cost(self, curvature_per_direction: float) -> tuple[float, float]:
        """Return 1/2 f E||Delta||^2 for an off-task curvature f in every direction.

        Parameters
        ----------
        curvature_per_direction
            f = tr F / d, cost / weight^2.

        Returns
        -------
        es : float
            Cost of ES, in the unit of f times weight^2.
        sgd : float
            Cost of SGD.
        """
        half = 0.5 * curvature_per_direction
        return half * self.es_displacement_square, half * self.sgd_displacement_square


def matched_progress(
    config: ESConfig, landscape: Landscape, *, reward: float, lr: float, noise: float = 0.0, max_steps: int = 100_000
) -> MatchedProgress:
    """Return ES and SGD stopped at the same on-task reward.

    Parameters
    ----------
    config, landscape
        The ES run.
    reward
        Target E R - R* <= 0, reward units, above the start.
    lr, noise
        Of SGD, as in :func:`sgd_end_point`.
    max_steps
        Where to give up.

    Returns
    -------
    MatchedProgress
        Steps and mean square displacements of both.

    Raises
    ------
    ConfigError
        If one of them does not reach the target, saying how far it comes.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md.
    """
    if reward <= -landscape.gap:
        raise ConfigError(f"the target {reward:g} is no better than the start {-landscape.gap:g}", "raise the target")
    es_steps, horizon = None, min(1000, max_steps)
    while es_steps is None:
        curve = mean_field(config, landscape, horizon)
        es_steps = curve.time_to(reward)
        if horizon == max_steps or curve.diverged_at is not None:
            break
        horizon = min(10 * horizon, max_steps)
    if es_steps is None:
        best = float(np.max(curve.reward))
        raise ConfigError(f"ES reaches {best:.4g} at best, not {reward:g}", "lower alpha, or raise the population")

    def sgd(steps: int) -> float:
        return sgd_end_point(landscape, lr=lr, steps=steps, noise=noise).reward(landscape)

    sgd_steps = next((t for t in range(1, max_steps + 1) if sgd(t) >= reward), None)
    if sgd_steps is None:
        raise ConfigError(f"SGD reaches {sgd(max_steps):.4g} in {max_steps} steps, not {reward:g}", "change lr")
    es, gradient = (
        es_end_point(config, landscape, es_steps),
        sgd_end_point(landscape, lr=lr, steps=sgd_steps, noise=noise),
    )
    total = es.displacement_square(landscape)
    flat_rows = float(np.sum(landscape.multiplicity[landscape.eigenvalue == 0]))
    outside = landscape.dim - float(np.sum(landscape.multiplicity))
    return MatchedProgress(
        reward=reward,
        es_steps=es_steps,
        sgd_steps=sgd_steps,
        es_displacement_square=total,
        sgd_displacement_square=gradient.displacement_square(landscape),
        es_share_flat=(flat_rows + outside) * es.flat_variance / total,
    )
