"""An ES step here against the reference way of doing it in process, side by side, and two workers against one.

The reference way: perturb every tensor in place with noise from a generator that is seeded anew for it, decode with
the model's own ``generate``, restore in place by drawing the noise again, then add N members one after another. It
stops where this package stops, at the end token and newlines, so that both decode the same tokens. A second reference
decodes by this package and moves the weights as before: it parts what decoding gains from what the rest does.
Contenders take turns within a round; a ratio is taken within its round. Prompts may be several numbers: 16,64,256.

    python benchmarks/training_step.py [MODEL] [ROUNDS] [TASK] [PROMPTS]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from estheory.measurement.held_out import task_for
from estheory.models.decode import encode_prompts, generate, stop_token_ids
from estheory.models.load import load_model
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import Row
from estheory.training.es import run_es
from estheory.training.executors import LocalExecutor
from estheory.training.member_rewards import Members
from estheory.training.session import start_session
from estheory.training.trajectory import Trajectory


def config(model: str, task: str, prompts: int, workers: int = 1) -> ESRunConfig:
    """Return 30 members (16 of a large model) with accuracy of greedy answers as their reward."""
    population = 30 if model == "tiny-lm" else 16
    return ESRunConfig(
        model=model,
        task=task,
        steps=1,
        prompts=prompts,
        sigma=1e-3,
        alpha=5e-4,
        population=population,
        workers=workers,
    )


def reference_step(settings: ESRunConfig, *, our_decoding: bool) -> Callable[[], None]:
    """Return one step of the reference code's way, on one process, with its decoding or ours."""
    loaded = load_model(settings.model)
    model: Any = loaded.model
    tokenizer, task = loaded.tokenizer, task_for(loaded, settings.task)
    examples = task.examples("train", settings.prompts, 0)
    inputs = tokenizer([example.prompt for example in examples], return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    stop_ids = list(stop_token_ids(tokenizer)) if task.single_line else [tokenizer.eos_token_id]
    encoded = encode_prompts(model, tokenizer, [example.prompt for example in examples])

    def decode() -> list[str]:
        if our_decoding:
            return generate(model, tokenizer, encoded, task.max_new_tokens, single_line=task.single_line)
        rows = model.generate(**inputs, max_new_tokens=task.max_new_tokens, do_sample=False, eos_token_id=stop_ids)
        texts = tokenizer.batch_decode(rows[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.split("\n", 1)[0] for text in texts] if task.single_line else list(texts)

    def move(seed: int, scale: float) -> None:
        for parameter in model.parameters():
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data.add_(scale * noise)

    @torch.inference_mode()
    def step() -> None:
        rewards = []
        for member in range(settings.population):
            move(member, settings.sigma)
            rewards.append(float(np.mean([task.score(e, t) for e, t in zip(examples, decode(), strict=True)])))
            move(member, -settings.sigma)
        for member, weight in enumerate(settings.estimator.shape(np.array(rewards))):
            move(member, settings.alpha / settings.population * weight)

    return step


def our_step(settings: ESRunConfig) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return one step of this package, and what ends its workers."""
    session = start_session(settings, evaluates=False)
    walk = Trajectory(session.parameters, session.base, settings)
    executor = LocalExecutor(settings, Members(session, settings, walk))
    rows: list[Row] = []

    def step() -> None:
        rewards = executor.rewards(rows).values
        row: Row = {"step": len(rows) + 1, "seeds": {"seed": settings.seed, "step": len(rows) + 1}}
        row["coefficients"] = settings.estimator.shape(np.array(rewards)).tolist()
        executor.advance(row)
        rows.append(row)

    return step, executor.close


def compare(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, step in contenders.items():
            started = time.perf_counter()
            step()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def overhead(model: str, task: str, prompts: int, steps: int) -> float:
    """Return the share of a run's step that is not making answers: perturbing, updating, writing."""
    settings = ESRunConfig(
        model=model,
        task=task,
        steps=steps,
        prompts=prompts,
        sigma=1e-3,
        alpha=5e-4,
        evaluation_prompts=1,
        population=30 if model == "tiny-lm" else 16,
    )
    with tempfile.TemporaryDirectory() as folder:
        run_es(settings, Path(folder) / "run")
        lines = (Path(folder) / "run" / "timings.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    return median(1 - (row := json.loads(line))["rewards"] / row["seconds"] for line in lines)


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> str:
    """Return median and quartiles of the ratios within rounds."""
    low, middle, high = np.percentile(np.array(seconds[slow]) / np.array(seconds[fast]), (25, 50, 75))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Print medians over rounds."""
    model = sys.argv[1] if len(sys.argv) > 1 else "tiny-lm"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    task = sys.argv[3] if len(sys.argv) > 3 else "addition" if model == "tiny-lm" else "sums"
    torch.set_num_threads(1)
    usual = "16,64,256" if model == "tiny-lm" else "32"
    sizes = [int(size) for size in (sys.argv[4] if len(sys.argv) > 4 else usual).split(",")]
    for prompts in sizes:
        ours, close = our_step(config(model, task, prompts))
        contenders = {
            "reference": reference_step(config(model, task, prompts), our_decoding=False),
            "reference with our decoding": reference_step(config(model, task, prompts), our_decoding=True),
            "ours": ours,
        }
        closers = [close]
        contenders["two workers"], close = our_step(config(model, task, prompts, workers=2))
        closers.append(close)
        seconds = compare(contenders, rounds)
        for close in closers:
            close()
        shown = ", ".join(f"{name} {median(values):.3f} s" for name, values in seconds.items())
        line = f"{model}, {task}, {prompts} prompts: {shown}; "
        line += f"{ratio(seconds, 'reference', 'ours')} times as fast as the reference, "
        line += f"{ratio(seconds, 'reference with our decoding', 'ours')} times with our decoding"
        line += f"; two workers {ratio(seconds, 'reference with our decoding', 'two workers')} times as fast as that, "
        line += f"{ratio(seconds, 'ours', 'two workers')} times one"
        print(line + f"; overhead beyond rewards {overhead(model, task, prompts, rounds + 1):.1%}", flush=True)


if __name__ == "__main__":
    main()
