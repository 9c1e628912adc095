"""Each of four tasks alone, from one base, by ES and by GRPO, three seeds each: every run judged, all as one family.

    python experiments/single-task/make.py WORK_FOLDER

writes record.json and the tables of README.md beside this file; the same command goes on with one that was cut off.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from estheory import ESConfig, Quantity, predict
from estheory.files import write_json
from estheory.laws import ChiLaw, SquaredLaw
from estheory.measurement.displacement import Displacements, measure_displacements
from estheory.models.builtin import get_builtin
from estheory.quantities import Measurement, Prediction
from estheory.reporting.text.verdicts import summary
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.directory import RunDirectory
from estheory.tensor_names import module_of
from estheory.theory.economy.steered_run import BOTH
from estheory.training.finish import finish_run
from estheory.validation.judge import judge, without_band
from estheory.validation.own_runs import recorded_pairs

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"

MODEL = "tiny-lm"
TRAINED = ("countdown", "addition", "choice", "reversal")
EVALUATED = (*TRAINED, "sorting", "yesno")  # the last two are trained nowhere
SEEDS = 3
ES = ESRunConfig(model=MODEL, task=TRAINED[0], steps=80, sigma=0.015, alpha=0.0075, population=30, prompts=64)
GRPO = GRPORunConfig(model=MODEL, task=TRAINED[0], steps=100, lr=1e-4, prompts=16, samples=8)
CONFIGS: dict[str, ESRunConfig | GRPORunConfig] = {"es": ES, "grpo": GRPO}
CONTROL = "reversal"
"""The task whose ES is run again with rewards permuted between members."""
PROBE = "probe at the scale of the walk"
UNSET = (math.inf, -math.inf)
"""Where a run would stop, of one that does not."""

Pair = tuple[Prediction, Measurement]


def planned() -> dict[str, ESRunConfig | GRPORunConfig]:
    """Return every run by its name, ``es/countdown-0``; no two of a method share a seed, nor with it their noise."""
    runs: dict[str, ESRunConfig | GRPORunConfig] = {}
    for method, config in CONFIGS.items():
        for number, task in enumerate(TRAINED):
            others = tuple(name for name in EVALUATED if name != task)
            for k in range(SEEDS):
                seed = number * SEEDS + k
                runs[f"{method}/{task}-{seed}"] = replace(config, task=task, seed=seed, evaluation_tasks=others)
    return runs


def train(work: Path) -> None:
    """Make every run that is not finished."""
    for name, config in planned().items():
        folder = work / name
        print(name, flush=True)
        finish_run(config, folder, probed=True)


def controls(work: Path) -> dict[str, dict[str, Any]]:
    """Run ES with permuted rewards, each run with a seed of its own; say what it did and what the probe predicted."""
    found = {}
    for k in range(SEEDS):
        seed = len(TRAINED) * SEEDS + k
        folder = work / "control" / f"{CONTROL}-{seed}"
        others = tuple(name for name in EVALUATED if name != CONTROL)
        config = replace(ES, task=CONTROL, seed=seed, evaluation_tasks=others, permute_rewards=True)
        finish_run(config, folder, probed=True)
        pairs = recorded_pairs(folder).pairs
        predicted = {m.where.split(", ")[0]: p.law.mean for p, m in pairs if m.where.endswith(f", {PROBE}")}
        found[folder.name] = {**observed(folder), "predicted_kl": predicted}
    return found


def observed(folder: Path) -> dict[str, Any]:
    """Return a run's norm, and accuracy and KL from the base at its start and its end, by task."""
    directory = RunDirectory.open(folder)
    last = directory.steps()[-1]
    found: dict[str, Any] = {"norm": last["norm"], "before": {}, "accuracy": {}, "kl": {}}
    for row in directory.rows("evaluations"):
        if row["quantity"] == "accuracy":
            found["accuracy" if row["step"] == last["step"] else "before"][row["task"]] = row["value"]
        elif row["step"] == last["step"]:
            found["kl"][row["task"]] = row["value"]
    return found


def kind_of_pair(a: str, b: str) -> str:
    """Return what two runs have in common, as ``ES and GRPO, one task``."""
    (method_a, run_a), (method_b, run_b) = a.split("/"), b.split("/")
    same = run_a.split("-")[0] == run_b.split("-")[0]
    return f"{method_a.upper()} and {method_b.upper()}, {'one task' if same else 'two tasks'}"


def cosine_pairs(moved: Displacements) -> list[Pair]:
    """Pair the cosine of every two runs with that of unrelated directions, N(0, 1/d)."""
    dim = sum(moved.tensors.values())
    law = predict(ESConfig(dim=dim, sigma=ES.sigma, alpha=ES.alpha, population=ES.population, steps=ES.steps))
    prediction = law.get(Quantity.INDEPENDENT_COSINE)
    return [
        (
            prediction,
            Measurement(
                quantity=Quantity.INDEPENDENT_COSINE,
                value=float(moved.cosines[i, j]),
                step=prediction.step,
                where=f"{moved.labels[i]}|{moved.labels[j]}",
            ),
        )
        for i, j in combinations(range(len(moved.labels)), 2)
    ]


def kind_pairs(kinds: Sequence[dict[str, Any]]) -> list[Pair]:
    """Pair the effective-dimension ratio of each kind of tensor, all ES runs together, with its law, chi-square / n."""
    pairs = []
    for row in kinds:
        freedom = float(row["entries"] * len(row["es"]))
        prediction = Prediction(
            quantity=Quantity.EFFECTIVE_DIMENSION_RATIO,
            law=SquaredLaw(ChiLaw(freedom**-0.5, freedom)),
            label="exact",
            source="arXiv:2604.01499",
            assumptions=("all but a vanishing share of the coordinates are flat", "no step stalled"),
            step=ES.steps,
        )
        mean = statistics.fmean(row["es"])
        pairs.append(
            (
                prediction,
                Measurement(quantity=prediction.quantity, value=mean, step=ES.steps, where=f"kind:{row['kind']}"),
            )
        )
    return pairs


def group_of(run: str, prediction: Prediction, where: str) -> str:
    """Return the row of the table of verdicts that a verdict counts in."""
    if prediction.quantity == Quantity.INDEPENDENT_COSINE:
        return f"cosine of {kind_of_pair(*where.split('|'))}"
    if where.startswith("kind:"):
        return "`effective_dimension_ratio` of ES, kinds of tensors"
    method, task = run.split("-")[0].split("/")
    if prediction.quantity == Quantity.KL_DRIFT:
        on, probe = where.split(", ", 1)
        return f"KL of ES on {'the trained task' if on == task else 'other tasks'}, {probe}"
    if prediction.quantity == Quantity.REWARD_CHANGE:
        return f"`{prediction.quantity}` of {method.upper()}, {where}"
    return f"`{prediction.quantity}` of {method.upper()}"


def validate_all(work: Path, moved: Displacements, kinds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Judge every row of every run, every kind of tensor and the cosine of every two runs as one family (Holm, 5 %)."""
    named = [(r, (p, m)) for r in planned() for p, m in recorded_pairs(work / r).pairs if not m.where.endswith(BOTH)]
    named += [("", pair) for pair in (*kind_pairs(kinds), *cosine_pairs(moved))]
    verdicts = judge([pair for _, pair in named])
    groups: dict[str, dict[str, Any]] = {}
    rows = []
    for (run, (prediction, measurement)), verdict in zip(named, verdicts, strict=True):
        row = groups.setdefault(
            group_of(run, prediction, measurement.where),
            {"rows": 0, "outside_99_percent": 0, "consistent": 0, "refuted": 0, "underpowered": 0, "over": []},
        )
        row["rows"] += 1
        row["outside_99_percent"] += verdict.pvalue < 0.01
        row[verdict.kind] += 1
        row["over"].append(measurement.value / prediction.law.mean if prediction.law.mean else measurement.value)
        if prediction.quantity != Quantity.INDEPENDENT_COSINE and not measurement.where.startswith("tensor:"):
            rows.append(
                {
                    "run": run,
                    "quantity": str(prediction.quantity),
                    "where": measurement.where,
                    "predicted": prediction.law.mean,
                    "std": prediction.law.std,
                    "measured": measurement.value,
                    "pvalue": verdict.pvalue,
                    "verdict": verdict.kind,
                }
            )
    for row in groups.values():
        values = row.pop("over")
        row |= {"smallest": min(values), "median": statistics.median(values), "largest": max(values)}
    return {
        "summary": summary(verdicts),
        "summary_without_band": summary(without_band(verdicts)),
        "groups": groups,
        "verdicts": rows,
    }


def tensor_kinds(moved: Displacements) -> list[dict[str, Any]]:
    """Return squared displacements per entry by kind of tensor: of ES over its law's, of GRPO over its own mean."""
    law = ES.alpha**2 * ES.steps / ES.population
    dim = sum(moved.tensors.values())
    of_kind: dict[str, list[int]] = {}
    for index, name in enumerate(moved.tensors):
        of_kind.setdefault("norms" if "norm" in name else module_of(name), []).append(index)
    rows = []
    for kind, indices in of_kind.items():
        size = int(moved.sizes[indices].sum())
        squares = (moved.tensor_norms[:, indices] ** 2).sum(axis=1) / size
        found: dict[str, Any] = {"kind": kind, "tensors": len(indices), "entries": size}
        for method in CONFIGS:
            runs = [k for k, label in enumerate(moved.labels) if label.startswith(f"{method}/")]
            unit = np.full(len(runs), law) if method == "es" else moved.norms[runs] ** 2 / dim
            found[method] = (squares[runs] / unit).tolist()
        rows.append(found)
    return rows


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def spread(over_runs: Iterable[float], digits: int) -> str:
    """Return mean and standard deviation over runs."""
    values = list(over_runs)
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def matrix(record: dict[str, Any], method: str, name: str) -> str:
    """Return one method's matrix of trained and evaluated tasks, mean and standard deviation over seeds."""
    rows = [
        [f"{method.upper()} on {task}", *(spread(values, 3) for values in columns)]
        for task in TRAINED
        for found in [[run for key, run in record["runs"].items() if key.startswith(f"{method}/{task}-")]]
        for columns in [[[run[name][on] for run in found] for on in EVALUATED]]
    ]
    if name == "accuracy" and method == "es":
        base = next(iter(record["runs"].values()))["before"]
        rows.insert(0, ["base", *(f"{base[on]:.3f}" for on in EVALUATED)])
    return table([name, *EVALUATED], rows)


def norms(record: dict[str, Any]) -> str:
    """Return measured norms beside predicted ones."""
    lines = []
    predicted = {
        row["run"]: row
        for row in record["validation"]["verdicts"]
        if row["quantity"] in ("displacement_norm", "grpo_displacement_norm")
    }
    for method in CONFIGS:
        for task in TRAINED:
            rows = [row for run, row in predicted.items() if run.startswith(f"{method}/{task}-")]
            law = f"{rows[0]['predicted']:.4f} ± {rows[0]['std']:.4f}"
            ratios = ", ".join(f"{row['measured'] / row['predicted']:.4f}" for row in rows)
            kinds = ", ".join(row["verdict"] for row in rows)
            lines.append([method.upper(), task, spread((row["measured"] for row in rows), 4), law, ratios, kinds])
    return table(["method", "task", "norm", "predicted", "measured / predicted, by seed", "verdicts"], lines)


def cosines(record: dict[str, Any]) -> str:
    """Return the cosines of displacements by what two runs have in common."""
    names, values = record["cosines"]["of"], record["cosines"]["values"]
    groups: dict[str, list[float]] = {}
    for i, j in combinations(range(len(names)), 2):
        groups.setdefault(kind_of_pair(names[i], names[j]), []).append(values[i][j])
    verdicts = record["validation"]["groups"]
    lines = []
    for kind in sorted(groups):
        found, judged = groups[kind], verdicts[f"cosine of {kind}"]
        shown = [f"{statistics.fmean(found):.4f}", f"{min(found):.4f} to {max(found):.4f}"]
        lines.append([kind, str(len(found)), *shown, f"{judged['refuted']} of {judged['rows']}"])
    unrelated = f"refuted as unrelated (0 ± {record['cosines']['unrelated_std']:.4f})"
    return table(["cosine of", "pairs", "mean", "range", unrelated], lines)


def kinds(record: dict[str, Any]) -> str:
    """Return the effective-dimension ratios by kind of tensor."""
    lines = []
    judged = {row["where"]: row for row in record["validation"]["verdicts"]}
    for row in record["tensor_kinds"]:
        verdict = judged[f"kind:{row['kind']}"]
        error, measured = verdict["std"], verdict["measured"]
        lines.append(
            [
                row["kind"],
                f"{row['entries']:,}",
                f"1 ± {error:.4f}",
                f"{measured:.4f}",
                f"{(measured - 1) / error:+.1f}",
                verdict["verdict"],
                spread(row["grpo"], 2),
            ]
        )
    head = ["tensors", "entries", "predicted", "ES, mean of all runs", "z", "verdict", "GRPO, over its own mean"]
    return table(head, lines)


def tables(record: dict[str, Any]) -> str:
    """Return the tables of README.md."""
    found = record["validation"]
    lines = []
    for name, row in found["groups"].items():
        numbers = [f"{row[key]:.4f}" for key in ("smallest", "median", "largest")]
        counts = [str(row[key]) for key in ("consistent", "refuted", "underpowered")]
        lines.append([name, str(row["rows"]), *numbers, *counts])
    kl: dict[tuple[str, str], dict[str, float]] = {}
    for row in found["verdicts"]:
        on, _, probe = row["where"].partition(", ")
        if row["quantity"] == "kl_drift" and probe == PROBE:
            task = row["run"].split("/")[1].split("-")[0]
            kl.setdefault((task, on), {})[row["run"]] = row["measured"] / row["predicted"]
    said = [[f"ES on {task}", *(spread(kl[task, on].values(), 2) for on in EVALUATED)] for task in TRAINED]
    control = list(record["control"].values())
    ratios_of_control = (spread([run["kl"][on] / run["predicted_kl"][on] for run in control], 2) for on in EVALUATED)
    said.append(["rewards permuted", *ratios_of_control])
    errors = []
    for own in (True, False):
        of_run: dict[str, list[float]] = {}
        for (task, on), ratios in kl.items():
            for run, ratio in ratios.items() if (task == on) is own else ():
                of_run.setdefault(run, []).append(ratio)
        means = [statistics.fmean(ratios) for ratios in of_run.values()]
        errors.append(f"{statistics.fmean(means):.2f} ± {statistics.stdev(means) / len(means) ** 0.5:.2f}")
    parts = [
        f"\nMean ± standard deviation over {SEEDS} seeds; accuracy on {ES.evaluation_prompts} test prompts, "
        "KL in nat a token from the base.\n",
        "### Accuracy\n",
        matrix(record, "es", "accuracy"),
        matrix(record, "grpo", "accuracy"),
        "### KL from the base\n",
        matrix(record, "es", "kl"),
        matrix(record, "grpo", "kl"),
        "The same of ES over what the probe made before each run predicts, at the scale of the walk:\n",
        table(["KL, measured / predicted", *EVALUATED], said),
        f"Over all runs (mean ± standard error): {errors[0]} on the trained task, {errors[1]} on the others.\n",
        f"### Control: rewards permuted between members ({CONTROL})\n",
        table(
            ["", *EVALUATED],
            [
                [name, *(spread([run[name][on] for run in control], 3) for on in EVALUATED)]
                for name in ("accuracy", "kl")
            ],
        ),
        f"Norm {spread([run['norm'] for run in control], 3)}.\n",
        "### Norms\n",
        norms(record),
        "### Cosines of displacements\n",
        cosines(record),
        "### Effective dimension, by kind of tensor\n",
        "Squared displacement per entry: of ES over $\\alpha^2T/N$, of GRPO over that of the whole model.\n",
        kinds(record),
        "### Predicted against measured\n",
        "All rows of all runs, kinds of tensors and cosines judged as one family (Holm, 5 %): "
        + ", ".join(f"{count} {kind}" for kind, count in found["summary"].items())
        + "; with every declared band set to 0: "
        + ", ".join(f"{count} {kind}" for kind, count in found["summary_without_band"].items())
        + ". Columns are measured / predicted, of cosines (predicted 0) the measured value.\n",
        table(["", "rows", "smallest", "median", "largest", "consistent", "refuted", "underpowered"], lines),
    ]
    return "\n".join(parts)


def main() -> None:
    work = Path(sys.argv[1])
    train(work)
    runs = planned()
    ends = {name: next((work / name / "checkpoints").glob(f"*{c.steps:06d}.safetensors")) for name, c in runs.items()}
    moved = measure_displacements(get_builtin(MODEL), ends)
    kinds_of_tensors = tensor_kinds(moved)
    record: dict[str, Any] = {
        "configs": {m: {k: v for k, v in asdict(c).items() if v not in UNSET} for m, c in CONFIGS.items()},
        "runs": {name: observed(work / name) for name in runs},
        "control": controls(work),
        "cosines": {
            "of": list(moved.labels),
            "values": np.round(moved.cosines, 6).tolist(),
            "unrelated_std": sum(moved.tensors.values()) ** -0.5,
        },
        "tensor_kinds": kinds_of_tensors,
        "validation": validate_all(work, moved, kinds_of_tensors),
    }
    write_json(HERE / "record.json", record)
    record = json.loads((HERE / "record.json").read_text(encoding="utf-8"))
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    readme.write_text(head + BEGIN + tables(record) + "\n" + END + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
