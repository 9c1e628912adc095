"""Ctrl-C: exit code 130 and one line that says how to go on, which then works."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest


def gone(group):
    """Return whether the processes of a group end soon; the tracker of shared resources is the last."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def interrupted(arguments, when, **options):
    """Start the program, send SIGINT once `when` holds, and return its exit code and what it said."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # tests in the background ignore it, and so would the program
    process = subprocess.Popen(
        [sys.executable, "-m", "estheory", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        deadline = time.monotonic() + 300
        while not when() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=60)
        assert gone(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


@contextlib.contextmanager
def interrupting(when):
    """Send this very process SIGINT once `when` holds, unless what stands inside has ended before."""
    ended = threading.Event()

    def wait():
        while not ended.is_set():
            if when():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.01)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield
    finally:
        ended.set()
        waiting.join()
        signal.signal(signal.SIGINT, before)


def test_a_run_says_how_to_resume_it(estheory, tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "es"
    small = ["--population", 4, "--prompts", 4, "--evaluation-prompts", 4, "--steps", 30]
    with interrupting(lambda: (out / "steps.jsonl").exists()):
        stopped = estheory("run", "es", *small, "--out", out)
    said = stopped.err
    assert stopped.code == 130
    assert said.count("\n") == 1
    command = f"run es --resume {out}"
    assert f"estheory {command}" in said
    done = len((out / "steps.jsonl").read_text().splitlines())
    assert done < 30
    result = estheory(*command.split(), "--json")
    assert result.json()["steps"] == 30
    rows = [json.loads(line)["step"] for line in (out / "steps.jsonl").read_text().splitlines()]
    assert rows == list(range(1, 31))


def test_a_simulation_says_that_nothing_was_written(estheory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    with interrupting(lambda: time.monotonic() > started + 0.5):
        stopped = estheory("simulate", "--preset", "two-scale", "--replicas", 10**6)
    assert stopped.code == 130
    assert stopped.err.count("\n") == 1
    assert stopped.err.startswith("interrupted: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demo_ends_its_processes_and_starts_no_more(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "demo"
    code, said = interrupted(
        ["demo", "--quiet", "--out", out],
        lambda: (out / "es" / "config.toml").exists(),
    )
    assert code == 130
    assert said.count("\n") == 1
    assert "the same command" in said
    assert not (out / "grpo").exists()
