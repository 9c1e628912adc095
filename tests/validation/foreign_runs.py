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
SIZE = {"vocab_size": 101, "hidden_size": 48, "intermediate_size": 112}
PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
TASKS = (("countdown", 6), ("math", 9))


def base_model(dtype=torch.float32):
    torch.manual_seed(0)
    config = Qwen2Config(
        **SIZE,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config)
    for name, parameter in model.named_parameters():  # norms of 1 would be a hundred times their share in a large model
        if "norm" in name:
            parameter.data.normal_(0, 0.02)
    return model.to(dtype)


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

    def draw(self, population, stalled=False, mirrored=False):
        """Return rewards, coefficients and seeds of one step."""
        rewards = np.full(population, 0.5) if stalled else self.rng.normal(0.5, 0.1, population)
        z = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        if mirrored:
            z = z[: population // 2] - z[population // 2 :]
        return rewards, z, self.rng.integers(0, 2**30, len(z))

    def step(self, *, alpha=ALPHA, population=POPULATION, stalled=False, kappa=0.0, mirrored=False):
        rewards, z, seeds = self.draw(population, stalled, mirrored)
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


def noise_of(tensor, seed):
    """One member's noise for a tensor, as on a GPU: a CPU's generator would begin alike for every element count."""
    state = np.random.SeedSequence([int(seed), tensor.numel()]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    return torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator)


class RoundedWalk(Walk):
    """The same in the storage format of the weights, with the operations of the code that it is named for.

    ``sequential``: ESvsGRPO and the first es-at-scale. ``accumulated``: the later es-at-scale. ``awd``: es-awd. The
    first of ``engines`` engines serves every ``engines``-th member, and takes the update.
    """

    def __init__(self, state, code, *, sigma=SIGMA, engines=1, seed=0):
        super().__init__(state, seed)
        self.start = {name: tensor.clone() for name, tensor in state.items()}
        self.state = {name: tensor.clone() for name, tensor in state.items()}
        self.code, self.sigma, self.engines = code, sigma, engines

    def add(self, weights, noise, scale):
        if self.code == "awd":  # add_(noise, alpha=scale) on a GPU: in float32, rounded once (a CPU rounds alpha too)
            weights.copy_(weights.float() + noise.float() * np.float32(scale))
        else:
            weights.add_(scale * noise)

    def step(self, *, alpha=ALPHA, population=POPULATION, stalled=False, kappa=0.0, pull=0.0, mirrored=False):
        rewards, z, seeds = self.draw(population, stalled, mirrored)
        for name, weights in self.state.items():
            noise = [noise_of(weights, seed) for seed in seeds]
            for sign in (1, -1)[: 1 + mirrored]:
                for eps in noise[:: self.engines]:
                    self.add(weights, eps, sign * self.sigma)
                    self.add(weights, eps, -sign * self.sigma)
            if self.code == "sequential":
                for eps, coefficient in zip(noise, z, strict=True):
                    weights.add_(float(alpha / population * coefficient) * eps)
                continue
            total = torch.zeros_like(weights, dtype=torch.float32 if self.code == "accumulated" else None)
            for eps, coefficient in zip(noise, z, strict=True):
                if self.code == "accumulated":
                    total.add_(eps.float() * float(coefficient))
                else:
                    self.add(total, eps, coefficient)
            if self.code == "accumulated":
                weights.add_(total.mul_(alpha / population).to(weights.dtype))
            else:
                self.add(weights, total, alpha / population)
            if kappa:
                weights.sub_(self.start[name])
                weights.mul_(1 - kappa)
                weights.add_(self.start[name])
            if pull:
                weights.sub_(self.start[name])
                shorter = (torch.abs(weights).float() - np.float32(pull)).to(weights.dtype)  # as on a GPU
                weights.copy_(torch.sign(weights) * torch.clamp(shorter, min=0.0))
                weights.add_(self.start[name])
        return rewards, z, seeds

    def saved(self):
        return {name: tensor.clone() for name, tensor in self.state.items()}


def write_json(path: Path, content):
    path.write_text(json.dumps(content, indent=2))


def write_lines(path: Path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def esvsgrpo_es(folder: Path, *, dtype=torch.float32, stalled=(), seed=0, alpha=ALPHA, engines=2, code="sequential"):
    """experiment_ES_baseline_TIME of ESvsGRPO; in 16 bits its own operations round."""
    folder.mkdir()
    model = base_model(dtype)
    model.save_pretrained(folder / "baseline")
    base_metadata = {"cycle": -1, "task_idx": -1, "task_name": "baseline", "forward_passes": 0}
    write_json(folder / "baseline/metadata.json", base_metadata | {"timestamp": "2026-01-01"})
    tasks = [
        {
            **{"name": name, "type": name, "train_size": 200, "test_size": 2000, "batch_size": 200},
            **{"num_iterations": steps, "sigma": SIGMA, "alpha": alpha * (1 + index), "population_size": POPULATION},
            **{"stratify_by_level": True, "max_new_tokens": 1024},
        }
        for index, (name, steps) in enumerate(TASKS)
    ]
    config = {
        **{"experiment_name": "sequential", "num_cycles": 1, "cuda_devices": "0,1,2,3", "seed": 42, "tasks": tasks},
        "model": {"name": "Qwen/Qwen3-4B-Instruct-2507", "max_new_tokens": 1024},
        "gpu_memory_utilization": 0.9,
        "kl_tracking": {"enabled": True},
        "es_hyperparameters": {"sigma": SIGMA, "alpha": 1.0, "population_size": 99, "num_engines": engines},
        "debug": {"print_every_n_steps": 20, "num_samples_to_print": 4},
    }
    write_json(folder / "config.json", config)
    exact = dtype is torch.float32
    walk = Walk(fused(model), seed) if exact else RoundedWalk(fused(model), code, engines=engines, seed=seed)
    step, rows = 0, []
    evaluations = [{"type": "eval", "eval_type": kind, "task": name} for kind in ("train", "test") for name, _ in TASKS]
    rows.extend({**e, "global_step": 0, "cycle": -1, "current_task": "baseline", "reward": 0.1} for e in evaluations)
    for index, (name, steps) in enumerate(TASKS):
        for local in range(1, steps + 1):
            step += 1
            rewards, _, _ = walk.step(alpha=alpha * (1 + index), stalled=step in stalled)
            rows.append(
                {
                    **{"type": "train", "global_step": step, "forward_passes": 1600 * step, "cycle": 0, "task": name},
                    **{"local_iter": local, "fitness_mean": rewards.mean(), "fitness_std": rewards.std()},
                    **{"fitness_max": rewards.max(), "fitness_min": rewards.min(), "reward": rewards.mean()},
                    **{"batch_size": 200, "epoch": local, "iter_time": 1.0},
                    **{"kl_mean": 0.01, "kl_std": 0.02, "kl_max": 0.1, "kl_min": 0.0},
                }
            )
        now = {"global_step": step, "forward_passes": 1600 * step, "cycle": 0, "current_task": name, "reward": 0.2}
        rows.extend({**e, **now} for e in evaluations)
        end = folder / f"c0_t{index}_{name}"
        end.mkdir()
        torch.save(walk.saved(), end / "pytorch_model.bin")
        model.config.save_pretrained(end)
        metadata = {"cycle": 0, "task_idx": index, "task_name": name, "forward_passes": 1, "timestamp": "2026-01-01"}
        write_json(end / "metadata.json", metadata)
    write_lines(folder / "metrics_baseline.jsonl", rows)
    samples = [{"index": 0, "reward": 0.5, "prompt": "p", "response": "r"}]
    write_lines(
        folder / "debug_samples.jsonl", [{"cycle": 0, "task": "math", "iteration": 1, "seed": 1, "samples": samples}]
    )
    for name in ("train", "test"):
        write_json(folder / f"{name}_performance_matrix.json", {"countdown": [0.1, 0.2], "math": [0.1, 0.2]})
    (folder / "log.txt").write_text("[C0/math] Iter 1 | Batch: 200 | Fitness: 0.5000 | Reward: 0.500 | KL: 0.0100\n")
    final = folder / "model_saves/final_model"
    final.mkdir(parents=True)
    torch.save(walk.saved(), final / "pytorch_model.bin")
    return walk


def new_adamw(model, lr):
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, eps=1e-30)


def adamw(model, optimiser, schedule, steps, seed=0):
    """Step on dense gradient noise; yields the learning rate that each step used."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        rate = schedule.get_last_lr()[0]
        optimiser.step()
        schedule.step()
        yield rate


def esvsgrpo_grpo(folder: Path, *, lr=1e-4, dtype=torch.float32):
    """experiment_GRPO_vllm_TIME of ESvsGRPO: unfused names; one optimiser goes on from task to task."""
    from transformers import get_linear_schedule_with_warmup

    folder.mkdir()
    model = base_model(dtype)
    model.save_pretrained(folder / "baseline")
    hyper = {"K": 8, "use_dr_grpo": False, "ppo_clip_range": 0.2, "kl_coef": 0.0}
    micro = {"train_micro_batch_size": 2, "infer_micro_batch_size": 2}
    tasks = [
        {
            **{"name": name, "type": name, "train_size": 200, "test_size": 2000, "batch_size": 21, **hyper, **micro},
            **{"total_forward_passes": 40000, "max_new_tokens": 1024, "lr": lr * (1 + index)},
            **{"scheduler_type": "linear", "warmup_ratio": 0.0},
        }
        for index, (name, _) in enumerate(TASKS)
    ]
    config = {
        **{"experiment_name": "sequential", "num_cycles": 1, "seed": 42, "tasks": tasks},
        "model": {"name": "Qwen/Qwen3-4B-Instruct-2507", "max_new_tokens": 1024},
        "vllm": {"host": "localhost", "port": 8000, "group_port": 51216, "connection_timeout": 120.0},
        "cuda_devices": {"train": "0,1,2", "rollout": "3"},
        "grpo_hyperparameters": {**hyper, **micro, "track_kl": True, "grad_accum_steps": 1},
        "optimizer": {"type": "adamw", "lr": lr, "weight_decay": 0.0, "max_grad_norm": 1.0},
        "scheduler": {"type": "linear", "warmup_ratio": 0.0},
        "evaluation": {"eval_batch_size": 64},
        "debug": {"print_every_n_steps": 1, "num_samples_to_print": 8},
    }
    write_json(folder / "config.json", config)
    rows, optimiser = [], new_adamw(model, lr)
    for index, (name, steps) in enumerate(TASKS):
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] = lr * (1 + index)
        schedule = get_linear_schedule_with_warmup(optimiser, 0, 8 * steps)
        for step, _ in enumerate(adamw(model, optimiser, schedule, 8 * steps, seed=index)):
            rows.append(
                {
                    **{"type": "train", "cycle": 0, "task": name, "step": step, "forward_passes": 168 * (step + 1)},
                    **{"total_forward_passes": 168, "progress_pct": 1.0, "loss": 0.1, "grpo_loss": 0.1, "kl_loss": 0},
                    **{"reward": 0.4, "advantage_mean": 0.0, "advantage_std": 0.9, "grad_norm": 0.3, "epoch": 1},
                    **{"step_time": 1.0, "lr": schedule.get_last_lr()[0]},  # after the schedule went on
                }
            )
        model.save_pretrained(folder / f"c0_t{index}_{name}")
        metadata = {"cycle": 0, "task_idx": index, "task_name": name, "forward_passes": 1, "timestamp": "2026-01-01"}
        write_json(folder / f"c0_t{index}_{name}/metadata.json", metadata)
    write_lines(folder / "metrics_grpo_baseline.jsonl", rows)


def awd_layer(name):
    """The layer that es-awd's scripts count a tensor in."""
    if "embed_tokens" in name:
        return "embedding"
    return f"layer_{name.split('.')[2]}" if ".layers." in name else "lm_head" if "lm_head" in name else None


def weight_change(step, start, state):
    """One line of weight_change.jsonl, as evaluate_weight_change.py computes it from two state dicts."""
    squares = {name: float((state[name].double() - start[name].double()).square().sum()) for name in start}
    layers = {}
    for name, square in squares.items():
        if layer := awd_layer(name):
            layers[layer] = layers.get(layer, 0.0) + square
    return {
        **{"step": step, "elapsed": 1.0, "num_original_tensors": len(squares), "num_updated_tensors": len(squares)},
        **{"compared_tensors": len(squares), "total_elements_compared": sum(t.numel() for t in start.values())},
        **{"missing_keys": 0, "unexpected_keys": 0, "shape_mismatches": 0, "dtype_mismatches": 0},
        **{"frobenius_norm": sum(squares.values()) ** 0.5, "original_frobenius_norm": 10.0},
        **{"updated_frobenius_norm": 10.0, "relative_frobenius_norm": 0.1, "weight_layer_names": sorted(layers)},
        **{"weight_layer_frobenius_norm": {layer: square**0.5 for layer, square in layers.items()}},
        **{"mean_abs_diff": 1e-4, "max_abs_diff": 1e-3, "max_abs_diff_key": "x", "max_tensor_frobenius_norm": 0.1},
        **{"max_tensor_frobenius_norm_key": "x", "is_comparable": True},
    }


def awd_evaluations(folder: Path):
    """What evaluate_forgetting.py and evaluate_kl_divergence.py write."""
    tokens = {"num_generated_tokens": 9, "avg_generated_tokens": 9.0, "std_generated_tokens": 0.0}
    tokens |= {
        "min_generated_tokens": 9,
        "max_generated_tokens": 9,
        "elapsed": 1.0,
        "reference_generation_elapsed": 1.0,
    }
    averaged = {f"prompt_averaged_kl_{name}": 0.04 for name in ("divergence", "std", "min", "max")}
    scores = {f"{name}_reward": 0.5 for name in ("avg", "std", "min", "max")}
    for step in (0, 12):
        row = {"step": step, "num_examples": 100}
        kl = {**row, "kl_estimator": "mc_sampled_log_ratio", **averaged, "token_weighted_kl_divergence": 0.04, **tokens}
        accuracy = {**row, **scores, "avg_format": 0.5, "avg_answer": 0.5, "accuracy": 36.0, "avg_output_tokens": 9.0}
        with (folder / "hellaswag_kl.jsonl").open("a") as file:
            file.write(json.dumps(kl) + "\n")
        with (folder / "hellaswag.jsonl").open("a") as file:
            file.write(json.dumps({**accuracy, "std_output_tokens": 1.0, "elapsed": 1.0}) + "\n")


def es_awd(
    folder: Path,
    *,
    steps=12,
    decay="l2",
    strength=40.0,
    mirrored=False,
    dtype=torch.float32,
    stalled=(),
    alpha=ALPHA,
    code="awd",
    engines=2,
    seed=0,
):
    """A run of es-awd: vLLM's names, its tied embedding listed twice; in 16 bits its own operations round."""
    folder.mkdir()
    (folder / "iteration_updates").mkdir()
    arguments = {
        **{"model_name": "Qwen/Qwen2.5-3B-Instruct", "task": "countdown", "sigma": SIGMA, "alpha": alpha},
        **{"population_size": POPULATION, "mirror_sampling": mirrored, "num_engines": engines, "num_iterations": steps},
        **{"experiment_dir": "es-ft", "run_name": None, "cuda_devices": "0", "caching": False, "verbose": False},
        **{"global_seed": 42, "precision": str(dtype).removeprefix("torch."), "weight_decay_type": decay},
        **{"weight_decay_lambda": strength, "eval_interval": 4, "eval_batch_size": 512, "wandb_project": "p"},
        **{"wandb_entity": None, "wandb_mode": "disabled"},
    }
    write_json(folder / "args.json", arguments)
    state = fused(base_model(dtype))
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    exact = dtype is torch.float32
    walk, rows = Walk(state, seed) if exact else RoundedWalk(state, code, engines=engines, seed=seed), []
    anchors = {"l2": {"kappa": alpha * strength}, "l1": {} if exact else {"pull": alpha * strength}}
    anchor = anchors.get(decay, {})
    for step in range(steps + 1):
        if step:
            _, z, seeds = walk.step(alpha=alpha, mirrored=mirrored, stalled=step in stalled, **anchor)
            update = {"iteration": step, "seeds": seeds.tolist(), "update_coefficients": z.tolist()}
            write_json(folder / f"iteration_updates/iteration_{step:06d}.json", update)
        if step % 4 == 0:
            rows.append(weight_change(step, walk.start, walk.state))
    write_lines(folder / "weight_change.jsonl", rows)
    awd_evaluations(folder)
    saved = walk.saved()
    saved["lm_head.weight"] = saved["model.embed_tokens.weight"]  # tied, as a state dict is
    torch.save(saved, folder / "final_model_weights.pt")
    return walk


def es_at_scale(
    folder: Path, *, version="robin", steps=15, stalled=(), dtype=torch.float32, alpha=ALPHA, engines=2, seed=0
):
    """A run of es-at-scale: round robin ("robin"), static, or by the trainer of its package."""
    folder.mkdir()
    model = base_model(dtype)
    if version == "robin":
        model.save_pretrained(folder / "model_saves/base_model")
    code = "sequential" if version == "robin" else "accumulated"
    exact = dtype is torch.float32
    walk = Walk(fused(model), seed) if exact else RoundedWalk(fused(model), code, engines=engines, seed=seed)
    spreads = []
    for step in range(steps + (version == "package")):  # its trainer makes one step more than it names
        spreads.append(walk.step(alpha=alpha, stalled=step + 1 in stalled)[0])
    if version == "package":
        (folder / "checkpoints").mkdir()
        (folder / "eval-output").mkdir()
        write_json(folder / "eval-output/model_eval_taskcountdown_iteration1.json", [{"prompt": "p", "reward": 0.5}])
        end = folder / f"checkpoint-es_fine_tuned_iteration_{steps}"
    else:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(folder) as writer:
            for step, rewards in enumerate(spreads):
                for name in ("mean", "std", "min", "max"):
                    writer.add_scalar(f"reward/{name}", getattr(rewards, name)(), step)
                for name in ("iteration", "broadcast", "perturbation_application"):
                    writer.add_scalar(f"time/{name}", 1.0, step)
        end = folder / f"model_saves/final_model_iteration_{steps}"
    if version == "static":
        arguments = {
            **{"model_name": "Qwen/Qwen2.5-3B-Instruct", "sigma": SIGMA, "alpha": alpha},
            **{"population_size": POPULATION, "num_engines": engines, "num_iterations": steps},
            **{"experiment_dir": "es-ft", "cuda_devices": "0", "verbose": False, "global_seed": 42},
            **{"precision": str(dtype).removeprefix("torch."), "eval_data_path": "countdown.json"},
            **{"eval_interval": 25, "eval_batch_size": 512},
        }
        write_json(folder / "args.json", arguments)
    end.mkdir(parents=True)
    torch.save(walk.saved(), end / "pytorch_model.pth")
    return walk


def trl(folder: Path, *, steps=60, every=5, lr=1e-4, dtype=torch.float32):
    """The output folder of a TRL (transformers) trainer, its state written by transformers."""
    folder.mkdir()
    model = base_model(dtype)
    model.save_pretrained(folder.parent / "base")
    history, optimiser = [], new_adamw(model, lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: 1 - t / steps)
    for step, rate in enumerate(adamw(model, optimiser, schedule, steps), start=1):
        if step % every == 0:
            lengths = {f"completions/{name}_length": 9.0 for name in ("mean", "min", "max")}
            extra = {"num_tokens": 9.0, **lengths, "completions/clipped_ratio": 0.0, "frac_reward_zero_std": 0.0}
            extra |= {"rewards/score/mean": 0.5, "rewards/score/std": 0.1, "reward": 0.5, "reward_std": 0.1}
            extra |= {"kl": 0.01, "entropy": 1.0, "clip_ratio/region_mean": 0.0, "step_time": 1.0}
            row = {"epoch": 0.1, "grad_norm": 0.3, "learning_rate": rate, "loss": 0.1, **extra, "step": step}
            history.append(row)
        if step in (steps // 2, steps):
            checkpoint = folder / f"checkpoint-{step}"
            model.save_pretrained(checkpoint)
            state = TrainerState(global_step=step, max_steps=steps, log_history=list(history))
            state.save_to_json(str(checkpoint / "trainer_state.json"))


def verl(folder: Path):
    """Merged checkpoints of a verl run, as es-awd evaluates them."""
    folder.mkdir()
    model = base_model()
    model.save_pretrained(folder.parent / "base")
    (folder / "model.txt").write_text(f"{folder.parent / 'base'}\n")
    optimiser = new_adamw(model, 1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda t: 1.0)
    for part in (1, 2):
        list(adamw(model, optimiser, schedule, 5, seed=part))
        model.save_pretrained(folder / f"qwen_countdown_global_step_{25 * part}")
    awd_evaluations(folder)
