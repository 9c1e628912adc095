"""Members evaluated by Ray actors, on this machine or a cluster that is connected already."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from typing import Any

from estheory.errors import DataError, EstheoryError, MissingDependencyError
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row
from estheory.training.executors import PATIENCE, gather, shares
from estheory.training.members import Members, Rewards
from estheory.training.process import torch_threads

try:
    import ray
    from ray.exceptions import RayActorError, RaySystemError
except ImportError as error:
    raise MissingDependencyError(f"the ray executor needs Ray ({error})", "install the package ray") from error


class RayMembers:
    """What an actor runs: `Members` in a process of its own, with the configuration's threads.

    Parameters
    ----------
    config
        The run; the model is loaded when rewards are first asked for.
    """

    def __init__(self, config: ESRunConfig) -> None:
        self._config = config
        self._members: Members | None = None

    def advance(self, row: Row) -> None:
        """Make a step."""
        if self._members is not None:
            with torch_threads(self._config.threads):
                self._members.advance([row])

    def rewards(self, rows: Sequence[Row], evaluations: Sequence[int]) -> Rewards | EstheoryError:
        """Return rewards.

        Parameters as of :meth:`estheory.training.members.Members.rewards`.

        Returns
        -------
        Rewards or EstheoryError
            The error that keeps the model from being loaded.
        """
        with torch_threads(self._config.threads):
            if self._members is None:
                try:
                    self._members = Members.load(self._config)
                except EstheoryError as error:
                    return error
            return self._members.rewards(rows, evaluations)


class RayExecutor:
    """`workers` actors. Ray is started on this machine unless the process is connected to a cluster.

    An actor that dies is replaced, and evaluates its share of the step again.

    Parameters
    ----------
    config
        The run.

    Raises
    ------
    DataError
        Ray cannot be started.
    """

    def __init__(self, config: ESRunConfig) -> None:
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
        self._actor: Any = ray.remote(num_cpus=config.threads)(RayMembers)
        self._shares = shares(config, config.workers)
        self._actors: list[Any] = [self._actor.remote(config) for _ in self._shares]
        self._steps = [0] * len(self._shares)

    def rewards(self, rows: Sequence[Row]) -> Rewards:
        """Return the rewards of all evaluations of the next step.

        Parameters and result as of :meth:`estheory.training.executors.Executor.rewards`.
        """
        asked = [self._ask(worker, rows) for worker in range(len(self._actors))]
        return gather(self._config, [self._answer(k, rows, answer) for k, answer in enumerate(asked)], self._shares)

    def advance(self, row: Row) -> None:
        """Let the actors make a step; one that fails to makes it when it is asked for rewards.

        Parameters and result as of :meth:`estheory.training.executors.Executor.advance`.
        """
        for actor in self._actors:
            actor.advance.remote(row)

    def close(self) -> None:
        """End the actors, and the cluster that was started for them."""
        for actor in self._actors:
            ray.kill(actor)
        if self._own_cluster:
            ray.shutdown()
            self._folder.cleanup()

    def _ask(self, worker: int, rows: Sequence[Row]) -> Any:
        return self._actors[worker].rewards.remote(list(rows[self._steps[worker] :]), self._shares[worker])

    def _answer(self, worker: int, rows: Sequence[Row], asked: Any) -> Rewards:
        """Wait for one worker's rewards, replacing it where it dies."""
        for _ in range(PATIENCE):
            try:
                answer: Rewards | EstheoryError = ray.get(asked)
            except RayActorError:
                self._actors[worker], self._steps[worker] = self._actor.remote(self._config), 0
                asked = self._ask(worker, rows)
                continue
            if isinstance(answer, EstheoryError):
                raise answer
            self._steps[worker] = len(rows)
            return answer
        raise DataError(
            f"{PATIENCE} Ray actors died in step {len(rows) + 1}", "free memory or use fewer workers, then resume"
        )
