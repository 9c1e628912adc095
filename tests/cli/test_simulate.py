"""``estheory simulate``."""

import pytest

LANDSCAPE = """
dim = 500
reward_std = 0.02
[[spectrum]]
eigenvalue = 2.0
multiplicity = 20
offset = 0.3
"""
RUN = ("--sigma", "0.02", "--population", "20", "--steps", "5,20", "--replicas", "60")


@pytest.fixture
def landscape(tmp_path):
    path = tmp_path / "land.toml"
    path.write_text(LANDSCAPE)
    return path


def test_paper_preset(estheory, tmp_path):
    result = estheory("simulate", "--preset", "paper", "--json", "--plot", tmp_path / "paper.svg")
    assert (result.code, result.err) == (0, "")
    document = result.json()
    assert document["schema"] == "estheory/validation/1"
    assert document["level"] == 1e-3
    assert document["simulation"]["engine"] == "reduced"
    assert document["summary"]["refuted"] == 0
    norms = [v for v in document["verdicts"] if v["quantity"] == "displacement_norm" and v["where"] == "mean of 200"]
    assert [v["step"] for v in norms] == [100, 200, 300, 400]
    assert {v["verdict"] for v in norms} == {"consistent"}
    assert b"<svg" in (tmp_path / "paper.svg").read_bytes()
    assert list(tmp_path.iterdir()) == [tmp_path / "paper.svg"]


@pytest.mark.parametrize("engine", ["direct", "reduced"])
def test_landscape_file(estheory, landscape, tmp_path, engine):
    asked = ("simulate", "--landscape", landscape, *RUN, "--engine", engine, "--all")
    result = estheory(*asked, "--plot", tmp_path / "a.png")
    assert result.code == 0
    assert f"by the {engine} engine" in result.out
    assert "O(1/N)" in result.out  # where a band is shown, its meaning is said
    assert (tmp_path / "a.png").stat().st_size > 0
    same = estheory(*asked)
    assert same.out.splitlines()[:-5] == result.out.splitlines()[:-5]  # the same seed, but for the seconds


def test_torch_device(estheory, landscape):
    pytest.importorskip("torch")
    result = estheory("simulate", "--landscape", landscape, *RUN, "--device", "cpu")
    assert result.code == 0
    assert "by the direct engine on torch (cpu)" in result.out


def test_geometry(estheory, landscape, tmp_path):
    options = (*RUN, "--geometry", "--grpo-steps", "30", "--grpo-lr", "0.02", "--fisher-trace", "50")
    result = estheory("simulate", "--landscape", landscape, *options, "--json", "--plot", tmp_path / "geometry.svg")
    assert (result.code, result.err) == (0, "")
    document = result.json()
    measured = document["geometry"]
    assert set(measured["methods"]) == {"es", "sgd", "adamw", "grpo"}
    assert measured["gradient_runs"]["adamw_lr"] == 0.02
    assert measured["off_task"]["fisher_trace"] == 50
    assert measured["methods"]["sgd"]["off_task_norm"]["mean"] == 0
    assert all(b["least_rise_over_chord"] > -1e-12 for b in measured["es_against"].values())
    assert {"kl_drift", "interpolation_gain", "independent_cosine"} <= {v["quantity"] for v in document["verdicts"]}
    assert b"<svg" in (tmp_path / "geometry.svg").read_bytes()
    shown = estheory("simulate", "--landscape", landscape, *options)
    assert "GRPO-like" in shown.out
    assert "rise at the middle" in shown.out


def test_a_curvature_that_makes_the_rewards_is_in_the_laws_and_warned_of(estheory):
    """A sharp direction whose curvature, not its slope, makes the rewards: the expansions in x_k are out of range."""
    options = ("--sigma", "1", "--population", "6", "--steps", "10", "--alpha", "0.1", "--replicas", "4000")
    result = estheory("simulate", "--preset", "two-scale", *options)
    assert result.code == 0
    assert "gradient_cosine" not in [line.split()[0] for line in result.out.splitlines() if line.strip()]
    assert "warning: no gradient_cosine" in result.out
    assert "warning: the largest quadratic share" in result.out


def test_what_theory_misses_is_refuted(estheory):
    """A reward that saturates within one sigma, judged by the laws of its gradient and curvature."""
    options = ("--sigma", "1", "--population", "6", "--steps", "10", "--alpha", "0.1", "--replicas", "4000")
    result = estheory("simulate", "--preset", "two-scale", *options, "--reward", "sigmoid")
    assert result.code == 3
    assert "refuted" in result.out


@pytest.mark.parametrize("reward", ["sigmoid", "bernoulli", "heavy-tail", "cubic"])
def test_other_rewards(estheory, landscape, reward):
    result = estheory("simulate", "--landscape", landscape, *RUN, "--reward", reward, "--json")
    assert result.code in (0, 3)
    document = result.json()
    assert document["simulation"]["reward"] == reward
    assert set(document["simulation"]["told"]) == {"gradient_norm", "trace", "reward_std"}
    flat = [v for v in document["verdicts"] if v["where"].startswith("flat directions")]
    assert flat
    assert "refuted" not in {v["verdict"] for v in flat}


def test_saturating_accuracy_is_refuted(estheory, landscape):
    """Perturbations so wide that the accuracy of the members is far from that of the centre."""
    options = ("--reward", "bernoulli", "--prompts", "2", "--sigma", "0.3", "--replicas", "2000")
    result = estheory("simulate", "--landscape", landscape, *RUN[2:-2], *options)
    assert result.code == 3
    assert "Of the bernoulli reward theory was told its expansion at the start" in result.out
    upward = estheory("simulate", "--landscape", landscape, *RUN, "--reward", "sigmoid", "--start-accuracy", "0.2")
    assert "warning: the reward bends upward" in upward.out


def test_rewards_from_a_config_file(estheory, landscape, tmp_path):
    (tmp_path / "options.toml").write_text(
        'reward = "bernoulli"\nprompts = 8\nstart-accuracy = 0.4\nreplicas = 60\nlevel = 0.01\n'
    )
    options = ("--landscape", landscape, *RUN[:-2], "--json")
    given = ("--reward", "bernoulli", "--prompts", "8", "--start-accuracy", "0.4")
    one = estheory("simulate", *options, "--config", tmp_path / "options.toml")
    assert one.json() == estheory("simulate", *options, *given, "--replicas", "60", "--level", "0.01").json()
    assert (one.json()["level"], one.json()["simulation"]["replicas"]) == (0.01, 60)
    (tmp_path / "options.toml").write_text('level = "low"\n')
    assert estheory("simulate", *options, "--config", tmp_path / "options.toml").code == 2
    (tmp_path / "options.toml").write_text("promts = 8\n")
    wrong = estheory("simulate", *options, "--config", tmp_path / "options.toml")
    assert (wrong.code, "promts" in wrong.err) == (2, True)


def test_nothing_could_be_refuted(estheory, landscape):
    settled = ("--sigma", "0.02", "--population", "20", "--steps", "200", "--replicas", "1", "--dim", "21")
    result = estheory("simulate", "--landscape", landscape, *settled)  # an early reward of one run has power
    assert result.code == 4


def test_momentum_on_curved_ground_is_judged(estheory):
    result = estheory("simulate", "--preset", "two-scale", "--momentum", "0.5", "--steps", "3", "--replicas", "30")
    assert result.code == 0
    assert "by the direct engine" in result.out
    assert "reward_gain_per_step" in result.out
    assert "no optimal_alpha" in result.out  # what has no result is said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--landscape and --preset"),
        (("--preset", "nope"), "two-scale"),
        (("--preset", "paper", "--population", "1"), "population"),
        (("--preset", "paper", "--replicas", "0"), "replicas"),
        (("--preset", "paper", "--replicas", "1000000000000"), "GiB"),
        (("--preset", "paper", "--engine", "direct"), "GiB"),
        (("--preset", "paper", "--engine", "fast"), "reduced"),
        (("--preset", "paper", "--population", "10,20"), "several"),
        (("--preset", "paper", "--reliability", "0.5"), "reliability"),
        (("--preset", "paper", "--reward-std", "0"), "same reward"),
        (("--preset", "paper", "--seed", "-1"), "seed"),
        (("--preset", "paper", "--level", "0"), "level"),
        (("--preset", "paper", "--level", "nan"), "level"),
        (("--preset", "paper", "--replicas", "-1"), "replicas"),
        (("--preset", "paper", "--replicas", "1.5"), "replicas"),
        (("--preset", "paper", "--population", "0"), "population"),
        (("--preset", "paper", "--population", "nan"), "population"),
        (("--preset", "paper", "--sigma", "nan"), "sigma"),
        (("--preset", "paper", "--sigma", "0"), "sigma"),
        (("--preset", "paper", "--steps", "0"), "steps"),
        (("--preset", "paper", "--dim", "nan"), "dim"),
        (("--preset", "paper", "--reward-std", "nan"), "reward-std"),
        (("--preset", "paper", "--reward-std", "-1"), "reward-std"),
        (("--preset", "paper", "--steps", "1000000000000"), "GiB"),
        (("--preset", "paper", "--population", "1000000000000"), "GiB"),
        (("--preset", "two-scale", "--landscape", "x.toml"), "--landscape and --preset"),
        (("--landscape", "missing.toml", "--sigma", "1", "--population", "4"), "missing.toml"),
        (("--preset", "paper", "--reward", "sigmoid"), "offset above 0"),
        (("--preset", "two-scale", "--reward", "sigmod"), "'sigmoid'"),
        (("--preset", "two-scale", "--prompts", "4"), "--prompts has no use"),
        (("--preset", "two-scale", "--reward", "bernoulli", "--prompts", "0"), "prompts"),
        (("--preset", "two-scale", "--reward", "bernoulli", "--prompts", "nan"), "prompts"),
        (("--preset", "two-scale", "--reward", "bernoulli", "--reward-std", "1"), "--reward-std has no use"),
        (("--preset", "two-scale", "--reward", "sigmoid", "--best-accuracy", "nan"), "best-accuracy"),
        (("--preset", "two-scale", "--reward", "heavy-tail", "--noise-df", "1"), "noise-df"),
        (("--preset", "two-scale", "--reward", "cubic", "--cubic", "nan"), "cubic"),
        (("--preset", "two-scale", "--dim", "10"), "multiplicities"),
        (("--preset", "paper", "--geometry", "--dim", "100", "--steps", "2"), "no gradient"),
        (("--preset", "two-scale", "--geometry", "--steps", "2", "--dim", "405"), "flat directions"),
        (("--preset", "two-scale", "--geometry", "--steps", "2", "--grpo-lr", "0"), "grpo-lr"),
        (("--preset", "two-scale", "--grpo-lr", "0.1"), "grpo-lr"),
        (("--preset", "two-scale", "--device", "abacus"), "device"),
        (("--preset", "two-scale", "--device", "cpu", "--engine", "reduced"), "no device"),
        (("--preset", "paper", "--steps", "5", "--replicas", "2", "--plot", "x.nope"), "x.nope"),
    ],
)
def test_bad_options(estheory, arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = estheory("simulate", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert says in result.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("multiplicity = 20", "multiplicity = -1"), "multiplicity"),
        (("reward_std", "rewardstd"), "rewardstd"),
        (("offset", "ofset"), "offset"),
        (("dim = 500", ""), "dim"),
        (("dim = 500", "dim = 10"), "multiplicities"),
        (("dim = 500", "dim = 0"), "dim"),
        (("dim = 500", "dim = nan"), "dim"),
        (("multiplicity = 20", "multiplicity = 2.5"), "multiplicity"),
        (("multiplicity = 20", "multiplicity = nan"), "multiplicity"),
        (("eigenvalue = 2.0", "eigenvalue = nan"), "eigenvalue"),
        (("eigenvalue = 2.0", "eigenvalue = inf"), "eigenvalue"),
        (("eigenvalue = 2.0", "eigenvalue = -2.0"), "eigenvalue"),
        (("eigenvalue = 2.0", "eigenvalue = true"), "eigenvalue"),
        (("offset = 0.3", 'offset = "far"'), "offset"),
        (("reward_std = 0.02", "reward_std = nan"), "reward-std"),
        (("reward_std = 0.02", "reward_std = -1"), "reward-std"),
        (("[[spectrum]]", "[spectrum]"), "spectrum"),
        (("eigenvalue = 2.0", "eigenvalue ="), "land.toml"),
    ],
)
def test_bad_landscape_files(estheory, landscape, change, says):
    landscape.write_text(LANDSCAPE.replace(*change))
    result = estheory("simulate", "--landscape", landscape, *RUN)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert says in result.err


def test_sixteen_bits_need_weights_and_are_judged(estheory, tmp_path):
    command = (
        "simulate",
        "--preset",
        "paper",
        "--dim",
        "500",
        "--steps",
        "3",
        "--replicas",
        "20",
        "--dtype",
        "bfloat16",
    )
    run = (*command, "--update-path", "sequential", "--restore-pairs", "2", "--weight-std", "0.02")
    result = estheory(*run, "--plot", tmp_path / "a.svg")
    assert result.code == 0
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert "by the direct engine" in result.out
    assert "standard errors of the emulator" in result.out
    assert "only the norms of flat directions" in result.out
    for arguments, said in (
        (command, "--weight-std"),
        ((*run, "--geometry"), "leave out --dtype"),
        ((*run, "--reward", "heavy-tail"), "direct engine, on the quadratic"),
        ((*run, "--momentum", "0.9"), "momentum"),
    ):
        result = estheory(*arguments)
        assert result.code == 2
        assert said in result.err
