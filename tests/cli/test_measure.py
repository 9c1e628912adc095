"""``estheory measure``."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def files(tmp_path):
    base = {"model.layers.0.mlp.up_proj.weight": torch.zeros(4, 5), "model.norm.weight": torch.ones(6)}
    save_file(base, tmp_path / "base.safetensors")
    for step in (1, 4):
        moved = {name: tensor + 0.5 * step for name, tensor in base.items()}
        save_file(moved, tmp_path / f"step_{step}.safetensors")
    return tmp_path


def test_json_has_every_quantity(estheory, files):
    paths = [files / "base.safetensors", files / "step_1.safetensors", files / "step_4.safetensors"]
    result = estheory("measure", *paths, "--alpha", "0.1", "--population", "8", "--json")
    assert result.code == 0, result.err
    document = result.json()
    assert document["schema"] == "estheory/measurement/1"
    assert document["warnings"] == []
    rows = {(row["quantity"], row["where"]): row for row in document["measurements"]}
    last = str(files / "step_4.safetensors")
    assert set(rows["displacement_norm", f"total:{last}"]) == {"quantity", "step", "value", "stderr", "unit", "where"}
    assert rows["displacement_norm", f"total:{last}"]["value"] == pytest.approx(2 * math.sqrt(26))
    assert rows["displacement_norm", f"layer:{last}:0"]["value"] == pytest.approx(2 * math.sqrt(20))
    assert rows["displacement_norm", f"module:{last}:norm"]["value"] == pytest.approx(2 * math.sqrt(6))
    ratio = rows["effective_dimension_ratio", f"tensor:{last}:model.norm.weight"]
    assert ratio["value"] == pytest.approx(4 / (0.01 * 4 / 8))
    assert ratio["step"] == 4
    assert rows["displacement_kurtosis", f"total:{last}"]["value"] == pytest.approx(1)
    assert rows["largest_change", f"total:{last}"]["value"] == 2
    assert rows["unchanged_fraction", f"total:{last}"]["value"] == 0
    assert rows["displacement_cosine", f"{paths[1]}|{paths[2]}"]["value"] == pytest.approx(1)
    assert rows["displacement_exponent", f"{paths[1]}..{paths[2]}"]["value"] == pytest.approx(2)


def test_text_has_a_row_a_place(estheory, files):
    result = estheory("measure", files / "base.safetensors", files / "step_1.safetensors", "--steps", "3")
    assert result.code == 0, result.err
    lines = [line for line in result.out.splitlines() if "total:" in line]
    assert len(lines) == 1
    assert "kurtosis" in result.out
    assert " 3 " in lines[0]


def test_keep_going(estheory, files):
    paths = [files / "base.safetensors", files / "step_1.safetensors", files / "gone.safetensors"]
    strict = estheory("measure", *paths)
    assert (strict.code, strict.out) == (2, "")
    assert strict.err.startswith("error: cannot read")
    assert strict.err.count("\n") == 1
    lenient = estheory("measure", *paths, "--keep-going", "--json")
    assert lenient.code == 0
    assert lenient.err.startswith("warning: cannot read")
    assert len(lenient.json()["warnings"]) == 1
    assert any(row["where"] == f"total:{paths[1]}" for row in lenient.json()["measurements"])


def test_nan_becomes_null(estheory, files):
    save_file({"model.norm.weight": torch.ones(6) * math.nan}, files / "nan.safetensors")
    result = estheory("measure", files / "base.safetensors", files / "nan.safetensors", "--keep-going", "--json")
    assert result.code == 0
    json.loads(result.out, parse_constant=pytest.fail)
    assert "has 6 NaN or infinite entries" in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "0.1"], "belong together"),
        (["--alpha", "-1", "--population", "8"], "alpha must be"),
        (["--steps", "1,2"], "1 checkpoints but 2 steps"),
        (["--tied-head", "thrice"], "tied-head"),
    ],
)
def test_bad_options(estheory, files, options, message):
    result = estheory("measure", files / "base.safetensors", files / "step_1.safetensors", *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_one_target_must_be_a_run(estheory, tmp_path):
    result = estheory("measure", tmp_path)
    assert result.code == 2
    assert "no run directory" in result.err


def test_a_builtin_model_may_be_a_checkpoint(estheory):
    result = estheory("measure", "tiny-lm", "tiny-lm", "--json")
    assert result.code == 0
    rows = {(row["quantity"], row["where"]): row["value"] for row in result.json()["measurements"]}
    assert rows["displacement_norm", "total:tiny-lm"] == 0
    assert rows["unchanged_fraction", "total:tiny-lm"] == 1
