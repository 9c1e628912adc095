"""A matplotlib figure written to a file: what every ``--plot`` ends in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from estheory.errors import ConfigError, MissingDependencyError
from estheory.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(path: Path, draw: Callable[[Figure], None], *, size: tuple[float, float]) -> None:
    """Write a figure to a file.

    Parameters
    ----------
    path
        Its suffix is the format; PNG without one.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("--plot needs matplotlib", "pip install 'estheory[plots]'") from None
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    try:
        with replacing(path, "choose another --plot") as temporary:
            figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=150)
    except ValueError as error:
        raise ConfigError(f"--plot {path}: {error}", "end the name in .png, .svg or .pdf") from None
