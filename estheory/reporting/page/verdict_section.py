"""The verdicts of a page as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence

from estheory.quantities import Verdict
from estheory.reporting.page.page import Section
from estheory.reporting.page.svg import new_figure, to_svg
from estheory.reporting.pictures.verdicts import forest, forest_height
from estheory.reporting.text.verdicts import group_words, is_quiet_tensor, worst_ratio


def verdict_section(verdicts: Sequence[Verdict]) -> Section | None:
    """Show measured over predicted of each verdict, on the line of its quantity; None where none has a ratio."""
    shown = [v for v in verdicts if not v.near_zero and not is_quiet_tensor(v)]
    if not shown:
        return None
    words = []
    for quantity in dict.fromkeys(v.prediction.quantity for v in shown):
        group = [v for v in shown if v.prediction.quantity is quantity]
        told = ", ".join(text for _, text in group_words(group))
        words.append(f"{quantity}: {told}, the ratio furthest from 1 is {worst_ratio(group)}")
    with new_figure(forest_height(shown)) as figure:
        forest(figure, shown)
        drawn = to_svg(figure, "Measured over predicted", "; ".join(words) + ".")
    return Section(
        title="Measured over predicted",
        sentence="Each dot is a measurement over its prediction, on the line of its quantity, with the uncertainty of "
        "both (95 %). At 1 they agree. What is predicted to be next to 0 has no ratio and is in the table alone.",
        figure_svg=drawn,
    )
