"""What the engine measures for a row of a forecast, and whether the row's law, label and band hold.

A law is tested by exact binomial counts of what falls outside its quantiles, a mean without law by block means. Where
the label is not `exact`, what the label itself leaves open is granted (`GRANTED`).
"""

import math
from dataclasses import dataclass

import numpy as np

from estheory.quantities import Quantity
from tests.audit import engine

Q = Quantity

LEVELS = (0.95, 0.99)
BLOCKS = 20
NEVER = 1e-4
"""Part of alpha below which a mean may stem from events that few replicas show (a step beyond an L1 anchor's pull)."""


@dataclass(frozen=True)
class Granted:
    """What a label leaves open: relative error of the mean, factor on tail probabilities and share added to them."""

    mean: float
    tail: float
    more: float


def granted(label, population, dim):
    """An exact law is given nothing; a large-N one 1/N of its mean, others little; tails half as much again."""
    few = 1 / population
    if label == "exact":
        return Granted(0.0, 1.0, 0.0)
    if label == "large-N":
        return Granted(few, 1.5, 0.02 + 0.25 * few)
    if label == "mean-field":
        return Granted(0.02 + few, 1.5, 0.05 + 0.25 * few)
    return Granted(0.01, 1.5, 0.02)


@dataclass(frozen=True)
class Found:
    """One row that was tested."""

    case: tuple
    quantity: str
    label: str
    step: int
    pvalue: float
    control: float
    mean_error: float
    spread_ratio: float
    coverage: dict
    warned: bool
    text: str
    why: str

    def __str__(self):
        """One line."""
        cover = " ".join(f"{level:.0%}: {share:.4f}" for level, share in self.coverage.items())
        return (
            f"p = {self.pvalue:.1e} [{self.label}] {self.quantity} at {self.step}: mean {self.mean_error:+.4f} of the "
            f"predicted, spread {self.spread_ratio:.3f}, inside {cover or 'no law'}; {self.why}\n    "
            f"case {self.case[0]},{self.case[1]}: {self.text}"
        )


def measured(drawn, prediction, places, ties, member, rng):
    """Samples of what the row is about, one a replica; None where the engine has none."""
    run, q, step = drawn.run, prediction.quantity, prediction.step
    place = places.get(step or max(run.looks))
    if place is None:
        return None
    norm = np.linalg.norm(place, axis=1)
    gradient = run.gradient if run.reward != "quadratic" else run.curvature * run.optimum
    if q in (Q.DISPLACEMENT_NORM, Q.STEP_NORM):
        return norm
    if q is Q.MEMBER_PERTURBATION_NORM:
        return np.linalg.norm(member, axis=1)
    if q is Q.COORDINATE_STD:
        flat = drawn.flat
        if run.reward == "linear" or not flat.any():
            return None
        return np.mean(place[:, flat] ** 2, axis=1)  # its mean is the square of the row
    if q is Q.CHECKPOINT_COSINE:
        first, second = (places[int(part)] for part in prediction.where.split("|"))
        return _cosine(first, second)
    if q is Q.INDEPENDENT_COSINE:
        half = len(place) // 2
        return _cosine(place[:half], place[half : 2 * half])
    if q is Q.NORM_RATIO:
        return None
    if q is Q.TIE_PROBABILITY:
        return ties.astype(float)
    if q is Q.GRPO_DISPLACEMENT_NORM:
        return engine.adamw(200, run.dim, drawn.grpo["steps"], drawn.grpo["lr"], drawn.grpo["schedule"], rng)
    if q is Q.KL_DRIFT:
        return 0.5 * place**2 @ drawn.drift[0]
    if q is Q.OFF_TASK_REWARD_CHANGE:
        shares = drawn.drift[1] ** 2
        if shares.sum() ** 2 < 20 * (shares**2).sum():  # few directions: outside the row's stated assumption
            return None
        return place @ drawn.drift_gradient - 0.5 * place**2 @ drawn.drift[1]
    if run.reward == "quadratic":
        start, now = 0.5 * run.optimum**2 @ run.curvature, 0.5 * (place - run.optimum) ** 2 @ run.curvature
        if q is Q.REWARD:
            return -now
        if q is Q.INTERPOLATION_GAIN:
            return now / 4
        if q is Q.REWARD_GAIN_PER_STEP:
            return start - now
    if gradient is None or not np.any(gradient):
        return None
    along = place @ gradient
    if q is Q.GRADIENT_COSINE:
        return _cosine(place, np.broadcast_to(gradient, place.shape))
    if q in (Q.PROGRESS_PER_STEP, Q.COHERENT_DISPLACEMENT_BOUND):
        return along / np.linalg.norm(gradient)
    if q is Q.REWARD_GAIN_PER_STEP:
        return along
    return None


def _cosine(first, second):
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return found[np.isfinite(found)]


def binomial_tails(count, trials, low, high):
    """p-value of a count of successes whose chance lies in [low, high]; two-sided."""
    from scipy.stats import binom

    few = binom.cdf(count, trials, min(max(low, 0.0), 1.0))
    many = binom.sf(count - 1, trials, min(high, 1.0))
    return min(1.0, 2 * min(few, many))


def block_pvalue(values, low, high):
    """p-value of a mean in [low, high] by the t law of block means, robust to the shape of the values."""
    from scipy.stats import t

    blocks = values[: len(values) // BLOCKS * BLOCKS].reshape(BLOCKS, -1).mean(axis=1)
    mean, error = blocks.mean(), blocks.std(ddof=1) / math.sqrt(BLOCKS)
    beyond = max(low - mean, mean - high)
    if beyond <= 1e-12 * max(abs(low), abs(high)):
        return 1.0
    if error == 0.0:
        return 0.0
    return float(2 * t.sf(beyond / error, BLOCKS - 1))


def law_pvalue(law, values, band, allowed, bound):
    """p-value of samples under a law whose mean may be off by ``band``, and which tail gave it."""
    n, found = len(values), (1.0, "")
    tails = [(0.5 * (1 - level)) for level in LEVELS] + [0.5]
    for tail in tails:
        chance = tail if bound is False else min(tail, 0.49)
        for side in (-1, 1):
            edge = law.quantile(tail if side < 0 else 1 - tail)
            # a law with atoms: strictly beyond a quantile lies at most the tail, up to it at least that
            near = 1e-9 * (abs(edge) + law.std)
            if side < 0:
                outside, inner = np.sum(values < edge - band - near), np.sum(values <= edge + band + near)
            else:
                outside, inner = np.sum(values > edge + band + near), np.sum(values >= edge - band - near)
            # beyond the band there may be at most the tail; before it, at least that, unless the law bounds its tails
            most = chance * allowed.tail + allowed.more
            if tail == 0.5:
                most = 0.5 + (allowed.more * 2 if allowed.more else 0.0)
            from scipy.stats import binom

            many = float(2 * binom.sf(outside - 1, n, min(most, 1.0)))
            found = min(found, (many, f"{'below' if side < 0 else 'above'} the {tail:g} tail: {outside / n:.4f}"))
            if allowed.more == 0.0 and not bound:
                few = float(2 * binom.cdf(inner, n, chance))
                found = min(found, (few, f"{'below' if side < 0 else 'above'} the {tail:g} tail: {inner / n:.4f}"))
    return min(1.0, len(tails) * 2 * found[0]), found[1]


def _seldom(values, alpha):
    """Whether too few replicas moved for a mean; what rounding leaves of a difference is no motion."""
    return np.count_nonzero(np.abs(values) > 1e-9 * alpha) < BLOCKS


def tested(case, drawn, prediction, values, warned):
    """The row, tested: its p-value and that of the same row with a deliberately wrong law."""
    law, q = prediction.law, prediction.quantity
    allowed = granted(prediction.label, drawn.run.population, drawn.run.dim)
    mean = law.mean**2 if q is Q.COORDINATE_STD else law.mean
    band = prediction.systematic * abs(mean) * (2 if q is Q.COORDINATE_STD else 1)
    sample, coverage, spread = float(np.mean(values)), {}, 1.0
    loose = band + allowed.mean * abs(mean)
    wrong = values + 0.3 * (np.std(values) + abs(mean)) * (1 if mean >= 0 else -1)
    if q is Q.COHERENT_DISPLACEMENT_BOUND:
        p, control = (
            block_pvalue(np.abs(values.mean()) + 0 * values + values - values.mean(), -math.inf, mean + band),
            0.0,
        )
        why = "mean within the bound"
    elif q is Q.TIE_PROBABILITY:
        p = binomial_tails(int(values.sum()), len(values), mean, mean)
        control = binomial_tails(int(values.sum()), len(values), 0.3 + 0.5 * mean, 0.3 + 0.5 * mean)
        why = "ties counted"
    elif law.std == 0.0 and abs(mean) < NEVER * drawn.run.alpha and _seldom(values, drawn.run.alpha):
        p, control, why = 1.0, block_pvalue(wrong, mean - loose, mean + loose), "too rare to be seen"
    elif law.std == 0.0:
        p, control = block_pvalue(values, mean - loose, mean + loose), block_pvalue(wrong, mean - loose, mean + loose)
        why = "the mean alone"
    else:
        bounding = type(law).__name__ in ("UnevenSumLaw",) or q is Q.OFF_TASK_REWARD_CHANGE
        p, why = law_pvalue(law, values, loose, allowed, bounding)
        control, _ = law_pvalue(law, wrong, loose, allowed, bounding)
        coverage = {
            level: float(np.mean((values >= law.quantile(0.5 - level / 2)) & (values <= law.quantile(0.5 + level / 2))))
            for level in LEVELS
        }
        spread = float(np.std(values) / law.std)
    return Found(
        case=case,
        quantity=str(q),
        label=prediction.label,
        step=prediction.step or 0,
        pvalue=p,
        control=control,
        mean_error=sample / mean - 1 if mean else sample,
        spread_ratio=spread,
        coverage=coverage,
        warned=warned,
        text=drawn.text,
        why=why,
    )
