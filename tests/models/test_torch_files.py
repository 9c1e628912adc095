"""Files written by torch.save, single and sharded, against torch itself."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from estheory.errors import DataError
from estheory.measurement.displacement import measure_displacements
from estheory.models.checkpoints import open_checkpoint, open_comparable
from estheory.models.shapes import tensor_shapes


def llama(tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=13,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=tied,
        )
    )


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_values_are_read_exactly(tmp_path, suffix, dtype):
    values = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.save({"w": values, "turned": values.T, "mask": values > 0}, tmp_path / f"x{suffix}")
    checkpoint = open_checkpoint(tmp_path / f"x{suffix}")
    assert {name: entry.shape for name, entry in checkpoint.tensors.items()} == {"w": (7, 11), "turned": (11, 7)}
    np.testing.assert_array_equal(checkpoint.tensor("w"), values.double().numpy())
    np.testing.assert_array_equal(checkpoint.tensor("turned"), values.T.double().numpy())
    np.testing.assert_array_equal(checkpoint.read("w", 5, 30), values.double().flatten()[5:30].numpy())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_may_be_nested_and_old(tmp_path, nested, zipped):
    state = {"w": torch.arange(6.0).reshape(2, 3)}
    content = {"model": state, "step": 3} if nested else state
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert tensor_shapes(tmp_path / "x.pt") == {"w": (2, 3)}
    np.testing.assert_array_equal(open_checkpoint(tmp_path / "x.pt").read("w"), np.arange(6.0))


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_counts_once_by_its_shared_storage(tmp_path, tied):
    model = llama(tied)
    torch.save(model.state_dict(), tmp_path / "x.bin")
    assert tensor_shapes(tmp_path / "x.bin") == {n: tuple(p.shape) for n, p in model.named_parameters()}


def test_a_tied_head_counted_twice_as_a_state_dict_lists_it(tmp_path):
    model, moved = llama(), llama()
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model.save_pretrained(tmp_path / "base")
    torch.save(moved.state_dict(), tmp_path / "moved.pt")
    before, after = model.state_dict(), moved.state_dict()
    assert "lm_head.weight" in before
    for repeat, names in ((False, [n for n in before if n != "lm_head.weight"]), (True, list(before))):
        result = measure_displacements(tmp_path / "base", [tmp_path / "moved.pt"], repeat_head=repeat)
        assert set(result.tensors) == set(names)
        exact = sum(float((after[n].double() - before[n].double()).square().sum()) for n in names) ** 0.5
        assert result.norms[0] == pytest.approx(exact, rel=1e-12)


def test_shards_with_an_index(tmp_path):
    state = llama(False).state_dict()
    names = sorted(state)
    shards = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, part in shards.items():
        torch.save({name: state[name] for name in part}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    checkpoint = open_checkpoint(tmp_path)
    for name in names:
        np.testing.assert_array_equal(checkpoint.tensor(name), state[name].double().numpy())
    gone = tmp_path / "pytorch_model-00002-of-00002.bin"
    kept = gone.read_bytes()
    gone.unlink()
    with pytest.raises(DataError, match=rf"lacks the shard {gone.name} \(1 of 2 missing\)"):
        tensor_shapes(tmp_path)
    (tmp_path / "whole.bin").write_bytes(b"")
    torch.save(state, tmp_path / "whole.bin")
    problems: list[str] = []
    _, [rest] = open_comparable(tmp_path / "whole.bin", {"x": tmp_path}, problems=problems)
    assert set(rest.tensors) == set(names[::2])
    assert any("lacks the shard" in problem for problem in problems)
    gone.write_bytes(kept[:-200])
    with pytest.raises(DataError, match="truncated"):
        tensor_shapes(tmp_path)


class Payload:
    def __reduce__(self):
        return (print, ("a pickle ran code",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_is_no_plain_tensor_does_not_run(tmp_path, capsys, zipped):
    torch.save({"w": torch.ones(2), "x": Payload()}, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"x\.bin holds more than plain tensors"):
        tensor_shapes(tmp_path / "x.bin")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated or no file"),
        (b"garbage" * 40, "more than plain tensors|truncated or no file"),
        (pickle.dumps([1, 2], 2), "more than plain|truncated or no file"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(DataError, match=message):
        tensor_shapes(tmp_path / "x.bin")
    with pytest.raises(DataError, match="cannot read"):
        tensor_shapes(tmp_path / "absent.bin")


@pytest.mark.parametrize("content", [{}, {"a": 1}, {"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}}])
def test_files_without_one_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(DataError, match=r"no dictionary of tensors|2 state dicts"):
        tensor_shapes(tmp_path / "x.bin")


def test_formats_may_be_mixed(tmp_path):
    a, b = torch.randn(40, dtype=torch.float64), torch.randn(40, dtype=torch.float64)
    save_file({"w": a}, tmp_path / "a.safetensors")
    (tmp_path / "final_model_iteration_7").mkdir()
    torch.save({"w": b}, tmp_path / "final_model_iteration_7/pytorch_model.pth")
    result = measure_displacements(tmp_path / "a.safetensors", [tmp_path / "final_model_iteration_7"])
    assert result.norms[0] == pytest.approx(float((b - a).norm()), rel=1e-14)
    assert result.steps == (7,)
    [file] = (tmp_path / "final_model_iteration_7").iterdir()
    assert open_checkpoint(file).step == 7
