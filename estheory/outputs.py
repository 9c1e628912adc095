"""Which file a result takes the place of."""

from __future__ import annotations

import os
from pathlib import Path

from estheory.errors import OutputError


def replaceable(path: Path) -> Path:
    """Return the file that a result written to ``path`` replaces as a whole; links are followed."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        raise OutputError(f"cannot write {path}: it is a device or a pipe", "name a file; stdout is the default")
    return target
