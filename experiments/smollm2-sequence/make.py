"""Three tasks one after another on SmolLM2-135M: accuracy, KL and norms of both methods beside what was predicted.

    python experiments/smollm2-sequence/make.py FOLDER

reads the sequences of make.sh as far as they have come, and writes record.json and the tables of README.md beside this
file.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from estheory.files import read_object, write_json
from estheory.measurement.displacement import measure_displacements
from estheory.models.load import resolve_model
from estheory.reporting.text.verdicts import summary
from estheory.runs.sequence import read_sequence
from estheory.validation.judge import judge
from estheory.validation.own_runs import recorded_pairs
from estheory.validation.sequence_pairs import joint_pairs

HERE = Path(__file__).parent
METHODS = ("es", "grpo")
OTHERS = ("tensor:", "quadratic law", "coherent part")
"""Rows that are counted only; the last are the walk's to six digits here."""
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"


def stages(work: Path, method: str, tasks: list[str]) -> list[Path]:
    """Return the run directories of a sequence, in order."""
    return [work / method / method / "seed-0" / f"{number}-{task}" for number, task in enumerate(tasks, start=1)]


def judged(work: Path, folders: list[Path]) -> dict[str, Any]:
    """Judge every row of every stage, and the norms from the base, as one family (Holm, 5 %); keep the main ones."""
    named = [(f"{run.parts[-3]}, {run.name}", pair) for run in folders for pair in recorded_pairs(run).pairs]
    if (work / "es" / "sequence.json").exists():
        named += [("es", pair) for pair in joint_pairs(read_sequence(work / "es"))]
    verdicts = judge([pair for _, pair in named])
    tensors = [each for each in verdicts if each.measurement.where.startswith("tensor:")]
    return {
        "summary": summary(verdicts),
        "tensors": len(tensors),
        "tensors_outside_99_percent": sum(each.pvalue < 0.01 for each in tensors),
        "rows": [
            {
                "run": stage,
                "quantity": str(each.prediction.quantity),
                "where": each.measurement.where,
                "step": each.measurement.step,
                "predicted": each.prediction.law.mean,
                "std": each.prediction.law.std,
                "measured": each.measurement.value,
                "ratio": each.ratio,
                "pvalue": each.pvalue,
                "verdict": each.kind,
            }
            for (stage, _), each in zip(named, verdicts, strict=True)
            if not any(other in each.measurement.where for other in OTHERS)
        ],
    }


def between(ends: dict[str, Path]) -> dict[str, Any]:
    """Return norms and cosines of the models after each stage, as displacements from the base."""
    found = measure_displacements(resolve_model("smollm2-135m"), ends)
    return {"of": list(found.labels), "cosines": found.cosines.tolist(), "dim": sum(found.tensors.values())}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def matrix(sequence: dict[str, Any], tasks: list[str], name: str) -> str:
    """Return states by tasks, with standard errors where there are some."""
    errors = sequence.get(f"{name}_stderr")
    digits = 2 if name == "accuracy" else 4
    lines = []
    for k, state in enumerate(("before", *(f"after {task}" for task in tasks))):
        cells = [f"{value:.{digits}f}" for value in sequence[name][k]]
        if errors:
            cells = [f"{cell} ± {error:.{digits}f}" for cell, error in zip(cells, errors[k], strict=True)]
        lines.append([state, *cells])
    return table([name, *tasks], lines)


def tables(record: dict[str, Any]) -> str:
    """Return the tables of README.md."""
    tasks, parts = record["tasks"], []
    for sequence in record["sequences"]:
        parts.append(f"### {sequence['method'].upper()}\n")
        parts += [matrix(sequence, tasks, "accuracy"), matrix(sequence, tasks, "kl")]
        norms = [
            [title, *(f"{value:.3f}" for value in sequence[name])]
            for title, name in (("of the stage", "norm"), ("from the base", "norm_from_base"))
        ]
        parts.append(table(["norm", *tasks], norms))
    found = record["validation"]
    counts = ", ".join(f"{count} {kind}" for kind, count in found["summary"].items())
    parts += [
        "### Predicted against measured\n",
        f"All rows of all stages judged as one family (Holm, 5 %): {counts}. Tensor by tensor, "
        f"{found['tensors_outside_99_percent']} of {found['tensors']} shares of the displacement lie outside their "
        "99 % interval.\n",
        table(
            ["stage", "quantity", "step", "predicted", "measured", "ratio", "verdict"],
            [
                [
                    row["run"],
                    f"`{row['quantity']}`, {row['where'].removeprefix('total:').split(', probe')[0]}",
                    str(row["step"]),
                    f"{row['predicted']:.5g} ± {row['std']:.2g}",
                    f"{row['measured']:.5g}",
                    f"{row['ratio']:.4f}",
                    f"{row['verdict']} (p = {row['pvalue']:.2g})",
                ]
                for row in found["rows"]
            ],
        ),
    ]
    directions = record["directions"]
    labels = directions["of"]
    lines = [[a, *(f"{x:.5f}" for x in row)] for a, row in zip(labels, directions["cosines"], strict=True)]
    parts += [
        "### Cosines of the displacements from the base\n",
        f"Unrelated directions have 0 ± {1 / math.sqrt(directions['dim']):.2g}.\n",
        table(["after", *labels], lines),
    ]
    return "\n".join(parts)


def main() -> None:
    """Read what is there and write the record and the tables."""
    work = Path(sys.argv[1])
    ended = [work / method / "summary.json" for method in METHODS]
    found = [read_object(file) for file in ended if file.exists()]
    if not found:
        sys.exit(f"no sequence in {work} is complete")
    tasks = found[0]["tasks"]
    done = [each["sequences"][0] for each in found]
    folders = {each["method"]: stages(work, each["method"], tasks) for each in done}
    ends = {
        f"{method} {task}": folder.with_name(folder.name + ".model")
        for method, runs in folders.items()
        for task, folder in zip(tasks, runs, strict=True)
    }
    record = {
        "tasks": tasks,
        "sequences": done,
        "validation": judged(work, [run for runs in folders.values() for run in runs]),
        "directions": between(ends),
    }
    write_json(HERE / "record.json", record)
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(head + BEGIN + "\n" + tables(record) + "\n" + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
