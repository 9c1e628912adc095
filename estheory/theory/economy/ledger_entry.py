"""One update of a run in its ledger: what it earned and what it paid, from its logged rewards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from estheory._special import Array
from estheory.citations import ours
from estheory.errors import DataError
from estheory.rules import Shaping
from estheory.theory.economy.variance_components import seen_and_noise, smoothing_gap
from estheory.theory.estimators import kind_of

OURS = ours("economy")


@dataclass(frozen=True, kw_only=True)
class LedgerRules:
    """What the ledger must know of a run beside its rows.

    Attributes
    ----------
    sigma, alpha
        Perturbation scale and step size, weight units.
    population
        N.
    shaping
        How rewards became coefficients, where those are not logged.
    mirrored
        Members 2k and 2k + 1 are theta + sigma eps_k and theta - sigma eps_k.
    fixed
        The run trains on the same prompts throughout, and what it earns is meant on them.
    """

    sigma: float
    alpha: float
    population: int
    shaping: Shaping = "zscore"
    mirrored: bool = False
    fixed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedUpdate:
    """What a log holds of one update; None: not logged.

    Attributes
    ----------
    step
        Number of the update; its members are around the theta before it.
    rewards
        Mean reward of each member, shape (N,), reward units.
    half_rewards
        The same over half of the prompts, shape (N,).
    prompts
        B, for the weight of the halves.
    prompt_rewards
        Shape (N, B).
    centre_rewards
        Rewards of theta itself by prompt, shape (B,).
    centre_reward
        Their mean.
    reward_mean, reward_std
        Mean and population standard deviation of the members' rewards.
    coefficients
        z as applied, shape (N,).
    norm, kl
        ||theta - theta_0|| after the update, weight units, and KL to the start, nat/token.
    mirror_rewards
        Rewards by prompt of members that mirror this update's and never moved the run, shape (N, B). Updates near by
        without them take its odd variance.
    """

    step: int
    rewards: Array | None = None
    half_rewards: Array | None = None
    prompts: int | None = None
    prompt_rewards: Array | None = None
    centre_rewards: Array | None = None
    centre_reward: float | None = None
    reward_mean: float | None = None
    reward_std: float | None = None
    coefficients: Array | None = None
    norm: float | None = None
    kl: float | None = None
    mirror_rewards: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One update in the ledger.

    Attributes
    ----------
    step
        Number of the update.
    earned, earned_stderr
        Reward that its signal brought; NaN where nothing tells it.
    paid, paid_stderr
        Reward that its random part cost; NaN without a centre.
    reliability
        v/S^2 of its members' rewards, not cut off; NaN where prompts are not told apart.
    odd_share, even_share
        Of S^2; NaN without mirrored members.
    reward
        The centre's reward before the update, or the members' mean and the smoothing gap of an update near by, or the
        members' mean alone in a log without centres.
    reward_stderr
        Its standard error; NaN where prompts are not told apart.
    member_variance
        S^2, variance of its members' mean rewards, reward^2; NaN where not logged.
    walk
        Variance of one coordinate of the update, weight^2.
    bound
        ``upper`` where ``earned`` is only an upper bound.
    tied
        Its coefficients were all 0: nothing moved.
    """

    step: int
    earned: float
    earned_stderr: float
    paid: float
    paid_stderr: float
    reliability: float
    odd_share: float
    even_share: float
    reward: float
    reward_stderr: float
    member_variance: float
    walk: float
    bound: Literal["upper"] | None
    tied: bool = False

    @property
    def net(self) -> float:
        """Earned less paid, reward units; what is not known of the cost counts as nothing."""
        return self.earned - (0.0 if math.isnan(self.paid) else self.paid)

    @property
    def net_stderr(self) -> float:
        """Standard error of ``net``."""
        return math.hypot(self.earned_stderr, 0.0 if math.isnan(self.paid_stderr) else self.paid_stderr)


@dataclass(frozen=True, kw_only=True)
class Near:
    """What one update tells of itself and of those around it.

    Attributes
    ----------
    value, stderr
        In its unit; NaN if nothing is told.
    users
        Updates that take it.
    own
        Whether the update that takes it tells it itself.
    """

    value: float = math.nan
    stderr: float = math.nan
    users: int = 1
    own: bool = True

    @property
    def shared_stderr(self) -> float:
        """The error that each user is given: one shared by so many counts as often in their sum."""
        return self.stderr * math.sqrt(self.users)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an entry takes from an update, its own or one near by.

    Attributes
    ----------
    odd
        Variance of the odd part of members' true effects, reward^2.
    gap
        Smoothing gap, reward units.
    """

    odd: Near
    gap: Near


def told_by(update: LoggedUpdate, rules: LedgerRules) -> Told:
    """Return what the rewards of an update tell of its odd variance and its gap.

    Parameters
    ----------
    update, rules
        The update and its run.

    Returns
    -------
    Told

    Notes
    -----
    Label: exact, in the mean. Source: ours: docs/concepts/economy.md.
    """
    matrix, partners = update.prompt_rewards, update.mirror_rewards
    means = matrix.mean(axis=1) if matrix is not None else update.rewards
    if means is None:
        return Told(odd=Near(), gap=Near(value=_mean_centre(update) - _or_nan(update.reward_mean)))
    odd = Near()
    if partners is not None and matrix is not None and not rules.mirrored:
        half = (matrix - partners) / 2
        squares = half.mean(axis=1) ** 2
        stderr = float(squares.std(ddof=1)) / math.sqrt(squares.size)
        odd = Near(value=_true(half, None, rules.fixed, centred=False), stderr=stderr)
    gap, gap_stderr = _gap(update, matrix, means, rules)
    return Told(odd=odd, gap=Near(value=gap, stderr=gap_stderr))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _mean_centre(update: LoggedUpdate) -> float:
    return _or_nan(update.centre_reward) if update.centre_rewards is None else float(update.centre_rewards.mean())


def members_reward(update: LoggedUpdate, rules: LedgerRules) -> tuple[float, float]:
    """Return the members' mean reward and its standard error over prompts.

    Parameters
    ----------
    update, rules
        The update and its run.

    Returns
    -------
    mean, stderr : float
        Reward units; NaN where not known.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/economy.md.
    """
    matrix = update.prompt_rewards
    means = matrix.mean(axis=1) if matrix is not None else update.rewards
    if means is None:
        return _or_nan(update.reward_mean), math.nan
    if matrix is None or rules.fixed or matrix.shape[1] < 2:
        return float(means.mean()), math.nan
    return float(means.mean()), float(matrix.mean(axis=0).std(ddof=1)) / math.sqrt(matrix.shape[1])


@dataclass(frozen=True, kw_only=True)
class _Effects:
    """What an update's coefficients are multiplied with.

    ``own`` (n,) are member means about their mean, or half differences; ``by_prompt`` (n, b) the same prompt by prompt
    or half by half, with the weight of each; ``noise`` is w/B of one of ``own``.
    """

    weights: Array
    own: Array
    by_prompt: Array | None
    shares: Array | None
    noise: float


def entry_of(update: LoggedUpdate, rules: LedgerRules, near: Told) -> Entry:
    """Return what one update earned and paid.

    Parameters
    ----------
    update, rules
        The update and its run.
    near
        What it takes from itself and from updates near by.

    Returns
    -------
    Entry

    Raises
    ------
    DataError
        If rewards or coefficients do not fit the population.

    Notes
    -----
    Label: small-step. Source: ours: docs/concepts/economy.md.
    """
    matrix = update.prompt_rewards
    means = matrix.mean(axis=1) if matrix is not None else update.rewards
    if means is None:
        return _of_moments(update, rules, near.gap)
    n = rules.population
    if means.size != n:
        raise DataError(
            f"step {update.step}: {means.size} members' rewards, but a population of {n}", "give --population"
        )
    z = _zscores(means, rules) if update.coefficients is None else update.coefficients
    if z.size != n:
        raise DataError(f"step {update.step}: {z.size} coefficients for {n} members", "give --population")
    by_prompt, shares = _by_prompt(update, means)
    centred = means - means.mean()
    slope = float(z @ centred) / float(centred @ centred) if centred.any() else 0.0
    scored = kind_of(rules.shaping).divides_by_spread
    freedom = n - 1.0 - scored
    odd_known = rules.mirrored or (update.mirror_rewards is not None and matrix is not None)
    if rules.mirrored:
        half = None if by_prompt is None else (by_prompt[0::2] - by_prompt[1::2]) / 2
        effects = _effects(z[0::2] - z[1::2], (means[0::2] - means[1::2]) / 2, half, shares, rules.fixed)
        square = float(effects.own @ effects.own)
        slope = float(effects.weights @ effects.own) / square if square else 0.0
        freedom = n / 2 - (2 * square / (n * float(means.var())) if scored and square else 0.0)
    elif update.mirror_rewards is not None and matrix is not None:
        pairs = (matrix - update.mirror_rewards) / 2
        effects = _effects(z, pairs.mean(axis=1), pairs, None, rules.fixed)
    elif not math.isnan(near.odd.value):
        return _by_neighbour(update, means, z, rules, near)
    else:
        own = None if by_prompt is None else by_prompt - by_prompt.mean(axis=0)
        effects = _effects(z, centred, own, shares, rules.fixed, centred=True)
    earned, stderr = _earned(effects, rules, slope, freedom)
    if not odd_known and not math.isnan(stderr):  # even effects scatter with the coefficients too
        stderr = math.hypot(
            stderr, rules.alpha / (n * rules.sigma) * math.sqrt(float(means.var(ddof=1)) * float(z @ z))
        )
    random = float(effects.weights @ effects.weights) * (rules.alpha / n) ** 2 / rules.sigma**2
    known = not math.isnan(effects.noise)
    reliability, odd, even = _shares(update, means, rules) if known else (math.nan, math.nan, math.nan)
    reward, reward_stderr = _reward(update, means, matrix, rules, near.gap)
    return Entry(
        step=update.step,
        earned=earned,
        earned_stderr=stderr,
        paid=random * near.gap.value,
        paid_stderr=random * near.gap.shared_stderr,
        reliability=reliability,
        odd_share=odd,
        even_share=even,
        reward=reward,
        reward_stderr=reward_stderr,
        member_variance=float(means.var(ddof=1)),
        walk=random * rules.sigma**2,
        bound=None if (odd_known and known) or not z.any() else "upper",
        tied=not z.any(),
    )


def _by_neighbour(update: LoggedUpdate, means: Array, z: Array, rules: LedgerRules, near: Told) -> Entry:
    """Return the entry of an update whose odd variance is that of a neighbour with mirrored partners.

    What was earned is the slope of the coefficients in the rewards times the odd variance, for each member. Its error
    is the neighbour's, and how the odd effects scatter about that slope.
    """
    n = rules.population
    centred = means - means.mean()
    square = float(centred @ centred)
    slope = float(z @ centred) / square if square else 0.0
    scored = kind_of(rules.shaping).divides_by_spread
    scale = rules.alpha / (n * rules.sigma)
    odd, freedom = near.odd.value, n - 1.0 - scored
    share = min(max(odd * (n - 1) / square, 0.0), 1.0) if square else 0.0
    scatter = max(odd, 0.0) * (1 - share) * float(z @ z)
    random = float(z @ z) * (rules.alpha / n) ** 2 / rules.sigma**2
    reward, reward_stderr = _reward(update, means, update.prompt_rewards, rules, near.gap)
    reliability = _shares(update, means, rules)[0]
    return Entry(
        step=update.step,
        earned=scale * slope * odd * freedom,
        earned_stderr=scale * math.sqrt(scatter + (slope * freedom * near.odd.shared_stderr) ** 2),
        paid=random * near.gap.value,
        paid_stderr=random * near.gap.shared_stderr,
        reliability=reliability,
        odd_share=math.nan,
        even_share=math.nan,
        reward=reward,
        reward_stderr=reward_stderr,
        member_variance=float(means.var(ddof=1)),
        walk=random * rules.sigma**2,
        bound=None,
        tied=not z.any(),
    )


def _of_moments(update: LoggedUpdate, rules: LedgerRules, gap: Near) -> Entry:
    """Return the entry of a row of moments: all of the spread taken as signal, an upper bound."""
    if update.reward_mean is None and update.centre_reward is None:
        raise DataError(f"step {update.step} logs no reward", "give rewards, prompt_rewards or reward_mean")
    spread, mean, centre = _or_nan(update.reward_std), _or_nan(update.reward_mean), _mean_centre(update)
    moved = 0.0 if spread == 0 else 1.0
    factor = moved * rules.alpha**2 / (rules.population * rules.sigma**2)
    return Entry(
        step=update.step,
        earned=rules.alpha / rules.sigma * spread,
        earned_stderr=math.nan,
        paid=factor * gap.value,
        paid_stderr=math.nan,
        reliability=math.nan,
        odd_share=math.nan,
        even_share=math.nan,
        reward=mean + gap.value if math.isnan(centre) else centre,
        reward_stderr=math.nan,
        member_variance=spread**2,
        walk=factor * rules.sigma**2,
        bound="upper",
        tied=spread == 0,
    )


def _zscores(means: Array, rules: LedgerRules) -> Array:
    kind = kind_of(rules.shaping)
    if not kind.divides_by_spread:
        raise DataError(
            f"coefficients of {rules.shaping} shaping are not logged", "log 'coefficients': the ledger uses them"
        )
    return kind(population=means.size, sigma=rules.sigma, alpha=rules.alpha).shape(means)


def _by_prompt(update: LoggedUpdate, means: Array) -> tuple[Array | None, Array | None]:
    """Return rewards by prompt, or by half of the prompts with the share of each half; None where not logged."""
    if update.prompt_rewards is not None:
        return update.prompt_rewards, None
    if update.half_rewards is None or update.prompts is None:
        return None, None
    first = (update.prompts + 1) // 2 / update.prompts
    other = (means - first * update.half_rewards) / (1 - first)
    return np.stack([update.half_rewards, other], axis=1), np.array([first, 1 - first])


def _effects(
    weights: Array, own: Array, by_prompt: Array | None, shares: Array | None, fixed: bool, *, centred: bool = False
) -> _Effects:
    noise = math.nan
    df = own.size - centred
    if fixed:
        noise = 0.0
    elif by_prompt is not None and shares is not None:
        # of two parts with shares f and 1 - f, whose common part is their covariance
        noise = float(own @ own - by_prompt[:, 0] @ by_prompt[:, 1]) / df
    elif by_prompt is not None:
        noise = seen_and_noise(by_prompt, centred=centred, fixed=fixed)[1]
    return _Effects(weights=weights, own=own, by_prompt=by_prompt, shares=shares, noise=noise)


def _earned(effects: _Effects, rules: LedgerRules, slope: float, freedom: float) -> tuple[float, float]:
    """Return what an update earned, and the error of that as an estimate of what it really did.

    The correction takes out what the noise of a member's reward brings through its own coefficient: the slope of the
    coefficients in the rewards, over the degrees of freedom that z-scores leave. It vanishes in expectation where
    coefficients do not follow the rewards.
    """
    scale = rules.alpha / (rules.population * rules.sigma)
    z, own = effects.weights, effects.own
    raw = float(z @ own)
    if math.isnan(effects.noise):
        return scale * raw, math.nan
    scatter = 0.0
    if effects.by_prompt is not None and not rules.fixed:
        along = effects.by_prompt.T @ z
        if effects.shares is None:
            scatter = float(along.var(ddof=1)) / along.size
        else:
            scatter = float((along[0] - along[1]) ** 2) * float(np.prod(effects.shares))
    noise = effects.noise
    return scale * (raw - slope * noise * freedom), scale * math.sqrt(scatter + own.size * (slope * noise) ** 2)


def _gap(update: LoggedUpdate, matrix: Array | None, means: Array, rules: LedgerRules) -> tuple[float, float]:
    """Return the smoothing gap before the update and its standard error; NaN where not known."""
    if matrix is not None and update.centre_rewards is not None:
        return smoothing_gap(matrix, update.centre_rewards, mirrored=rules.mirrored, fixed=rules.fixed)
    return _mean_centre(update) - float(means.mean()), math.nan


def _shares(update: LoggedUpdate, means: Array, rules: LedgerRules) -> tuple[float, float, float]:
    """Return reliability, odd and even share of S^2; NaN where not known."""
    by_prompt, shares = _by_prompt(update, means)
    seen = float(means.var(ddof=1))
    if seen == 0:
        return math.nan, math.nan, math.nan
    if by_prompt is None:
        return (1.0 if rules.fixed else math.nan), math.nan, math.nan
    if update.mirror_rewards is not None and update.prompt_rewards is not None and not rules.mirrored:
        odd = _true((by_prompt - update.mirror_rewards) / 2, None, rules.fixed, centred=False)
        even = _true((by_prompt + update.mirror_rewards) / 2, None, rules.fixed, centred=True)
    elif rules.mirrored:
        odd = _true((by_prompt[0::2] - by_prompt[1::2]) / 2, shares, rules.fixed, centred=False)
        even = _true((by_prompt[0::2] + by_prompt[1::2]) / 2, shares, rules.fixed, centred=True)
    else:
        return _true(by_prompt, shares, rules.fixed, centred=True) / seen, math.nan, math.nan
    return (odd + even) / seen, odd / seen, even / seen


def _true(by_prompt: Array, shares: Array | None, fixed: bool, *, centred: bool) -> float:
    """Return the variance of true effects, reward^2."""
    values = by_prompt - by_prompt.mean(axis=0) if centred else by_prompt
    own = values.mean(axis=1) if shares is None else values @ shares
    found = _effects(own, own, values, shares, fixed, centred=centred)
    return float(own @ own) / (own.size - centred) - found.noise


def _reward(
    update: LoggedUpdate, means: Array, matrix: Array | None, rules: LedgerRules, gap: Near
) -> tuple[float, float]:
    """Return the centre's reward before the update and its standard error over prompts; NaN where it is not known.

    Where the centre was not evaluated, it is the members' mean and the gap of a neighbour.
    """
    centre = update.centre_rewards
    if centre is not None:
        value = float(centre.mean())
        stderr = float(centre.std(ddof=1)) / math.sqrt(centre.size) if centre.size > 1 else math.nan
    elif update.centre_reward is not None:
        value, stderr = update.centre_reward, math.nan
    else:
        members, members_stderr = members_reward(update, rules)
        value, stderr = members + gap.value, math.hypot(members_stderr, gap.shared_stderr)
    # the same prompts throughout: their choice is no error of a change
    return value, math.nan if rules.fixed else stderr
