"""Progress against drift over N and sigma: real runs of tiny-lm on the curves that were predicted before them.

    python experiments/progress-drift/make.py WORK_FOLDER

writes record.json, the table of README.md beside this file and docs/progress-drift.svg. Finished runs in WORK_FOLDER
are taken as they are; without a WORK_FOLDER the picture and the table are made from record.json.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from estheory import ESConfig, Quantity, Signal, predict
from estheory.files import write_json, write_text
from estheory.measurement.reward_curvature import reward_curvature
from estheory.reporting.page.figures import entry, legend, style
from estheory.reporting.page.svg import new_figure, standing, to_svg
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.finish import finish_run
from estheory.training.task_probe import probe_task

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
DIM = 59_184
STEPS = 5
SIGMAS = (0.0075, 0.015, 0.03)
SEEDS = {8: 4, 30: 2, 120: 1}
"""Runs of each population: the fewer members, the more runs."""
PROBED = 120
"""Mirrored members of the probe of each sigma, made at the start with noise of its own: it predicts all its runs."""
RUN = ESRunConfig(
    model="tiny-lm",
    task="addition",
    sigma=0.015,
    alpha=0.0075,
    steps=STEPS,
    prompts=64,
    reward="logprob",
    checkpoint_every=STEPS,
    evaluation_prompts=8,
)

Row = dict[str, Any]


def config_of(sigma: float, population: int, number: int) -> ESRunConfig:
    """Return the configuration of one run."""
    return replace(RUN, sigma=sigma, alpha=sigma / 2, population=population, seed=300 + number)


def folder_of(work: Path, sigma: float, population: int, number: int) -> Path:
    """Return where a run is."""
    return work / f"s{sigma:g}-n{population}-{number}"


def train(work: Path) -> None:
    """Make every run that is not finished."""
    for sigma in SIGMAS:
        for population, runs in SEEDS.items():
            for number in range(runs):
                folder = folder_of(work, sigma, population, number)
                finish_run(config_of(sigma, population, number), folder)
                print(folder.name, flush=True)


def rows(work: Path) -> list[Row]:
    """Return what was predicted and measured of each sigma and population."""
    found = []
    for sigma in SIGMAS:
        share, error = probed_reliability(sigma)
        runs = {n: [folder_of(work, sigma, n, k) for k in range(count)] for n, count in SEEDS.items()}
        ends = {run.name: run / f"checkpoints/step_{STEPS:06d}.safetensors" for each in runs.values() for run in each}
        exact = reward_curvature(
            RUN.model, RUN.task, displacements=ends, prompts=1024, groups=32, sigma=sigma, members=16, directions=0
        )
        for population, each in runs.items():
            norms = [RunDirectory.open(run).steps()[-1]["norm"] for run in each]
            along = [exact.cosines[run.name].value * norm for run, norm in zip(each, norms, strict=True)]
            length, progress = predicted(sigma, population, share)
            found.append(
                {
                    "sigma": sigma,
                    "population": population,
                    "runs": len(each),
                    "predicted_progress": progress,
                    "predicted_progress_stderr": progress * error / (2 * share),
                    "progress": statistics.fmean(along),
                    "progress_stderr": statistics.fmean(norms) / math.sqrt(DIM * len(each)),
                    "predicted_norm": length,
                    "reliability": share,
                    "norm": statistics.fmean(norms),
                }
            )
    return found


def probed_reliability(sigma: float) -> tuple[float, float]:
    """Return the reliability that mirrored members at the start tell, and its standard error."""
    probe = replace(RUN, sigma=sigma, alpha=sigma / 2, population=PROBED, antithetic=True, seed=999, steps=1)
    [row] = [row for row in probe_task(probe) if row.quantity == "reliability"]
    return row.value, row.stderr


def predicted(sigma: float, population: int, share: float) -> tuple[float, float]:
    """Return the norm of the walk and the progress along the gradient after the last step, w."""
    rule = ESConfig(dim=DIM, sigma=sigma, population=population, steps=STEPS)
    forecast = predict(rule, reward=Signal(reliability=share))
    progress = forecast.get(Quantity.PROGRESS_PER_STEP).law.mean
    return forecast.get(Quantity.DISPLACEMENT_NORM).law.mean, STEPS * progress


def table(found: list[Row]) -> str:
    """Return the table of README.md."""
    lines = [
        "| σ | N | runs | progress: predicted | measured | norm: predicted | measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found:
        progress = f"{row['predicted_progress']:.4f} ± {row['predicted_progress_stderr']:.4f}"
        lines.append(
            f"| {row['sigma']:g} | {row['population']} | {row['runs']} | {progress} | {row['progress']:.4f} ± "
            f"{row['progress_stderr']:.4f} | {row['predicted_norm']:.4f} | {row['norm']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def figure(found: list[Row]) -> str:
    """Return the picture: predicted curves over N, a line for each sigma, and the runs on them."""
    with new_figure(265) as drawn:
        axes = drawn.subplots()
        for index, sigma in enumerate(SIGMAS):
            colour, line = style(index)
            rows = [row for row in found if row["sigma"] == sigma]
            share = rows[0]["reliability"]
            sizes = np.unique(np.geomspace(4, 300, 60).astype(int)).tolist()
            curve = [predicted(sigma, n, share) for n in sizes]
            drift, progress = np.transpose(curve)
            error = 2 * rows[0]["predicted_progress_stderr"] / rows[0]["predicted_progress"]
            axes.plot(drift, progress, line, color=colour)
            axes.fill_between(
                drift, progress * (1 - error), progress * (1 + error), color=colour, alpha=0.15, linewidth=0
            )
            axes.errorbar(
                [row["norm"] for row in rows],
                [row["progress"] for row in rows],
                [2 * row["progress_stderr"] for row in rows],
                fmt="osD"[index],
                color=colour,
                markersize=5,
                capsize=2,
                label=entry(f"σ = {sigma:g}"),
            )
        axes.set_xscale("log")
        sizes = sorted({row["population"] for row in found}, reverse=True)
        marks = ", ".join(f"{size}" for size in sizes)
        axes.set_xlabel(f"drift: distance walked (weight)\nmarks of a σ, from left to right: N = {marks}")
        axes.set_title(f"progress along the gradient in {STEPS} steps (weight)")
        axes.set_xticks(ticks := [0.05, 0.1, 0.2, 0.5, 1, 2, 4], [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlim(0.04, 5)
        legend(drawn, axes)
        words = "; ".join(
            f"σ {row['sigma']:g}, N {row['population']}: predicted {row['predicted_progress']:.3f}, measured "
            f"{row['progress']:.3f} at distance {row['norm']:.2f}"
            for row in found
        )
        return standing(to_svg(drawn, "Progress against drift", f"Lines predicted, marks measured. {words}."))


def main() -> None:
    """Make the runs where a folder is given, the record, the table and the picture."""
    record = HERE / "record.json"
    if len(sys.argv) > 1:
        work = Path(sys.argv[1])
        train(work)
        write_json(record, {"steps": STEPS, "rows": rows(work)})
    found = json.loads(record.read_text(encoding="utf-8"))["rows"]
    page = HERE / "README.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    write_text(ROOT / "docs" / "progress-drift.svg", figure(found) + "\n")
    write_text(page, before + BEGIN + "\n" + table(found) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
