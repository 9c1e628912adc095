"""One figure of a real GPU run, and how it is joined with its prediction."""

from __future__ import annotations

from dataclasses import dataclass

from estheory.citations import ours
from estheory.laws import Law
from estheory.quantities import Label, Measurement, Prediction, Quantity
from estheory.validation.judge import Pair

SOURCE = "shardes-paper"
OURS = ours("economy")
TULU, QWEN = 8_030_326_784, 494_032_768


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure, without its prediction.

    Attributes
    ----------
    group
        Gap, cost, gain, reliability, norm or cosine.
    where
        Model and setting.
    value, stderr
        In the quantity's unit.
    step
        The update; None where steps have no part in it.
    """

    group: str
    where: str
    value: float
    stderr: float
    step: int | None = None


def figure_pair(
    figure: Figure,
    quantity: Quantity,
    law: Law,
    label: Label,
    *assumptions: str,
    systematic: float = 0.0,
    source: str = OURS,
) -> Pair:
    """Return a figure with what the theory says of it."""
    prediction = Prediction(
        quantity=quantity,
        law=law,
        label=label,
        source=source,
        assumptions=assumptions,
        step=figure.step,
        systematic=systematic,
    )
    return prediction, Measurement(
        quantity=quantity,
        value=figure.value,
        stderr=figure.stderr,
        step=figure.step,
        where=f"{figure.group}: {SOURCE}, {figure.where}",
        source=SOURCE,
    )
