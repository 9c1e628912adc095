"""Rewards along the straight line between two checkpoints of one model, against the chord.

On a concave quadratic, R(u) - [(1-u) R(0) + u R(1)] = 1/2 u (1-u) D' Lam D with D the difference of the ends:
no barrier, and the middle is at least as good as the chord.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estheory.errors import ConfigError, DataError
from estheory.line_scores import Interpolation as Interpolation
from estheory.models.checkpoints import Checkpoint, open_checkpoint
from estheory.models.parameters import FlatParameters

Evaluate = Callable[[], Sequence[float] | NDArray[np.float64]]
"""Scores of the model as it is now, one a prompt, always on the same prompts in the same order."""


def interpolate(
    parameters: FlatParameters, start: Tensor, end: Tensor, evaluate: Evaluate, *, points: int = 11
) -> Interpolation:
    """Evaluate a model at theta(u) = (1-u) start + u end for equally spaced u.

    The ends are evaluated at exactly `start` and `end`. The model is put back bit for bit, also after an
    error.

    `evaluate`: scores of the model as it is now, one for each of P prompts, P at least 2.

    Examples
    --------
    >>> flat = FlatParameters(torch.nn.Linear(1, 1, bias=False))
    >>> ends = torch.tensor([0.0]), torch.tensor([2.0])
    >>> line = interpolate(flat, *ends, lambda: [float(flat.vector[0]) ** 2, 0.0], points=3)
    >>> line.means, line.rises  # a convex score lies below its chord
    (array([0. , 0.5, 2. ]), array([ 0. , -0.5,  0. ]))
    """
    if points < 3 or start.shape != parameters.vector.shape or end.shape != parameters.vector.shape:
        what = f"{points} points between ends of {tuple(start.shape)} and {tuple(end.shape)} are no line"
        raise ConfigError(what, f"use 3 or more points and two ends of {parameters.dim} parameters")
    fractions = np.linspace(0.0, 1.0, points)
    rows: list[NDArray[np.float64]] = []
    with parameters.restored(), torch.no_grad():
        for u in fractions.tolist():
            parameters.vector.copy_(start).mul_(1 - u).add_(end, alpha=u)
            rows.append(np.asarray(evaluate(), dtype=np.float64).reshape(-1))
    return Interpolation(fractions=fractions, scores=stacked_scores(rows))


def stacked_scores(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the scores at several points of a line as one array.

    `rows`: scores at each of n points, one for each of P prompts.
    """
    if len({row.size for row in rows}) != 1 or rows[0].size < 2 or not all(np.isfinite(row).all() for row in rows):
        raise DataError("scores along the line are not finite, or not on the same 2 or more prompts", "fix the task")
    return np.stack(rows)


def interpolate_checkpoints(
    parameters: FlatParameters, start: str | Path, end: str | Path, evaluate: Evaluate, *, points: int = 11
) -> Interpolation:
    """Evaluate a model on the line between two checkpoints of it (see :func:`interpolate`).

    Parameters
    ----------
    parameters
        The model's trainable parameters.
    start, end
        Paths of the checkpoints.
    evaluate, points
        As for `interpolate`.

    Returns
    -------
    Interpolation

    Raises
    ------
    ConfigError
        If there are fewer than 3 points.
    DataError
        If a checkpoint is damaged or does not hold exactly these parameters.
    """
    ends = [checkpoint_vector(parameters, open_checkpoint(path)) for path in (start, end)]
    return interpolate(parameters, ends[0], ends[1], evaluate, points=points)


def checkpoint_vector(parameters: FlatParameters, checkpoint: Checkpoint) -> Tensor:
    """Read the parameters stored in a checkpoint as one vector.

    `parameters`: of the model: which tensors, and their order.
    Result: shape (dim,), in the dtype and on the device of `parameters`.
    """
    shapes = dict(zip(parameters.names, parameters.shapes, strict=True))
    stored = {name: entry.shape for name, entry in checkpoint.tensors.items()}
    if stored != shapes:
        first = sorted(name for name in stored.keys() | shapes.keys() if stored.get(name) != shapes.get(name))[0]
        what = f"{checkpoint.path} does not hold the model's trainable tensors (first difference: {first})"
        raise DataError(what, "give a checkpoint of this model with the same trainable tensors")
    vector = torch.empty_like(parameters.vector)
    for name, view in parameters.items(vector):
        view.copy_(torch.from_numpy(checkpoint.tensor(name)))
    return vector
