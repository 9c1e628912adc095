"""What an emulated low-precision run did: effects of rounding on the model, its tensors and groups of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.simulation.emulator.strata import Design
from estheory.theory.rounding.precision import RoundingEffect


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
        Means over a stratum's weights of moved^2, moved*intended, intended^2, moved^4, moved^2*intended^2,
        intended^4, and of moved times what had moved at each of the steps looked at before (0 at others);
        (steps, groups, strata, 6 + steps).
    additions
        Rounded additions that were done.
    """

    steps: tuple[int, ...]
    design: Design
    moments: Array
    additions: int

    def effect(self, step: int, shares: Array | None = None) -> RoundingEffect:
        """Return the effect of rounding on the walk.

        `shares`: shares of the strata in the weights that are meant, shape (strata,); None: in the whole model.
        Result: with standard errors over the groups. Where every step tied nothing was intended: both factors are 0 if
        nothing moved either, else (restore pairs) infinite.
        """
        shares = self.design.shares if shares is None else shares
        groups = np.einsum("h,ghk->gk", shares, self._at(step))
        moved, kept, intended = groups[:, :3].mean(axis=0)
        if not intended:
            factor = float("inf") if moved else 0.0
            return RoundingEffect(variance=factor, signal=factor)
        errors = [_ratio_error(groups[:, k], groups[:, 2]) for k in (0, 1)]
        return RoundingEffect(
            variance=float(moved / intended),
            signal=float(kept / intended),
            variance_stderr=errors[0],
            signal_stderr=errors[1],
            spread=self._spread(step, shares, errors[0]) * float(intended / moved) if moved else 0.0,
            scatter=self._scatter(step, shares),
        )

    def _spread(self, step: int, shares: Array, stderr: float) -> float:
        """Return the spread of moved^2/intended^2 over the groups beyond that of their sampled weights."""
        at = self._at(step)
        means = np.einsum("h,ghk->k", shares, at[..., :3]) / len(at)
        ratio = means[0] / means[2]
        residual = at[..., 0] - ratio * at[..., 2]
        within = at[..., 3] - 2 * ratio * at[..., 4] + ratio**2 * at[..., 5] - residual**2
        sampled = (within @ (shares**2 / (self.design.taken - 1))).mean() / means[2] ** 2
        return float(np.sqrt(max(len(at) * stderr**2 - sampled, 0.0)))

    def _scatter(self, step: int, shares: Array) -> float:
        """Return the relative variance of ||moved||^2 over noise times the number of weights."""
        at = self._at(step)
        moved = shares @ at[..., 0].mean(axis=0)
        within = (at[..., 3] - at[..., 0] ** 2) * (self.design.taken / (self.design.taken - 1))
        return float(shares @ within.mean(axis=0) / moved**2) if moved > 0 else 2.0

    def tensor_effects(self, step: int) -> dict[str, RoundingEffect]:
        """Return the effect on each tensor: strata weighted by the tensor's own shares."""
        return self.grouped_effects(step, lambda name: name)

    def grouped_effects(self, step: int, group_of: Callable[[str], str]) -> dict[str, RoundingEffect]:
        """Return the effect on each group of tensors, such as a layer."""
        groups: dict[str, list[int]] = {}
        for row, name in enumerate(self.design.names):
            groups.setdefault(group_of(name), []).append(row)
        shares, sizes = self.design.tensor_shares, self.design.sizes
        return {
            group: self.effect(step, np.average(shares[rows], axis=0, weights=sizes[rows]))
            for group, rows in groups.items()
        }

    def cosine(self, first: int, second: int) -> tuple[float, float]:
        """Return the cosine of the displacements at two steps.

        Result: the cosine and its standard error; not a number where nothing had moved.
        """
        a, b = (np.einsum("h,ghk->gk", self.design.shares, self._at(step)) for step in (first, second))
        both = b[:, 6 + self.steps.index(first)]
        scale = np.sqrt(a[:, 0].mean() * b[:, 0].mean())
        if not scale:
            return float("nan"), float("nan")
        residuals = both / scale - 0.5 * both.mean() / scale * (a[:, 0] / a[:, 0].mean() + b[:, 0] / b[:, 0].mean())
        return float(both.mean() / scale), float(residuals.std(ddof=1) / np.sqrt(len(both)))

    def kurtosis(self, step: int, shares: Array | None = None) -> float:
        """Return E[moved^4]/E[moved^2]^2."""
        square, _, _, fourth = np.einsum(
            "h,ghk->k", self.design.shares if shares is None else shares, self._at(step)[..., :4]
        ) / len(self._at(step))
        return float(fourth / square**2) if square > 0 else 3.0

    def tensor_spreads(self, step: int) -> dict[str, float]:
        """Return the relative standard deviation of each tensor's ||Delta||^2 over noise (independent entries).

        Result: by name; the emulator's own error is not in it.
        """
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
