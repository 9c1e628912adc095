"""The walk law over d, sigma, N and T: real runs whose rewards steer them, judged, and the exponents of its powers.

    python experiments/walk-scaling/make.py WORK_FOLDER

writes record.json and the tables of README.md beside this file; finished runs in WORK_FOLDER are taken as they are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from estheory import ESConfig, Measurement, Prediction, Quantity, judge, predict
from estheory.files import write_json
from estheory.runs.config import ESRunConfig
from estheory.runs.directory import RunDirectory
from estheory.training.finish import finish_run

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
REPEATS = 3
TINY = ESRunConfig(
    model="tiny-lm",
    task="addition",
    steps=20,
    sigma=0.015,
    alpha=0.0075,
    population=30,
    prompts=16,
    reward="logprob",
    evaluation_prompts=8,
)
SMOLLM2 = replace(TINY, model="smollm2-135m", steps=3, sigma=1e-3, alpha=5e-4, population=4, prompts=2)
PARTS = ("layers.0.input_layernorm", "norm", "layers.0.self_attn.k_proj", "layers.0.self_attn", "layers.0", "layers")
"""Of tiny-lm, from 48 parameters to nearly all; the last point is all of them."""
LARGE_PARTS = ("model.norm", "layers.29.self_attn.k_proj", "layers.29.mlp.down_proj", "layers.2[0-9].mlp.down_proj")
MOMENTS = (1, 2, 5, 10, 20, 50, 100, 200)
ACCURACY = "sigma alone, accuracy"
"""Sixteen right-or-wrong answers tie where sigma is so small or so large that no member differs: T counts the rest."""
EXPONENTS = {"d": 0.5, "d, SmolLM2": 0.5, "sigma, alpha = sigma/2": 1.0, "sigma alone": 0.0, "N": -0.5, "T": 0.5}
"""Of the law, by sweep."""


def configs() -> Iterator[tuple[str, str, ESRunConfig]]:
    """Yield the sweep, the run's name and its configuration; runs of one seed would share their noise."""
    for seed, (sweep, name, config) in enumerate(_configs()):
        yield sweep, f"{name}-{seed}", replace(config, seed=seed)


def _configs() -> Iterator[tuple[str, str, ESRunConfig]]:
    for _ in range(REPEATS):
        for number, part in enumerate((*PARTS, "")):
            yield "d", f"d{number}", replace(TINY, trainable=f"regex:{part}" if part else "all")
        for number, sigma in enumerate((1e-5, 1e-4, 1e-3, 0.005, 0.015, 0.05, 0.15)):
            yield "sigma, alpha = sigma/2", f"sigma{number}", replace(TINY, sigma=sigma, alpha=sigma / 2)
            yield "sigma alone", f"only{number}", replace(TINY, sigma=sigma)
            yield ACCURACY, f"accuracy{number}", replace(TINY, sigma=sigma, reward="accuracy")
        for population in (4, 8, 16, 32, 64, 128):
            yield "N", f"n{population}", replace(TINY, population=population)
        yield "T", "t", replace(TINY, steps=max(MOMENTS))
    for number, part in enumerate((*LARGE_PARTS, "")):
        yield "d, SmolLM2", f"large{number}", replace(SMOLLM2, trainable=f"regex:{part}" if part else "all")


def points(sweep: str, name: str, config: ESRunConfig, work: Path) -> Iterator[dict[str, Any]]:
    """Make a run, or go on with it, and yield predicted and measured norms."""
    folder = work / name
    finish_run(config, folder)
    directory = RunDirectory.open(folder)
    rows = directory.steps()
    environment: Any = directory.read_json("environment.json")
    dim = environment["model"]["dim"]
    for step in MOMENTS if sweep == "T" else (config.steps,):
        moved = sum(any(row["coefficients"]) for row in rows[:step])
        if moved == 0:
            continue
        assert config.alpha is not None
        yield {
            "sweep": sweep,
            "seed": config.seed,
            "d": dim,
            "sigma": config.sigma,
            "alpha": config.alpha,
            "N": config.population,
            "steps": step,
            "T": moved,
            "measured": rows[step - 1]["norm"],
        }


def judged(rows: list[dict[str, Any]]) -> None:
    """Add prediction, z, p and verdict to all rows, as one family (Holm, 5 %)."""
    pairs: list[tuple[Prediction, Measurement]] = []
    for row in rows:
        rules = ESConfig(dim=row["d"], sigma=row["sigma"], alpha=row["alpha"], population=row["N"], steps=row["T"])
        prediction = predict(rules).get(Quantity.DISPLACEMENT_NORM)
        measured = Measurement(quantity=Quantity.DISPLACEMENT_NORM, value=row["measured"], step=row["T"])
        pairs.append((prediction, measured))
    for row, verdict in zip(rows, judge(pairs), strict=True):
        law = verdict.prediction.law
        row |= {
            "predicted": law.mean,
            "std": law.std,
            "ratio": row["measured"] / law.mean,
            "z": (row["measured"] - law.mean) / law.std,
            "pvalue": verdict.pvalue,
            "verdict": str(verdict.kind),
        }


def variable(sweep: str) -> str:
    """Return the key of what a sweep varies."""
    return sweep.split(",")[0].split()[0]


def exponent(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the slope of log norm in the log of what is varied, and its standard error by the law's own spread.

    Points of one run share their noise in the sweep of T, so that its error there is that of independent points.
    """
    x = np.log([row[variable(row["sweep"])] for row in rows])
    y = np.log([row["measured"] for row in rows])
    weight = np.array([row["predicted"] / row["std"] for row in rows]) ** 2
    centred = x - np.average(x, weights=weight)
    information = float((weight * centred**2).sum())
    return float((weight * centred * y).sum()) / information, 1 / math.sqrt(information)


def tables(rows: list[dict[str, Any]]) -> str:
    """Return the tables of README.md."""
    lines = ["", "| varied | from | to | runs | exponent of the law | measured |", "|---|---|---|---|---|---|"]
    for sweep, law in EXPONENTS.items():
        found = [row for row in rows if row["sweep"] == sweep]
        low, high = (f(row[variable(sweep)] for row in found) for f in (min, max))
        slope, error = exponent(found)
        count = len({row["seed"] for row in found}) if sweep == "T" else len(found)
        lines.append(f"| {sweep} | {low:g} | {high:g} | {count} | {law:g} | {slope:.5f} ± {error:.5f} |")
    kinds = {kind: sum(row["verdict"] == kind for row in rows) for kind in ("consistent", "refuted", "underpowered")}
    square = sum(row["z"] ** 2 for row in rows if row["sweep"] != "T")
    count = sum(row["sweep"] != "T" for row in rows)
    lines += [
        "",
        f"{len(rows)} norms judged as one family (Holm, 5 %): "
        + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        + f". Sum of z² over the {count} independent runs: {square:.1f}.",
        "",
        "| sweep | d | σ | α | N | steps | of them moved | predicted (first run) | measured / predicted | z |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ("sweep", "d", "sigma", "alpha", "N", "steps")
    for key in dict.fromkeys(tuple(row[k] for k in keys) for row in rows):
        same = [row for row in rows if tuple(row[k] for k in keys) == key]
        first = same[0]
        forms = (("ratio", "{:.5f}"), ("z", "{:+.1f}"))
        ratios, zs = (", ".join(form.format(row[k]) for row in same) for k, form in forms)
        settings = f"{key[0]} | {key[1]} | {key[2]:g} | {key[3]:g} | {key[4]} | {key[5]}"
        moved = ", ".join(f"{row['T']}" for row in same) if any(row["T"] < key[5] for row in same) else "all"
        lines.append(f"| {settings} | {moved} | {first['predicted']:.5g} ± {first['std']:.2g} | {ratios} | {zs} |")
    return "\n".join(lines) + "\n\n"


def main() -> None:
    work = Path(sys.argv[1])
    started = perf_counter()
    rows: list[dict[str, Any]] = []
    for sweep, name, config in configs():
        rows += points(sweep, name, config, work)
        print(name, f"{perf_counter() - started:.0f} s", flush=True)
    judged(rows)
    write_json(HERE / "record.json", {"seconds": round(perf_counter() - started), "rows": rows})
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(head + BEGIN + tables(rows) + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
