"""Code of others through the checks of estheory.testing: which invariants hold of a rule that it could be taken for.

Each is one step (or shaping) as its package makes it, behind an adapter of a few lines. A peer that fails has no bug by
that: its rule is another one. What differs is what a user must know who compares runs or writes down hyper-parameters.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from estheory.rules import ESConfig
from estheory.testing import checks
from estheory.testing.checks import Kind
from estheory.testing.failures import outcomes

DIM, POPULATION, SIGMA, ALPHA = 64, 30, 0.02, 0.01
SHAPES = ((4, 8), (32,))
SEED = 0

HERE = Path(__file__).parent
RULE = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=POPULATION)
PAIRS = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=POPULATION, antithetic=True)
RANKS = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=POPULATION, shaping="centered-rank")
SHARED = ESConfig(dim=DIM, sigma=SIGMA, alpha=ALPHA, population=POPULATION, noise="shared-seed")


def evosax_step(algorithm: str, **settings: Any) -> Callable[..., Any]:
    """Return one step of an algorithm of evosax, which minimises."""
    import jax
    import jax.numpy as jnp
    from evosax import algorithms

    es = getattr(algorithms, algorithm)(population_size=POPULATION, solution=jnp.zeros(DIM), **settings)
    params = es.default_params

    def step(theta: Any, reward: Callable[[Any], float], seed: int) -> Any:
        start, ask, tell = jax.random.split(jax.random.key(seed), 3)
        state = es.init(start, jnp.asarray(theta), params)
        state = state.replace(std=SIGMA * jnp.ones_like(state.std))
        members, state = es.ask(ask, state, params)
        costs = jnp.array([-reward(member) for member in np.asarray(members)])
        state, _ = es.tell(tell, members, costs, state, params)
        return state.mean

    return step


def open_es(antithetic: bool, shaping: str) -> Callable[..., Any]:
    """Return Open_ES with plain SGD, at the learning rate alpha sigma that its 1/sigma makes alpha of."""
    import optax
    from evosax.core import fitness_shaping

    return evosax_step(
        "Open_ES",
        use_antithetic_sampling=antithetic,
        optimizer=optax.sgd(learning_rate=ALPHA * SIGMA),
        std_schedule=optax.constant_schedule(SIGMA),
        fitness_shaping_fn=getattr(fitness_shaping, f"{shaping}_fitness_shaping_fn"),
        metrics_fn=lambda *_: {},
    )


def snes() -> Callable[..., Any]:
    """Return evosax's SNES with plain SGD of rate 1."""
    import optax

    return evosax_step("SNES", optimizer=optax.sgd(learning_rate=1.0), metrics_fn=lambda *_: {})


def evotorch_step(algorithm: str, **settings: Any) -> Callable[..., Any]:
    """Return one step of an algorithm of evotorch."""
    import torch
    from evotorch import Problem, algorithms

    logging.disable(logging.INFO)

    def step(theta: Any, reward: Callable[[Any], float], seed: int) -> Any:
        updates = False

        def rewards(member: Any) -> Any:
            return torch.tensor(0.0 if updates else reward(member.numpy()))

        problem = Problem("max", rewards, solution_length=DIM, initial_bounds=(-1, 1), seed=seed + 1)
        es = getattr(algorithms, algorithm)(
            problem,
            popsize=POPULATION,
            stdev_init=SIGMA,
            center_init=torch.tensor(theta, dtype=torch.float32),
            stdev_learning_rate=0.0,
            **settings,
        )
        es.step()
        updates = True  # its second step updates by the rewards of the first, and evaluates new members
        es.step()
        return es.status["center"]

    return step


def pgpe(symmetric: bool) -> Callable[..., Any]:
    """Return PGPE with plain steps and normalised fitness, at the rate that makes alpha of its 1/sigma."""
    return evotorch_step(
        "PGPE",
        center_learning_rate=ALPHA / SIGMA,
        optimizer=None,
        ranking_method="normalized",
        symmetric=symmetric,
    )


def cma_step(theta: Any, reward: Callable[[Any], float], seed: int) -> Any:
    """Make the first step of CMA-ES, whose covariance is still sigma^2 I."""
    import cma

    es = cma.CMAEvolutionStrategy(theta, SIGMA, {"popsize": POPULATION, "seed": seed + 1, "verbose": -9})
    members = es.ask()
    es.tell(members, [-reward(member) for member in members])
    return np.asarray(es.mean)


def grpo_advantage(rewards: Any) -> Any:
    """Return the advantages of one group as TRL and the GRPO paper's code have them: sample std, 1e-4 added."""
    import torch

    group = torch.as_tensor(rewards)
    return (group - group.mean()) / (group.std() + 1e-4)


def reference_step(in_place: bool) -> Callable[..., Any]:
    """Return the arithmetic of es-at-scale and ESvsGRPO, written anew: a generator re-seeded for every tensor.

    In place: members are made on theta itself and taken back by subtraction, and the update is added member by member.
    """
    import torch

    def noise(seed: int, shape: tuple[int, ...]) -> Any:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def step(theta: Any, reward: Callable[[Any], float], seed: int) -> Any:
        parts = [torch.from_numpy(part.astype(np.float32)) for part in theta]
        seeds = np.random.default_rng(seed).integers(0, 2**30, POPULATION).tolist()
        rewards = []
        for member in seeds:
            moved = parts if in_place else [part.clone() for part in parts]
            for part in moved:
                part.add_(SIGMA * noise(member, part.shape))
            rewards.append(reward([part.numpy() for part in moved]))
            if in_place:
                for part in moved:
                    part.sub_(SIGMA * noise(member, part.shape))
        z = (np.array(rewards) - np.mean(rewards)) / (np.std(rewards) + 1e-8)
        for part in parts:
            if in_place:
                for member, weight in zip(seeds, z, strict=True):
                    part.add_(float(ALPHA / POPULATION * weight) * noise(member, part.shape))
            else:
                total = sum(float(w) * noise(member, part.shape) for member, w in zip(seeds, z, strict=True))
                part.add_(ALPHA / POPULATION * total)
        return [part.numpy() for part in parts]

    return step


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What is checked, and the rule that it could be taken for."""

    build: Callable[[], Callable[..., Any]]
    rule: ESConfig
    kind: Kind = "step"
    shapes: tuple[tuple[int, ...], ...] | None = None


PEERS = {
    "evosax Open_ES, independent, standardized": Peer(build=lambda: open_es(False, "standardize"), rule=RULE),
    "evosax Open_ES, antithetic, standardized": Peer(build=lambda: open_es(True, "standardize"), rule=PAIRS),
    "evosax Open_ES, independent, centred ranks": Peer(build=lambda: open_es(False, "centered_rank"), rule=RANKS),
    "evosax SNES, its mean": Peer(build=snes, rule=RANKS),
    "evotorch PGPE, independent, normalized": Peer(build=lambda: pgpe(False), rule=RULE),
    "evotorch PGPE, symmetric, normalized": Peer(build=lambda: pgpe(True), rule=PAIRS),
    "evotorch SNES, its mean": Peer(build=lambda: evotorch_step("SNES"), rule=RANKS),
    "cma, the first step of its mean": Peer(build=lambda: cma_step, rule=RANKS),
    "GRPO advantage of one group (TRL's formula)": Peer(build=lambda: grpo_advantage, rule=RULE, kind="shaping"),
    "es-at-scale's arithmetic": Peer(build=lambda: reference_step(False), rule=SHARED, shapes=SHAPES),
    "es-at-scale's arithmetic, taken for independent noise": Peer(
        build=lambda: reference_step(False), rule=RULE, shapes=SHAPES
    ),
    "ESvsGRPO's arithmetic, in place": Peer(build=lambda: reference_step(True), rule=SHARED, shapes=SHAPES),
}


def record(peer: Peer) -> dict[str, Any]:
    """Check a peer and return what came of it."""
    start = time.perf_counter()
    found = outcomes(checks(peer.build(), rule=peer.rule, kind=peer.kind, shapes=peer.shapes, seed=SEED))
    failed = [outcome for outcome in found if not outcome.holds]
    faults = [match[1] for o in failed for match in re.finditer(r"likely fault: (.*)", o.problem)]
    rule = f"{peer.rule.shaping}{', mirrored' * peer.rule.antithetic}"
    return {
        "rule": rule + (", one noise a tensor size" if peer.rule.noise == "shared-seed" else ""),
        "holds": [outcome.name for outcome in found if outcome.holds],
        "fails": [outcome.name for outcome in failed],
        "faults": list(dict.fromkeys(faults)),
        "problems": [outcome.problem for outcome in failed],
        "seconds": round(time.perf_counter() - start, 1),
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| code | taken for | hold | fail | what the check says |", "|---|---|---|---|---|"]
    for name, row in results.items():
        fails = ", ".join(row["fails"]) or "none"
        says = "; ".join(row["faults"]) or ""
        lines.append(f"| {name} | {row['rule']} | {len(row['holds'])} | {fails} | {says} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Check all peers (or those whose names contain the arguments), record them, rewrite the README's table."""
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name, peer in PEERS.items():
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        results[name] = record(peer)
        print(name, results[name]["fails"], results[name]["faults"], results[name]["seconds"], flush=True)
    results = {name: results[name] for name in PEERS if name in results}
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    readme = HERE / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8").partition("| code |")
    readme.write_text(head + table(results) + "\n" + rest.partition("\n\n")[2], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
