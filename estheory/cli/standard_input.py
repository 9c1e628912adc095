"""``-`` in the place of a file that a command reads: standard input, kept in a file while the command runs."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from estheory.errors import DataError

STANDARD_INPUT = Path("-")
WRITTEN = ("output", "out", "plot", "keep")
"""Options that name files to be written."""
_MAGIC = {b"\x93NUM": ".npy", b"PK\x03\x04": ".npz", b"PAR1": ".parquet"}


class StandardInput:
    """Standard input as a file, made when the first option names it and gone when the context ends."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._file: Path | None = None

    def __enter__(self) -> StandardInput:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def named(self, option: str, value: Any) -> Any:
        """Return the value of an option with the file in place of each ``-``."""
        if option in WRITTEN or option == "config":  # which was read when it was parsed
            return value
        if isinstance(value, list):
            return [type(item)(self._kept()) if str(item) == "-" else item for item in value]
        return self._kept() if value == STANDARD_INPUT else value

    def _kept(self) -> Path:
        if self._file is None:
            from tempfile import TemporaryDirectory  # most commands read none

            raw = sys.stdin.buffer.read()
            if not raw.strip():
                raise DataError("standard input is empty", "pipe a file into the command, or name one instead of -")
            folder = self._opened.enter_context(TemporaryDirectory())
            self._file = Path(folder, f"standard-input{_suffix(raw)}")
            self._file.write_bytes(raw)
        return self._file


def _suffix(raw: bytes) -> str:
    """Return the suffix that tells the format of a file."""
    if raw[:4] in _MAGIC:
        return _MAGIC[raw[:4]]
    text = raw.lstrip()
    if _is_json(text):
        return ".json"
    if text[:1] == b"{" and _is_json(text.split(b"\n")[0]):
        return ".jsonl"
    return ".toml" if b"[[" in text else ".csv"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
