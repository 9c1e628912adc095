"""Scores of a model on the lines around two solutions, and the probes made there: plain arrays, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estheory._special import Array
from estheory.quantities import Measurement, Quantity


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """Scores at points of the line.

    Attributes
    ----------
    fractions : ndarray, shape (points,)
        u, from 0 (the start) to 1 (the end).
    scores : ndarray, shape (points, P)
        Score of each prompt at each point; the prompts are the same at every point.
    """

    fractions: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean score at each point, shape (points,)."""
        return np.asarray(self.scores.mean(axis=1))

    @property
    def stderrs(self) -> NDArray[np.float64]:
        """Standard error of each mean, shape (points,)."""
        return _stderr(self.scores)

    @property
    def chord(self) -> NDArray[np.float64]:
        """The straight line between the mean scores of the two ends, shape (points,)."""
        return np.asarray((1 - self.fractions) * self.means[0] + self.fractions * self.means[-1])

    @property
    def rises(self) -> NDArray[np.float64]:
        """Mean score over the chord, shape (points,); 0 at the ends."""
        return self.means - self.chord

    @property
    def rise_stderrs(self) -> NDArray[np.float64]:
        """Standard errors of `rises`, from the rise of each prompt over its own chord, shape (points,)."""
        return _stderr(self._prompt_rises())

    @property
    def largest_rise(self) -> tuple[float, float, float]:
        """Largest rise over the chord between the ends, its standard error, and its fraction u.

        The best of several noisy points is high on average; :attr:`middle_rise` is not chosen after the fact.
        """
        best = 1 + int(np.argmax(self.rises[1:-1]))
        return float(self.rises[best]), float(self.rise_stderrs[best]), float(self.fractions[best])

    @property
    def middle_rise(self) -> tuple[float, float]:
        """Height at u = 1/2 of the parabola h 4 u (1-u) fitted to all rises, and its standard error."""
        heights = self.middle_heights
        return float(heights.mean()), float(_stderr(heights[None, :])[0])

    @property
    def middle_heights(self) -> NDArray[np.float64]:
        """The fitted height of each prompt, shape (P,): :attr:`middle_rise` is their mean."""
        shape = 4 * self.fractions * (1 - self.fractions)
        return np.asarray(shape @ self._prompt_rises() / (shape @ shape))

    def measurements(
        self, *, where: str = "", source: str = "", quantity: Quantity = Quantity.ACCURACY
    ) -> list[Measurement]:
        """Return the score at each point, then the largest rise over the chord.

        `where`: the line's name, before each point's u; "" for none.
        Result: one a point, with its standard error, and one of the rise.
        """
        prefix = f"{where}:" if where else ""
        rows = [
            Measurement(
                quantity=quantity,
                value=float(mean),
                stderr=float(stderr),
                where=f"{prefix}u={fraction:.3g}",
                source=source,
            )
            for fraction, mean, stderr in zip(self.fractions, self.means, self.stderrs, strict=True)
        ]
        rise, stderr, fraction = self.largest_rise
        gain = Measurement(
            quantity=Quantity.INTERPOLATION_GAIN,
            value=rise,
            stderr=stderr,
            where=f"{prefix}u={fraction:.3g}",
            source=source,
        )
        return [*rows, gain]

    def _prompt_rises(self) -> NDArray[np.float64]:
        u = self.fractions[:, None]
        return np.asarray(self.scores - (1 - u) * self.scores[0] - u * self.scores[-1])


@dataclass(frozen=True, kw_only=True)
class DirectionProbe:
    """Scores at distances r from a start along D directions of length 1.

    Attributes
    ----------
    labels
        Name of each direction, length D.
    radii : ndarray, shape (R,)
        Distances from the start (weight).
    scores : ndarray, shape (D, R, P)
        Score of each prompt; the prompts are the same everywhere.
    """

    labels: tuple[str, ...]
    radii: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean scores, shape (D, R)."""
        return np.asarray(self.scores.mean(axis=2))

    @property
    def stderrs(self) -> NDArray[np.float64]:
        """Standard errors of the means over prompts, shape (D, R)."""
        return np.asarray(self.scores.std(axis=2, ddof=1) / np.sqrt(self.scores.shape[2]))


@dataclass(frozen=True, kw_only=True)
class CurvatureSamples:
    """u' Lam u of a reward along K random directions u at one point, forward-only.

    Attributes
    ----------
    radius
        Distance to both sides of the point (weight).
    values : ndarray, shape (K, P)
        -(R(+) + R(-) - 2 R(0)) / radius^2 of each prompt (reward / weight^2); on a quadratic exactly u' Lam u, whose
        mean over u is tr Lam / d.
    """

    radius: float
    values: Array


@dataclass(frozen=True, kw_only=True)
class LocalProbe:
    """Slope and curvature of each prompt's reward at the base along one direction, from a pair of points.

    Attributes
    ----------
    radius
        Distance to both sides of the base (weight).
    slopes, curvatures : ndarray, shape (P,)
        u . g (reward / weight) and u' Lam u (reward / weight^2), by central differences.
    """

    radius: float
    slopes: Array
    curvatures: Array


@dataclass(frozen=True, kw_only=True)
class LineStudy:
    """One score between two solutions and along their directions, and the probes that predict it.

    Attributes
    ----------
    score
        ``accuracy``, or ``logprob`` (teacher-forced log-probability of the reference answer, nat).
    labels
        Names of the start and the end of the line.
    norms
        Distance of both from the base, by name (weight).
    length
        Distance between them (weight).
    line
        The score between them.
    slope_share, end_scores : float; ndarray, shape (4, P)
        h, and scores at u = -h, h, 1-h, 1+h.
    random_rises : ndarray, shape (K, P)
        Rise over the chord at the middle of lines of the same length from the start into random directions.
    directions
        Scores from the base along both displacements and, last, a random direction; radius 0 is the base.
    around_base
        Curvature at the base in random directions; None unless asked for.
    local
        Slope and curvature at the base along both displacements, by name; empty unless asked for.
    """

    score: str
    labels: tuple[str, str]
    norms: Mapping[str, float]
    length: float
    line: Interpolation
    slope_share: float
    end_scores: Array
    random_rises: Array
    directions: DirectionProbe
    around_base: CurvatureSamples | None
    local: Mapping[str, LocalProbe]


def _stderr(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(scores.std(axis=1, ddof=1) / np.sqrt(scores.shape[1]))
