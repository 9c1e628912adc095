"""The run's folder: refusals, torn lines, and files written as a whole."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from estheory.errors import DataError, OutputError
from estheory.runs.directory import RunDirectory
from estheory.training.es import resume
from tests.training.runs import es_config


def test_a_new_folder_and_an_empty_one_are_taken_an_occupied_one_is_not(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "new" / "run", es_config())
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty", es_config())
    assert RunDirectory.open(tmp_path / "empty").config == es_config()
    with pytest.raises(OutputError, match="occupied"):
        RunDirectory.create(tmp_path / "empty", es_config())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="as a folder"):
        RunDirectory.create(tmp_path / "file", es_config())


def test_a_run_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", es_config())
    with run.held():
        with pytest.raises(OutputError, match="another process"), RunDirectory.open(run.path).held():
            pass
        with pytest.raises(OutputError, match="another process"):
            resume(run.path)
    with RunDirectory.open(run.path).held():  # free again
        assert run.rows("steps") == []


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run directory"):
        RunDirectory.open(tmp_path)


def test_a_torn_line_is_ignored_then_cut_off(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", es_config())
    for step in (1, 2):
        run.append("steps", {"step": step})
    file = run.path / "steps.jsonl"
    whole = file.read_bytes()
    (run.path / "probes.json.tmp").write_text("{")
    for torn in (b'{"step": 3', b'{"step": 3}'):
        file.write_bytes(whole + torn)
        assert [row["step"] for row in run.steps()] == [1, 2]
        run.repair()
        assert file.read_bytes() == whole
    file.write_bytes(b'{"st')
    run.repair()
    assert run.steps() == []
    assert not (run.path / "probes.json.tmp").exists()


@pytest.mark.parametrize("lines", ['{"step": 1}\nnull\n', '{"step": 1}\n{"step"\n', '{"step": 1}\n{"step": 3}\n'])
def test_a_damaged_record_is_refused_by_line(tmp_path: Path, lines: str) -> None:
    run = RunDirectory.create(tmp_path / "run", es_config())
    (run.path / "steps.jsonl").write_text(lines)
    with pytest.raises(DataError, match="line 2"):
        run.steps()


def test_a_damaged_json_file_is_refused(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", es_config())
    assert run.read_json("probes.json") is None
    run.write_json("probes.json", {"trace": 0.1})
    assert run.read_json("probes.json") == {"trace": 0.1}
    for text in ("{", "[1]"):
        (run.path / "probes.json").write_text(text)
        with pytest.raises(DataError, match=r"probes\.json"):
            run.read_json("probes.json")


def test_a_full_disk_loses_no_complete_line(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", es_config())
    run.append("steps", {"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OutputError, match="resume"):
            run.append("steps", {"step": 2, "rewards": [0.5] * 100})
        with pytest.raises(OutputError, match="cannot write"):
            run.write_json("probes.json", {"trace": [0.5] * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run.repair()
    assert run.steps() == [{"step": 1}]
    assert run.read_json("probes.json") is None


def test_checkpoints_are_found_in_the_order_of_steps(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", es_config())
    (run.path / "checkpoints").mkdir()
    for step in (1_000_000, 20, 3):
        run.checkpoint(step).touch()
    (run.path / "checkpoints" / "other.safetensors").touch()
    assert list(run.checkpoints()) == [3, 20, 1_000_000]
    assert run.checkpoint(20).name == "step_000020.safetensors"
