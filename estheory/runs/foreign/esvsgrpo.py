"""Runs of ESvsGRPO, the code of arXiv:2604.01499: sequences of tasks by ES or by GRPO."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from estheory._special import Array
from estheory.files import Problems, read_lines, read_object
from estheory.quantities import Measurement, Quantity
from estheory.runs.foreign.rows import by_step, count, first_weights, moves, served, shown
from estheory.runs.view import BY_REWARDS, ForeignRun, Given, Implementation, Settings, Shown, Step

Row = dict[str, Any]

ES_LOG, GRPO_LOG = "metrics_baseline.jsonl", "metrics_grpo_baseline.jsonl"


def read_es(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    """Read an ES run: config.json, the reward spread of each step, checkpoints after each task.

    The update is N sequential additions on the first engine, which also served about its share of the members.

    Parameters and result as of :func:`estheory.runs.foreign.read_foreign`.
    """
    config, log = read_object(path / "config.json"), path / ES_LOG
    shared = config["es_hyperparameters"]
    rows = [row for _, row in read_lines(log, problems)]
    train = [row for row in rows if row.get("type") == "train"]
    steps = by_step(train, "global_step", log, problems)
    increments: list[float] = []
    alphas: set[float] = set()
    ends, tasks = {}, []
    for cycle in range(count(config.get("num_cycles", 1))):
        for index, task in enumerate(config["tasks"]):
            settings = {**shared, **task}
            alpha = float(given.alpha or settings["alpha"])
            population = int(given.population or settings["population_size"])
            made = settings["num_iterations"] if "num_iterations" in settings else _made(train, cycle, task["name"])
            alphas.add(alpha)
            tasks.append((float(given.sigma or settings["sigma"]), population))
            for step in range(len(increments) + 1, len(increments) + count(made) + 1):
                moved = moves(steps[step]["fitness_std"], f"{log}, step {step}", problems) if step in steps else 1.0
                increments.append(alpha**2 / population * moved)
            folder = path / f"c{cycle}_t{index}_{task['name']}"
            if folder.is_dir():
                ends[len(increments)] = folder
    final = path / "model_saves/final_model"
    if increments and len(increments) not in ends and first_weights(final):
        ends[len(increments)] = final
    known = max(steps, default=0)
    if known < len(increments):  # interrupted: the steps that were never made are no part of the walk
        if problems is not None:
            problems.append(f"{path} stopped at step {known} of {len(increments)}")
        increments = increments[:known]
    (sigma, population), *others = sorted(set(tasks)) or [(0.0, 0)]
    engines = served(population, count(shared.get("num_engines", 1)))
    pairs = (given.restore_pairs,) if given.restore_pairs is not None else (engines[0], min(engines[-1], population))
    return ForeignRun(
        path=path,
        format="ESvsGRPO ES",
        steps=tuple(_es_step(step, steps.get(step, {})) for step in range(1, len(increments) + 1)),
        told=Settings(
            method="es",
            steps=len(increments),
            sigma=None if others else sigma,
            alpha=alphas.pop() if len(alphas) == 1 else None,
            population=None if others else population,
            shaping="zscore",
            antithetic=False,
            dtype="bfloat16",
        ),
        base=first_weights(path / "baseline", path / "model_saves/base_model"),
        checkpoints={step: folder for step, folder in ends.items() if step <= len(increments)},
        increments=np.array(increments),
        population=0 if any(n != population for _, n in others) else population,
        condition=BY_REWARDS,
        dtype="bfloat16",
        sigma=None if others else sigma,
        implementations=tuple(
            Implementation(update_path=given.update_path or "sequential", restore_pairs=p) for p in dict.fromkeys(pairs)
        ),
        shown=tuple(_shown(rows, path.name)),
    )


def read_grpo(path: Path, given: Given, problems: Problems | None) -> ForeignRun:
    """Read a GRPO run: the learning rates of one AdamW that goes on from task to task.

    The log names a step's learning rate after the schedule went on: a row holds the next step's.

    Parameters and result as of :func:`estheory.runs.foreign.read_foreign`.
    """
    config, log = read_object(path / "config.json"), path / GRPO_LOG
    optimizer = config.get("optimizer", {})
    rows = [row for _, row in read_lines(log, problems)]
    legs: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        if row.get("type", "train") == "train" and "lr" in row:
            legs.setdefault((int(row.get("cycle", 0)), str(row.get("task", ""))), []).append(row)
    tasks = {str(task["name"]): (index, task) for index, task in enumerate(config["tasks"])}
    rates, ends = [np.zeros(0)], {}
    logged: list[Step] = []
    for (cycle, name), leg in legs.items():
        index, task = tasks[name]
        numbered = [{**row, "step": count(row["step"]) + 1} for row in leg]
        found = by_step(numbered, "step", log, problems)
        rates.append(_rates(found, {**config, **task}, float(optimizer["lr"])))
        for step, rate in enumerate(rates[-1], start=1):
            mean = shown(found.get(step, {}).get("reward"))
            logged.append(Step(step=len(logged) + 1, reward_mean=mean, lr=float(rate)))
        folder = path / f"c{cycle}_t{index}_{name}"
        if folder.is_dir():
            ends[sum(map(len, rates))] = folder
    unjudged = []
    if (kind := optimizer.get("type", "adamw")) != "adamw":
        unjudged.append(f"no law for its optimiser {kind}")
    if optimizer.get("weight_decay"):
        unjudged.append(f"its weight decay {optimizer['weight_decay']} is in no law of AdamW's walk")
    return ForeignRun(
        path=path,
        format="ESvsGRPO GRPO",
        steps=tuple(logged),
        told=Settings(method="grpo", steps=sum(map(len, rates)), dtype="bfloat16"),
        base=first_weights(path / "baseline", path / "model_saves/base_model"),
        checkpoints=ends,
        rates=np.zeros(0) if unjudged else np.concatenate(rates),
        copies=(False,),  # it loads bfloat16 parameters and gives them to AdamW
        dtype="bfloat16",
        unjudged=tuple(unjudged),
    )


def _es_step(step: int, row: Row) -> Step:
    mean, spread, kl = (shown(row.get(name)) for name in ("fitness_mean", "fitness_std", "kl_mean"))
    return Step(step=step, reward_mean=mean, reward_std=spread, kl=kl)


def _made(rows: list[Row], cycle: int, name: str) -> int:
    """Return the steps that a task made whose number no configuration states."""
    return max((count(r["local_iter"]) for r in rows if (r["cycle"], r["task"]) == (cycle, name)), default=0)


def _rates(steps: dict[int, Row], task: Row, default: float) -> Array:
    """Return the learning rates of one task's steps, shape (T,); those of missing rows between their neighbours'."""
    last, scheduler = max(steps), task.get("scheduler") or {}
    logged = np.interp(np.arange(1, last + 1), sorted(steps), [float(steps[s]["lr"]) for s in sorted(steps)])
    kind = task.get("scheduler_type", scheduler.get("type"))
    if kind not in (None, "constant", "linear", "cosine"):
        raise ValueError(f"scheduler_type {kind} is unknown")
    if kind is None:
        return logged
    warm = int(last * float(task.get("warmup_ratio", scheduler.get("warmup_ratio", 0.1))))
    return np.concatenate([[0.0 if warm else float(task.get("lr", default))], logged[:-1]])


def _shown(rows: list[Row], source: str) -> Iterator[Shown]:
    """Return the last KL and the last test rewards of each task: measured, not predicted."""
    last: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.get("type") == "train" and "kl_mean" in row:
            last["kl", str(row["task"])] = row
        elif row.get("type") == "eval" and row.get("eval_type") == "test":
            last["reward", str(row["task"])] = row
    for (kind, task), row in last.items():
        if kind == "kl":
            quantity, value = Quantity.KL_DRIFT, float(row["kl_mean"])
            stderr = float(row["kl_std"]) / math.sqrt(max(count(row["batch_size"]), 1))
            reason = "nothing measured tr F before the run; and it is KL(tuned || base), on the tuned model's answers"
        else:
            quantity, value, stderr = Quantity.REWARD, float(row["reward"]), 0.0
            reason = "the test reward itself: no curvature was probed that would predict it"
        measured = Measurement(
            quantity=quantity, value=value, stderr=stderr, step=count(row["global_step"]), where=task, source=source
        )
        yield Shown(measurement=measured, reason=reason)
