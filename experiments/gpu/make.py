"""What changes on an accelerator: tests, speed, ES and GRPO of SmolLM2 in float32 and bfloat16, the CPU beside it.

    python experiments/gpu/make.py FOLDER [--device cpu] [--model tiny-lm --task addition --sigma 0.015 ...]

writes FOLDER/record.json after every stage, so that a machine that is taken away leaves what was done. Runs that are in
FOLDER go on where they were cut. With the settings below it is made for less than ten minutes of one large GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from estheory.errors import EstheoryError
from estheory.files import write_json
from estheory.measurement.held_out import evaluate, held_out, task_for
from estheory.models.load import load_model
from estheory.models.parameters import FlatParameters
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.read import read_own
from estheory.training.finish import finish_run

TESTS = ("tests/training/test_device.py", "tests/simulation/test_torch_direct.py")
TOLERANCE = 1e-3
"""Largest difference of a logit between two devices in float32; logits are of the order of 10."""

Record = dict[str, Any]


def tests() -> Record:
    """Run the tests that name a device."""
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", *TESTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"exit_code": done.returncode, "summary": done.stdout.strip().splitlines()[-1:]}


def answers(model: str, task: str, device: str) -> Record:
    """Return how far the logits and the answers of one model on the CPU and on a device are apart."""
    found: Record = {"tolerance": TOLERANCE}
    logits = []
    for name in ("cpu", device):
        loaded = load_model(model, device=name)
        prompts = held_out(loaded, task_for(loaded, task), 32)
        parameters = FlatParameters(loaded.model, "all")
        [right, _] = evaluate(loaded, parameters, parameters.vector.clone(), prompts, 32)
        found[f"accuracy, {name}"] = right["value"]
        tokens = torch.tensor([loaded.tokenizer(example.prompt)["input_ids"][:16] for example in prompts.examples[:8]])
        with torch.no_grad():
            logits.append(loaded.model(tokens.to(name)).logits.float().cpu())
    found["largest_logit_difference"] = float((logits[0] - logits[1]).abs().max())
    found["agrees"] = found["largest_logit_difference"] <= TOLERANCE
    return found


def trained(config: ESRunConfig | GRPORunConfig, folder: Path) -> Record:
    """Make a run or go on with it, judge it, and return its verdicts, its ends and its speed."""
    finish_run(config, folder, probed=True)
    command = [sys.executable, "-m", "estheory", "validate", str(folder), "--json", "--quiet"]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = json.loads(judged.stdout)["verdicts"] if judged.stdout else []
    kept = ("quantity", "step", "where", "predicted", "measured", "ratio", "pvalue", "verdict")
    run = read_own(folder)
    seconds = [json.loads(line)["seconds"] for line in (folder / "timings.jsonl").read_text().splitlines()]
    return {
        "config": {name: value for name, value in asdict(config).items() if value not in (math.inf, -math.inf)},
        "accuracy": {f"{step}, {task}": value for (step, task), value in run.evaluated("accuracy").items()},
        "seconds_per_step": sorted(seconds)[len(seconds) // 2],
        "exit_code": judged.returncode,
        "verdicts": [{name: row[name] for name in kept} for row in rows if "tensor:" not in row["where"]],
    }


def main() -> None:
    """Run the stages one after another; a stage that fails is recorded, and the next one begins."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--task", default="sums")
    parser.add_argument("--sigma", type=float, default=2e-3)
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--population", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    common: Record = {"model": given.model, "task": given.task, "steps": given.steps, "device": given.device}
    es = ESRunConfig(sigma=given.sigma, alpha=given.sigma / 2, population=given.population, prompts=32, **common)
    bf16 = ESRunConfig(**{**asdict(es), "dtype": "bfloat16"})
    grpo = GRPORunConfig(lr=given.lr, prompts=16, samples=8, **common)
    record: Record = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if given.device == "cuda" else given.device,
    }
    stages = {
        "tests": tests,
        "answers": lambda: answers(given.model, given.task, given.device),
        "es": lambda: trained(es, folder / "es"),
        "es-bfloat16": lambda: trained(bf16, folder / "es-bfloat16"),
        "grpo": lambda: trained(grpo, folder / "grpo"),
    }
    for name, stage in stages.items():
        began = time.monotonic()
        try:
            record[name] = stage()
        except (EstheoryError, RuntimeError) as error:
            record[name] = {"failed": str(error)}
        record[name]["seconds"] = time.monotonic() - began
        write_json(folder / "record.json", record)
        print(name, f"{record[name]['seconds']:.0f} s", record[name].get("failed", ""), flush=True)


if __name__ == "__main__":
    main()
