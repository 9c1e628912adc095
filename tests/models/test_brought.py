"""Checkpoints as people bring them: the displacement is that of the weights, whatever stands around them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from estheory.errors import DataError
from estheory.measurement.displacement import measure_displacements
from estheory.models.headers import listing, tensor_entries

WORDS, WIDTH, BLOCKS = 24, 8, 2


def weights(seed=0, head="lm_head.weight", embedding="model.embed_tokens.weight", blocks="model.layers"):
    """A small language model's state dict; ``head=""`` leaves the head out."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {embedding: (WORDS, WIDTH), "model.norm.weight": (WIDTH,)}
    for k in range(BLOCKS):
        shapes |= {f"{blocks}.{k}.mlp.up.weight": (2 * WIDTH, WIDTH), f"{blocks}.{k}.attn.q.weight": (WIDTH, WIDTH)}
    if head:
        shapes[head] = (WORDS, WIDTH)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def moved(state, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {name: t + 0.01 * torch.randn(t.shape, generator=generator) for name, t in state.items()}


def distance(a, b):
    return math.sqrt(sum(float((b[name].double() - a[name].double()).square().sum()) for name in a))


def write(folder, state, config=None):
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    save_file({name: t.clone().contiguous() for name, t in state.items()}, folder / "model.safetensors")
    return folder


def norm(base, other, **options):
    return measure_displacements(base, {"x": other}, **options).norms[0]


# names


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module.", "base_model.model.", "student."]
)
def test_prefixes_of_wrappers_are_taken_off_and_named(tmp_path, prefix):
    state = weights()
    after = moved(state)
    base = write(tmp_path / "base", state)
    torch.save({prefix + name: t for name, t in after.items()}, tmp_path / "x.pt")
    result = measure_displacements(base, {"x": tmp_path / "x.pt"})
    assert result.norms[0] == pytest.approx(distance(state, after), rel=1e-12)
    taken = [row.before for label, row in result.renamed if label == "x"]
    assert all(part in prefix for part in taken)
    assert sum(map(len, taken)) == len(prefix)


def test_wrappers_inside_names(tmp_path):
    state = weights()
    after = moved(state)
    inside = {n.replace("mlp.", "mlp._checkpoint_wrapped_module."): t for n, t in after.items()}
    assert norm(write(tmp_path / "a", state), write(tmp_path / "b", inside)) == pytest.approx(distance(state, after))


def test_a_missing_prefix_and_the_two_orders_of_vision_language_names(tmp_path):
    state = weights(head="lm_head.weight")
    after = moved(state)
    base = write(tmp_path / "base", state)
    bare = write(tmp_path / "bare", {name.removeprefix("model."): t for name, t in after.items()})
    assert norm(base, bare) == pytest.approx(distance(state, after), rel=1e-12)

    def named(state, language, vision, head):
        text = {(head if n == "lm_head.weight" else language + n.removeprefix("model.")): t for n, t in state.items()}
        return text | {f"{vision}blocks.{k}.q.weight": torch.full((4, 6), 1.0 + k) for k in range(2)}

    old = named(state, "language_model.model.", "visual.", "language_model.lm_head.weight")
    new = named(after, "model.language_model.", "model.visual.", "lm_head.weight")
    assert norm(write(tmp_path / "old", old), write(tmp_path / "new", new)) == pytest.approx(distance(state, after))


def test_two_towers_that_both_fit_are_not_guessed(tmp_path):
    tower = {f"layers.{k}.q.weight": torch.randn(4, 4) for k in range(2)}
    base = {f"{side}.{name}": t for side in ("encoder", "decoder") for name, t in tower.items()}
    other = {f"{side}.{name}": t for side in ("one", "two") for name, t in tower.items()}
    with pytest.raises(DataError, match="lacks the tensor"):
        norm(write(tmp_path / "a", base), write(tmp_path / "b", other))


# which file


def test_the_file_that_transformers_loads_is_measured(tmp_path):
    state, old, new = weights(), moved(weights(), 1), moved(weights(), 2)
    base = write(tmp_path / "base", state)
    folder = write(tmp_path / "x", new)
    shard = "model-00001-of-00001.safetensors"
    save_file(old, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(old, shard)}))
    torch.save(old, folder / "pytorch_model.bin")
    result = measure_displacements(base, {"x": folder})
    assert result.norms[0] == pytest.approx(distance(state, new), rel=1e-12)
    assert {row.name for _, row in result.left_out} == {shard, index.name, "pytorch_model.bin"}
    (folder / "model.safetensors").unlink()  # now the index counts, and no longer the pickle
    assert norm(base, folder) == pytest.approx(distance(state, old), rel=1e-12)


# heads


@pytest.mark.parametrize(
    ("embedding", "head"),
    [
        ("model.embed_tokens.weight", "lm_head.weight"),
        ("transformer.word_embeddings.weight", "lm_head.weight"),
        ("gpt_neox.embed_in.weight", "embed_out.weight"),
        ("transformer.wte.weight", "lm_head.weight"),
    ],
)
@pytest.mark.parametrize("declared", [None, True, False])
def test_heads_are_compared_whatever_their_name_and_flag(tmp_path, embedding, head, declared):
    config = {} if declared is None else {"tie_word_embeddings": declared}
    alone = weights(head="", embedding=embedding)
    after = moved(alone)
    copied = [state | {head: state[embedding].clone()} for state in (alone, after)]
    tied = distance(alone, after)
    base, tuned = write(tmp_path / "base", copied[0], config), write(tmp_path / "tuned", copied[1], config)
    assert norm(base, tuned) == pytest.approx(tied, rel=1e-12)
    assert head not in tensor_entries(base)
    both = measure_displacements(base, {"x": tuned}, repeat_head=True)
    assert both.norms[0] == pytest.approx(distance(*copied), rel=1e-12)
    apart = copied[1] | {head: copied[1][head] + 0.5}
    apart_folder = write(tmp_path / "apart", apart, config)
    assert norm(base, apart_folder) == pytest.approx(distance(copied[0], apart), rel=1e-12)
    if declared is not False:
        missing = write(tmp_path / "missing", alone, config)
        assert norm(missing, tuned) == pytest.approx(tied, rel=1e-12)
        result = measure_displacements(missing, {"x": apart_folder})
        assert result.norms[0] == pytest.approx(distance(copied[0], apart), rel=1e-12)
        assert any(head in note for note in result.notes)


def test_a_head_of_another_name_is_matched_where_it_is_the_only_one(tmp_path):
    state = weights(head="embed_out.weight")
    after = moved(state)
    renamed = {n.replace("embed_out", "lm_head"): t for n, t in after.items()}
    result = measure_displacements(write(tmp_path / "a", state), {"x": write(tmp_path / "b", renamed)})
    assert result.norms[0] == pytest.approx(distance(state, after), rel=1e-12)
    assert [(row.before, row.after) for _, row in result.renamed] == [("lm_head.weight", "embed_out.weight")]


def test_of_equal_tensors_the_one_that_the_base_holds_is_the_weight(tmp_path):
    """T5's state dict lists its embedding four times; its files hold ``shared`` alone."""
    state = weights(head="", embedding="shared.weight")
    after = moved(state)
    copies = ("decoder.embed_tokens.weight", "encoder.embed_tokens.weight", "lm_head.weight")
    listed = after | {name: after["shared.weight"].clone() for name in copies}
    result = measure_displacements(write(tmp_path / "a", state), {"x": write(tmp_path / "b", listed)})
    assert result.norms[0] == pytest.approx(distance(state, after), rel=1e-12)
    assert {row.name for _, row in result.left_out} == set(copies)


def test_a_copied_head_counts_once_beside_a_padded_embedding(tmp_path):
    state = weights(head="")
    after = moved(state)
    name = "model.embed_tokens.weight"
    padded = after | {name: torch.cat([after[name], torch.ones(8, WIDTH)]), "lm_head.weight": after[name].clone()}
    assert norm(write(tmp_path / "a", state), write(tmp_path / "b", padded)) == pytest.approx(distance(state, after))


def test_a_head_of_its_own_that_a_checkpoint_lacks_is_missed(tmp_path):
    state = weights()
    with pytest.raises(DataError, match=r"lacks the tensor lm_head"):
        norm(write(tmp_path / "a", state), write(tmp_path / "b", weights(head="")))


def test_equal_blocks_are_no_copies(tmp_path):
    state = weights()
    state["model.layers.1.attn.q.weight"] = state["model.layers.0.attn.q.weight"].clone()
    assert tensor_entries(write(tmp_path / "a", state)).keys() == state.keys()


def test_a_padded_vocabulary_is_cut_to_the_rows_of_both_and_listed(tmp_path):
    state = weights()
    after = moved(state)
    padding = torch.zeros(8, WIDTH)
    padded = {n: torch.cat([t, padding]) if t.shape[0] == WORDS else t for n, t in after.items()}
    a, b = write(tmp_path / "a", state), write(tmp_path / "b", padded)
    for base, other in ((a, b), (b, a)):
        result = measure_displacements(base, {"x": other})
        assert result.norms[0] == pytest.approx(distance(state, after), rel=1e-12)
        assert {(row.name, row.entries) for _, row in result.left_out} == {
            (n, padding.numel()) for n in ("lm_head.weight", "model.embed_tokens.weight")
        }


# buffers


def buffers():
    ones = torch.ones(16, 16)
    return {
        "h.0.attn.bias": ones.tril().view(1, 1, 16, 16),
        "h.1.attn.mask": (ones.tril() * ones.triu(-4)).view(1, 1, 16, 16),  # a local one
        "causal": torch.zeros(16, 16).masked_fill(ones.triu(1) > 0, float("-inf")),
        "h.0.attn.masked_bias": torch.tensor(-1e9),
        "model.layers.0.self_attn.rotary_emb.inv_freq": 1e4 ** -(torch.arange(4) / 4),
        "model.rotary_emb.cos_cached": torch.ones(1, 4),
        "position_ids": torch.arange(16.0)[None],
        "position_ids_32": torch.arange(16, dtype=torch.int32),
        "mask_8": ones.tril().to(torch.uint8),
        "bn.running_mean": torch.zeros(4),
        "rope.freqs": 1e4 ** -(torch.arange(8) / 8),
        "rope.halves": (1e4 ** -(torch.arange(8) / 8)).bfloat16(),
        "model.layers.0.slopes": torch.tensor([0.5, 0.25, 0.7, 0.6]),  # ALiBi of 4 heads out of 6
        "model.embed_positions.weights": torch.cat([angles().sin(), angles().cos()], dim=1),
        "positions.pe": torch.stack([angles().sin(), angles().cos()], dim=2).reshape(1, 16, 8).bfloat16(),
        "model.layers.0.attn.k_scale": torch.tensor(1.5),
        "model.layers.0.q._extra_state": torch.randn(4),
    }


def angles():
    return torch.arange(16.0)[:, None] * 1e4 ** -(torch.arange(4) / 4)


def test_buffers_are_left_out_on_either_side_and_listed(tmp_path):
    state = weights()
    after = moved(state)
    plain = [write(tmp_path / name, s) for name, s in (("a", state), ("b", after))]
    full = [write(tmp_path / name, s | buffers()) for name, s in (("c", state), ("d", after))]
    for base, other in ((plain[0], full[1]), (full[0], plain[1]), (full[0], full[1])):
        assert norm(base, other) == pytest.approx(distance(state, after), rel=1e-12)
    found = listing(full[0])
    assert found.weights.keys() == state.keys()
    assert {row.name: row.entries for row in found.left_out} == {n: t.numel() for n, t in buffers().items()}


def test_what_only_looks_like_a_buffer_is_a_weight(tmp_path):
    square = torch.ones(16, 16).tril()
    square[9, 12] = 1e-3
    counting = torch.arange(16.0)
    counting[-1] = 15.5
    state = {"h.0.attn.bias": square, "norm.weight": torch.ones(16), "scale": counting, "eye": torch.eye(3)}
    waves = torch.cat([angles().sin(), angles().cos()], dim=1)
    state |= {"positions": waves + 1e-3 * torch.randn(waves.shape), "falls": torch.tensor([8.0, 4.0, 2.0, 1.01])}
    square[8, 12] = 1e-3
    assert tensor_entries(write(tmp_path / "a", state)).keys() == state.keys()


@pytest.mark.parametrize(
    "extra",
    [
        {"a.qweight": torch.ones(4, 4, dtype=torch.int32), "a.scales": torch.ones(4)},
        {"a.weight": torch.ones(16, 1, dtype=torch.uint8), "a.weight.absmax": torch.ones(4)},
        {"a.weight": torch.ones(4, 4).to(torch.float8_e4m3fn), "a.weight_scale_inv": torch.ones(1)},
        {"mlp.down_proj_blocks": torch.ones(4, 4, dtype=torch.uint8), "mlp.down_proj_scales": torch.ones(4)},
    ],
)
def test_quantised_weights_are_refused_and_may_be_left_out(tmp_path, extra):
    state = weights()
    base = write(tmp_path / "base", state)
    packed = write(tmp_path / "packed", moved(state) | extra)
    with pytest.raises(DataError, match=r"has dtype (I32|U8|F8_E4M3), no plain weight: .* unquantised"):
        norm(base, packed)
    result = measure_displacements(base, {"x": packed}, keep_going=True)
    assert {row.name for _, row in result.left_out} == extra.keys()
    assert result.problems


@pytest.mark.parametrize("magic", [b"\x80\x03", b"\x80\x05"])
def test_the_length_of_a_header_may_look_like_another_format(tmp_path, magic):
    folder = write(tmp_path / "a", weights())
    [file] = folder.iterdir()
    content, start = file.read_bytes(), magic.ljust(8, b"\0")
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end].ljust(int.from_bytes(start, "little"))  # spaces may end a header
    file.write_bytes(start + header + content[end:])
    assert load_file(file).keys() == tensor_entries(folder).keys() == weights().keys()


def test_a_tensor_without_entries_is_no_difference(tmp_path):
    state = weights()
    base, other = write(tmp_path / "a", state), write(tmp_path / "b", moved(state) | {"gate": torch.zeros(0, 4)})
    assert norm(base, other) == pytest.approx(distance(state, moved(state)), rel=1e-6)


def test_scales_are_weights_where_nothing_is_quantised(tmp_path):
    state = weights() | {"model.layers.0.scales": torch.ones(4)}
    assert "model.layers.0.scales" in tensor_entries(write(tmp_path / "a", state))


# dtypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_coarser_checkpoint_is_measured_from_the_rounded_base(tmp_path, dtype):
    state = weights()
    start = {name: t.to(dtype) for name, t in state.items()}
    after = {name: t.to(dtype) for name, t in moved(state).items()}
    result = measure_displacements(write(tmp_path / "a", state), {"x": write(tmp_path / "b", after)})
    assert result.norms[0] == pytest.approx(distance(start, after), rel=1e-12)
    assert math.sqrt(result.storage.sum()) == pytest.approx(distance(state, start), rel=1e-12)
    nothing = measure_displacements(tmp_path / "a", {"x": write(tmp_path / "c", start)})
    assert nothing.norms[0] == 0
    wider = measure_displacements(tmp_path / "c", {"x": tmp_path / "a"})  # widening is exact
    assert wider.norms[0] == pytest.approx(distance(start, state), rel=1e-12)
    assert not wider.storage.any()


def test_formats_may_differ_between_checkpoints(tmp_path):
    state = weights()
    after = moved(state)
    half = {name: t.bfloat16() for name, t in after.items()}
    base, paths = write(tmp_path / "a", state), [write(tmp_path / "b", after), write(tmp_path / "c", half)]
    both = measure_displacements(base, paths)
    for k, path in enumerate(paths):
        alone = measure_displacements(base, [path])
        np.testing.assert_allclose(both.tensor_norms[k], alone.tensor_norms[0], rtol=1e-14)
        np.testing.assert_array_equal(both.storage[:, k], alone.storage[:, 0])
    assert not both.storage[:, 0].any()


def test_a_base_beyond_the_range_of_a_checkpoints_format_is_refused(tmp_path):
    base = write(tmp_path / "a", {"w": torch.tensor([1e6, 1.0])})
    with pytest.raises(DataError, match="beyond the range"):
        norm(base, write(tmp_path / "b", {"w": torch.ones(2, dtype=torch.float16)}))
