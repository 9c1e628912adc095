"""Where the members of an ES step are evaluated. Results have the same bits everywhere.

A worker holds the model and the walk, and follows the run from its rows alone: no weights travel. One that dies is
replaced by a new one, which makes the run's steps again from the base.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from estheory.errors import DataError, EstheoryError
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row
from estheory.training.members import Members, Rewards
from estheory.training.process import torch_threads

PATIENCE = 3
"""Workers that may die in one step before the run gives up."""


class Executor(Protocol):
    """Evaluates the members of the step after the given rows."""

    def rewards(self, rows: Sequence[Row]) -> Rewards:
        """Return the rewards of all evaluations of the next step."""
        ...

    def advance(self, row: Row) -> None:
        """Let the workers make a step while the caller makes it, too.

        Parameters
        ----------
        row
            Of the step: its coefficients and seeds are enough. `rewards` has it among its rows again.
        """
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


def shares(config: ESRunConfig, workers: int) -> list[list[int]]:
    """Divide the evaluations of a step among workers; the division does not affect the results."""
    return [list(range(config.evaluations))[k::workers] for k in range(workers)]


def gather(config: ESRunConfig, parts: Sequence[Rewards], divided: Sequence[Sequence[int]]) -> Rewards:
    """Put the workers' rewards in the order of the evaluations."""
    found = {
        evaluation: each
        for part, share in zip(parts, divided, strict=True)
        for evaluation, *each in zip(share, part.values, part.halves, part.by_prompt, strict=True)
    }
    values, halves, by_prompt = zip(*(found[evaluation] for evaluation in range(config.evaluations)), strict=True)
    return Rewards(
        values=list(values),
        halves=list(halves),
        by_prompt=list(by_prompt),
        perturbing=max(part.perturbing for part in parts),
    )


class LocalExecutor:
    """The calling process and `workers` - 1 others, each with `threads` threads.

    Parameters
    ----------
    own
        This process's model and walk, which the run keeps at the last step.
    """

    def __init__(self, config: ESRunConfig, own: Members) -> None:
        self._config = config
        self._own = own
        self._shares = shares(config, config.workers)
        self._others = [_Worker(config) for _ in range(config.workers - 1)]

    def rewards(self, rows: Sequence[Row]) -> Rewards:
        """Return the rewards of all evaluations of the next step.

        Parameters and result as of :meth:`estheory.training.executors.Executor.rewards`.
        """
        for worker, share in zip(self._others, self._shares[1:], strict=True):
            worker.ask(rows, share)
        parts = [self._own.rewards(rows, self._shares[0])]
        for worker, share in zip(self._others, self._shares[1:], strict=True):
            parts.append(worker.answer(rows, share))
        return gather(self._config, parts, self._shares)

    def advance(self, row: Row) -> None:
        """Let the other processes make a step.

        Parameters and result as of :meth:`estheory.training.executors.Executor.advance`.
        """
        for worker in self._others:
            worker.advance(row)

    def close(self) -> None:
        """End the other processes."""
        for worker in self._others:
            worker.close()


class _Worker:
    """A process that evaluates members, restarted where it dies."""

    def __init__(self, config: ESRunConfig) -> None:
        self._config = config
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        here, there = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(there, self._config), daemon=True)
        self.process.start()
        there.close()
        self._connection, self._step = here, 0

    def advance(self, row: Row) -> None:
        """Send a step, which has no answer."""
        with suppress(OSError):
            self._connection.send(([row], None))

    def ask(self, rows: Sequence[Row], share: Sequence[int]) -> None:
        """Send a share of the next step; a dead worker is noticed by `answer`."""
        with suppress(OSError):
            self._connection.send((list(rows[self._step :]), list(share)))

    def answer(self, rows: Sequence[Row], share: Sequence[int]) -> Rewards:
        """Wait for the rewards that `ask` asked for."""
        for _ in range(PATIENCE):
            try:
                answer = self._connection.recv()
            except (EOFError, OSError):
                self.close()
                self._start()
                self.ask(rows, share)
                continue
            if isinstance(answer, EstheoryError):
                raise answer
            self._step = len(rows)
            rewards: Rewards = answer
            return rewards
        raise DataError(
            f"{PATIENCE} worker processes died in step {len(rows) + 1}", "free memory or use fewer workers, then resume"
        )

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self.process.terminate()
        self.process.join()


def _serve(connection: Connection, config: ESRunConfig) -> None:
    """Evaluate shares until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it finishes its line, then lets go
    with torch_threads(config.threads), suppress(EOFError, OSError):
        try:
            members = Members.load(config)
        except EstheoryError as error:
            connection.send(error)
            return
        while True:
            rows, share = connection.recv()
            if share is None:
                members.advance(rows)
            else:
                connection.send(members.rewards(rows, share))
