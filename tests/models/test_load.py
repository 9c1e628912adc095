"""Loading models: what comes back, and what happens to folders that are no models."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from estheory.errors import ConfigError, DataError
from estheory.models.builtin import get_builtin
from estheory.models.decode import generate
from estheory.models.hashing import sha256_of_folder
from estheory.models.load import load_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of tiny-lm to damage."""
    return Path(shutil.copytree(get_builtin("tiny-lm"), tmp_path / "model"))


def test_tiny_lm() -> None:
    loaded = load_model("tiny-lm")
    model: Any = loaded.model
    assert sum(parameter.numel() for parameter in model.parameters()) == 59_184
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.num_hidden_layers == 2
    assert model.config.hidden_size == 48
    assert loaded.name == "tiny-lm"
    assert loaded.sha256 == sha256_of_folder(loaded.folder)


def test_tokenizer_is_fast_and_has_one_token_a_character() -> None:
    tokenizer = load_model("tiny-lm").tokenizer
    text = "....reverse aZ09 .+-*/()=?\n"
    assert tokenizer.is_fast
    assert tokenizer.padding_side == "left"
    assert len(tokenizer(text)["input_ids"]) == len(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("~")["input_ids"] == [tokenizer.unk_token_id]
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 3


def test_a_folder_loads_like_the_built_in_model(folder: Path) -> None:
    copied, packaged = load_model(str(folder)), load_model("tiny-lm")
    assert copied.sha256 == packaged.sha256
    assert copied.name == str(folder)
    assert all(
        torch.equal(tensor, packaged.model.state_dict()[name]) for name, tensor in copied.model.state_dict().items()
    )


def test_dtype() -> None:
    exact, rounded = load_model("tiny-lm").model, load_model("tiny-lm", dtype=torch.bfloat16).model
    for name, tensor in rounded.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, exact.state_dict()[name].to(torch.bfloat16))


def test_sharded_folder(folder: Path) -> None:
    model: Any = load_model(str(folder)).model
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    again = load_model(str(folder))
    assert generate(again.model, again.tokenizer, ["1+2="], 3) == generate(model, again.tokenizer, ["1+2="], 3)
    sorted(folder.glob("*.safetensors"))[0].unlink()
    with pytest.raises(DataError, match="lacks the shard model-00001-of"):
        load_model(str(folder))


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def change_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))


def ask_for_more_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))


def name_no_language_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "no-such-architecture"}))


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncate_weights(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 200_000)


def truncate_header(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


def empty_weights(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 0)


def drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def remove_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def record_another_hash(folder: Path) -> None:
    (folder / "conversion.json").write_text(json.dumps({"sha256": "0" * 64}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_config, "no config.json"),
        (break_config, "config.json"),
        (change_architecture, r"do not fit its config.json: model\.layers\.0\.mlp.* is missing or of another shape"),
        (ask_for_more_layers, r"do not fit its config.json: model\.layers\.2"),
        (name_no_language_model, "no-such-architecture"),
        (remove_weights, "safetensors"),
        (truncate_weights, "model.safetensors is truncated"),
        (truncate_header, "model.safetensors is truncated"),
        (empty_weights, "model.safetensors is truncated"),
        (drop_a_tensor, r"do not fit its config.json: model\.norm\.weight is missing"),
        (remove_tokenizer, "no usable tokenizer"),
        (record_another_hash, "damaged"),
    ],
)
def test_damaged_folders(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("kind", ["pad_token", "eos_token"])
def test_tokenizer_without_a_needed_token(folder: Path, kind: str) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config[kind]
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=f"has no {kind}"):
        load_model(str(folder))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_pickled_weights_are_never_read(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with pytest.raises(DataError, match="safetensors"):
        load_model(str(folder))
    assert not (tmp_path / "exploded").exists()


def test_unknown_names(tmp_path: Path) -> None:
    for spec in ("tiny-ln", str(tmp_path / "nothing"), "", "a/b/c"):
        with pytest.raises((ConfigError, DataError), match=r"tiny-lm, smollm2-135m|no config.json"):
            load_model(spec)
    with pytest.raises(DataError, match=r"no config.json"):
        load_model(str(tmp_path))


def test_unusable_device() -> None:
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used"):
        load_model("tiny-lm", device="abacus")


def test_hub_id_offline_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        DataError, match=r"^the model nobody/no-such-model is neither .* nor obtainable from the hub"
    ) as e:
        load_model("nobody/no-such-model")
    assert "\n" not in str(e.value)
    assert capfd.readouterr() == ("", "")
