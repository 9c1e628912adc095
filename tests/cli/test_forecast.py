"""``estheory forecast``."""

import json

import numpy as np
import pytest

from tests.theory.economy.quadratic_runs import es_run


@pytest.fixture
def log(tmp_path):
    """The log of a mirrored run with the centre's rewards."""
    rows, _ = es_run(np.random.default_rng(1), steps=24, members=16, prompts=32, alpha=0.03, noise=0.1, spread=0.5)
    lines = [{"sigma": 0.1, "alpha": 0.03, "mirrored": True}]
    lines += [
        {
            "step": t,
            "prompt_rewards": r.tolist(),
            "centre_rewards": c.tolist(),
            "coefficients": z.tolist(),
            "norm": 0.1 * t,
        }
        for t, (r, c, z, _) in enumerate(rows, start=1)
    ]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_the_document(estheory, log):
    result = estheory("forecast", log, "--json", "--at", 20, "--until", 40)
    assert result.code == 0, result.err
    document = result.json()
    assert document["schema"] == "estheory/forecast/1"
    assert document["at"] == 20
    assert [row["step"] for row in document["ledger"]] == list(range(1, 21))
    assert {"step", "earned", "earned_stderr", "paid", "paid_stderr", "reliability", "reward"} <= set(
        document["ledger"][0]
    )
    totals = document["totals"]
    assert totals["earned"] == pytest.approx(sum(row["earned"] for row in document["ledger"]))
    difference = totals["net_between_ends"] - totals["reward_change"]
    assert abs(difference) < 4 * np.hypot(totals["net_between_ends_stderr"], totals["reward_change_stderr"])
    assert document["state"] == "earning"
    assert document["stop"]["advice"] is False
    assert {p["quantity"] for p in document["predictions"]} - {"reward_peak_step"} == {
        "centre_reward",
        "displacement_norm",
        "checkpoint_cosine",
    }
    assert all(20 < p["step"] <= 40 for p in document["predictions"] if p["step"])


def test_with_the_number_of_parameters_the_coherent_part_is_told(estheory, log):
    assert estheory("forecast", log, "--json").json()["coherent"] is None
    first, rest = log.read_text().split("\n", 1)
    log.write_text(json.dumps(json.loads(first) | {"dim": 500}) + "\n" + rest)
    document = estheory("forecast", log, "--json", "--until", 30).json()
    told = {p["quantity"] for p in document["predictions"] if p["label"] == "mean-field"}
    assert {"displacement_norm", "coherent_displacement", "gradient_cosine"} <= told
    coherent = document["coherent"]
    assert 0 < coherent["along_first_gradient"] <= coherent["displacement"] * 1.001 < coherent["norm"]
    assert coherent["bound"] is None
    assert "cosine with the gradient at the start" in estheory("forecast", log).out


def test_the_text_shows_windows_and_the_rule(estheory, log):
    out = estheory("forecast", log, "--stop-net", 1).out
    assert "1-3" in out
    assert "Between the ends of the log" in out
    assert "stop: the net rate is" in out


def test_means_alone(estheory, tmp_path):
    rows = [{"step": t, "reward_mean": 0.1 + 0.01 * t, "reward_std": 0.05} for t in range(1, 20)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    result = estheory("forecast", tmp_path, "--sigma", 1e-3, "--alpha", 5e-4, "--population", 30, "--json")
    assert result.json()["totals"]["bound"] == "upper"
    assert result.json()["totals"]["paid"] is None
    refused = estheory("forecast", tmp_path)
    assert (refused.code, refused.out) == (2, "")
    assert "--sigma" in refused.err


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ([{"step": t, "reward_mean": 0.1, "reward_std": 0.05} for t in (1, 2, 5)], "steps 3 to 4 are missing"),
        ([{"step": 1.5, "reward_mean": 0.1, "reward_std": 0.05}], "1.5 is no whole number"),
        ([{"step": t, "reward_mean": 1e200, "reward_std": 1e200} for t in (1, 2)], "step 1: reward_mean is damaged"),
        ([{"step": t, "rewards": [0.1] * (t + 3)} for t in (1, 2)], "step 2 has 5 rewards"),
        ([{"step": 1, "rewards": [0.1, 0.2, 0.3, 0.4], "coefficients": [1, 2]}], "step 1 has 2 coefficients"),
        ([{"step": 1}], "step 1 has none of rewards"),
    ],
)
def test_bad_logs_are_refused_in_one_line(estheory, tmp_path, rows, place):
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    result = estheory("forecast", tmp_path, "--sigma", 1e-3, "--alpha", 5e-4, "--population", 4)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("error: ")
    assert place in result.err


def test_a_log_without_rewards_is_read_on_only_where_it_was_cut(estheory, tmp_path):
    (tmp_path / "log.jsonl").write_text(
        '{"sigma": 0.001, "alpha": 0.0005, "population": 4}\n{"step": 1}\n{"step": 2, "rew\n'
    )
    assert "line 3" in (whole := estheory("forecast", tmp_path).err)
    assert "step 1 has none" in whole
    assert "--at" not in whole
    assert "--at" in estheory("forecast", tmp_path, "--at", 1).err


def test_what_an_update_must_be_worth_is_a_number(estheory, log):
    result = estheory("forecast", log, "--stop-net", "nan")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)


def test_plot(estheory, log, tmp_path):
    pytest.importorskip("matplotlib")
    assert estheory("forecast", log, "--plot", tmp_path / "f.svg").code == 0
    assert (tmp_path / "f.svg").stat().st_size > 1000
