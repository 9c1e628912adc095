"""Rows of real data sets: JSONL and Parquet files of a folder, or a data set of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from estheory.errors import DataError, MissingDependencyError
from estheory.files import plainly, whole_lines
from estheory.tasks.record import Record
from estheory.tasks.schemas import read_records

HUB = "hf:"
"""What a data set of the hub is asked for by: ``hf:openai/gsm8k`` or ``hf:openai/gsm8k:main``."""

_SPLITS = {"train": "train", "test": "test", "validation": "test", "valid": "test", "val": "test", "dev": "test"}
_ENDINGS = (".jsonl", ".parquet")
_NAME = re.compile(rf"(?:(.+?)[-_.])?({'|'.join(_SPLITS)})(?:[-_.]\d+(?:-of-\d+)?)?", re.IGNORECASE)
_READABLE = "give JSONL (one object per line) or Parquet"


def records_of(data: str, task: str) -> dict[str, list[Record]] | None:
    """Return the problems of a task by the split that their file's name says: train, test, or "" for neither.

    `task`: in a folder, the files are ``TASK.jsonl``, ``TASK-train.parquet`` and the like, those in its subfolder TASK,
    or, in a folder named TASK itself, ``train.parquet`` and the like; ``validation`` and ``dev`` are test.
    Result: None where the folder has no file of the task.
    """
    if data.startswith(HUB):
        return _from_hub(data)
    found: dict[str, list[Record]] = {}
    for path, split in _files(_folder(data), task):
        found.setdefault(split, []).extend(read_file(path))
    return found or None


def has_task(data: str, task: str) -> bool:
    """Return whether a folder has files of a task.

    Result: False for a data set of the hub, whose name is any that it is given.
    """
    return not data.startswith(HUB) and bool(_files(_folder(data), task))


def data_hashes(data: str, task: str) -> dict[str, str]:
    """Return what tells whether a task's data are what they were.

    Result: SHA-256 of each file by its name, or of the rows of each split of a data set of the hub.
    """
    if data.startswith(HUB):
        splits = _from_hub(data)
        return {split: sha256("\n".join(map(repr, found)).encode()).hexdigest() for split, found in splits.items()}
    folder = _folder(data)
    try:
        return {
            str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path, _ in _files(folder, task)
        }
    except OSError as error:
        raise DataError(f"cannot read {data}: {plainly(error)}", "give a folder that can be read") from error


def tasks_in(data: str) -> tuple[str, ...]:
    """Return the names of the tasks that a folder's own files are of."""
    if data.startswith(HUB):
        return ()
    return tuple(sorted({name for path in _readable(Path(data)) if (name := _parts(path)[0])}))


def _folder(data: str) -> Path:
    if not (folder := Path(data)).is_dir():
        raise DataError(f"there is no folder {data}", "name a folder of data, or hf:ID for a data set of the hub")
    return folder


def read_file(path: Path) -> tuple[Record, ...]:
    """Read one JSONL or Parquet file; once, while it stays as it is: a run asks for its task several times."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {plainly(error)}", _READABLE) from error
    return _read_as_of(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read_as_of(path: Path, modified: int, size: int) -> tuple[Record, ...]:
    rows = list(_parquet_rows(path) if path.suffix.lower() == ".parquet" else _json_rows(path))
    if not rows:
        raise DataError(f"{path} holds no row", _READABLE)
    return tuple(read_records(rows))


def _readable(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in _ENDINGS and p.is_file())
    except OSError as error:
        raise DataError(f"cannot read {folder}: {plainly(error)}", "give a folder that can be read") from error


def _parts(path: Path) -> tuple[str, str]:
    """Return the task ("" if none) and the split ("" if none) that a file's name says."""
    match = _NAME.fullmatch(path.stem)
    return (path.stem, "") if match is None else (match[1] or "", _SPLITS[match[2].lower()])


def _files(folder: Path, task: str) -> list[tuple[Path, str]]:
    """Return the task's files, each with its split."""
    places = [(path, *_parts(path)) for path in _readable(folder)]
    named = [(path, split) for path, name, split in places if name == task]
    if not named and (folder / task).is_dir():
        named = [(path, _parts(path)[1]) for path in _readable(folder / task)]
    if not named and folder.resolve().name == task:
        named = [(path, split) for path, name, split in places if not name]
    return named


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open("rb") as lines:
            for number, row in whole_lines(lines, str(path)):
                yield f"{path}, line {number}", row
    except OSError as error:
        raise DataError(f"cannot read {path}: {plainly(error)}", _READABLE) from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError("reading Parquet needs pyarrow", "pip install 'estheory[llm]'") from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        detail = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is damaged or not Parquet ({detail})", "copy the file again") from error
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", row


def _from_hub(data: str) -> dict[str, list[Record]]:
    """Download a data set. The only place here that touches the network, and only when asked to."""
    name, _, configuration = data.removeprefix(HUB).partition(":")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingDependencyError("a data set of the hub needs datasets", "pip install 'estheory[llm]'") from error
    try:
        loaded = load_dataset(name, configuration or None)
    except Exception as error:  # the library's errors have no common base
        detail = " ".join(str(error).split())[:160]
        raise DataError(f"cannot load the data set {name!r} ({detail})", "check the name and the network") from error
    found: dict[str, list[Record]] = {}
    for split, rows in loaded.items():
        if split in _SPLITS:
            places = [(f"{name}/{split}, row {number}", dict(row)) for number, row in enumerate(rows, 1)]
            found.setdefault(_SPLITS[split], []).extend(read_records(places))
    if not found:
        raise DataError(f"the data set {name!r} has none of the splits {', '.join(_SPLITS)}", "choose another")
    return found
