"""Variance of one flat step under other shapings and noises: ranks, raw rewards, antithetic pairs."""

from __future__ import annotations

from estheory.derivations.algebra import sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import (
    ALPHA,
    MEMBER_STD,
    POPULATION,
    SIGMA,
    N,
    S,
    alpha,
    beta_mean,
    given,
    half,
    named,
    sigma,
    y,
)
from estheory.derivations.walk import FLAT, STEP_VARIANCE
from estheory.landscape import Signal
from estheory.theory.estimators import CentredRanks, MirroredPairs, RawRewards
from estheory.theory.estimators.estimator import WALK

step = STEP_VARIANCE.symbol


def _raw(v: Values) -> float:
    raw = RawRewards(population=int(v["population"]), sigma=v["sigma"], alpha=v["alpha"])
    return raw.variance(Signal(member_std=v["member_std"])).value


def _rank(v: Values) -> float:
    return CentredRanks(population=int(v["population"]), sigma=1.0, alpha=v["alpha"]).variance(Signal()).value


def _pairs(population: int, alpha: float) -> MirroredPairs:
    return MirroredPairs(population=population, sigma=1.0, alpha=alpha)


RANK_SQUARE = named("Σu²", r"\sum_i u_i^2", "sum of the squared centred ranks")
rank = sp.Symbol("i", integer=True, nonnegative=True)

rank_variance = Derivation(
    name="rank-variance",
    title="Variance of a flat coordinate in one step of centred ranks",
    assumptions=(FLAT, "no ties among the rewards"),
    label="exact",
    source=WALK,
    symbols=(ALPHA, POPULATION, RANK_SQUARE, STEP_VARIANCE),
    steps=(
        define(
            RANK_SQUARE.symbol,
            sp.Sum((rank / (N - 1) - half) ** 2, (rank, 0, N - 1)),
            "Without ties the centred ranks are a permutation of i/(N-1) - 1/2, i = 0..N-1.",
        ),
        follows(RANK_SQUARE.symbol, N * (N + 1) / (12 * (N - 1)), "The sums of i and of i^2."),
        define(step, (alpha / N) ** 2 * RANK_SQUARE.symbol, "Given the ranks, a sum of independent normals."),
        follows(step, alpha**2 * (N + 1) / (12 * N * (N - 1)), "About a twelfth of the z-scored step's."),
    ),
    evaluator=Evaluator(name="estheory.theory.estimators.ranks.CentredRanks.variance", call=_rank),
)

MU = given("mu", r"\mu", "reward_mean", "mean reward", "reward")
FIRST_MOMENT = named("E S₁²", r"\mathbb{E}S_1^2", "mean square of the sum of the rewards", "reward^2")
SECOND_MOMENT = named("E S₂", r"\mathbb{E}S_2", "mean of the sum of their squares", "reward^2")
SCATTER = named("E Σ(R−R̄)²", r"\mathbb{E}\sum_i(R_i-\bar R)^2", "mean scatter of the rewards", "reward^2")
mu = MU.symbol

raw_variance = Derivation(
    name="raw-variance",
    title="Mean variance of a flat coordinate in one step of raw rewards",
    assumptions=(
        FLAT,
        "independent members",
        "in-sample baseline: the step is (alpha/(N sigma)) sum (R_i - mean) eps_i",
    ),
    label="exact",
    source=WALK,
    symbols=(ALPHA, SIGMA, POPULATION, MEMBER_STD, MU, FIRST_MOMENT, SECOND_MOMENT, SCATTER, STEP_VARIANCE),
    steps=(
        define(SECOND_MOMENT.symbol, N * (S**2 + mu**2), "N independent rewards of mean mu and variance S^2."),
        define(FIRST_MOMENT.symbol, N * S**2 + (N * mu) ** 2, "Variance plus squared mean of their sum."),
        define(SCATTER.symbol, SECOND_MOMENT.symbol - FIRST_MOMENT.symbol / N, "sum (R_i - mean)^2 = S_2 - S_1^2 / N."),
        follows(SCATTER.symbol, (N - 1) * S**2, "The baseline costs one degree of freedom."),
        define(step, (alpha / (N * sigma)) ** 2 * SCATTER.symbol, "Mean over the rewards; given them, normal."),
        follows(
            step,
            alpha**2 * S**2 * (N - 1) / (N**2 * sigma**2),
            "The mean only: the law is a mixture of normals, not a normal.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.estimators.raw.RawRewards.variance", call=_raw),
)

KAPPA = given(
    "kappa",
    r"\kappa",
    "kappa",
    "minus the correlation of the two rewards of a pair",
    typical=(0.1, 0.9),
    extreme=(1e-9, 1.0),
)
COVARIANCE = named("C", "C", "minus the covariance of the two rewards of a pair", "reward^2")
ODD = named("Var o", r"\operatorname{Var}o", "variance of the odd part (R+ - R-)/2 of a pair", "reward^2")
kappa = KAPPA.symbol

_odd_steps = (
    define(COVARIANCE.symbol, kappa * S**2, "By the meaning of kappa; rho^2 if the rest is independent noise."),
    define(ODD.symbol, (S**2 + 2 * COVARIANCE.symbol + S**2) / 4, "Var((R+ - R-)/2)."),
)

antithetic_variance = Derivation(
    name="antithetic-variance",
    title="Variance of a flat coordinate in one z-scored step of antithetic pairs, many pairs",
    assumptions=(FLAT, "N members are N/2 pairs theta +- sigma eps", "N large: the z-scores divide by S"),
    label="large-N",
    source=WALK,
    symbols=(ALPHA, POPULATION, MEMBER_STD, KAPPA, COVARIANCE, ODD, STEP_VARIANCE),
    steps=(
        *_odd_steps,
        follows(ODD.symbol, S**2 * (1 + kappa) / 2, "Half of S^2 if the two rewards are uncorrelated."),
        define(
            step,
            (alpha / N) ** 2 * (N / 2) * 4 * ODD.symbol / S**2,
            "A pair enters as (z+ - z-) eps = (2 o / S) eps; N/2 pairs are independent.",
        ),
        follows(step, alpha**2 / N * (1 + kappa), "Up to twice that of independent members."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.pairs.MirroredPairs.odd_variance",
        call=lambda v: v["alpha"] ** 2 / v["population"] * _pairs(10**13, 1.0).odd_variance(v["kappa"])[0],
    ),
)

PAIRS = given("n", "n", "pairs", "number of antithetic pairs, N/2", typical=(2, 6), extreme=(2, 10**6))
SHARE = named("E V", r"\mathbb{E}V", "mean of V, where the variance of the step is (alpha^2/N) V")
n = PAIRS.symbol

antithetic_noise = Derivation(
    name="antithetic-noise",
    title="Variance of a flat coordinate in one antithetic step whose rewards are pure noise",
    assumptions=(FLAT, "Gaussian rewards without signal (kappa = 0)", "N = 2n members are n pairs"),
    label="exact",
    source=WALK,
    symbols=(ALPHA, PAIRS, SHARE, STEP_VARIANCE),
    steps=(
        define(
            SHARE.symbol,
            2 * beta_mean(y, n / 2, (n - 1) / 2),
            "V = 2 X/(X + Y): X ~ chi^2_n is the odd parts' share of the rewards' scatter, Y ~ chi^2_{n-1} the rest.",
        ),
        agrees(SHARE.symbol, 2 * n / (2 * n - 1), "The mean of a Beta variable."),
        define(step, alpha**2 / (2 * n) * SHARE.symbol, "Times the variance of independent members."),
        agrees(step, alpha**2 / (2 * n - 1), "alpha^2/(N-1): more than independent members by 1/(N-1)."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.pairs.MirroredPairs.variance",
        call=lambda v: _pairs(2 * int(v["pairs"]), v["alpha"]).variance(Signal()).value,
    ),
)

DERIVATIONS = (rank_variance, raw_variance, antithetic_variance, antithetic_noise)
