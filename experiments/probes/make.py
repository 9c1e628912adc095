"""What a probe of the reward predicts before a run, against the run: tiny-lm, with controls and exact gradients.

    python experiments/probes/make.py WORK_FOLDER

writes record.json and the tables of README.md beside this file; the same command goes on with one that was cut off.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from estheory.files import write_json
from estheory.measurement.reward_curvature import reward_curvature
from estheory.quantities import Measurement, Prediction, Verdict
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.finish import finish_run
from estheory.training.reward_probe import reward_probe
from estheory.training.session import start_session
from estheory.validation.judge import judge
from estheory.validation.own_runs import recorded_pairs

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
SEEDS = (0, 1, 2)
FIRST_STEPS = range(100, 116)
ALONG = (0, 5, 10, 20, 60)
BASE = ESRunConfig(
    model="tiny-lm", task="addition", steps=60, sigma=0.015, alpha=0.0075, population=30, prompts=64, checkpoint_every=5
)
PROBED = "probed before step 1"


def configs() -> dict[str, ESRunConfig]:
    """Return all long runs by name."""
    found = {}
    for seed in SEEDS:
        for task in ("addition", "reversal"):
            found[f"{task}-{seed}"] = replace(BASE, task=task, seed=seed)
    for seed in SEEDS[:2]:
        found[f"permuted-{seed}"] = replace(BASE, seed=seed, permute_rewards=True)
        found[f"logprob-{seed}"] = replace(BASE, seed=seed, reward="logprob")
    return found


def probe_pairs(folder: Path) -> list[tuple[Prediction, Measurement]]:
    """Return the predictions of the reward's probe with what the run measured."""
    pairs = recorded_pairs(folder).pairs
    return [pair for pair in pairs if pair[0].assumptions[:1] == (PROBED,)]


def shown(run: str, verdict: Verdict) -> dict[str, Any]:
    """Return one verdict as it is recorded."""
    p, m = verdict.prediction, verdict.measurement
    return {
        "run": run,
        "quantity": str(p.quantity),
        "where": m.where.split(", ")[1],
        "step": m.step,
        "predicted": p.law.mean,
        "std": p.law.std,
        "systematic": p.systematic,
        "measured": m.value,
        "stderr": m.stderr,
        "ratio": verdict.ratio,
        "z": (m.value - p.law.mean) / math.hypot(p.law.std, m.stderr),
        "pvalue": verdict.pvalue,
        "verdict": verdict.kind,
    }


def judged(work: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Judge the probes of all runs as one family (Holm, 5 %)."""
    named = [(name, pair) for name in names for pair in probe_pairs(work / name)]
    return [shown(name, v) for (name, _), v in zip(named, judge([p for _, p in named]), strict=True)]


def crossed(work: Path) -> list[dict[str, Any]]:
    """Judge the permuted runs against what the probe predicts of runs that rewards steer: they must be refuted."""
    named = []
    for seed in SEEDS[:2]:
        steered = {(p.quantity, p.step): p for p, _ in probe_pairs(work / f"addition-{seed}")}
        for own, measured in probe_pairs(work / f"permuted-{seed}"):
            if own.quantity in ("reward_gain_per_step", "reward_change") and (own.quantity, own.step) in steered:
                named.append((f"permuted-{seed}", (steered[own.quantity, own.step], measured)))
    return [shown(name, v) for (name, _), v in zip(named, judge([p for _, p in named]), strict=True)]


def along(work: Path) -> list[dict[str, Any]]:
    """Probe the reward again at later weights of the accuracy runs: what the predictions take to stay as it was."""
    rows = []
    for name, config in configs().items():
        if config.reward != "accuracy" or config.permute_rewards:
            continue
        session = start_session(config, evaluates=False)
        for step in ALONG:
            if step:
                session.parameters.read_safetensors(
                    work / name / f"checkpoints/step_{step:06d}.safetensors", session.base
                )
            found: Any = reward_probe(session)["reward"]
            rows.append({"run": name, "step": step, **found["estimates"]})
    return rows


def along_rows(record: dict[str, Any]) -> str:
    """Return what the probe finds along the runs, means over seeds."""
    names = [
        "reward",
        "member_reward",
        "member_reward_std",
        "reliability",
        "linear_reliability",
        "gradient_norm",
        "trace",
    ]
    lines = []
    for task in ("addition", "reversal"):
        for step in ALONG:
            found = [r for r in record["along"] if r["run"].startswith(task) and r["step"] == step]
            cells = []
            for name in names:
                known = [r[name] for r in found if r[name]["value"] is not None and r[name]["stderr"] is not None]
                error = math.sqrt(sum(k["stderr"] ** 2 for k in known)) / len(known)
                cells.append(f"{statistics.fmean(k['value'] for k in known):.3g} ± {error:.2g}")
            lines.append([task, str(step), *cells])
    return table(["task", "step", *(f"`{name}`" for name in names)], lines)


def first_steps(work: Path) -> dict[str, Any]:
    """Measure the cosine of first steps with the exact gradient of the smoothed log-probability."""
    files = {}
    for seed in FIRST_STEPS:
        folder = work / f"first-{seed}"
        config = replace(BASE, steps=1, checkpoint_every=0, reward="logprob", seed=seed, evaluation_prompts=8)
        finish_run(config, folder)
        files[str(seed)] = folder / "checkpoints" / "step_000001.safetensors"
    smoothed = reward_curvature(
        BASE.model, BASE.task, displacements=files, prompts=1024, groups=32, sigma=BASE.sigma, members=16, directions=0
    )
    plain = reward_curvature(BASE.model, BASE.task, prompts=256, directions=32)
    return {
        "smoothed_gradient_norm": dataclasses.asdict(smoothed.gradient_norm),
        "cosines": {label: cosine.value for label, cosine in smoothed.cosines.items()},
        "plain": {
            "gradient_norm": dataclasses.asdict(plain.gradient_norm),
            "trace": dataclasses.asdict(plain.trace),
            "ggn_trace": dataclasses.asdict(plain.ggn_trace),
            "eigenvalues": [dataclasses.asdict(e) for e in plain.eigenvalues],
            "ggn_eigenvalues": [dataclasses.asdict(e) for e in plain.ggn_eigenvalues],
        },
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def verdict_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table of verdicts."""
    return table(
        ["run", "quantity", "of", "step", "predicted before", "band", "measured", "ratio", "z", "p", "verdict"],
        [
            [
                row["run"],
                f"`{row['quantity']}`",
                row["where"],
                str(row["step"] or ""),
                f"{row['predicted']:.4f} ± {row['std']:.4f}",
                f"{row['systematic']:.0%}",
                f"{row['measured']:.4f} ± {row['stderr']:.4f}",
                f"{row['ratio']:.2f}",
                f"{row['z']:+.1f}",
                f"{row['pvalue']:.2g}",
                row["verdict"],
            ]
            for row in rows
        ],
    )


def pooled(rows: Sequence[dict[str, Any]]) -> str:
    """Return mean ratios over the seeds of each task and quantity, at the first step that is judged."""
    groups: dict[tuple[str, str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["run"].split("-")[0], row["quantity"], row["where"], row["step"] or 0), []).append(row)
    lines = []
    for (task, quantity, where, step), found in groups.items():
        if len(found) < 2 or task == "permuted":
            continue
        difference = statistics.fmean(r["measured"] - r["predicted"] for r in found)
        error = math.sqrt(sum(r["std"] ** 2 + r["stderr"] ** 2 for r in found)) / len(found)
        ratio = statistics.fmean(r["measured"] for r in found) / statistics.fmean(r["predicted"] for r in found)
        lines.append(
            [
                task,
                f"`{quantity}`",
                where,
                str(step or ""),
                str(len(found)),
                f"{ratio:.2f}",
                f"{difference / error:+.1f}",
            ]
        )
    return table(["runs", "quantity", "of", "step", "seeds", "measured / predicted", "z of the mean difference"], lines)


def exact_rows(record: dict[str, Any]) -> str:
    """Return probes against exact gradients and Hessians, for the log-probability reward."""
    exact, probes = record["exact"], [record["probes"][f"logprob-{s}"] for s in SEEDS[:2]]

    def probe(name: str) -> list[str]:
        return [f"{p[name]['value']:.4g} ± {p[name]['stderr']:.2g}" for p in probes]

    def told(entry: dict[str, Any]) -> str:
        return f"{entry['value']:.4g} ± {entry['stderr']:.2g}"

    cosines = list(exact["cosines"].values())
    predicted = [
        row for row in record["predictions"] if row["quantity"] == "gradient_cosine" and "logprob" in row["run"]
    ]
    return table(
        ["", "probe, seed 0", "probe, seed 1", "with gradients"],
        [
            ["‖g‖ of the smoothed reward", *probe("gradient_norm"), told(exact["smoothed_gradient_norm"])],
            ["tr Λ", *probe("trace"), told(exact["plain"]["trace"]) + " (Hutchinson, no smoothing)"],
            ["tr Λ of Gauss-Newton", "", "", told(exact["plain"]["ggn_trace"])],
            [
                "tr Λ²",
                *probe("square_trace"),
                f"at least {sum(e['value'] ** 2 for e in exact['plain']['eigenvalues']):.4g} (4 eigenvalues)",
            ],
            [
                "cosine of the first step with g",
                *(f"{row['mean']:.4f} ± {row['probe_stderr']:.4f}" for row in predicted),
                f"{statistics.fmean(cosines):.4f} ± {statistics.stdev(cosines) / len(cosines) ** 0.5:.4f} "
                f"({len(cosines)} seeds)",
            ],
            [
                "its spread over seeds",
                *(f"{row['spread']:.4f}" for row in predicted),
                f"{statistics.stdev(cosines):.4f}",
            ],
        ],
    )


def estimate_rows(record: dict[str, Any]) -> str:
    """Return the estimates of every probe."""
    names = ["reward", "member_reward_std", "reliability", "linear_reliability", "gradient_norm", "trace"]
    names += ["gradient_curvature"]
    return table(
        ["run", *(f"`{name}`" for name in names), "evaluations", "share", "seconds"],
        [
            [
                run,
                *(f"{found[name]['value']:.3g} ± {found[name]['stderr']:.2g}" for name in names),
                str(found["evaluations"]),
                f"{found['share_of_run']:.1%}",
                f"{found['seconds']:.1f}",
            ]
            for run, found in record["probes"].items()
        ],
    )


def tables(record: dict[str, Any]) -> str:
    """Return the tables of README.md."""
    counts = {
        kind: sum(r["verdict"] == kind for r in record["verdicts"])
        for kind in ("consistent", "refuted", "underpowered")
    }
    return "\n".join(
        [
            "\n### What the probes found\n",
            estimate_rows(record),
            "### Probes against gradients: reward logprob, addition\n",
            exact_rows(record),
            "### Predicted before, measured after\n",
            f"One family of {len(record['verdicts'])} rows (Holm, 5 %): "
            + ", ".join(f"{count} {kind}" for kind, count in counts.items())
            + ".\n",
            "Those up to step 10; all are in record.json:\n",
            verdict_rows([row for row in record["verdicts"] if (row["step"] or 0) <= 10]),
            "Seeds together (held-out accuracy has the same prompts and the same base in every seed, so its z are too "
            "large by up to √2):\n",
            pooled(record["verdicts"]),
            "### The same probe at later steps, mean over three seeds\n",
            along_rows(record),
            "### Control: permuted runs against what is predicted of steered ones\n",
            verdict_rows(record["crossed"]),
        ]
    )


def main() -> None:
    work = Path(sys.argv[1])
    started = perf_counter()
    runs = configs()
    record: dict[str, Any] = {"probes": {}, "predictions": [], "unpredicted": {}}
    for name, config in runs.items():
        finish_run(config, work / name, probed=True)
        probes: Any = RunDirectory.open(work / name).read_json("probes.json")
        reward = probes["reward"]
        kept = ("evaluations", "share_of_run", "seconds")
        record["probes"][name] = {**reward["estimates"], **{key: reward[key] for key in kept}}
        record["predictions"] += [{"run": name, **row} for row in probes["predictions"]]
        record["unpredicted"][name] = probes["unpredicted"]
        print(name, f"{perf_counter() - started:.0f} s", flush=True)
    record["verdicts"] = judged(work, list(runs))
    record["crossed"] = crossed(work)
    record["along"] = along(work)
    record["exact"] = first_steps(work)
    record["seconds"] = round(perf_counter() - started)
    write_json(HERE / "record.json", record)
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(head + BEGIN + tables(record) + "\n" + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
