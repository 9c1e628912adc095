"""LoRA adapters merged as they are read, against peft's own merge and against the formula."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from estheory.cli.app import main
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


def qwen():
    """A model whose projections have biases."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 13, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    return Qwen2ForCausalLM(Qwen2Config(num_attention_heads=2, num_key_value_heads=2, **sizes))


def kick(model):
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


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


OTHER_KINDS = {
    "PiSSA": lambda peft: peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, init_lora_weights="pissa"),
    "OLoRA": lambda peft: peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, init_lora_weights="olora"),
    "DoRA": lambda peft: peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, use_dora=True),
    "tokens": lambda peft: peft.LoraConfig(r=2, target_modules=TARGETS, trainable_token_indices=[1, 2]),
    "LoHa": lambda peft: peft.LoHaConfig(r=2, alpha=4, target_modules=TARGETS),
    "IA3": lambda peft: peft.IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]),
}
TARGETS = ["q_proj", "v_proj"]


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_the_remedy_for_other_kinds_gives_their_displacement(tmp_path, capsys, kind):
    """Merged into its base by peft, an adapter that is refused is a checkpoint like any other."""
    peft = pytest.importorskip("peft")
    base = qwen()
    base.save_pretrained(tmp_path / "base")
    before = {name: t.double() for name, t in qwen().state_dict().items()}
    wrapped = peft.get_peft_model(base, OTHER_KINDS[kind](peft))
    kick(wrapped)
    wrapped.save_pretrained(tmp_path / "lora")
    with pytest.raises(
        DataError, match=r"merge it into its base with peft \(estheory models merge BASE ADAPTER FOLDER"
    ):
        measure_displacements(tmp_path / "base", [tmp_path / "lora"])
    folders = [str(tmp_path / name) for name in ("base", "lora", "merged")]
    assert main(["models", "merge", *folders]) == 0
    assert main(["models", "merge", *folders]) == 2
    assert "exists" in capsys.readouterr().err
    true = math.sqrt(
        sum(float((t.double() - before[n]).square().sum()) for n, t in wrapped.merge_and_unload().state_dict().items())
    )
    assert measure_displacements(tmp_path / "base", [tmp_path / "merged"]).norms[0] == pytest.approx(true, rel=1e-4)


def test_what_cannot_be_merged_is_refused(base, tmp_path, capsys):
    peft = pytest.importorskip("peft")
    model = LlamaForCausalLM.from_pretrained(base)
    tokens = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    peft.get_peft_model(model, tokens).save_pretrained(tmp_path / "prompt")
    adapter(tmp_path / "wide", CONFIG | {"target_modules": ["q_proj"]}, a=(2, 16), b=(16, 2))
    for name, words in (("prompt", "moves no weight"), ("wide", "no adapter of"), ("base", "no adapter_config")):
        assert main(["models", "merge", str(base), str(tmp_path / name), str(tmp_path / "x")]) == 2
        err = capsys.readouterr().err
        assert words in err
        assert [line for line in err.splitlines() if line.startswith("error:")] == err.splitlines()[-1:]
        assert not (tmp_path / "x").exists()


def test_the_state_dict_of_an_unmerged_model_is_named_and_its_remedies_agree(tmp_path):
    peft = pytest.importorskip("peft")
    qwen().save_pretrained(tmp_path / "base")
    wrapped = peft.get_peft_model(qwen(), peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"]))
    kick(wrapped)
    torch.save(wrapped.state_dict(), tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"PEFT model whose adapter is not merged.*merge_and_unload"):
        measure_displacements(tmp_path / "base", [tmp_path / "x.pt"])
    wrapped.save_pretrained(tmp_path / "lora")
    torch.save(wrapped.merge_and_unload().state_dict(), tmp_path / "merged.pt")
    norms = [measure_displacements(tmp_path / "base", [tmp_path / x]).norms[0] for x in ("lora", "merged.pt")]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert norms[0] > 0


def test_trained_biases_of_factors_move_the_biases_of_layers(tmp_path):
    peft = pytest.importorskip("peft")
    base = qwen()
    base.save_pretrained(tmp_path / "base")
    before = {name: t.double() for name, t in qwen().state_dict().items()}
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", "v_proj"], lora_bias=True)
    wrapped = peft.get_peft_model(base, config)
    kick(wrapped)
    wrapped.save_pretrained(tmp_path / "lora")
    result = measure_displacements(tmp_path / "base", {"x": tmp_path / "lora"})
    after = {name: t.double() for name, t in wrapped.merge_and_unload().state_dict().items()}
    for name, value in zip(result.tensors, result.tensor_norms[0], strict=True):
        assert value == pytest.approx(float((after[name] - before[name]).norm()), rel=1e-5, abs=1e-12)
    assert (
        sum(name.endswith("bias") and v > 0 for name, v in zip(result.tensors, result.tensor_norms[0], strict=True))
        == 4
    )


def test_embeddings_saved_whole_on_a_tied_base(base, tmp_path):
    reference = {name: t.clone() for name, t in load_file(base / "model.safetensors").items()}
    tied = tmp_path / "tied"
    tied.mkdir()
    save_file({name: t for name, t in reference.items() if name != "lm_head.weight"}, tied / "model.safetensors")
    words = reference["model.embed_tokens.weight"]
    embed, head = "base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"
    a, b = adapter(tmp_path / "still", extra={embed: words, head: words.clone()})
    plain = float((3 * b @ a).norm())
    assert measure_displacements(tied, [tmp_path / "still"]).norms[0] == pytest.approx(plain, rel=1e-12)
    adapter(tmp_path / "apart", extra={embed: words + 1, head: words - 2})
    both = math.sqrt(plain**2 + 5 * words.numel())
    assert measure_displacements(tied, [tmp_path / "apart"]).norms[0] == pytest.approx(both, rel=1e-6)


def test_factors_without_their_scale_are_no_checkpoint(base, tmp_path):
    adapter(tmp_path / "lora")
    (tmp_path / "lora/adapter_config.json").rename(tmp_path / "kept.json")
    with pytest.raises(DataError, match=r"factors of adapters alone.*save the adapter by save_pretrained"):
        measure_displacements(base, [tmp_path / "lora"])
    (tmp_path / "kept.json").rename(tmp_path / "lora/adapter_config.json")
    assert measure_displacements(base, [tmp_path / "lora"]).norms[0] > 0


def test_an_adapter_beside_full_weights_is_listed_and_not_applied(base, tmp_path):
    adapter(tmp_path / "both")
    for file in ("model.safetensors", "config.json"):
        (tmp_path / "both" / file).write_bytes((base / file).read_bytes())
    result = measure_displacements(base, {"x": tmp_path / "both"})
    assert result.norms[0] == 0
    assert [(row.name, row.kind) for label, row in result.left_out if label == "x"] == [
        ("adapter_model.safetensors", "file")
    ]


def test_a_folder_of_adapters_names_them(base, tmp_path):
    (tmp_path / "all").mkdir()
    adapter(tmp_path / "all" / "first")
    adapter(tmp_path / "all" / "second")
    with pytest.raises(DataError, match=r"PEFT adapters in folders of their own \(first, second\): give one"):
        measure_displacements(base, [tmp_path / "all"])
    assert measure_displacements(base, [tmp_path / "all/second"]).norms[0] > 0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "describes IA3.*merge it"),
        ({"peft_type": "LOHA", "r": 4, "alpha": 8}, "describes LOHA.*merge it"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING.*moves no weight"),
        ({"lora_parameters": {"rank": 4}}, "MLX.*fuse it"),
    ],
)
def test_other_kinds_are_refused_by_their_name(base, tmp_path, config, words):
    adapter(tmp_path / "lora", config)
    with pytest.raises(DataError, match=words):
        measure_displacements(base, [tmp_path / "lora"])


def test_between_adapters_the_factors_are_compared(base, tmp_path):
    a, b = adapter(tmp_path / "start")
    adapter(tmp_path / "end")
    file = tmp_path / "end/adapter_model.safetensors"
    save_file({name: t + 0.5 for name, t in load_file(file).items()}, file)
    result = measure_displacements(tmp_path / "start", [tmp_path / "end"])
    assert result.norms[0] == pytest.approx(0.5 * math.sqrt(a.numel() + b.numel()), rel=1e-6)
    merged = measure_displacements(base, [file])  # the file alone stands for its folder
    assert merged.norms[0] == measure_displacements(base, [tmp_path / "end"]).norms[0] > 0


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
        ({**CONFIG, "init_lora_weights": "pissa_niter_4"}, {}, "changes the base"),
        ({**CONFIG, "init_lora_weights": "loftq"}, {}, "changes the base"),
        ({**CONFIG, "peft_type": "PROMPT_TUNING"}, {}, "moves no weight"),
        (CONFIG, {"extra": {f"base_model.model.{UP}.lora_A.weight": torch.ones(0)}}, "ZeRO-3"),
        (CONFIG, {"extra": {f"base_model.model.{Q}.lora_B.bias": torch.ones(8)}}, "trains a bias"),
        (
            CONFIG,
            {"extra": {f"base_model.model.{Q}.lora_{x}.{n}.weight": torch.ones(2, 2) for x in "AB" for n in "pq"}},
            r"3 adapters \(p, q, unnamed\)",
        ),
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
