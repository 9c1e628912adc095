"""Fused projections, as vLLM writes them, against the same weights apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from estheory.errors import DataError
from estheory.measurement.displacement import measure_displacements

PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def model(seed):
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=13,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    )


def fused(state):
    """Name and concatenate the tensors as vLLM's Qwen2 and Llama do; it has no tied head."""
    result = {}
    for name, tensor in state.items():
        whole = next((whole for whole, parts in PARTS.items() if any(part in name for part in parts)), None)
        if name == "lm_head.weight":
            continue
        if whole is None:
            result[name] = tensor
            continue
        part = next(part for part in PARTS[whole] if part in name)
        target = name.replace(part, whole)
        result[target] = torch.cat([result[target], tensor]) if target in result else tensor
    return result


@pytest.mark.parametrize("fused_base", [False, True])
def test_fused_and_unfused_checkpoints_compare_as_if_both_were_apart(tmp_path, fused_base):
    before, after = (model(seed).to(torch.bfloat16) for seed in (0, 1))
    torch.save(fused(after.state_dict()), tmp_path / "es.bin")
    before.save_pretrained(tmp_path / "base")
    after.save_pretrained(tmp_path / "plain")
    assert "model.layers.0.self_attn.qkv_proj.bias" in fused(after.state_dict())
    plain = measure_displacements(tmp_path / "base", [tmp_path / "plain"])
    pair = (tmp_path / "base", tmp_path / "es.bin")
    base, other = pair[::-1] if fused_base else pair
    result = measure_displacements(base, [other])
    assert dict(result.tensors) == dict(plain.tensors)
    norms = dict(zip(result.tensors, result.tensor_norms[0], strict=True))
    np.testing.assert_allclose([norms[n] for n in plain.tensors], plain.tensor_norms[0], rtol=1e-13)


def test_two_fused_checkpoints_stay_fused(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        torch.save(fused(model(seed).state_dict()), tmp_path / f"{name}.bin")
    result = measure_displacements(tmp_path / "a.bin", [tmp_path / "b.bin"])
    assert "model.layers.0.self_attn.qkv_proj.weight" in result.tensors


def test_a_fused_tensor_of_other_rows_is_not_split(tmp_path):
    state = fused(model(1).state_dict())
    state["model.layers.0.self_attn.qkv_proj.weight"] = torch.ones(17, 8)
    torch.save(state, tmp_path / "es.bin")
    model(0).save_pretrained(tmp_path / "base")
    with pytest.raises(DataError, match=r"lacks the tensor model\.layers\.0\.self_attn\.[qkv]_proj\.weight"):
        measure_displacements(tmp_path / "base", [tmp_path / "es.bin"])
