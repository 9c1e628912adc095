"""Published measurements of real GPU runs, as their sources state them."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from importlib.resources import files
from typing import cast, get_args

from estheory.errors import DataError
from estheory.quantities import Measurement, Quantity
from estheory.rules import Dtype

_COLUMNS = [
    *("source", "where", "model", "d_counted", "population", "sigma", "alpha", "steps", "dtype", "update_path"),
    *("quantity", "value", "uncertainty", "status"),
]


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One published figure with the hyper-parameters that its source states; None where it states none.

    Attributes
    ----------
    source, where, model
        The publication, the table or figure in it, and the model that was measured.
    dim
        Number of parameters that the figure counts.
    population, sigma, alpha, steps
        Hyper-parameters of the run; sigma and alpha in weight units.
    dtype, path
        How weights were stored, and how updates were added to them or made, in words.
    quantity
        What the figure is of.
    value, uncertainty
        The figure and the half-width of its rounding, in the quantity's unit.
    status
        How the figure was read: exact, or from a plot.
    """

    source: str
    where: str
    model: str
    dim: int | None
    population: int | None
    sigma: float | None
    alpha: float | None
    steps: int | None
    dtype: Dtype
    path: str
    quantity: str
    value: float
    uncertainty: float
    status: str

    @property
    def publication(self) -> str:
        """The source and the model it measured."""
        return f"{self.source}, {self.model}"

    @property
    def place(self) -> str:
        """Where the figure stands, in one phrase."""
        return f"{self.publication}, {self.where}"

    @property
    def stderr(self) -> float:
        """The standard error that the rounding half-width amounts to: u / sqrt(3)."""
        return self.uncertainty / math.sqrt(3)

    def measurement(self, quantity: Quantity) -> Measurement:
        """Return the figure as a measurement.

        `quantity`: what it measures: the table does not tell ES from GRPO.
        """
        return Measurement(
            quantity=quantity,
            value=self.value,
            stderr=self.stderr,
            step=self.steps,
            where=self.place,
            source=self.publication,
        )


def read_published(text: str | None = None) -> tuple[PublishedRow, ...]:
    """Return the published rows.

    `text`: CSV with the columns of the shipped table; the shipped table when None.
    """
    if text is None:
        text = files("estheory").joinpath("data/published_runs.csv").read_text(encoding="utf-8")
    reader = csv.DictReader(text.splitlines())
    if reader.fieldnames != _COLUMNS:
        raise DataError("the table of published runs has other columns", f"expected {','.join(_COLUMNS)}")
    rows = []
    for line, cells in enumerate(reader, start=2):
        try:
            rows.append(_row(cells))
        except (ValueError, TypeError) as error:
            raise DataError(f"published runs, line {line}: {error}", "correct the line") from error
    return tuple(rows)


def _row(cells: dict[str, str]) -> PublishedRow:
    def number(name: str) -> float | None:
        return float(cells[name]) if cells[name] else None

    def count(name: str) -> int | None:
        return int(cells[name]) if cells[name] else None

    dtype = cells["dtype"].removesuffix(" master")
    if dtype not in get_args(Dtype):
        raise ValueError(f"dtype '{cells['dtype']}' is unknown")
    return PublishedRow(
        source=cells["source"],
        where=cells["where"],
        model=cells["model"],
        dim=count("d_counted"),
        population=count("population"),
        sigma=number("sigma"),
        alpha=number("alpha"),
        steps=count("steps"),
        dtype=cast(Dtype, dtype),
        path=cells["update_path"],
        quantity=cells["quantity"],
        value=float(cells["value"]),
        uncertainty=float(cells["uncertainty"]),
        status=cells["status"],
    )
