"""``estheory pilot``."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from tests.theory.economy.zero_one import CASES


@pytest.fixture
def pilots(tmp_path):
    """Files of one mirrored and one independent pilot of a task that learns."""
    for name, mirrored in (("mirrored", True), ("independent", False)):
        rewards, centre = CASES["linear"].rewards(np.random.default_rng(1), 60, 200, mirrored=mirrored)
        document = {"rewards": rewards.tolist(), "centre": centre.tolist(), "sigma": 1e-3, "mirrored": mirrored}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    return tmp_path


def test_the_document(estheory, pilots):
    options = ("--alpha", 1e-4, "--steps", 100, "--dim", "1e9", "--seconds-per-evaluation", 0.5, "--workers", 8)
    result = estheory("pilot", pilots / "mirrored.json", "--json", *options)
    assert result.code == 0, result.err
    document = result.json()
    assert document["schema"] == "estheory/pilot/1"
    assert document["design"]["mirrored"] is True
    assert document["verdict"] == "learns"
    assert {e["quantity"] for e in document["estimates"]} == {
        *("member_reward_std", "reward_reliability", "odd_variance", "even_variance", "smoothing_gap"),
    }
    for row in document["estimates"]:
        assert {"quantity", "value", "stderr", "interval", "level", "bound"} <= set(row)
    predicted = {p["quantity"]: p for p in document["predictions"]}
    assert set(predicted) == {
        *("reward_gain_per_step", "diffusion_cost_per_step", "net_gain_per_step", "optimal_alpha", "best_net_gain"),
        "displacement_norm",
    }
    gain, net = predicted["reward_gain_per_step"], predicted["net_gain_per_step"]
    assert net["mean"] == pytest.approx(gain["mean"] - predicted["diffusion_cost_per_step"]["mean"])
    assert predicted["displacement_norm"]["step"] == 100
    told = {e["quantity"]: e["value"] for e in document["estimates"]}
    odd_share = told["odd_variance"] / told["member_reward_std"] ** 2
    population = document["design"]["members"]
    square = predicted["displacement_norm"]["mean"] ** 2 * population / (1e-4**2 * 1e9 * 100)
    assert square - 1 == pytest.approx(odd_share, rel=0.05)  # mirrored updates are longer by what their pairs differ
    assert odd_share > 0.2
    assert document["hours"] == pytest.approx(60 * 200 * 100 * 0.5 / 8 / 3600)
    assert document["recommendation"]["alpha"] > 1e-4


def test_without_mirrored_members_the_gain_is_a_bound(estheory, pilots):
    result = estheory("pilot", pilots / "independent.json", "--json")
    document = result.json()
    assert (result.code, document["verdict"]) == (4, "undecided")
    bounds = {row["quantity"]: row["bound"] for row in document["estimates"] + document["predictions"]}
    assert bounds["reward_gain_per_step"] == bounds["odd_variance"] == "upper"
    assert bounds["reward_reliability"] is None
    assert document["next"] == [{"what": document["next"][0]["what"], "evaluations": 60 * 200}]
    assert "mirrored" in document["next"][0]["what"]


@pytest.mark.parametrize(("shaping", "pairs"), [("two-point", True), ("raw", False)])
def test_a_run_of_two_point_shaping_is_read_as_pairs(estheory, tmp_path, shaping, pairs):
    rewards = np.random.default_rng(0).random((8, 4)).tolist()
    rows = [{"sigma": 1e-3, "alpha": 1e-4, "shaping": shaping}, {"step": 1, "prompt_rewards": rewards}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = estheory("pilot", tmp_path / "log.jsonl", "--json").json()
    assert document["design"]["mirrored"] is pairs


def test_a_run_that_costs_more_than_it_gains_stalls(estheory, pilots):
    result = estheory("pilot", pilots / "mirrored.json", "--alpha", 1.0)
    assert result.code in (3, 4)
    assert result.out.count("net_gain_per_step") == 1
    flat = estheory("pilot", pilots / "mirrored.json", "--alpha", 1e-12, "--steps", 10)
    assert flat.code == 3
    assert "less than 1 %" in flat.out


def test_plot(estheory, pilots, tmp_path):
    pytest.importorskip("matplotlib")
    assert estheory("pilot", pilots / "mirrored.json", "--plot", tmp_path / "p.svg").code == 0
    assert (tmp_path / "p.svg").stat().st_size > 1000


def test_refusals_are_one_line(estheory, pilots, tmp_path):
    np.save(tmp_path / "r.npy", np.array([[1.0, np.nan], [0.0, 1.0]]))
    for options in (
        ("pilot", tmp_path / "r.npy", "--sigma", 1e-3),
        ("pilot", tmp_path / "missing.json", "--sigma", 1e-3),
        ("pilot", pilots / "mirrored.json", "--mirrored", "both"),
        ("pilot", pilots / "mirrored.json", "--workers", 2),
        ("pilot", pilots / "mirrored.json", "--sigma", -1),
    ):
        result = estheory(*options)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1


GOOD = [[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]]
BAD = {
    "a number that is none": ([[1, 0, 1], [0, "x", 1], [1, 1, 0]], "row 2, column 2"),
    "not finite": ([[1, 0, math.nan], [0, 1, 1], [1, 1, 0]], "row 1, column 3"),
    "too large": ([[1, 0, 1], [0, 1, 1], [1, -1e200, 0]], "row 3, column 2"),
    "one member": ([[1, 0, 1]], "1 rows, 3 columns"),
    "one prompt": ([[1], [0], [1]], "3 rows, 1 columns"),
    "all equal": ([[1, 1], [1, 1], [1, 1]], "row 1, column 1 to row 3, column 2"),
    "unequal prompts": ([[1, 0, 1], [0, 1]], "row 2 has 2 columns, row 1 has 3"),
    "a centre of another length": ({"rewards": GOOD, "centre": [1, 0]}, "2 rewards for 3 columns"),
    "no pairs": ({"rewards": GOOD[:3], "mirrored": True}, "row 3 has no partner"),
    "another scale": ([[1, 0, 1, 1], [0, 1, 1, 0], [100, 100, 100, 0], [1, 0, 0, 1]], "row 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rewards_name_row_and_column(estheory, tmp_path, name):
    content, place = BAD[name]
    (tmp_path / "r.json").write_text(json.dumps(content))
    result = estheory("pilot", tmp_path / "r.json", "--sigma", 1e-3)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("error: ")
    assert place in result.err


def test_rewards_without_sigma(estheory, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(GOOD))
    result = estheory("pilot", tmp_path / "r.json")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "give --sigma" in result.err


def test_predict_and_plan_take_a_pilot(estheory, pilots, tmp_path):
    file = tmp_path / "pilot.json"
    document = estheory("pilot", pilots / "mirrored.json", "--json").json()
    file.write_text(json.dumps(document))
    rows = {row["quantity"]: row for row in document["estimates"]}
    odd, std = rows["odd_variance"]["value"], rows["member_reward_std"]["value"]
    predicted = estheory("predict", "--pilot", file, "--dim", "1e9", "--population", 60, "--steps", 10, "--json").json()
    [gain] = [p for p in predicted["predictions"] if p["quantity"] == "reward_gain_per_step"]
    assert gain["mean"] == pytest.approx(0.5 * 0.9874 * odd / std, rel=1e-3)  # (alpha/sigma) c(60) v/S
    motion = {
        p["quantity"]: p["mean"] for p in predicted["predictions"] if p["step"] == 10 and p["label"] == "mean-field"
    }
    assert 0 < motion["coherent_displacement"] <= 10 * 0.5 * document["config"]["sigma"]
    assert motion["gradient_cosine"] == pytest.approx(
        motion["coherent_displacement"] / (0.5 * document["config"]["sigma"] * (10 / 60 * 1e9) ** 0.5), rel=0.05
    )
    planned = estheory("plan", "--pilot", file, "--dim", "1e9", "--max-norm", 60, "--target-gain", 0.2, "--json")
    assert planned.code == 0, planned.err
    assert any("pilot's interval" in warning for warning in planned.json()["warnings"])
    given = estheory(
        "predict", "--pilot", file, "--reliability", 0.5, "--dim", 1000, "--population", 30, "--json"
    ).json()
    assert given["config"]["reliability"] == 0.5
    for refused in (
        ("predict", "--pilot", file, "--probes", file, "--dim", 10, "--population", 30),
        ("predict", "--probes", file, "--dim", 10, "--population", 30),
        ("predict", "--pilot", pilots / "mirrored.json", "--dim", 10, "--population", 30),
    ):
        result = estheory(*refused)
        assert (result.code, result.out) == (2, "")
        assert result.err.count("\n") == 1


def test_a_pilot_without_signal_or_pairs_says_so_to_predict(estheory, pilots, tmp_path):
    document = estheory("pilot", pilots / "independent.json", "--json").json()
    file = tmp_path / "pilot.json"
    file.write_text(json.dumps(document))
    result = estheory("predict", "--pilot", file, "--dim", 1000, "--population", 30)
    assert "upper bound" in result.err
    for row in document["estimates"]:
        row["value"] *= -1 if row["quantity"] == "odd_variance" else 1
    file.write_text(json.dumps(document))
    assert "resolves no signal" in estheory("predict", "--pilot", file, "--dim", 1000, "--population", 30).err


class Engine:
    """What es-at-scale's workers do to their weights, on a vector."""

    def __init__(self) -> None:
        self.weights = np.zeros(50)

    def collective_rpc(self, name, args):
        seed, sigma, *negate = args
        noise = np.random.default_rng(seed).standard_normal(self.weights.size)
        sign = {"perturb_self_weights": -1 if any(negate) else 1, "restore_self_weights": -1}[name]
        self.weights += sign * sigma * noise


def test_the_snippet_for_es_at_scale_writes_a_pilot(estheory, tmp_path):
    page = (Path(__file__).parents[2] / "docs/how-to/pilot.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    [snippet] = [block for block in blocks if "def es_at_scale_pilot" in block]
    space = {"json": json}
    exec(snippet, space)  # what the reader pastes
    engine, directions = Engine(), np.random.default_rng(0).standard_normal((40, 50))
    ask = lambda engine: (directions @ engine.weights + 0.3 * engine.weights.sum() > 0).astype(float)  # noqa: E731
    space["es_at_scale_pilot"](tmp_path / "p.json", engine, ask, members=16, sigma=0.01)
    assert np.abs(engine.weights).max() < 1e-12
    document = estheory("pilot", tmp_path / "p.json", "--json").json()
    design = {"members": 16, "prompts": 40, "mirrored": True, "centre": True, "sigmas": [0.01]}
    assert design.items() <= document["design"].items()
    odd = next(row for row in document["estimates"] if row["quantity"] == "odd_variance")
    assert odd["interval"][0] > 0
