"""What storing weights in 16 bits does to a foreign run, of ES or of a gradient method.

The emulator on the run's own base weights, in every way its code may have rounded; on a declared family of weights
where they are not at hand.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError, DataError
from estheory.rules import Dtype, ESConfig
from estheory.runs.view import ForeignRun, Implementation
from estheory.simulation.emulator.adamw import adamw_walks
from estheory.simulation.emulator.effects import Emulation
from estheory.simulation.emulator.emulate import GROUP_SIZE, GROUPS, emulate
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.adamw import walk_factor
from estheory.theory.rounding.weights import weight_family
from estheory.validation.assumptions import STUDENT

MOST_EMULATED = 20_000
"""Steps of the longest run that is emulated: minutes."""


@dataclass(frozen=True, kw_only=True)
class Factor:
    """What rounding does to one quantity.

    Attributes
    ----------
    value
        The factor, in the middle of what the ways of rounding that the folder leaves open give.
    error
        Relative standard deviation: the emulator's error, and the run's own where its coefficients are not logged.
    half_width
        Relative half-width of that range: the declared band.
    kurtosis
        E[moved^4]/E[moved^2]^2 of a weight's displacement, 3 without rounding.
    """

    value: float = 1.0
    error: float = 0.0
    half_width: float = 0.0
    kurtosis: float = 3.0

    @property
    def norm_half_width(self) -> float:
        """The band of a norm whose square has this factor: the root's wider side."""
        return 1.0 - math.sqrt(max(1.0 - self.half_width, 0.0))


def factor_range(found: Sequence[tuple[float, float]], kurtosis: float) -> Factor:
    """Return the middle and the half-width of values, and the largest of their standard errors, both relative.

    `found`: a value and its standard error for each way of rounding.
    Result: where the middle is not positive: 0 without error or band.
    """
    values = [value for value, _ in found]
    middle = 0.5 * (min(values) + max(values))
    if middle <= 0:
        return Factor(value=0.0)
    error = max(error for _, error in found) / middle
    return Factor(value=middle, error=error, half_width=max(values) / middle - 1, kurtosis=kurtosis)


BETAS = (0.9, 0.999)
"""AdamW's decay rates where no file tells them."""
OWN_WEIGHTS = "rounding emulated on the base weights"
FAMILY = "rounding emulated on a declared family of weights (rms 0.01 to 0.05)"
_SMALL, _LARGE = 50_000_000, 600_000_000
"""Rounded additions for each member of the family of weights, and for each way of rounding the base's own."""


@dataclass(frozen=True, kw_only=True)
class Roundings:
    """Emulations of one run, one for each way of rounding (and member of the family of weights).

    Attributes
    ----------
    emulations
        One for each way of rounding, and for each member of the family where the weights are unknown.
    known
        Whether the run's own coefficients were emulated.
    assumption
        Whose weights were emulated, in words.
    """

    emulations: tuple[Emulation, ...]
    known: bool
    assumption: str

    def variance(self, step: int, tensors: Collection[str] | None = None) -> Factor:
        """Return the factor on the variance of the walk, of all weights or of some tensors.

        `tensors`: names of the tensors; None for all weights.
        Result: middle and half-width over the emulations; the kurtosis is the largest of any.
        """
        found, kurtosis = [], 3.0
        for emulation in self.emulations:
            shares = None if tensors is None else _shares(emulation, tensors)
            effect = emulation.effect(step, shares)
            found.append((effect.variance, self._error * effect.variance_stderr))
            kurtosis = max(kurtosis, emulation.kurtosis(step, shares))
        return factor_range(found, kurtosis)

    def cosine(self, first: int, second: int) -> Factor:
        """Return the cosine of the displacements at two steps (a value, not a factor)."""
        found = [emulation.cosine(first, second) for emulation in self.emulations]
        return factor_range([(value, self._error * error) for value, error in found], 3.0)

    @property
    def _error(self) -> float:
        """What turns a standard error over groups into the error of one run.

        Where its coefficients are not known it scatters as a group does, about a mean that is not known either.
        """
        return STUDENT * (1.0 if self.known else math.sqrt(GROUPS + 1))

    def names(self) -> Collection[str]:
        """Return the tensors of the model."""
        return self.emulations[0].design.names if self.assumption == OWN_WEIGHTS else ()


def _shares(emulation: Emulation, tensors: Collection[str]) -> Array:
    design = emulation.design
    rows = [row for row, name in enumerate(design.names) if name in tensors]
    if not rows:
        raise DataError(f"the base weights have no tensor {next(iter(tensors))}", "give the weights it began with")
    return np.asarray(np.average(design.tensor_shares[rows], axis=0, weights=design.sizes[rows]))


def roundings(
    run: ForeignRun, dtype: Dtype, steps: Collection[int], weights: SampledWeights | None, seed: int = 0
) -> Roundings | None:
    """Emulate a run up to some steps; None in float32.

    Coefficients are the logged ones, or z-scores of Gaussian rewards, each group of the sample its own, whose squares
    sum to what each step is known to have added.

    `steps`: steps at which it will be asked for.
    `weights`: the base weights; None where unknown: a declared family then stands for them.
    Result: an emulation for each way of rounding that the folder leaves open.
    """
    if dtype == "float32":
        return None
    last = max(steps)
    if last > MOST_EMULATED:
        raise DataError(f"rounding of {last} steps is not emulated (at most {MOST_EMULATED})", "judge an earlier one")
    if not run.population:
        raise DataError("rounding of tasks with different populations is not emulated", "judge float32 weights")
    if run.sigma is None and any(way.restore_pairs for way in run.implementations):
        raise DataError("rounding needs the run's one sigma, which is not told", "give --sigma")
    z, scale = _coefficients(run, last, seed)
    models = [SampledWeights.of(w) for w in weight_family().values()] if weights is None else [weights]
    additions = _SMALL if weights is None else _LARGE
    try:
        emulations = tuple(
            emulate(
                _config(run, dtype, way, scale),
                model,
                sorted(steps),
                seed=seed,
                coefficients=z,
                arithmetic=way.arithmetic,
                group_size=GROUP_SIZE if weights is None else 8 * GROUP_SIZE,
                max_additions=additions,
            )
            for way in run.implementations
            for model in models
        )
    except ConfigError as error:
        raise DataError(error.what, error.remedy) from error
    told = FAMILY if weights is None else OWN_WEIGHTS
    return Roundings(emulations=emulations, known=run.weights is not None, assumption=told)


def _config(run: ForeignRun, dtype: Dtype, way: Implementation, scale: float) -> ESConfig:
    vectors = run.population * (2 if run.mirrored else 1)
    return ESConfig(
        dim=1,
        sigma=run.sigma or 1.0,
        alpha=scale * vectors,
        population=vectors,
        antithetic=run.mirrored,
        dtype=dtype,
        update_path=way.update_path,
        restore_pairs=way.restore_pairs,
        anchor_l2=1.0 - run.keep,
        anchor_l1=run.pull,
        anchor_form="after",
    )


def _coefficients(run: ForeignRun, last: int, seed: int) -> tuple[Array, float]:
    """Return z of each noise vector, (last, m) or (GROUPS, last, m), and the scale that times z is its weight."""
    if run.weights is not None:
        z = run.weights[:last]
        if run.mirrored:  # the emulator's every other member has the other sign: it adds nothing
            z = np.stack([z, np.zeros_like(z)], axis=-1).reshape(len(z), -1)
    else:
        rng = np.random.default_rng([seed, 1])
        z = rng.standard_normal((GROUPS, last, run.population))
        z -= z.mean(axis=-1, keepdims=True)
        z *= (np.sqrt(run.increments[:last]) / np.linalg.norm(z, axis=-1))[..., None]
    scale = math.sqrt(float(np.mean(z**2))) or 1.0
    return z / scale, scale


def walk_square(rates: Array, betas: tuple[float, float] = BETAS) -> float:
    """Return the mean square of a weight after AdamW on dense gradient noise in exact arithmetic."""
    peak = float(rates.max(initial=0.0))
    return walk_factor(rates / peak, beta1=betas[0], beta2=betas[1]) * float(rates @ rates) if peak > 0 else 0.0


def adamw_factors(run: ForeignRun, dtype: Dtype, steps: Collection[int], weights: SampledWeights) -> dict[int, Factor]:
    """Return by step what rounding does to AdamW's walk on noise, over every way of keeping weights that is left open.

    float16 is never trained in place: AdamW's second moments underflow there.

    `run`: run of a gradient method, with its learning rates.
    Result: factors on :func:`walk_square`, without steps before the first positive learning rate.
    """
    copies = (True,) if dtype == "float16" else run.copies
    looked = [step for step in steps if walk_square(run.rates[:step]) > 0]
    if not looked or max(looked) > MOST_EMULATED:
        raise DataError(f"rounding of {max(looked, default=0)} steps of AdamW is not emulated", "judge an earlier one")
    walks = [adamw_walks(weights, dtype, run.rates, looked, copy=copy) for copy in copies]
    factors = {}
    for step in looked:
        plain = walk_square(run.rates[:step])
        found = [(walk[step].variance / plain, STUDENT * walk[step].stderr / plain) for walk in walks]
        factors[step] = factor_range(found, max(3.0, *(walk[step].kurtosis for walk in walks)))
    return factors
