"""Forgetting before it happens: a model's tasks probed forward-only, by members of one perturbation scale."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from estheory.errors import DataError, OutputError
from estheory.files import read_lines
from estheory.measurement.accuracy import ExampleScorer
from estheory.measurement.held_out import kl_prompts
from estheory.measurement.probes import PROBE_STEP, default_sigma, fisher_probes
from estheory.runs.config import ESRunConfig
from estheory.theory.economy.intervals import Interval, recovered
from estheory.theory.economy.iteration import Iteration
from estheory.theory.economy.pooled_members import Members, MirroredMembers, members_of
from estheory.training.session import Session, start_session
from estheory.training.signal_probe import curvature_along
from estheory.training.trajectory import run_noise


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One probed quantity of one task.

    Attributes
    ----------
    task, quantity
        What it is of.
    value, stderr
        In the unit of the quantity; the second NaN where the data give none.
    """

    task: str
    quantity: str
    value: float
    stderr: float


def probe_task(
    config: ESRunConfig, kept: Path | None = None, directions: int = 8, done: Callable[[int], None] = lambda parts: None
) -> list[Figure]:
    """Probe one task of a model.

    `config`: model, task, sigma, members, prompts and whether they are mirrored; it is not run.
    `kept`: JSONL file of the rewards of each evaluation as it is made; those that are there are not made again.
    `directions`: random directions of the Fisher probe.
    `done`: called after each of the 1 + N evaluations, and after the Fisher probe.
    Result: reward, gap and its curvature, reliability, gradient norm (a bound without mirrored members), tr F and tr
    F^2; of mirrored members the odd and the even variance, and KL's curvature f along the task's own gradient.
    """
    session = start_session(config)
    rows = _rewards(session, config, kept, done)
    iteration = Iteration(rewards=rows[1:], sigma=config.sigma, mirrored=config.antithetic, centre=rows[0])
    members = members_of([iteration])
    reward = float(rows[0].mean())
    found = [
        Figure(
            task=config.task,
            quantity="reward",
            value=reward,
            stderr=float(rows[0].std(ddof=1)) / math.sqrt(rows.shape[1]),
        )
    ]
    found += [
        Figure(task=config.task, quantity=name, value=part.value, stderr=part.stderr) for name, part in _of(members)
    ]
    if config.dtype == "float32":
        session.parameters.vector.copy_(session.base)
        prompts = kl_prompts(session.loaded, session.parameters.dim, session.held[0])
        [fisher] = fisher_probes(
            session.loaded.model,
            session.parameters,
            prompts,
            sigmas=[default_sigma(session.parameters)],
            directions=directions,
            seed=config.seed,
        )
        found.append(Figure(task=config.task, quantity="fisher_trace", value=fisher.trace, stderr=fisher.trace_stderr))
        found.append(
            Figure(task=config.task, quantity="fisher_square_trace", value=fisher.square_trace, stderr=math.nan)
        )
        if isinstance(members, MirroredMembers):
            found += _along_signal(session, config, rows[1:].mean(axis=1), members)
    done(1)
    return found


def _along_signal(session: Session, config: ESRunConfig, rewards: np.ndarray, members: MirroredMembers) -> list[Figure]:
    """Return KL's curvature along the task's own gradient; nothing where no signal was seen."""
    linear = recovered(members.signal, members.parts).value
    probed = curvature_along(session, config, (rewards[0::2] - rewards[1::2]) / 2, linear)
    if probed is None:
        return []
    [row] = [row for row in probed["tasks"] if row["task"] == config.task]
    return [
        Figure(
            task=config.task,
            quantity="signal_curvature",
            value=row["curvature"],
            stderr=row["curvature_stderr"],
        )
    ]


def _of(members: Members) -> list[tuple[str, Interval]]:
    """Return the quantities that members' rewards hold."""
    sigma = members.sigma

    def norm(x: np.ndarray) -> float:
        return math.sqrt(max(members.signal(x), 0.0)) / sigma

    found = [
        ("member_reward_std", recovered(lambda x: math.sqrt(max(members.seen(x), 0.0)), members.parts)),
        ("reward_reliability", recovered(lambda x: members.share(members.true(x), x), members.parts)),
        ("smoothing_gap", recovered(members.gap_of, members.parts)),
        ("off_task_trace", recovered(lambda x: 2 * members.gap_of(x) / sigma**2, members.parts)),
        ("gradient_norm" if members.mirrored else "gradient_norm_bound", recovered(norm, members.parts)),
    ]
    if isinstance(members, MirroredMembers):
        found.append(("odd_variance", recovered(members.signal, members.parts)))
        found.append(("even_variance", recovered(members.even, members.parts)))
        found.append(("reliability", recovered(lambda x: members.share(members.signal(x), x), members.parts)))
    return found


def _rewards(session: Session, config: ESRunConfig, kept: Path | None, done: Callable[[int], None]) -> np.ndarray:
    """Return the rewards of the centre and of each member on each prompt, shape (1 + N, B)."""
    key = {
        "task": config.task,
        "sigma": config.sigma,
        "seed": config.seed,
        "prompts": config.prompts,
        "model": config.model,
    }
    key["mirrored"] = config.antithetic
    known = _known(kept, key)
    scorer = ExampleScorer(
        session.loaded.model,
        session.loaded.tokenizer,
        session.task,
        session.training_examples(0, probe=True),
        scoring=config.reward,
    )
    noise = run_noise(config, session.parameters)
    buffer = session.parameters.vector
    done(len(known))
    for number in range(1 + config.population):
        if number in known:
            continue
        if number == 0:
            buffer.copy_(session.base)
        else:
            direction, sign = config.estimator.direction_of(number - 1)
            noise.perturb(buffer, session.base, sigma=sign * config.sigma, step=PROBE_STEP, member=direction)
        sampler = session.sampler(PROBE_STEP, number) if config.decode == "sample" else None
        known[number] = scorer.scores(sampler).tolist()
        done(1)
        if kept is not None:
            _append(kept, {**key, "evaluation": number, "rewards": known[number]})
    buffer.copy_(session.base)
    return np.array([known[number] for number in range(1 + config.population)])


def _append(kept: Path, row: dict[str, Any]) -> None:
    try:
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {kept}: {error.strerror}", "name another file") from error


def _known(kept: Path | None, key: dict[str, Any]) -> dict[int, Sequence[float]]:
    if kept is None or not kept.exists():
        return {}
    found: dict[int, Sequence[float]] = {}
    for number, row in read_lines(kept, finite=True, appended=True):
        try:
            if all(row[name] == value for name, value in key.items()):
                found[int(row["evaluation"])] = [float(reward) for reward in row["rewards"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{kept}: line {number} is damaged", "restore it, or name another file") from error
    return found
