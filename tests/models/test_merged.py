"""LoRA adapters merged as they are read, against peft's own merge and against the formula."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from estheory.errors import DataError
from estheory.measurement.displacement import measure_displacements
from estheory.models.checkpoints import open_comparable

Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 6}


@pytest.fixture
def base(tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=13, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapter(folder, config=CONFIG, *, module=Q, extra=None, a=(2, 8), b=(8, 2)):
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    stem = f"base_model.model.{module}"
    tensors = {
        f"{stem}.lora_A.weight": torch.randn(a, generator=generator),
        f"{stem}.lora_B.weight": torch.randn(b, generator=generator),
    }
    save_file(tensors | (extra or {}), folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return tensors[f"{stem}.lora_A.weight"].double(), tensors[f"{stem}.lora_B.weight"].double()


@pytest.mark.parametrize(
    ("special", "scale"),
    [
        ({}, 3.0),
        ({"use_rslora": True}, 6 / math.sqrt(2)),
        ({"alpha_pattern": {"q_proj": 10}}, 5.0),
        ({"alpha_pattern": {"k_proj": 10}}, 3.0),
        ({"rank_pattern": {"q_proj": 2}, "r": 64}, 3.0),  # the rank that counts is the factor's own
    ],
)
def test_an_adapter_moves_its_module_by_the_formula(base, tmp_path, special, scale):
    a, b = adapter(tmp_path / "lora", {**CONFIG, **special})
    result = measure_displacements(base, {"lora": tmp_path / "lora"}, chunk=5)
    delta = scale * b @ a
    norms = dict(zip(result.tensors, result.tensor_norms[0], strict=True))
    assert norms.pop(f"{Q}.weight") == pytest.approx(float(delta.norm()), rel=1e-12)
    assert set(norms.values()) == {0.0}
    reference, [merged] = open_comparable(base, {"lora": tmp_path / "lora"})
    moved = merged.tensor(f"{Q}.weight") - reference.tensor(f"{Q}.weight")
    np.testing.assert_allclose(moved, delta.numpy(), atol=1e-14)
    np.testing.assert_array_equal(merged.read(f"{Q}.weight", 3, 21), merged.tensor(f"{Q}.weight").reshape(-1)[3:21])


def test_embeddings_and_transposed_layers(base, tmp_path):
    adapter(tmp_path / "lora")
    a, b = torch.randn(2, 13), torch.randn(8, 2)
    stem = "base_model.model.model.embed_tokens"
    file = tmp_path / "lora/adapter_model.safetensors"
    save_file(load_file(file) | {f"{stem}.lora_embedding_A": a, f"{stem}.lora_embedding_B": b}, file)
    result = measure_displacements(base, {"lora": tmp_path / "lora"})
    norms = dict(zip(result.tensors, result.tensor_norms[0], strict=True))
    assert norms["model.embed_tokens.weight"] == pytest.approx(3 * float((b.double() @ a.double()).norm()), rel=1e-12)

    a, b = adapter(tmp_path / "turned", {**CONFIG, "fan_in_fan_out": True}, module=UP, a=(2, 12), b=(8, 2))
    result = measure_displacements(base, {"lora": tmp_path / "turned"})
    reference, [merged] = open_comparable(base, {"lora": tmp_path / "turned"})
    moved = merged.tensor(f"{UP}.weight") - reference.tensor(f"{UP}.weight")
    np.testing.assert_allclose(moved, (3 * b @ a).T.numpy(), atol=1e-14)


def test_tensors_saved_whole_replace_those_of_the_base(base, tmp_path):
    norm = torch.full((8,), 2.0)
    adapter(tmp_path / "lora", extra={"base_model.model.model.norm.weight": norm})
    result = measure_displacements(base, {"lora": tmp_path / "lora"})
    norms = dict(zip(result.tensors, result.tensor_norms[0], strict=True))
    assert norms["model.norm.weight"] == pytest.approx(math.sqrt(8))  # the base's are ones


def test_peft_itself_merges_to_the_same_weights(base, tmp_path):
    peft = pytest.importorskip("peft")
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float64)
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["q_proj", "down_proj", "embed_tokens"],
        rank_pattern={"down_proj": 2},
        alpha_pattern={"down_proj": 8},
        use_rslora=True,
        init_lora_weights=False,
    )
    wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(tmp_path / "lora")
    merged = dict(wrapped.merge_and_unload().named_parameters())
    _, [ours] = open_comparable(base, {"lora": tmp_path / "lora"})
    assert len({name for name in ours.tensors if ours.tensors[name].dtype == "F64"}) == 5
    for name in ours.tensors:
        np.testing.assert_allclose(ours.tensor(name), merged[name].detach().double().numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({"peft_type": "IA3", "r": 2, "lora_alpha": 1}, {}, "IA3, not plain LoRA"),
        ({**CONFIG, "use_dora": True}, {}, "DoRA"),
        ({"peft_type": "LORA"}, {}, "no configuration"),
        (CONFIG, {"module": "model.layers.9.self_attn.q_proj"}, "lacks a factor or its base"),
        (CONFIG, {"a": (2, 9)}, "another shape"),
        ({**CONFIG, "lora_alpha": 1e308}, {}, "out of range"),
        ({**CONFIG, "lora_alpha": math.inf}, {}, "out of range"),
        (CONFIG, {"extra": {"base_model.model.odd": torch.ones(1)}}, "no LoRA factor"),
    ],
)
def test_what_is_no_lora_of_the_base_is_refused(base, tmp_path, config, options, message):
    adapter(tmp_path / "lora", config, **options)
    with pytest.raises(DataError, match=message):
        measure_displacements(base, [tmp_path / "lora"])


def test_factors_that_are_not_finite_are_named_and_counted(base, tmp_path):
    adapter(tmp_path / "lora")
    file = tmp_path / "lora/adapter_model.safetensors"
    tensors = load_file(file)
    name = f"{Q}.lora_B.weight"
    stored = f"base_model.model.{name}"
    tensors[stored][0, 0], tensors[stored][1, 1] = math.inf, math.nan
    save_file(tensors, file)
    with pytest.raises(DataError, match=rf"{name} of .* has 2 NaN or infinite entries"):
        measure_displacements(base, [tmp_path / "lora"])
