"""Real files to damage: a run of each method, foreign runs, checkpoints, made once a session by the code itself."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from estheory.cli.app import main


@pytest.fixture(scope="session")
def es_run(tmp_path_factory):
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("damage") / "es"
    sizes = ["--steps", "4", "--population", "4", "--prompts", "8", "--evaluation-prompts", "8"]
    said = ["--quiet", "--output", str(out.parent / "said")]
    assert main(["run", "es", *sizes, "--checkpoint-every", "2", "--out", str(out), *said]) == 0
    return out


@pytest.fixture(scope="session")
def grpo_like(es_run, tmp_path_factory):
    """The records of a GRPO run: what validate reads of them, without training one."""
    out = tmp_path_factory.mktemp("damage") / "grpo"
    (out / "checkpoints").mkdir(parents=True)
    from estheory.runs.config import GRPORunConfig

    (out / "config.toml").write_text(GRPORunConfig(model="tiny-lm", task="addition", steps=4, lr=1e-4).to_toml())
    (out / "environment.json").write_bytes((es_run / "environment.json").read_bytes())
    rows = [{"step": t, "norm": 0.02 * t, "reward_mean": 0.1, "lr": 1e-4} for t in range(1, 5)]
    (out / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    last = "checkpoints/step_000004.safetensors"
    (out / last).write_bytes((es_run / last).read_bytes())
    return out


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    from tests.validation import foreign_runs as make

    folder = tmp_path_factory.mktemp("foreign")
    make.esvsgrpo_es(folder / "esvsgrpo", stalled=(3,))
    make.esvsgrpo_grpo(folder / "grpo")
    make.es_awd(folder / "awd")
    make.trl(folder / "trl")
    make.es_at_scale(folder / "static", version="static")
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Small checkpoints of one model: two safetensors files, a sharded folder, a torch file, an adapter."""
    torch = pytest.importorskip("torch")
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("weights")
    rng = np.random.default_rng(0)
    names = {
        "model.embed_tokens.weight": (5, 4),
        "model.layers.0.mlp.up_proj.weight": (6, 4),
        "model.norm.weight": (4,),
    }
    base = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in names.items()}
    tuned = {name: tensor + np.float32(0.01) for name, tensor in base.items()}
    save_file(base, folder / "base.safetensors")
    save_file(tuned, folder / "tuned.safetensors")
    torch.save({name: torch.from_numpy(tensor) for name, tensor in tuned.items()}, folder / "tuned.pt")
    sharded = folder / "sharded"
    sharded.mkdir()
    shards = {name: f"model-0000{k % 2 + 1}-of-00002.safetensors" for k, name in enumerate(names)}
    for shard in set(shards.values()):
        save_file({name: tuned[name] for name in names if shards[name] == shard}, sharded / shard)
    index = {"metadata": {"total_size": 192}, "weight_map": shards}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    (sharded / "config.json").write_text(json.dumps({"tie_word_embeddings": True, "text_config": {"a": 1}}))
    adapter = folder / "adapter"
    adapter.mkdir()
    stem = "base_model.model.model.layers.0.mlp.up_proj"
    factors = {f"{stem}.lora_A.weight": (2, 4), f"{stem}.lora_B.weight": (6, 2)}
    save_file(
        {n: rng.standard_normal(s).astype(np.float32) for n, s in factors.items()},
        adapter / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "alpha_pattern": {"up_proj": 3}, "use_rslora": False}
    settings |= {"fan_in_fan_out": False, "use_dora": False}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    return SimpleNamespace(folder=folder, base=folder / "base.safetensors", tuned=folder / "tuned.safetensors")
