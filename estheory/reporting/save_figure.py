"""A matplotlib figure written to a file: what every ``--plot`` ends in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from estheory.errors import ConfigError, MissingDependencyError, OutputError
from estheory.outputs import replaceable

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
    path = replaceable(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=150)
        temporary.replace(path)
    except ValueError as error:
        raise ConfigError(f"--plot {path}: {error}", "end the name in .png, .svg or .pdf") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "choose another --plot") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
