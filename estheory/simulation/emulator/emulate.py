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
from estheory.rules import Arithmetic, ESConfig
from estheory.simulation.emulator.effects import Emulation
from estheory.simulation.emulator.steps import STEPS, Rounder
from estheory.simulation.emulator.strata import Design, SampledWeights
from estheory.theory.estimators import estimator_of
from estheory.theory.rounding.precision import NormBand, storage_format
from estheory.theory.rounding.weights import weight_family
from estheory.watching import counted_out

GROUPS = 16
"""Random groups that a sample consists of: each has its own rewards and noise; their spread gives standard errors."""
MAX_ADDITIONS = 1_500_000_000
"""Rounded additions that one emulation spends by default: seconds."""
GROUP_SIZE = 8192
_POOL = 1 << 20


def emulate(
    config: ESConfig,
    weights: SampledWeights,
    steps: Sequence[int],
    *,
    seed: int = 0,
    coefficients: Array | None = None,
    arithmetic: Arithmetic = "rounded",
    group_size: int = GROUP_SIZE,
    groups: int = GROUPS,
    max_additions: int = MAX_ADDITIONS,
) -> Emulation:
    """Emulate a low-precision ES run on a stratified sample of weights.

    Rewards are pure noise: what rounding does to flat directions. Each group of the sample has its own.

    `config`: the run; its ``dtype`` is the storage format.
    `weights`: the magnitudes of the model's weights, by tensor.
    `coefficients`: the logged z of a real run, shape (>= max(steps), N), to condition on, or (groups, >= max(steps), N)
    for each group its own; None draws them.
    `groups`: how many there are: each has coefficients of its own, so their number tells how runs differ.
    `max_additions`: bound on the rounded additions; the groups shrink to meet it, to no less than 512.

    Examples
    --------
    >>> from estheory.theory.rounding.weights import normal_weights
    >>> weights = SampledWeights.of(normal_weights(0.02))
    >>> run = ESConfig(dim=10**9, sigma=0.0015, population=30, steps=4, dtype="bfloat16", update_path="sequential")
    >>> effect = emulate(run, weights, [4], max_additions=2_000_000).effect(4)
    >>> bool(effect.signal < 1)  # small terms are swallowed
    True
    """
    to = storage_format(config)
    if missing := emulator_covers(config, arithmetic):
        raise ConfigError(f"{missing} is not emulated", "leave --weights and --weight-std out")
    looked = tuple(sorted(set(steps)))
    one_by_one = config.update_path == "sequential" or arithmetic == "es-awd"
    adds = config.population * one_by_one + 1 + 2 * config.restore_pairs
    costs = looked[-1] * max(adds, config.population // 4)  # an unrounded addition costs about a quarter
    size = int(min(group_size, max(512, max_additions / costs / groups)))
    design = Design.of(weights, size, floor=config.step_size / np.sqrt(config.population) / 64)
    seeds = np.random.SeedSequence(seed).spawn(groups)
    sampled = _Sampled(
        config=config,
        to=to,
        design=design,
        pool=normal_pool(None if arithmetic == "fused" else to),
        one_step=STEPS[arithmetic],
        steps=looked,
    )
    given = (
        [None] * groups if coefficients is None else np.broadcast_to(coefficients, (groups, *coefficients.shape[-2:]))
    )
    moments = np.stack(
        [
            np.stack([design.means(m) for m in sampled.group(seeds[g], given[g])])
            for g in counted_out("emulating rounding", range(groups), groups)
        ],
        axis=1,
    )
    return Emulation(steps=looked, design=design, moments=moments, additions=looked[-1] * adds * design.size * groups)


@dataclass(frozen=True, kw_only=True)
class _Sampled:
    """What the groups of a sample have in common: the run, its storage format and arithmetic, the design, the noise."""

    config: ESConfig
    to: FloatFormat
    design: Design
    pool: Float32
    one_step: Callable[..., Float32]
    steps: tuple[int, ...]

    def group(self, seed: np.random.SeedSequence, coefficients: Array | None) -> Iterator[Array]:
        """Run one group; yield (n, 6 + steps) moments of each coordinate at each of ``steps``."""
        config, pool, steps = self.config, self.pool, self.steps
        rng = np.random.default_rng(seed)
        start = rounded(self.design.draw(rng), self.to)
        weights, rounder = start.copy(), Rounder(len(start), self.to)
        intended = np.zeros(len(start))
        kept = 1 - config.anchor_l2
        estimator = estimator_of(config)
        before: list[Array] = []
        for step in range(1, steps[-1] + 1):
            if coefficients is None:  # pure noise
                z = estimator.shape(rng.standard_normal(estimator.evaluations))
            else:
                z = np.asarray(coefficients[step - 1])
            places = rng.integers(0, len(pool) - len(start), estimator.directions)
            drawn = [pool[place : place + len(start)] for place in places]
            members = map(estimator.direction_of, range(estimator.evaluations))
            noise = [drawn[k] if sign > 0 else -drawn[k] for k, sign in members]
            done = self.one_step(weights, start, noise, config.step_size / config.population * z, config, rounder)
            intended = kept * (intended + done) if config.anchor_form == "after" else kept * intended + done
            if step in steps:
                moved = weights.astype(np.float64) - start
                products = [moved * earlier for earlier in before] + [np.zeros(len(start))] * (len(steps) - len(before))
                before.append(moved)
                square, plain = moved**2, intended**2
                yield np.stack(
                    [square, moved * intended, plain, square**2, square * plain, plain**2, *products], axis=1
                )


@lru_cache(maxsize=2)
def normal_pool(to: FloatFormat | None) -> Float32:
    """Return a million standard normals in random order, by quantiles.

    Slices at random places are the noise of the emulator. The pool has no sampling error of its own, and a slice costs
    nothing to draw.
    """
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(_POOL) + 0.5) / _POOL)
    np.random.default_rng(0).shuffle(quantiles)
    return np.asarray(quantiles, dtype=np.float32) if to is None else rounded(quantiles, to)


def emulator_covers(config: ESConfig, arithmetic: Arithmetic = "rounded") -> str | None:
    """Return what the emulator does not cover of a run.

    Under an L1 anchor, which only es-awd's arithmetic has, effects compare with the walk without its pull.
    """
    if config.momentum or (config.anchor_l1 and arithmetic != "es-awd"):
        return "rounding under momentum or an L1 anchor"
    if not (estimator := estimator_of(config)).scale_free:
        return f"rounding under {estimator.title}"
    return "rounding of low-rank noise" if config.noise_rank is not None else None


def emulated_band(
    config: ESConfig, steps: Sequence[int], *, seed: int = 0, max_additions: int = MAX_ADDITIONS
) -> dict[int, NormBand]:
    """Return by step what rounding does to norms over the weights of an unknown model, emulated.

    `max_additions`: bound on the rounded additions of each member of the family, as there.
    """
    runs = [
        emulate(config, SampledWeights.of(weights), steps, seed=seed, max_additions=max_additions)
        for weights in weight_family().values()
    ]
    return {step: NormBand.over(run.effect(step).variance for run in runs) for step in sorted(set(steps))}
