"""Flat parameters: views of one buffer, tied tensors once, faithful files."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from estheory.errors import ConfigError, DataError, OutputError
from estheory.models.parameters import FlatParameters

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 40}


def tiny_llama(*, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied, max_position_embeddings=32)).eval()


def logits(model: LlamaForCausalLM) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(12).view(2, 6)).logits


def test_flattening_keeps_the_model_and_counts_tied_tensors_once() -> None:
    model, tied, untied = tiny_llama(), tiny_llama(), tiny_llama(tied=False)
    parameters = FlatParameters(model)
    assert torch.equal(logits(model), logits(tied))
    assert parameters.dim == sum(p.numel() for p in model.parameters()) == parameters.vector.numel()
    assert FlatParameters(untied).dim == parameters.dim + 40 * 16
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_model_computes_with_the_buffer() -> None:
    model = tiny_llama()
    parameters = FlatParameters(model)
    before = logits(model)
    kept = parameters.vector.clone()
    parameters.vector.add_(0.01)
    assert not torch.equal(logits(model), before)
    parameters.vector.copy_(kept)
    assert torch.equal(logits(model), before)
    with torch.no_grad():
        model.lm_head.weight.fill_(3.0)
    assert (parameters.tensor("model.embed_tokens.weight") == 3.0).all()


def test_offsets_and_shapes_tile_the_buffer() -> None:
    parameters = FlatParameters(tiny_llama())
    assert parameters.offsets[0] == 0
    assert [a + n for a, n in zip(parameters.offsets, parameters.sizes, strict=True)] == [
        *parameters.offsets[1:],
        parameters.dim,
    ]
    other = torch.arange(parameters.dim)
    assert torch.equal(torch.cat([view.flatten() for _, view in parameters.items(other)]), other)


@pytest.mark.parametrize(("trainable", "pattern"), [("last:2", r"layers\.[12]\."), ("regex:mlp", "mlp")])
def test_part_of_a_model_moves_alone(trainable: str, pattern: str) -> None:
    model = tiny_llama()
    still = {name: p.clone() for name, p in model.named_parameters() if not re.search(pattern, name)}
    parameters = FlatParameters(model, trainable)
    assert set(parameters.names) == set(dict(model.named_parameters())) - set(still)
    parameters.vector.zero_()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, still[name]) if name in still else (parameter == 0).all()


@pytest.mark.parametrize("trainable", ["some", "last:9", "regex:nothing", "lora:4"])
def test_a_selection_that_cannot_be_made_is_refused(trainable: str) -> None:
    with pytest.raises(ConfigError):
        FlatParameters(tiny_llama(), trainable)


def test_mixed_dtypes_and_unknown_names_are_refused() -> None:
    model = tiny_llama()
    with pytest.raises(ConfigError, match=r"no trainable tensor 'lm_head.weight'"):
        FlatParameters(model).tensor("lm_head.weight")
    model.model.norm.to(torch.bfloat16)
    with pytest.raises(ConfigError, match="mix dtypes"):
        FlatParameters(model)


def test_files_hold_the_models_own_tensors_and_come_back(tmp_path: Path) -> None:
    model = tiny_llama()
    parameters = FlatParameters(model)
    moved = parameters.vector + 0.5
    parameters.write_safetensors(tmp_path / "new" / "w.safetensors", moved)
    stored = load_file(tmp_path / "new" / "w.safetensors")
    assert set(stored) == {name for name, _ in model.named_parameters()}
    assert all(torch.equal(stored[name], tensor) for name, tensor in parameters.items(moved))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["w.safetensors"]
    parameters.read_safetensors(tmp_path / "new" / "w.safetensors")
    assert torch.equal(parameters.vector, moved)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    parameters = FlatParameters(tiny_llama())
    file = tmp_path / "w.safetensors"
    with pytest.raises(DataError, match="cannot read"):
        parameters.read_safetensors(file)
    parameters.write_safetensors(file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(DataError, match="cannot read"):
        parameters.read_safetensors(file)
    file.write_bytes(whole)
    tensors = load_file(file)
    save_file({name: tensor for name, tensor in tensors.items() if "norm" not in name}, file)
    with pytest.raises(DataError, match="norm"):
        parameters.read_safetensors(file)
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, file)
    with pytest.raises(DataError, match="bfloat16"):
        parameters.read_safetensors(file)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    parameters = FlatParameters(tiny_llama())
    (tmp_path / "plain").write_text("a file, not a folder")
    with pytest.raises(OutputError, match="cannot write the checkpoint"):
        parameters.write_safetensors(tmp_path / "plain" / "w.safetensors")
    file = tmp_path / "w.safetensors"
    parameters.write_safetensors(file)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # as on a full disk: the write ends part way
    try:
        with pytest.raises(OutputError, match="cannot write the checkpoint"):
            parameters.write_safetensors(file, parameters.vector + 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert {entry.name for entry in tmp_path.iterdir()} == {"plain", "w.safetensors"}
