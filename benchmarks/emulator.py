"""Speed of the rounding emulator beside the same loop in torch: a million weights, 100 steps, bfloat16.

    python benchmarks/emulator.py

Both do every rounded addition; torch draws new noise for each member, the emulator takes slices of a fixed pool of
quantiles. One thread.
"""

from __future__ import annotations

import time

import torch

from estheory.rules import ESConfig
from estheory.simulation.emulator.emulate import GROUPS, emulate
from estheory.simulation.emulator.strata import SampledWeights
from estheory.theory.rounding.weights import normal_weights

WEIGHTS, STEPS, POPULATION, SIGMA = 1 << 20, 100, 30, 1.5e-3


def in_torch(path: str) -> float:
    """Return the factor on the variance of a run in place, its rewards pure noise."""
    torch.set_num_threads(1)
    theta = (0.02 * torch.randn(WEIGHTS)).bfloat16()
    start, scale = theta.double(), 0.5 * SIGMA / POPULATION
    for _ in range(STEPS):
        z = torch.randn(POPULATION)
        z = (z - z.mean()) / z.std(correction=0)
        total = torch.zeros(WEIGHTS)
        for factor in z:
            eps = torch.randn(WEIGHTS).bfloat16()
            if path == "sequential":
                theta.add_(float(scale * factor) * eps)
            else:
                total.add_(eps, alpha=float(scale * factor))
        if path == "accumulated":
            theta.add_(total.bfloat16())
    plain = (0.5 * SIGMA) ** 2 * STEPS / POPULATION
    return float((theta.double() - start).square().mean()) / plain


def emulated(path: str) -> float:
    """Return the same from the emulator, on as many weights."""
    config = ESConfig(dim=WEIGHTS, sigma=SIGMA, population=POPULATION, dtype="bfloat16", update_path=path)  # type: ignore[arg-type]
    weights = SampledWeights.of(normal_weights(0.02))
    found = emulate(config, weights, [STEPS], group_size=WEIGHTS // GROUPS, max_additions=10**12)
    return found.effect(STEPS).variance


def main() -> None:
    """Time both ways on both update paths."""
    for path in ("accumulated", "sequential"):
        seconds = {}
        for name, run in (("emulator", emulated), ("torch", in_torch)):
            started = time.perf_counter()
            variance = run(path)
            seconds[name] = time.perf_counter() - started
            print(f"{path:12} {name:9} {seconds[name]:7.2f} s, variance {variance:.4f}")
        print(f"{path:12} torch takes {seconds['torch'] / seconds['emulator']:.1f} times as long")


if __name__ == "__main__":
    main()
