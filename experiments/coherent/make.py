"""Where rewards steer: the laws of a walk, the laws with its coherent part, and what runs of tiny-lm measured.

    python experiments/coherent/make.py WORK_FOLDER

writes record.json and the tables of README.md beside this file; finished runs in the folder are taken as they are.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estheory.measurement.held_out import kl_from_base
from estheory.measurement.reward_curvature import reward_curvature
from estheory.measurement.run_log import run_log
from estheory.quantities import Quantity
from estheory.runs.config import ESRunConfig, GRPORunConfig
from estheory.runs.read import read_own
from estheory.theory.adamw import grpo_mean_square, steered_mean_square
from estheory.theory.economy.coherent import CoherentMotion, coherent_part
from estheory.theory.economy.ledger import ledger
from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
from estheory.training.finish import finish_run
from estheory.training.member_rewards import Members
from estheory.training.session import start_session
from estheory.training.trajectory import Trajectory
from estheory.validation.coherent_pairs import steered
from estheory.validation.gradient_path_pairs import gradient_path, gradient_path_pairs
from estheory.validation.run_against_run import UNRELATED, between_runs

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
TASKS = ("addition", "reversal")
ES = ESRunConfig(
    model="tiny-lm", task=TASKS[0], steps=80, sigma=0.015, alpha=0.0075, population=30, antithetic=True,
    checkpoint_every=20,
)  # fmt: skip
GRPO = GRPORunConfig(model="tiny-lm", task=TASKS[0], steps=100, lr=1e-4, prompts=16, samples=8, gradient_probe=8)
LOGPROB = replace(ES, steps=40, reward="logprob", checkpoint_every=5, evaluation_prompts=20)
LOGPROB_SEEDS = (400, 401, 402)
COSINE_STEPS = (5, 10, 20, 40)
ITERATIONS = 8
"""Iterations at the start, of the probe of KL along what they have in common."""
PERMUTATIONS = 8
PROBES = 4
STEPS = (20, 40, 80)


def planned() -> dict[str, ESRunConfig | GRPORunConfig]:
    """Return every run by its name."""
    runs: dict[str, ESRunConfig | GRPORunConfig] = {}
    for k, task in enumerate(TASKS):
        runs[f"es/{task}-0"] = replace(ES, task=task, seed=2 * k)
        runs[f"es/{task}-1"] = replace(ES, task=task, seed=2 * k + 1)
        runs[f"es/{task}-permuted"] = replace(ES, task=task, seed=4 + k, permute_rewards=True)
        runs[f"grpo/{task}-0"] = replace(GRPO, task=task, seed=10 + k)
    runs |= {f"logprob/{seed}": replace(LOGPROB, seed=seed) for seed in LOGPROB_SEEDS}
    return runs


def train(work: Path) -> None:
    """Make every run that is not finished."""
    for name, config in planned().items():
        folder = work / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(name, flush=True)
        finish_run(config, folder, probed=True)


def signal_probe(task: str, kept: Path) -> dict[str, float]:
    """Return the mean of several probes of one task, and the error of its curvature; kept in a file."""
    if kept.exists():
        known: dict[str, float] = json.loads(kept.read_text())
        return known
    found = [one_probe(task, 100 + k) for k in range(PROBES)]
    real, permuted, moved, scatter = (math.fsum(values) / PROBES for values in zip(*found, strict=True))
    mean = {
        "real": real,
        "permuted": permuted,
        "moved": math.sqrt(moved),
        "curvature": 2 * (real - permuted) / moved,
        "curvature_stderr": 2 * math.sqrt(scatter * (1 + 1 / PERMUTATIONS) / PROBES) / moved,
    }
    kept.write_text(json.dumps(mean))
    return mean


def one_probe(task: str, seed: int) -> tuple[float, float, float, float]:
    """Probe KL along what iterations at the start have in common, forward-only: 1/2 a^2 f.

    Members around the base give K updates that are not made; KL of their sum, less the mean KL of sums of the same
    members with permuted coefficients, is 1/2 (sum a_t)^2 f; a_t from the same rewards. Returns KL, its mean with
    permuted coefficients, (sum a_t)^2 and the variance of the permuted ones.
    """
    config = replace(ES, task=task, seed=seed)
    session = start_session(config)
    rows: list[dict[str, Any]] = []
    members = Members(session, config, Trajectory(session.parameters, session.base, config))
    for k in range(ITERATIONS):
        members.walk.step = k  # the noise of another iteration, about the same theta
        found = members.rewards([], range(config.evaluations))
        z = config.estimator.shape(np.asarray(found.values)).tolist()
        row = {"step": k + 1, "rewards": found.values, "half_rewards": found.halves, "coefficients": z}
        rows.append({**row, "seeds": {"seed": config.seed, "step": k + 1}})
    rng = np.random.default_rng(0)

    def kl(made: Sequence[dict[str, Any]]) -> float:
        walk = Trajectory(session.parameters, session.base, config)
        for row in made:
            walk.advance(row)
        session.parameters.vector.copy_(walk.theta)
        value = kl_from_base(session.loaded, session.parameters, session.base, session.held[0]).value
        session.parameters.vector.copy_(session.base)
        return value

    real = kl(rows)
    permuted = [
        kl([{**row, "coefficients": rng.permutation(row["coefficients"]).tolist()} for row in rows])
        for _ in range(PERMUTATIONS)
    ]
    rules = LedgerRules(sigma=config.sigma, alpha=ES.alpha or ES.sigma / 2, population=config.population, mirrored=True)
    book = ledger(
        [
            LoggedUpdate(
                step=row["step"],
                rewards=np.asarray(row["rewards"]),
                half_rewards=np.asarray(row["half_rewards"]),
                prompts=config.prompts,
                coefficients=np.asarray(row["coefficients"]),
            )
            for row in rows
        ],
        rules,
    )
    odd = float(np.mean([entry.odd_share * entry.member_variance for entry in book.entries]))
    moved = book.total("earned").value * config.sigma / math.sqrt(odd)
    return real, float(np.mean(permuted)), moved**2, float(np.var(permuted, ddof=1))


def along_start(step: int, motion: CoherentMotion) -> float:
    """Return the coherent displacement along the first gradient."""
    return float(motion.along_first()[step - 1])


def es_rows(folder: Path, probe: dict[str, float]) -> dict[str, Any]:
    """Return what an ES run measured, by step, beside both laws."""
    run = read_own(folder)
    log = run_log(run)
    part = coherent_part(ledger(log.updates, log.rules), log.rules)
    kls = run.evaluated(Quantity.KL_DRIFT)
    trace = {row["scale"]: row["trace"] for row in run.probes["fisher"] if row["task"] == run.config.task}
    error = {row["scale"]: row["trace_stderr"] for row in run.probes["fisher"] if row["task"] == run.config.task}
    spread = math.sqrt(len(run.probes["fisher"][0]["probe"]["samples"]))
    found: dict[str, Any] = {}
    for step in STEPS:
        square, walk = part.square(step), float(part.walk[step - 1])
        first = part.estimate(partial(along_start, step))
        old = 0.5 * walk * trace["walk"]
        signal = 0.5 * square.value * probe["curvature"]
        norm = run.steps[step - 1].norm
        assert norm is not None
        found[str(step)] = {
            "square": square.value, "square_stderr": square.stderr,
            "first": first.value, "first_stderr": first.stderr,
            "norm": norm, "norm_walk": math.sqrt(walk * run.dim),
            "norm_both": math.sqrt(walk * run.dim + max(square.value, 0.0)),
            "kl": kls[(step, run.config.task)][0], "kl_walk": old, "kl_both": old + signal,
            "kl_walk_std": 0.5 * walk * error["walk"] * spread,
            "kl_both_std": math.hypot(
                0.5 * walk * error["walk"] * spread,
                0.5 * math.hypot(square.stderr * probe["curvature"], square.value * probe["curvature_stderr"]),
            ),
        }  # fmt: skip
    return found


def record(work: Path) -> dict[str, Any]:
    """Return everything that the tables show."""
    probes = {task: signal_probe(task, work / f"probe-{task}.json") for task in TASKS}
    runs = {
        name: es_rows(work / name, probes[config.task])
        for name, config in planned().items()
        if isinstance(config, ESRunConfig) and config.reward == "accuracy"
    }
    grpo: dict[str, dict[str, float]] = {}
    cosines: list[dict[str, Any]] = []
    ratios: list[dict[str, Any]] = []
    for task in TASKS:
        named = {
            name: read_own(work / name)
            for name, config in planned().items()
            if "logprob" not in name and config.task == task
        }
        gradients = named[f"grpo/{task}-0"]
        path = gradient_path(gradients)
        assert path is not None
        [(prediction, measured)] = [pair for pair in gradient_path_pairs(gradients, {}) if pair[0].step == GRPO.steps]
        grpo[task] = {
            "kappa": path.kappa,
            "walk": math.sqrt(grpo_mean_square(path.dim, GRPO.lr, GRPO.steps, GRPO.schedule)),
            "straight": math.sqrt(steered_mean_square(path.dim, GRPO.lr, GRPO.steps, GRPO.schedule, kappa=path.kappa)),
            "both": prediction.law.mean,
            "both_std": prediction.law.std,
            "systematic": prediction.systematic,
            "norm": measured.value,
        }
        laws: dict[tuple[str, str], dict[str, Any]] = {}
        renamed = [replace(run, path=Path(name.replace("/", "-"))) for name, run in named.items()]
        for prediction, measured in between_runs(renamed):
            where, _, kind = measured.where.partition(", ")
            law = {"predicted": prediction.law.mean, "std": prediction.law.std, "systematic": prediction.systematic}
            unrelated = {"predicted": 0.0, "std": 1 / math.sqrt(gradients.dim), "systematic": 0.0}
            row = laws.setdefault((str(prediction.quantity), where), {"measured": measured.value, "old": unrelated})
            row["old" if kind == UNRELATED else "new"] = law
        for (quantity, where), row in laws.items():
            (ratios if quantity == Quantity.NORM_RATIO else cosines).append({"pair": where, **row})
    along = gradient_cosines(work)
    return {"probes": probes, "grpo": grpo, "runs": runs, "cosines": cosines, "ratios": ratios, "along": along}


def gradient_cosines(work: Path) -> list[dict[str, float]]:
    """Return the cosine of each displacement with the exact gradient of the smoothed reward at the start, and laws."""
    files = {
        f"{seed}-{step}": work / f"logprob/{seed}/checkpoints/step_{step:06d}.safetensors"
        for seed in LOGPROB_SEEDS
        for step in COSINE_STEPS
    }
    exact = reward_curvature(
        LOGPROB.model, LOGPROB.task, displacements=files, prompts=512, groups=16, sigma=LOGPROB.sigma, members=16,
        directions=0,
    )  # fmt: skip
    found = []
    for seed in LOGPROB_SEEDS:
        run = read_own(work / f"logprob/{seed}")
        told = steered(run)
        assert told is not None
        rate = told.along_first(COSINE_STEPS[0]).value / COSINE_STEPS[0]
        for step in COSINE_STEPS:
            law = next(p.law for p in told.predictions(step) if p.quantity is Quantity.GRADIENT_COSINE)
            value = exact.cosines[f"{seed}-{step}"]
            found.append({
                "seed": seed, "step": step, "predicted": law.mean, "std": law.std,
                "straight": rate * step / math.sqrt(told.walk(step).value * run.dim + (rate * step) ** 2),
                "measured": value.value, "measured_stderr": value.stderr,
            })  # fmt: skip
    return found


def tables(found: dict[str, Any]) -> str:
    """Return the tables of the README."""
    lines = [
        "### KL and norm of ES\n",
        "| run | step | p_T | norm: walk | with p_T | measured | KL: walk | with p_T | measured |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in found["runs"].items():
        for step, row in rows.items():
            length = math.sqrt(max(row["square"], 0.0))
            told = [f"{row['kl_' + law]:.4f} ± {row[f'kl_{law}_std']:.4f}" for law in ("walk", "both")]
            norms = [f"{row[key]:.3f}" for key in ("norm_walk", "norm_both", "norm")]
            cells = [name.removeprefix("es/"), step, f"{length:.3f}", *norms, *told, f"{row['kl']:.4f}"]
            lines.append(f"| {' | '.join(cells)} |")
    every = [row for rows in found["runs"].values() for row in rows.values()]
    inside = {
        law: sum(abs(row["kl"] - row[f"kl_{law}"]) < 1.96 * row[f"kl_{law}_std"] for row in every)
        for law in ("walk", "both")
    }
    lines.append(
        f"\nKL inside 95 %: {inside['walk']} of {len(every)} by the walk, {inside['both']} with p_T "
        "(the steps of a run are not independent)."
    )
    lines += [
        "\n### KL along what iterations at the start have in common\n",
        f"| task | KL of {ITERATIONS} updates | the same, permuted | their coherent motion | f = ĝ′Fĝ |",
        "|---|---|---|---|---|",
    ]
    for task, row in found["probes"].items():
        lines.append(
            f"| {task} | {row['real']:.4f} | {row['permuted']:.4f} | {row['moved']:.3f} "
            f"| {row['curvature']:.2f} ± {row['curvature_stderr']:.2f} |"
        )
    lines += [
        "\n### GRPO's norm\n",
        "| task | kappa at the base | old law: walk | kappa as at the base | new law: along its way | measured |",
        "|---|---|---|---|---|---|",
    ]
    for task, row in found["grpo"].items():
        new = f"{row['both']:.3f} ± {row['both_std']:.3f} ± {row['systematic']:.1%}"
        lines.append(
            f"| {task} | {row['kappa']:.3f} | {row['walk']:.3f} | {row['straight']:.3f} | {new} | {row['norm']:.3f} |"
        )
    for title, rows, digits in (("Cosines of displacements at the end", "cosines", 4), ("ES over GRPO", "ratios", 2)):
        lines += [f"\n### {title}\n", "| pair | old law | new law | measured |", "|---|---|---|---|"]
        for row in found[rows]:
            told = [f"{row[law]['predicted']:.{digits}f} ± {row[law]['std']:.{digits}f}" for law in ("old", "new")]
            if row["new"]["systematic"]:
                told[1] += f" ± {row['new']['systematic']:.1%}"
            lines.append(f"| {row['pair'].replace('|', ' and ')} | {' | '.join(told)} | {row['measured']:.{digits}f} |")
    lines += [
        "\n### Cosine with the gradient of the smoothed reward at the start\n",
        "| seed | step | old law: straight on | new law | measured |",
        "|---|---|---|---|---|",
    ]
    for row in found["along"]:
        new, seen = (
            f"{row['predicted']:.4f} ± {row['std']:.4f}",
            f"{row['measured']:.4f} ± {row['measured_stderr']:.4f}",
        )
        lines.append(f"| {row['seed']} | {row['step']} | {row['straight']:.4f} | {new} | {seen} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, probe, and write record.json and the tables."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    work = Path(sys.argv[1])
    torch.set_num_threads(1)
    train(work)
    found = record(work)
    (HERE / "record.json").write_text(json.dumps(found, indent=1) + "\n")
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(before + BEGIN + "\n" + tables(found) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
