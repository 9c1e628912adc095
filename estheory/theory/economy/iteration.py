"""Rewards of the members of one iteration on its prompts, checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estheory._special import Array
from estheory.errors import DataError

LARGEST = 1e100
"""Rewards beyond it have no variance that can be computed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Iteration:
    """Rewards of the members of one iteration.

    Attributes
    ----------
    rewards
        Shape (N, B), reward units: member i on prompt b, the same prompts for all.
    sigma
        Perturbation scale, weight units.
    mirrored
        Members 2k and 2k + 1 are theta + sigma eps_k and theta - sigma eps_k.
    centre
        Rewards of theta itself on the prompts, shape (B,); None where it was not evaluated.
    step
        Of the run; None outside one.

    Raises
    ------
    DataError
        Naming row and column of what is unusable.
    """

    rewards: Array
    sigma: float
    mirrored: bool = False
    centre: Array | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        """Check the matrix and the centre."""
        require_matrix(self.rewards)
        members, prompts = self.rewards.shape
        if self.mirrored and (members % 2 or members < 4):
            raise DataError(
                f"{members} rows are no mirrored pairs (row {members} has no partner)"
                if members % 2
                else f"{members} rows are one mirrored pair: it has no spread",
                "give an even number of rows, of at least 4",
            )
        if self.centre is not None and (self.centre.shape != (prompts,) or not np.isfinite(self.centre).all()):
            raise DataError(
                f"the centre has {self.centre.size} rewards for {prompts} columns"
                if self.centre.size != prompts
                else f"the centre's reward of column {1 + int(np.argmin(np.isfinite(self.centre)))} is no number",
                "give its reward on each prompt",
            )


def require_matrix(rewards: Array) -> None:
    """Refuse rewards that hold no variance component, naming row and column.

    Parameters
    ----------
    rewards
        Shape (N, B) asked for, reward units.

    Raises
    ------
    DataError
        No matrix, one member, one prompt, a number that is none, all equal, or a member on another scale.
    """
    if rewards.ndim != 2:
        raise DataError(f"the rewards have {rewards.ndim} axes, not members by prompts", "give a matrix")
    members, prompts = rewards.shape
    if members < 2 or prompts < 2:
        what = "1 row has no spread between members" if members < 2 else "1 column cannot tell effect from noise"
        raise DataError(f"{what} ({members} rows, {prompts} columns)", "give 2 or more members on 2 or more prompts")
    bad = np.argwhere(~np.isfinite(rewards))
    if bad.size:
        row, column = bad[0] + 1
        raise DataError(f"row {row}, column {column} is no finite number", "correct it, or leave the prompt out")
    if np.abs(rewards).max() > LARGEST:
        row, column = np.unravel_index(int(np.abs(rewards).argmax()), rewards.shape)
        raise DataError(
            f"row {row + 1}, column {column + 1} is {rewards[row, column]:g}, too large to square",
            "correct it, or give rewards in another unit",
        )
    if np.ptp(rewards) == 0:
        value = rewards[0, 0]
        raise DataError(
            f"all rewards are equal (row 1, column 1 to row {members}, column {prompts} are {value:g})",
            "use other prompts, a finer reward or a larger sigma",
        )
    alone = _other_scale(rewards)
    if alone is not None:
        column = int(np.argmax(np.abs(rewards[alone])))
        raise DataError(
            f"row {alone + 1} is on another scale than the others (column {column + 1} is {rewards[alone, column]:g})",
            "give all members' rewards on one scale",
        )


_FEW = 10


_FAR = 8.0


def _other_scale(rewards: Array) -> int | None:
    """Return a member whose rewards are on a scale of their own; None where there is none.

    Of rewards with few values: one whose values, but 0, no other member has. Of many: one whose spread around the
    prompts' medians is 8 times that of the median member, with 8 prompts or more.
    """
    members, prompts = rewards.shape
    if members < 3:
        return None
    values, codes = np.unique(rewards, return_inverse=True)
    if values.size <= 2 * _FEW:
        has = np.zeros((members, values.size), dtype=bool)
        has[np.arange(members)[:, None], codes.reshape(rewards.shape)] = True
        alone = has.sum(axis=0) == 1
        others = has.any(axis=0) & ~alone & (values != 0)
        for row in np.flatnonzero((has & alone).any(axis=1)):
            own = has[row] & (values != 0)
            if own.sum() and not (own & ~alone).any() and others.any() and (rewards[row] != 0).sum() >= 3:
                return int(row)
        return None
    if prompts < 8:
        return None
    spread = np.sqrt(np.mean((rewards - np.median(rewards, axis=0)) ** 2, axis=1))
    usual = np.median(spread)
    widest = int(np.argmax(spread))
    return widest if usual > 0 and spread[widest] > _FAR * usual else None
