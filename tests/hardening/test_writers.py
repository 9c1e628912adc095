"""A disk that refuses: one line, exit code 2, what was there before stays as it was, and nothing is left beside it."""

import contextlib
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from estheory.cli.app import main
from tests.hardening.damage import says_one_line
from tests.variants import variants

PREDICT = ["predict", "--dim", "1e6", "--sigma", "0.01", "--population", "8", "--steps", "1,2,3"]
PLAN = ["plan", "--dim", "1000", "--sigma", "0.01", "--max-norm", "1", "--target-progress", "0.01"]
PLAN += ["--gradient-norm", "1", "--reward-std", "0.1"]
SIMULATE = ["simulate", "--preset", "two-scale", "--replicas", "3", "--steps", "2"]


@contextlib.contextmanager
def files_of_at_most(size):
    """Let no file grow beyond ``size`` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "predict": (PREDICT, "--output", "a.txt"),
    "predict json": ([*PREDICT, "--json"], "--output", "a.json"),
    "predict plot": (PREDICT, "--plot", "a.svg"),
    "plan": (PLAN, "--output", "a.txt"),
    "plan plot": (PLAN, "--plot", "a.png"),
    "derive": (["derive", "norm-mean"], "--output", "a.txt"),
    "simulate": (SIMULATE, "--output", "a.txt"),
    "simulate plot": (SIMULATE, "--plot", "a.svg"),
    "geometry plot": ([*SIMULATE, "--geometry"], "--plot", "a.svg"),
    "validate": (["validate", "published"], "--output", "a.txt"),
    "report": (["report", "RUN"], "--out", "a.html"),
    "explore": (["explore"], "--out", "a.html"),
    "models": (["models", "list"], "--output", "a.txt"),
}


@pytest.mark.parametrize("name", variants(WRITERS, fast={"report", "validate", "models"}))
def test_a_full_disk_keeps_the_old_file(name, tmp_path, request):
    arguments, option, file = WRITERS[name]
    if "plot" in name:
        pytest.importorskip("matplotlib")
    arguments = [str(request.getfixturevalue("es_run")) if word == "RUN" else word for word in arguments]
    target = tmp_path / file
    target.write_text("old")
    with files_of_at_most(20):
        assert says_one_line(*arguments, option, target) == 2
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    assert says_one_line(*arguments, option, target) in (0, 3, 4)
    assert target.read_bytes() != b"old"


PLACES = ("folder", "missing", "file as folder", "name too long")
"""Where nothing can be written."""


@pytest.mark.parametrize(
    "writer",
    variants(
        [(name, place) for name in WRITERS for place in PLACES],
        fast=[*((name, "missing") for name in WRITERS), *(("predict plot", place) for place in PLACES)],
    ),
    ids="-".join,
)
def test_a_place_that_cannot_be_written(writer, tmp_path, request):
    name, place = writer
    arguments, option, file = WRITERS[name]
    if "plot" in name:
        pytest.importorskip("matplotlib")
    arguments = [str(request.getfixturevalue("es_run")) if word == "RUN" else word for word in arguments]
    target = {
        "folder": tmp_path / file,
        "missing": tmp_path / "no" / file,
        "file as folder": tmp_path / "occupied" / file,
        "name too long": tmp_path / f"{'x' * 300}{Path(file).suffix}",
    }[place]
    (tmp_path / "occupied").write_text("old")
    if place == "folder":
        target.mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert says_one_line(*arguments, option, target) == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 200, 2_000, 20_000, 200_000])
def test_a_run_on_a_full_disk_resumes_to_the_same_end(es_run, tmp_path, size):
    out = tmp_path / "es"
    sizes = ["--steps", "4", "--population", "4", "--prompts", "8", "--evaluation-prompts", "8"]
    with files_of_at_most(size):
        assert says_one_line("run", "es", *sizes, "--checkpoint-every", "2", "--out", out) == 2
    if not (out / "config.toml").is_file():
        assert says_one_line("run", "es", *sizes, "--checkpoint-every", "2", "--out", out) == 0
    else:
        assert says_one_line("run", "es", "--resume", out) == 0
    for name in ("steps.jsonl", "checkpoints/step_000004.safetensors"):
        assert (out / name).read_bytes() == (es_run / name).read_bytes()
    assert not list(out.rglob("*.tmp"))


@pytest.mark.slow
def test_a_replay_on_a_full_disk_leaves_nothing(es_run, tmp_path):
    out = tmp_path / "model"
    with files_of_at_most(1_000):
        assert says_one_line("run", "es", "--replay", es_run, "--step", 2, "--out", out) == 2
    assert list(tmp_path.iterdir()) == []


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("arguments", "streams", "code"),
    [
        (PREDICT, {"stdout": "full"}, 2),
        (["predict", "--help"], {"stdout": "full"}, 2),
        (["predict", "--dim", "x"], {"stderr": "full"}, 2),
        (PREDICT, {"stdout": "full", "stderr": "full"}, 2),
    ],
    ids=["stdout", "help", "stderr", "both"],
)
def test_streams_on_a_full_disk(arguments, streams, code):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with FULL.open("w") as full:
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | dict.fromkeys(streams, full)
        done = subprocess.run(
            [sys.executable, "-m", "estheory", *arguments], env=environment, text=True, check=False, **told
        )
    assert done.returncode == code
    if done.stderr is not None:
        assert done.stderr.splitlines() == [
            "error: cannot write to stdout (No space left on device): free space, or give --output"
        ]


@pytest.mark.parametrize("option", ["--output", "--plot"])
def test_a_pipe_is_not_replaced_and_a_link_is_followed(option, tmp_path, capsys):
    if option == "--plot":
        pytest.importorskip("matplotlib")
    command = ["predict", "--dim", "1e6", "--sigma", "0.01", "--population", "30", "--steps", "10,20", option]
    pipe = tmp_path / "pipe.svg"
    os.mkfifo(pipe)
    assert main([*command, str(pipe)]) == 2
    assert "a device or a pipe" in capsys.readouterr().err
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    link, target = tmp_path / "link.svg", tmp_path / "target.svg"
    target.write_text("old")
    link.symlink_to(target)
    assert main([*command, str(link)]) == 0
    assert link.is_symlink()
    assert target.read_text() != "old"


DERIVE = ["derive", "quadratic-noise"]


@pytest.mark.parametrize("words", variants([DERIVE, [*DERIVE, "--cite"], PREDICT], fast=[[*DERIVE, "--cite"]]))
def test_a_reader_that_leaves_is_no_error(words):
    code = f"import sys; from estheory.cli.app import main; sys.exit(main({words!r}))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        assert program.stderr.read() == b"" or "--cite" in words
    assert program.returncode == 0
