"""``estheory probe``, and predict with its document."""

import json

import pytest

pytest.importorskip("torch")

COMMAND = ("probe", "tiny-lm", "--sigma", 0.015, "--members", 6, "--prompts", 12, "--directions", 2, "--mirrored")


def test_two_tasks_are_probed_kept_and_predicted_from(estheory, tmp_path):
    kept = tmp_path / "rewards.jsonl"
    file = tmp_path / "probe.json"
    result = estheory(*COMMAND, "--tasks", "addition,reversal", "--keep", kept, "--json", "--output", file)
    assert result.code == 0, result.err
    assert len(kept.read_text().splitlines()) == 2 * 7
    kept.write_text("\n".join(kept.read_text().splitlines()[:9]) + "\n")  # cut off
    again = estheory(*COMMAND, "--tasks", "addition,reversal", "--keep", kept, "--json").json()
    assert len(kept.read_text().splitlines()) == 2 * 7
    document = json.loads(file.read_text())
    assert again == document
    assert document["schema"] == "estheory/probe/1"
    names = {(row["task"], row["quantity"]) for row in document["probes"]}
    assert names >= {
        (task, quantity)
        for task in ("addition", "reversal")
        for quantity in ("fisher_trace", "smoothing_gap", "gradient_norm", "reward_reliability")
    }
    predicted = estheory(
        "predict", "--probes", file, "--dim", 59184, "--population", 30, "--steps", 10, "--json"
    ).json()
    traces = {row["task"]: row["value"] for row in document["probes"] if row["quantity"] == "fisher_trace"}
    [drift] = [p for p in predicted["predictions"] if p["quantity"] == "kl_drift"]
    walk = 0.5 * 0.0075**2 * 10 / 30 * traces["addition"]
    along = {row["task"]: row for row in document["probes"] if row["quantity"] == "signal_curvature"}
    if "addition" not in along:  # no odd part was seen in so few pairs
        assert drift["mean"] == pytest.approx(walk, rel=1e-6)
    else:
        assert along["addition"]["stderr"] > 0
        assert drift["mean"] > walk
        given = ("--fisher-trace", 100)  # of another behaviour, whose curvature along the signal is not known
        other = estheory("predict", "--probes", file, "--dim", 59184, "--population", 30, *given, "--json").json()
        assert "signal_curvature" not in other["config"]
    assert any(p["quantity"] == "off_task_reward_change" for p in predicted["predictions"])


def test_tasks_are_asked_for(estheory):
    result = estheory("probe", "tiny-lm")
    assert (result.code, result.out) == (2, "")
    assert "--tasks" in result.err


def test_probes_of_another_model_or_sigma_are_named(estheory, tmp_path):
    rows = [
        {"task": "addition", "quantity": quantity, "value": value, "stderr": 0.1}
        for quantity, value in (("odd_variance", 0.01), ("member_reward_std", 0.2), ("fisher_trace", 500.0))
    ]
    file = tmp_path / "probe.json"
    file.write_text(
        json.dumps(
            {"schema": "estheory/probe/1", "model": "tiny-lm", "dtype": "float32", "sigma": 0.015, "probes": rows}
        )
    )
    run = ("predict", "--probes", file, "--population", 30, "--steps", 10)
    assert estheory(*run, "--model", "tiny-lm", "--sigma", 0.015).code == 0
    other = tmp_path / "other"
    other.mkdir()
    for asked, named in (
        (("--dim", 59184, "--sigma", 0.02), "was measured with sigma 0.015, and --sigma is 0.02"),
        (("--model", other, "--sigma", 0.015), f"probed the model tiny-lm, and --model is {other}"),
        (("--dim", 59184, "--dtype", "bfloat16"), "probed the dtype float32, and --dtype is bfloat16"),
    ):
        result = estheory(*run, *asked)
        assert (result.code, result.out) == (2, "")
        assert named in result.err.replace("\n", " ")
        assert "Traceback" not in result.err
    # what the command line says of the signal wins
    assert estheory(*run, "--dim", 59184, "--sigma", 0.02, "--reliability", 0.3).code == 0
