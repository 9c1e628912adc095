"""What kind of file holds the weights, by its first bytes: the name that somebody gave it may be wrong.

Imports no torch.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from estheory.errors import DataError

TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
OTHER_SUFFIXES = (
    ".gguf",
    ".npz",
    ".h5",
    ".msgpack",
    ".onnx",
    ".zip",
    ".tar",
    ".gz",
    ".tgz",
    ".bz2",
    ".xz",
    ".zst",
    ".7z",
)
"""Of files that are refused by their own name."""
_SAVE_FILE = "read it with the library that wrote it, and write its arrays with safetensors.numpy.save_file"
_UNPACK = "unpack it, and give the folder or the file of weights in it"
_FOREIGN = {
    b"GGUF": ("a GGUF file", "convert it: transformers' from_pretrained(FOLDER, gguf_file=NAME), then save_pretrained"),
    b"\x93NUMPY": ("a NumPy array", _SAVE_FILE),
    b"\x89HDF\r\n": ("an HDF5 file (Keras, TensorFlow)", _SAVE_FILE),
    b"\x1f\x8b": ("a gzip archive", _UNPACK),
    b"BZh": ("a bzip2 archive", _UNPACK),
    b"\xfd7zXZ": ("an xz archive", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", _UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
    **dict.fromkeys(
        (b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        ("a Python pickle", "it is not unpickled, since a pickle can run code; write its tensors with safetensors"),
    ),
    **dict.fromkeys((b"<!DOCTYPE", b"<!doctype", b"<html"), ("a web page", "download the file of weights itself")),
    b"version https://git-lfs": ("a Git LFS pointer, not the weights themselves", "fetch them: git lfs pull"),
}
_SHARD = ".distcp"
_BY_SUFFIX = {
    ".msgpack": ("a Flax file", _SAVE_FILE),
    ".onnx": ("an ONNX file", _SAVE_FILE),
    ".npz": ("a NumPy archive", _SAVE_FILE),
    ".gguf": _FOREIGN[b"GGUF"],
    ".h5": _FOREIGN[b"\x89HDF\r\n"],
    _SHARD: ("one shard of a distributed checkpoint", "give its folder"),
}
_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257


def is_torch_file(file: Path) -> bool:
    """Whether torch.save wrote a file, and not safetensors; other kinds are refused by their name."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_TAR_OFFSET + len(_TAR_MAGIC))
    except OSError:
        return file.suffix in TORCH_SUFFIXES
    if file.suffix == _SHARD:
        raise _refused(file, *_BY_SUFFIX[_SHARD])
    if _safetensors_header(file, start):
        return False
    for magic, kind in _FOREIGN.items():
        if start.startswith(magic):
            raise _refused(file, *kind)
    if start[_TAR_OFFSET:] == _TAR_MAGIC:
        raise _refused(file, "a tar archive", _UNPACK)
    if start.startswith(b"PK\x03\x04"):
        return _is_torch_archive(file)
    if file.suffix in _BY_SUFFIX:
        raise _refused(file, *_BY_SUFFIX[file.suffix])
    return file.suffix in TORCH_SUFFIXES or start.startswith(b"\x80\x02\x8a\x0a")  # torch's magic number, pickled


def _safetensors_header(file: Path, start: bytes) -> bool:
    """Whether a file starts as safetensors do: a length, whose bytes may be any magic number, and a brace."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= file.stat().st_size


def _is_torch_archive(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return True  # torch says what is wrong with it
    if any(name.endswith("/constants.pkl") for name in members):
        remedy = "save its weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        raise _refused(file, "a TorchScript archive", remedy)
    if any(name.endswith("data.pkl") for name in members):
        return True
    if any(name.endswith(".npy") for name in members):
        raise _refused(file, "a NumPy archive", _SAVE_FILE)
    raise _refused(file, "a zip archive", _UNPACK)


def _refused(file: Path, kind: str, remedy: str) -> DataError:
    return DataError(f"{file} is {kind}, and weights are read from safetensors files and those of torch.save", remedy)
