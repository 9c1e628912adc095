"""The emulator: the exact sequence of rounded operations of a low-precision ES run, on a sample of the model's weights.

Every coordinate of a flat direction is independent given the coefficients, so some 1e5 weights predict a model of
billions. The arithmetic is that of torch, bit by bit (:mod:`estheory.floats`): noise drawn in the storage format,
scaled (rounded), added (rounded). See docs/concepts/precision.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError
from estheory.floats import Float32, FloatFormat, rounded
from estheory.rules import ESConfig
from estheory.simulation.rounded_steps import STEPS, Arithmetic, Rounder
from estheory.simulation.strata import Design, SampledWeights
from estheory.theory.precision import NormBand, RoundingEffect, storage_format
from estheory.theory.weight_histograms import weight_family

GROUPS = 16
"""Random groups that a sample consists of: each has its own rewards and noise; their spread gives standard errors."""
MAX_ADDITIONS = 1_500_000_000
"""Rounded additions that one emulation spends by default: seconds."""
GROUP_SIZE = 8192
_POOL = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """What an emulated run did.

    Attributes
    ----------
    steps
        The steps it was looked at.
    design
        Which weights were sampled, and the tensors' shares of each stratum.
    moments
        Means over a stratum's weights of moved^2, moved*intended, intended^2, moved^4, and of moved times what had
        moved at each of the steps looked at before (0 at others); (steps, groups, strata, 4 + steps).
    additions
        Rounded additions that were done.
    """

    steps: tuple[int, ...]
    design: Design
    moments: Array
    additions: int

    def effect(self, step: int, shares: Array | None = None) -> RoundingEffect:
        """Return the effect on the whole model, or on weights with these ``shares`` of the strata, shape (strata,)."""
        groups = np.einsum("h,ghk->gk", self.design.shares if shares is None else shares, self._at(step))
        moved, kept, intended = groups[:, :3].mean(axis=0)
        errors = [_ratio_error(groups[:, k], groups[:, 2]) for k in (0, 1)]
        return RoundingEffect(
            variance=float(moved / intended),
            signal=float(kept / intended),
            variance_stderr=errors[0],
            signal_stderr=errors[1],
        )

    def tensor_effects(self, step: int) -> dict[str, RoundingEffect]:
        """Return the effect on each tensor by name: strata weighted by the tensor's own shares."""
        return self.grouped_effects(step, lambda name: name)

    def grouped_effects(self, step: int, group_of: Callable[[str], str]) -> dict[str, RoundingEffect]:
        """Return the effect on each group of tensors, such as a layer; groups in the order of their first tensors.

        ``group_of`` gives the group of a tensor name.
        """
        groups: dict[str, list[int]] = {}
        for row, name in enumerate(self.design.names):
            groups.setdefault(group_of(name), []).append(row)
        shares, sizes = self.design.tensor_shares, self.design.sizes
        return {
            group: self.effect(step, np.average(shares[rows], axis=0, weights=sizes[rows]))
            for group, rows in groups.items()
        }

    def cosine(self, first: int, second: int) -> tuple[float, float]:
        """Return the cosine of the displacements at two steps, first < second, and its standard error."""
        a, b = (np.einsum("h,ghk->gk", self.design.shares, self._at(step)) for step in (first, second))
        both = b[:, 4 + self.steps.index(first)]
        scale = np.sqrt(a[:, 0].mean() * b[:, 0].mean())
        residuals = both / scale - 0.5 * both.mean() / scale * (a[:, 0] / a[:, 0].mean() + b[:, 0] / b[:, 0].mean())
        return float(both.mean() / scale), float(residuals.std(ddof=1) / np.sqrt(len(both)))

    def kurtosis(self, step: int, shares: Array | None = None) -> float:
        """Return E[moved^4]/E[moved^2]^2 over the model, or over weights with these ``shares`` of the strata."""
        square, _, _, fourth = np.einsum(
            "h,ghk->k", self.design.shares if shares is None else shares, self._at(step)[..., :4]
        ) / len(self._at(step))
        return float(fourth / square**2) if square > 0 else 3.0

    def tensor_spreads(self, step: int) -> dict[str, float]:
        """Return, by tensor, the relative std of its ||Delta||^2 over noise (independent entries), beyond no error."""
        spreads = {}
        for name, size, shares in zip(self.design.names, self.design.sizes, self.design.tensor_shares, strict=True):
            square = np.einsum("h,gh->", shares, self._at(step)[..., 0])
            spreads[name] = float(np.sqrt(max(self.kurtosis(step, shares) - 1, 0.0) / size)) if square > 0 else 0.0
        return spreads

    def _at(self, step: int) -> Array:
        return np.asarray(self.moments[self.steps.index(step)])


def _ratio_error(numerator: Array, denominator: Array) -> float:
    """Return the standard error of a ratio of means over groups, to first order."""
    residuals = numerator - numerator.mean() / denominator.mean() * denominator
    return float(residuals.std(ddof=1) / np.sqrt(len(residuals)) / denominator.mean())


def emulate(
    config: ESConfig,
    weights: SampledWeights,
    steps: Sequence[int],
    *,
    seed: int = 0,
    coefficients: Array | None = None,
    arithmetic: Arithmetic = "rounded",
    group_size: int = GROUP_SIZE,
    max_additions: int = MAX_ADDITIONS,
) -> Emulation:
    """Emulate a low-precision ES run on a stratified sample of weights.

    Rewards are pure noise: what rounding does to flat directions. Each group of the sample has its own.

    Parameters
    ----------
    config
        The run; its ``dtype`` is the storage format.
    weights
        The magnitudes of the model's weights, by tensor.
    steps
        Steps at which to look.
    seed
        Of rewards, noise and sample.
    coefficients
        The logged z of a real run, shape (>= max(steps), N), to condition on, or (GROUPS, >= max(steps), N) for each
        group its own; None draws them.
    arithmetic
        Whose operations.
    group_size
        Weights in each of the random groups.
    max_additions
        Bound on the rounded additions; the groups shrink to meet it, to no less than 512.

    Raises
    ------
    ConfigError
        For float32, and for rules that the emulator does not cover (momentum, L1 anchors of other codes than es-awd,
        raw or two-point shaping, low-rank noise).
    """
    to = storage_format(config)
    if missing := emulator_covers(config, arithmetic):
        raise ConfigError(f"{missing} is not emulated", "leave --weights and --weight-std out")
    looked = tuple(sorted(set(steps)))
    one_by_one = config.update_path == "sequential" or arithmetic == "es-awd"
    adds = config.population * one_by_one + 1 + 2 * config.restore_pairs
    costs = looked[-1] * max(adds, config.population // 4)  # an unrounded addition costs about a quarter
    size = int(min(group_size, max(512, max_additions / costs / GROUPS)))
    design = Design.of(weights, size, floor=config.step_size / np.sqrt(config.population) / 64)
    seeds = np.random.SeedSequence(seed).spawn(GROUPS)
    pool = normal_pool(None if arithmetic == "fused" else to)
    one_step = STEPS[arithmetic]
    given = (
        [None] * GROUPS if coefficients is None else np.broadcast_to(coefficients, (GROUPS, *coefficients.shape[-2:]))
    )
    moments = np.stack(
        [
            np.stack([design.means(m) for m in _group(config, to, design, pool, looked, seeds[g], given[g], one_step)])
            for g in range(GROUPS)
        ],
        axis=1,
    )
    return Emulation(steps=looked, design=design, moments=moments, additions=looked[-1] * adds * design.size * GROUPS)


def _group(
    config: ESConfig,
    to: FloatFormat,
    design: Design,
    pool: Float32,
    steps: tuple[int, ...],
    seed: np.random.SeedSequence,
    coefficients: Array | None,
    one_step: Callable[..., Float32],
) -> Iterator[Array]:
    """Run one group; yield (n, 4 + steps) moments of each coordinate at each of ``steps``."""
    rng = np.random.default_rng(seed)
    start = rounded(design.draw(rng), to)
    weights, rounder = start.copy(), Rounder(len(start), to)
    intended = np.zeros(len(start))
    kept = 1 - config.anchor_l2
    draws = config.population // 2 if config.antithetic else config.population
    before: list[Array] = []
    for step in range(1, steps[-1] + 1):
        z = member_coefficients(config, rng) if coefficients is None else np.asarray(coefficients[step - 1])
        places = rng.integers(0, len(pool) - len(start), draws)
        noise = [pool[place : place + len(start)] for place in places]
        if config.antithetic:
            noise += [-eps for eps in noise]
        done = one_step(weights, start, noise, config.step_size / config.population * z, config, rounder)
        intended = kept * (intended + done) if config.anchor_form == "after" else kept * intended + done
        if step in steps:
            moved = weights.astype(np.float64) - start
            products = [moved * earlier for earlier in before] + [np.zeros(len(start))] * (len(steps) - len(before))
            before.append(moved)
            yield np.stack([moved**2, moved * intended, intended**2, moved**4, *products], axis=1)


@lru_cache(maxsize=2)
def normal_pool(to: FloatFormat | None) -> Float32:
    """Return a million standard normals as the format (None: float32) stores them, in random order, by quantiles.

    Slices at random places are the noise of the emulator. The pool has no sampling error of its own, and a slice costs
    nothing to draw.
    """
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(_POOL) + 0.5) / _POOL)
    np.random.default_rng(0).shuffle(quantiles)
    return np.asarray(quantiles, dtype=np.float32) if to is None else rounded(quantiles, to)


def member_coefficients(config: ESConfig, rng: np.random.Generator) -> Array:
    """Return the coefficients z of one step whose rewards are pure noise, shape (N,)."""
    n = config.population
    if config.shaping == "centered-rank":
        return np.asarray(rng.permutation(n) / (n - 1) - 0.5)
    rewards = rng.standard_normal(n)
    return np.asarray((rewards - rewards.mean()) / rewards.std())


def emulator_covers(config: ESConfig, arithmetic: Arithmetic = "rounded") -> str | None:
    """Return None if the emulator covers a run, else what it does not cover.

    Under an L1 anchor, which only es-awd's arithmetic has, effects compare with the walk without its pull.
    """
    if config.momentum or (config.anchor_l1 and arithmetic != "es-awd"):
        return "rounding under momentum or an L1 anchor"
    if config.shaping not in ("zscore", "centered-rank"):
        return f"rounding under {config.shaping} shaping"
    return "rounding of low-rank noise" if config.noise_rank is not None else None


def emulated_band(
    config: ESConfig, steps: Sequence[int], *, seed: int = 0, max_additions: int = MAX_ADDITIONS
) -> dict[int, NormBand]:
    """Return by step what rounding does to norms over the weights of an unknown model, emulated.

    ``max_additions`` bounds the rounded additions of each member of the family, as in :func:`emulate`.
    """
    runs = [
        emulate(config, SampledWeights.of(weights), steps, seed=seed, max_additions=max_additions)
        for weights in weight_family().values()
    ]
    return {step: NormBand.over(run.effect(step).variance for run in runs) for step in sorted(set(steps))}
