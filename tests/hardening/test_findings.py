"""What fuzzing found, one case each: input that once ended in a traceback, an internal error or gigabytes of memory."""

import json
import shutil

import numpy as np
import pytest

from estheory import _special
from estheory.cli.app import main
from estheory.errors import DataError
from estheory.files import parse_json, parse_toml
from tests.hardening.damage import call

DEEP = "[" * 100_000


def edit_json(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def edit_lines(file, number, change):
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    change(rows[number])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def line(name, number, **values):
    return lambda folder: edit_lines(folder / name, number, lambda row: row.update(values))


def document(name, change):
    return lambda folder: edit_json(folder / name, change)


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


OF_A_RUN = {
    "deep steps": (text("steps.jsonl", DEEP + "\n"), "line 1 is damaged"),
    "deep config": (text("config.toml", f"x = {DEEP}"), "nested too deeply"),
    "deep probes": (text("probes.json", DEEP), "nested too deeply"),
    "a norm that is no number": (line("steps.jsonl", 3, norm="x"), "damaged"),
    "a norm of infinity": (line("steps.jsonl", 3, norm=float("inf")), "line 4 is damaged"),
    "a coefficient of 1e308": (line("steps.jsonl", 1, coefficients=[1e308] * 4), "damaged"),
    "rewards in rows": (line("steps.jsonl", 1, rewards=[[0.5, 0.5]] * 4), "damaged"),
    "probes that are a number": (document("probes.json", lambda p: p.update(fisher=3)), "damaged"),
    "a probe without spread": (document("probes.json", lambda p: p["fisher"][0].update(trace_stderr=0)), "damaged"),
    "a probe below 0": (document("probes.json", lambda p: p["fisher"][0].update(trace=-1e300)), "damaged"),
    "an evaluation without value": (line("evaluations.jsonl", -1, value=None), "damaged"),
    "a model that is a number": (document("environment.json", lambda e: e.update(model=3)), "damaged"),
    "a dim of 1e400": (document("environment.json", lambda e: e["model"].update(dim=10**400)), "too large"),
    "a dim of 0": (document("environment.json", lambda e: e["model"].update(dim=0)), "too large, or none"),
}


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_run(es_run, tmp_path, name):
    change, words = OF_A_RUN[name]
    copy = tmp_path / "es"
    shutil.copytree(es_run, copy)
    change(copy)
    code, out, err = call("validate", copy)
    assert (code, out) == (2, "")
    assert words in err


RESUMED = {
    "a model that is a number": document("environment.json", lambda e: e.update(model=3)),
    "an evaluation without a step": line("evaluations.jsonl", 0, step=None),
    "no reward in the last step": line("steps.jsonl", 3, reward_mean=None),
    "no coefficients before the checkpoint": line("steps.jsonl", 0, coefficients=None),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run(es_run, tmp_path, name):
    copy = tmp_path / "es"
    shutil.copytree(es_run, copy)
    RESUMED[name](copy)
    code, _, err = call("run", "es", "--resume", copy)
    assert code == 2
    assert err.count("\n") == 1


def nowhere(folder):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../base.safetensors"}}))


OF_OTHER_CODE = {
    "a step of 1e18": ("esvsgrpo", line("metrics_baseline.jsonl", -2, global_step=10**18)),
    "1e18 iterations": ("esvsgrpo", document("config.json", lambda c: c["tasks"][0].update(num_iterations=10**18))),
    "1e18 cycles": ("esvsgrpo", document("config.json", lambda c: c.update(num_cycles=10**18))),
    "a learning rate of 1e300": ("grpo", line("metrics_grpo_baseline.jsonl", 3, lr=1e300)),
    "a step of infinity": ("grpo", line("metrics_grpo_baseline.jsonl", 3, step=float("inf"))),
    "1e18 trainer steps": ("trl", document("checkpoint-60/trainer_state.json", lambda s: s.update(global_step=10**18))),
    "a coefficient of 1e308": (
        "awd",
        document("iteration_updates/iteration_000003.json", lambda i: i.update(update_coefficients=[1e308] * 8)),
    ),
    "1e20 elements": ("awd", line("weight_change.jsonl", 1, total_elements_compared=1e20)),
}


@pytest.mark.parametrize("name", OF_OTHER_CODE)
@pytest.mark.parametrize("options", [[], ["--keep-going"]], ids=["", "keep-going"])
def test_a_run_of_other_code(foreign, tmp_path, name, options):
    run, change = OF_OTHER_CODE[name]
    copy = tmp_path / run
    shutil.copytree(foreign / run, copy)
    change(copy)
    code, out, err = call("validate", copy, *options)
    assert (code, out) == (2, "")
    assert str(copy) in err


def test_a_shard_outside_its_folder(weights, tmp_path):
    copy = tmp_path / "weights"
    shutil.copytree(weights.folder, copy)
    nowhere(copy / "sharded")
    code, _, err = call("measure", copy / "base.safetensors", copy / "sharded")
    assert code == 2
    assert "is no index of shards" in err


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(alpha_pattern={"(": 1}),
        lambda c: c.update(alpha_pattern=[1]),
        lambda c: c.update(lora_alpha=10**400),
    ],
    ids=["pattern", "list", "huge"],
)
def test_a_damaged_adapter(weights, tmp_path, change):
    copy = tmp_path / "weights"
    shutil.copytree(weights.folder, copy)
    edit_json(copy / "adapter/adapter_config.json", change)
    code, _, err = call("measure", copy / "base.safetensors", copy / "adapter")
    assert code == 2
    assert "adapter" in err


def test_a_config_with_a_null_character(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('spectrum = "a\\u0000b"\ndim = 10\nsigma = 1.0\npopulation = 4\n')
    code, _, err = call("predict", "--config", file)
    assert code == 2
    assert "unusable value" in err


def test_a_csv_with_one_endless_cell(tmp_path):
    file = tmp_path / "s.csv"
    file.write_text('eigenvalue,multiplicity,offset\n"' + "1" * 200_000 + '",1,1\n')
    code, _, err = call("predict", "--dim", 10, "--sigma", 0.1, "--population", 4, "--spectrum", file)
    assert code == 2
    assert "is no CSV" in err


def test_half_a_surrogate_is_written_as_its_escape(tmp_path):
    from estheory.cli.emit import json_text
    from estheory.files import write_text

    write_text(tmp_path / "x.json", json_text({"name": "\ud800"}))
    assert json.loads((tmp_path / "x.json").read_text()) == {"name": "\ud800"}


@pytest.mark.parametrize("parse", [parse_json, parse_toml])
def test_one_kind_of_error(parse):
    deep = DEEP if parse is parse_json else f"x = {DEEP}"
    for raw in (deep, b"\xff\xfe", "{", "1" * 5000):
        with pytest.raises(ValueError, match=r"."):
            parse(raw)


@pytest.mark.parametrize("raw", ["NaN", "-Infinity", "1e999", '{"a": [Infinity]}'])
def test_numbers_that_no_record_of_ours_holds(raw):
    parse_json(raw)
    with pytest.raises(ValueError, match="no finite number"):
        parse_json(raw, finite=True)


def test_the_tail_of_a_norm_that_is_absurdly_far_off():
    low, high = _special.chi_square_tails(1e300, 1e6)
    assert (low, high) == (1.0, 0.0)
    assert np.array_equal(_special.chi_square_tails(1e31, 1e6), (1.0, 0.0))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y (Permission denied)"),
        (MemoryError(), "not enough memory"),
        (DataError("it", "do"), "it: do"),
    ],
    ids=["permission", "memory", "ours"],
)
def test_errors_of_the_machine(monkeypatch, capsys, error, words):
    def raises(*_, **__):
        raise error

    monkeypatch.setattr("estheory.cli.app.app", raises)
    assert main(["predict"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err


def test_a_damaged_sequence(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "s"
    out.mkdir()
    command = ["run", "sequence", "--tasks", "reversal,addition", "--methods", "es", "--out", out, "--steps", 1]
    for content in (DEEP, "[1]", "{"):
        (out / "sequence.json").write_text(content)
        code, _, err = call(*command)
        assert code == 2
        assert "sequence.json is damaged" in err
