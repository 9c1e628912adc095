"""Run directories as other people's code writes them, with every documented key, around walks made here.

Weights are written by torch, safetensors and transformers themselves; noise is shared by tensors of equal element
count, as that code's is.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, TrainerState

ALPHA, SIGMA, POPULATION = 5e-4, 1e-3, 8
PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
TASKS = (("countdown", 6), ("math", 9))


def base_model(dtype=torch.float32):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=101,
        hidden_size=48,
        intermediate_size=112,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).to(dtype)


def fused(model):
    """The model's tensors under vLLM's names, without the tied head."""
    result = {}
    for name, tensor in model.state_dict().items():
        whole = next((whole for whole, parts in PARTS.items() if any(part in name for part in parts)), None)
        if name == "lm_head.weight":
            continue
        if whole is None:
            result[name] = tensor.clone()
            continue
        target = name.replace(next(part for part in PARTS[whole] if part in name), whole)
        result[target] = torch.cat([result[target], tensor]) if target in result else tensor.clone()
    return result


class Walk:
    """An ES walk of a state dict: z-scored random rewards, noise seeded anew for every element count."""

    def __init__(self, state, seed=0):
        self.start = {name: tensor.double() for name, tensor in state.items()}
        self.state = {name: tensor.double() for name, tensor in state.items()}
        self.dtype = next(iter(state.values())).dtype
        self.rng = np.random.default_rng(seed)

    def step(self, *, alpha=ALPHA, population=POPULATION, stalled=False, kappa=0.0, mirrored=False):
        rewards = np.full(population, 0.5) if stalled else self.rng.normal(0.5, 0.1, population)
        z = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        if mirrored:
            z = z[: population // 2] - z[population // 2 :]
        seeds = self.rng.integers(0, 2**30, len(z))
        for count in {tensor.numel() for tensor in self.state.values()}:
            draws = (np.random.default_rng([seed, count]).standard_normal(count) for seed in seeds)
            noise = sum(coefficient * draw for coefficient, draw in zip(z, draws, strict=True))
            move = torch.from_numpy(alpha / population * noise)
            for name, tensor in self.state.items():
                if tensor.numel() == count:
                    delta = tensor - self.start[name] + move.reshape(tensor.shape)
                    self.state[name] = self.start[name] + (1 - kappa) * delta
        return rewards, z, seeds

    def saved(self):
        return {name: tensor.to(self.dtype) for name, tensor in self.state.items()}


def write_json(path: Path, content):
    path.write_text(json.dumps(content, indent=2))


def esvsgrpo_es(folder: Path, *, dtype=torch.float32, stalled=(), seed=0):
    """experiment_ES_baseline_TIME of ESvsGRPO."""
    folder.mkdir()
    model = base_model(dtype)
    model.save_pretrained(folder / "baseline")
    tasks = [
        {
            **{"name": name, "type": name, "train_size": 200, "test_size": 2000, "batch_size": 200},
            **{"num_iterations": steps, "sigma": SIGMA, "alpha": ALPHA * (1 + index), "population_size": POPULATION},
            "max_new_tokens": 1024,
        }
        for index, (name, steps) in enumerate(TASKS)
    ]
    config = {
        **{"experiment_name": "sequential", "num_cycles": 1, "cuda_devices": "0,1,2,3", "seed": 42, "tasks": tasks},
        "model": {"name": "Qwen/Qwen3-4B-Instruct-2507", "max_new_tokens": 1024},
        "gpu_memory_utilization": 0.9,
        "kl_tracking": {"enabled": True},
        "es_hyperparameters": {"sigma": SIGMA, "alpha": 1.0, "population_size": 99, "num_engines": 3},
        "debug": {"print_every_n_steps": 20, "num_samples_to_print": 4},
    }
    write_json(folder / "config.json", config)
    walk, step, rows = Walk(fused(model), seed), 0, []
    evaluation = {"type": "eval", "eval_type": "test", "task": "math", "cycle": -1, "current_task": "baseline"}
    rows.append({**evaluation, "global_step": 0, "reward": 0.1})
    for index, (name, steps) in enumerate(TASKS):
        for local in range(1, steps + 1):
            step += 1
            rewards, _, _ = walk.step(alpha=ALPHA * (1 + index), stalled=step in stalled)
            rows.append(
                {
                    **{"type": "train", "global_step": step, "forward_passes": 1600 * step, "cycle": 0, "task": name},
                    **{"local_iter": local, "fitness_mean": rewards.mean(), "fitness_std": rewards.std()},
                    **{"fitness_max": rewards.max(), "fitness_min": rewards.min(), "reward": rewards.mean()},
                    **{"batch_size": 200, "epoch": local, "iter_time": 1.0},
                    **{"kl_mean": 0.01, "kl_std": 0.02, "kl_max": 0.1, "kl_min": 0.0},
                }
            )
        rows.append({**evaluation, "global_step": step, "cycle": 0, "current_task": name, "reward": 0.2})
        end = folder / f"c0_t{index}_{name}"
        end.mkdir()
        torch.save(walk.saved(), end / "pytorch_model.bin")
        model.config.save_pretrained(end)
        metadata = {"cycle": 0, "task_idx": index, "task_name": name, "forward_passes": 1, "timestamp": "2026-01-01"}
        write_json(end / "metadata.json", metadata)
    (folder / "metrics_baseline.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return walk


def adamw(model, lr, steps, seed=0):
    """AdamW on dense gradient noise with linear decay; yields each step's learning rate."""
    generator = torch.Generator().manual_seed(seed)
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, eps=1e-30)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: 1 - t / steps)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        rate = schedule.get_last_lr()[0]
        optimiser.step()
        schedule.step()
        yield rate


def esvsgrpo_grpo(folder: Path, *, lr=1e-4):
    """experiment_GRPO_vllm_TIME of ESvsGRPO: unfused names, one optimiser a task."""
    folder.mkdir()
    model = base_model()
    model.save_pretrained(folder / "baseline")
    tasks = [{"name": name, "lr": lr, "scheduler_type": "linear", "K": 8} for name, _ in TASKS]
    write_json(folder / "config.json", {"num_cycles": 1, "tasks": tasks, "optimizer": {"type": "adamw", "lr": 1e-5}})
    rows = [{"type": "eval", "task": "math", "reward": 0.1}]
    for index, (name, steps) in enumerate(TASKS):
        for step, rate in enumerate(adamw(model, lr, 8 * steps, seed=index)):
            rows.append(
                {
                    **{"type": "train", "cycle": 0, "task": name, "step": step, "forward_passes": 168, "lr": rate},
                    **{"total_forward_passes": 168, "progress_pct": 1.0, "loss": 0.1, "grpo_loss": 0.1, "kl_loss": 0},
                    **{"reward": 0.4, "advantage_mean": 0.0, "advantage_std": 0.9, "grad_norm": 0.3, "epoch": 1},
                    "step_time": 1.0,
                }
            )
        model.save_pretrained(folder / f"c0_t{index}_{name}")
        write_json(folder / f"c0_t{index}_{name}/metadata.json", {"cycle": 0, "task_idx": index, "task_name": name})
    (folder / "metrics_grpo_baseline.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def es_awd(folder: Path, *, steps=12, decay="l2", strength=40.0, mirrored=False, precision="float32", stalled=()):
    """A run of es-awd, its weight_change.jsonl taken from state dicts that list the tied embedding twice."""
    folder.mkdir()
    (folder / "iteration_updates").mkdir()
    model = base_model()
    arguments = {
        **{"model_name": "Qwen/Qwen2.5-3B-Instruct", "task": "countdown", "sigma": SIGMA, "alpha": ALPHA},
        **{"population_size": POPULATION, "mirror_sampling": mirrored, "num_engines": 4, "num_iterations": steps},
        **{"experiment_dir": "es-ft", "run_name": None, "cuda_devices": "0", "caching": False, "verbose": False},
        **{"global_seed": 42, "precision": precision, "weight_decay_type": decay, "weight_decay_lambda": strength},
        **{"eval_interval": 4, "eval_batch_size": 512, "wandb_project": "p", "wandb_entity": None},
        "wandb_mode": "disabled",
    }
    write_json(folder / "args.json", arguments)
    walk, rows = Walk(model.state_dict()), []
    kappa = ALPHA * strength if decay == "l2" else 0.0
    for step in range(steps + 1):
        if step:
            _, z, seeds = walk.step(kappa=kappa, mirrored=mirrored, stalled=step in stalled)
            update = {"iteration": step, "seeds": seeds.tolist(), "update_coefficients": z.tolist()}
            write_json(folder / f"iteration_updates/iteration_{step:06d}.json", update)
        if step % 4 == 0:
            squares = {name: float((walk.state[name] - walk.start[name]).square().sum()) for name in walk.state}
            count = sum(tensor.numel() for tensor in walk.state.values())
            rows.append(
                {
                    **{"step": step, "elapsed": 1.0, "num_original_tensors": len(squares), "missing_keys": 0},
                    **{"num_updated_tensors": len(squares), "compared_tensors": len(squares), "unexpected_keys": 0},
                    **{"total_elements_compared": count, "shape_mismatches": 0, "dtype_mismatches": 0},
                    **{"frobenius_norm": sum(squares.values()) ** 0.5, "original_frobenius_norm": 10.0},
                    **{"updated_frobenius_norm": 10.0, "relative_frobenius_norm": 0.1, "weight_layer_names": ["0"]},
                    **{"weight_layer_frobenius_norm": {"0": 0.1}, "mean_abs_diff": 1e-4, "max_abs_diff": 1e-3},
                    **{"max_abs_diff_key": "x", "max_tensor_frobenius_norm": 0.1, "is_comparable": True},
                    "max_tensor_frobenius_norm_key": "x",
                }
            )
    (folder / "weight_change.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    saved = walk.saved()
    saved["lm_head.weight"] = saved["model.embed_tokens.weight"]  # tied, as a state dict is
    torch.save(saved, folder / "final_model_weights.pt")
    return walk


def es_at_scale(folder: Path, *, steps=15, stalled=()):
    """countdown_nccl_TIME of es-at-scale: TensorBoard scalars and the final weights."""
    from torch.utils.tensorboard import SummaryWriter

    folder.mkdir()
    model = base_model()
    model.save_pretrained(folder / "model_saves/base_model")
    walk = Walk(fused(model))
    with SummaryWriter(folder) as writer:
        for step in range(steps):
            rewards, _, _ = walk.step(stalled=step + 1 in stalled)
            for name in ("mean", "std", "min", "max"):
                writer.add_scalar(f"reward/{name}", getattr(rewards, name)(), step)
            writer.add_scalar("time/iteration", 1.0, step)
    end = folder / f"model_saves/final_model_iteration_{steps}"
    end.mkdir()
    torch.save(walk.saved(), end / "pytorch_model.pth")
    return walk


def trl(folder: Path, *, steps=60, every=5, lr=1e-4):
    """The output folder of a TRL (transformers) trainer, its state written by transformers."""
    folder.mkdir()
    model = base_model()
    model.save_pretrained(folder.parent / "base")
    history = []
    for step, rate in enumerate(adamw(model, lr, steps), start=1):
        if step % every == 0:
            history.append({"epoch": 0.1, "grad_norm": 0.3, "learning_rate": rate, "loss": 0.1, "step": step})
        if step in (steps // 2, steps):
            checkpoint = folder / f"checkpoint-{step}"
            model.save_pretrained(checkpoint)
            state = TrainerState(global_step=step, max_steps=steps, log_history=list(history))
            state.save_to_json(str(checkpoint / "trainer_state.json"))
