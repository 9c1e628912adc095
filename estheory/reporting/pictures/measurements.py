"""Where a checkpoint moved: norms by layer and by type of module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from estheory.quantities import Measurement, Quantity
from estheory.reporting.page.figures import entry, legend, style
from estheory.reporting.page.svg import clean
from estheory.reporting.pictures.picture import Picture
from estheory.reporting.text.tables import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CHECKPOINTS = 4


def measurements_picture(measurements: Sequence[Measurement], labels: Sequence[str]) -> Picture:
    """Draw displacement norms by layer and by type of module, a series a checkpoint, at most the last four."""
    norms = {m.where: m.value for m in measurements if m.quantity is Quantity.DISPLACEMENT_NORM}
    drawn = list(zip(short_names(labels), labels, strict=True))[-MOST_CHECKPOINTS:]
    modules = _groups(norms, "module", labels[-1])
    layers = _groups(norms, "layer", labels[-1])

    def draw(figure: Figure) -> None:
        heights = [1.0 * bool(layers), 0.14 * len(modules)]
        above, below = figure.subplots(2, 1, height_ratios=[max(h, 0.2) for h in heights])
        for index, (name, label) in enumerate(drawn):
            _layers(above, layers, norms, label, name, index)
            _modules(below, modules, norms, label, index, len(drawn))
        above.set_title("norm of the displacement by layer (weight)")
        above.set_xlabel("layer")
        above.set_ylim(bottom=0)
        above.locator_params(axis="x", integer=True)
        below.set_title("and by type of module")
        below.set_yticks(range(len(modules)), [clean(module, 24) for module in modules])
        below.set_ylim(len(modules) - 0.4, -0.6)
        below.set_xlim(left=0)
        below.grid(visible=False, axis="y")
        legend(figure, above)

    return Picture(draw=draw, height=220 + 18 * len(modules))


def _groups(norms: Mapping[str, float], level: str, label: str) -> list[str]:
    start = f"{level}:{label}:"
    names = [where.removeprefix(start) for where in norms if where.startswith(start)]
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def _layers(ax: Axes, layers: Sequence[str], norms: Mapping[str, float], label: str, name: str, index: int) -> None:
    numbered = [(int(layer), norms.get(f"layer:{label}:{layer}")) for layer in layers if layer.isdigit()]
    colour, line = style(index)
    known = [(layer, norm) for layer, norm in numbered if norm is not None]
    at, values = zip(*known, strict=True) if known else ((), ())
    ax.plot(at, values, "o", linestyle=line, color=colour, markersize=3, label=entry(name))


def _modules(ax: Axes, modules: Sequence[str], norms: Mapping[str, float], label: str, index: int, of: int) -> None:
    colour, _ = style(index)
    thick = 0.8 / of
    at = [row + (index - (of - 1) / 2) * thick for row in range(len(modules))]
    values = [norms.get(f"module:{label}:{module}", 0.0) for module in modules]
    ax.barh(at, values, height=0.9 * thick, color=colour)
