"""The random walk of evolution strategies along flat directions (docs/concepts/walk.md).

Where the reward does not depend on a coordinate, the shaped rewards are independent of its noise, so one step is a
Gaussian whose variance the shaped rewards fix. Everything geometric follows from three numbers: the variance of a
coordinate after T steps, the effective number of independent coordinates, and how much the variance itself fluctuates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw
from estheory.quantities import Label, Prediction
from estheory.rules import ESConfig
from estheory.theory.anchor_l1 import flat_law, response_to_length
from estheory.theory.effective_dimension import Shapes, low_rank_dimension, shared_seed_dimension
from estheory.theory.estimators import estimator_of
from estheory.theory.reward_model import RewardModel
from estheory.theory.ties import Lengths, LengthsLaw, TiedLaw, added_lengths, steered_lengths

OURS = ours("walk")
FEW_COORDINATES = 30
"""Coordinates that an L1 anchor leaves moved, below which norms have a band of 100 % in place of a law."""
LEAST_TIED_PULL = 0.1
"""Pull of an L1 anchor times the root of the share of steps that tie, beyond which its closure has no law."""
MOST_UNEVEN_PULL = 0.5
"""Pull of an L1 anchor times the root of the steps, beyond which steps of uneven length (pairs, raw) have no law."""
LEAST_PAIRS = 10
"""Mirrored pairs from which a Beta variable of two moments stands for the variance that some steps of them make: from
there on intervals of 95 and 99 % hold at least 94 and 98 % (docs/validation/audit.md has the scan)."""
MAX_RESPONSE_STEPS = 10_000_000


def response(config: ESConfig, steps: int) -> Array | None:
    """Return h, the share of one step's noise still in the displacement k steps later.

    With L2 anchoring kappa and momentum beta it is (1-beta) sum_{j<=k} (1-kappa)^(k-j) beta^j, times (1-kappa) in the
    ``after`` form.

    Parameters
    ----------
    config
        The run.
    steps
        T.

    Returns
    -------
    ndarray or None
        Shape (steps,). None for the plain walk, where it is 1 throughout.

    Raises
    ------
    ConfigError
        For too many steps with an anchor or momentum.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md.
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


@dataclass(frozen=True, kw_only=True)
class Walk:
    """The walk after a number of steps: enough to state the law of every geometric quantity.

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
    label, source, assumptions
        As in :class:`estheory.quantities.Prediction`.
    independent_steps
        Effective number of steps whose variances add up: T for the plain walk.
    tie_probability
        Share of the steps that do not move, because all rewards are equal; ``variance`` counts it.
    declared_error
        Declared relative half-width of ``variance``: of an L1 anchor's finite steps, else 0.
    tilt
        Relative covariance of a step's variance and its progress: 0 where the variance is fixed.
    odd_parts
        Mirrored pairs of all effective steps: the fluctuation of the variance that their odd parts make is bounded, and
        a chi-square only of its two moments. 0 where members are independent.
    most
        The largest that the variance may be over its mean: of mirrored pairs, else infinite.
    lengths
        Law of ``variance`` given the rewards over its mean, where it takes few values; else empty.
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
    tilt: float = 0.0
    odd_parts: float = 0.0
    most: float = math.inf
    lengths: Lengths = ()

    @property
    def at_mean_length(self) -> Walk:
        """The walk whose steps are as long together as they are on average, where the law of their length is known."""
        return replace(self, mixing_df=math.inf) if self.lengths else self

    def enough_pairs(self, before: Walk | None = None) -> bool:
        """Say whether the variance of the steps has a law: always, but for few mirrored pairs.

        Parameters
        ----------
        before
            The walk after earlier steps; those are left out.

        Returns
        -------
        bool
            From ``LEAST_PAIRS`` in all effective steps on.

        Notes
        -----
        Label: large-N. Source: ours: docs/validation/audit.md.
        """
        pairs = self.odd_parts - (0.0 if before is None else before.odd_parts)
        return self.odd_parts == 0 or pairs >= LEAST_PAIRS

    @property
    def norm_law(self) -> ChiLaw:
        """The law of the displacement norm, weight units."""
        scale = math.sqrt(self.variance * self.dim / self.effective_dim)
        return ChiLaw(scale, self.effective_dim, self.mixing_df, self.most)

    def scattered(self, p: Prediction, power: float, follows: float = 0.0) -> Prediction:
        """Return a prediction whose law knows which steps tie: how many moved, or how long they were together.

        Parameters
        ----------
        p
            Of a walk whose variance counts ties and is at its mean length.
        power
            Of the walk's variance that the quantity scales with: 1/2 for norms.
        follows
            Share of the mean square of a norm that grows with the length of the rewards once more.

        Returns
        -------
        Prediction
            ``p`` itself where no step ties. Exact for the plain walk; with an anchor or momentum the number of steps is
            the effective one.

        Notes
        -----
        Label: as of ``p``, or large-N. Source: ours: docs/concepts/signal.md.
        """
        if self.lengths:
            return replace(p, law=LengthsLaw(p.law, steered_lengths(self.lengths, follows), power))
        if self.tie_probability == 0:
            return p
        count = max(1, round(self.independent_steps))
        law = TiedLaw(p.law, count, 1 - self.tie_probability, power)
        assumption = f"a step ties with probability {self.tie_probability:.3g} and does not move"
        whole = math.isclose(count, self.independent_steps, rel_tol=1e-9)
        label: Label = "large-N" if p.label == "exact" and not whole else p.label
        return replace(p, law=law, label=label, assumptions=(*p.assumptions, assumption))


def walk(
    config: ESConfig, signal: Signal, steps: int, shapes: Shapes | None = None, rewards: RewardModel | None = None
) -> Walk:
    """Return the walk of ``config`` after ``steps`` steps.

    Parameters
    ----------
    config
        The run.
    signal
        What is known of its rewards; enters for pairs, raw and two-point shaping.
    steps
        T.
    shapes
        Shapes of the tensors. Shared-seed noise needs them; low-rank noise uses them for the spread of the norm
        (without them the spread is that of independent entries).
    rewards
        The law of a member's reward where it is not Gaussian, ties included.

    Returns
    -------
    Walk
        With its label, source and assumptions.

    Raises
    ------
    ConfigError
        If shapes are needed and missing, or the spread of rewards is (raw and two-point shaping).

    Notes
    -----
    Label: exact; small-step with an L1 anchor; large-N for raw rewards and ranks that are not Gaussian, and for
    low-rank noise weighted by rewards that are not. Source: arXiv:2604.01499 for the plain walk of z-scores; ours:
    docs/concepts/walk.md for the rest. All but a vanishing share of the coordinates are flat.

    Examples
    --------
    >>> from estheory import ESConfig, Signal
    >>> law = walk(ESConfig(dim=4_022_468_096, sigma=0.0015, alpha=0.00075, population=30), Signal(), 400).norm_law
    >>> round(law.mean, 3), f"{law.std:.2e}"
    (173.691, '1.94e-03')
    """
    estimator = estimator_of(config)
    one = estimator.variance(signal, rewards)
    h = response(config, steps)
    squares = float(steps) if h is None else float(h @ h)
    independent_steps = float(steps) if h is None else squares**2 / float(np.sum(h**4))
    variance, dim, source = one.value * squares, float(config.dim), one.source
    label: Label = one.label
    assumptions, declared = one.assumptions, 0.0
    if h is not None:
        source = OURS
        if not math.isinf(one.mixing_df):  # a weighted sum of chi-squares is none
            label = "large-N" if label == "exact" else label
    plain = h is None or steps == 1  # of one step memory takes a fixed share
    lengths = added_lengths(one.lengths, steps) if one.lengths and plain and not config.anchor_l1 else None
    if one.lengths and lengths is None:
        label = "large-N" if label == "exact" else label
    if config.noise == "shared-seed":
        if shapes is None:
            raise ConfigError("shared-seed noise needs the shapes of the tensors", "give --model or --weights")
        dim, source = shared_seed_dimension(shapes), OURS
        label = label if dim == config.dim else "large-N"
        assumptions += ("tensors of equal element count share their noise",)
    elif config.noise_rank is not None:
        source = OURS
        assumptions += ("no factor shared with a concentrated gradient",)
        label = "large-N" if label == "exact" else label
        if shapes is not None:
            dim = step_effective_dim(config, shapes, independent_steps)
    mixing_df = one.mixing_df
    if config.anchor_l1:
        pull = config.anchor_l1 / math.sqrt(one.value)
        law = flat_law(pull, steps, config.anchor_form)
        uneven = not math.isinf(mixing_df) or config.noise_rank is not None
        moves = law.moved * config.dim
        if moves < FEW_COORDINATES:
            declared = 2.0
            assumptions += (f"about {moves:.2g} coordinates are not back at the start: no law here",)
        elif pull * math.sqrt(one.tie_probability) > LEAST_TIED_PULL:
            declared = 2.0
            assumptions += (f"{one.tie_probability:.2g} of the steps tie and the anchor alone moves: no law here",)
        elif uneven and pull * math.sqrt(steps) > MOST_UNEVEN_PULL and (steps > 1 or config.anchor_form == "after"):
            declared = 2.0
            assumptions += ("steps are uneven and the anchor forgets all but the last of them: no law here",)
        elif uneven:  # a run of short steps is pulled by more of their standard deviations
            gain = response_to_length(pull, steps, config.anchor_form) ** 2
            mixing_df /= gain
            if config.noise_rank is not None:
                dim = 1 / (1 / config.dim + gain * (1 / dim - 1 / config.dim))
        declared = declared or law.error
        variance, dim, source = one.value * law.second, 2 * dim / (law.kurtosis - 1), OURS
        # the law of a coordinate may be exact, that of the norm is matched to its fourth moment
        label = "small-step" if declared else label if steps == 1 and config.anchor_form == "before" else "large-N"
        assumptions += (f"pull of {pull:.3g} standard deviations per step",)
    # so that the number M of steps that move, which scatters too, leaves the variance of the sum right
    mixing_df *= independent_steps * (1 - one.tie_probability) + one.tie_probability
    return Walk(
        variance=variance,
        effective_dim=dim,
        dim=config.dim,
        mixing_df=mixing_df,
        coherent_steps=float(steps) if h is None else float(np.sum(h)),
        label=label,
        source=source,
        assumptions=("all but a vanishing share of the coordinates are flat", *assumptions),
        independent_steps=independent_steps,
        tie_probability=one.tie_probability,
        declared_error=declared,
        tilt=0.0 if estimator.fixed_variance else estimator.moments((1 + signal.kappa) / 2).tilt,
        odd_parts=independent_steps * estimator.odd_parts,
        most=math.inf if config.anchor_l1 else one.most,
        lengths=lengths or (),
    )


def step_effective_dim(config: ESConfig, shapes: Shapes, steps: float = 1.0) -> float:
    """Return the effective number of independent coordinates of some steps of low-rank noise.

    Independent members add up N terms per step, pairs N/2 of twice the weight.

    Parameters
    ----------
    config
        The run.
    shapes
        Of its tensors.
    steps
        Effective number of steps.

    Returns
    -------
    float
        As of :func:`estheory.theory.effective_dimension.low_rank_dimension`.

    Raises
    ------
    ConfigError
        For other noise.

    Notes
    -----
    Label: exact, for the variance of the squared norm given the variance of a coordinate. Source: ours:
    docs/concepts/walk.md. The weights of a step are uniform on a sphere, as those of Gaussian rewards are; ranks are
    their own.
    """
    if config.noise_rank is None:
        raise ConfigError(f"{config.noise} noise has no rank", "use low-rank:R noise")
    estimator = estimator_of(config)
    return low_rank_dimension(shapes, config.noise_rank, estimator.weight_kurtosis, estimator.directions * steps)


def checkpoint_correlation(config: ESConfig, first: int, second: int) -> float:
    """Return the correlation of one flat coordinate's displacement after ``first`` and ``second`` steps.

    sqrt(first / second) for the plain walk.

    Parameters
    ----------
    config
        The run.
    first, second
        The two steps, in either order.

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    ConfigError
        With an L1 anchor, where it has no result.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md.

    Examples
    --------
    >>> from estheory import ESConfig
    >>> checkpoint_correlation(ESConfig(dim=1000, sigma=0.01, population=30), 100, 400)
    0.5
    """
    if config.anchor_l1:
        raise ConfigError("checkpoint_cosine has no result with an L1 anchor", "use anchor-l2, or leave it out")
    early, late = sorted((first, second))
    h = response(config, late)
    if h is None:
        return math.sqrt(early / late)
    overlap = float(h[:early] @ h[late - early :])
    return overlap / math.sqrt(float(h[:early] @ h[:early]) * float(h @ h))
