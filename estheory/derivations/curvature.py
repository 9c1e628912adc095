"""One z-scored step along a curved direction: its mean, and how its own curvature feeds its noise."""

from __future__ import annotations

import math

import numpy as np

from estheory.derivations.algebra import sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define
from estheory.derivations.notation import (
    ALPHA,
    C_OF_N,
    C_STEPS,
    POPULATION,
    N,
    alpha,
    beta_mean,
    c,
    chi_square_mean,
    gaussian_mean,
    given,
    half,
    named,
    x,
    y,
)
from estheory.derivations.signal import ZSCORE_STEPS, ZSCORE_SYMBOLS, response, reward, std, zscore
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.curved import step as theory
from estheory.theory.estimators import ZScores

OURS = theory.OURS
QUADRATIC = "quadratic reward, Gaussian noise and perturbations"
SECOND = named("E ∂²z²", r"\mathbb{E}\,\partial^2 z^2/\partial R^2", "mean second derivative of z^2", "1/reward^2")
EXTRA = named("q", "q", "coefficient of x_k in N E[Delta_k^2]/alpha^2")
_members = given("N", "N", "population", POPULATION.meaning, typical=(4, 12), extreme=(2, 10**6))

quadratic_noise = Derivation(
    name="quadratic-noise",
    title="How a direction's own curvature feeds its noise: the coefficient of x_k",
    assumptions=(
        QUADRATIC,
        "first order in x_k = sigma^4 lambda_k^2 / S^2; no gradient along k",
        "N >= 4 on this route",
    ),
    label="exact",
    source=OURS,
    symbols=(_members, *ZSCORE_SYMBOLS, SECOND, EXTRA),
    steps=(
        *ZSCORE_STEPS,
        agrees(sp.Derivative(std, reward), zscore / N, "And the spread."),
        agrees(
            sp.Derivative(zscore**2, (reward, 2)),
            2 / std**2 * (response**2 - 3 * zscore**2 * response / N),
            "Put together: the curvature of z^2.",
        ),
        define(
            SECOND.symbol,
            2
            * chi_square_mean(N / y, N - 1)
            * beta_mean((N - 1) ** 2 / N**2 * ((1 - y) ** 2 - 3 * y * (1 - y)), half, (N - 2) / 2),
            "Its mean over Gaussian rewards of unit variance: the std and the z-scores are independent, N std^2 is "
            "chi-square with N-1 degrees of freedom, y = z^2/(N-1) is Beta(1/2, (N-2)/2) and D = (N-1)(1-y)/N.",
        ),
        define(
            EXTRA.symbol,
            half * SECOND.symbol * gaussian_mean((x**2 - 1) ** 3) / 4,
            "The reward holds -(sqrt(x_k)/2)(eps^2 - 1): to second order E[z^2 (eps^2 - 1)] is 1/2 E[d^2 z^2/dR^2] "
            "(x_k/4) E[(eps^2 - 1)^3]; first order and pairs of members vanish by symmetry.",
        ),
        agrees(
            EXTRA.symbol,
            2 * (N - 1) * (N - 2) / (N * (N + 1)),
            "The moments of the Beta law and E[(eps^2 - 1)^3] = 8; 2 at large N.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.zscores.ZScores.moments",
        call=lambda v: ZScores(population=int(v["population"]), sigma=1.0, alpha=1.0).moments().quadratic,
    ),
)

RHO_K = given("rho_k", r"\rho_k", "correlation", "sigma g_k / S", typical=(0.1, 0.5), extreme=(1e-9, 0.3))
SHARE = given("x_k", "x_k", "quadratic_share", "sigma^4 lambda_k^2 / S^2", typical=(0.05, 0.5), extreme=(1e-12, 0.1))
JOINT = named("E[w³ε]", r"\mathbb{E}[w^3\epsilon]", "joint fourth moment of standardised reward and noise")
KURTOSIS = named("X", "X", "excess kurtosis of a member's reward")
FOURTH = named("E w⁴", r"\mathbb{E}w^4", "fourth moment of the standardised reward")
RATIO = named("E[C/std]", r"\mathbb{E}[C/\operatorname{std}]", "mean of sample covariance over sample std, per rho_k")
ALONG_K = named("E[Δ_k]", r"\mathbb{E}[\Delta_k]", "mean displacement along direction k in one step", "weight")
rho_k, x_k = RHO_K.symbol, SHARE.symbol
_w = rho_k * x - sp.sqrt(x_k) / 2 * (x**2 - 1)
_rest = 1 - rho_k**2 - x_k / 2


def _one_direction(v: Values) -> float:
    """Return E[Delta_k] from the landscape with one curved direction of these rho_k and x_k, at S = 1."""
    eigenvalue = math.sqrt(v["quadratic_share"])
    rest = 1 - v["correlation"] ** 2 - v["quadratic_share"] / 2
    landscape = Landscape(
        dim=10,
        eigenvalue=np.array([eigenvalue]),
        multiplicity=np.array([1.0]),
        offset=np.array([v["correlation"] / eigenvalue]),
        reward_std=math.sqrt(rest),
    )
    config = ESConfig(dim=10, sigma=1.0, alpha=v["alpha"], population=int(v["population"]))
    return float(theory.step_moments(config, landscape).displacement[0])


quadratic_displacement = Derivation(
    name="quadratic-displacement",
    title="Mean displacement of one z-scored step along a curved direction",
    assumptions=(QUADRATIC, "written for one curved direction; others add to the kurtosis X", "order 1/N"),
    label="large-N",
    source=OURS,
    symbols=(ALPHA, POPULATION, RHO_K, SHARE, JOINT, FOURTH, KURTOSIS, RATIO, C_OF_N, ALONG_K),
    steps=(
        define(
            JOINT.symbol,
            gaussian_mean(_w**3 * x) + 3 * _rest * gaussian_mean(_w * x),
            "Reward over S: w = rho eps - (sqrt(x_k)/2)(eps^2 - 1) + noise of variance 1 - rho^2 - x_k/2.",
        ),
        define(
            FOURTH.symbol,
            gaussian_mean(_w**4) + 6 * _rest * gaussian_mean(_w**2) + 3 * _rest**2,
            "Likewise.",
        ),
        agrees(JOINT.symbol, 3 * rho_k + 6 * rho_k * x_k, "Gaussian moments."),
        define(KURTOSIS.symbol, 3 * x_k**2 + 12 * rho_k**2 * x_k, "Name the excess kurtosis."),
        agrees(FOURTH.symbol, 3 + KURTOSIS.symbol, "It is that of w."),
        define(
            RATIO.symbol,
            rho_k * (1 - 1 / N + half / N + 3 * (FOURTH.symbol - 1) / (8 * N)) - half * (JOINT.symbol - rho_k) / N,
            "Sample covariance rho + a over sample std sqrt(1 + b): rho E[1 - b/2 + 3 b^2/8] + E a - E[a b]/2 with "
            "E a = -rho/N, E b = -1/N, E b^2 = (E w^4 - 1)/N, E[a b] = (E[w^3 eps] - rho)/N, up to 1/N^2.",
        ),
        agrees(
            RATIO.symbol,
            rho_k * (1 - 3 / (4 * N) - 3 * x_k / N + 3 * KURTOSIS.symbol / (8 * N)),
            "Put the moments in.",
        ),
        *C_STEPS,
        define(
            ALONG_K.symbol,
            alpha * (rho_k * c + RATIO.symbol - rho_k * (1 - 3 / (4 * N))),
            "Without curvature the ratio is rho c(N) for every N (progress): keep that and add what x_k changes.",
        ),
        agrees(
            ALONG_K.symbol,
            alpha * rho_k * (c - 3 * x_k / N + 3 * KURTOSIS.symbol / (8 * N)),
            "Good while x_k and X/N are small.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.curved.step.step_moments", call=_one_direction),
)

DERIVATIONS = (quadratic_noise, quadratic_displacement)
