"""Any run on disk, whoever's code wrote it, as one typed view."""

from __future__ import annotations

from pathlib import Path

from estheory.errors import ConfigError
from estheory.files import Problems
from estheory.runs.directory import RunDirectory, is_run
from estheory.runs.foreign import read_foreign
from estheory.runs.view import ForeignRun, Given, OwnRun


def read_own(path: Path) -> OwnRun:
    """Read a run directory of this package."""
    return RunDirectory.open(path).record()


def read_run(path: Path, given: Given | None = None, problems: Problems | None = None) -> OwnRun | ForeignRun:
    """Read a run directory of this package or of another code, or a JSONL log of any code.

    `given`: what the caller says of a run of another code; a run of this package leaves nothing open.
    `problems`: where to note what is damaged in a run of another code; None raises.
    """
    if not is_run(path):
        return read_foreign(path, given, problems)
    if given not in (None, Given()):
        raise ConfigError(f"{path} tells its own configuration", "leave the ES options out")
    return read_own(path)
