"""A figure of a result: what every ``--plot`` writes and a notebook shows. Needs matplotlib when it is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from estheory.errors import ConfigError
from estheory.files import replacing
from estheory.reporting.page.svg import new_figure

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

RESOLUTION = 200


class Picture:
    """A figure as wide as a phone's screen, where its text is as large as in print.

    Parameters
    ----------
    draw
        Draws it into an empty figure.
    height
        In points; the width is 360.

    Attributes
    ----------
    figure
        The matplotlib figure.
    """

    def __init__(self, *, draw: Callable[[Figure], None], height: float) -> None:
        with new_figure(height, {"svg.fonttype": "path"}) as self.figure:
            draw(self.figure)
            self.figure.canvas.draw()

    def save(self, path: Path) -> None:
        """Write the figure to a file whose suffix is its format; PNG without one."""
        try:
            with replacing(path, "choose another file") as temporary:
                self.figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=RESOLUTION)
        except ValueError as error:
            raise ConfigError(f"cannot draw {path}: {error}", "end the name in .png, .svg or .pdf") from error

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.figure.savefig(written, format="png", dpi=RESOLUTION)
        return written.getvalue()


def log_ticks(axis: Axis) -> None:
    """Put round numbers at the ticks of a logarithmic axis, written without powers where they are short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    crowded = ((2.5, (1.0,)), (1.2, (1.0, 3.0)), (0.4, (1.0, 2.0, 5.0)))
    subs = next((found for least, found in crowded if decades > least), tuple(map(float, range(1, 10))))
    axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
