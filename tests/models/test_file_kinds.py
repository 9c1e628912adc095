"""Files that are no weights are refused by their own name, and the remedies lead to a measurement."""

from __future__ import annotations

import gzip
import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

from estheory.errors import DataError
from estheory.measurement.displacement import measure_displacements
from estheory.models.builtin import get_builtin, model_folder
from estheory.models.shapes import tensor_shapes


@pytest.fixture
def base(tmp_path):
    save_file({"a.weight": torch.zeros(3, 4), "b.weight": torch.zeros(5)}, tmp_path / "base.safetensors")
    return tmp_path / "base.safetensors"


STATE = {"a.weight": torch.ones(3, 4), "b.weight": torch.ones(5)}


def norm(base, path):
    return float(measure_displacements(base, [path]).norms[0] ** 2)


@pytest.mark.parametrize("name", ["last.ckpt", "weights", "x.model"])
def test_the_first_bytes_decide_and_not_the_name(base, tmp_path, name):
    torch.save({"state_dict": STATE, "epoch": 1, "loops": {}, "callbacks": {}}, tmp_path / name)
    assert norm(base, tmp_path / name) == 17
    save_file(STATE, tmp_path / "plain.weights")
    assert norm(base, tmp_path / "plain.weights") == 17


def test_a_lightning_run_names_its_checkpoints(base, tmp_path):
    file = tmp_path / "version_0" / "checkpoints" / "epoch=1-step=20.ckpt"
    file.parent.mkdir(parents=True)
    torch.save({"state_dict": STATE, "epoch": 1}, file)
    with pytest.raises(DataError, match=r"Lightning's checkpoints .*epoch=1-step=20\.ckpt.*give one of the files in"):
        norm(base, tmp_path / "version_0")
    measured = measure_displacements(base, [file])
    assert (float(measured.norms[0] ** 2), measured.steps) == (17, (20,))


def test_weights_beside_an_optimiser_and_counters(base, tmp_path):
    optimiser = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    content = {"module": STATE, "optimizer": optimiser, "best": torch.tensor(2.0), "shapes": [{"a": torch.Size([3])}]}
    torch.save(content, tmp_path / "x.pt")
    assert norm(base, tmp_path / "x.pt") == 17
    torch.save(STATE | {"a._extra_state": None}, tmp_path / "y.pt")
    assert norm(base, tmp_path / "y.pt") == 17


def test_weights_several_dictionaries_deep(base, tmp_path):
    flat = {"state.a.weight.exp_avg": torch.ones(3, 4), "state.a.weight.exp_avg_sq": torch.ones(3, 4)}
    beside = {"optim": flat, "scaler": {"scale": torch.tensor(2.0)}, "rng": torch.ones(9), "step": 3}
    torch.save({"app": {"model": STATE, **beside}}, tmp_path / "x.pt")
    assert norm(base, tmp_path / "x.pt") == 17
    torch.save({"app": {"model": STATE, "ema": STATE}}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"2 state dicts \(app\.model, app\.ema\): .*\['app'\]\['model'\]"):
        norm(base, tmp_path / "x.pt")
    torch.save(torch.load(tmp_path / "x.pt")["app"]["model"], tmp_path / "one.pt")
    assert norm(base, tmp_path / "one.pt") == 17
    torch.save(STATE | {"step": 3}, tmp_path / "counted.pt")
    assert norm(base, tmp_path / "counted.pt") == 17


def test_a_scripted_module_and_its_remedy(base, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(4, 3)), tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"TorchScript archive.*torch\.jit\.load\(FILE\)\.state_dict\(\)"):
        norm(base, tmp_path / "x.pt")
    torch.save(torch.jit.load(tmp_path / "x.pt").state_dict(), tmp_path / "y.pt")
    assert tensor_shapes(tmp_path / "y.pt") == {"weight": (3, 4), "bias": (3,)}


def test_two_state_dicts_are_named_and_one_of_them_saved_alone_is_read(base, tmp_path):
    torch.save({"model": STATE, "ema": STATE, "step": 3}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"2 state dicts \(model, ema\): .*torch\.load\(FILE\)\['model'\]"):
        norm(base, tmp_path / "x.pt")
    torch.save(torch.load(tmp_path / "x.pt")["model"], tmp_path / "one.pt")
    assert norm(base, tmp_path / "one.pt") == 17


def test_numpy_archives_and_their_remedy(base, tmp_path):
    np.savez(tmp_path / "w.npz", **{name: t.numpy() for name, t in STATE.items()})
    with pytest.raises(DataError, match=r"NumPy archive.*safetensors\.numpy\.save_file"):
        norm(base, tmp_path / "w.npz")
    save_numpy(dict(np.load(tmp_path / "w.npz")), tmp_path / "w.safetensors")
    assert norm(base, tmp_path / "w.safetensors") == 17


def test_archives_and_their_remedy(base, tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "w.safetensors", "w.safetensors")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "w.safetensors", "w.safetensors")
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"w"))
    for name in ("a.zip", "a.tar", "a.gz"):
        folder = tmp_path / f"{name}_alone"
        folder.mkdir()
        (folder / name).write_bytes((tmp_path / name).read_bytes())
        for path in (tmp_path / name, folder):
            with pytest.raises(DataError, match=r"archive.*unpack it"):
                norm(base, path)
    zipfile.ZipFile(tmp_path / "a.zip").extractall(tmp_path / "out")
    assert norm(base, tmp_path / "out") == 17


@pytest.mark.parametrize(
    ("name", "start", "kind"),
    [
        ("m.gguf", b"GGUF\x03\0\0\0", "GGUF"),
        ("m.safetensors", b"GGUF\x03\0\0\0", "GGUF"),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("flax_model.msgpack", b"\x82\xa1a", "Flax"),
        ("m.onnx", b"\x08\x07", "ONNX"),
        ("w.npy", b"\x93NUMPY\x01", "NumPy array"),
        ("x.pkl", b"\x80\x04\x95", "Python pickle"),
        ("model.safetensors", b"<!DOCTYPE html>", "web page"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_other_formats_are_refused_by_their_name(base, tmp_path, name, start, kind):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_bytes(start + bytes(64))
    for path in (folder / name, folder)[: 1 if name == "w.npy" or name == "x.pkl" else 2]:
        with pytest.raises(DataError, match=kind) as refused:
            norm(base, path)
        assert "again" not in str(refused.value)


def test_a_distributed_checkpoint_and_its_remedy(base, tmp_path):
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    inner = tmp_path / "checkpoint-10" / "pytorch_model_fsdp_0"  # as a trainer nests it
    dcp.save({"app": {"model": STATE, "step": 3}}, checkpoint_id=str(inner), no_dist=True)
    for path in (inner, inner.parent, next(inner.glob("*.distcp"))):
        with pytest.raises(DataError, match="distributed checkpoint"):
            norm(base, path)
    with pytest.raises(DataError, match=rf"dcp_to_torch {inner} weights\.pt"):
        norm(base, inner.parent)
    dcp_to_torch_save(str(inner), str(tmp_path / "weights.pt"))
    assert norm(base, tmp_path / "weights.pt") == 17


def test_ranks_of_a_sharded_run_are_named(base, tmp_path):
    folder = tmp_path / "global_step_3" / "actor"
    folder.mkdir(parents=True)
    for rank in range(2):
        torch.save(STATE, folder / f"model_world_size_2_rank_{rank}.pt")
    for path in (folder, folder.parent):
        with pytest.raises(DataError, match=r"actor holds the weights by rank \(2 files\)"):
            norm(base, path)
    alone = tmp_path / "alone"
    alone.mkdir()
    torch.save(STATE, alone / "model_world_size_1_rank_0.pt")
    torch.save({"state": {}, "param_groups": []}, alone / "optim_world_size_1_rank_0.pt")
    assert norm(base, alone) == 17
    zero = tmp_path / "zero" / "global_step3"
    zero.mkdir(parents=True)
    torch.save({"module": STATE}, zero / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    torch.save({"module": STATE}, zero / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    for path in (zero, zero.parent):
        with pytest.raises(DataError, match=r"DeepSpeed ZeRO by rank.*zero_to_fp32"):
            norm(base, path)


def test_placeholders_of_zero_3_are_named(base, tmp_path):
    save_file(STATE | {"a.weight": torch.ones(0)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match=r"a\.weight .* has no entries: ZeRO-3"):
        norm(base, tmp_path / "x.safetensors")


def test_hub_ids_are_read_from_the_hubs_cache(tmp_path, monkeypatch):
    """A cache as the hub's own library lays it out, and no network."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "models--some--model" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0123")
    for file in get_builtin("tiny-lm").iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    for download in (True, False):
        folder = model_folder("some/model", download=download)
        assert json.loads((folder / "config.json").read_text())
        assert tensor_shapes(folder) == tensor_shapes(get_builtin("tiny-lm"))
        with pytest.raises(DataError, match=r"other/model .*hf download other/model"):
            model_folder("other/model", download=download)
