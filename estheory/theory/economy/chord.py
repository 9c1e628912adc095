"""The rise over the chord between two solutions, of displacements that have a walk and a coherent part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.laws import Law, PointLaw, gamma_law

OURS = ours("es-and-grpo")


@dataclass(frozen=True, kw_only=True)
class Displaced:
    """How far a run is from the base where the reward is curved.

    Attributes
    ----------
    walk
        Variance of its walk along one curved direction, weight^2: less than in a flat one, because the run learns.
    along
        Its coherent displacement along the gradient at the start, weight units.
    """

    walk: float = 0.0
    along: float = 0.0


def pulled_walk(walk: Array, mobility: Array, curvature: float) -> float:
    """Return the variance of a walk along a direction of some curvature: sum_t q_t prod_(s > t) (1 - m_s lam)^2.

    An update moves by m_t times the gradient, which in a direction of curvature lam is -lam times what is behind.

    Parameters
    ----------
    walk
        q_t, variance of one flat coordinate of each update, weight^2, shape (T,).
    mobility
        m_t = a_t / ||g_t||, expected motion of each update over its gradient, weight^2 / reward, shape (T,).
    curvature
        lam >= 0, reward / weight^2.

    Returns
    -------
    float
        weight^2; that of a flat direction where nothing is learned. A step that would overshoot stops at the optimum.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md.

    Examples
    --------
    >>> pulled_walk(np.array([1.0, 1.0]), np.array([0.1, 0.1]), 5.0)
    1.25
    """
    kept = np.clip(1 - mobility * curvature, 0.0, 1.0)
    later = np.append(np.cumprod(kept[:0:-1])[::-1], 1.0)
    return float(walk @ later**2)


def chord_rise(first: Displaced, second: Displaced, *, trace: float, curvature: float) -> Law:
    """Return the law of the rise over the chord half-way between two independent runs from one base.

    D' Lam D / 8 = [(v_1 + v_2) tr Lam + lam (b_1 - b_2)^2] / 8: the walks add up, and of the coherent parts what both
    runs have learned drops out.

    Parameters
    ----------
    first, second
        The two ends of the line; the base is ``Displaced()``.
    trace
        tr Lam of minus the reward's Hessian, reward / weight^2.
    curvature
        lam of its curved directions, reward / weight^2; 0 to ``trace``.

    Returns
    -------
    Law
        Reward units, never negative: the gamma variable of that mean and of the variance
        [2 v^2 lam tr Lam + 4 v lam^2 (b_1 - b_2)^2] / 64, v = v_1 + v_2.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md. Reward quadratic, its curved directions of one
    curvature.

    Examples
    --------
    >>> run = Displaced(walk=0.01, along=0.4)
    >>> [round(chord_rise(run, other, trace=40.0, curvature=8.0).mean, 3) for other in (run, Displaced())]
    [0.1, 0.21]
    """
    walk, apart = first.walk + second.walk, (first.along - second.along) ** 2
    mean = (walk * trace + apart * curvature) / 8
    variance = (2 * walk**2 * curvature * trace + 4 * walk * curvature**2 * apart) / 64
    if variance == 0:
        return PointLaw(mean)
    return gamma_law(mean, math.sqrt(variance))
