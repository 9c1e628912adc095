"""Many members and few steps against few members and many steps, at equal evaluations: accuracy, drift and KL.

    python experiments/members-against-steps/make.py WORK_FOLDER

writes record.json and the table of README.md beside this file; finished runs in WORK_FOLDER are taken as they are.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from estheory.files import write_json
from estheory.runs.config import ESRunConfig
from estheory.runs.read import read_own
from estheory.training.finish import finish_run
from estheory.validation.judge import judge
from estheory.validation.own_runs import recorded_pairs

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
PROBE = ", probe at the scale of the walk"

RUN = ESRunConfig(model="tiny-lm", task="addition", steps=80, sigma=0.015, alpha=0.0075, population=30, prompts=64)
"""The run that the others are compared with: 2,400 evaluations of 64 prompts."""
POPULATIONS = (10, 30, 120)
POWERS = (0.0, 0.5, 1.0)
"""alpha grows as this power of N: drift falls as 1/N, as 1/sqrt(N), and not at all."""
TASKS = ("addition",)
ELSEWHERE = ("countdown", "choice")
"""Tasks that are evaluated and trained nowhere here."""
SEEDS = 2

Row = dict[str, Any]


def planned() -> Iterator[tuple[str, float, ESRunConfig]]:
    """Yield each run's name, its power and its configuration: no two runs share a seed."""
    seed = 700
    for task in TASKS:
        for population in POPULATIONS:
            for power in POWERS if population != RUN.population else POWERS[:1]:
                for number in range(SEEDS):
                    scale = population / RUN.population
                    yield (
                        f"{task}-n{population}-p{power:g}-{number}",
                        power,
                        replace(
                            RUN,
                            task=task,
                            population=population,
                            steps=round(RUN.steps / scale),
                            alpha=RUN.alpha * scale**power,
                            evaluation_tasks=ELSEWHERE,
                            seed=seed,
                        ),
                    )
                    seed += 1


def train(work: Path) -> None:
    """Make every run that is not finished; probes are made before the first step of each."""
    for name, _, config in planned():
        folder = work / name
        finish_run(config, folder, probed=True)
        print(name, flush=True)


def measured(work: Path) -> list[Row]:
    """Return each run's accuracy and drift beside what was predicted, norms and KL judged as one family."""
    rows: list[Row] = []
    family = []
    for name, power, config in planned():
        run = read_own(work / name)
        accuracy = run.evaluated("accuracy")
        pairs = recorded_pairs(work / name).pairs
        kept = [
            (prediction, measurement)
            for prediction, measurement in pairs
            if (prediction.quantity == "displacement_norm" and measurement.step == config.steps)
            or (prediction.quantity == "kl_drift" and measurement.where.endswith(PROBE))
        ]
        row: Row = {
            "run": name,
            "task": config.task,
            "population": config.population,
            "steps": config.steps,
            "alpha": config.alpha,
            "power": power,
            "accuracy": accuracy[config.steps, config.task],
            "before": accuracy[0, config.task],
            "elsewhere": statistics.fmean(accuracy[config.steps, task][0] - accuracy[0, task][0] for task in ELSEWHERE),
            "judged": [],
        }
        rows.append(row)
        family += [(row, pair) for pair in kept]
    for (row, (prediction, measurement)), verdict in zip(family, judge([pair for _, pair in family]), strict=True):
        row["judged"].append(
            {
                "quantity": str(prediction.quantity),
                "on": measurement.where.removesuffix(PROBE),
                "predicted": prediction.law.mean,
                "std": prediction.law.std,
                "measured": measurement.value,
                "pvalue": verdict.pvalue,
                "verdict": verdict.kind,
            }
        )
    return rows


def table(rows: list[Row]) -> str:
    """Return the table of README.md: one line for each setting, means over its seeds."""
    lines = [
        "| trained on | N | T | α | norm: predicted | measured | KL there: predicted | measured "
        "| KL elsewhere: predicted | measured | accuracy, held out | change elsewhere |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row["task"], row["population"], row["power"]) for row in rows):
        runs = [row for row in rows if (row["task"], row["population"], row["power"]) == key]
        first = runs[0]
        norm, there, away = (
            [
                statistics.fmean(
                    each[what]
                    for row in runs
                    for each in row["judged"]
                    if (each["quantity"], each["on"] == row["task"], each["on"] in ELSEWHERE) == place
                )
                for what in ("predicted", "measured")
            ]
            for place in (("displacement_norm", False, False), ("kl_drift", True, False), ("kl_drift", False, True))
        )
        accuracy = statistics.fmean(row["accuracy"][0] for row in runs)
        error = math.sqrt(sum(row["accuracy"][1] ** 2 for row in runs)) / len(runs)
        lines.append(
            f"| {key[0]} | {key[1]} | {first['steps']} | {first['alpha']:.3g} | {norm[0]:.3f} | {norm[1]:.3f} "
            f"| {there[0]:.3f} | {there[1]:.3f} | {away[0]:.3f} | {away[1]:.3f} | {accuracy:.3f} ± {error:.3f} "
            f"| {statistics.fmean(row['elsewhere'] for row in runs):+.3f} |"
        )
    kinds = [each["verdict"] for row in rows for each in row["judged"]]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("consistent", "refuted", "underpowered"))
    before = {row["task"]: row["before"][0] for row in rows}
    base = ", ".join(f"{value:.3f} on {task}" for task, value in before.items())
    return "\n".join([*lines, "", f"Before: {base}. All norms and KL, judged as one family: {counts}."]) + "\n"


def main() -> None:
    """Make the runs, and write what came of them."""
    work = Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    train(work)
    rows = measured(work)
    write_json(HERE / "record.json", {"evaluations": RUN.steps * RUN.population, "runs": rows})
    page = HERE / "README.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + BEGIN + "\n" + table(rows) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
