"""What rounding does to the published runs' norms, over weights of unknown scale and shape; nothing is fitted.

python experiments/rounding-family/make.py
"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import estheory
from estheory.rules import ESConfig
from estheory.simulation.emulator.emulate import emulate
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.rounding.weights import weight_family

OUT = Path(estheory.__file__).parent / "data" / "rounding_family.csv"
ADDITIONS = 100_000_000
SEQUENTIAL: dict[str, Any] = {"dim": 4_022_468_096, "sigma": 1.5e-3, "dtype": "bfloat16", "update_path": "sequential"}
ACCUMULATED: dict[str, Any] = {"dim": 3_085_938_688, "sigma": 1e-3, "dtype": "float16", "update_path": "accumulated"}
RUNS: list[dict[str, Any]] = [
    *({**SEQUENTIAL, "population": 30, "restore_pairs": p, "steps": (100, 200, 300, 400)} for p in (0, 10, 30)),
    *({**ACCUMULATED, "population": 30, "restore_pairs": p, "steps": (100, 500)} for p in (0, 10, 30)),
    *({**SEQUENTIAL, "population": n, "restore_pairs": p, "steps": (100,)} for n in (128, 256) for p in (0, n // 3)),
    *({**ACCUMULATED, "population": n, "restore_pairs": p, "steps": (100,)} for n in (128, 256) for p in (0, n // 3)),
]
COLUMNS = ("dtype", "update_path", "population", "sigma", "alpha", "restore_pairs", "weights", "steps")
RESULTS = ("variance", "variance_stderr", "signal", "signal_stderr")


def main() -> None:
    with OUT.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow((*COLUMNS, *RESULTS))
        for run in RUNS:
            start = time.perf_counter()
            config = ESConfig(**{**run, "steps": max(run["steps"])})
            for name, weights in weight_family().items():
                emulation = emulate(config, SampledWeights.of(weights), run["steps"], max_additions=ADDITIONS)
                for step in run["steps"]:
                    effect = emulation.effect(step)
                    shown = [getattr(config, c) for c in COLUMNS[:4]] + [config.step_size, config.restore_pairs]
                    table.writerow([*shown, name, step, *(f"{getattr(effect, c):.4f}" for c in RESULTS)])
            stream.flush()
            print(f"{config.dtype} N={config.population} P={config.restore_pairs}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
