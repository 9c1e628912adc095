"""Rewards that rise and then decay, at step sizes up to eight times the usual one, beside a probe at the start.

    python experiments/rise-then-decay/make.py WORK_FOLDER

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
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.finish import finish_run
from estheory.training.reward_probe import reward_probe
from estheory.training.session import start_session

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
ALPHAS = (0.0075, 0.015, 0.03, 0.06)
SEEDS = (0, 1, 2)
WINDOW = 10
BASE = ESRunConfig(
    model="tiny-lm",
    task="addition",
    steps=150,
    sigma=0.015,
    alpha=0.0075,
    population=10,
    prompts=64,
    checkpoint_every=50,
)
ALONG = (0, 50, 100, 150)


def configs() -> Iterator[tuple[str, ESRunConfig]]:
    """Yield names and configurations of all runs; the controls' coefficients are permuted between members."""
    for number, alpha in enumerate(ALPHAS):
        for seed in SEEDS:
            config = replace(BASE, alpha=alpha, seed=100 * number + seed)
            yield f"{alpha}-{seed}", config
            if seed == 0:
                yield f"{alpha}-permuted", replace(config, seed=config.seed + 50, permute_rewards=True)


def study(name: str, config: ESRunConfig, work: Path) -> dict[str, Any]:
    """Make a run, or go on with it, and return its curve, what was predicted and later probes."""
    folder = work / name
    finish_run(config, folder, probed=True)
    directory = RunDirectory.open(folder)
    rewards = np.array([row["reward_mean"] for row in directory.steps()])
    curve = rewards.reshape(-1, WINDOW).mean(axis=1)
    probes: Any = directory.read_json("probes.json")
    held = [
        [row["step"], row["value"], row["stderr"]]
        for row in directory.rows("evaluations")
        if row["quantity"] == "accuracy" and row["task"] == config.task
    ]
    session = start_session(config, evaluates=False)
    along = []
    for step in ALONG:
        if step:
            file = folder / f"checkpoints/step_{step:06d}.safetensors"
            session.parameters.read_safetensors(file, session.base)
        found: Any = reward_probe(session)["reward"]
        if found is None:  # no answer is right any more: nothing to probe
            break
        kept = ("reward", "member_reward", "gradient_norm", "trace")
        along.append({"step": step, **{key: found["estimates"][key] for key in kept}})
    return {
        "run": name,
        "alpha": config.alpha,
        "permuted": config.permute_rewards,
        "members_reward": curve.tolist(),
        "peak_window": int(curve.argmax()),
        "accuracy": held,
        "predicted": [
            {key: row[key] for key in ("quantity", "step", "mean", "probe_stderr", "spread")}
            for row in probes["predictions"]
            if row["quantity"] in ("reward_change", "reward_gain_per_step", "reward_peak_step_lower_bound")
        ],
        "unpredicted": probes["unpredicted"],
        "along": along,
    }


def tables(record: dict[str, Any]) -> str:
    """Return the tables of README.md."""
    lines = [
        "",
        "| α | seed | norm after 150 | members' reward, first 10 steps | highest 10 | steps | last 10 "
        "| accuracy after 50, 100, 150 | probe: peak not before |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["runs"]:
        curve, peak = row["members_reward"], row["peak_window"]
        bound = [p for p in row["predicted"] if p["quantity"] == "reward_peak_step_lower_bound"]
        said = f"{bound[0]['mean']:.0f} ± {bound[0]['probe_stderr']:.0f}" if bound else "rises throughout"
        if row["permuted"]:
            said = ""
        held = ", ".join(f"{value:.3f}" for step, value, _ in row["accuracy"] if step)
        lines.append(
            f"| {row['alpha']:g} | {row['run'].split('-')[1]} | {row['norm']:.2f} | {curve[0]:.3f} | {max(curve):.3f} "
            f"| {WINDOW * peak + 1} to {WINDOW * (peak + 1)} | {curve[-1]:.3f} | {held} | {said} |"
        )
    lines += ["", "The probe at later weights, mean over seeds:", ""]
    lines += ["| α | step | members' reward | ‖g‖ where resolved | tr Λ | cost of a step's walk, ½(α²/N) tr Λ |"]
    lines += ["|---|---|---|---|---|---|"]
    for alpha in ALPHAS:
        for number, step in enumerate(ALONG):
            steered = [r["along"] for r in record["runs"] if r["alpha"] == alpha and not r["permuted"]]
            found = [along[number] for along in steered if len(along) > number]
            if len(found) < len(SEEDS):
                continue
            reward, trace = (statistics.fmean(f[key]["value"] for f in found) for key in ("member_reward", "trace"))
            resolved = [f["gradient_norm"]["value"] for f in found if f["gradient_norm"]["value"] is not None]
            gradient = f"{statistics.fmean(resolved):.2f}" if resolved else "no seed"
            cost = 0.5 * alpha**2 / BASE.population * trace
            lines.append(f"| {alpha:g} | {step} | {reward:.3f} | {gradient} | {trace:.0f} | {cost:.4f} |")
    return "\n".join(lines) + "\n\n"


def main() -> None:
    work = Path(sys.argv[1])
    started = perf_counter()
    rows = []
    for name, config in configs():
        rows.append(study(name, config, work))
        rows[-1]["norm"] = RunDirectory.open(work / name).steps()[-1]["norm"]
        print(name, f"{perf_counter() - started:.0f} s", [round(v, 3) for v in rows[-1]["members_reward"]], flush=True)
    record = {"seconds": round(perf_counter() - started), "runs": rows}
    write_json(HERE / "record.json", record)
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(head + BEGIN + tables(record) + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
