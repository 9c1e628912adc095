"""What a run borrows of its process and gives back: torch's threads, transformers' messages, the global generators."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR

import numpy as np
import torch
from transformers.utils import logging

_SET_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG


def end_with_parent() -> None:
    """Let this process, a worker, end when its parent does, however that ends, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere a worker ends when it next reads from the parent
        parent = multiprocessing.parent_process()
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if parent is not None and parent.pid != os.getppid():  # it ended before that
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers, and what builds on it, from writing warnings, notices and progress bars for a while."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(ERROR)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def restored_random_state() -> Iterator[None]:
    """Give Python's, numpy's and torch's global generators back as they were after a while."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
