"""Members evaluated by several processes: the same bits, also where one of them is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from estheory.errors import ConfigError, DataError
from estheory.models import noise
from estheory.models.noise_streams import BLOCK
from estheory.runs.directory import RunDirectory
from estheory.training import executors
from estheory.training.es import resume, run_es
from estheory.training.executors import LocalExecutor, shares
from estheory.training.member_rewards import Members
from estheory.training.session import start_session
from estheory.training.trajectory import Trajectory
from tests.training.runs import contents, es_config


def results(directory: Path) -> dict[str, bytes]:
    """What must not depend on where members are evaluated."""
    return {name: content for name, content in contents(directory).items() if name != "config.toml"}


def test_shares_are_a_partition() -> None:
    for workers in range(1, 9):
        divided = shares(6, workers)
        assert len(divided) == workers
        assert sorted(k for share in divided for k in share) == list(range(6))


@pytest.mark.parametrize(
    ("rule", "vectors"),
    [({}, 2), ({"momentum": 0.5}, 2), ({"anchor_l2": 0.1}, 3), ({"anchor_l1": 1e-4, "restore_pairs": 2}, 3)],
)
def test_a_worker_keeps_the_base_for_an_anchor_only_and_makes_the_same_members(
    rule: dict[str, float], vectors: int
) -> None:
    config = es_config(**rule)
    worker, session = Members.load(config), start_session(config, evaluates=False)
    whole = Trajectory(session.parameters, session.base, config)
    held = (worker.session.parameters.vector, worker.session.base, worker.walk.theta)
    assert len({vector.data_ptr() for vector in held}) == vectors
    base = session.base.clone()
    for step, coefficients in enumerate(([1.0, -2.0, 0.5, 0.0, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0, -1.0, 0.0]), 1):
        row = {"step": step, "seeds": {"seed": config.seed, "step": step}, "coefficients": coefficients}
        worker.walk.advance(row)
        whole.advance(row)
        for evaluation in range(3):
            worker.walk.place(worker.session.parameters.vector, evaluation)
            whole.place(session.parameters.vector, evaluation)
            assert torch.equal(worker.session.parameters.vector, session.parameters.vector)
    assert torch.equal(session.base, base)
    assert torch.equal(worker.session.base, base) == (vectors == 3)


def test_a_step_that_a_worker_was_told_early_is_made_once() -> None:
    config, told, asked = es_config(), Members.load(es_config()), Members.load(es_config())
    row = {"step": 1, "seeds": {"seed": config.seed, "step": 1}, "coefficients": [1.0, -2.0, 0.5, 0.0, 0.25, 0.25]}
    told.advance([row])
    early = told.walk.theta.clone()
    assert not torch.equal(early, asked.walk.theta)
    one, other = told.rewards([row], [0, 3]), asked.rewards([row], [0, 3])
    assert torch.equal(told.walk.theta, early)
    assert torch.equal(asked.walk.theta, early)
    assert (one.values, one.halves) == (other.values, other.halves)


def killing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let the first worker die `times` times after it has been asked for a share of step 3."""
    killed: list[int] = []
    ask = executors._Worker.ask

    def fatal_ask(self: Any, rows: Any, share: Any) -> None:
        ask(self, rows, share)
        if len(rows) == 2 and len(killed) < times:
            assert self.process.pid is not None
            os.kill(self.process.pid, signal.SIGKILL)
            killed.append(self.process.pid)

    monkeypatch.setattr(executors._Worker, "ask", fatal_ask)
    return killed


@pytest.mark.slow
def test_two_processes_give_the_bits_of_one_though_one_is_killed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = killing(monkeypatch, 1)
    probe = {"before_first_step": lambda session: {"trace": session.parameters.dim}}
    run_es(es_config(workers=2), tmp_path / "run", **probe)
    assert len(killed) == 1
    assert results(tmp_path / "run") == results(finished)


@pytest.mark.slow
def test_a_worker_that_keeps_dying_stops_the_run_which_can_be_resumed_elsewhere(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killing(monkeypatch, executors.PATIENCE + 1)
    with pytest.raises(DataError, match="died in step 3"):
        run_es(es_config(workers=2), tmp_path / "run", before_first_step=lambda s: {"trace": s.parameters.dim})
    monkeypatch.undo()
    assert len(RunDirectory.open(tmp_path / "run").steps()) == 2
    resume(tmp_path / "run", workers=3)
    assert results(tmp_path / "run") == results(finished)


@pytest.mark.slow
def test_a_worker_s_own_error_is_told(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "estheory/models/data/tiny-lm", tmp_path / "m")
    config = es_config(model=str(tmp_path / "m"), workers=2)
    own = Members.load(config)
    shutil.rmtree(tmp_path / "m")
    executor = LocalExecutor(config, own)
    try:
        with pytest.raises(ConfigError, match="unknown model"):
            executor.rewards([])
    finally:
        executor.close()


@pytest.fixture
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    folder = tempfile.mkdtemp(prefix="r-")
    home = os.environ.get("HOME")
    os.environ["HOME"] = folder
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
    yield ray
    ray.shutdown()
    if home is not None:
        os.environ["HOME"] = home
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_ray_actors_give_the_same_bits_though_one_is_killed_in_a_step(
    cluster: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from estheory.training.ray_executor import RayExecutor

    killed = []
    ask = RayExecutor._ask

    def fatal_ask(self: Any, worker: int, rows: Any) -> Any:
        asked = ask(self, worker, rows)
        if len(rows) == 2 and worker == 1 and not killed:
            cluster.kill(self._actors[worker])
            killed.append(worker)
        return asked

    monkeypatch.setattr(RayExecutor, "_ask", fatal_ask)
    run_es(
        es_config(executor="ray", workers=3),
        tmp_path / "run",
        before_first_step=lambda session: {"trace": session.parameters.dim},
    )
    assert killed == [1]
    assert results(tmp_path / "run") == results(finished)


@pytest.mark.slow
def test_a_worker_killed_while_a_step_is_made_costs_no_bit(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    start_part = executors._Worker.start_part

    def fatal(self: Any, row: Any, part: Any) -> None:
        start_part(self, row, part)
        if row["step"] == 2:
            assert self.process.pid is not None
            os.kill(self.process.pid, signal.SIGKILL)
            killed.append(self.process.pid)

    monkeypatch.setattr(executors._Worker, "start_part", fatal)
    probe = {"before_first_step": lambda session: {"trace": session.parameters.dim}}
    run_es(es_config(workers=2), tmp_path / "run", **probe)
    assert len(killed) == 1
    assert results(tmp_path / "run") == results(finished)


@pytest.mark.slow
def test_two_processes_draw_each_vector_once_for_its_member_and_once_for_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, draw = [0], noise.draw

    def counted(out: torch.Tensor, *arguments: Any) -> None:
        drawn[0] += len(out)
        draw(out, *arguments)

    monkeypatch.setattr(noise, "draw", counted)
    config = es_config(workers=2, steps=2, checkpoint_every=0)
    run_es(config, tmp_path / "run")
    dim = start_session(config, evaluates=False).parameters.dim
    assert dim <= BLOCK  # one chunk: the other process makes the whole step, this one its three members
    assert drawn[0] == config.steps * config.population / 2 * dim


@pytest.mark.slow
@pytest.mark.parametrize("rule", [{"momentum": 0.5}, {"anchor_l2": 0.1}, {"dtype": "bfloat16", "restore_pairs": 2}])
def test_steps_that_one_process_makes_are_followed_by_the_others(rule: dict[str, Any], tmp_path: Path) -> None:
    run_es(es_config(**rule), tmp_path / "one")
    run_es(es_config(**rule, workers=2), tmp_path / "two")
    assert results(tmp_path / "two") == results(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are told of their parent's end by Linux")
def test_a_run_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.training.runs import es_config\n"
        "from estheory.training.es import run_es\n"
        "told = lambda row: print(row['step'], flush=True)\n"
        "run_es(es_config(workers=2, steps=10_000), Path(sys.argv[1]), on_step=told)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        run.kill()
    assert children
    deadline = time.monotonic() + 20
    while any(Path("/proc", child).exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path("/proc", child).exists() for child in children)
