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
    result = estheory("simulate", "--landscape", landscape, *RUN, "--engine", engine, "--plot", tmp_path / "a.png")
    assert result.code == 0
    assert f"by the {engine} engine" in result.out
    assert "O(1/N)" in result.out  # where a band is shown, its meaning is said
    assert (tmp_path / "a.png").stat().st_size > 0
    same = estheory("simulate", "--landscape", landscape, *RUN, "--engine", engine)
    assert same.out.splitlines()[:-5] == result.out.splitlines()[:-5]  # the same seed, but for the seconds


def test_what_theory_misses_is_refuted(estheory):
    """A sharp direction whose curvature, not its slope, makes the rewards: the expansions in x_k are out of range."""
    options = ("--sigma", "1", "--population", "6", "--steps", "10", "--alpha", "0.1", "--replicas", "4000")
    result = estheory("simulate", "--preset", "two-scale", *options)
    assert result.code == 3
    assert "refuted" in result.out
    assert "warning: the largest quadratic share" in result.out


def test_nothing_could_be_refuted(estheory, landscape):
    result = estheory("simulate", "--landscape", landscape, *RUN[:-2], "--replicas", "1", "--dim", "21")
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
        (("--preset", "two-scale", "--dim", "10"), "multiplicities"),
        (("--preset", "paper", "--steps", "5", "--replicas", "2", "--plot", "x.nope"), "--plot"),
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
    ],
)
def test_bad_landscape_files(estheory, landscape, change, says):
    landscape.write_text(LANDSCAPE.replace(*change))
    result = estheory("simulate", "--landscape", landscape, *RUN)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    assert says in result.err
