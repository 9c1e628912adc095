"""``estheory validate published``."""

import os
import re
import shutil
from collections import Counter

import pytest

from estheory.models.builtin import get_builtin
from estheory.reporting.text.verdicts import verdicts_sheet
from tests.validation import foreign_runs
from tests.variants import variants


def test_published(estheory):
    result = estheory("validate", "published", "--json")
    document = result.json()
    assert document["schema"] == "estheory/validation/1"
    assert result.code == 3  # some rows are refuted, and the exit code says so
    verdicts = document["verdicts"]
    norms = [v for v in verdicts if v["quantity"] == "displacement_norm" and "2604.01499" in v["where"]]
    assert [v["ratio"] for v in norms] == pytest.approx([1.0050, 0.9995, 0.9971, 0.9960], abs=5e-5)
    assert {v["verdict"] for v in norms} == {"underpowered"}  # the weights are unknown: rounding may do +-27 %
    assert {v["verdict_without_systematic"] for v in norms} == {"refuted"}
    walks = [v for v in verdicts if v["quantity"] == "displacement_norm" and "shardes" not in v["where"]]
    bands = {v["predicted"]["systematic"] for v in walks}
    assert max(bands) > 0.2  # bf16, one by one
    assert any(0 < band < 0.05 for band in bands)  # fp16, summed
    assert 0.0 in bands  # fp32
    [cosine] = [v for v in verdicts if v["quantity"] == "gradient_cosine" and "shardes" not in v["where"]]
    assert cosine["predicted"]["mean"] == pytest.approx(2.490e-4, abs=5e-8)
    assert sum(document["summary"].values()) == len(verdicts)
    earlier = [v for v in verdicts if "shardes-paper" not in v["where"]]
    assert len(earlier) + len(document["unpredicted"]) == 18 + 1  # the table's rows and the norm ratio
    groups = Counter(v["where"].split(":")[0] for v in verdicts if "shardes-paper" in v["where"])
    assert set(groups) == {"gap", "cost", "gain", "reliability", "norm", "cosine"}
    assert sum(groups.values()) >= 60
    kinds = {v["where"]: v["verdict"] for v in verdicts}
    assert kinds["gap: shardes-paper, Tulu-3-8B, sigma 0.002 from 0.001"] == "refuted"  # where sigma^2 ends
    assert kinds["gain: shardes-paper, Qwen2.5-0.5B Countdown, 31 updates, reliability .94"] == "refuted"
    controls = [v for v in verdicts if "control with random fitness" in v["where"]]
    assert {v["verdict"] for v in controls} <= {"consistent", "underpowered"}
    assert [round(v["predicted"]["mean"], 2) for v in controls] == [-0.13, -0.25, -0.5]
    assert set(verdicts[0]) >= {
        *("quantity", "step", "where", "predicted", "measured", "stderr", "ratio", "pvalue", "verdict", "source"),
    }


def test_text_names_what_is_not_judged(estheory):
    out = estheory("validate", "published", "--all").out
    assert "Not judged:" in out
    assert "Fisher trace" in out
    assert "Without it:" in out
    assert "plot_weight_" in out  # a name breaks at its marks
    assert "frobenius" in out


def test_a_foreign_run(estheory, tmp_path):
    foreign_runs.esvsgrpo_es(tmp_path / "run")
    result = estheory("validate", tmp_path / "run", "--json")
    assert result.code in (0, 4), result.err
    document = result.json()
    assert {u["quantity"] for u in document["unpredicted"]} == {"kl_drift", "reward"}
    assert {v["quantity"] for v in document["verdicts"]} >= {"displacement_norm", "displacement_exponent"}
    measured = estheory("measure", tmp_path / "run", "--json").json()["measurements"]
    ratios = [m["value"] for m in measured if m["quantity"] == "effective_dimension_ratio" and "total" in m["where"]]
    assert ratios == pytest.approx([1, 1], abs=0.05)
    shutil.rmtree(tmp_path / "run/baseline")
    missing = estheory("validate", tmp_path / "run")
    assert (missing.code, missing.out) == (2, "")
    assert "--model BASE" in missing.err
    assert missing.err.count("\n") == 1


def test_an_empty_folder(estheory, tmp_path):
    result = estheory("validate", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "no run directory of" in result.err


@pytest.mark.parametrize("command", ["validate", "measure"])
def test_one_run_directory_at_a_time(estheory, tmp_path, command):
    for name in ("es", "grpo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").touch()
    other = tmp_path / "grpo" if command == "measure" else "tiny-lm"  # validate takes several runs
    result = estheory(command, tmp_path / "es", other)
    assert (result.code, result.out) == (2, "")
    assert f"{tmp_path / 'es'} is a run directory, and one run is read at a time" in result.err
    assert "BASE" in result.err
    assert "--sigma" not in result.err


def test_text_shortens_the_paths_of_checkpoints_and_tells_them_below(estheory, tmp_path):
    path = tmp_path / "a-run-with-a-long-name" / "checkpoints" / "step_000010.safetensors"
    path.parent.mkdir(parents=True)
    shutil.copy(get_builtin("tiny-lm") / "model.safetensors", path)
    out = estheory("validate", "tiny-lm", path, "--sigma", "0.01", "--population", "8", "--steps", "10").out
    assert "a-run-with-a-long-name/step_000010\N{NO-BREAK SPACE}[1]" in out
    assert f"a-run-with-a-long-name/step_000010:{path}" in out.replace("\n", "").replace(" ", "")
    assert "[1] against tiny-lm" in out


@pytest.fixture
def terminal(estheory, monkeypatch):
    """Run the program as on a terminal of some columns."""

    def run(columns, *arguments):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        return estheory(*arguments).out

    return run


def plain(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.mark.parametrize("columns", variants([40, 80, 100, 120, 200], fast={40, 120}))
def test_a_narrow_terminal_cuts_no_word(estheory, terminal, columns):
    piped = estheory("validate", "published", "--all").out
    shown = plain(terminal(columns, "validate", "published", "--all"))
    assert max(map(len, shown.splitlines())) <= columns
    words = set(re.split(r"[\s_/|:.,\[\]─]+", piped))
    assert set(re.split(r"[\s_/|:.,\[\]─]+", shown)) <= words
    assert len(re.findall(r"\b1e-27\b", shown)) == 1


def test_verdicts_are_coloured_on_terminals_that_want_it(terminal, monkeypatch):
    assert "\x1b[31mrefuted" in terminal(120, "validate", "published")
    monkeypatch.setattr("os.environ", {**os.environ, "NO_COLOR": "1"})
    assert "\x1b" not in verdicts_sheet((), (), 0.05).text()


def test_a_summary_by_quantity_comes_first_and_all_shows_every_row(estheory):
    brief, whole = estheory("validate", "published").out, estheory("validate", "published", "--all").out
    verdicts = estheory("validate", "published", "--json").json()["verdicts"]
    cosines = [v for v in verdicts if v["quantity"] == "independent_cosine"]
    assert re.search(rf"^ independent_cosine +{len(cosines)} +{len(cosines)} consistent$", brief, flags=re.M)
    assert len(brief.splitlines()) < len(whole.splitlines()) / 2
    assert "Table 3 (GRPO)" in brief  # a refuted row is named in any case
    assert "Not judged:" not in brief


def test_an_underpowered_row_says_what_would_have_been_noticed(estheory):
    shown = estheory("validate", "published", "--all").out
    [row] = [v for v in estheory("validate", "published", "--json").json()["verdicts"] if v["where"].endswith(", R3")]
    noticed = row["noticeable_error"] / row["predicted"]["mean"]
    assert row["verdict"] == "underpowered"
    assert noticed > 0.05
    assert re.search(rf" 0\.9959 .* within {100 * noticed:.2g} %", shown)


def test_published_takes_no_options(estheory):
    assert "leave them out" in estheory("validate", "published", "--alpha", "1").err


def test_unknown_target(estheory):
    result = estheory("validate", "nothing-here")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")


def test_a_run_whose_checkpoints_or_base_are_gone_is_judged_by_its_log(estheory, tmp_path):
    options = ["--steps", 2, "--population", 4, "--prompts", 4, "--evaluation-prompts", 8, "--workers", 1]
    base = shutil.copytree(get_builtin("tiny-lm"), tmp_path / "base")
    run = tmp_path / "run"
    assert estheory("run", "es", "--model", base, *options, "--out", run).code == 0
    whole = estheory("validate", run, "--json").json()
    base.rename(tmp_path / "elsewhere")
    moved = estheory("validate", run, "--json").json()
    shutil.rmtree(run / "checkpoints")
    kept_none = estheory("validate", run, "--json").json()

    def logged(document):
        rows = [v for v in document["verdicts"] if not v["where"].startswith("tensor:")]
        return {(v["where"], v["step"]): pytest.approx(v["pvalue"], rel=1e-9) for v in rows}

    assert len(moved["verdicts"]) == len(kept_none["verdicts"]) == len(logged(whole)) < len(whole["verdicts"])
    assert logged(moved) == logged(kept_none) == logged(whole)
    assert "is gone" in moved["warnings"][0]
    assert "no checkpoint" in kept_none["warnings"][0]


def test_checkpoints_in_16_bits_without_dtype_say_that_rounding_is_left_out(estheory, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    start = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    moved = start + 0.00025 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    for kind in (torch.float32, torch.bfloat16):
        for name, values in (("base", start), ("step_1", moved)):
            save_file({"weight": values.to(kind)}, tmp_path / f"{name}-{str(kind)[6:]}.safetensors")

    def judged(kind, *options):
        files = [tmp_path / f"{name}-{kind}.safetensors" for name in ("base", "step_1")]
        return estheory("validate", *files, "--sigma", 0.0015, "--population", 9, "--steps", 1, *options)

    silent, stored = judged("float32"), judged("bfloat16")
    assert "weights are stored" not in silent.err
    assert "weights are stored in bfloat16: rounding is not in this prediction; give --dtype bfloat16" in stored.err
    assert "weights are stored" not in judged("bfloat16", "--dtype", "float32").err
    assert silent.code == 0
    assert "What usually explains" not in silent.out
    assert stored.code == 3  # steps of bfloat16 about weights near 1 are 16 times as large
    assert "What usually explains a refuted checkpoint: alpha other than sigma/2" in stored.out
