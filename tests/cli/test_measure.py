"""``estheory measure``."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from estheory.reporting.text.tables import short


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


def test_what_no_norm_counts_is_listed(estheory, files):
    state = {"embed.weight": torch.randn(5, 4), "norm.weight": torch.ones(6)}
    save_file(state, files / "base.safetensors")
    moved = {f"module.{name}": (tensor + 0.5).bfloat16() for name, tensor in state.items()}
    moved |= {"module.lm_head.weight": moved["module.embed.weight"].clone(), "module.ids": torch.arange(4)}
    save_file(moved, files / "step_2.safetensors")
    paths = [files / "base.safetensors", files / "step_2.safetensors"]
    document = estheory("measure", *paths, "--json").json()
    assert {(row["name"], row["kind"], row["entries"]) for row in document["left_out"]} == {
        ("lm_head.weight", "tied", 20),
        ("ids", "buffer", 4),
    }
    [renamed] = document["renamed"]
    assert renamed == {"checkpoint": str(paths[1]), "before": "module.", "after": "", "tensors": 4}
    assert any(row["quantity"] == "storage_change" and row["value"] > 0 for row in document["measurements"])
    text = estheory("measure", *paths).out
    for part in ("lm_head.weight", "tied", "ids", "module.", "coarsely"):
        assert part in text


def test_the_walk_of_an_adapter_is_that_of_its_factors(estheory, files):
    name = "model.layers.0.mlp.up_proj"
    for step, size in (("start", 0.0), ("step_4", 0.5)):
        folder = files / step
        folder.mkdir()
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        noise = torch.Generator().manual_seed(0)
        shapes = {"A": (2, 5), "B": (4, 2)}
        factors = {x: torch.ones(s) + size * torch.randn(s, generator=noise) for x, s in shapes.items()}
        tensors = {f"base_model.model.{name}.lora_{x}.weight": t for x, t in factors.items()}
        save_file(tensors, folder / "adapter_model.safetensors")
    base, start, end = (files / x for x in ("base.safetensors", "start", "step_4"))
    walk = ("--alpha", "0.5", "--population", "4")
    assert estheory("measure", base, end).code == 0
    left = estheory("measure", base, end, *walk)
    assert left.code == 0
    assert "factors" in left.err
    assert "ratio" not in left.out
    judge = ("validate", "--sigma", "0.5", "--steps", "4", *walk)
    refused = estheory(*judge, base, end)
    assert refused.code == 2
    assert "factors" in refused.err
    assert "ratio" in estheory("measure", start, end, *walk).out  # the remedy
    assert estheory(*judge, start, end).code in (0, 3, 4)


def test_a_run_of_another_code_is_measured_from_the_base_that_is_named(estheory, files):
    folder = files / "run" / "checkpoint-4"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes((files / "step_4.safetensors").read_bytes())
    rows = [{"step": step, "learning_rate": 1e-3, "loss": 1.0} for step in range(1, 5)]
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 4, "max_steps": 4, "log_history": rows}))
    missing = estheory("measure", files / "run")
    assert missing.code == 2
    assert "--model" in missing.err
    result = estheory("measure", files / "run", "--model", files / "base.safetensors", "--json")
    assert result.code == 0, result.err
    assert result.json()["measurements"][0]["value"] == pytest.approx(2 * math.sqrt(26))
    twice = estheory("measure", files / "base.safetensors", files / "step_1.safetensors", "--model", "tiny-lm")
    assert twice.code == 2


def test_text_has_a_row_a_checkpoint(estheory, files):
    result = estheory("measure", files / "base.safetensors", files / "step_1.safetensors", "--steps", "3")
    assert result.code == 0, result.err
    [line] = [line for line in result.out.splitlines() if line.split()[:2] == [f"{files.name}/step_1", "3"]]
    assert "kurtosis" in result.out
    assert line.split()[2] == short(0.5 * math.sqrt(26), 5)
    assert "up_proj" in result.out
    assert "layer 0" in result.out
    assert "moved 2.55 from the base, over 26 weights." in result.out


def test_text_compares_checkpoints_in_a_sentence(estheory, files):
    opposite = {"model.layers.0.mlp.up_proj.weight": torch.full((4, 5), -1.0), "model.norm.weight": torch.ones(6)}
    save_file(opposite, files / "other.safetensors")
    paths = [files / name for name in ("base.safetensors", "step_4.safetensors", "other.safetensors")]
    out = estheory("measure", *paths).out
    cosine = -math.sqrt(20 / 26)
    ratio = 2 * math.sqrt(26 / 20)
    sentence = (
        f"moved {ratio:.2g} times as far as other; their cosine is {cosine:.2g} (unrelated directions: 0 +- 0.2)."
    )
    assert sentence in " ".join(out.split())
    assert f" {short(cosine, 5)}" in out
    save_file({name: torch.zeros(1) for name in "ab"}, files / "small.safetensors")
    still = estheory("measure", files / "small.safetensors", files / "small.safetensors").out
    assert "small did not move." in still
    assert "step" not in still
    assert "kurtosis" not in still


def test_text_of_many_checkpoints_and_groups_stays_short(estheory, tmp_path):
    base = {f"part{number}.weight": torch.zeros(3) for number in range(40)}
    save_file(base, tmp_path / "base.safetensors")
    paths = [tmp_path / f"run{number}" / "checkpoints" / "step_5.safetensors" for number in range(8)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        save_file({name: tensor + 1 + number for name, tensor in base.items()}, path)
    out = estheory("measure", tmp_path / "base.safetensors", *paths).out
    assert len(out.splitlines()) < 8 + 10
    assert "run7/step_5 moved farthest, 87.64, and run0/step_5 least, 10.95." in " ".join(out.split())
    assert "from 1 to 1" in out


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
