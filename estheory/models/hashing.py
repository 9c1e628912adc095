"""SHA-256 of files and of a model's weights. Imports no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCK = 1 << 20


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's contents."""
    return _sha256([path])


def sha256_of_folder(folder: Path) -> str:
    """Return the SHA-256 of the contents of a folder's safetensors files, in order of name."""
    return _sha256(sorted(folder.glob("*.safetensors")))


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
