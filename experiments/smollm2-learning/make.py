"""What SmolLM2-135M learned, how far it moved and what that did elsewhere, beside what was predicted.

    python experiments/smollm2-learning/make.py FOLDER

reads the runs of make.sh that are complete, and writes record.json and the tables of README.md beside this file.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

from estheory.files import write_json
from estheory.laws import noisy_pvalue
from estheory.runs.read import read_own
from estheory.runs.view import OwnRun, known
from estheory.validation.forecast_pairs import forecast_pairs

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
RUNS = (
    *("sums-es-0", "sums-mirrored-0", "sums-es-1", "sums-es-2", "sums-n48-0", "sums-permuted-0", "sums-grpo-0"),
    *("products-es-0", "larger-es-0"),
)
BETWEEN = ("sums-es-0", "sums-grpo-0")
LINES = ("--points", "6", "--directions", "4", "--prompts", "34")
JUDGED = {"step_norm", "displacement_norm", "grpo_displacement_norm", "kl_drift"}
SHARED = 3
"""Steps at either end whose rewards are averaged."""


def asked(*arguments: str) -> Any:
    """Return the document that a command prints."""
    command = [sys.executable, "-m", "estheory", *arguments, "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def complete(work: Path) -> dict[str, OwnRun]:
    """Return the runs that have come to their end."""
    runs = {name: read_own(work / name) for name in RUNS if (work / name / "config.toml").exists()}
    return {name: run for name, run in runs.items() if (run.config.steps, run.config.task) in run.evaluated("accuracy")}


def learned(name: str, run: OwnRun) -> dict[str, Any]:
    """Return rewards at both ends, and held-out accuracy."""
    rewards = [
        known(step.reward_mean, "reward") if step.rewards is None else float(step.rewards.mean()) for step in run.steps
    ]
    accuracy, task, last = run.evaluated("accuracy"), run.config.task, run.config.steps
    return {
        "run": name,
        "first": sum(rewards[:SHARED]) / SHARED,
        "last": sum(rewards[-SHARED:]) / SHARED,
        "accuracy": {str(step): accuracy[step, task] for step, trained in sorted(accuracy) if trained == task},
        "elsewhere": {key[1]: [accuracy[0, key[1]], value] for key, value in accuracy.items() if key[0] == last},
    }


def judged(name: str, work: Path) -> list[dict[str, Any]]:
    """Return the verdicts on norms and KL: not those of single tensors, nor of what was foretold on the way."""
    rows = asked("validate", str(work / name))["verdicts"]
    kept = ("quantity", "step", "where", "predicted", "measured", "ratio", "pvalue", "verdict", "noticeable_error")
    return [
        {"run": name, **{key: row[key] for key in kept}}
        for row in rows
        if row["quantity"] in JUDGED and not any(other in row["where"] for other in ("quadratic law", "foretold"))
    ]


def book(name: str, work: Path) -> dict[str, Any]:
    """Return what the ledger says a run earned."""
    found = asked("forecast", str(work / name))
    return {"run": name, "state": found["state"], **found["totals"]}


def foretold(name: str, run: OwnRun) -> list[dict[str, Any]]:
    """Return what a run wrote down of later steps as it went on, and what came."""
    rows = []
    for prediction, measured in forecast_pairs(run):
        low, high = prediction.law.interval(0.95)
        rows.append(
            {
                "run": name,
                "quantity": str(prediction.quantity),
                "where": str(measured.where).partition("foretold ")[2],
                "step": prediction.step,
                "interval": [low, high],
                "measured": measured.value,
                "stderr": measured.stderr,
                "inside": noisy_pvalue(prediction.law, measured.value, measured.stderr) >= 0.05,
            }
        )
    return rows


def pairs(runs: dict[str, OwnRun]) -> list[dict[str, Any]]:
    """Return the cosines between the ends of all runs."""
    ends = {str(run.checkpoints[run.config.steps]): name for name, run in runs.items()}
    if len(ends) < 2:
        return []
    rows = asked("measure", "smollm2-135m", *ends)["measurements"]
    cosines = {row["where"]: row["value"] for row in rows if row["quantity"] == "displacement_cosine"}
    return [
        {
            "pair": [ends[a], ends[b]],
            "cosine": next(v for where, v in cosines.items() if a in where and b in where),
            "unrelated": _unrelated(runs[ends[a]], runs[ends[b]]),
        }
        for a, b in combinations(ends, 2)
    ]


def _unrelated(one: OwnRun, other: OwnRun) -> float:
    """Return the spread of the cosine of two runs that share no signal.

    Runs of one seed have the same noise vectors with other coefficients: in each step z.z'/N is 0 +- 1/sqrt(N - 1).
    """
    if "es" == one.method == other.method and one.config.seed == other.config.seed:
        return 1 / math.sqrt(one.es.steps * (one.es.population - 1))
    return 1 / math.sqrt(one.dim)


def lines(work: Path, runs: dict[str, OwnRun]) -> list[dict[str, Any]]:
    """Return scores on the line from ES to GRPO and along the directions of each and of random ones, of one norm."""
    if not set(BETWEEN) <= runs.keys():
        return []
    studies = asked("lines", *(str(work / name) for name in BETWEEN), *LINES)["lines"]
    return [
        {
            "score": study["score"],
            "norms": study["norms"],
            "line": {key: study["line"][key] for key in ("u", "mean", "stderr")},
            "along": {key: each if key == "distance" else each["mean"] for key, each in study["along"].items()},
        }
        for study in studies
    ]


def tables(record: dict[str, Any]) -> list[str]:
    """Return the page's tables."""
    text = [
        "### What was learned",
        "",
        f"| run | members' mean reward, first {SHARED} steps | last {SHARED} | held-out accuracy, before | after |",
        "|---|---|---|---|---|",
    ]
    for row in record["learned"]:
        ends = list(row["accuracy"].values())
        before, after = (f"{value:.3f} ± {error:.3f}" for value, error in (ends[0], ends[-1]))
        text.append(f"| {row['run']} | {row['first']:.3f} | {row['last']:.3f} | {before} | {after} |")
    text += [
        "",
        "### How far, and what it did",
        "",
        "| run | quantity | predicted | measured | ratio | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["judged"]:
        law = row["predicted"]
        what = f"{row['quantity']}, step {row['step']}" + (f", {row['where']}" if "kl" in row["quantity"] else "")
        digits = 3 if "kl" in row["quantity"] else 7
        predicted = f"{law['mean']:.{digits}g} ± {law['std']:.2g}"
        verdict = row["verdict"]
        if verdict == "underpowered":
            verdict = f"within {row['noticeable_error'] / law['mean']:.0%} at best"
        text.append(
            f"| {row['run']} | {what} | {predicted} | {row['measured']:.{digits}g} | {row['ratio']:.5g} "
            f"| {verdict} (p = {row['pvalue']:.2g}) |"
        )
    text += [
        "",
        "### What was earned",
        "",
        "| run | earned | paid | net between the ends | reward rose by | state at the end |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["ledger"]:
        at_most = "at most " if row["bound"] else ""
        values = [
            "unknown"
            if row[name] is None
            else f"{at_most * (name != 'paid')}{row[name]:.3f} ± {row[name + '_stderr']:.3f}"
            for name in ("earned", "paid", "net_between_ends")
        ]
        risen = f"{row['reward_change']:.3f} ± {row['reward_change_stderr']:.3f}"
        text.append(f"| {row['run']} | {' | '.join(values)} | {risen} | {row['state']} |")
    text += [
        "",
        "### What was foretold",
        "",
        "| run | quantity | foretold | of step | 95 % interval | what came | inside, its error counted |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in record["foretold"]:
        digits = 2 if row["quantity"] == "displacement_norm" else 3
        low, high = (f"{end:.{digits}f}" for end in row["interval"])
        came = f"{row['measured']:.{digits}f}" + (f" ± {row['stderr']:.{digits}f}" if row["stderr"] else "")
        text.append(
            f"| {row['run']} | {row['quantity']} | {row['where']} | {row['step']} | {low} to {high} | {came} "
            f"| {'yes' if row['inside'] else '**no**'} |"
        )
    if record["cosines"]:
        text += ["", "### Directions", "", "| ends of | cosine | without a common signal |", "|---|---|---|"]
        text += [
            f"| {' and '.join(row['pair'])} | {row['cosine']:.5f} | 0 ± {row['unrelated']:.2g} |"
            for row in record["cosines"]
        ]
    for study in record["lines"]:
        text += ["", f"### {study['score']}, from ES to GRPO and along directions", ""]
        text += _points("share of the way to GRPO", study["line"]["u"], {"held out": study["line"]["mean"]})
        along = dict(study["along"])
        text += ["", *_points("distance from the base", along.pop("distance"), along)]
    return text


def _points(head: str, at: list[float], rows: dict[str, list[float]]) -> list[str]:
    """Return a table of scores at points."""
    return [
        f"| {head} | {' | '.join(f'{point:.3g}' for point in at)} |",
        "|---" * (1 + len(at)) + "|",
        *(f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |" for name, values in rows.items()),
    ]


def main() -> None:
    """Read the runs and write what came of them."""
    work = Path(sys.argv[1])
    runs = complete(work)
    es = [name for name, run in runs.items() if run.config.method == "es"]
    record = {
        "dim": next(iter(runs.values())).dim,
        "learned": [learned(name, run) for name, run in runs.items()],
        "judged": [row for name in runs for row in judged(name, work)],
        "ledger": [book(name, work) for name in es],
        "foretold": [row for name in es for row in foretold(name, runs[name])],
        "cosines": pairs(runs),
        "lines": lines(work, runs),
    }
    write_json(HERE / "record.json", record)
    page = HERE / "README.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + BEGIN + "\n" + "\n".join(tables(record)) + "\n\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
