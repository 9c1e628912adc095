"""The norm of a run with a linear signal: one law for what `predict` shows and what `plan` keeps to.

The signal moves the run along the gradient; everything orthogonal to it is the walk (docs/concepts/signal.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from estheory._special import (
    Array,
    chi_mean,
    chi_nodes,
    chi_square_tails_array,
    chi_variance,
    legendre_nodes,
    normal_cdf,
)
from estheory.errors import ConfigError
from estheory.landscape import Signal
from estheory.laws import ChiLaw, Law
from estheory.quantities import Label
from estheory.rules import ESConfig
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.pairs import odd_part_nodes
from estheory.theory.reward_model import RewardModel
from estheory.theory.signal import OURS, first_step_share, following_share, progress_per_step, step_norm
from estheory.theory.walk import Walk

MANY_COORDINATES = 2000
"""Coordinates from which the chi law of the exact two moments replaces the law itself: no tail then differs by 1 %."""
NEGLIGIBLE_SHIFT = 0.1
"""Shift of a squared norm, in its standard deviations, below which the signal's part is left out."""
SMALLEST_SHIFT = 0.002
"""The same for the law of a norm of few coordinates, whose mean that shift would show in."""
_REACH = 9.0
_NARROWEST = 1e-14


@dataclass(frozen=True)
class StepNormLaw(Law):
    """``scale`` F sqrt(A^2 + chi^2_n), A = ``signal`` chi_m + ``noise`` Z: the norm of one step on a linear reward.

    F is 1 for z-scores; with ``own_length`` (raw and two-point shaping) it is chi_m / sqrt(m), the chi_m of A.

    Attributes
    ----------
    scale
        Standard deviation of a flat coordinate, in the quantity's unit.
    signal, signal_df, noise, rest_df
        As of :class:`estheory.cosine_laws.CosineLaw`; ``signal``^2 + ``noise``^2 = 1.
    own_length
        Whether the step is as long as the rewards are spread.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md. Gaussian rewards, linear signal, independent noise.

    Examples
    --------
    >>> law = StepNormLaw(scale=1.0, signal=0.0, signal_df=3.0, noise=1.0, rest_df=3.0, own_length=False)
    >>> round(law.mean, 5), round(ChiLaw(1.0, 4.0).mean, 5)
    (1.87997, 1.87997)
    """

    scale: float
    signal: float
    signal_df: float
    noise: float
    rest_df: float
    own_length: bool

    @cached_property
    def _moments(self) -> tuple[float, float]:
        length, weights = _chi_grid(self.signal_df)
        unit, unit_weights = _normal_grid()
        rest, rest_weights = _chi_grid(self.rest_df)
        along = self.signal * length[:, None] + self.noise * unit[None, :]
        root = np.sqrt(along[:, :, None] ** 2 + rest**2) @ rest_weights
        factor = length / math.sqrt(self.signal_df) if self.own_length else np.ones_like(length)
        mean = float((weights * factor) @ root @ unit_weights)
        second = float((weights * factor**2) @ (along**2 + self.rest_df) @ unit_weights)
        return self.scale * mean, self.scale * math.sqrt(second - mean**2)

    @property
    def mean(self) -> float:
        """The mean."""
        return self._moments[0]

    @property
    def std(self) -> float:
        """The standard deviation."""
        return self._moments[1]

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)): the chi-square exactly, chi_m and Z by quadrature beside its kink."""
        if x <= 0.0:
            return 0.0, 1.0
        # where the signal's part alone is as long as x
        kink = x / self.scale / self.signal if self.signal else math.inf
        length, weights = _chi_parts(
            math.sqrt(kink * math.sqrt(self.signal_df)) if self.own_length else kink, self.signal_df
        )
        squares = np.full(length.shape, (x / self.scale) ** 2)
        if self.own_length:
            squares = squares * self.signal_df / length**2
        root = np.sqrt(squares)
        if self.noise < 1e-9:  # a noiseless reward: the projection is the length itself
            tails = chi_square_tails_array(np.maximum(squares - length**2, 0.0), self.rest_df)
            low, high = tails @ weights
            return float(low), float(high)
        start = np.clip((-root - self.signal * length) / self.noise, -_REACH, _REACH)
        stop = np.clip((root - self.signal * length) / self.noise, -_REACH, _REACH)
        unit, unit_weights = legendre_nodes()
        # sin takes the square-root ends out of the integrand
        place, jacobian = np.sin(0.5 * math.pi * unit), 0.5 * math.pi * np.cos(0.5 * math.pi * unit)
        half = 0.5 * (stop - start)
        z = 0.5 * (start + stop)[:, None] + half[:, None] * place
        density = half[:, None] * unit_weights * jacobian * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        rest = np.maximum(squares[:, None] - (self.signal * length[:, None] + self.noise * z) ** 2, 0.0)
        tails = chi_square_tails_array(rest, self.rest_df)
        inside = np.sum(density * tails, axis=-1)
        outside = np.array([normal_cdf(a) + normal_cdf(-b) for a, b in zip(start, stop, strict=True)])
        return float(weights @ inside[0]), float(weights @ (inside[1] + outside))

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        length = np.sqrt(rng.chisquare(self.signal_df, n))
        along = self.signal * length + self.noise * rng.standard_normal(n)
        norm = np.sqrt(along**2 + rng.chisquare(self.rest_df, n))
        return np.asarray(self.scale * norm * (length / math.sqrt(self.signal_df) if self.own_length else 1.0))


@dataclass(frozen=True)
class PairNormLaw(Law):
    """``scale`` sqrt(V) chi_n with V = 2 (1+kappa) B / ((1+kappa) B + (1-kappa)(1-B)): the norm of a step of pairs.

    B ~ Beta(p/2, (p-1)/2) for p pairs is the odd part of their rewards at equal variances
    (:meth:`estheory.theory.estimators.pairs.MirroredPairs.odd_variance`).

    Attributes
    ----------
    scale
        alpha / sqrt(N), in the quantity's unit.
    pairs
        p, at least 2.
    kappa
        Minus the correlation of the two rewards of a pair.
    df
        n.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md. Gaussian rewards; without signal.
    """

    scale: float
    pairs: int
    kappa: float
    df: float

    @cached_property
    def _moments(self) -> tuple[float, float]:
        part, weight = odd_part_nodes(self.pairs)
        share = self._share(part)
        root = float(weight @ np.sqrt(share))
        mean = root * chi_mean(self.df)
        # Var(sqrt(V) chi) = E V Var chi + Var(sqrt V) (E chi)^2
        scatter = float(weight @ (np.sqrt(share) - root) ** 2)
        square = float(weight @ share) * chi_variance(self.df) + scatter * chi_mean(self.df) ** 2
        return self.scale * mean, self.scale * math.sqrt(square)

    def _share(self, part: Array) -> Array:
        odd = (1 + self.kappa) * part
        return np.asarray(2 * odd / (odd + (1 - self.kappa) * (1 - part)))

    @property
    def mean(self) -> float:
        """The mean."""
        return self._moments[0]

    @property
    def std(self) -> float:
        """The standard deviation."""
        return self._moments[1]

    def tails(self, x: float) -> tuple[float, float]:
        """Return (P(X <= x), P(X > x)): the wider of V and the chi variable exactly, the other by quadrature."""
        if x <= 0.0:
            return 0.0, 1.0
        if self.df < 4 * self.pairs:
            part, weight = odd_part_nodes(self.pairs)
            low, high = chi_square_tails_array((x / self.scale) ** 2 / self._share(part), self.df) @ weight
            return float(low), float(high)
        from scipy.special import betainc

        edge = x / self.scale / math.sqrt(2)  # V is at most 2
        below, above = chi_square_tails_array(np.array([edge**2]), self.df)[:, 0]
        length, weight = _chi_beyond(edge, self.df)
        # V = v at B = (1-kappa) v / ((1-kappa) v + (1+kappa)(2 - v))
        inside = np.minimum((x / self.scale / length) ** 2, 2.0)
        even, odd = (1 - self.kappa) * inside, (1 + self.kappa) * (2 - inside)
        part = even / (even + odd)
        low = below + above * (weight @ betainc(self.pairs / 2, (self.pairs - 1) / 2, part))
        high = above * (weight @ betainc((self.pairs - 1) / 2, self.pairs / 2, 1.0 - part))
        return float(low), float(high)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` draws, shape (n,)."""
        share = self._share(rng.beta(self.pairs / 2, (self.pairs - 1) / 2, n))
        return np.asarray(self.scale * np.sqrt(share * rng.chisquare(self.df, n)))


def _chi_beyond(edge: float, df: float) -> tuple[Array, Array]:
    """Return nodes and weights, which sum to 1, of a chi variable of ``df`` >= 2 given that it is above ``edge``.

    sin takes a square root at the edge out of the integrand.
    """
    peak = math.sqrt(df - 1)
    start, stop = max(edge, peak - 8.0, 0.0), max(edge, peak) + 8.0
    unit, weights = legendre_nodes()
    length = 0.5 * (start + stop) + 0.5 * (stop - start) * np.sin(0.5 * math.pi * unit)
    away = length - peak
    log = (df - 1) * np.log1p(away / peak) - away * (peak + 0.5 * away)
    weights = weights * np.cos(0.5 * math.pi * unit) * np.exp(log - log.max())
    return length, weights / weights.sum()


def _chi_parts(kink: float, df: float) -> tuple[Array, Array]:
    """Return nodes and weights, which sum to 1, of a chi variable below and above where an integrand bends."""
    peak = math.sqrt(max(df - 1, 0.0))
    low, high = max(peak - _REACH, 0.0), peak + _REACH
    middle = min(max(kink, low), high)
    unit, weights = legendre_nodes()
    place, jacobian = np.sin(0.5 * math.pi * unit), np.cos(0.5 * math.pi * unit)
    ends = [(a, b) for a, b in ((low, middle), (middle, high)) if b > a]
    length = np.concatenate([0.5 * (a + b) + 0.5 * (b - a) * place for a, b in ends])
    log = (df - 1) * np.log(length) - 0.5 * length**2
    weights = np.concatenate([(b - a) * weights * jacobian for a, b in ends]) * np.exp(log - log.max())
    return length, weights / weights.sum()


def _chi_grid(df: float) -> tuple[Array, Array]:
    """Return nodes and weights of a chi variable, dense enough for integrands that bend within it."""
    return chi_nodes(df, 80)


def _normal_grid() -> tuple[Array, Array]:
    unit, weights = legendre_nodes()
    z = _REACH * unit
    weights = weights * np.exp(-0.5 * z**2)
    return z, weights / weights.sum()


@dataclass(frozen=True, kw_only=True)
class RunNorm:
    """The displacement norm of a run after some steps.

    Attributes
    ----------
    law
        Of the norm, weight units.
    matched
        The chi law of the same mean and variance of the square, weight units; ``law`` itself where that is one.
    label, source, assumptions
        As in :class:`estheory.quantities.Prediction`.
    signal_shift
        What the signal (or curvature) changes of the mean square, in standard deviations of the square, or of a cosine,
        whichever is more: 0 for a walk.
    systematic
        Declared relative half-width of the norm: of an L1 anchor's finite steps.
    progress, spread
        Expected displacement along the gradient, weight units, and the variance of the projection over that of a flat
        coordinate; 0 and 1 without signal, and on curved ground.
    follows
        Share of the mean square that grows with the length of the shaped rewards once more, where that takes few
        values (:func:`estheory.theory.signal.following_share`).
    """

    law: Law
    matched: ChiLaw
    label: Label
    source: str
    assumptions: tuple[str, ...]
    signal_shift: float = 0.0
    systematic: float = 0.0
    progress: float = 0.0
    spread: float = 1.0
    follows: float = 0.0

    @property
    def mean_square(self) -> float:
        """E||Delta||^2, weight^2."""
        return self.matched.scale**2 * self.matched.df

    @property
    def is_walk(self) -> bool:
        """Whether the displacement is that of the walk alone, to what its own spread lets tell apart."""
        return self.signal_shift < NEGLIGIBLE_SHIFT


def steered_norm(walk: Walk, progress: float, spread: float) -> ChiLaw:
    """Return the law of the displacement norm of a walk that also moved along the gradient.

    The square has mean v (d - 1 + w) + P^2 and variance 2 v^2 (d - 1) + 4 P^2 v w + 2 v^2 w^2, plus what fluctuations
    of v add, of which P has its part (raw rewards, pairs); the law is the chi law with these two moments.

    Parameters
    ----------
    walk
        The walk; v is its variance a coordinate.
    progress
        P, expected displacement along the gradient, weight units.
    spread
        w, variance of the projection on the gradient over v.

    Returns
    -------
    ChiLaw
        Weight units.

    Notes
    -----
    Label: large-N. Source: ours: docs/how-to/plan.md. Exact moments for Gaussian rewards of constant gradient when the
    projection on the gradient is normal, which a sum over steps is.
    """
    v, rest, fluctuation = walk.variance, walk.dim - 1.0, 2 / walk.mixing_df
    square = v * (rest + spread) + progress**2
    normal = 2 * rest * walk.dim / walk.effective_dim
    variance = v * v * (normal * (1 + fluctuation) + rest**2 * fluctuation + 2 * spread**2)
    variance += 4 * progress**2 * v * (spread + rest * walk.tilt / walk.independent_steps)
    df = 2 * square**2 / max(variance, _NARROWEST * square**2)  # one dimension whose every step is a multiple of g
    return ChiLaw(math.sqrt(square / df), df)


def squared_shift(walk: Walk, law: ChiLaw) -> float:
    """Return how far the mean square of ``law`` is from that of the walk, in standard deviations of the walk's square.

    Parameters
    ----------
    walk
        The walk.
    law
        Of the norm of a run that is steered besides.

    Returns
    -------
    float
        Not negative.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/signal.md.
    """
    square = walk.variance * walk.dim
    return abs(law.scale**2 * law.df - square) / square * math.sqrt(walk.effective_dim / 2)


def run_norm(config: ESConfig, signal: Signal, walk: Walk, step: int, rewards: RewardModel | None = None) -> RunNorm:
    """Return the norm of a run after ``step`` steps, the signal's part in it where it is known and can be told.

    Parameters
    ----------
    config, signal
        The run and its linear signal; an unknown reliability counts as 0.
    walk
        Its walk after those steps.
    step
        T.
    rewards
        The law of a member's reward where it is not Gaussian.

    Returns
    -------
    RunNorm
        Exact for one step of Gaussian rewards and wherever the signal cannot be told from the walk's own spread.

    Raises
    ------
    ConfigError
        With an L1 anchor, shared seeds or several steps of 0/1 rewards, where the signal matters.

    Notes
    -----
    Label: exact or large-N, as it says. Source: ours: docs/concepts/signal.md. Over several steps the gradient is taken
    to stay: a gradient that turns adds less.
    """
    flat = RunNorm(
        law=walk.norm_law,
        matched=walk.norm_law,
        label=walk.label,
        source=walk.source,
        assumptions=walk.assumptions,
        systematic=0.5 * walk.declared_error,
    )
    plain_step = step == 1 and (not config.anchor_l1 or walk.effective_dim == walk.dim)
    if config.antithetic and plain_step:
        one = config.step_size * math.sqrt(walk.dim / walk.effective_dim / config.population)
        flat = RunNorm(
            law=PairNormLaw(
                first_step_share(config) * one,
                config.population // 2,
                signal.kappa,
                walk.effective_dim,
            ),
            matched=walk.norm_law,
            label=walk.label,
            source=walk.source,
            assumptions=walk.assumptions,
            systematic=0.5 * walk.declared_error,
        )
    elif config.antithetic and not math.isinf(walk.mixing_df):
        flat = RunNorm(
            law=walk.norm_law,
            matched=walk.norm_law,
            label="large-N" if walk.label == "exact" else walk.label,
            source=walk.source,
            assumptions=walk.assumptions,
            systematic=0.5 * walk.declared_error,
        )
    if not signal.reliability:
        return flat
    estimator = estimator_of(config)
    if not estimator.knows_progress(signal):
        return flat
    once, _, _ = estimator.projection_moments(signal.reliability, signal.even_share)
    each = progress_per_step(config, signal, rewards) / first_step_share(config)
    spread = max(once - each**2 / estimator.variance(signal, rewards).value, 0.0)
    if step == 1 and not config.anchor_l1:  # the after form pulls the first step already, which the walk knows
        matched = step_norm(config, signal, walk.effective_dim, rewards)
    else:
        matched = steered_norm(walk, each * walk.coherent_steps, spread)
    coherent = (each * walk.coherent_steps) ** 2 / (walk.variance * walk.dim) * math.sqrt(walk.effective_dim)
    shift = max(squared_shift(walk, matched), coherent)
    if config.noise == "shared-seed":  # along a gradient that repeats, signal acts so many times as strongly
        shift *= walk.dim / walk.effective_dim
    if shift < (NEGLIGIBLE_SHIFT if walk.dim >= MANY_COORDINATES else SMALLEST_SHIFT):
        return replace(flat, signal_shift=shift, progress=each * walk.coherent_steps, spread=spread)
    few_factors = config.noise_rank is not None and walk.dim < MANY_COORDINATES
    if config.anchor_l1 or config.noise == "shared-seed" or few_factors:
        what = (
            "an L1 anchor"
            if config.anchor_l1
            else "low-rank noise in few coordinates"
            if few_factors
            else "shared seeds"
        )
        raise ConfigError(f"a run that its signal moves has no norm here with {what}", "leave the reliability out")
    if rewards is not None and step > 1:
        raise ConfigError("several steps of 0/1 rewards that move a run have no norm here", "ask for one step")
    law: Law = matched
    label: Label = "large-N"
    plain = (
        rewards is None
        and walk.effective_dim == walk.dim
        and estimator.cosine_label == "exact"
        and not config.antithetic
    )
    if step == 1 and plain and config.dim >= 2:
        label = "exact" if walk.label == "exact" else walk.label
        if config.dim < MANY_COORDINATES:
            law = _one_step(config, signal)
    constant = () if step == 1 else ("the gradient keeps its direction and length",)
    return RunNorm(
        law=law,
        matched=matched,
        label=label,
        source=OURS,
        assumptions=(*(("Gaussian rewards, linear signal",) if rewards is None else walk.assumptions), *constant),
        signal_shift=shift,
        progress=each * walk.coherent_steps,
        spread=spread,
        follows=0.0 if rewards is None else following_share(config, signal, rewards),
    )


def _one_step(config: ESConfig, signal: Signal) -> StepNormLaw | ChiLaw:
    """Return the law of the first step of independent members, or of two-point directions."""
    assert signal.reliability is not None  # its caller knows
    estimator = estimator_of(config)
    a, m, b = estimator.projection(signal.reliability, signal.even_share)
    scale = first_step_share(config) * math.sqrt(estimator.variance(signal).value)
    own = not estimator.fixed_variance
    rest = config.dim - 1.0
    if b < 1e-9 and not own:
        return ChiLaw(scale, m + rest)
    return StepNormLaw(scale, a, m, b, rest, own)
