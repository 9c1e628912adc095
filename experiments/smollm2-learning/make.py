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
    *("sums-grpo-1", "products-es-0", "products-permuted-0", "products-grpo-0"),
    *("larger-es-0", "larger-grpo-0"),
)
TASKS = ("sums", "products", "larger")
LINES = ("--points", "6", "--directions", "4")
BETWEEN = {"sums": 34, "products": 42}
"""Tasks of which the line from ES to GRPO is studied, on so many held-out prompts."""
JUDGED = {"step_norm", "displacement_norm", "grpo_displacement_norm", "kl_drift"}
OTHERS = ("quadratic law", "foretold", "coherent part")
"""Laws beside those of the table: the second is a table of its own, the third is the walk's to six digits here."""
BETWEEN_RUNS = ("es_grpo_cosine", "independent_cosine", "norm_ratio")
PROBED = "sums-es-1"
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
        "kl": {key[1]: value for key, value in run.evaluated("kl_drift").items() if key[0] == last},
    }


def judged(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the verdicts on norms and KL: not those of single tensors, nor of what was foretold on the way."""
    kept = ("quantity", "step", "where", "predicted", "measured", "ratio", "pvalue", "verdict", "noticeable_error")
    return [
        {"run": name, **{key: row[key] for key in kept}}
        for row in rows
        if row["quantity"] in JUDGED and not any(other in row["where"] for other in OTHERS)
    ]


def tensors(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many tensors have a share of the displacement outside its 99 % interval."""
    found = [row for row in rows if row["where"].startswith("tensor:")]
    return {"run": name, "tensors": len(found), "outside": sum(row["pvalue"] < 0.01 for row in found)}


def probed(work: Path) -> dict[str, list[float]]:
    """Return what members of their own told of sums before a run of it, with errors, and KL foretold from that."""
    files = [work / f"{PROBED}.{what}.json" for what in ("probed", "foretold")]
    if not files[1].exists():
        return {}
    measured, foretold = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    [kl] = [row for row in foretold["predictions"] if row["quantity"] == "kl_drift"]
    return {
        **{row["quantity"]: [row["value"], row["stderr"]] for row in measured["probes"]},
        "kl_drift": [kl["mean"], kl["std"]],
    }


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
            "kind": _kind(runs[ends[a]], runs[ends[b]]),
            "cosine": next(v for where, v in cosines.items() if a in where and b in where),
            "unrelated": _unrelated(runs[ends[a]], runs[ends[b]]),
        }
        for a, b in combinations(ends, 2)
    ]


def _kind(one: OwnRun, other: OwnRun) -> str:
    """Return what two runs have in common, in words."""
    es = [run for run in (one, other) if run.method == "es"]
    control = any(run.es.permute_rewards for run in es)
    if len(es) == 2 and one.config.seed == other.config.seed:
        return "two runs of ES with the same noise vectors"
    task = "" if control else " on one task" if one.config.task == other.config.task else " on two tasks"
    return ("two runs of GRPO", f"{'control' if control else 'ES'} and GRPO", "two runs of ES")[len(es)] + task


def _unrelated(one: OwnRun, other: OwnRun) -> float:
    """Return the spread of the cosine of two runs that share no signal.

    Runs of one seed have the same noise vectors with other coefficients: in each step z.z'/N is 0 +- 1/sqrt(N - 1).
    """
    if "es" == one.method == other.method and one.config.seed == other.config.seed:
        return 1 / math.sqrt(max(one.es.steps, other.es.steps) * (one.es.population - 1))
    return 1 / math.sqrt(one.dim)


def between(work: Path, runs: dict[str, OwnRun]) -> list[dict[str, Any]]:
    """Return what is predicted of two runs of a task, without and with a signal in common, and what was measured."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for task in TASKS:
        names = [name for name, run in runs.items() if run.config.task == task]
        if len(names) < 2:
            continue
        for row in asked("validate", *(str(work / name) for name in names))["verdicts"]:
            pair, _, law = row["where"].partition(", ")
            if row["quantity"] in BETWEEN_RUNS and "|" in pair:
                entry = found.setdefault(
                    (pair, row["quantity"]), {"pair": pair.split("|"), "quantity": row["quantity"]}
                )
                entry |= {"measured": row["measured"], law: row["predicted"]}
    return list(found.values())


def lines(work: Path, runs: dict[str, OwnRun]) -> list[dict[str, Any]]:
    """Return scores on the line from ES to GRPO and along the directions of each and of random ones, of one norm."""
    found = []
    for task, prompts in BETWEEN.items():
        ends = [f"{task}-es-0", f"{task}-grpo-0"]
        if not set(ends) <= runs.keys():
            continue
        studied = asked("lines", *(str(work / name) for name in ends), *LINES, "--prompts", str(prompts))["lines"]
        found += [
            {
                "task": task,
                "score": study["score"],
                "norms": study["norms"],
                "line": {key: study["line"][key] for key in ("u", "mean", "stderr")},
                "along": {key: each if key == "distance" else each["mean"] for key, each in study["along"].items()},
            }
            for study in studied
        ]
    return found


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
    for name, title in (
        ("elsewhere", "Held-out accuracy, before and after"),
        ("kl", "KL from the base at the end, nat"),
    ):
        columns = (*TASKS, "addition")
        text += ["", f"### {title}", "", f"| run | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
        text += [
            f"| {row['run']} | {' | '.join(_entry(row[name].get(column)) for column in columns)} |"
            for row in record["learned"]
        ]
    text += [
        "",
        "### How far, and what it did",
        "",
        "| run | quantity | predicted | measured | ratio | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in record["judged"]:
        law = row["predicted"]
        what = f"{row['quantity']}, step {row['step']}"
        what += "".join(f", {part}" for part in row["where"].split(", ") if not part.startswith("total:"))
        digits = 3 if "kl" in row["quantity"] else 7
        predicted = f"{law['mean']:.{digits}g} ± {law['std']:.2g}"
        verdict = row["verdict"]
        if verdict == "underpowered":
            verdict = f"within {row['noticeable_error'] / law['mean']:.0%} at best"
        text.append(
            f"| {row['run']} | {what} | {predicted} | {row['measured']:.{digits}g} | {row['ratio']:.5g} "
            f"| {verdict} (p = {row['pvalue']:.2g}) |"
        )
    moved = [row for row in record["tensors"] if row["tensors"]]
    total, outside = (sum(row[key] for row in moved) for key in ("tensors", "outside"))
    text += ["", f"Tensor by tensor, {outside} of {total} shares of the displacement lie outside their 99 % interval."]
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
    text += [
        "",
        "### Directions",
        "",
        "| ends of | pairs | cosines | largest, in standard deviations of unrelated ones |",
    ]
    text.append("|---|---|---|---|")
    for what in sorted({row["kind"] for row in record["cosines"]}):
        rows = sorted((r for r in record["cosines"] if r["kind"] == what), key=lambda r: float(r["cosine"]))
        low, high = (f"{row['cosine']:.5f}" for row in (rows[0], rows[-1]))
        widest = max(abs(row["cosine"]) / row["unrelated"] for row in rows)
        text.append(f"| {what} | {len(rows)} | {low if len(rows) == 1 else f'{low} to {high}'} | {widest:.1f} |")
    for what in ("ES and GRPO on one task", "ES and GRPO on two tasks"):
        if not any(row["kind"] == what for row in record["cosines"]):
            continue
        text += ["", f"{what}, a mean for each run of ES and their mean, times 10⁴: {_mean(record['cosines'], what)}."]
    if record["probed"]:
        text += ["", f"### Probed before {PROBED}", "", "| quantity, sums | value |", "|---|---|"]
        text += [
            f"| {name} | {value:.4g} ± {error:.2g} |"
            for name, (value, error) in record["probed"].items()
            if error is not None
        ]
    if record["between"]:
        text += [
            "",
            "### Two runs of a task",
            "",
            "| runs | quantity | no signal in common | one in common | measured |",
        ]
        text += ["|---|---|---|---|---|"]
    for row in record["between"]:
        told = [row.get(law) for law in ("no common signal", "common signal")]
        scale = 1 if row["quantity"] == "norm_ratio" else 1e4
        laws = ["" if law is None else f"{law['mean'] * scale:.2f} ± {law['std'] * scale:.2f}" for law in told]
        what = row["quantity"] + (", times 10⁴" if scale > 1 else "")
        cells = [" and ".join(row["pair"]), what, *laws, f"{row['measured'] * scale:.2f}"]
        text.append(f"| {' | '.join(cells)} |")
    for study in record["lines"]:
        text += ["", f"### {study['task']}, {study['score']}: from ES to GRPO and along directions", ""]
        text += _points("share of the way to GRPO", study["line"]["u"], {"held out": study["line"]["mean"]})
        along = dict(study["along"])
        text += ["", *_points("distance from the base", along.pop("distance"), along)]
    return text


def _entry(values: Any) -> str:
    """Return accuracies before and after with their errors, or a KL, which has hardly any."""
    if values is None:
        return ""
    if isinstance(values[0], list | tuple):
        return " → ".join(f"{value:.2f} ± {error:.2f}" for value, error in values)
    return f"{values[0]:.4f}"


def _mean(cosines: list[dict[str, Any]], kind: str) -> str:
    """Return the mean cosine of runs of ES with runs of GRPO, and its error were they unrelated, times 10^4."""
    runs: dict[str, list[float]] = {}
    for row in cosines:
        if row["kind"] == kind:
            [name] = [name for name in row["pair"] if "grpo" not in name]
            runs.setdefault(name, []).append(row["cosine"])
            unrelated = row["unrelated"]
    mean = sum(sum(values) / len(values) for values in runs.values()) / len(runs)
    return f"{1e4 * mean:.2f} ± {1e4 * unrelated / math.sqrt(len(runs)):.2f} over {len(runs)} runs"


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
    verdicts = {name: asked("validate", str(work / name))["verdicts"] for name in runs}
    record = {
        "dim": next(iter(runs.values())).dim,
        "learned": [learned(name, run) for name, run in runs.items()],
        "judged": [row for name in runs for row in judged(name, verdicts[name])],
        "tensors": [tensors(name, verdicts[name]) for name in runs],
        "ledger": [book(name, work) for name in es],
        "foretold": [row for name in es for row in foretold(name, runs[name])],
        "probed": probed(work),
        "cosines": pairs(runs),
        "between": between(work, runs),
        "lines": lines(work, runs),
    }
    write_json(HERE / "record.json", record)
    page = HERE / "README.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + BEGIN + "\n" + "\n".join(tables(record)) + "\n\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
