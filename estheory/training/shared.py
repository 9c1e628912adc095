"""Vectors that processes on one machine share."""

from __future__ import annotations

import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from estheory.errors import OutputError

_MARK_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What a process needs to find a `SharedVector`; it pickles.

    Attributes
    ----------
    path
        Of the memory, as other processes of the machine see it.
    mark
        Random bytes behind the vector: a file of that path on another machine does not have them.
    dim, dtype
        Of the vector.
    """

    path: str
    mark: bytes
    dim: int
    dtype: torch.dtype

    def vector(self) -> Tensor | None:
        """Return the vector, shape (dim,), None where it is out of reach."""
        try:
            with open(self.path, "rb") as memory:
                memory.seek(self.dim * self.dtype.itemsize)
                if memory.read() != self.mark:
                    return None
        except OSError:
            return None
        return torch.from_file(self.path, shared=True, size=self.dim, dtype=self.dtype)


@dataclass(frozen=True, kw_only=True)
class Tickets:
    """Of the vectors that the processes of a run share.

    Attributes
    ----------
    theta
        The parameters after the last step.
    made
        What is written to make their next value.
    """

    theta: Ticket
    made: Ticket


class SharedVector:
    """A copy of a vector in memory that other processes can map. Keep it as long as they are to find it.

    On Linux the memory has no name and ends with its last user, however that ends; elsewhere it is a temporary file,
    removed by `close`.

    `vector`: on the CPU; not changed.
    """

    def __init__(self, vector: Tensor) -> None:
        mark = secrets.token_bytes(_MARK_BYTES)
        size = vector.numel() * vector.dtype.itemsize
        self._file: Path | None = None
        try:
            if hasattr(os, "memfd_create"):
                self._handle = os.memfd_create("estheory")
                path = f"/proc/{os.getpid()}/fd/{self._handle}"
            else:
                self._handle, path = tempfile.mkstemp(prefix="estheory-")
                self._file = Path(path)
            os.truncate(self._handle, size)
            os.pwrite(self._handle, mark, size)
        except OSError as error:
            raise OutputError(f"processes cannot share memory ({error})", "use one worker") from error
        self.ticket = Ticket(path=path, mark=mark, dim=vector.numel(), dtype=vector.dtype)
        found = self.ticket.vector()
        if found is None:
            raise OutputError(f"processes cannot share memory ({path} is out of reach)", "use one worker")
        self.vector: Tensor = found.copy_(vector)

    def close(self) -> None:
        """Let no further process find the vector; those that have it keep it."""
        os.close(self._handle)
        if self._file is not None:
            self._file.unlink(missing_ok=True)
