"""Writing a matplotlib figure to the file of ``--plot``: whole, or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from estheory.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_plot(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's ending names (none: PNG).

    Raises
    ------
    ConfigError
        If matplotlib has no such format.
    OutputError
        If the file cannot be written; an old one stays as it was.
    """
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
