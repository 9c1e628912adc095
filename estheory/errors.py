"""The errors that estheory raises on purpose.

Every message says what is wrong, where, and what to do about it. The command line prints it as one line
(``error: ...``) and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable


class EstheoryError(Exception):
    """Base class of everything estheory raises on purpose.

    Parameters
    ----------
    what
        What is wrong and where, without a trailing full stop.
    remedy
        What the user can do about it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}: {remedy}" if remedy else what)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean '...'? `` with the known word that is nearest to a mistyped one; empty if none is near."""
    import difflib  # only what fails needs it

    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean '{close[0]}'? " if close else ""


class ConfigError(EstheoryError):
    """A configuration value or key is unusable (out of range, not a number, unknown, contradictory)."""


class DataError(EstheoryError):
    """A file or folder is missing, truncated, or does not hold what it should."""


class OutputError(EstheoryError):
    """A result cannot be written (folder missing, occupied, disk full, no permission)."""


class MissingDependencyError(EstheoryError):
    """An optional package is needed for what was asked."""


class Interrupted(Exception):  # noqa: N818  # not an error
    """A command was stopped by Ctrl-C; the message says how to go on."""
