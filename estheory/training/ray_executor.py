"""Members evaluated by Ray actors, on this machine or a cluster that is connected already."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from typing import Any

from estheory.errors import DataError, EstheoryError, MissingDependencyError
from estheory.models.noise import Part
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row
from estheory.training.executors import PATIENCE, Sharing, gather, shares
from estheory.training.member_rewards import Members, Rewards
from estheory.training.process import torch_threads
from estheory.training.shared import Tickets

try:
    import ray
    from ray.exceptions import RayActorError, RaySystemError
except ImportError as error:
    raise MissingDependencyError(f"the ray executor needs Ray ({error})", "install the package ray") from error


class RayMembers:
    """What an actor runs: `Members` in a process of its own, with the configuration's threads.

    `config`: the run; the model is loaded when rewards are first asked for.
    `tickets`: where the run's process keeps theta.
    """

    def __init__(self, config: ESRunConfig, tickets: Tickets | None) -> None:
        self._config, self._tickets = config, tickets
        self._members: Members | None = None

    def write_part(self, row: Row, part: Part) -> bool:
        """Write a part of theta after a step; False where theta is not shared.

        Parameters and result as of :meth:`estheory.training.member_rewards.Members.write_part`.
        """
        with torch_threads(self._config.threads):
            return self._members is not None and self._members.write_part(row, part)

    def advance(self, row: Row) -> None:
        """Make a step of a walk of the actor's own."""
        if self._members is not None:
            with torch_threads(self._config.threads):
                self._members.advance([row])

    def rewards(self, rows: Sequence[Row], evaluations: Sequence[int]) -> Rewards | EstheoryError:
        """Return rewards.

        Parameters as of :meth:`estheory.training.member_rewards.Members.rewards`.

        Result: the error that keeps the model from being loaded.
        """
        with torch_threads(self._config.threads):
            if self._members is None:
                try:
                    self._members = Members.load(self._config, self._tickets)
                except EstheoryError as error:
                    return error
            return self._members.rewards(rows, evaluations)


class _RayHelper:
    """An actor that is asked for a part of a step."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def start_part(self, row: Row, part: Part) -> None:
        self._row, self._asked = row, self._actor.write_part.remote(row, part)

    def part_is_there(self) -> bool:
        try:
            there: bool = ray.get(self._asked)
        except RayActorError:
            return False  # RayExecutor._answer replaces it
        if not there:
            self._actor.advance.remote(self._row)
        return there


class RayExecutor:
    """`workers` actors. Ray is started on this machine unless the process is connected to a cluster.

    An actor that dies is replaced, and evaluates its share of the step again.

    `own`: this process's model and walk, which the run keeps at the last step.
    Raises DataError: Ray cannot be started.
    """

    def __init__(self, config: ESRunConfig, own: Members) -> None:
        self._config = config
        self._own_cluster = not ray.is_initialized()
        if self._own_cluster:
            self._folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
            try:
                ray.init(
                    num_cpus=config.workers * config.threads,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=self._folder.name,
                )
            except (RuntimeError, OSError, ValueError, RaySystemError) as error:
                raise DataError(f"Ray cannot be started: {error}", "use --executor local") from error
        self._sharing = Sharing(own)
        self._actor: Any = ray.remote(num_cpus=config.threads)(RayMembers)
        self._actors: list[Any] = [self._start() for _ in range(config.workers)]
        self._steps = [0] * config.workers

    def rewards(self, rows: Sequence[Row]) -> Rewards:
        """Return the rewards of all evaluations of the next step.

        Parameters and result as of :meth:`estheory.training.executors.Executor.rewards`.
        """
        asked = [self._ask(worker, rows) for worker in range(len(self._actors))]
        return gather([self._answer(k, rows, answer) for k, answer in enumerate(asked)], self._shares(rows))

    def advance(self, row: Row) -> None:
        """Make a step, each actor on this machine a part of it.

        Parameters and result as of :meth:`estheory.training.executors.Executor.advance`.
        """
        self._sharing.advance(row, [_RayHelper(actor) for actor in self._actors], own_part=False)

    def close(self) -> None:
        """End the actors, and the cluster that was started for them."""
        for actor in self._actors:
            ray.kill(actor)
        if self._own_cluster:
            ray.shutdown()
            self._folder.cleanup()
        self._sharing.close()

    def _start(self) -> Any:
        return self._actor.remote(self._config, self._sharing.tickets)

    def _ask(self, worker: int, rows: Sequence[Row]) -> Any:
        share = self._shares(rows)[worker]
        return self._actors[worker].rewards.remote(list(rows[self._steps[worker] :]), share)

    def _shares(self, rows: Sequence[Row]) -> list[list[int]]:
        return shares(self._config.evaluated(len(rows) + 1), self._config.workers)

    def _answer(self, worker: int, rows: Sequence[Row], asked: Any) -> Rewards:
        """Wait for one worker's rewards, replacing it where it dies."""
        for _ in range(PATIENCE):
            try:
                answer: Rewards | EstheoryError = ray.get(asked)
            except RayActorError:
                self._actors[worker], self._steps[worker] = self._start(), 0
                asked = self._ask(worker, rows)
                continue
            if isinstance(answer, EstheoryError):
                raise answer
            self._steps[worker] = len(rows)
            return answer
        raise DataError(
            f"{PATIENCE} Ray actors died in step {len(rows) + 1}", "free memory or use fewer workers, then resume"
        )
