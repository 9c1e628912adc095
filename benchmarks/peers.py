"""One step of ES by the direct engine and by its peers: the same update on the same quadratic, d = 1e5, N = 30.

All run in one process on the same cores (one unless ``--cores`` says more) and take turns within a round, in an order
that changes from round to round, so that drifts of the machine meet all of them alike; a ratio is taken within its
round. ``walk`` is ||Delta|| over alpha sqrt(d T / N) after the timed steps: near 1 where the update is the same. Peak
memory is that of a fresh process that does nothing else, above what it held before the contender was set up. A peer
that is not installed is left out with a line (benchmarks/requirements.txt).

``cma`` adapts a diagonal covariance, which is another algorithm: orientation only.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

DIM, POPULATION, SIGMA, ALPHA = 100_000, 30, 0.01, 0.01
CURVED, OFFSET, REWARD_STD = DIM // 10, 0.01, 0.1
ROUNDS, STEPS = 15, 5


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A step to be timed, and the norm of the displacement so far (None where it is no walk of this kind)."""

    step: Callable[[], object]
    norm: Callable[[], float] | None = None


def direct_engine() -> Contender:
    """Return the direct engine."""
    from estheory.landscape import Landscape
    from estheory.rules import ESConfig
    from estheory.simulation.direct import DirectES

    config = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=POPULATION)
    where = Landscape(dim=DIM, eigenvalue=[1.0], multiplicity=[CURVED], offset=[OFFSET], reward_std=REWARD_STD)
    es = DirectES(config, where, 1, np.random.SeedSequence(0))
    return Contender(step=es.step, norm=lambda: float(np.linalg.norm(es.displacement)))


def torch_engine() -> Contender:
    """Return the direct engine on torch's CPU device."""
    import torch

    from estheory.landscape import Landscape
    from estheory.rules import ESConfig
    from estheory.simulation.torch_direct import TorchES

    config = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=POPULATION)
    where = Landscape(dim=DIM, eigenvalue=[1.0], multiplicity=[CURVED], offset=[OFFSET], reward_std=REWARD_STD)
    es = TorchES(config, where, 1, np.random.SeedSequence(0), torch.device("cpu"))
    return Contender(step=es.step, norm=lambda: float(np.linalg.norm(es.displacement)))


def naive_loop() -> Contender:
    """Return what a textbook writes: a loop over members, their noise in float64."""
    rng, theta = np.random.default_rng(0), np.zeros(DIM)

    def step() -> None:
        noises, rewards = [], []
        for _ in range(POPULATION):
            eps = rng.standard_normal(DIM)
            distance = (theta + SIGMA * eps)[:CURVED] - OFFSET
            noises.append(eps)
            rewards.append(-0.5 * np.sum(distance**2) + REWARD_STD * rng.standard_normal())
        z = (np.array(rewards) - np.mean(rewards)) / np.std(rewards)
        theta[:] += ALPHA / POPULATION * sum(a * b for a, b in zip(z, noises, strict=True))

    return Contender(step=step, norm=lambda: float(np.linalg.norm(theta)))


def cma_separable() -> Contender:
    """Return CMA-ES with a diagonal covariance."""
    import cma

    options = {"CMA_diagonal": True, "popsize": POPULATION, "verbose": -9, "seed": 1}
    es = cma.CMAEvolutionStrategy(np.zeros(DIM), SIGMA, options)
    rng = np.random.default_rng(0)

    def step() -> None:
        members = es.ask()
        costs = [0.5 * np.sum((x[:CURVED] - OFFSET) ** 2) + REWARD_STD * rng.standard_normal() for x in members]
        es.tell(members, costs)

    return Contender(step=step)


def evosax_open_es() -> Contender:
    """Return evosax Open_ES with z-scored fitness, plain SGD, no antithetic pairs; ask, fitness and tell in one jit."""
    import jax
    import jax.numpy as jnp
    import optax
    from evosax.algorithms import Open_ES
    from evosax.core.fitness_shaping import standardize_fitness_shaping_fn

    es = Open_ES(
        population_size=POPULATION,
        solution=jnp.zeros(DIM),
        use_antithetic_sampling=False,
        optimizer=optax.sgd(learning_rate=ALPHA * SIGMA),
        std_schedule=optax.constant_schedule(SIGMA),
        fitness_shaping_fn=standardize_fitness_shaping_fn,
        metrics_fn=lambda *_: {},
    )
    params = es.default_params
    state = es.init(jax.random.key(0), jnp.zeros(DIM), params)
    key = jax.random.key(1)

    @jax.jit
    def advance(key: Any, state: Any) -> tuple[Any, Any]:
        key, ask, tell, noise = jax.random.split(key, 4)
        members, state = es.ask(ask, state, params)
        costs = 0.5 * jnp.sum((members[:, :CURVED] - OFFSET) ** 2, axis=1)
        costs += REWARD_STD * jax.random.normal(noise, (POPULATION,))
        state, _ = es.tell(tell, members, costs, state, params)
        return key, state

    def step() -> None:
        nonlocal key, state
        key, state = advance(key, state)
        jax.block_until_ready(state.mean)

    return Contender(step=step, norm=lambda: float(jnp.linalg.norm(state.mean)))


def evotorch_pgpe() -> Contender:
    """Return evotorch's PGPE with normalised fitness, plain steps, fixed stdev and no symmetric sampling."""
    import logging

    import torch
    from evotorch import Problem
    from evotorch.algorithms import PGPE

    logging.disable(logging.INFO)

    def rewards(members: torch.Tensor) -> torch.Tensor:
        return -0.5 * (members[:, :CURVED] - OFFSET).square().sum(1) + REWARD_STD * torch.randn(len(members))

    problem = Problem("max", rewards, solution_length=DIM, initial_bounds=(-1, 1), vectorized=True, seed=1)
    es = PGPE(
        problem,
        popsize=POPULATION,
        center_learning_rate=ALPHA / SIGMA,
        stdev_learning_rate=0.0,
        stdev_init=SIGMA,
        center_init=torch.zeros(DIM),
        optimizer=None,
        ranking_method="normalized",
        symmetric=False,
    )
    return Contender(step=es.step, norm=lambda: float(torch.linalg.norm(es.status["center"])))


def normals_alone() -> Contender:
    """Return the drawing of one step's normals, once, by the generator of the direct engine."""
    from estheory.simulation.normals import fill_normals

    rng, buffer = np.random.Generator(np.random.SFC64(0)), np.empty(DIM * POPULATION, dtype=np.float32)
    return Contender(step=lambda: fill_normals(rng, buffer))


def numpy_normals() -> Contender:
    """Return the same from numpy's standard_normal."""
    rng, buffer = np.random.Generator(np.random.SFC64(0)), np.empty(DIM * POPULATION, dtype=np.float32)
    return Contender(step=lambda: rng.standard_normal(dtype=np.float32, out=buffer))


CONTENDERS: dict[str, tuple[str, Callable[[], Contender]]] = {
    "direct engine": ("numpy", direct_engine),
    "direct engine on torch": ("torch", torch_engine),
    "its normals, drawn once": ("numpy", normals_alone),
    "numpy's own normals": ("numpy", numpy_normals),
    "naive numpy loop": ("numpy", naive_loop),
    "evosax Open_ES": ("evosax", evosax_open_es),
    "evotorch PGPE": ("evotorch", evotorch_pgpe),
    "cma, separable": ("cma", cma_separable),
}
"""Name: the package it needs, and what sets it up."""


def hold_to_cores(cores: int) -> None:
    """Confine this process, and every thread a library starts later, to as many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(cores)


def peak_megabytes(name: str) -> float:
    """Return by how much three steps of a contender raise the peak memory of this process, MB."""
    package, build = CONTENDERS[name]
    importlib.import_module(package)
    before = _high_water()
    contender = build()
    for _ in range(3):
        contender.step()
    return (_high_water() - before) / 1e3


def _high_water() -> float:
    """Return the peak resident memory of this process, kB; NaN where there is no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return float(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))


def seconds(step: Callable[[], object]) -> float:
    """Return the wall time of STEPS steps, over their number."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - start) / STEPS


def main() -> int:
    """Time and weigh all that is installed; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cores", type=int, default=1, help="cores that every contender may use")
    parser.add_argument("--memory", choices=CONTENDERS, help="print the peak memory of this contender alone, MB")
    options = parser.parse_args()
    hold_to_cores(options.cores)
    if options.memory:
        print(f"{peak_megabytes(options.memory):.1f}")
        return 0
    ready: dict[str, Contender] = {}
    for name, (package, build) in CONTENDERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name}: {package} is not installed, left out")
            continue
        ready[name] = build()
        ready[name].step()
        ready[name].step()
    order, rounds = list(ready), []
    shuffle = random.Random(0)
    for _ in range(ROUNDS):
        shuffle.shuffle(order)
        rounds.append({name: seconds(ready[name].step) for name in order})
    print(
        f"one step, d = {DIM:,}, N = {POPULATION}, {options.cores} core(s); {ROUNDS} rounds of {STEPS} steps; "
        "time over that of the direct engine"
    )
    print(f"{'':<24} {'ms':>8} {'ratio':>6}   quartiles     {'walk':>6} {'peak MB':>8}")
    taken = 2 + ROUNDS * STEPS
    for name, contender in ready.items():
        ratios = [times[name] / times["direct engine"] for times in rounds]
        low, middle, high = quantiles(ratios, n=4)
        walk = "" if contender.norm is None else f"{contender.norm() / (ALPHA * np.sqrt(DIM * taken / POPULATION)):.3f}"
        command = [sys.executable, __file__, "--cores", str(options.cores), "--memory", name]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
        milliseconds = 1e3 * median(times[name] for times in rounds)
        print(f"{name:<24} {milliseconds:>8.2f} {middle:>6.2f}   {low:.2f} .. {high:.2f}   {walk:>6} {peak:>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
