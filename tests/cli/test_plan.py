"""``estheory plan`` as users type it."""

import subprocess
import sys

import pytest

MODEL = ["--dim", 4022468096, "--sigma", "0.001,0.0015"]
SIGNAL = ["--gradient-norm", 2, "--reward-std", 0.01]
ASK = [*MODEL, *SIGNAL, "--max-norm", 86.8, "--target-progress", 0.07]


def test_plan_in_json_is_what_predict_predicts(estheory):
    result = estheory("plan", *ASK, "--json")
    assert (result.code, result.err) == (0, "")
    document = result.json()
    assert document["schema"] == "estheory/plan/1"
    assert document["budget"] == {"max-norm": 86.8, "confidence": 0.95}
    assert document["target"] == {"kind": "target-progress", "value": 0.07}
    assert document["binding"] == ["max-norm"]
    best = document["recommendation"]
    assert best["sigma"] == 0.0015
    assert best["evaluations"] == best["population"] * best["steps"]
    assert best["progress"]["mean"] == pytest.approx(0.07)
    run = [f"--{name}={best[name]}" for name in ("sigma", "alpha", "population", "steps")]
    predicted = estheory("predict", "--dim", 4022468096, *run, *SIGNAL, "--level", 0.9, "--json").json()
    norm, progress = (
        next(p for p in predicted["predictions"] if p["quantity"] == name)
        for name in ("displacement_norm", "progress_per_step")
    )
    assert best["drift_at_confidence"]["max-norm"] == pytest.approx(norm["interval"][1], rel=1e-6)
    assert norm["interval"][1] <= 86.8
    assert best["steps"] * progress["mean"] == pytest.approx(0.07)
    scales = [entry["budget_scale"] for entry in document["front"]]
    assert scales == sorted(scales)
    assert 1.0 in scales


@pytest.mark.parametrize(
    ("dim", "options"),
    [
        (2, ["--reliability", 0.9]),
        (40, ["--reliability", 0.6]),
        (1000, ["--reliability", 0.6, "--antithetic"]),
        (300, ["--reliability", 0.3, "--shaping", "centered-rank"]),
        (5000, ["--gradient-norm", 2, "--reward-std", 0.1]),
    ],
)
def test_a_planned_run_has_the_norm_that_predict_says(estheory, dim, options):
    plan = estheory(
        "plan", "--dim", dim, "--sigma", 0.05, *options, "--max-norm", 3, "--target-progress", 0.2, "--json"
    )
    best = plan.json()["recommendation"]
    run = [f"--{name}={best[name]}" for name in ("sigma", "alpha", "population", "steps")]
    predicted = estheory("predict", "--dim", dim, *run, *options, "--level", 0.9, "--json").json()["predictions"]
    of_run, of_plan = (
        next(p for p in rows if p["quantity"] == "displacement_norm") for rows in (predicted, best["predictions"])
    )
    assert (of_plan["label"], of_plan["step"]) == (of_run["label"], of_run["step"])
    for key in ("mean", "std"):
        assert of_plan[key] == pytest.approx(of_run[key], rel=1e-9)
    assert best["drift_at_confidence"]["max-norm"] == pytest.approx(of_run["interval"][1], rel=1e-6)
    if "--reliability" in options:
        walk = estheory("predict", "--dim", dim, *run, *options[2:], "--json").json()["predictions"]
        plain = next(p for p in walk if p["quantity"] == "displacement_norm")
        assert of_run["mean"] > 1.001 * plain["mean"]  # the signal's part of the norm is in both


def test_text_says_what_to_run_what_binds_and_what_else_would_cost(estheory):
    out = " ".join(estheory("plan", *ASK).out.split())
    for words in ("recommendation", "Run ", "ruled out by --max-norm", "half the norm takes"):
        assert words in out
    assert len(estheory("plan", *ASK).out.splitlines()) < 30


def test_nothing_feasible_exits_4_and_says_why(estheory):
    result = estheory("plan", *MODEL, *SIGNAL, "--max-norm", 10, "--target-progress", 1)
    assert result.code == 4
    out = " ".join(result.out.split())
    assert "No configuration meets --max-norm 10 with --target-progress 1: the best progress within the budget" in out
    assert "--max-norm and --max-evaluations" in out
    document = estheory("plan", *MODEL, *SIGNAL, "--max-norm", 10, "--target-progress", 1, "--json").json()
    assert document["recommendation"] is None
    assert document["front"] == []
    assert document["needed"]["evaluations"] > 10**7
    longer = estheory("plan", *MODEL, *SIGNAL, "--max-norm", 0.9, "--target-progress", 1)
    assert longer.code == 4
    assert "itself longer than --max-norm" in " ".join(longer.out.split())


def test_every_budget_and_a_gain_with_curvature(estheory):
    document = estheory(
        *("plan", "--dim", "1e9", "--sigma", 1e-3, *SIGNAL, "--target-gain", 0.05, "--max-norm", 50, "--max-kl", 0.02),
        *("--fisher-trace", 6000, "--fisher-square-trace", 4e5, "--max-off-task-loss", 0.1, "--off-task-trace", 2000),
        *("--off-task-gradient-norm", 1, "--curvature-trace", 300, "--gradient-curvature", 10, "--json"),
    ).json()
    best = document["recommendation"]
    assert best["target"] == pytest.approx(0.05)
    for name, value in best["drift_at_confidence"].items():
        assert value <= document["budget"][name]
    quantities = {p["quantity"] for p in best["predictions"]}
    assert quantities == {"displacement_norm", "kl_drift", "off_task_reward_change"}
    [kl] = [p for p in best["predictions"] if p["quantity"] == "kl_drift"]
    assert kl["mean"] < best["drift_at_confidence"]["max-kl"]


def test_spectrum_file(estheory, tmp_path):
    path = tmp_path / "spectrum.csv"
    path.write_text("eigenvalue,multiplicity,offset\n10,5,0.3\n0.05,400,0\n")
    arguments = ("--dim", 1005, "--spectrum", path, "--reward-std", 0.02, "--sigma", 0.01, "--max-norm", 2)
    document = estheory("plan", *arguments, "--target-gain", 2, "--population", "16,30", "--json").json()
    assert document["recommendation"]["target"] >= 2
    both = estheory("plan", *arguments, "--gradient-norm", 2, "--target-gain", 1)
    assert (both.code, both.out) == (2, "")
    assert "fixes" in both.err


def test_reliability_serves_at_one_sigma(estheory):
    result = estheory(
        *("plan", "--dim", "1e9", "--sigma", 1e-3, "--reliability", 0.3, "--max-norm", 50, "--target-progress", 0.05),
        *("--antithetic", "--json"),
    )
    assert result.json()["recommendation"]["reliability"] == 0.3


def test_warnings_name_default_sigmas_and_the_unknown_spread(estheory):
    result = estheory(
        *(
            "plan",
            "--dim",
            "1e9",
            *SIGNAL,
            "--max-kl",
            0.05,
            "--fisher-trace",
            6000,
            "--target-progress",
            0.05,
            "--json",
        )
    )
    warnings = " ".join(result.json()["warnings"])
    assert "default list" in warnings
    assert "--fisher-square-trace" in warnings
    scaled = estheory("plan", "--dim", "1e9", *SIGNAL, "--weight-std", 0.02, *ASK[-4:], "--json").json()
    assert scaled["config"]["sigma"] == pytest.approx([5e-4, 1e-3, 2e-3, 4e-3])


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(estheory, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"front.{suffix}"
    assert estheory("plan", *ASK, "--plot", path).code == 0
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


BAD = {
    "no budget": ([*MODEL, *SIGNAL, "--target-progress", 1], "--max-norm"),
    "no target": ([*MODEL, *SIGNAL, "--max-norm", 1], "--target-progress"),
    "two targets": ([*ASK, "--target-gain", 1], "exclude"),
    "budget zero": ([*ASK, "--max-norm", 0], "max-norm"),
    "budget negative": ([*ASK, "--max-norm", -3], "max-norm"),
    "budget nan": ([*ASK, "--max-norm", "nan"], "max-norm"),
    "budget no number": ([*ASK, "--max-norm", "far"], "max-norm"),
    "budget list": ([*ASK, "--max-norm", "1,2"], "one number"),
    "target zero": ([*ASK, "--target-progress", 0], "target-progress"),
    "target infinite": ([*ASK, "--target-progress", "inf"], "target-progress"),
    "confidence": ([*ASK, "--confidence", 1], "confidence"),
    "kl without trace": ([*ASK, "--max-kl", 0.1], "--fisher-trace"),
    "no signal": ([*MODEL, "--max-norm", 1, "--target-progress", 1], "--gradient-norm"),
    "reliability at two sigmas": ([*MODEL, "--reliability", 0.3, "--max-norm", 1, "--target-progress", 1], "one sigma"),
    "no dim": ([*SIGNAL, "--max-norm", 1, "--target-progress", 1], "--dim"),
    "two dims": ([*ASK, "--dim", "10,20"], "one number"),
    "contradictory": ([*ASK, "--population", 1000, "--steps", 1000, "--max-evaluations", 100], "exceeds"),
    "population fractional": ([*ASK, "--population", 2.5], "whole number"),
    "population 1": ([*ASK, "--population", 1], "population"),
    "antithetic odd": ([*ASK, "--antithetic", "--population", 31], "even"),
    "cap too large": ([*ASK, "--max-evaluations", "1e300"], "at most"),
    "dim too large": ([*ASK, "--dim", "1e300"], "at most"),
    "steps zero": ([*ASK, "--steps", 0], "steps"),
    "sigma nan": ([*ASK, "--sigma", "nan"], "sigma"),
    "curvature for progress": ([*ASK, "--curvature-trace", 3], "target-gain"),
    "gradient curvature alone": ([*ASK[:-2], "--target-gain", 1, "--gradient-curvature", 3], "curvature-trace"),
    "momentum": ([*ASK, "--momentum", 0.9], "No such option: --momentum"),
    "raw": ([*ASK, "--shaping", "raw"], "'zscore', 'centered-rank'"),
    "plot suffix": ([*ASK, "--plot", "front.nothing"], "front.nothing"),
    "missing spectrum": ([*MODEL, "--spectrum", "no.csv", "--max-norm", 1, "--target-gain", 1], "no.csv"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2(estheory, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, expected = BAD[name]
    result = estheory("plan", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert expected in result.err
    assert list(tmp_path.iterdir()) == []


def test_all_that_is_missing_is_named_at_once(estheory):
    said = estheory("plan").err
    for words in ("--dim", "--max-norm", "--target-gain", "--reward-std", "--reliability", "--spectrum"):
        assert words in said
    assert "--max-norm" not in estheory("plan", "--max-norm", 1).err


def test_plan_stays_light():
    code = (
        "import sys; from estheory.cli.app import main; "
        f"main({[str(a) for a in ('plan', *ASK, '--json')]!r}); "
        "print([m for m in ('torch', 'transformers', 'sympy', 'scipy.stats', 'matplotlib') if m in sys.modules], "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_time_of_an_evaluation_gives_hours(estheory):
    plan = ["plan", "--dim", "3B", "--sigma", "0.001", "--gradient-norm", "2", "--reward-std", "0.01"]
    plan += ["--max-norm", "90", "--target-progress", "0.05"]
    result = estheory(*plan, "--seconds-per-evaluation", "4", "--workers", "8", "--json")
    document = result.json()
    assert document["hours"] == pytest.approx(document["recommendation"]["evaluations"] * 4 / 8 / 3600)
    assert f"{document['hours']:.3g} hours" in estheory(*plan, "--seconds-per-evaluation", "4", "--workers", "8").out
    refused = estheory(*plan, "--workers", "8")
    assert (refused.code, "--seconds-per-evaluation" in refused.err) == (2, True)


def test_the_first_line_says_what_was_never_seen_to_work(estheory):
    asked = ("plan", "--dim", "4e9", "--sigma", 0.0015, "--reliability", 0.3, "--max-norm", 90)
    long = (*asked, "--target-progress", 0.05)
    assert estheory(*long).out.splitlines()[0].startswith("Beyond what was seen to work: 62 steps")
    assert len(estheory(*long, "--json").json()["beyond"]) == 1
    short = (*asked, "--target-progress", 0.005, "--steps", 8)
    assert estheory(*short, "--json").json()["beyond"] == []
    assert "Beyond" not in estheory(*short).out
