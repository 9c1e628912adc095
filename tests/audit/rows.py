"""What the engine measures for a row of a forecast, and whether the row's law, label and band hold.

A law is tested by exact binomial counts of what falls outside its quantiles, a mean without law by block means. Where
the label is not `exact`, what the label itself leaves open is granted (`GRANTED`).
"""

import math
from dataclasses import dataclass, replace

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
class Seen:
    """What the engine saw of a configuration, over its replicas."""

    places: dict
    ties: np.ndarray
    member: np.ndarray
    meant: dict
    """Displacements without rounding, by step; empty where nothing rounds."""


def observe(run, replicas, batch, rng):
    """Simulate a configuration in batches."""
    sizes = [min(batch, replicas - i) for i in range(0, replicas, batch)]
    if run.dtype != "float32":
        parts = [engine.rounded(run, size, rng) for size in sizes]
        places, meant = ({look: np.concatenate([p[i][look] for p in parts]) for look in parts[0][i]} for i in (0, 1))
        member = np.concatenate([part[2] for part in parts])
        return Seen(places, np.zeros(replicas, dtype=bool), member, meant)
    parts = [engine.simulate(run, size, rng) for size in sizes]
    places = {look: np.concatenate([part[0][look] for part in parts]) for look in parts[0][0]}
    ties, member = (np.concatenate([part[i] for part in parts]) for i in (2, 3))
    return Seen(places, ties, member, {})


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


def measured(drawn, prediction, seen, rng):
    """Samples of what the row is about, one a replica; None where the engine has none."""
    run, q, step = drawn.run, prediction.quantity, prediction.step
    places, ties, member = seen.places, seen.ties, seen.member
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
    if q is Q.EFFECTIVE_DIMENSION_RATIO:
        walks = [p for p in drawn.forecast.predictions if p.quantity is Q.COORDINATE_STD and p.step == step]
        if seen.meant or not walks or walks[0].systematic >= 1:  # none: one coordinate that the signal moves
            return None
        return norm**2 / (run.dim * walks[0].law.mean ** 2)
    if q is Q.NORM_RATIO:
        return norm / gradient_norm(drawn, rng)
    if q is Q.PRECISION_GAIN:
        return np.sum(place**2, axis=1) / np.mean(np.sum(seen.meant[step] ** 2, axis=1))
    if q is Q.PRECISION_SIGNAL:
        return np.sum(place * seen.meant[step], axis=1) / np.mean(np.sum(seen.meant[step] ** 2, axis=1))
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
    if q in (Q.SIGNAL_SHARE_BOUND, Q.ES_GRPO_COSINE_BOUND):
        return along / np.linalg.norm(gradient) / math.sqrt(np.mean(norm**2))
    if q is Q.REWARD_GAIN_PER_STEP:
        return along
    return None


def _cosine(first, second):
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    return found[np.isfinite(found)]


def gradient_norm(drawn, rng):
    """Root mean square norm of AdamW's displacement, to 0.2 %."""
    grpo, dim = drawn.grpo, drawn.run.dim
    square = [
        np.mean(engine.adamw(2000, dim, grpo["steps"], grpo["lr"], grpo["schedule"], rng) ** 2)
        for _ in range(max(1, math.ceil(100 / dim)))
    ]
    return math.sqrt(np.mean(square))


def short_of_zero(values):
    """p-value of a mean that is not negative, by the t law of block means."""
    from scipy.stats import t

    blocks = values[: len(values) // BLOCKS * BLOCKS].reshape(BLOCKS, -1).mean(axis=1)
    error = blocks.std(ddof=1) / math.sqrt(BLOCKS)
    if blocks.mean() >= -1e-12 * np.abs(blocks).max():
        return 1.0
    return float(t.cdf(blocks.mean() / error, BLOCKS - 1)) if error else 0.0


def optimal_alpha(drawn, prediction, seen, rng):
    """The gain of a step is E first s - E second s^2 in the step size s: its top at E first / (2 E second)."""
    run, place = drawn.run, seen.places[1]
    first, second = place @ (run.curvature * run.optimum), 0.5 * place**2 @ run.curvature

    def p(low, high):
        return 2 * min(short_of_zero(first - 2 * low * second), short_of_zero(2 * high * second - first))

    return p, prediction.law.mean / run.alpha


def critical_population(drawn, prediction, seen, rng):
    """E[first]^2 / (4 E second), the gain at the best step, is c^2 N / (N - 2 + N_crit) of ||g||^4 / (2 g'Lam g)."""
    run, place = drawn.run, seen.places[1]
    slope = run.curvature * run.optimum
    limit = 2 * float(slope @ slope) ** 2 / float(slope @ (run.curvature * slope))  # four times that of the gain
    n = run.population
    c = math.sqrt(2 / n) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    blocks = (place @ slope)[: len(place) // BLOCKS * BLOCKS].reshape(BLOCKS, -1)
    square = blocks.mean(axis=1) ** 2 - blocks.var(axis=1, ddof=1) / blocks.shape[1]
    second = (0.5 * place**2 @ run.curvature)[: blocks.size].reshape(BLOCKS, -1).mean(axis=1)

    def p(low, high):
        most, least = (limit * c**2 * n / max(n - 2 + x, 1e-9) for x in (low, high))
        return 2 * min(short_of_zero(square - least * second), short_of_zero(most * second - square))

    return p, prediction.law.mean


def stationary_reward_gap(drawn, prediction, seen, rng):
    """A run from the optimum ends below it, one from twice and a half the gap above: the row must lie between."""
    run, gap = drawn.run, prediction.law.mean
    steps, replicas = 300, 400
    if run.anchor_l1 or run.anchor_l2 or steps * replicas * run.population * run.dim > SETTLING:
        return None
    ends = []
    for excess in (0.0, 2.5):
        away = np.where(run.curvature > 0, math.sqrt(2 * excess * gap / run.curvature.sum()), 0.0)
        settled = engine.simulate(replace(run, optimum=away, looks=(steps,)), replicas, rng)[1]
        ends.append(-settled[:, -steps // 4 :].mean(axis=1))
    below, above = ends
    if not np.all(np.isfinite(above)) or above.mean() > 1.1 * below.mean():
        return None  # it has not settled

    def p(low, high):
        return 2 * min(short_of_zero(high - below), short_of_zero(above - low))

    return p, gap


def reward_peak_step(drawn, prediction, seen, rng):
    """The mean reward is lower at half the step and at twice of it."""
    run, peak = drawn.run, prediction.law.mean
    replicas = 400
    if peak < 1 or 4 * peak * replicas * run.population * run.dim > SETTLING:
        return None
    curves = engine.simulate(replace(run, looks=(4 * int(peak),)), replicas, rng)[1]
    at_start = np.full((replicas, 1), -0.5 * float(run.curvature @ run.optimum**2))
    curves = np.concatenate([at_start, curves], axis=1)
    if not np.all(np.isfinite(curves)):
        return None

    def p(low, high):
        middle = round(0.5 * (low + high))
        sides = (round(middle / 2), min(2 * middle, curves.shape[1] - 1))
        return 2 * min(short_of_zero(curves[:, middle] - curves[:, side]) for side in sides)

    return p, peak


def matching_population(drawn, prediction, seen, rng):
    """At the next populations below and above, the norm of ES is above and below that of AdamW."""
    run, n = drawn.run, prediction.law.mean
    step, pair = prediction.step, 2 if drawn.run.antithetic else 1
    replicas = 400
    if not 2 * pair <= n <= 200 or step * replicas * n * run.dim > SETTLING or run.anchor_l1:
        return None
    target = gradient_norm(drawn, rng) ** 2

    def square(members):
        found = engine.simulate(replace(run, population=members, looks=(step,)), replicas, rng)[0]
        return np.sum(found[step] ** 2, axis=1)

    def p(low, high):
        few, many = pair * max(1 + (pair == 1), math.floor(low / pair)), pair * math.ceil(high / pair)
        return 2 * min(short_of_zero(square(few) - target), short_of_zero(target - square(many)))

    return p, n


SETTLING = 40_000_000
"""Random numbers that a row with a simulation of its own may take."""
BOUNDS = (Q.COHERENT_DISPLACEMENT_BOUND, Q.SIGNAL_SHARE_BOUND, Q.ES_GRPO_COSINE_BOUND)
BRACKETED = {
    Q.OPTIMAL_ALPHA: optimal_alpha,
    Q.CRITICAL_POPULATION: critical_population,
    Q.STATIONARY_REWARD_GAP: stationary_reward_gap,
    Q.REWARD_PEAK_STEP: reward_peak_step,
    Q.MATCHING_POPULATION: matching_population,
}
"""Rows that are a number which the engine shows to be too large or too small."""
WRONG = {Q.REWARD_PEAK_STEP: 2.0}
"""Factor of the deliberately wrong row where it is not 1.5."""


def judged(case, drawn, prediction, seen, warned, rng):
    """A row, tested; None where the engine has nothing to test it by."""
    if (bracket := BRACKETED.get(prediction.quantity)) is None:
        values = measured(drawn, prediction, seen, rng)
        if values is None or len(values) < 100:
            return None
        return tested(case, drawn, prediction, values, warned)
    if (found := bracket(drawn, prediction, seen, rng)) is None:
        return None
    p, value = found
    loose = granted(prediction.label, drawn.run.population, drawn.run.dim).mean + prediction.systematic
    wrong = WRONG.get(prediction.quantity, 1.5)
    return Found(
        case=case,
        quantity=str(prediction.quantity),
        label=prediction.label,
        step=prediction.step or 0,
        pvalue=p(value * (1 - loose), value * (1 + loose)),
        control=p(wrong * value * (1 - loose), wrong * value * (1 + loose)),
        mean_error=0.0,
        spread_ratio=1.0,
        coverage={},
        warned=warned,
        text=drawn.text,
        why=f"{value:.4g} by what is above and below it",
    )


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
    # a law that bounds its tails has two medians: at most half of the samples lie below the lower one
    tails = [(0.5 * (1 - level)) for level in LEVELS] + [0.49 if bound else 0.5]
    for tail in tails:
        for side in (-1, 1):
            edge = law.quantile(tail if side < 0 else 1 - tail)
            # a law with atoms: strictly beyond a quantile lies at most the tail, up to it at least that
            near = 1e-9 * (abs(edge) + law.std)
            if side < 0:
                outside, inner = np.sum(values < edge - band - near), np.sum(values <= edge + band + near)
            else:
                outside, inner = np.sum(values > edge + band + near), np.sum(values >= edge - band - near)
            # beyond the band there may be at most the tail; before it, at least that, unless the law bounds its tails
            most = tail * allowed.tail + allowed.more
            if tail >= 0.49:
                most = tail + (allowed.more * 2 if allowed.more else 0.0)
            from scipy.stats import binom

            many = float(2 * binom.sf(outside - 1, n, min(most, 1.0)))
            found = min(found, (many, f"{'below' if side < 0 else 'above'} the {tail:g} tail: {outside / n:.4f}"))
            if allowed.more == 0.0 and not bound:
                few = float(2 * binom.cdf(inner, n, tail))
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
    if q in BOUNDS:
        most = math.sqrt(mean) if q is Q.SIGNAL_SHARE_BOUND else mean
        ahead = values * np.sign(values.mean() or 1.0)
        p, control = short_of_zero(most + band - ahead), short_of_zero(0.5 * abs(ahead.mean()) - ahead)
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
        bounding = type(getattr(law, "root", law)).__name__ == "UnevenSumLaw" or q is Q.OFF_TASK_REWARD_CHANGE
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
