"""``kill -9`` of GRPO runs and of sequences at any moment, then resumed: the same bits."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from estheory.training.grpo import resume_grpo, run_grpo
from estheory.training.sequence import run_sequence
from tests.training.runs import contents
from tests.training.test_grpo import grpo_config
from tests.training.test_sequence import sequence_config

TOUCHES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
MOMENTS = 8
"""Touches of the folder, evenly spread over the run, before which it is killed."""


def probe(session: Any) -> dict[str, Any]:
    return {"trace": session.parameters.dim}


def grpo(directory: Path) -> None:
    """Begin or resume a GRPO run."""
    if (directory / "config.toml").exists():
        resume_grpo(directory, before_first_step=probe)
    else:
        run_grpo(grpo_config(), directory, before_first_step=probe)


def sequence(directory: Path) -> None:
    """Begin or go on with a sequence, which drops each stage's checkpoints when the next is done."""
    run_sequence(sequence_config(retention="last"), directory)


def grpo_results(directory: Path) -> dict[str, bytes]:
    assert not list(directory.glob("**/*.tmp"))
    return contents(directory)


def sequence_results(directory: Path) -> dict[str, bytes]:
    """Everything but timings and the absolute paths of the models that stages start from."""
    assert not list(directory.glob("**/*.tmp"))
    files = [file for file in directory.rglob("*") if file.is_file()]
    names = ("steps.jsonl", "evaluations.jsonl", "probes.json", "done.json", "summary.json", "sequence.json")
    kept = [file for file in files if file.name in names or file.suffix == ".safetensors"]
    read = {str(file.relative_to(directory)): file.read_bytes() for file in sorted(kept)}
    read = {name: content.replace(str(directory).encode(), b"") for name, content in read.items()}
    return {name: re.sub(rb'"seconds": [0-9.e-]+', b"", content) for name, content in read.items()}


Case = tuple[Callable[[Path], None], Callable[[Path], dict[str, bytes]]]
CASES: dict[str, Case] = {"grpo": (grpo, grpo_results), "sequence": (sequence, sequence_results)}


def live(name: str, directory: Path, fatal: int | str, touches: Any) -> None:
    """Run in a process that counts its touches of the folder and kills itself before the `fatal`-th, or that path."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in TOUCHES and str(arguments[0]).startswith(str(directory)):
            touches.value += 1
            if touches.value == fatal or str(arguments[0]) == f"{directory}/{fatal}":
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    CASES[name][0](directory)


def start(name: str, directory: Path, fatal: int | str = 0) -> tuple[Any, Any]:
    """Start a run in a process of its own, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    touches = context.Value("i", 0, lock=False)
    child = context.Process(target=live, args=(name, directory, fatal, touches), daemon=True)
    child.start()
    return child, touches


@pytest.fixture(scope="module", params=CASES)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, bytes], int, float]:
    """A case, what an uninterrupted run of it leaves, how often that touches the folder, and its seconds."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    child, touches = start(request.param, directory)
    begun = time.monotonic()
    child.join(timeout=300)
    assert child.exitcode == 0
    return request.param, CASES[request.param][1](directory), touches.value, time.monotonic() - begun


def finish(name: str, directory: Path) -> dict[str, bytes]:
    run, results = CASES[name]
    run(directory)
    return results(directory)


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_any_touch_of_its_folder_it_resumes_to_the_same_bits(moment: int, whole: Any, tmp_path: Path) -> None:
    name, expected, touches, _ = whole
    fatal = 1 + moment * (touches - 1) // (MOMENTS - 1)
    child, _ = start(name, tmp_path / "run", fatal)
    child.join(timeout=120)
    assert child.exitcode == -signal.SIGKILL
    assert finish(name, tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.parametrize("file", ["es/seed-3/1-reversal/done.json.tmp", "summary.json.tmp"])
@pytest.mark.parametrize("whole", ["sequence"], indirect=True)
def test_killed_before_a_stage_or_all_is_marked_done(file: str, whole: Any, tmp_path: Path) -> None:
    name, expected, *_ = whole
    child, _ = start(name, tmp_path / "run", file)
    child.join(timeout=120)
    assert child.exitcode == -signal.SIGKILL
    assert finish(name, tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_a_random_time_it_resumes_to_the_same_bits(seed: int, whole: Any, tmp_path: Path) -> None:
    name, expected, _, seconds = whole
    child, _ = start(name, tmp_path / "run")
    time.sleep(random.Random(seed).uniform(0.0, seconds))
    child.kill()
    child.join(timeout=60)
    assert finish(name, tmp_path / "run") == expected
