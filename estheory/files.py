"""Files: JSON, TOML and JSON lines, whose damage is one kind of error, and results that are whole or not there.

Imports no numpy.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from estheory.errors import DataError, OutputError

_DEEP = "its brackets are nested too deeply"
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ZeroDivisionError, OSError)
"""What reading a record raises that does not hold what it should."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What writing says where there is no space."""
UNPRINTABLE = "backslashreplace"
"""Half a surrogate pair, which names in files may hold, is written as its escape, which JSON reads back."""

Problems = list[str]
"""Collects what is wrong with a file where reading goes on."""


def plainly(error: OSError | ValueError) -> str:
    """Return in plain words why a file cannot be read or written."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeDecodeError):
        return "it is not text"
    if isinstance(error, json.JSONDecodeError):
        if not error.doc.strip():
            return "it is empty"
        return f"it is no JSON from line {error.lineno}, column {error.colno} on"
    return str(error)


def parse_json(raw: bytes | str, *, finite: bool = False) -> Any:
    """Return what JSON says.

    `finite`: refuse NaN, infinities and numbers too large for a float: no file of this package holds any.
    """
    try:
        return json.loads(raw, parse_constant=_finite, parse_float=_finite) if finite else json.loads(raw)
    except RecursionError:
        raise ValueError(_DEEP) from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def parse_toml(raw: bytes | str) -> dict[str, Any]:
    """Return what TOML says."""
    import tomllib  # most commands read none

    try:
        return tomllib.loads(raw if isinstance(raw, str) else raw.decode("utf-8"))
    except RecursionError:
        raise ValueError(_DEEP) from None


def read_object(file: Path, remedy: str = "restore it", *, finite: bool = False) -> dict[str, Any]:
    """Return the object in a JSON file, or in a TOML file if its name ends so."""
    try:
        raw = file.read_bytes()
        content = parse_toml(raw) if file.suffix == ".toml" else parse_json(raw, finite=finite)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {plainly(error)}", remedy) from error
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no JSON object", remedy)
    return content


def json_lines(lines: Iterable[bytes | str], *, finite: bool = False) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the object of each line that is not blank with the line's number from 1, or what is wrong with the line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, finite=finite)
        except json.JSONDecodeError:
            row, wrong = None, "truncated or not JSON"
        except ValueError as error:
            row, wrong = None, str(error)[:80]
        else:
            wrong = "no JSON object"
        yield number, row if isinstance(row, dict) else wrong


def whole_lines(lines: Iterable[bytes | str], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of lines all of which must be right; `where` names their file in errors."""
    for number, row in json_lines(lines):
        if isinstance(row, str):
            raise DataError(f"{where}, line {number}: {row}", "repair or remove the line")
        yield number, row


def read_lines(
    file: Path, problems: Problems | None = None, *, finite: bool = False, appended: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSONL file with the numbers of their lines, without blank lines.

    A last line without its line break that is torn is an interrupted write and is left out.

    `problems`: where to note damaged lines; None raises.
    `finite`: as in `parse_json`.
    `appended`: the file's writer ends every line, so that a last line without its break is left out whatever it says.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {file}: {plainly(error)}", "restore it") from error
    for number, row in json_lines(lines[:-1] if appended else lines, finite=finite):
        if isinstance(row, dict):
            yield number, row
        elif number < len(lines):
            note(
                DataError(f"{file}: line {number} is damaged", "restore the file, or cut it before that line"), problems
            )


def note(error: DataError, problems: Problems | None) -> None:
    """Note what is wrong, without the remedy, or raise it where nothing collects problems."""
    if problems is None:
        raise error
    problems.append(error.what)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say of what a record does not hold that it is damaged, as `DataError`."""
    try:
        yield
    except DAMAGED as error:
        what = f"{path}: a record is missing or damaged ({type(error).__name__}: {error})"
        raise DataError(what, "restore the files of the run") from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {plainly(error)}", "choose another folder") from error


def replaceable(path: Path) -> Path:
    """Return the file that a result written to ``path`` replaces as a whole; links are followed."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        raise OutputError(f"cannot write {path}: it is a device or a pipe", "name a file; stdout is the default")
    return target


@contextmanager
def replacing(path: Path, remedy: str | None = None) -> Iterator[Path]:
    """Replace a file or a folder as a whole: what is written to the yielded path beside it takes its place at the end.

    Where that fails, with OSError as `OutputError`, the old one stays and nothing of the new one is left.

    `remedy`: of that error; None chooses one that fits the cause.
    """
    target = replaceable(path)
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # what a kill left
        yield temporary
        if temporary.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
        temporary.replace(target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            full = error.errno in FULL
            fitting = remedy or ("free space or choose another folder" if full else "choose another folder")
            raise OutputError(f"cannot write {path}: {plainly(error)}", fitting) from error
        raise


def write_text(path: Path, text: str, remedy: str | None = None) -> None:
    """Write a text file as a whole."""
    with replacing(path, remedy) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=UNPRINTABLE)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file as a whole."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
