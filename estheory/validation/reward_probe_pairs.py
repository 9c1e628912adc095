"""What the probe of a run's reward predicted before step 1, joined with what the run's own rewards say of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from estheory._special import Array
from estheory.files import reading
from estheory.laws import NormalLaw, PointLaw
from estheory.quantities import Prediction, Quantity
from estheory.runs.view import OwnRun, Step, known
from estheory.theory.probe.predictions import EARLY_STEPS, early_slope_weights
from estheory.validation.judge import Pair, paired

Measured = tuple[float, float]
"""A value and its standard error."""

MEMBERS = "members' rewards"
HELD_OUT = "held-out accuracy"
NOISE_ROWS = 4 * EARLY_STEPS
"""Steps from which the noise of a step's mean reward is estimated."""
_DRAWS = 400


def reward_pairs(run: OwnRun) -> list[Pair]:
    """Return the probe's predictions that a run's records can measure."""
    with reading(run.path):
        return list(_pairs(run))


def unmeasured(run: OwnRun) -> list[str]:
    """Return the predictions that the probe of a run's reward could not make, with reasons.

    Result: one line each; empty where the reward was not probed.
    """
    with reading(run.path):
        return [str(why) for why in run.probes.get("unpredicted", ())] if run.probes.get("reward") else []


def _pairs(run: OwnRun) -> Iterator[Pair]:
    for row in run.probes.get("predictions", ()):
        quantity = Quantity.named(row["quantity"])
        if quantity is Quantity.RELIABILITY:  # older probes called the share that members show so
            quantity = Quantity.REWARD_RELIABILITY
        mean, std, step = float(row["mean"]), float(row["std"]), row["step"]
        if not (std >= 0 and float(row["systematic"]) >= 0):
            raise ValueError(f"{quantity} was predicted with a spread of {std}")
        for where, measured in _measured(run, quantity, step).items():
            if measured is None:
                continue
            yield paired(
                Prediction(
                    quantity=quantity,
                    law=NormalLaw(mean, std) if std else PointLaw(mean),
                    label=row["label"],
                    source=str(row["source"]),
                    assumptions=("probed before step 1", *map(str, row["assumptions"])),
                    step=step,
                    systematic=float(row["systematic"]),
                ),
                measured[0],
                stderr=measured[1],
                where=f"{run.config.task}, {where}",
                source=run.path.name,
            )


def _measured(run: OwnRun, quantity: Quantity, step: int | None) -> dict[str, Measured | None]:
    """Return what the run measured of a quantity, by where."""
    if quantity is Quantity.REWARD_CHANGE:
        return {MEMBERS: _member_change(run, int(step or 0)), HELD_OUT: _accuracy_change(run, int(step or 0))}
    early = min(EARLY_STEPS, run.config.steps - 1)
    if len(run.steps) <= early or not _is_split(run):
        return {}
    if quantity is Quantity.REWARD_RELIABILITY:
        return {MEMBERS: split_half_reliability(run, early)}
    if quantity is Quantity.MEMBER_REWARD_STD:
        return {MEMBERS: _pooled(run, early, lambda variance, _: math.sqrt(variance))}
    if quantity is Quantity.REWARD_GAIN_PER_STEP:
        means = _member_means(run)[: early + 1]
        weights = early_slope_weights(early)
        return {MEMBERS: (float(weights @ means), mean_reward_error(run) * float(np.linalg.norm(weights)))}
    if quantity is Quantity.REWARD_PEAK_STEP_LOWER_BOUND:
        return {MEMBERS: smoothed_peak(run)}
    return {}


def _member_means(run: OwnRun) -> Array:
    """Return the members' mean reward of each step, shape (T,)."""
    return np.array([known(row.rewards, "members' rewards").mean() for row in run.steps])


def _halves(row: Step) -> tuple[Array, Array]:
    """Return the members' rewards over all prompts of a step and over the first half of them."""
    return known(row.rewards, "members' rewards"), known(row.half_rewards, "rewards of half the prompts")


def _is_split(run: OwnRun) -> bool:
    """Whether the rewards of half the prompts were logged too, of 3 members or more."""
    return all(row.half_rewards is not None and row.rewards is not None and row.rewards.size >= 3 for row in run.steps)


def _member_change(run: OwnRun, step: int) -> Measured | None:
    """Return the change of the members' mean reward, five steps around the one asked for against the probe's members.

    Members of step t + 1 are around theta_t; the window is symmetric and shorter near the ends of the run.
    """
    before = (run.probes.get("reward") or {}).get("estimates", {}).get("member_reward")
    half = min(2, step - 1, len(run.steps) - step - 1)
    if before is None or half < 0 or not _is_split(run):
        return None
    after = float(np.mean(_member_means(run)[step - half : step + half + 1]))
    error = mean_reward_error(run) / math.sqrt(2 * half + 1)
    return after - float(before["value"]), math.hypot(error, float(before["stderr"]))


def split_half_reliability(run: OwnRun, steps: int) -> Measured | None:
    """Return the reliability of member rewards by split halves of the prompts, pooled over the first steps.

    Mean covariance of the halves between members over mean variance of the whole: the Spearman-Brown corrected
    correlation of pooled halves. None where no member ever differs from another.

    `run`: a run that logged the rewards of half the prompts.
    `steps`: how many of its first steps are pooled.
    """
    return _pooled(run, steps, lambda variance, covariance: covariance / variance)


def _pooled(run: OwnRun, steps: int, function: Callable[[float, float], float]) -> Measured | None:
    """Return a function of S^2 and the halves' covariance, means over steps, with a standard error.

    The larger of two: jackknife over members within steps, and over steps (few, but they count the prompts).
    """
    moments, without = [], []
    for row in run.steps[:steps]:
        whole, first = _halves(row)
        prompts = run.config.prompts
        more = (prompts + 1) // 2
        halves = np.stack([whole, first, (prompts * whole - more * first) / (prompts - more)])
        centred = halves - halves.mean(axis=1, keepdims=True)
        products = np.stack([centred[0] ** 2, centred[1] * centred[2]], axis=1)
        n = whole.size
        spread = products.sum(axis=0) / (n - 1)
        moments.append(spread)
        without.append(((n - 1) * spread - n / (n - 1) * products) / (n - 2))  # each member left out
    each, left_out = np.array(moments), np.array(without)
    total = each.mean(axis=0)
    if not total[0] > 0:
        return None
    members = left_out.shape[1]
    by_member = np.array([[function(*m) for m in row] for row in total + (left_out - each[:, None]) / steps])
    by_step = np.array([function(*((steps * total - e) / (steps - 1))) for e in each])
    square = (members - 1) / members * float(((by_member - by_member.mean(axis=1, keepdims=True)) ** 2).sum())
    again = (steps - 1) / steps * float(((by_step - by_step.mean()) ** 2).sum())
    return function(*total), math.sqrt(max(square, again))


def mean_reward_error(run: OwnRun) -> float:
    """Return the standard error of a step's mean reward: its prompts', by the halves' difference, and its members'.

    `run`: record of an ES run that logged the rewards of half the prompts.
    """
    prompts = run.config.prompts
    more = (prompts + 1) // 2
    rows = [_halves(row) for row in run.steps[:NOISE_ROWS]]
    means = np.array([[whole.mean(), first.mean()] for whole, first in rows])
    other = (prompts * means[:, 0] - more * means[:, 1]) / (prompts - more)
    by_prompts = float(np.mean((means[:, 1] - other) ** 2)) * more * (prompts - more) / prompts**2
    by_members = float(np.mean([np.var(whole, ddof=1) / whole.size for whole, _ in rows]))
    return math.sqrt(by_prompts + by_members)


def _accuracy_change(run: OwnRun, step: int) -> Measured | None:
    """Return the change of the trained task's accuracy on held-out prompts; the errors are taken as independent."""
    if run.es.reward != "accuracy":
        return None
    found = run.evaluated(Quantity.ACCURACY)
    task = run.config.task
    before, after = found.get((0, task)), found.get((step, task))
    if before is None or after is None:
        return None
    return after[0] - before[0], math.hypot(before[1], after[1])


def smoothed_peak(run: OwnRun) -> Measured | None:
    """Return the step of the largest mean reward, averaged over an eighth of the run, and its error by resampling."""
    if not _is_split(run):
        return None
    means = _member_means(run)
    width = max(5, means.size // 8)
    if means.size < 2 * width:
        return None
    window = np.full(width, 1 / width)
    smooth = np.convolve(means, window, mode="valid")
    noise = np.random.default_rng(0).normal(0.0, mean_reward_error(run), (_DRAWS, means.size))
    drawn = [int(np.argmax(smooth + np.convolve(row, window, mode="valid"))) for row in noise]
    middle = (width - 1) / 2
    return float(np.argmax(smooth)) + middle, float(np.std(drawn))
