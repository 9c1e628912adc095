"""A run, whoever's code wrote it, as the ledger reads it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from estheory._special import Array
from estheory.errors import DataError
from estheory.runs.view import OwnRun, RunRecord, Settings, Step
from estheory.theory.economy.later_steps import HeldOutReward
from estheory.theory.economy.ledger import Ledger, ledger
from estheory.theory.economy.ledger_entry import LedgerRules, LoggedUpdate
from estheory.theory.economy.steered_run import TaskDrift

Mirroring = Literal["interleaved", "halves"]
"""Where a pair stands: in rows 2k and 2k + 1, or in rows k and k + N/2."""

_LOGGED = ("rewards", "prompt_rewards", "reward_mean", "centre_reward")
"""A step has one of them, or is no update of a ledger."""


@dataclass(frozen=True, kw_only=True)
class RunLog:
    """The rows of a run and what the ledger must know beside them.

    Attributes
    ----------
    rules, updates
        As the ledger takes them.
    planned
        Updates that the run was to make; None where not told.
    floor, ceiling
        Least and largest reward there can be, where every reward by prompt is 0 or 1 or the task scores answers; else
        None.
    dim
        Number of trained parameters; None where not told, or where updates do not simply add up: with momentum,
        anchors, 16 bits or noise of tensors that differ.
    drift
        What probes before the run say of KL, by task.
    held_out
        The last evaluation up to there of the accuracy on held-out prompts, where accuracy is the reward; else None.
    """

    rules: LedgerRules
    updates: tuple[LoggedUpdate, ...]
    planned: int | None
    floor: float | None
    ceiling: float | None
    dim: int | None = None
    drift: Mapping[str, TaskDrift] = field(default_factory=dict)
    held_out: HeldOutReward | None = None


def run_log(
    run: RunRecord, *, at: int | None = None, mirrored: Mirroring | None = None, fixed: bool | None = None
) -> RunLog:
    """Return a run's rows as the ledger takes them.

    `run`: of any code.
    `at`: last step to read; all where left out.
    `mirrored`: how pairs stand in the rows, where the run does not say.
    `fixed`: whether all updates had the same prompts, where the run does not say.
    Raises DataError: if no row is read, steps are missing between them, or sigma, alpha or the population are not
    known.
    """
    steps = [step for step in run.steps if (at is None or step.step <= at) and _is_logged(step)]
    if not steps:
        read = [step.step for step in run.steps if at is None or step.step <= at]
        lacks = f": step {read[-1]} has none of {', '.join(_LOGGED)}" if read else ""
        before, later = ("", "") if at is None else (f" up to {at}", f", or read on: --at above {at}")
        raise DataError(
            f"{run.path} holds no update{before}{lacks}",
            f"let the run make an update, with its rewards in the log{later}",
        )
    for before_it, step in pairwise(steps):
        if step.step != before_it.step + 1:
            first, last = before_it.step + 1, step.step - 1
            missing = f"step {first} is" if first == last else f"steps {first} to {last} are"
            raise DataError(
                f"{run.path}: step {step.step} follows step {before_it.step}, {missing} missing",
                f"restore what is missing, or read up to there: --at {before_it.step}",
            )
    settings = run.settings
    updates = tuple(_update(step, settings.prompts, mirrored) for step in steps)
    rules = _rules(run, settings, steps, mirrored is not None)
    floor, ceiling = (0.0, 1.0) if _scored(run, updates) else (None, None)
    return RunLog(
        rules=rules if fixed is None else replace(rules, fixed=fixed),
        updates=updates,
        planned=settings.steps,
        floor=floor,
        ceiling=ceiling,
        dim=settings.dim if _adds_up(run, settings) else None,
        drift=task_drifts(run.probes) if isinstance(run, OwnRun) else {},
        held_out=_held_out(run, steps[-1].step),
    )


def task_drifts(probes: Mapping[str, Any]) -> dict[str, TaskDrift]:
    """Return what the probes of a run say of KL, by task; empty where what its first updates share was not probed."""
    found = {}
    for row in (probes.get("signal") or {}).get("tasks", ()):
        rows = [each for each in probes["fisher"] if each["task"] == row["task"]]
        if not rows:
            continue
        fisher = next((each for each in rows if each["scale"] == "walk"), rows[-1])
        count = len(fisher["probe"]["samples"])
        found[str(row["task"])] = TaskDrift(
            trace=float(fisher["trace"]),
            trace_std=float(fisher["trace_stderr"]) / float(fisher["trace"]) * math.sqrt(count),
            curvature=float(row["curvature"]),
            curvature_stderr=float(row["curvature_stderr"]),
        )
    return found


def _adds_up(run: RunRecord, settings: Settings) -> bool:
    """Whether the displacement is the plain sum of updates whose coordinates are independent."""
    if settings.momentum or settings.anchor_l1 or settings.anchor_l2 or settings.dtype not in (None, "float32"):
        return False
    factors = run.es.module_sigma if isinstance(run, OwnRun) else ()
    return settings.noise in (None, "gaussian") and not factors


def ledgers(runs: Mapping[str, OwnRun]) -> dict[str, Ledger]:
    """Return the ledger of each ES run of two updates or more whose rows hold what one needs."""
    found = {}
    for name, run in runs.items():
        if run.method != "es" or len(run.steps) < 2:
            continue
        try:
            log = run_log(run)
            found[name] = ledger(log.updates, log.rules)
        except DataError:
            continue  # the page shows what there is; `forecast` says what a row lacks
    return found


def _is_logged(step: Step) -> bool:
    """Whether a log holds rewards of a step; of one that it lacks, nothing is recorded."""
    return any(getattr(step, name) is not None for name in _LOGGED)


def _update(step: Step, prompts: int | None, mirrored: Mirroring | None) -> LoggedUpdate:
    def ordered(values: Array | None) -> Array | None:
        if values is None or mirrored != "halves" or len(values) % 2:
            return values
        return np.asarray(values[np.arange(len(values)).reshape(2, -1).T.ravel()])

    z = step.coefficients
    if z is not None and step.rewards is not None and 2 * len(z) == len(step.rewards):  # two-point: one per direction
        z = np.stack([z, -z], axis=1).ravel()
    return LoggedUpdate(
        step=step.step,
        rewards=ordered(step.rewards),
        half_rewards=ordered(step.half_rewards),
        prompts=prompts,
        prompt_rewards=ordered(step.prompt_rewards),
        mirror_rewards=ordered(step.mirror_rewards),
        centre_rewards=step.centre_rewards,
        centre_reward=step.centre_reward,
        reward_mean=step.reward_mean,
        reward_std=step.reward_std,
        coefficients=ordered(z),
        norm=step.norm,
        kl=step.kl,
    )


def _rules(run: RunRecord, settings: Settings, steps: Sequence[Step], mirrored: bool) -> LedgerRules:
    if settings.method == "grpo":
        raise DataError(f"{run.path} is no run of evolution strategies", "a ledger is of members' rewards")
    members = steps[0].rewards
    count = None if members is None else len(members)
    if settings.population is not None:
        count = settings.population * settings.kind.evaluations_per_member
    known: dict[str, Any] = {
        "sigma": settings.sigma,
        "alpha": settings.alpha,
        "population": count,
    }
    for name, value in known.items():
        if value is None:
            raise DataError(f"{run.path} does not say {name}", f"give --{name}")
    paired = mirrored or settings.kind.paired
    if paired and known["population"] % 2:
        raise DataError(f"{run.path}: {known['population']} members are no mirrored pairs", "give an even --population")
    return LedgerRules(**known, shaping=settings.shaping_used, mirrored=paired, fixed=bool(settings.prompts_fixed))


def _held_out(run: RunRecord, at: int) -> HeldOutReward | None:
    if not isinstance(run, OwnRun) or getattr(run.config, "reward", "") != "accuracy":
        return None
    found = {step: each for (step, task), each in run.evaluated("accuracy").items() if task == run.config.task}
    last = max((step for step in found if step <= at), default=None)
    return None if last is None else HeldOutReward(step=last, value=found[last][0], stderr=found[last][1])


def _scored(run: RunRecord, updates: Sequence[LoggedUpdate]) -> bool:
    """Whether rewards are known to lie between 0 and 1."""
    by_prompt = [update.prompt_rewards for update in updates if update.prompt_rewards is not None]
    if by_prompt and all(np.isin(matrix, (0.0, 1.0)).all() for matrix in by_prompt):
        return True
    return isinstance(run, OwnRun) and getattr(run.config, "reward", "") in ("accuracy", "partial")
