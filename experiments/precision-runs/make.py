"""Low-precision ES in torch, in place on real models' weights, against the emulator's prediction, tensor by tensor.

python experiments/precision-runs/make.py        (about ten minutes on one core)

The loop below is written from the reference implementations' operations, apart from the package's emulator.
Coefficients are random z-scores: what rounding does to the walk does not depend on rewards. The emulator sees the
checkpoint and the coefficients, and never the run.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estheory.models.builtin import get_builtin
from estheory.models.checkpoints import open_checkpoint
from estheory.models.magnitudes import magnitude_counts
from estheory.rules import ESConfig
from estheory.simulation.emulator.emulate import emulate
from estheory.simulation.emulator.strata import SampledWeights

HERE = Path(__file__).parent
ENTRIES = 16384
SCHEMES: dict[str, dict[str, Any]] = {
    "bf16 accumulated": {"dtype": "bfloat16"},
    "bf16 sequential": {"dtype": "bfloat16", "update_path": "sequential"},
    "bf16 sequential, 10 restores": {"dtype": "bfloat16", "update_path": "sequential", "restore_pairs": 10},
    "fp16 accumulated, 10 restores": {"dtype": "float16", "restore_pairs": 10},
}
MODELS = {"tiny-lm": 100, "smollm2-135m": 20}
RULES: dict[str, Any] = {"sigma": 1.5e-3, "alpha": 7.5e-4, "population": 30}


def load(model: str) -> tuple[list[str], list[int], torch.Tensor]:
    """Return names and numbers of entries of the tensors, and the weights: of large tensors a random subset."""
    rng = np.random.default_rng(1)
    checkpoint = open_checkpoint(get_builtin(model))
    names, parts = list(checkpoint.tensors), []
    for name in names:
        values = checkpoint.read(name)
        parts.append(values if len(values) <= ENTRIES else rng.choice(values, ENTRIES, replace=False))
    return names, [len(part) for part in parts], torch.from_numpy(np.concatenate(parts))


def coefficients(steps: int) -> np.ndarray:
    z = np.random.default_rng(2).standard_normal((steps, RULES["population"]))
    z -= z.mean(axis=1, keepdims=True)
    return np.asarray(z / z.std(axis=1, keepdims=True))


def torch_run(weights: torch.Tensor, z: np.ndarray, config: ESConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return moved and intended displacement of a run in place."""
    dtype = getattr(torch, config.dtype)
    theta, intended = weights.to(dtype), torch.zeros(len(weights))
    start, n = theta.double(), config.population
    generator = torch.Generator().manual_seed(3)
    for step in z:
        noise = [torch.randn(len(theta), generator=generator).to(dtype) for _ in range(n)]
        for eps in noise[: config.restore_pairs]:
            theta.add_(config.sigma * eps)
            theta.add_(-config.sigma * eps)
        total = torch.zeros(len(theta))
        for eps, factor in zip(noise, config.step_size / n * step, strict=True):
            total.add_(eps.float(), alpha=float(factor))
            if config.update_path == "sequential":
                theta.add_(float(factor) * eps)
        if config.update_path == "accumulated":
            theta.add_(total.to(dtype))
        intended.add_(total)
    return (theta.double() - start).numpy(), intended.double().numpy()


def compare(model: str, steps: int, scheme: str) -> dict[str, Any]:
    names, sizes, weights = load(model)
    config = ESConfig(dim=sum(sizes), steps=steps, **RULES, **SCHEMES[scheme])
    z = coefficients(steps)
    begin = time.perf_counter()
    kept, magnitudes, counts = magnitude_counts(get_builtin(model), config.dtype)
    sampled = SampledWeights(names=kept, magnitudes=magnitudes, counts=counts)
    emulation = emulate(config, sampled, [steps], coefficients=z, seed=4, group_size=65536, max_additions=10**10)
    emulated = time.perf_counter() - begin
    begin = time.perf_counter()
    moved, intended = torch_run(weights, z, config)
    ran = time.perf_counter() - begin
    effects, spreads = emulation.tensor_effects(steps), emulation.tensor_spreads(steps)
    edges = np.cumsum([0, *sizes])
    plain = config.step_size**2 * steps / config.population
    full = open_checkpoint(get_builtin(model)).tensors
    rows: list[dict[str, Any]] = []
    predicted_square = measured_square = total_noise = total_error = predicted_kept = 0.0
    for name, low, high in zip(names, edges, edges[1:], strict=False):
        effect, n = effects[name], int(high - low)
        spread = spreads[name] * math.sqrt(full[name].size / n)
        variance = float(np.mean(moved[low:high] ** 2)) / plain
        frozen = effect.variance == 0.0  # every addition is swallowed: nothing may have moved
        ratio = (1.0 if variance == 0.0 else math.inf) if frozen else math.sqrt(variance / effect.variance)
        error = 0.0 if frozen else 0.5 * math.hypot(spread, effect.variance_stderr / effect.variance)
        kept_share = float(np.mean(moved[low:high] * intended[low:high])) / plain
        rows.append({"tensor": name, "entries": n, "predicted": effect.variance, "measured": variance})
        rows[-1] |= {"norm_ratio": ratio, "stderr": error, "signal": effect.signal, "signal_measured": kept_share}
        predicted_square += n * effect.variance
        predicted_kept += n * effect.signal
        measured_square += n * variance
        total_noise += (n * effect.variance * spread) ** 2
        total_error += n * effect.variance_stderr
    inside = sum(abs(row["norm_ratio"] - 1) <= 2 * row["stderr"] for row in rows)
    return {
        "model": model,
        "scheme": scheme,
        "steps": steps,
        "tensors": len(rows),
        "inside_2_se": inside,
        "predicted_variance": predicted_square / sum(sizes),
        "measured_variance": measured_square / sum(sizes),
        "total_norm_ratio": math.sqrt(measured_square / predicted_square),
        "total_norm_ratio_stderr": 0.5 * math.hypot(math.sqrt(total_noise), total_error) / predicted_square,
        "predicted_signal": predicted_kept / sum(sizes),
        "measured_signal": float(np.mean(moved * intended)) / plain,
        "seconds": {"emulator": round(emulated, 1), "torch": round(ran, 1)},
        "rows": [{k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows],
    }


def main(chosen: list[str]) -> None:
    torch.set_num_threads(1)
    record = HERE / "record.json"
    results = json.loads(record.read_text(encoding="utf-8")) if record.exists() and chosen else []
    for model in chosen or MODELS:
        for scheme in SCHEMES:
            result = compare(model, MODELS[model], scheme)
            results = [r for r in results if (r["model"], r["scheme"]) != (model, scheme)] + [result]
            print({k: v for k, v in result.items() if k != "rows"}, flush=True)
            record.write_text("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
