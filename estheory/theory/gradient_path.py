"""How far AdamW goes where gradients keep a common part: by gradients probed along the way, before the run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.theory.adamw import coherent_rates, walk_factor

POINTS = 4
"""Points of a probed way: the start, the end and two between."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Displaced:
    """Of a displacement, per coordinate: weight of each point's mean, mean square and make-up of its noise."""

    common: Array
    noise: float
    of_noise: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientPath:
    """What minibatch gradients have in common at some points of the way that their mean leads.

    Attributes
    ----------
    dim
        Number of trained parameters d.
    times : ndarray, shape (P,)
        Optimiser steps at which the points are expected, from 0 on.
    shared : ndarray, shape (P, P)
        C: mean over coordinates of the product of the mean gradients of two points, each over AdamW's root mean square
        there; on the diagonal kappa, by independent minibatches.
    squares : ndarray, shape (P,)
        D: mean over coordinates of the square of one minibatch's gradient, over the same.
    along : ndarray, shape (P,)
        Product of those mean gradients with the direction of the mean gradient at the start, no unit.
    error
        Standard error of an entry of C off its diagonal; one on it, of half as many minibatches either side, has twice.

    Raises
    ------
    ConfigError
        If the shapes do not fit, times do not rise from 0, or a number is not finite.

    Notes
    -----
    Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md. Between points C, D and the product are linear in
    time; gradients have a common part and dense, independent noise.

    Examples
    --------
    >>> still = GradientPath(
    ...     dim=100, times=np.zeros(1), shared=np.full((1, 1), 0.25), squares=np.ones(1), along=np.full(1, 4.0)
    ... )
    >>> round(still.mean_square(np.full(400, 0.01), 400) ** 0.5, 1)  # all but straight
    20.0
    """

    dim: int
    times: Array
    shared: Array
    squares: Array
    along: Array
    error: float = 0.0

    def __post_init__(self) -> None:
        """Check shapes and numbers."""
        count = self.times.size
        shapes = ((self.shared, (count, count)), (self.squares, (count,)), (self.along, (count,)))
        if not count or any(array.shape != shape for array, shape in shapes):
            raise ConfigError("the points of a gradient path have tables of different sizes", "give one row a point")
        if self.times[0] != 0 or (np.diff(self.times) <= 0).any():
            raise ConfigError(f"the times {self.times.tolist()} of a gradient path do not rise from 0", "sort them")
        if not all(np.isfinite(array).all() for array, _ in shapes):
            raise ConfigError("a gradient path holds numbers that are not finite", "probe with another lr or seed")

    @property
    def kappa(self) -> float:
        """The share of a minibatch gradient's square that minibatches have in common at the start."""
        return float(self.shared[0, 0])

    def at(self, steps: int) -> Array:
        """Return the weight of each point at each step: linear between the two next to it.

        Parameters
        ----------
        steps
            T.

        Returns
        -------
        ndarray
            Shape (P, T).

        Notes
        -----
        No label: a declared choice.
        """
        return np.array([np.interp(np.arange(steps), self.times, row) for row in np.eye(self.times.size)])

    def covariance(self, rates: Array, first: int, second: int) -> float:
        """Return E[Delta_a . Delta_b] of the displacements after two steps.

        Parameters
        ----------
        rates
            Learning rate of each step, weight units, shape (T,); of any schedule.
        first, second
            The steps, the earlier one first.

        Returns
        -------
        float
            weight^2.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md: d [sum_st w_s w_t C(s, t) +
        k sum_t lr_t^2 (D(t) - C(t, t))] at one step, w as of :func:`estheory.theory.adamw.coherent_rates`; between two
        the second sum is that of both, as far as their noise is the same.
        """
        early, late = self._displaced(rates[:first]), self._displaced(rates[:second])
        common = float(early.common @ self.shared @ late.common)
        overlap = float(early.of_noise @ late.of_noise[:first])
        scale = math.sqrt(float(early.of_noise @ early.of_noise) * float(late.of_noise @ late.of_noise))
        noise = math.sqrt(early.noise * late.noise) * overlap / scale if scale else 0.0
        return self.dim * (common + noise)

    def _displaced(self, rates: Array) -> _Displaced:
        at = self.at(rates.size)
        share = np.maximum(self.squares @ at - np.einsum("pt,pq,qt->t", at, self.shared, at), 0.0)
        return _Displaced(
            common=at @ coherent_rates(rates),
            noise=walk_factor(rates) * float(rates**2 @ share),
            of_noise=coherent_rates(rates) * np.sqrt(share),
        )

    def mean_square(self, rates: Array, step: int) -> float:
        """Return E||Delta||^2 after a step.

        Parameters
        ----------
        rates, step
            As for :meth:`covariance`.

        Returns
        -------
        float
            weight^2, never negative.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md.
        """
        return max(self.covariance(rates, step, step), 0.0)

    def mean_square_error(self, rates: Array, step: int) -> float:
        """Return the standard error of :meth:`mean_square` by that of the minibatches.

        Parameters
        ----------
        rates, step
            As for :meth:`covariance`.

        Returns
        -------
        float
            weight^2; entries of C are taken as independent.

        Notes
        -----
        Label: large-N, in the number of minibatches. Source: ours: docs/concepts/es-and-grpo.md.
        """
        weight = self._displaced(rates[:step]).common
        squares = np.outer(weight**2, weight**2)  # each pair of points twice in the sum, an entry of its diagonal once
        return self.dim * self.error * math.sqrt(2 * float(squares.sum()) + 2 * float(np.trace(squares)))

    def checkpoint_cosine(self, rates: Array, first: int, second: int) -> float:
        """Return the cosine of the displacements after two steps.

        Parameters
        ----------
        rates, first, second
            As for :meth:`covariance`.

        Returns
        -------
        float
            At most 1.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md.
        """
        scale = math.sqrt(self.mean_square(rates, first) * self.mean_square(rates, second))
        return min(self.covariance(rates, first, second) / scale, 1.0)

    def gradient_cosine(self, rates: Array, step: int) -> float:
        """Return the cosine of the displacement with the mean gradient at the start.

        Parameters
        ----------
        rates, step
            As for :meth:`covariance`.

        Returns
        -------
        float
            Positive where the run follows it.

        Notes
        -----
        Label: mean-field. Source: ours: docs/concepts/es-and-grpo.md.
        """
        moved = float(self.along @ self.at(step) @ coherent_rates(rates[:step]))
        return moved / math.sqrt(self.mean_square(rates, step))

    def thinned(self) -> GradientPath:
        """Return the path by every second point, the first and the last among them: what the number of points changes.

        Returns
        -------
        GradientPath
            The same where there are no more than two points.

        Notes
        -----
        No label: a declared choice.
        """
        count = self.times.size
        kept = sorted({*range(0, count, 2), count - 1}) if count > 2 else list(range(count))
        return GradientPath(
            dim=self.dim,
            times=self.times[kept],
            shared=self.shared[np.ix_(kept, kept)],
            squares=self.squares[kept],
            along=self.along[kept],
            error=self.error,
        )


def point_times(rates: Array, points: int) -> list[int]:
    """Return the steps at which a path is probed: at equal shares of the sum of the learning rates.

    Parameters
    ----------
    rates
        Learning rate of each step, shape (T,).
    points
        How many, at least 2, the start and the end among them; fewer where the steps are.

    Returns
    -------
    list of int
        Rising from 0 to T.

    Notes
    -----
    No label: a declared choice.

    Examples
    --------
    >>> point_times(1 - np.arange(100) / 100, 4)
    [0, 19, 43, 100]
    """
    behind = np.concatenate([[0.0], np.cumsum(rates)])
    wanted = behind[-1] * np.arange(points - 1) / (points - 1)
    return sorted({*(int(np.searchsorted(behind, part)) for part in wanted), len(rates)})
