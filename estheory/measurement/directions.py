"""Scores along straight lines from one point: what a displacement's direction is worth, against a random one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estheory.errors import ConfigError
from estheory.line_scores import DirectionProbe as DirectionProbe
from estheory.measurement.interpolation import Evaluate, stacked_scores
from estheory.models.parameters import FlatParameters


def random_direction(like: Tensor, seed: int = 0) -> Tensor:
    """Return a uniformly random direction of length 1.

    Examples
    --------
    >>> round(float(random_direction(torch.zeros(1000)).norm()), 4)
    1.0
    """
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit: Tensor = noise / noise.norm()
    return unit.to(like)


def probe_directions(
    parameters: FlatParameters, directions: Mapping[str, Tensor], radii: Sequence[float], evaluate: Evaluate
) -> DirectionProbe:
    """Evaluate a model at theta + r u for each direction u, normalised here, and each distance r.

    The model is put back bit for bit, also after an error. The start itself is evaluated once. Cost: one
    evaluation for each direction and distance other than 0.

    `parameters`: the model's trainable parameters; their present value is the start.
    `directions`: D displacements by label, each of shape (dim,); only their directions count.
    `evaluate`: scores of the model as it is now, one for each of P prompts, P at least 2.

    Examples
    --------
    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> flat = FlatParameters(model)
    >>> _ = flat.vector.fill_(0.0)
    >>> north = {"first": torch.tensor([2.0, 0.0, 0.0])}
    >>> probe = probe_directions(flat, north, [0.0, 0.5], lambda: [float(flat.vector[0]), 0.0])
    >>> probe.means
    array([[0.  , 0.25]])
    """
    lengths = {label: float(u.double().norm()) for label, u in directions.items()}
    if not directions or not radii or any(u.shape != parameters.vector.shape for u in directions.values()):
        what = f"{len(directions)} directions at {len(radii)} distances do not fit {parameters.dim} parameters"
        raise ConfigError(what, "give directions of the model's parameters, and distances")
    if not all(0 < length < float("inf") for length in lengths.values()):
        raise ConfigError("a displacement of length 0 has no direction", "give a run that moved")
    at_start: NDArray[np.float64] | None = None
    rows: list[NDArray[np.float64]] = []
    with parameters.restored() as start, torch.no_grad():
        for label, direction in directions.items():
            for radius in radii:
                if radius == 0.0 and at_start is not None:
                    rows.append(at_start)
                    continue
                parameters.vector.copy_(start).add_(direction, alpha=radius / lengths[label])
                rows.append(np.asarray(evaluate(), dtype=np.float64).reshape(-1))
                if radius == 0.0:
                    at_start = rows[-1]
    shape = (len(directions), len(radii), -1)
    return DirectionProbe(
        labels=tuple(directions),
        radii=np.array(radii, dtype=np.float64),
        scores=stacked_scores(rows).reshape(shape),
    )
