"""``estheory predict`` as users type it."""

import json
import math
import subprocess
import sys

import pytest

PAPER = ["--dim", 4022468096, "--sigma", 0.0015, "--alpha", 0.00075, "--population", 30]


def by_quantity(document, quantity):
    return [p for p in document["predictions"] if p["quantity"] == quantity]


def test_the_paper_in_json(estheory):
    result = estheory("predict", *PAPER, "--steps", "100,200,300,400", "--json")
    assert (result.code, result.err) == (0, "")
    document = result.json()
    assert document["schema"] == "estheory/prediction/1"
    assert document["config"] == {
        "dim": 4022468096,
        "sigma": 0.0015,
        "alpha": 0.00075,
        "population": 30,
        "steps": [100, 200, 300, 400],
    }
    norms = by_quantity(document, "displacement_norm")
    assert [p["step"] for p in norms] == [100, 200, 300, 400]
    first = norms[0]
    assert first["mean"] == pytest.approx(86.84542, abs=5e-6)
    assert first["std"] == pytest.approx(0.000968, abs=5e-7)
    assert first["interval"] == pytest.approx([86.84353, 86.84732], abs=5e-6)
    assert (first["level"], first["systematic"], first["label"]) == (0.95, 0.0, "exact")
    assert (first["unit"], first["source"]) == ("weight", "arXiv:2604.01499")
    measured = (87.28, 122.76, 149.99, 173.00)
    ratios = [value / p["mean"] for value, p in zip(measured, norms, strict=True)]
    assert ratios == pytest.approx([1.0050, 0.9995, 0.9971, 0.9960], abs=5e-5)
    pairs = by_quantity(document, "checkpoint_cosine")
    assert [p["where"] for p in pairs][:3] == ["100|200", "100|300", "100|400"]
    assert pairs[2]["mean"] == pytest.approx(0.5)
    assert document["warnings"] == []


def test_every_quantity_that_needs_no_spectrum(estheory):
    document = estheory(
        *("predict", *PAPER, "--steps", "100,400", "--reliability", 0.3, "--gradient-norm", 2, "--json"),
        *("--grpo-lr", "3e-6", "--grpo-steps", 80, "--dtype", "bfloat16", "--weight-std", 0.02),
    ).json()
    assert {p["quantity"] for p in document["predictions"]} == {
        *("displacement_norm", "step_norm", "member_perturbation_norm", "coordinate_std", "effective_dimension_ratio"),
        *("checkpoint_cosine", "independent_cosine", "gradient_cosine", "progress_per_step", "reward_gain_per_step"),
        *("coherent_displacement_bound", "signal_share_bound", "es_grpo_cosine_bound", "grpo_displacement_norm"),
        *("norm_ratio", "matching_population", "precision_gain", "precision_signal"),
    }
    gain, later = by_quantity(document, "precision_gain")
    assert gain["mean"] == pytest.approx(1.056, abs=5e-4)
    assert (gain["step"], later["step"]) == (100, 400)
    norm = by_quantity(document, "displacement_norm")[0]
    assert norm["mean"] == pytest.approx(86.84542 * math.sqrt(gain["mean"]), rel=1e-6)


def test_rewards_of_a_batch_of_prompts(estheory):
    run = ["--dim", 1000, "--sigma", 0.5, "--population", 10, "--steps", "20", "--gradient-norm", 0.05]
    exact = estheory("predict", *run, "--success", 0.1, "--prompts", 1, "--json").json()
    gaussian = estheory("predict", *run, "--reward-std", 0.3, "--json").json()
    assert (exact["config"]["success"], exact["config"]["prompts"]) == (0.1, 1)
    [tie] = by_quantity(exact, "tie_probability")
    assert tie["mean"] == pytest.approx(0.9**10, rel=1e-3)
    ratio = {
        name: by_quantity(exact, name)[0]["mean"] / by_quantity(gaussian, name)[0]["mean"]
        for name in ("progress_per_step", "reward_gain_per_step", "coordinate_std")
    }
    assert ratio["coordinate_std"] == pytest.approx((1 - tie["mean"]) ** 0.5)
    assert ratio["progress_per_step"] == pytest.approx(ratio["reward_gain_per_step"])
    assert ratio["progress_per_step"] < 0.9
    rows = estheory("predict", *run, "--success", "0.1,0.5", "--prompts", "1,8", "--json").json()["rows"]
    assert [(r["config"]["success"], r["config"]["prompts"]) for r in rows] == [(0.1, 1), (0.1, 8), (0.5, 1), (0.5, 8)]


def test_norm_ratio_from_hyper_parameters_alone(estheory):
    document = estheory("predict", *PAPER, "--steps", 100, "--grpo-lr", 3e-6, "--grpo-steps", 80, "--json").json()
    [ratio] = by_quantity(document, "norm_ratio")
    assert ratio["mean"] == pytest.approx(73.6, abs=0.1)
    [matching] = by_quantity(document, "matching_population")
    assert matching["mean"] == pytest.approx(30 * ratio["mean"] ** 2, rel=1e-6)
    measured = estheory("predict", *PAPER, "--steps", 100, "--grpo-norm", 1.0, "--json").json()
    assert by_quantity(measured, "norm_ratio")[0]["mean"] == pytest.approx(86.845, abs=1e-3)
    assert by_quantity(measured, "grpo_displacement_norm") == []


def test_low_precision_without_weights_is_a_band_on_the_plain_law(estheory):
    document = estheory("predict", *PAPER, "--steps", 100, "--dtype", "bfloat16", "--json").json()
    [norm] = by_quantity(document, "displacement_norm")
    assert norm["mean"] == pytest.approx(86.84542, abs=5e-6)
    assert 0.03 < norm["systematic"] < 0.06  # over weights of rms .01 to .05, one addition a step
    assert "bfloat16" in document["warnings"][0]
    one_by_one = estheory(
        *("predict", *PAPER, "--steps", 100, "--dtype", "bfloat16", "--update-path", "sequential", "--json")
    ).json()
    assert by_quantity(one_by_one, "displacement_norm")[0]["systematic"] > 0.2
    assert "0.05" in one_by_one["warnings"][0]


def test_low_precision_on_a_model_s_own_weights(estheory):
    run = ["--model", "tiny-lm", "--weights", "tiny-lm", "--sigma", 0.0015, "--population", 30, "--steps", "1,5"]
    run += ["--dtype", "bfloat16", "--update-path", "sequential", "--restore-pairs", 2]
    document = estheory("predict", *run, "--json").json()
    rows = document["rounding"]
    assert {row["step"] for row in rows} == {1, 5}
    assert len({row["tensor"] for row in rows}) == 20
    assert "model.layers.1" in {row["layer"] for row in rows}
    [gain] = [p for p in by_quantity(document, "precision_gain") if p["step"] == 5]
    layernorm = next(r for r in rows if r["tensor"] == "model.norm.weight" and r["step"] == 5)
    assert layernorm["swallowed"] > 0.9  # weights near 1 do not move by 1e-4
    assert gain["std"] > 0
    assert any("swallows" in warning for warning in document["warnings"])
    table = estheory("predict", *run, "--tensors").out
    assert "model.layers.0.self_attn.q_proj.weight" in table
    refused = estheory("predict", *PAPER, "--tensors")
    assert (refused.code, refused.out) == (2, "")


def test_progress_shrinks_with_what_rounding_keeps(estheory):
    run = ["predict", *PAPER, "--reliability", 0.3, "--json"]
    plain = by_quantity(estheory(*run).json(), "progress_per_step")[0]["mean"]
    document = estheory(*run, "--dtype", "bfloat16", "--update-path", "sequential", "--weight-std", 0.05).json()
    [kept] = by_quantity(document, "precision_signal")
    assert by_quantity(document, "progress_per_step")[0]["mean"] == pytest.approx(plain * kept["mean"])
    assert kept["mean"] == pytest.approx(0.4085, abs=1e-3)


def test_comma_lists_make_rows_last_option_fastest(estheory):
    document = estheory("predict", "--dim", 1000, "--sigma", "0.1,0.2", "--population", "30,128", "--json").json()
    assert "predictions" not in document
    configs = [(row["config"]["sigma"], row["config"]["population"]) for row in document["rows"]]
    assert configs == [(0.1, 30), (0.1, 128), (0.2, 30), (0.2, 128)]
    assert [row["config"]["alpha"] for row in document["rows"]] == [0.05, 0.05, 0.1, 0.1]
    table = estheory("predict", "--dim", 1000, "--sigma", "0.1,0.2", "--population", "30,128").out
    assert len([line for line in table.splitlines() if line.split()[:1] in (["0.1"], ["0.2"])]) == 4


def test_text_for_people(estheory):
    out = estheory("predict", *PAPER, "--steps", 100).out
    assert "geometry" in out
    assert "on-task" in out
    assert "ES will move 86.8 weight units in 100 steps; at most 7e-07 of the squared norm can be signal" in out


def test_config_file_and_flags_win(estheory, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("dim = 4_022_468_096\nsigma = 0.0015\npopulation = 30\nsteps = [100, 400]\njson = true\n")
    document = estheory("predict", "--config", path, "--sigma", 0.002).json()
    assert document["config"]["sigma"] == 0.002
    assert document["config"]["steps"] == [100, 400]


def test_output_file_is_whole_and_stdout_silent(estheory, tmp_path):
    path = tmp_path / "out.json"
    result = estheory("predict", *PAPER, "--json", "--output", path)
    assert (result.code, result.out) == (0, "")
    assert json.loads(path.read_text())["schema"] == "estheory/prediction/1"
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_every_shaping_noise_and_anchor(estheory):
    extra = [
        ["--shaping", "centered-rank"],
        ["--shaping", "raw", "--gradient-norm", 1, "--reward-std", 1],
        ["--shaping", "two-point", "--gradient-norm", 1, "--reward-std", 1],
        ["--antithetic", "--reliability", 0.4],
        ["--noise", "low-rank:1"],
        ["--anchor-l2", 0.01],
        ["--anchor-l1", 1e-5],
        ["--anchor-l2", 0.01, "--anchor-form", "after"],
        ["--momentum", 0.9],
    ]
    means = [
        by_quantity(estheory("predict", *PAPER, "--steps", 200, *x, "--json").json(), "displacement_norm")[0]["mean"]
        for x in extra
    ]
    assert all(mean > 0 for mean in means)
    assert len(set(means)) == len(means) and max(means[5:]) < 122.8  # noqa: PT018


BAD = {
    "dim zero": (["--dim", 0], "dim"),
    "dim not a number": (["--dim", "many"], "--dim: 'many'"),
    "dim fractional": (["--dim", "10.5"], "whole number"),
    "sigma zero": (["--sigma", 0], "sigma"),
    "sigma nan": (["--sigma", "nan"], "sigma"),
    "population 1": (["--population", 1], "no spread"),
    "population fractional": (["--population", 2.5], "whole number"),
    "population infinite": (["--population", "inf"], "whole number"),
    "alpha infinite": (["--alpha", "inf"], "alpha"),
    "reliability over 1": (["--reliability", 1.1], "reliability"),
    "unknown shaping": (["--shaping", "zscores"], "'zscore'"),
    "unknown noise": (["--noise", "low-rank:0"], "noise"),
    "steps zero": (["--steps", "100,0"], "steps"),
    "antithetic odd": (["--antithetic", "--population", 31], "even"),
    "raw without spread": (["--shaping", "raw"], "spread"),
    "shared seed without shapes": (["--noise", "shared-seed"], "shapes"),
    "success alone": (["--success", 0.1], "--prompts"),
    "success and noise": (["--success", 0.1, "--prompts", 4, "--reward-std", 1], "exclude"),
    "success over 1": (["--success", 1.1, "--prompts", 4], "success"),
    "prompts fractional": (["--success", 0.1, "--prompts", 4.5], "whole number"),
    "success of pairs": (["--success", 0.1, "--prompts", 4, "--antithetic"], "paired"),
    "grpo half": (["--grpo-lr", 1e-6], "grpo-steps"),
    "level": (["--level", 1.5], "level"),
    "unknown option": (["--sigmaa", 1], "did you mean '--sigma'"),
    "missing config": (["--config", "nowhere.toml"], "nowhere.toml"),
    "model and dim": (["--model", "x"], "exclude"),
    "missing weights": (["--weights", "nowhere"], "nowhere"),
    "unwritable output": (["--output", "no/such/folder/x.json"], "no/such/folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_2(estheory, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, expected = BAD[name]
    result = estheory("predict", *PAPER, *arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert expected in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sigmaa = 1\n", "unknown key 'sigmaa'"),
        ("sigma = \n", "not TOML"),
        ("sigma = true\n", "unusable"),
        ("json = 1\n", "true or false"),
        ("[sigma]\nx = 1\n", "unusable"),
    ],
)
def test_bad_config_files(estheory, tmp_path, text, expected):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    result = estheory("predict", "--dim", 10, "--population", 4, "--config", path)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert expected in result.err
    assert result.err.count("\n") == 1


def test_predict_stays_light():
    """A cold predict must not pay for torch, transformers, sympy or scipy.stats."""
    code = (
        "import sys; from estheory.cli.app import main; "
        "main('predict --dim 4e9 --sigma 1e-3 --population 30 --steps 100,400 --json'.split()); "
        "heavy = ('torch', 'transformers', 'sympy', 'scipy', 'matplotlib'); "
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    json.loads(done.stdout)


def test_program_options(estheory):
    assert estheory("--version").out.startswith("estheory 0.")
    assert "2604.01499" in estheory("--cite").out
    assert "predict" in estheory("--help").out
    missing = estheory("no-such-command")
    assert missing.code == 2
    assert missing.err.startswith("error: ")


TWO_SCALE = "eigenvalue,multiplicity,offset\n10,5,0.3\n0.05,400,0\n"


def test_spectrum_fisher_and_off_task_options(estheory, tmp_path):
    spectrum = tmp_path / "two.csv"
    spectrum.write_text(TWO_SCALE)
    options = ["--dim", 1005, "--sigma", 0.01, "--alpha", 0.01, "--population", 30, "--reward-std", 0.02]
    document = estheory(
        *("predict", *options, "--steps", "20,100,200,400", "--spectrum", spectrum, "--json"),
        *("--fisher-trace", 100, "--fisher-square-trace", 50, "--off-task-trace", 4, "--off-task-gradient-norm", 0.1),
    ).json()
    rewards = [p["mean"] for p in by_quantity(document, "reward")]
    assert rewards == pytest.approx([-1.1864, -0.00775, -0.00725, -0.01302], rel=1e-3)
    assert by_quantity(document, "reward_peak_step")[0]["mean"] == pytest.approx(125, abs=0.5)
    assert by_quantity(document, "kl_drift")[0]["mean"] == pytest.approx(0.5 * 20 * 1e-4 / 30 * 100)
    assert len(by_quantity(document, "off_task_reward_change")) == 4


def test_plot_and_explain(estheory, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "norm.svg"
    assert estheory("predict", *PAPER, "--steps", "100,400", "--plot", target).code == 0
    assert target.read_text().startswith("<?xml")
    assert [p.name for p in tmp_path.iterdir()] == ["norm.svg"]
    said = estheory("predict", "--explain", "displacement_norm", *PAPER).out
    assert "alpha^2 T / N" in said
    assert "assumes:" in said
    for bad in (["--plot", tmp_path / "x.nope"], ["--plot", "no/such/x.png"], ["--explain", "norm"]):
        result = estheory("predict", *PAPER, *bad)
        assert (result.code, result.out) == (2, "")
        assert result.err.count("\n") == 1


def test_every_quantity_is_explained():
    from estheory.quantities import Quantity
    from estheory.reporting.text.quantity_notes import EXPLANATIONS

    assert set(EXPLANATIONS) == set(Quantity)


@pytest.mark.parametrize(
    ("text", "extra", "expected"),
    [
        (TWO_SCALE.replace("10,5", "-10,5"), [], "row 1"),
        (TWO_SCALE.replace("400", "-4"), [], "row 2"),
        (TWO_SCALE.replace("400", "4e6"), [], "multiplicities sum"),
        (TWO_SCALE.replace("offset", "offsett"), [], "header"),
        (TWO_SCALE, ["--reliability", 0.5], "excludes"),
        (TWO_SCALE, ["--fisher-square-trace", 1], "--fisher-trace"),
        (TWO_SCALE, ["--fisher-trace", 1, "--fisher-square-trace", 2], "exceeds the square"),
    ],
)
def test_bad_spectra(estheory, tmp_path, text, extra, expected):
    spectrum = tmp_path / "bad.csv"
    spectrum.write_text(text)
    result = estheory(
        "predict", "--dim", 1005, "--sigma", 0.01, "--population", 30, "--spectrum", spectrum, "--reward-std", 1, *extra
    )
    assert (result.code, result.out) == (2, "")
    assert expected in result.err
    assert result.err.count("\n") == 1


def test_weights_tell_the_dimension(estheory):
    command = ["predict", "--weights", "tiny-lm", "--sigma", 0.0015, "--population", 30, "--json"]
    assert estheory(*command).json()["config"]["dim"] == 59_184
    assert estheory(*command, "--dim", 1000).json()["config"]["dim"] == 1000


def test_hundreds_of_steps_are_a_page_and_the_document_has_all_pairs(estheory):
    steps = ",".join(str(step) for step in range(1, 61))
    text = estheory("predict", *PAPER, "--steps", steps).out
    assert text.count("checkpoint_cosine") == 59  # with the last step
    assert "1,711 more cosines" in text
    document = estheory("predict", *PAPER, "--steps", steps, "--json").json()
    assert len(by_quantity(document, "checkpoint_cosine")) == 60 * 59 // 2
