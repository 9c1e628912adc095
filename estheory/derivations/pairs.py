"""One step of pairs theta +- sigma eps on a quadratic reward: two-point shaping, and z-scored antithetic pairs."""

from __future__ import annotations

import numpy as np

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.curvature import QUADRATIC
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define
from estheory.derivations.notation import (
    ALPHA,
    REWARD_STD,
    SIGMA,
    alpha,
    beta_mean,
    chi_square_mean,
    gaussian_mean,
    given,
    half,
    named,
    sigma,
    x,
    y,
)
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.curved import step as theory
from estheory.theory.estimators import MirroredPairs

DIRECTIONS = given(
    "N", "N", "population", "directions of a step, each at both signs", typical=(2, 12), extreme=(1, 10**6)
)
ALONG = given("g_k", "g_k", "gradient", "gradient along direction k", "reward/weight", extreme=(1e-3, 1e3))
OTHER = given("g_o", "g_o", "other_gradient", "norm of the rest of the gradient", "reward/weight", extreme=(1e-3, 1e3))
NOISE = given("s", "s", "reward_std", REWARD_STD.meaning, "reward", extreme=(1e-3, 1e3))
WIDTH = given("sigma", r"\sigma", "sigma", SIGMA.meaning, "weight", extreme=(1e-3, 10.0))
MEAN = named("E[Δ_k]", r"\mathbb{E}[\Delta_k]", "mean displacement along direction k in one step", "weight")
OWN = named("E[w²ε²]", r"\mathbb{E}[w^2\epsilon^2]", "mean square of one pair's share of the step", "(reward/weight)^2")
SQUARE = named("E[Δ_k²]", r"\mathbb{E}[\Delta_k^2]", "mean square displacement along direction k", "weight^2")
n, g_k, g_o, s = DIRECTIONS.symbol, ALONG.symbol, OTHER.symbol, NOISE.symbol
_rest = g_o**2 + s**2 / (2 * sigma**2)


def _two_point(v: Values) -> theory.StepMoments:
    """Return the moments on a landscape of one direction with g_k and one with the rest, curvatures 1 and 2."""
    landscape = Landscape(
        dim=10**6,
        eigenvalue=np.array([1.0, 2.0]),
        multiplicity=np.array([1.0, 1.0]),
        offset=np.array([v["gradient"], v.get("other_gradient", 1.0) / 2]),
        reward_std=v.get("reward_std", 1.0),
    )
    config = ESConfig(
        dim=10**6,
        sigma=v.get("sigma", 1.0),
        alpha=v["alpha"],
        population=int(v.get("population", 5)),
        shaping="two-point",
    )
    return theory.step_moments(config, landscape)


two_point_displacement = Derivation(
    name="two-point-displacement",
    title="Mean displacement of one two-point step on a quadratic reward",
    assumptions=(QUADRATIC,),
    label="exact",
    source=theory.OURS,
    symbols=(ALPHA, ALONG, MEAN),
    steps=(
        define(
            MEAN.symbol,
            alpha * gaussian_mean(g_k * x * x),
            "w = (R+ - R-)/(2 sigma) = g.eps + noise: what is even in eps, all curvature, cancels. The step is the "
            "mean of alpha w eps over the directions, and only g_k eps_k has a part in eps_k.",
        ),
        agrees(MEAN.symbol, alpha * g_k, "A step of gradient ascent, without bias."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.step.step_moments", call=lambda v: float(_two_point(v).displacement[0])
    ),
)

two_point_noise = Derivation(
    name="two-point-noise",
    title="Mean square displacement of one two-point step on a quadratic reward",
    assumptions=(QUADRATIC, "two evaluations of a pair have independent noise"),
    label="exact",
    source=theory.OURS,
    symbols=(ALPHA, WIDTH, DIRECTIONS, ALONG, OTHER, NOISE, OWN, SQUARE),
    steps=(
        define(
            OWN.symbol,
            gaussian_mean((g_k * x) ** 2 * x**2) + _rest * gaussian_mean(x**2),
            "w is g_k eps_k plus what is independent of eps_k: the rest of the gradient, and noise of variance "
            "s^2/(2 sigma^2).",
        ),
        agrees(OWN.symbol, 3 * g_k**2 + _rest, "E eps^4 = 3."),
        define(
            SQUARE.symbol,
            (alpha / n) ** 2 * (n * OWN.symbol + n * (n - 1) * g_k**2),
            "N directions on their own, and N(N-1) products of different ones.",
        ),
        agrees(
            SQUARE.symbol,
            alpha**2 / n * (g_k**2 + g_o**2 + s**2 / (2 * sigma**2) + (n + 1) * g_k**2),
            "||g||^2 + s^2/(2 sigma^2) in every direction, flat ones too, and (N+1) g_k^2 along the gradient.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.step.step_moments", call=lambda v: float(_two_point(v).second_moment[0])
    ),
)

PAIRS = given("n", "n", "pairs", "number of antithetic pairs, N/2", typical=(2, 6), extreme=(2, 40))
ODD = given("w", "w", "odd_share", "variance of (R+ - R-)/2 over S^2", typical=(0.2, 0.9), extreme=(0.1, 0.95))
CORRELATION = given("rho_k", r"\rho_k", "correlation", "sigma g_k / S", typical=(0.05, 0.3), extreme=(1e-3, 0.3))
LENGTH = named("E√T", r"\mathbb{E}\sqrt{T}", "mean length of the rewards, T ~ chi^2 of N-1 degrees of freedom")
OVERLAP = named("E B/√D", r"\mathbb{E}[B/\sqrt{D}]", "mean over the odd parts' share B of that length")
PROGRESS = named("p", "p", "progress per rho_k and alpha")
FLAT = named("v", "v", "N E[Delta_k^2]/alpha^2 without signal along k")
SIGNAL = named("u", "u", "coefficient of rho_k^2 in N E[Delta_k^2]/alpha^2")
SHARE = named("E F", r"\mathbb{E}F", "mean of F = w B / D, the odd parts' share of the sample variance")
MIXED = named("E BF", r"\mathbb{E}[BF]", "mean of B F")
m, w, rho_k = PAIRS.symbol, ODD.symbol, CORRELATION.symbol
_inside = w * y + (1 - w) * (1 - y)
_GAUSSIAN = "Gaussian even parts of the rewards: curvature that no single direction dominates"


def _beta(expression: Expr) -> Expr:
    return beta_mean(expression, m / 2, (m - 1) / 2)


def _moments(v: Values, name: str) -> float:
    pairs = MirroredPairs(population=2 * int(v["pairs"]), sigma=1.0, alpha=1.0)
    return float(getattr(pairs.moments(v["odd_share"]), name))


antithetic_progress = Derivation(
    name="antithetic-progress",
    title="Progress of one z-scored step of antithetic pairs on a quadratic reward",
    assumptions=(QUADRATIC, _GAUSSIAN),
    label="exact",
    source=theory.OURS,
    symbols=(PAIRS, ODD, LENGTH, OVERLAP, PROGRESS),
    steps=(
        define(LENGTH.symbol, chi_square_mean(sp.sqrt(y), 2 * m - 1), "X + Y with X ~ chi^2_n and Y ~ chi^2_{n-1}."),
        agrees(LENGTH.symbol, sp.sqrt(2) * sp.gamma(m) / sp.gamma(m - half), "Mean of a chi variable."),
        define(
            OVERLAP.symbol,
            _beta(y / sp.sqrt(_inside)),
            "B = X/(X + Y) is Beta(n/2, (n-1)/2), independent of X + Y; D = w B + (1-w)(1-B).",
        ),
        define(
            PROGRESS.symbol,
            LENGTH.symbol / sp.sqrt(m) * OVERLAP.symbol,
            "The step is (alpha/n) sum o_i eps_i / std with odd parts o of variance w S^2, sum o^2 = w S^2 X, "
            "n std^2 = S^2 (X + Y) D, and E[eps_ik | o] = sigma g_k o_i / (w S^2).",
        ),
        agrees(
            PROGRESS.symbol,
            sp.sqrt(2 / m) * sp.gamma(m) / sp.gamma(m - half) * _beta(y / sp.sqrt(_inside)),
            "sqrt(2) c(N) E[B/sqrt D]; 1 for many pairs.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.pairs.MirroredPairs.moments",
        call=lambda v: _moments(v, "progress"),
        rtol=1e-10,
    ),
)

antithetic_noise_curved = Derivation(
    name="antithetic-noise-curved",
    title="Mean square displacement of one step of antithetic pairs along a direction of a quadratic reward",
    assumptions=(QUADRATIC, _GAUSSIAN),
    label="exact",
    source=theory.OURS,
    symbols=(PAIRS, ODD, CORRELATION, SHARE, MIXED, FLAT, SIGNAL),
    steps=(
        define(SHARE.symbol, _beta(w * y / _inside), "F = sum o^2 / (n std^2), as in antithetic-progress."),
        define(MIXED.symbol, _beta(w * y**2 / _inside), "Likewise; X = B (X + Y), and E(X + Y) = 2n - 1."),
        define(
            SIGNAL.symbol,
            2 / w * ((2 * m - 1) * MIXED.symbol - SHARE.symbol),
            "eps_ik = r o_i/sd(o) + sqrt(1-r^2) eta_i with r^2 = rho_k^2/w: of the mean square "
            "2 E[F (r^2 X + 1 - r^2)] this is what r^2 multiplies, over rho_k^2.",
        ),
        define(FLAT.symbol, 2 * SHARE.symbol + SIGNAL.symbol * rho_k**2, "The rest of it is the walk's: 2 E F."),
        agrees(
            FLAT.symbol,
            2 * _beta(w * y / _inside * (1 + rho_k**2 / w * ((2 * m - 1) * y - 1))),
            "Curvature enters through w alone: the even part does not steer the weights of a pair.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.pairs.MirroredPairs.moments",
        call=lambda v: _moments(v, "flat") + _moments(v, "signal") * v["correlation"] ** 2,
        rtol=1e-10,
    ),
)

DERIVATIONS = (two_point_displacement, two_point_noise, antithetic_progress, antithetic_noise_curved)
