"""Fine-tuning in 16 bits with real rewards, against what was predicted of it: norm, tensors, projection and accuracy.

    python experiments/precision-finetuning/make.py WORK_FOLDER

writes record.json and the tables of README.md beside this file; finished runs in WORK_FOLDER are taken as they are.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from estheory.files import write_json
from estheory.models.builtin import get_builtin
from estheory.models.magnitudes import magnitude_counts
from estheory.quantities import Quantity
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.directory import RunDirectory
from estheory.simulation.emulator.emulate import emulate
from estheory.simulation.emulator.strata import SampledWeights
from estheory.training.finish import finish_run
from estheory.training.session import start_session
from estheory.training.trajectory import Trajectory
from estheory.validation.judge import judge
from estheory.validation.own_runs import recorded_pairs

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
SCHEMES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16 accumulated": {"dtype": "bfloat16"},
    "bf16 sequential, 10 restores": {"dtype": "bfloat16", "update_path": "sequential", "restore_pairs": 10},
    "fp16 accumulated, 10 restores": {"dtype": "float16", "restore_pairs": 10},
}
TINY = ESRunConfig(model="tiny-lm", task="addition", steps=60, sigma=0.015, alpha=0.0075, population=30, prompts=64)
SMOLLM2 = replace(
    TINY,
    model="smollm2-135m",
    steps=3,
    sigma=1.5e-3,
    alpha=7.5e-4,
    population=10,
    prompts=2,
    reward="logprob",
    evaluation_prompts=2,
)
GRPO = GRPORunConfig(model="tiny-lm", task="addition", steps=100, lr=1e-4)
SEEDS = (0, 1, 2)


def configs() -> Iterator[tuple[str, str, ESRunConfig | GRPORunConfig]]:
    """Yield scheme, folder and configuration of every run."""
    for number, (scheme, changes) in enumerate(SCHEMES.items()):
        for seed in SEEDS:
            yield scheme, f"tiny-{number}-{seed}", replace(TINY, seed=seed, **changes)
    for number, (scheme, changes) in enumerate(SCHEMES.items()):
        yield scheme, f"smollm2-{number}", replace(SMOLLM2, **changes)
    for lr in (1e-4, 1e-5):
        for dtype in ("float32", "bfloat16"):
            for seed in SEEDS:
                scheme = f"{'fp32' if dtype == 'float32' else 'bf16 in place'}, lr {lr:g}"
                yield scheme, f"grpo-{dtype}-{lr:g}-{seed}", replace(GRPO, dtype=dtype, seed=seed, lr=lr)


def projection(config: ESRunConfig, folder: Path) -> tuple[float, float]:
    """Return the projection on the walk that float32 would have taken, predicted and measured.

    Predicted by the emulator on the base weights, given the coefficients; measured by walking again in float32.
    """
    directory = RunDirectory.open(folder)
    rows = directory.steps()
    names, magnitudes, counts = magnitude_counts(get_builtin(config.model), config.dtype)
    weights = SampledWeights(names=names, magnitudes=magnitudes, counts=counts)
    z = np.array([row["coefficients"] for row in rows])
    session = start_session(
        replace(config, dtype="float32", update_path="accumulated", restore_pairs=0), evaluates=False
    )
    walk = Trajectory(session.parameters, session.base, session.config)  # type: ignore[arg-type]
    for row in rows:
        walk.advance(row)
    intended = walk.theta.double() - session.base.double()
    rounded = start_session(config, evaluates=False)
    start = rounded.base.double()
    rounded.parameters.read_safetensors(directory.checkpoint(len(rows)), rounded.base)
    moved = rounded.base.double() - start
    emulation = emulate(config.rules(len(moved)), weights, [len(rows)], coefficients=z, arithmetic="fused")
    return emulation.effect(len(rows)).signal, float(moved @ intended / (intended @ intended))


def study(scheme: str, name: str, config: ESRunConfig | GRPORunConfig, work: Path) -> dict[str, Any]:
    """Make a run, or go on with it, and return what was predicted and measured."""
    folder = work / name
    finish_run(config, folder)
    directory = RunDirectory.open(folder)
    verdicts = judge(recorded_pairs(folder).pairs)
    norms = (Quantity.DISPLACEMENT_NORM, Quantity.GRPO_DISPLACEMENT_NORM)
    norm = next(v for v in verdicts if v.prediction.quantity in norms and v.prediction.step == config.steps)
    tensors = [v for v in verdicts if v.prediction.quantity is Quantity.EFFECTIVE_DIMENSION_RATIO]
    z = [(v.measurement.value - v.prediction.law.mean) / v.prediction.law.std for v in tensors]
    accuracy = [row for row in directory.rows("evaluations") if row["quantity"] == "accuracy"]
    row: dict[str, Any] = {
        "model": config.model,
        "method": config.method,
        "scheme": scheme,
        "seed": config.seed,
        "predicted": norm.prediction.law.mean,
        "std": norm.prediction.law.std,
        "measured": norm.measurement.value,
        "verdict": str(norm.kind),
        "tensors": len(tensors),
        "tensors_inside_2_se": sum(abs(value) <= 2 for value in z),
        "tensors_refuted": sum(v.kind == "refuted" for v in tensors),
        "accuracy": [accuracy[0]["value"], accuracy[-1]["value"]],
        "reward": [directory.steps()[0]["reward_mean"], directory.steps()[-1]["reward_mean"]],
    }
    if isinstance(config, ESRunConfig) and config.dtype != "float32":
        row["predicted_projection"], row["measured_projection"] = projection(config, folder)
    return row


def tables(rows: list[dict[str, Any]]) -> str:
    """Return the tables of README.md."""
    lines = [
        "",
        "| run | norm: predicted | measured / predicted, by seed | verdicts | tensors inside 2 s.e. "
        "| projection: predicted | measured | accuracy after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row["model"], row["method"], row["scheme"]) for row in rows):
        same = [row for row in rows if (row["model"], row["method"], row["scheme"]) == key]
        ratios = ", ".join(f"{row['measured'] / row['predicted']:.4f}" for row in same)
        inside, tensors = (sum(row[k] for row in same) for k in ("tensors_inside_2_se", "tensors"))
        projections = ("", "")
        if "measured_projection" in same[0]:
            kept = [[row[f"{k}_projection"] for row in same] for k in ("predicted", "measured")]
            projections = tuple(f"{statistics.fmean(values):.4f}" for values in kept)  # type: ignore[assignment]
        accuracy = ", ".join(f"{row['accuracy'][1]:.3f}" for row in same) if key[0] == "tiny-lm" else ""
        lines.append(
            f"| {key[0]}, {key[1].upper()}, {key[2]} | {same[0]['predicted']:.5g} ± {same[0]['std']:.2g} | {ratios} "
            f"| {', '.join(row['verdict'] for row in same)} | {f'{inside} of {tensors}' if tensors else ''} "
            f"| {projections[0]} | {projections[1]} | {accuracy} |"
        )
    return "\n".join(lines) + "\n\n"


def main() -> None:
    work = Path(sys.argv[1])
    started = perf_counter()
    rows = []
    for scheme, name, config in configs():
        rows.append(study(scheme, name, config, work))
        print(f"{perf_counter() - started:.0f} s", name, rows[-1], flush=True)
        write_json(HERE / "record.json", {"seconds": round(perf_counter() - started), "runs": rows})
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(head + BEGIN + tables(rows) + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
