"""One step of a low-precision ES run, operation by operation, as different codes do it in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from estheory._special import Array
from estheory.floats import Float32, FloatFormat, round_in_place, rounded
from estheory.rules import Arithmetic, ESConfig
from estheory.theory.estimators import estimator_of


class Rounder:
    """In-place arithmetic of one storage format on arrays of one length.

    `size`: n, the length.
    `to`: the format.
    """

    def __init__(self, size: int, to: FloatFormat) -> None:
        self.to = to
        self.scratch = np.empty(size, dtype=np.uint32)
        self.delta = np.empty(size, dtype=np.float32)

    def scale(self, noise: Float32, factor: float) -> Float32:
        """Return round(factor * noise), factor taken to float32 as torch does."""
        np.multiply(noise, np.float32(factor), out=self.delta)
        return round_in_place(self.delta, self.to, self.scratch)

    def add(self, weights: Float32, change: Float32) -> None:
        """Do weights = round(weights + change)."""
        np.add(weights, change, out=weights)
        round_in_place(weights, self.to, self.scratch)

    def subtract(self, weights: Float32, change: Float32) -> None:
        """Do weights = round(weights - change)."""
        np.subtract(weights, change, out=weights)
        round_in_place(weights, self.to, self.scratch)


def take_step(
    weights: Float32, start: Float32, noise: Sequence[Float32], factors: Array, config: ESConfig, rounder: Rounder
) -> Float32:
    """Do one step of a low-precision ES run in place, operation by operation.

    1. ``restore_pairs`` times, with the noise of member p mod N: w += round(sigma eps), w -= round(sigma eps).
    2. the pull of an anchor of form ``before`` is computed: round(kappa round(w - w_0)).
    3. ``sequential``: for each member w += round(f_i eps_i). ``accumulated``: w += round(sum f_i eps_i), float32.
    4. that pull is subtracted; or (``after``, es-awd) w = w_0 + round((1 - kappa) round(w - w_0)).

    `weights`, `start`: weights now (changed in place) and at the start, float32 values on the grid of the format, shape
    (n,).
    `noise`: each member's noise as the storage format holds it, N arrays of shape (n,).
    Result: the step in exact arithmetic, sum f_i eps_i (no pull), float32, shape (n,).
    """
    for pair in range(config.restore_pairs):
        change = rounder.scale(noise[pair % len(noise)], config.sigma)
        rounder.add(weights, change)
        rounder.subtract(weights, change)
    pull = None
    if config.anchor_l2 and config.anchor_form == "before":
        pull = rounded(rounded(weights - start, rounder.to) * np.float32(config.anchor_l2), rounder.to)
    total = np.zeros_like(weights)
    term = np.empty_like(weights)
    for eps, factor in zip(noise, factors, strict=True):
        if config.update_path == "sequential":
            np.multiply(eps, np.float32(factor), out=rounder.delta)
            np.add(total, rounder.delta, out=total)
            rounder.add(weights, round_in_place(rounder.delta, rounder.to, rounder.scratch))
        else:
            np.multiply(eps, np.float32(factor), out=term)
            np.add(total, term, out=total)
    if config.update_path == "accumulated":
        rounder.add(weights, rounder.scale(total, 1.0))
    if pull is not None:
        rounder.subtract(weights, pull)
    elif config.anchor_l2:
        np.subtract(weights, start, out=weights)
        round_in_place(weights, rounder.to, rounder.scratch)
        np.multiply(weights, np.float32(1 - config.anchor_l2), out=weights)
        round_in_place(weights, rounder.to, rounder.scratch)
        rounder.add(weights, start)
    return total


def take_fused_step(
    weights: Float32, start: Float32, noise: Sequence[Float32], factors: Array, config: ESConfig, rounder: Rounder
) -> Float32:
    """Do one step as ``estheory run`` does it, in place: terms stay in float32, each addition rounds once.

    w = round(w + f_i eps_i) member by member, or w = round(w + sum f_i eps_i) with the pull of an anchor inside.
    Restore pairs as in :func:`take_step`.
    """
    for pair in range(config.restore_pairs):
        change = noise[pair % len(noise)] * np.float32(config.sigma)
        rounder.add(weights, change)
        rounder.subtract(weights, change)
    total, term = np.zeros_like(weights), np.empty_like(weights)
    for eps, factor in zip(noise, factors, strict=True):
        np.multiply(eps, np.float32(factor), out=term)
        np.add(total, term, out=total)
        if config.update_path == "sequential":
            rounder.add(weights, term)
    if config.update_path == "accumulated":
        away = weights - start + (total if config.anchor_form == "after" else np.float32(0))
        rounder.add(weights, total - np.float32(config.anchor_l2) * away if config.anchor_l2 else total)
    return total


def take_awd_step(
    weights: Float32, start: Float32, noise: Sequence[Float32], factors: Array, config: ESConfig, rounder: Rounder
) -> Float32:
    """Do one step as es-awd does it, in place: each addition rounds once, and the sum is kept in 16 bits too.

    a = round(a + z_i eps_i) member by member, then w = round(w + alpha/N a), then the pull of an anchor: with
    m = round(w - w_0), w = round(w_0 + round((1 - kappa) m)) for L2, and for L1
    w = round(w_0 + sign(m) max(round(|m| - kappa), 0)).

    `weights`, `start`, `noise`, `factors`, `config`, `rounder`: as for :func:`take_step`. Antithetic: every other
    vector of the noise is the one before it with the other sign, and restore pairs are half of either sign.
    """
    paired, half = estimator_of(config).paired, config.restore_pairs // 2
    for pair in range(config.restore_pairs):
        member = pair % len(noise)
        if paired:
            member = 2 * pair if pair < half else 2 * (pair - half) + 1
        change = noise[member] * np.float32(config.sigma)
        rounder.add(weights, change)
        rounder.subtract(weights, change)
    scale = config.step_size / config.population
    total, kept, term = np.zeros_like(weights), np.zeros_like(weights), np.empty_like(weights)
    for eps, factor in zip(noise, factors / scale, strict=True):
        if factor:
            np.multiply(eps, np.float32(factor), out=term)
            np.add(total, term, out=total)
            rounder.add(kept, term)
    np.multiply(total, np.float32(scale), out=total)
    rounder.add(weights, np.multiply(kept, np.float32(scale), out=kept))
    if config.anchor_l2 or config.anchor_l1:
        rounder.subtract(weights, start)
        if config.anchor_l2:
            np.multiply(weights, np.float32(1 - config.anchor_l2), out=weights)
            round_in_place(weights, rounder.to, rounder.scratch)
        else:
            shorter = rounded(np.abs(weights) - np.float32(config.anchor_l1), rounder.to)
            np.multiply(np.sign(weights), np.maximum(shorter, np.float32(0)), out=weights)
        rounder.add(weights, start)
    return total


STEPS: Mapping[Arithmetic, Callable[..., Float32]] = {
    "rounded": take_step,
    "fused": take_fused_step,
    "es-awd": take_awd_step,
}
