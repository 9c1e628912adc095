"""The closed form of rounding against the emulator, over formats, weights, populations, steps and both update paths.

python experiments/closed-form-rounding/make.py        # writes record.csv
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from estheory._special import normal_tails
from estheory.floats import FORMATS
from estheory.rules import Arithmetic, ESConfig, UpdatePath
from estheory.simulation.emulator.emulate import GROUPS, emulate
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.rounding.gains import variance_gains
from estheory.theory.rounding.precision import rounding_effects
from estheory.theory.rounding.weights import WeightHistogram, normal_weights

OUT = Path(__file__).with_name("record.csv")
ALPHA = {"bfloat16": 7.5e-4, "float16": 7.5e-4, "float8_e4m3fn": 0.012, "float8_e5m2": 0.024}
"""Of the 8-bit formats as many spacings as in bfloat16."""
STDS, POPULATIONS, LATER = (0.002, 0.02, 0.05, 0.2), (10, 30, 128), (20, 100)
PATHS: tuple[UpdatePath, ...] = ("accumulated", "sequential")
WEIGHTS, SEEDS, GROUP = 300_000, 40, 1024
FIELDS = ("format", "path", "std", "population", "steps", "leaving")
RESULTS = ("variance", "stderr", "closed", "ratio", "ratio_stderr", "signal", "signal_stderr", "closed_signal")


def case(name: str, path: UpdatePath, population: int) -> ESConfig:
    """Return the run; ESConfig knows no 8-bit formats, so they are put in behind its checks."""
    config = ESConfig(dim=1, sigma=2 * ALPHA[name], population=population, dtype="bfloat16", update_path=path)
    object.__setattr__(config, "dtype", name)
    return config


def leaving(config: ESConfig, weights: WeightHistogram, step: int) -> float:
    """Return the share of weights that the plain walk takes out of a binade where rounding changes the variance by 1 %.

    Rounding of one addition: of the step, or of a member's term of typical size.
    """
    fmt = FORMATS[config.dtype]
    shift = {"accumulated": math.sqrt(config.population), "sequential": config.population}[config.update_path]
    std = config.step_size * math.sqrt(step / config.population)
    low = np.where(weights.exponents < fmt.smallest, 0.0, 2.0**weights.exponents)
    high = 2.0 ** np.maximum(weights.exponents + 1, fmt.smallest)
    stays = normal_tails((high - weights.magnitudes) / std)[0] - normal_tails((low - weights.magnitudes) / std)[0]
    matters = np.abs(variance_gains(config.step_size / shift / fmt.spacing(weights.exponents)) - 1) > 0.01
    return float(weights.shares @ (matters * (1 - stays)))


def emulated(
    config: ESConfig, weights: WeightHistogram, steps: Sequence[int], seeds: int
) -> Iterator[dict[str, float]]:
    """Yield variance and signal at ``steps`` over emulations, each with its own rewards, with standard errors."""
    arithmetic: Arithmetic = "rounded" if config.dtype in ("bfloat16", "float16") else "fused"
    size = GROUP if steps[-1] == 1 else WEIGHTS // seeds // GROUPS
    runs = [
        emulate(
            config,
            SampledWeights.of(weights),
            steps,
            seed=seed,
            arithmetic=arithmetic,
            group_size=size,
            max_additions=10**12,
        )
        for seed in range(seeds)
    ]
    for step in steps:
        effects = [run.effect(step) for run in runs]
        yield {
            "variance": float(np.mean([e.variance for e in effects])),
            "stderr": math.hypot(*(e.variance_stderr for e in effects)) / seeds,
            "signal": float(np.mean([e.signal for e in effects])),
            "signal_stderr": math.hypot(*(e.signal_stderr for e in effects)) / seeds,
        }


def rows() -> Iterator[dict[str, object]]:
    """Yield every row of the record."""
    for name, path, std, population in product(FORMATS, PATHS, STDS, POPULATIONS):
        if name.startswith("float8") and (population != 30 or std < 0.02):
            continue
        config, weights = case(name, path, population), normal_weights(std)
        closed = rounding_effects(config, weights, (1, *LATER))
        for steps, seeds in (((1,), SEEDS), (LATER, 2)):
            for step, found in zip(steps, emulated(config, weights, steps, seeds), strict=True):
                expected = closed[step]
                numbers = found | {
                    "leaving": leaving(config, weights, step),
                    "closed": expected.variance,
                    "closed_signal": expected.signal,
                    "ratio": expected.variance / found["variance"] if found["variance"] else math.nan,
                    "ratio_stderr": expected.variance / found["variance"] ** 2 * found["stderr"]
                    if found["variance"]
                    else math.nan,
                }
                shown = {key: f"{value:.5g}" for key, value in numbers.items()}
                yield {"format": name, "path": path, "std": std, "population": population, "steps": step, **shown}


def main() -> None:
    """Write the record."""
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*FIELDS, *RESULTS), lineterminator="\n")
        writer.writeheader()
        for row in rows():
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
