"""--format and standard input, of every command that has them."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

from estheory.cli.app import COMMANDS
from estheory.reporting.records import csv_text
from tests.theory.economy.zero_one import CASES

PREDICT = ("predict", "--dim", "1e6", "--sigma", 0.01, "--population", 8, "--steps", "1,10")
PLAN = ("plan", "--dim", "4e9", "--sigma", 0.0015, "--reliability", 0.3, "--max-norm", 90, "--target-progress", 0.05)
SIMULATE = ("simulate", "--preset", "two-scale", "--steps", 5, "--replicas", 10)
LEDGER = ("--sigma", 0.01, "--alpha", 0.005, "--population", 8)


@pytest.fixture
def typed(monkeypatch):
    """Give standard input."""

    def give(raw):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))

    return give


@pytest.fixture
def rewards(tmp_path):
    found, centre = CASES["linear"].rewards(np.random.default_rng(1), 30, 100, mirrored=True)
    document = {"rewards": found.tolist(), "centre": centre.tolist(), "sigma": 1e-3, "mirrored": True}
    path = tmp_path / "rewards.json"
    path.write_text(json.dumps(document))
    return path


def log_lines():
    rng = np.random.default_rng(0)
    rows = ({"step": t, "rewards": rng.normal(0.5 + 0.01 * t, 0.1, 8).tolist()} for t in range(1, 21))
    return "\n".join(map(json.dumps, rows)) + "\n"


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_holds_the_rows_of_the_document_in_full(estheory, rewards):
    for asked, key in (
        (PREDICT, "predictions"),
        (PLAN, "front"),
        (SIMULATE, "verdicts"),
        (("validate", "published"), "verdicts"),
        (("pilot", rewards), None),
    ):
        document = estheory(*asked, "--json").json()
        found = estheory(*asked, "--format", "csv")
        rows = rows_of(found.out)
        wanted = document["estimates"] + document["predictions"] if key is None else document[key]
        assert len(rows) == len(wanted)
        assert None not in rows[0]  # no cell without a column
        column = "evaluations" if asked is PLAN else "quantity"
        assert [row[column] for row in rows] == [str(row[column]) for row in wanted]
    row, wanted = rows_of(estheory(*PREDICT, "--format", "csv").out)[0], estheory(*PREDICT, "--json").json()
    assert float(row["mean"]) == wanted["predictions"][0]["mean"]  # every digit
    assert [float(row["interval_low"]), float(row["interval_high"])] == wanted["predictions"][0]["interval"]
    assert float(row["config_sigma"]) == 0.01


def test_csv_names_the_configuration_of_each_row(estheory):
    rows = rows_of(estheory(*PREDICT, "--population", "8,16", "--format", "csv").out)
    assert {row["config_population"] for row in rows} == {"8", "16"}


def test_markdown_and_the_table_hold_the_same_cells(estheory):
    def cells(line, mark):
        return [cell for cell in line.replace(mark, " ").split() if cell.strip("─-:")]

    asked = (*PREDICT, "--steps", 10)
    plain, marked = estheory(*asked).out, estheory(*asked, "--format", "markdown").out
    rows = [cells(line, "|") for line in marked.splitlines() if line.startswith("|") and "---" not in line]
    shown = [cells(line, " ") for line in plain.splitlines()]
    assert len(rows) > 10
    assert [row for row in rows if row not in shown] == []
    assert [line for line in marked.splitlines() if line.startswith("| ---") and "---: |" not in line] == []


def test_warnings_of_csv_go_to_stderr(estheory):
    found = estheory(*PLAN, "--format", "csv")
    assert found.err.startswith("warning: ")
    assert "warning" not in found.out


def test_json_and_another_format_contradict(estheory):
    found = estheory(*PREDICT, "--json", "--format", "csv")
    assert (found.code, found.out) == (2, "")
    assert estheory(*PREDICT, "--json", "--format", "json").out == estheory(*PREDICT, "--format", "json").out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_that_prints_tables_has_the_option(estheory, command):
    tables = {
        "predict",
        "plan",
        "simulate",
        "pilot",
        "probe",
        "forecast",
        "measure",
        "validate",
        "lines",
        "check",
        "demo",
        "derive",
    }
    offered = estheory(command, "--help-all").out or estheory(command, "--help").out
    assert ("table | markdown | csv | json" in " ".join(offered.split())) == (command in tables)


def test_standard_input_of_every_kind(estheory, typed, rewards, tmp_path):
    typed(rewards.read_bytes())
    assert estheory("pilot", "-", "--json").json() == estheory("pilot", rewards, "--json").json()
    matrix = np.array(json.loads(rewards.read_text())["rewards"])
    for kind, write in (("npy", np.save), ("csv", lambda file, m: np.savetxt(file, m, delimiter=","))):
        raw = io.BytesIO()
        write(raw, matrix)
        typed(raw.getvalue())
        found = estheory("pilot", "-", "--sigma", 1e-3, "--json").json()
        assert found["design"]["members"] == len(matrix), kind
    log = tmp_path / "log.jsonl"
    log.write_text(log_lines())
    typed(log_lines().encode())
    assert estheory("forecast", "-", *LEDGER, "--json").json() == estheory("forecast", log, *LEDGER, "--json").json()
    for spectrum in (
        "eigenvalue,multiplicity,offset\n10,5,0.3\n",
        "[[spectrum]]\neigenvalue=10\nmultiplicity=5\noffset=0.3\n",
    ):
        typed(spectrum.encode())
        found = estheory(*PREDICT, "--spectrum", "-", "--reward-std", 0.02, "--json")
        assert any(p["quantity"] == "reward" for p in found.json()["predictions"]), found.err
    typed(b"population = 16\n")
    found = estheory("predict", "--dim", "1e6", "--sigma", 0.01, "--config", "-", "--json")
    assert found.json()["config"]["population"] == 16


def test_commands_pipe_into_one_another(estheory, typed, rewards):
    typed(estheory("pilot", rewards, "--json").out.encode())
    planned = estheory(
        *("plan", "--dim", "1e6", "--pilot", "-", "--max-norm", 50, "--target-gain", 0.01, "--json"),
    )
    assert planned.code in (0, 4), planned.err
    assert planned.json()["config"]["gradient_norm"] > 0


def test_standard_input_that_holds_nothing_of_use(estheory, typed):
    typed(b"")
    found = estheory("pilot", "-", "--sigma", 1e-3)
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert found.err.startswith("error: ")


def test_csv_of_a_sequence_has_a_row_for_each_task_after_each_stage():
    sequence = {"method": "es", "seed": 0, "accuracy": [[0.1, 0.2], [0.5, 0.2]], "kl": [[0.0, 0.0], [0.1, 0.02]]}
    document = {"schema": "estheory/sequence/1", "tasks": ["a", "b"], "sequences": [sequence]}
    rows = rows_of(csv_text(document))
    assert [(row["after"], row["task"], float(row["accuracy"])) for row in rows] == [
        ("base", "a", 0.1),
        ("base", "b", 0.2),
        ("a", "a", 0.5),
        ("a", "b", 0.2),
    ]
