"""Four tasks one after another on tiny-lm, by ES and by GRPO, three seeds, every stage judged; and a control.

    python experiments/tiny-sequence/make.py WORK_FOLDER

writes record.json and the tables of README.md beside this file; the same command goes on with one that was cut off.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from estheory.files import write_json
from estheory.reporting.text.verdicts import summary
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.directory import RunDirectory
from estheory.runs.sequence import SequenceConfig
from estheory.training.finish import finish_run
from estheory.training.sequence import run_sequence
from estheory.validation.judge import judge, without_band
from estheory.validation.own_runs import recorded_pairs

HERE = Path(__file__).parent
TASKS = ("countdown", "addition", "choice", "reversal")
SEEDS = (0, 1, 2)
SHARED: dict[str, Any] = {"model": "tiny-lm", "task": TASKS[0]}
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"

ES = ESRunConfig(**SHARED, steps=80, sigma=0.015, alpha=0.0075, population=30, prompts=64, workers=2)
GRPO = GRPORunConfig(**SHARED, steps=100, lr=1e-4, prompts=16, samples=8)


def controls(work: Path) -> list[dict[str, Any]]:
    """Run the first ES stage of each seed with its rewards permuted between members; say what it learned."""
    rows = []
    for seed in SEEDS:
        folder = work / "control" / f"seed-{seed}"
        config = replace(ES, seed=seed, permute_rewards=True, evaluation_tasks=TASKS[1:])
        finish_run(config, folder, probed=True)
        directory = RunDirectory.open(folder)
        accuracy = [row for row in directory.rows("evaluations") if row["quantity"] == "accuracy"]
        rows.append(
            {
                "seed": seed,
                "norm": directory.steps()[-1]["norm"],
                **{
                    when: {row["task"]: [row["value"], row["stderr"]] for row in accuracy if row["step"] == step}
                    for when, step in (("before", 0), ("after", ES.steps))
                },
            }
        )
    return rows


def validate_all(folders: Sequence[Path]) -> dict[str, Any]:
    """Judge every row of every run as one family (Holm, 5 %)."""
    named = [(folder, pair) for folder in folders for pair in recorded_pairs(folder).pairs]
    verdicts = judge([pair for _, pair in named])
    tensors = [v for v in verdicts if v.measurement.where.startswith("tensor:")]
    return {
        "summary": summary(verdicts),
        "summary_without_band": summary(without_band(verdicts)),
        "tensors": len(tensors),
        "tensors_outside_99_percent": sum(v.pvalue < 0.01 for v in tensors),
        "verdicts": [
            {
                "run": "/".join(folder.parts[-3:]),
                "quantity": str(v.prediction.quantity),
                "where": v.measurement.where,
                "step": v.measurement.step,
                "predicted": v.prediction.law.mean,
                "std": v.prediction.law.std,
                "systematic": v.prediction.systematic,
                "measured": v.measurement.value,
                "stderr": v.measurement.stderr,
                "ratio": v.ratio,
                "pvalue": v.pvalue,
                "verdict": v.kind,
            }
            for (folder, _), v in zip(named, verdicts, strict=True)
            if not v.measurement.where.startswith("tensor:")
        ],
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def spread(over_seeds: Iterable[float], digits: int) -> str:
    """Return mean and standard deviation over seeds."""
    values = list(over_seeds)
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def matrix(record: dict[str, Any], method: str, name: str, digits: int) -> str:
    """Return one method's matrix of states and tasks, mean and standard deviation over seeds."""
    values = np.array([row[name] for row in record["sequences"] if row["method"] == method])
    states = ["before", *(f"after {task}" for task in TASKS)]
    return table(
        [name, *TASKS],
        [[state, *(spread(values[:, k, t], digits) for t in range(len(TASKS)))] for k, state in enumerate(states)],
    )


def verdict_rows(record: dict[str, Any]) -> str:
    """Return, for each method and quantity, the ratios and verdicts over all its stages."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in record["validation"]["verdicts"]:
        groups.setdefault((row["run"].split("/")[0], row["quantity"]), []).append(row)
    lines = []
    for (method, quantity), rows in groups.items():
        ratios = [row["ratio"] for row in rows if row["ratio"] is not None and np.isfinite(row["ratio"])]
        shown = [f"{min(ratios):.4f}", f"{statistics.median(ratios):.4f}", f"{max(ratios):.4f}"] if ratios else [""] * 3
        kinds = [str(sum(row["verdict"] == kind for row in rows)) for kind in ("consistent", "refuted", "underpowered")]
        lines.append([method, f"`{quantity}`", str(len(rows)), *shown, *kinds])
    return table(
        ["method", "quantity", "rows", "smallest ratio", "median", "largest", "consistent", "refuted", "underpowered"],
        lines,
    )


def kl_rows(record: dict[str, Any]) -> str:
    """Return measured over predicted KL of the ES stages, apart for the trained task and the others."""
    groups: dict[tuple[str, bool], list[float]] = {}
    for row in record["validation"]["verdicts"]:
        if row["quantity"] == "kl_drift":
            task, probe = row["where"].split(", ", 1)
            groups.setdefault((probe, row["run"].endswith(task)), []).append(row["ratio"])
    probes = sorted({probe for probe, _ in groups})

    def mean(values: Sequence[float]) -> str:
        error = statistics.stdev(values) / len(values) ** 0.5
        return f"{statistics.fmean(values):.2f} ± {error:.2f} ({len(values)})"

    return table(
        ["KL from the stage's start, measured / predicted", "on the trained task", "on the others"],
        [[probe, mean(groups[probe, True]), mean(groups[probe, False])] for probe in probes],
    )


def tables(record: dict[str, Any]) -> str:
    """Return the tables of README.md."""
    parts = [
        "\nMean ± standard deviation over three seeds; accuracy on 400 test prompts, KL in nat a token from the base.\n"
    ]
    for method in ("es", "grpo"):
        parts += [f"### {method.upper()}\n", matrix(record, method, "accuracy", 3), matrix(record, method, "kl", 3)]
        rows = [row for row in record["sequences"] if row["method"] == method]
        parts.append(
            table(
                ["norm", *TASKS],
                [
                    [title, *(spread([row[name][k] for row in rows], 3) for k in range(len(TASKS)))]
                    for title, name in (("of the stage", "norm"), ("from the base", "norm_from_base"))
                ],
            )
        )
    before = statistics.fmean(row["before"][TASKS[0]][0] for row in record["control"])
    after = [row["after"][TASKS[0]][0] for row in record["control"]]
    parts += [
        "### Control: rewards permuted between members\n",
        f"ES on {TASKS[0]}, the same configuration: accuracy {before:.3f} before, {spread(after, 3)} after; "
        f"norm {spread([row['norm'] for row in record['control']], 3)}.\n",
        "### Cosines of the displacements from the base, after all four stages\n",
    ]
    names = record["cosines"]["of"]
    values = record["cosines"]["values"]
    parts.append(table(["", *names], [[a, *(f"{x:.3f}" for x in line)] for a, line in zip(names, values, strict=True)]))
    found = record["validation"]
    parts += [
        "### Predicted against measured\n",
        "All rows of all stages judged as one family (Holm, 5 %): "
        + ", ".join(f"{count} {kind}" for kind, count in found["summary"].items())
        + "; with every declared band set to 0: "
        + ", ".join(f"{count} {kind}" for kind, count in found["summary_without_band"].items())
        + f". Tensor by tensor, {found['tensors_outside_99_percent']} of {found['tensors']} effective-dimension ratios "
        "lie outside their 99 % interval.\n",
        verdict_rows(record),
        "Each KL alone is underpowered: one run's KL scatters by a third. Together (mean ± standard error, rows):\n",
        kl_rows(record),
    ]
    return "\n".join(parts)


def main() -> None:
    work = Path(sys.argv[1])
    started = perf_counter()
    config = SequenceConfig(tasks=TASKS, configs=(ES, GRPO), seeds=SEEDS, retention="all")
    record = run_sequence(config, work / "sequence", say=lambda text: print(text, flush=True))
    record["control"] = controls(work)
    stages = [f"{number}-{task}" for number, task in enumerate(TASKS, start=1)]
    runs = [work / "sequence" / c.method / f"seed-{s}" / stage for c in (ES, GRPO) for s in SEEDS for stage in stages]
    record["validation"] = validate_all(runs)
    record["seconds"] = round(perf_counter() - started)
    write_json(HERE / "record.json", record)
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    readme.write_text(head + BEGIN + tables(record) + "\n" + END + tail, encoding="utf-8")


if __name__ == "__main__":  # workers import this file again
    main()
