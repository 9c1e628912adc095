"""The simulation engines against a naive numpy loop, against drawing their normals once, and against each other.

Contenders take turns within a round, so that drifts of the machine meet all of them alike; a ratio is taken within
its round. Memory is each contender's own peak of traced allocations.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import numpy as np

from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.simulation.direct import DirectES, direct
from estheory.simulation.normals import fill_normals
from estheory.simulation.reduced import reduced

ROUNDS = 9
DIM, POPULATION = 100_000, 30


def problem(dim: int, steps: int = 1) -> tuple[ESConfig, Landscape]:
    """Return ES on a quadratic with a tenth of its directions curved."""
    config = ESConfig(dim=dim, sigma=0.01, alpha=0.01, population=POPULATION, steps=steps)
    landscape = Landscape(dim=dim, eigenvalue=[1.0], multiplicity=[dim // 10], offset=[0.01], reward_std=0.1)
    return config, landscape


def naive_step(config: ESConfig, landscape: Landscape) -> Callable[[], None]:
    """Return one step as a textbook writes it: a loop over members, their noise in float64."""
    rng = np.random.default_rng(0)
    theta = np.zeros(config.dim)
    curvature, optimum = np.zeros(config.dim), np.zeros(config.dim)
    curvature[: config.dim // 10], optimum[: config.dim // 10] = landscape.eigenvalue[0], landscape.offset[0]

    def step() -> None:
        nonlocal theta
        noises, rewards = [], []
        for _ in range(config.population):
            eps = rng.standard_normal(config.dim)
            distance = theta + config.sigma * eps - optimum
            noises.append(eps)
            rewards.append(-0.5 * np.sum(curvature * distance**2) + landscape.reward_std * rng.standard_normal())
        z = (np.array(rewards) - np.mean(rewards)) / np.std(rewards)
        theta = theta + config.step_size / config.population * sum(a * b for a, b in zip(z, noises, strict=True))

    return step


def normals_alone() -> Callable[[], None]:
    """Return the drawing of one step's normals, once, into a buffer."""
    rng, buffer = np.random.Generator(np.random.SFC64(0)), np.empty(DIM * POPULATION, dtype=np.float32)

    def draw() -> None:
        fill_normals(rng, buffer)

    return draw


def seconds(action: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_megabytes(action: Callable[[], object]) -> float:
    """Return the peak of memory allocated during one call, MB."""
    tracemalloc.start()
    action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def one_step() -> None:
    """Compare one step of the direct engine with its peers at d = 1e5, N = 30."""
    config, landscape = problem(DIM)
    fits = DirectES(config, landscape, 1, np.random.SeedSequence(0))
    twice = DirectES(config, landscape, 1, np.random.SeedSequence(0), buffer_normals=DIM * 4)
    contenders: dict[str, Callable[[], None]] = {
        "normals drawn once": normals_alone(),
        "direct engine": fits.step,
        "direct, drawn twice": twice.step,
        "naive numpy loop": naive_step(config, landscape),
    }
    for action in contenders.values():
        action()
    rounds = [{name: seconds(action) for name, action in contenders.items()} for _ in range(ROUNDS)]
    print(f"one step, d = {DIM:,}, N = {POPULATION}; {ROUNDS} rounds, ratios to the direct engine (median, range)")
    for name, action in contenders.items():
        ratios = sorted(times[name] / times["direct engine"] for times in rounds)
        print(
            f"  {name:<20} {1e3 * median(t[name] for t in rounds):>8.2f} ms  {median(ratios):>6.2f}  "
            f"{ratios[0]:.2f} .. {ratios[-1]:.2f}  {peak_megabytes(action):>7.1f} MB more while it runs"
        )
    for name in ("direct engine", "direct, drawn twice"):
        shares = sorted(times["normals drawn once"] / times[name] for times in rounds)
        print(f"  {name}: {median(shares):.0%} of the speed of drawing its normals once")


def over_dimensions() -> None:
    """Compare the engines as d grows, ten runs of ten steps, then the reduced one alone."""
    print("ten runs of ten steps, N = 30: seconds of the direct and of the reduced engine (median)")
    for dim in (10**3, 10**4, 10**5, 10**6, 10**7, 10**9, 10**12):
        config, landscape = problem(dim, steps=10)
        rounds = 5 if dim <= 10**5 or dim > 10**7 else 1
        alone = [seconds(lambda: reduced(config, landscape, replicas=10)) for _ in range(rounds)]  # noqa: B023
        if dim > 10**7:
            print(f"  d = {dim:<17,} {'':>10}  {median(alone):.4f}")
            continue
        if dim < 10**6:
            full = [seconds(lambda: direct(config, landscape, replicas=10)) for _ in range(rounds)]  # noqa: B023
        else:  # one step of one run, times a hundred
            single = DirectES(config, landscape, 1, np.random.SeedSequence(0))
            single.step()
            full = [100 * seconds(single.step)]
        print(f"  d = {dim:<17,} {median(full):>10.4f}  {median(alone):.4f}  ratio {median(full) / median(alone):.4g}")


if __name__ == "__main__":
    one_step()
    over_dimensions()
