"""Error of the mean-field reward, measured by the reduced engine (which is exact in law): record.csv.

Usage: python experiments/mean-field-error/make.py [--shapings zscore,centered-rank] [--seed 1] [--output record.csv]
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from estheory.landscape import Landscape
from estheory.rules import ESConfig, Shaping
from estheory.simulation.reduced import reduced
from estheory.theory.curved.fluctuations import reward_spread
from estheory.theory.estimators.zscores import mean_population_std

STEPS = (10, 20, 40)
POPULATIONS, DIRECTIONS = (10, 30, 100, 300), (1, 5, 20, 100)
REGIMES = {"noiseless": 0.5, "noiseless, large steps": 4.0, "noise-dominated": 0.5}  # alpha / sigma
BUDGET = 100_000_000  # member evaluations a cell
FIELDS = (
    "shaping",
    "regime",
    "population",
    "directions",
    "step",
    "replicas",
    "error",
    "stderr",
    "std",
    "wander",
    "declared",
)


def cell(shaping: Shaping, regime: str, population: int, directions: int) -> tuple[ESConfig, Landscape]:
    """Return one cell: equal eigenvalues 1, sigma 1, and a start about 20 steps from the optimum.

    Noise-dominated cells forget their start in ten steps, with five times the stationary distance to begin with.
    """
    alpha = REGIMES[regime]
    config = ESConfig(dim=directions, sigma=1.0, alpha=alpha, population=population, shaping=shaping, steps=STEPS[-1])
    reach = mean_population_std(population)
    noise, offset = 0.0, 20 * alpha * reach / math.sqrt(directions)
    if regime == "noise-dominated":
        noise, offset = 10 * alpha * reach, 5 * alpha / math.sqrt(0.2 * population)
    if shaping == "centered-rank":  # the same relative step: ranks' progress is 1 / (2 sqrt(pi) c) of z-scores'
        config = ESConfig(**{**vars(config), "alpha": alpha * math.sqrt(12)})
    return config, Landscape(
        dim=directions,
        eigenvalue=np.array([1.0]),
        multiplicity=np.array([float(directions)]),
        offset=np.array([offset]),
        reward_std=noise,
    )


def measured(
    config: ESConfig, landscape: Landscape, steps: Sequence[int], budget: int, seed: int
) -> Iterator[dict[str, float]]:
    """Yield measured over predicted gap minus 1, its standard error, and the predicted relative spreads."""
    replicas = max(100, int(budget / (config.population * steps[-1])))
    records = reduced(config, landscape, replicas=replicas, steps=steps, seed=seed)
    for spread in reward_spread(config, landscape, steps):
        reward = records.reward[:, records.steps.index(spread.step)]
        yield {
            "step": spread.step,
            "replicas": replicas,
            "error": float(np.mean(reward)) / spread.mean - 1,
            "stderr": float(np.std(reward, ddof=1)) / math.sqrt(replicas) / -spread.mean,
            "std": spread.std / -spread.mean,
            "wander": spread.spread_of_square,
            "declared": spread.systematic,
        }


def main() -> None:
    """Measure every cell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapings", default="zscore,centered-rank")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "record.csv")
    args = parser.parse_args()
    with args.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        for shaping, regime, n, r in product(args.shapings.split(","), REGIMES, POPULATIONS, DIRECTIONS):
            config, landscape = cell(shaping, regime, n, r)
            for row in measured(config, landscape, STEPS, BUDGET, args.seed):
                shown = {name: f"{value:.6g}" for name, value in row.items()}
                writer.writerow({"shaping": shaping, "regime": regime, "population": n, "directions": r, **shown})
            file.flush()


if __name__ == "__main__":
    main()
