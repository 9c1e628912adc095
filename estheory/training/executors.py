"""Where the members of an ES step are evaluated. Results have the same bits everywhere.

No weights travel. Processes of one machine share theta: each perturbs it for its members and writes a part of its next
value, so that a step draws every noise vector twice, whatever the number of workers. One that shares none (on another
machine, or with another device than the CPU) makes the run's steps itself, from their rows. A worker that dies is
replaced by a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from estheory.errors import DataError, EstheoryError
from estheory.models.noise import Part
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row
from estheory.training.member_rewards import Members, Rewards
from estheory.training.process import end_with_parent, torch_threads
from estheory.training.shared import SharedVector, Tickets

PATIENCE = 3
"""Workers that may die in one step before the run gives up."""


class Executor(Protocol):
    """Evaluates the members of the step after the given rows."""

    def rewards(self, rows: Sequence[Row]) -> Rewards:
        """Return the rewards of all evaluations of the next step."""
        ...

    def advance(self, row: Row) -> None:
        """Make a step: move the caller's walk, with the workers' help.

        `row`: of the step: its coefficients and seeds are enough. `rewards` has it among its rows again.
        """
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


def shares(evaluations: int, workers: int) -> list[list[int]]:
    """Divide the evaluations of a step among workers; the division does not affect the results."""
    return [list(range(evaluations))[k::workers] for k in range(workers)]


def gather(parts: Sequence[Rewards], divided: Sequence[Sequence[int]]) -> Rewards:
    """Put the workers' rewards in the order of the evaluations."""
    found = {
        evaluation: each
        for part, share in zip(parts, divided, strict=True)
        for evaluation, *each in zip(share, part.values, part.halves, part.by_prompt, strict=True)
    }
    values, halves, by_prompt = zip(*(found[evaluation] for evaluation in sorted(found)), strict=True)
    return Rewards(
        values=list(values),
        halves=list(halves),
        by_prompt=list(by_prompt),
        perturbing=max(part.perturbing for part in parts),
    )


class Helper(Protocol):
    """Another process, asked for a part of a step (`estheory.training.member_rewards.Members.write_part`)."""

    def start_part(self, row: Row, part: Part) -> None:
        """Ask for it."""
        ...

    def part_is_there(self) -> bool:
        """Wait for it; False if it is not where this process sees it."""
        ...


class Sharing:
    """The process that moves theta, and the memory in which others see it and write parts of its next value.

    `own`: its model and walk. Vectors on another device than the CPU are not shared: every process makes every step.
    """

    def __init__(self, own: Members) -> None:
        self._own = own
        self._vectors: tuple[SharedVector, ...] = ()
        self.tickets: Tickets | None = None
        if own.walk.theta.device.type == "cpu":
            theta, made = own.share()
            self._vectors = (theta, made)
            self.tickets = Tickets(theta=theta.ticket, made=made.ticket)

    def advance(self, row: Row, helpers: Sequence[Helper], own_part: bool) -> None:
        """Make the step of a row together; parts that a helper cannot make are made here.

        `own_part`: whether this process has a part of its own.
        """
        walk, made = self._own.walk, self._own.session.parameters.vector
        if not walk.in_parts(row):
            walk.advance(row)
            return
        count = len(helpers) + own_part
        for k, helper in enumerate(helpers):
            helper.start_part(row, (k, count))
        if own_part:
            walk.write_part(made, row, (count - 1, count))
        for k, helper in enumerate(helpers):
            if not helper.part_is_there():
                walk.write_part(made, row, (k, count))
        walk.take(made, row)

    def close(self) -> None:
        """Let no further process find the memory."""
        for vector in self._vectors:
            vector.close()


class LocalExecutor:
    """The calling process and `workers` - 1 others, each with `threads` threads.

    `own`: this process's model and walk, which the run keeps at the last step.
    """

    def __init__(self, config: ESRunConfig, own: Members) -> None:
        self._config = config
        self._own = own
        self._sharing = Sharing(own) if config.workers > 1 else None
        tickets = self._sharing.tickets if self._sharing else None
        self._others = [_Worker(config, tickets) for _ in range(config.workers - 1)]

    def rewards(self, rows: Sequence[Row]) -> Rewards:
        """Return the rewards of all evaluations of the next step.

        Parameters and result as of :meth:`estheory.training.executors.Executor.rewards`.
        """
        own, *others = divided = shares(self._config.evaluated(len(rows) + 1), self._config.workers)
        for worker, share in zip(self._others, others, strict=True):
            worker.ask(rows, share)
        parts = [self._own.rewards(rows, own)]
        for worker, share in zip(self._others, others, strict=True):
            parts.append(worker.answer(rows, share))
        return gather(parts, divided)

    def advance(self, row: Row) -> None:
        """Make a step, each process a part of it.

        Parameters and result as of :meth:`estheory.training.executors.Executor.advance`.
        """
        if self._sharing is None:
            self._own.walk.advance(row)
        else:
            self._sharing.advance(row, self._others, own_part=True)

    def close(self) -> None:
        """End the other processes."""
        for worker in self._others:
            worker.close()
        if self._sharing is not None:
            self._sharing.close()


class _Worker:
    """A process that evaluates members, restarted where it dies."""

    def __init__(self, config: ESRunConfig, tickets: Tickets | None) -> None:
        self._config, self._tickets = config, tickets
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        here, there = context.Pipe()
        arguments = (there, self._config, self._tickets)
        self.process: BaseProcess = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        there.close()
        self._connection, self._step = here, 0

    def start_part(self, row: Row, part: Part) -> None:
        """Ask for a part of a step."""
        self._row = row
        with suppress(OSError):
            self._connection.send(([row], part))

    def part_is_there(self) -> bool:
        """Wait for it; False if the worker died, which `answer` notices, too, or makes the step on its own."""
        try:
            if self._connection.recv() is True:
                return True
            self._connection.send(([self._row], None))
        except (EOFError, OSError):
            pass
        return False

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


def _serve(connection: Connection, config: ESRunConfig, tickets: Tickets | None) -> None:
    """Evaluate shares and write parts until the other end is closed."""
    end_with_parent()
    with torch_threads(config.threads), suppress(EOFError, OSError):
        try:
            members = Members.load(config, tickets)
        except EstheoryError as error:
            connection.send(error)
            return
        while True:
            rows, asked = connection.recv()
            if asked is None:
                members.advance(rows)
            elif isinstance(asked, tuple):
                connection.send(members.write_part(rows[-1], asked))
            else:
                connection.send(members.rewards(rows, asked))
