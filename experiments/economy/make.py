"""What runs of tiny-lm earned and paid against what their reward did, and forecasts written as they went on.

    python experiments/economy/make.py WORK_FOLDER

writes record.json and the tables of README.md beside this file; the same command goes on with one that was cut off.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from estheory.files import read_object, write_json
from estheory.laws import noisy_pvalue
from estheory.measurement.run_log import run_log
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import RunDirectory
from estheory.runs.view import OwnRun
from estheory.theory.economy.forecast import windows
from estheory.theory.economy.ledger import Ledger, ledger
from estheory.training.finish import finish_run
from estheory.training.foresight import forecast_row
from estheory.validation.forecast_pairs import forecast_pairs

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
STEPS, WINDOWS = 60, 4
AFTER = (STEPS // 4, STEPS // 2, 3 * STEPS // 4)
BASE = ESRunConfig(
    model="tiny-lm",
    task="addition",
    steps=STEPS,
    sigma=0.015,
    alpha=0.0075,
    population=30,
    prompts=64,
    checkpoint_every=STEPS // 4,
    forecast_every=STEPS // 4,
)
MIRRORED: dict[str, Any] = {"antithetic": True, "mirror_every": 1}
INDEPENDENT: dict[str, Any] = {"mirror_every": 5}
RUNS: dict[str, dict[str, Any]] = {
    "mirrored-0": MIRRORED,
    "independent-0": INDEPENDENT,
    "permuted-mirrored": {**MIRRORED, "permute_rewards": True},
    "permuted-independent": {**INDEPENDENT, "permute_rewards": True},
    "mirrored-1": {**MIRRORED, "seed": 1},
    "independent-1": {**INDEPENDENT, "seed": 1},
    "reversal": {**MIRRORED, "task": "reversal"},
    "mirrored-2": {**MIRRORED, "seed": 2},
    "independent-2": {**INDEPENDENT, "seed": 2},
    "permuted-mirrored-2": {**MIRRORED, "permute_rewards": True, "seed": 2},
    "permuted-independent-2": {**INDEPENDENT, "permute_rewards": True, "seed": 2},
    "mirrored-3": {**MIRRORED, "seed": 3},
    "independent-3": {**INDEPENDENT, "seed": 3},
    "permuted-mirrored-3": {**MIRRORED, "permute_rewards": True, "seed": 3},
    "permuted-independent-3": {**INDEPENDENT, "permute_rewards": True, "seed": 3},
}
WRITTEN = {
    "the first seven runs": tuple(name for name in RUNS if not name.endswith(("-2", "-3"))),
    "the four of seed 2": tuple(name for name in RUNS if name.endswith("-2")),
    "the four of seed 3": tuple(name for name in RUNS if name.endswith("-3")),
}
"""Runs by the rules that wrote their forecasts: the rules were mended between the three."""


def done(work: Path, name: str) -> OwnRun:
    """Return the record of a run, made or gone on with if need be."""
    folder = work / name
    finish_run(replace(BASE, **RUNS[name]), folder)
    return RunDirectory.open(folder).record()


def totals(name: str, run: OwnRun) -> dict[str, Any]:
    """Return what a run earned and paid between its ends, what its reward did, and both without partners."""
    log = run_log(run)
    book = ledger(log.updates, log.rules)
    between = book.between_ends()
    plain = ledger([replace(u, mirror_rewards=None) for u in log.updates], replace(log.rules, mirrored=False))
    found = {
        "earned": book.total("earned", between),
        "paid": book.total("paid", between),
        "net": book.total("net", between),
        "risen": book.risen(),
    }
    accuracy = run.evaluated("accuracy")
    ends = [accuracy[step, run.config.task] for step in (0, STEPS)]
    net, risen = found["net"], found["risen"]
    return {
        "run": name,
        **{key: {"value": total.value, "stderr": total.stderr} for key, total in found.items()},
        "z": (net.value - risen.value) / math.hypot(net.stderr, risen.stderr),
        "held_out": {"value": ends[1][0] - ends[0][0], "stderr": math.hypot(ends[0][1], ends[1][1])},
        "without_partners": plain.total("earned", between).value,
        "windows": [windowed(Ledger(entries=part, centred=book.centred)) for part in windows(book, WINDOWS)],
    }


def windowed(part: Ledger) -> dict[str, Any]:
    """Return a quarter of a ledger."""
    shares = {
        key: [value for entry in part.entries if not math.isnan(value := getattr(entry, key))]
        for key in ("reliability", "odd_share", "even_share")
    }
    sums = {key: part.total(key) for key in ("earned", "paid")}
    return {
        "steps": [part.entries[0].step, part.entries[-1].step],
        **{key: {"value": total.value, "stderr": total.stderr} for key, total in sums.items()},
        **{key: sum(values) / len(values) if values else None for key, values in shares.items()},
        "reward": sum(entry.reward for entry in part.entries) / len(part.entries),
    }


def again(run: OwnRun) -> OwnRun:
    """Return the run as if its forecasts were written by today's rules, from the rows up to then."""
    return replace(run, forecasts=tuple(forecast_row(run, at=step) for step in AFTER))


def forecasts(name: str, run: OwnRun) -> Iterator[dict[str, Any]]:
    """Yield each prediction of a reward or norm with what came."""
    for prediction, measured in forecast_pairs(run):
        yield {
            "run": name,
            "quantity": str(prediction.quantity),
            "where": str(measured.where).partition(", ")[2],
            "step": prediction.step,
            "predicted": prediction.law.mean,
            "std": prediction.law.std,
            "interval": prediction.law.interval(0.95),
            "measured": measured.value,
            "stderr": measured.stderr,
            "inside": noisy_pvalue(prediction.law, measured.value, measured.stderr) >= 0.05,
        }


def told(found: dict[str, float], digits: int = 3) -> str:
    """Return a value with its standard error."""
    return f"{found['value']:.{digits}f} ± {found['stderr']:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [" | ".join(header), " | ".join("---" for _ in header), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def tables(record: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of the page."""
    yield "### What was earned and paid, and what the reward did\n"
    yield table(
        ("run", "earned", "paid", "net", "reward rose by", "off by, in standard errors", "held-out accuracy", "naive"),
        [
            (
                row["run"],
                *(told(row[key]) for key in ("earned", "paid", "net", "risen")),
                f"{row['z']:.1f}",
                told(row["held_out"]),
                f"{row['without_partners']:.2f}",
            )
            for row in record["totals"]
        ],
    )
    yield "### By quarters of the run\n"
    yield table(
        ("run", "steps", "earned", "paid", "reliability", "odd", "even", "centre's reward"),
        [
            (
                row["run"],
                "-".join(map(str, part["steps"])),
                told(part["earned"]),
                told(part["paid"]),
                *(f"{part[key]:.2f}" for key in ("reliability", "odd_share", "even_share", "reward")),
            )
            for row in record["totals"]
            for part in row["windows"]
        ],
    )
    yield "### Forecasts inside their 95 % interval\n"
    yield table(("forecasts of", *(f"{kind}, {what}" for what in WHATS for kind in KINDS)), list(shares(record)))
    yield "### Every forecast\n"
    yield "95 % interval: what came. Bold: outside, the error of what came counted.\n"
    for what in WHATS:
        yield f"**{what.capitalize()}**\n"
        yield table(("run", "after step", "in order of steps"), list(every(record, what)))


WHATS = ("reward", "held-out accuracy", "norm")
KINDS = ("mirrored", "independent", "permuted")


def of(row: dict[str, Any]) -> tuple[str, str]:
    """Return what a forecast is of, and of which kind its run is."""
    held_out, norm = "held-out" in row["where"], row["quantity"] == "displacement_norm"
    kind = next((kind for kind in reversed(KINDS) if kind in row["run"]), KINDS[0])
    return "norm" if norm else "held-out accuracy" if held_out else "reward", kind


def shares(record: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the share inside with its binomial error, of the forecasts that were written and of today's rules."""
    for name, runs in WRITTEN.items():
        yield name, *inside([row for row in record["forecasts"] if row["run"] in runs])
    for name, runs in list(WRITTEN.items())[:-1]:
        yield f"{name}, again by today's rules", *inside([row for row in record["again"] if row["run"] in runs])


def inside(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the share inside by what is foretold and kind of run."""
    for asked in ((what, kind) for what in WHATS for kind in KINDS):
        found = [row["inside"] for row in rows if of(row) == asked]
        share = sum(found) / len(found)
        error = f" ± {math.sqrt(share * (1 - share) / len(found)):.2f}" if 0 < share < 1 else ""
        yield f"{sum(found)} of {len(found)}, {share:.2f}{error}"


def every(record: dict[str, Any], what: str) -> Iterator[tuple[str, ...]]:
    """Yield each run's forecasts of one kind, those that were written after the same step in one row."""
    for run in dict.fromkeys(row["run"] for row in record["forecasts"]):
        for after in AFTER:
            cells = []
            for row in record["forecasts"]:
                told_then = row["where"].startswith(f"foretold after step {after}")
                if row["run"] == run and told_then and of(row)[0] == what:
                    low, high = row["interval"]
                    came = f"{row['step']}: {low:.2f} to {high:.2f}: {row['measured']:.2f}"
                    cells.append(came if row["inside"] else f"**{came}**")
            if cells:
                yield run, str(after), "; ".join(cells)


def short(number: str) -> float:
    """Return a number of nine digits, which keep the record small."""
    return float(f"{float(number):.9g}")


def main(work: Path) -> None:
    """Make the runs, the record and the tables.

    Forecasts that the record holds stay as they were written, by the rules of their time.
    """
    work.mkdir(parents=True, exist_ok=True)
    runs = {name: done(work, name) for name in RUNS}
    written = read_object(HERE / "record.json")["forecasts"]
    kept = {row["run"] for row in written}
    record = {
        "totals": [totals(name, run) for name, run in runs.items()],
        "forecasts": [*written, *(row for name in RUNS if name not in kept for row in forecasts(name, runs[name]))],
        "again": [row for name, run in runs.items() for row in forecasts(name, again(run))],
    }
    write_json(HERE / "record.json", json.loads(json.dumps(record), parse_float=short))
    page = HERE / "README.md"
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(before + BEGIN + "\n" + "\n".join(tables(record)) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
