"""Headers, shapes and tensors of checkpoints, against torch, safetensors and transformers as oracles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from estheory.errors import ConfigError, DataError
from estheory.models.checkpoints import open_checkpoint, open_comparable
from estheory.models.shapes import tensor_shapes, trainable_shapes


def llama(tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=13,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config)


def parameter_shapes(model: LlamaForCausalLM) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


def flip_header(path: Path, change) -> None:
    """Rewrite the JSON header of a safetensors file, leaving the data alone."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    new = json.dumps(header).encode()
    path.write_bytes(len(new).to_bytes(8, "little") + new + raw[8 + length :])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard", ["1GB", "1KB"])
def test_shapes_of_a_saved_model_are_those_of_its_parameters(tmp_path, tied, shard):
    model = llama(tied)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard == "1KB")
    assert tensor_shapes(tmp_path) == parameter_shapes(model)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.dim == sum(p.numel() for p in model.parameters())
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(checkpoint.tensor(name), parameter.detach().double().numpy())


def test_a_tied_head_that_the_file_repeats_counts_once(tmp_path):
    model = llama(tied=True)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    assert tensor_shapes(tmp_path) == parameter_shapes(model)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    assert "lm_head.weight" not in tensor_shapes(tmp_path)  # the tensors are believed, not the flag
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "lm_head.weight" in tensor_shapes(tmp_path)


def test_a_bare_file_follows_the_tying_of_the_folder_it_is_compared_with(tmp_path):
    model = llama(tied=True)
    model.save_pretrained(tmp_path / "base")
    tensors = load_file(tmp_path / "base/model.safetensors")
    head = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    save_file(tensors | head, tmp_path / "step_000007.safetensors")
    base, others = open_comparable(tmp_path / "base", {"b": tmp_path / "step_000007.safetensors"})
    assert base.tensors.keys() == others[0].tensors.keys()
    assert others[0].step == 7
    assert base.step is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_value_of_every_dtype_is_read_exactly(tmp_path, dtype):
    if dtype in (torch.float16, torch.bfloat16):  # all finite bit patterns
        values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
        values = values[values.isfinite()]
    else:
        values = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=dtype) * 1e-20
    path = tmp_path / "w.safetensors"
    save_file({"first": torch.ones(3, dtype=dtype), "w": values}, path)
    checkpoint = open_checkpoint(path)
    np.testing.assert_array_equal(checkpoint.read("w"), values.double().numpy())
    np.testing.assert_array_equal(checkpoint.read("w", 5, 17), values.double().numpy()[5:17])
    assert checkpoint.read("w", values.numel() - 2, values.numel() + 9).size == 2


def test_nothing_heavy_is_imported(tmp_path):
    save_file({"w": torch.ones(2, 3)}, tmp_path / "w.safetensors")
    code = (
        "import sys; from estheory.models.shapes import tensor_shapes;"
        f"print(tensor_shapes({str(tmp_path / 'w.safetensors')!r}));"
        "import estheory.measurement.displacement, estheory.measurement.fisher, estheory.measurement.reliability;"
        "print([m for m in ('torch', 'safetensors', 'transformers', 'scipy.stats') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["{'w': (2, 3)}", "[]"]


def test_truncated_files_are_named_with_both_byte_counts(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(100)}, path)
    whole = path.read_bytes()
    for cut in (0, 5, 20, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=rf"w\.safetensors is truncated.*\b{cut}\b"):
            tensor_shapes(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DataError, match="longer than its header says"):
        tensor_shapes(path)
    path.write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(DataError, match="GGUF"):
        tensor_shapes(path)
    path.write_bytes((4).to_bytes(8, "little") + b"[1] ")
    with pytest.raises(DataError, match="no safetensors file"):
        tensor_shapes(path)


def test_a_header_that_contradicts_itself_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(100)}, path)
    flip_header(path, lambda header: header["w"].update(shape=[99]))
    with pytest.raises(DataError, match="w spans 400 bytes"):
        tensor_shapes(path)


def test_missing_things_are_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*absent"):
        tensor_shapes(tmp_path / "absent")
    with pytest.raises(DataError, match="0 safetensors files"):
        tensor_shapes(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match="PEFT adapter"):
        tensor_shapes(tmp_path)
    llama().save_pretrained(tmp_path / "m", max_shard_size="1KB")
    shard = sorted((tmp_path / "m").glob("model-*.safetensors"))[1]
    kept = shard.read_bytes()
    shard.unlink()
    with pytest.raises(DataError, match=f"lacks the shard {shard.name}"):
        tensor_shapes(tmp_path / "m")
    save_file({"other": torch.ones(2)}, shard)
    with pytest.raises(DataError, match=f"{shard.name} lacks the tensor"):
        tensor_shapes(tmp_path / "m")
    shard.write_bytes(kept)
    assert tensor_shapes(tmp_path / "m") == parameter_shapes(llama())


def test_buffers_are_left_out_and_packed_weights_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(2), "mask": torch.ones(4, dtype=torch.bool), "ids": torch.arange(3)}, path)
    assert tensor_shapes(path) == {"w": (2,)}
    save_file({"w": torch.ones(2), "qweight": torch.ones(4, dtype=torch.int32)}, path)
    with pytest.raises(DataError, match=r"qweight .* dtype I32"):
        tensor_shapes(path)
    save_file({"ids": torch.arange(3)}, path)
    with pytest.raises(DataError, match="no floating-point tensor"):
        tensor_shapes(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinite_entries_are_counted(tmp_path, dtype):
    values = torch.ones(2000, dtype=dtype)
    values[[3, 1500]] = float("nan")
    values[1999] = -float("inf")
    save_file({"good": torch.ones(4, dtype=dtype), "bad": values}, tmp_path / "w.safetensors")
    checkpoint = open_checkpoint(tmp_path / "w.safetensors")
    assert checkpoint.read("good").sum() == 4
    assert checkpoint.read("bad", 10, 20).sum() == 10
    with pytest.raises(DataError, match=r"tensor bad .* has 3 NaN or infinite entries"):
        checkpoint.read("bad", 0, 10)


def test_huge_finite_float64_entries_are_not_called_infinite(tmp_path):
    save_file({"w": torch.full((3,), 1e200, dtype=torch.float64)}, tmp_path / "w.safetensors")
    assert (open_checkpoint(tmp_path / "w.safetensors").read("w") == 1e200).all()


def test_checkpoints_that_do_not_match_are_named_by_their_first_tensor(tmp_path):
    def file(name, **tensors):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    base = file("base", a=torch.ones(4), b=torch.ones(2, 3))
    cases = {
        "lacks the tensor b": file("less", a=torch.ones(4)),
        "holds the tensor c": file("more", a=torch.ones(4), b=torch.ones(2, 3), c=torch.ones(1)),
        r"tensor b is \[3, 2\].*\[2, 3\]": file("shape", a=torch.ones(4), b=torch.ones(3, 2)),
    }
    for message, other in cases.items():
        with pytest.raises(DataError, match=message):
            open_comparable(base, {"x": other})
    open_comparable(base, {"x": cases["lacks the tensor b"]}, names=frozenset({"a"}))
    with pytest.raises(DataError, match="no tensor z"):
        open_comparable(base, {"x": base}, names=frozenset({"z"}))
    half = file("half", a=torch.ones(4, dtype=torch.bfloat16), b=torch.ones(2, 3, dtype=torch.bfloat16))
    open_comparable(half, {"x": base})  # widening is exact


def test_trainable_selections(tmp_path):
    model = llama()
    shapes = parameter_shapes(model)
    assert trainable_shapes(shapes) == shapes
    last = trainable_shapes(shapes, "last:2")
    assert last == {n: s for n, s in shapes.items() if ".layers.1." in n or ".layers.2." in n}
    assert trainable_shapes(shapes, "regex:q_proj") == {n: s for n, s in shapes.items() if "q_proj" in n}
    adapters = trainable_shapes(shapes, "lora:4")
    name = "model.layers.0.mlp.down_proj"
    assert adapters[f"{name}.lora_A.weight"] == (4, 12)
    assert adapters[f"{name}.lora_B.weight"] == (8, 4)
    linear = [s for n, s in shapes.items() if len(s) == 2 and ".layers." in n]
    assert len(linear) == 3 * 7
    assert sum(a * b for a, b in adapters.values()) == sum(4 * (m + n) for m, n in linear)


@pytest.mark.parametrize(
    "spec", ["", "some", "last", "last:0", "last:x", "last:4", "lora:-1", "regex:", "regex:(", "regex:zzz"]
)
def test_bad_selections_are_refused(spec):
    with pytest.raises(ConfigError, match="trainable"):
        trainable_shapes(parameter_shapes(llama()), spec)
