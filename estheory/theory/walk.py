"""The random walk of evolution strategies along flat directions (docs/concepts/walk.md).

Where the reward does not depend on a coordinate, the shaped rewards are independent of its noise, so one step is a
Gaussian whose variance the shaped rewards fix. Everything geometric follows from three numbers: the variance of a
coordinate after T steps, the effective number of independent coordinates, and how much the variance itself fluctuates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from estheory._special import Array, chi_nodes
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw
from estheory.quantities import Label
from estheory.rules import ESConfig
from estheory.theory.anchor_l1 import flat_law

Shapes = Sequence[tuple[int, ...]]

PAPER = "arXiv:2604.01499"
OURS = "ours: docs/concepts/walk.md"
MAX_RESPONSE_STEPS = 10_000_000
NO_TIES = "not all rewards of a step equal"


@dataclass(frozen=True, kw_only=True)
class StepVariance:
    """Variance of one flat coordinate in one step.

    Attributes
    ----------
    value
        The mean variance, weight^2.
    mixing_df
        Degrees of freedom of its own fluctuation from step to step; infinite when it is fixed.
    fourth_moment
        Mean of w^4 over (mean of w^2)^2 for the weights w that multiply the members' noise.
    label, source, assumptions
        As in :class:`estheory.quantities.Prediction`.
    """

    value: float
    mixing_df: float
    fourth_moment: float
    label: Label
    source: str
    assumptions: tuple[str, ...]


def antithetic_share(population: int, kappa: float) -> tuple[float, float]:
    """Return mean and relative variance of V, where a step's flat variance is (alpha^2/N) V with antithetic pairs.

    V = 2 (1+kappa) X / ((1+kappa) X + (1-kappa) Y), X ~ chi^2_{N/2}, Y ~ chi^2_{N/2-1}: the odd part of the members'
    rewards over all of it. Exact for Gaussian rewards; its expansion is (1+kappa)(1 + (1-kappa)(1-2 kappa)/N).

    Parameters
    ----------
    population
        N, even, at least 4.
    kappa
        Minus the correlation of R+ and R- of one pair, in (-1, 1].
    """
    if population <= 40:  # X / (X + Y) is a beta variable
        from scipy.special import roots_jacobi

        node, mass = roots_jacobi(80, population / 4 - 1.5, population / 4 - 1)
        odd, even, weight = (1 + kappa) * (1 + node), (1 - kappa) * (1 - node), np.asarray(mass / mass.sum())
    else:
        x, wx = chi_nodes(population / 2)
        y, wy = chi_nodes(population / 2 - 1)
        odd, even = np.broadcast_arrays((1 + kappa) * x[:, None] ** 2, (1 - kappa) * y[None, :] ** 2)
        weight = np.outer(wx, wy)
    share = 2 * odd / (odd + even)
    mean = float(np.sum(weight * share))
    return mean, float(np.sum(weight * (share - mean) ** 2)) / mean**2


def step_variance(config: ESConfig, signal: Signal) -> StepVariance:
    """Return the variance of one flat coordinate in one step (section "Shapings" of docs/concepts/walk.md).

    Raises
    ------
    ConfigError
        With raw or two-point shaping when the spread of the rewards is unknown.
    """
    n, alpha, sigma = config.population, config.step_size, config.sigma
    gaussian_fourth = 3 * (n - 1) / (n + 1)  # of z-scores of Gaussian rewards
    if config.antithetic:
        kappa = signal.kappa
        mean, spread = antithetic_share(n, kappa)
        return StepVariance(
            value=alpha**2 / n * mean,
            mixing_df=2 / spread if spread > 1e-12 else math.inf,
            fourth_moment=gaussian_fourth,
            label="exact",
            source=OURS,
            assumptions=(
                "Gaussian rewards" if signal.even_share else "Gaussian rewards without even part",
                f"{kappa = :g}",
            ),
        )
    if config.shaping == "zscore":
        return StepVariance(
            value=alpha**2 / n,
            mixing_df=math.inf,
            fourth_moment=gaussian_fourth,
            label="exact",
            source=PAPER,
            assumptions=(NO_TIES,),
        )
    if config.shaping == "centered-rank":
        ranks = np.arange(n) / (n - 1) - 0.5 if n < 10_000 else np.linspace(-0.5, 0.5, 10_000)
        return StepVariance(
            value=alpha**2 * (n + 1) / (12 * n * (n - 1)),
            mixing_df=math.inf,
            fourth_moment=float(np.mean(ranks**4) / np.mean(ranks**2) ** 2),
            label="exact",
            source=OURS,
            assumptions=("no ties among the rewards",),
        )
    if signal.member_std is None:
        raise ConfigError(
            f"the walk with {config.shaping} shaping needs the spread of the rewards",
            "give --gradient-norm with --reward-std, or --reliability with one of them",
        )
    if config.shaping == "raw":
        value = alpha**2 * signal.member_std**2 * (n - 1) / (n**2 * sigma**2)
        freedom = n - 1
    else:
        slope = signal.gradient_norm or 0.0
        noise = max(signal.member_std**2 * (1 - signal.even_share) - (sigma * slope) ** 2, 0.0)
        value = alpha**2 / n * (slope**2 + noise / (2 * sigma**2))
        freedom = n
    return StepVariance(
        value=value,
        mixing_df=freedom,
        fourth_moment=3.0,
        label="exact",
        source=OURS,
        assumptions=("Gaussian rewards of constant spread",),
    )


def response(config: ESConfig, steps: int) -> Array | None:
    """Return h, shape (steps,): the share of one step's noise still in the displacement k steps later.

    ConfigError for too many steps with an anchor or momentum.

    None for the plain walk, where it is 1 throughout. With L2 anchoring kappa and momentum beta it is
    (1-beta) sum_{j<=k} (1-kappa)^(k-j) beta^j, times (1-kappa) in the ``after`` form. Exact.
    """
    keep, beta = 1.0 - config.anchor_l2, config.momentum
    if keep == 1.0 and beta == 0.0:
        return None
    if steps > MAX_RESPONSE_STEPS:
        raise ConfigError(f"{steps} steps with an anchor or momentum are too many", f"use at most {MAX_RESPONSE_STEPS}")
    k = np.arange(steps, dtype=np.float64)
    if abs(keep - beta) < 1e-7:
        h = (1 - beta) * (k + 1) * keep**k
    else:
        h = (1 - beta) * (keep ** (k + 1) - beta ** (k + 1)) / (keep - beta)
    return h * keep if config.anchor_form == "after" else h


def low_rank_dimension(shapes: Shapes, rank: int, fourth_moment: float, terms: float) -> float:
    """Return the effective number of independent coordinates of a walk with noise A B' / sqrt(rank) per matrix.

    From Var ||E||^2 = (2mn/rank)(m + n + rank + 1) for one m x n factor pair; vectors get Gaussian noise. Exact
    variance of the squared norm.

    Parameters
    ----------
    shapes
        Tensor shapes.
    rank
        Rank of the factors.
    fourth_moment
        Of the weights, see :class:`StepVariance`.
    terms
        Number of members added up, N T for the plain walk.
    """
    total = variance = 0.0
    for shape in shapes:
        n = float(math.prod(shape))
        total += n
        variance += 2 * n
        if len(shape) >= 2:
            rows, columns = float(shape[0]), n / shape[0]
            variance += fourth_moment / terms * 2 * n * ((rows + columns + rank + 1) / rank - 1)
    return 2 * total**2 / variance


def shared_seed_dimension(shapes: Shapes) -> float:
    """Return (sum m n)^2 / sum m^2 n for m tensors of each element count n: tensors of equal count share their noise.

    The covariance C of the noise has (tr C)^2 / tr(C^2) effective coordinates. Exact for the variance of the norm.
    """
    counts: dict[int, int] = {}
    for shape in shapes:
        n = math.prod(shape)
        counts[n] = counts.get(n, 0) + 1
    return sum(m * n for n, m in counts.items()) ** 2 / sum(m * m * n for n, m in counts.items())


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The walk after ``steps`` steps: enough to state the law of every geometric quantity.

    Attributes
    ----------
    variance
        Variance of one flat coordinate, weight^2.
    effective_dim
        Effective number of independent coordinates, at most about the dimension.
    dim
        Number of coordinates.
    mixing_df
        Degrees of freedom of the fluctuation of the variance; infinite when it is fixed.
    coherent_steps
        Sum of the response: how many steps' worth of a constant drift are in the displacement.
    independent_steps
        Effective number of steps whose variances add up: T for the plain walk.
    tie_probability
        Share of the steps that do not move, because all rewards are equal; ``variance`` counts it.
    declared_error
        Declared relative half-width of ``variance``: of an L1 anchor's finite steps, else 0.
    """

    variance: float
    effective_dim: float
    dim: int
    mixing_df: float
    coherent_steps: float
    label: Label
    source: str
    assumptions: tuple[str, ...]
    independent_steps: float = 1.0
    tie_probability: float = 0.0
    declared_error: float = 0.0

    @property
    def norm_law(self) -> ChiLaw:
        """The law of the displacement norm, weight units."""
        scale = math.sqrt(self.variance * self.dim / self.effective_dim)
        return ChiLaw(scale, self.effective_dim, self.mixing_df)


def walk(config: ESConfig, signal: Signal, steps: int, shapes: Shapes | None = None) -> Walk:
    """Return the walk of ``config`` after ``steps`` steps.

    Assumes that all but a vanishing share of the coordinates are flat. Shared-seed noise needs ``shapes``; low-rank
    noise uses them for the spread of the norm (without them the spread is that of independent entries).

    Raises
    ------
    ConfigError
        If shapes are needed and missing, or the spread of rewards is (raw and two-point shaping).
    """
    one = step_variance(config, signal)
    h = response(config, steps)
    squares = float(steps) if h is None else float(h @ h)
    independent_steps = float(steps) if h is None else squares**2 / float(np.sum(h**4))
    variance, dim, label, source = one.value * squares, float(config.dim), one.label, one.source
    assumptions, declared = one.assumptions, 0.0
    if h is not None:
        source = OURS
    if config.noise == "shared-seed":
        if shapes is None:
            raise ConfigError("shared-seed noise needs the shapes of the tensors", "give --model or --weights")
        dim, source = shared_seed_dimension(shapes), OURS
        assumptions += ("tensors of equal element count share their noise",)
    elif config.noise_rank is not None:
        source = OURS
        assumptions += ("no factor shared with a concentrated gradient",)
        if shapes is not None:
            terms = config.population * independent_steps
            dim = low_rank_dimension(shapes, config.noise_rank, one.fourth_moment, terms)
    if config.anchor_l1:
        pull = config.anchor_l1 / math.sqrt(one.value)
        law = flat_law(pull, steps, config.anchor_form)
        variance, dim, source, declared = one.value * law.second, 2 * dim / (law.kurtosis - 1), OURS, law.error
        label = "small-step" if law.error else label
        assumptions += (f"pull of {pull:.3g} standard deviations a step",)
    return Walk(
        variance=variance,
        effective_dim=dim,
        dim=config.dim,
        mixing_df=one.mixing_df * independent_steps,
        coherent_steps=float(steps) if h is None else float(np.sum(h)),
        label=label,
        source=source,
        assumptions=("all but a vanishing share of the coordinates are flat", *assumptions),
        independent_steps=independent_steps,
        declared_error=declared,
    )


def checkpoint_correlation(config: ESConfig, first: int, second: int) -> float:
    """Return the correlation of one flat coordinate's displacement after ``first`` and ``second`` steps.

    ConfigError with an L1 anchor, where it has no result.

    sqrt(first / second) for the plain walk. Exact; not available with an L1 anchor.
    """
    if config.anchor_l1:
        raise ConfigError("checkpoint_cosine has no result with an L1 anchor", "use anchor-l2, or leave it out")
    early, late = sorted((first, second))
    h = response(config, late)
    if h is None:
        return math.sqrt(early / late)
    overlap = float(h[:early] @ h[late - early :])
    return overlap / math.sqrt(float(h[:early] @ h[:early]) * float(h @ h))
