"""Signal of one step with a linear reward: progress, the norm of the step, and bounds that follow from them."""

from __future__ import annotations

from estheory.derivations.algebra import sp
from estheory.derivations.derivation import Derivation, Evaluator, Notation, Values, agrees, define, follows
from estheory.derivations.notation import (
    ALPHA,
    C_OF_N,
    C_STEPS,
    DIM,
    MEMBER_STD,
    POPULATION,
    RHO,
    D,
    N,
    S,
    alpha,
    c,
    c_of_n,
    chi_square_mean,
    gaussian_mean,
    given,
    named,
    normal_density,
    rho,
    x,
    y,
)
from estheory.landscape import Signal
from estheory.laws import SquaredLaw
from estheory.rules import ESConfig, Shaping
from estheory.theory import signal as theory
from estheory.theory.estimators import zscores

OURS = theory.OURS
GAUSSIAN = "a member's reward is Gaussian: linear signal plus independent Gaussian noise"


def _config(v: Values, shaping: Shaping = "zscore") -> ESConfig:
    population = int(v.get("population", 30))
    return ESConfig(dim=int(v.get("dim", 10)), sigma=1.0, alpha=v["alpha"], population=population, shaping=shaping)


def _signal(v: Values) -> Signal:
    return Signal(reliability=v["correlation"] ** 2)


mean_population_std = Derivation(
    name="c-of-n",
    title="c(N): mean population standard deviation of N standard normals",
    assumptions=("independent standard normals", "population standard deviation (divided by N)"),
    label="exact",
    source=OURS,
    symbols=(POPULATION, C_OF_N),
    steps=(
        define(c, chi_square_mean(sp.sqrt(y / N), N - 1), "N std^2 is chi-square with N-1 degrees of freedom."),
        agrees(c, c_of_n, "A Gamma integral: 1 - 3/(4N) at large N."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.zscores.mean_population_std",
        call=lambda v: zscores.mean_population_std(int(v["population"])),
    ),
)

OWN = given("R", "R", "own_reward", "one member's reward", "reward")
OTHERS = given("S_1", "S_1", "others_sum", "sum of the other members' rewards", "reward", typical=(0.3, 2.0))
OTHERS_SQUARE = given("S_2", "S_2", "others_square_sum", "sum of their squares", "reward^2", typical=(10.0, 20.0))
INVERSE = named("E[1/std]", r"\mathbb{E}[1/\operatorname{std}]", "mean inverse standard deviation", "1/reward")
PROGRESS = named(
    "E[Δ·ĝ]", r"\mathbb{E}[\Delta\cdot\hat g]", "mean displacement along the gradient in one step", "weight"
)
reward = OWN.symbol


def _of_reward(name: str, meaning: str, unit: str = "1") -> Notation:
    """Return a named function of one member's reward."""
    function = sp.Function(name, positive=True)(reward)
    return Notation(symbol=function, latex=sp.latex(function), meaning=meaning, unit=unit)


MEAN = _of_reward("m", "mean reward of the members", "reward")
STD = _of_reward("std", "population standard deviation of the rewards", "reward")
ZSCORE = _of_reward("z", "z-score of that member")
RESPONSE = _of_reward("D", "std dz/dR: how the z-score answers to its own reward")
ZSCORE_SYMBOLS = (OWN, OTHERS, OTHERS_SQUARE, MEAN, STD, ZSCORE, RESPONSE)
mean, std, zscore, response = MEAN.symbol, STD.symbol, ZSCORE.symbol, RESPONSE.symbol

ZSCORE_STEPS = (
    define(mean, (reward + OTHERS.symbol) / N, "As functions of one reward, the other members' held: the mean,"),
    define(std, sp.sqrt((reward**2 + OTHERS_SQUARE.symbol) / N - mean**2), "the spread,"),
    define(zscore, (reward - mean) / std, "and that member's z-score."),
    follows(
        (reward**2 + OTHERS_SQUARE.symbol - 2 * mean * (reward + OTHERS.symbol) + N * mean**2) / std**2,
        N,
        "The squares of all members' z-scores add up to N.",
    ),
    define(response, 1 - 1 / N - zscore**2 / N, "Over the members these add up to N - 2."),
    agrees(sp.Derivative(zscore, reward), response / std, "How a z-score answers to its own reward."),
)
"""How a z-score depends on its own reward; symbols ZSCORE_SYMBOLS."""

progress = Derivation(
    name="progress",
    title="Progress along the gradient in one z-scored step",
    assumptions=(GAUSSIAN, "N >= 3 on this route; the result holds for N = 2 as well"),
    label="exact",
    source=OURS,
    symbols=(ALPHA, POPULATION, RHO, MEMBER_STD, *ZSCORE_SYMBOLS, INVERSE, C_OF_N, PROGRESS),
    steps=(
        *ZSCORE_STEPS,
        define(
            INVERSE.symbol,
            chi_square_mean(sp.sqrt(N / y), N - 1) / S,
            "Gaussian rewards: N std^2/S^2 is chi-square with N-1 degrees of freedom.",
        ),
        define(
            PROGRESS.symbol,
            alpha / N * rho * S * (N - 2) * INVERSE.symbol,
            "Stein's lemma: E[z_i x_i] = Cov(R_i, x_i) E[dz_i/dR_i], and the covariance with the signal is rho S.",
        ),
        *C_STEPS,
        agrees(PROGRESS.symbol, alpha * rho * c, "The Gamma functions of E[1/std] and N - 2 make c(N)."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.signal.progress_per_step",
        call=lambda v: theory.progress_per_step(_config(v), _signal(v)),
    ),
)

OVERLAP = named("E[u x]", r"\mathbb{E}[u x]", "mean overlap of a member's rank with its signal")
rank_progress = Derivation(
    name="rank-progress",
    title="Progress along the gradient in one step of centred ranks",
    assumptions=(GAUSSIAN,),
    label="exact",
    source=OURS,
    symbols=(ALPHA, RHO, OVERLAP, PROGRESS),
    steps=(
        define(
            OVERLAP.symbol,
            gaussian_mean(rho * x * (sp.erf(x / sp.sqrt(2)) / 2)),
            "Given its reward R = S x, a member's mean rank is Phi(x) - 1/2 for every N; its signal is rho x.",
        ),
        agrees(
            OVERLAP.symbol,
            rho * sp.Integral(normal_density(x) ** 2, (x, -sp.oo, sp.oo)),
            "Stein's lemma: E[x F(x)] = E[F'(x)], with the density for F'.",
        ),
        define(PROGRESS.symbol, alpha * OVERLAP.symbol, "N members, each with weight alpha/N."),
        agrees(PROGRESS.symbol, alpha * rho / (2 * sp.sqrt(sp.pi)), "A Gaussian integral; N has no part in it."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.signal.progress_per_step",
        call=lambda v: theory.progress_per_step(_config(v, "centered-rank"), _signal(v)),
    ),
)

PROJECTION = named("E[A²]", r"\mathbb{E}A^2", "mean square of the step along the gradient over that of a flat one")
STEP_SQUARE = named("E‖Δ₁‖²", r"\mathbb{E}\lVert\Delta_1\rVert^2", "mean square of one step", "weight^2")
step_norm_square = Derivation(
    name="step-norm-square",
    title="Mean square of one z-scored step",
    assumptions=(GAUSSIAN,),
    label="exact",
    source=OURS,
    symbols=(ALPHA, POPULATION, DIM, RHO, PROJECTION, STEP_SQUARE),
    steps=(
        define(
            PROJECTION.symbol,
            rho**2 * chi_square_mean(y, N - 1) + (1 - rho**2) * gaussian_mean(x**2),
            "Along the gradient the step is alpha/sqrt(N) times A = rho chi_{N-1} + sqrt(1-rho^2) Z.",
        ),
        agrees(PROJECTION.symbol, 1 + (N - 2) * rho**2, "The two mean squares are N-1 and 1."),
        define(
            STEP_SQUARE.symbol,
            alpha**2 / N * (D - 1 + PROJECTION.symbol),
            "The other d - 1 directions are flat (flat-variance).",
        ),
        agrees(STEP_SQUARE.symbol, alpha**2 / N * (D + (N - 2) * rho**2), "Signal is in the last term alone."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.signal.step_norm",
        call=lambda v: SquaredLaw(theory.step_norm(_config(v), _signal(v), float(v["dim"]))).mean,
    ),
)

DERIVATIONS = (mean_population_std, progress, rank_progress, step_norm_square)
