"""What rounding does to published runs whose weights are not at hand: the recorded emulation over a family of weights.

The table is made by experiments/rounding-family; nothing in it is fitted to a published figure.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files

from estheory.rules import ESConfig
from estheory.theory.precision import NormBand


@lru_cache(maxsize=1)
def _rows() -> tuple[dict[str, str], ...]:
    text = files("estheory").joinpath("data/rounding_family.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def recorded_band(config: ESConfig, path_known: bool = True) -> NormBand | None:
    """Return the range of rounding's factor on norms over weights and restore pairs, None where none is recorded.

    Parameters
    ----------
    config
        The run; dtype, population, sigma, alpha and steps must match, and the update path where it is known.
    path_known
        Whether the update path is stated; else both count.
    """
    wanted = (config.dtype, config.population, config.sigma, config.step_size, config.steps)
    variances = [
        float(row["variance"])
        for row in _rows()
        if (row["dtype"], int(row["population"]), float(row["sigma"]), float(row["alpha"]), int(row["steps"])) == wanted
        and (not path_known or row["update_path"] == config.update_path)
    ]
    return NormBand.over(variances) if variances else None
