"""Odd places to write to: narrow terminals, no colours, a reader that leaves, a folder that takes nothing."""

import os
import pty
import subprocess
import sys

import pytest

from estheory.cli.app import main

PREDICT = [sys.executable, "-m", "estheory", "predict", "--dim", "4e9", "--sigma", "0.0015", "--population", "30"]


def on_terminal(columns, **environment):
    """Return what the program writes to a terminal of so many columns."""
    outer, inner = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **environment}
    program = subprocess.Popen(PREDICT, stdout=inner, stderr=inner, stdin=inner, env=environment)
    os.close(inner)
    written = b""
    while True:
        try:
            part = os.read(outer, 4096)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        written += part
    os.close(outer)
    assert program.wait() == 0
    return written.decode()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_lines_fit_the_terminal(columns):
    lines = on_terminal(columns, NO_COLOR="1").replace("\r", "").splitlines()
    assert len(lines) > 10
    assert max(map(len, lines)) <= columns


def test_names_and_numbers_stay_whole_on_80_columns():
    lines = on_terminal(80, NO_COLOR="1").replace("\r", "").splitlines()
    rows = [line.split() for line in lines if line.endswith(" exact")]
    assert {"displacement_norm", "effective_dimension_ratio", "es_grpo_cosine_bound"} <= {row[0] for row in rows}
    assert all(len(row) >= 4 for row in rows)
    assert not any(line.rstrip().endswith("_") for line in lines)


def test_colours_can_be_refused():
    assert "\x1b[" in on_terminal(80, NO_COLOR="")
    assert "\x1b[" not in on_terminal(80, NO_COLOR="1")


@pytest.mark.parametrize("command", ["pilot", "forecast", "run es"])
def test_help_fits_a_narrow_terminal(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    assert main([*command.split(), "--help"]) == 0
    text, _, example = capsys.readouterr().out.partition("Example:")
    assert example  # stands as it is typed
    assert max(map(len, text.splitlines())) <= 40


def test_a_closed_stdout_is_an_error_where_something_is_written_to_it(tmp_path):
    def closed(*more):
        asked = ["sh", "-c", 'exec "$@" >&-', "sh", *PREDICT, *more]
        return subprocess.run(asked, stderr=subprocess.PIPE, text=True, check=False)

    refused = closed()
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert closed("--output", tmp_path / "found.txt").returncode == 0
    assert (tmp_path / "found.txt").stat().st_size > 1000


def test_a_reader_that_leaves_is_no_error():
    asked = [*PREDICT, "--steps", ",".join(map(str, range(1, 50)))]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == b""
    assert program.returncode == 0


@pytest.mark.parametrize("option", ["--output", "--plot"])
def test_a_folder_that_takes_nothing_is_one_line(option, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "a.svg"
    found = subprocess.run([*PREDICT, option, target], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert found.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
