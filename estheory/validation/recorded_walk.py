"""The walk of a recorded ES run given its logged coefficients: how far each tensor goes, and how that scatters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.files import reading
from estheory.rules import module_factors
from estheory.runs.view import OwnRun
from estheory.theory.anchor_l1 import flat_law
from estheory.theory.walk import response


@dataclass(frozen=True, kw_only=True)
class SquareMoments:
    """The law of a squared displacement: mean (weight^2), degrees of freedom, declared relative error of the mean.

    Attributes
    ----------
    mean
        Of ||Delta||^2 (weight^2).
    freedom
        Degrees of freedom of the chi-square that it is a multiple of.
    error
        Declared relative error of the mean.
    """

    mean: float
    freedom: float
    error: float


@dataclass(frozen=True, kw_only=True)
class RecordedWalk:
    """One flat coordinate of a run, given the weights w = (alpha/N) z of each step's noise vectors.

    Attributes
    ----------
    squares, fourths
        Sums over a step's noise vectors of w^2 and w^4, shape (T,).
    response
        The share of a step still in the displacement some steps later (:func:`estheory.theory.walk.response`).
    pull, anchor_form
        The constant pull of an L1 anchor, weight units, and its form.
    rank, shared
        Of low-rank noise (None: none); whether tensors of equal element count share their noise.
    module_sigma
        Factors of tensors' noise, as in config.toml.
    """

    squares: Array
    fourths: Array
    response: Array | None
    pull: float
    anchor_form: str
    rank: int | None
    shared: bool
    module_sigma: tuple[str, ...]

    @staticmethod
    def of(run: OwnRun) -> RecordedWalk:
        """Read the walk off a record."""
        config, settings = run.es, run.settings
        with reading(run.path):
            weights = [row.weights(settings) for row in run.steps]
        rules = config.rules(run.dim)
        squares = np.array([np.sum(w**2) for w in weights])
        if rules.anchor_l1:
            together = "" if rules.noise == "gaussian" else f"{rules.noise} noise"
            if np.ptp(squares) > 1e-6 * squares.max():
                together = "steps of unequal length"
            if together:
                raise DataError(
                    f"{run.path}: no law covers an L1 anchor with {together}", "compare its norms with estheory predict"
                )
        return RecordedWalk(
            squares=squares,
            fourths=np.array([np.sum(w**4) for w in weights]),
            response=response(rules, len(squares)),
            pull=rules.anchor_l1,
            anchor_form=rules.anchor_form,
            rank=rules.noise_rank,
            shared=rules.noise == "shared-seed",
            module_sigma=config.module_sigma,
        )

    @property
    def plain(self) -> bool:
        """Whether every coordinate is an independent walk of the same variance."""
        return self.rank is None and not self.shared and not self.module_sigma and not self.pull

    @property
    def additive(self) -> bool:
        """Whether the displacement is the plain sum of the steps: neither momentum nor anchor, nor structured noise."""
        return self.plain and self.response is None

    def covariance(self, first: int, second: int) -> float:
        """Return the covariance of a coordinate after two steps, without L1 pull. Exact."""
        if self.response is None:
            return float(self.squares[:first].sum())
        lags, h = np.arange(first), self.response
        return float(np.sum(self.squares[:first][::-1] * h[lags] * h[lags + second - first]))

    def variance(self, step: int) -> float:
        """Return the variance of a coordinate after a step, of noise factor 1 and without L1 pull. Exact."""
        return self.covariance(step, step)

    def tensor(self, step: int, shape: tuple[int, ...], factor: float = 1.0) -> SquareMoments:
        """Return the law of ||Delta||^2 of a tensor whose noise has a factor; mean and variance exact but for L1.

        Result: its freedom is the number of entries in a plain walk.
        """
        size, variance = float(math.prod(shape)), self.variance(step) * factor**2
        if self.pull and variance:
            one = float(self.squares[0]) * factor**2
            flat = flat_law(self.pull / math.sqrt(one), step, self.anchor_form)
            return SquareMoments(
                mean=size * one * flat.second, freedom=2 * size / (flat.kurtosis - 1), error=flat.error
            )
        freedom = size
        if self.rank is not None and len(shape) >= 2:  # Var ||E||^2 of factor pairs, as in theory.walk
            rows, columns = float(shape[0]), size / shape[0]
            freedom = size / (1 + self._concentration(step) * ((rows + columns + self.rank + 1) / self.rank - 1))
        return SquareMoments(mean=size * variance, freedom=freedom, error=0.0)

    def total(self, step: int, shapes: Mapping[str, tuple[int, ...]]) -> SquareMoments:
        """Return the law of ||Delta||^2 of all tensors.

        Result: its freedom is the effective number of independent coordinates.
        """
        factors = self.factors(shapes)
        laws = {name: self.tensor(step, shape, factors[name]) for name, shape in shapes.items()}
        mean = sum(law.mean for law in laws.values())
        if mean == 0.0:
            return SquareMoments(mean=0.0, freedom=float(sum(math.prod(s) for s in shapes.values())), error=0.0)
        groups: dict[object, float] = {}  # tensors that share their noise move by the same vector, times their factors
        for name, law in laws.items():
            key = math.prod(shapes[name]) if self.shared else name
            groups[key] = groups.get(key, 0.0) + law.mean / math.sqrt(law.freedom)
        error = sum(law.error * law.mean for law in laws.values()) / mean
        return SquareMoments(mean=mean, freedom=mean**2 / sum(value**2 for value in groups.values()), error=error)

    def factors(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
        """Return the factor of each tensor's noise.

        Result: over sigma; 1 where no module has a factor.
        """
        found = module_factors(self.module_sigma, list(shapes))
        return dict(zip(shapes, found or [1.0] * len(shapes), strict=True))

    def _concentration(self, step: int) -> float:
        """Return the sum of fourth powers of all noise vectors' weights over the squared sum of their squares."""
        h = np.ones(step) if self.response is None else self.response[:step][::-1]
        return float(np.sum(h**4 * self.fourths[:step]) / self.variance(step) ** 2)
