"""T steps on a quadratic reward whose spread is constant, and the stationary state."""

from __future__ import annotations

import numpy as np

from estheory.derivations.algebra import sp
from estheory.derivations.curvature import QUADRATIC
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import (
    ALPHA,
    C_OF_N,
    C_STEPS,
    EIGENVALUE,
    MEMBER_STD,
    POPULATION,
    REWARD_STD,
    SIGMA,
    STEPS,
    N,
    S,
    T,
    alpha,
    c,
    given,
    half,
    named,
    sigma,
)
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.curved import dynamics as theory
from estheory.theory.curved.stationary import equipartition_cost, stationary_state

OURS = theory.OURS
CONSTANT = "the spread S of the rewards is constant: noise dominates them"
STEP = given("alpha", r"\alpha", "alpha", ALPHA.meaning, "weight", typical=(0.05, 0.2), extreme=(1e-6, 0.1))
CURVATURE = given(
    "lambda", r"\lambda", "eigenvalue", EIGENVALUE.meaning, EIGENVALUE.unit, typical=(0.3, 3.0), extreme=(1e-6, 1.0)
)
WIDTH = given("sigma", r"\sigma", "sigma", SIGMA.meaning, "weight", extreme=(1e-3, 1.0))
SPREAD = given("S", "S", "member_std", MEMBER_STD.meaning, "reward", typical=(2.0, 5.0), extreme=(1.0, 1e3))
RATE = named("a", "a", "weight moved per unit of gradient in one step", "weight^2/reward")
KEPT = named("κ", r"\kappa", "share of its distance that a direction keeps in one step")
FRESH = named("η", r"\eta", "variance that one step adds", "weight^2")
VARIANCE = named("v_T", "v_T", "variance of a direction after T steps", "weight^2")
lam, a, kept, fresh = CURVATURE.symbol, RATE.symbol, KEPT.symbol, FRESH.symbol
lag = sp.Symbol("k", integer=True, nonnegative=True)
_rate = (
    *C_STEPS,
    define(a, alpha * c * sigma / S, "E[Delta_k] = alpha c rho_k with rho_k = sigma g_k / S (progress)."),
)
_a = alpha * c * sigma / S


def _config(v: Values) -> ESConfig:
    return ESConfig(dim=10**6, sigma=v.get("sigma", 1.0), alpha=v["alpha"], population=int(v["population"]))


_ar1 = (
    *_rate,
    define(kept, 1 - a * lam, "The gradient is lambda times the distance: the distance shrinks by a lambda of itself."),
    define(fresh, alpha**2 / N, "Noise of the walk (flat-variance)."),
)
_ou = fresh * sp.Sum(kept ** (2 * lag), (lag, 0, T - 1))
ou_variance = Derivation(
    name="ou-variance",
    title="Variance of a curved direction after T steps (AR(1), Ornstein-Uhlenbeck)",
    assumptions=(QUADRATIC, CONSTANT, "small x_k"),
    label="large-N",
    source=OURS,
    symbols=(STEP, WIDTH, POPULATION, SPREAD, CURVATURE, STEPS, C_OF_N, RATE, KEPT, FRESH, VARIANCE),
    steps=(
        *_ar1,
        define(
            VARIANCE.symbol, _ou, "An AR(1) process: the noise of k steps ago has shrunk by (1 - a lambda)^k since."
        ),
        agrees(
            VARIANCE.symbol,
            alpha**2 / N * (1 - (1 - _a * lam) ** (2 * T)) / (1 - (1 - _a * lam) ** 2),
            "A geometric sum; its time scale is 1/(a lambda) steps.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.dynamics.coordinate_variance",
        call=lambda v: theory.coordinate_variance(_config(v), v["eigenvalue"], v["member_std"], int(v["steps"])),
    ),
)

ou_walk_limit = Derivation(
    name="ou-walk-limit",
    title="A direction whose curvature vanishes walks",
    assumptions=(QUADRATIC, CONSTANT),
    label="large-N",
    source=OURS,
    symbols=(ALPHA, POPULATION, STEPS, FRESH, VARIANCE),
    steps=(
        define(fresh, alpha**2 / N, "Noise of the walk (flat-variance)."),
        define(
            VARIANCE.symbol,
            sp.Limit(fresh * (1 - sp.exp(-2 * T * a)) / (1 - sp.exp(-2 * a)), a, 0),
            "The sum of ou-variance with 1 - a lambda written as exp(-a), as a goes to 0.",
        ),
        follows(VARIANCE.symbol, alpha**2 * T / N, "The walk, to first order in its curvature."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.dynamics.coordinate_variance",
        call=lambda v: theory.coordinate_variance(_config(v), 0.0, 1.0, int(v["steps"])),
    ),
)

SHARE = given("x_k", "x_k", "quadratic_share", "sigma^4 lambda^2 / S^2", typical=(0.05, 0.5))
SETTLED = named("q_k", "q_k", "stationary mean square distance of a direction from its optimum", "weight^2")
q = SETTLED.symbol
_x = 2 * SHARE.symbol * (N - 1) * (N - 2) / (N * (N + 1))
_second = (1 + _x + (N - 2) * sigma**2 * lam**2 * q / S**2) * alpha**2 / N

COUNT = given("r", "r", "directions", "number of equal curved directions", typical=(1, 9), extreme=(1, 1000))
NOISE = given("s", "s", "reward_std", REWARD_STD.meaning, "reward", extreme=(1e-3, 10.0))


def _isotropic(v: Values) -> Landscape:
    return Landscape(
        dim=10**6,
        eigenvalue=np.array([v["eigenvalue"]]),
        multiplicity=np.array([v["directions"]]),
        offset=np.array([0.0]),
        reward_std=v["reward_std"],
    )


def _settled(v: Values) -> dict[str, float]:
    member_std = stationary_state(_config(v), _isotropic(v)).member_std
    return {**v, "member_std": member_std, "quadratic_share": (v["sigma"] ** 2 * v["eigenvalue"] / member_std) ** 2}


stationary_variance = Derivation(
    name="stationary-variance",
    title="Stationary mean square distance of a curved direction, given the spread S",
    assumptions=(QUADRATIC, "mean-field: S is that of the stationary state itself"),
    label="mean-field",
    source=OURS,
    symbols=(STEP, WIDTH, POPULATION, SPREAD, CURVATURE, SHARE, C_OF_N, RATE, SETTLED),
    steps=(
        *_rate,
        define(
            q,
            alpha**2 / N * (1 + _x) / (2 * a * lam - a**2 * lam**2 * (N - 2) / (N * c**2)),
            "Try this value.",
        ),
        follows(
            q - 2 * a * lam * q + _second,
            q,
            "One more step of the mean-field recursion (quadratic-noise, step-norm-square) leaves it as it is.",
        ),
        follows(
            q,
            alpha**2 / N * (1 + _x) / (2 * _a * lam - (alpha * sigma * lam / S) ** 2 * (N - 2) / N),
            "With the rate written out: restoring force, less the noise that the signal itself brings.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.stationary.stationary_state",
        call=lambda v: float(stationary_state(_config(v), _isotropic(v)).square[0]),
        parameters=(STEP, WIDTH, POPULATION, CURVATURE, COUNT, NOISE),
        inputs=_settled,
    ),
)

COST = named("½λq", r"\tfrac12\lambda q", "reward that a curved direction costs", "reward")
SETTLED_STD = named("S_∞", r"S_\infty", "spread of the rewards in the stationary state", "reward")
TRACE = given("tr Λ", r"\operatorname{tr}\Lambda", "trace", "trace of the curvature", "reward/weight^2")
SQUARE = given("tr Λ²", r"\operatorname{tr}\Lambda^2", "square_trace", "trace of its square", "reward^2/weight^4")
SLOPE = named("b", "b", "alpha sigma tr Lam / (2 N c)", "reward")
FLOOR = named("S_0²", "S_0^2", "part of S^2 that is the same everywhere", "reward^2")
b, floor, settled = SLOPE.symbol, FLOOR.symbol, SETTLED_STD.symbol

equipartition = Derivation(
    name="equipartition",
    title="Equipartition: every curved direction costs the same reward",
    assumptions=(QUADRATIC, "stationary", "a lambda_k and x_k small"),
    label="small-step",
    source=OURS,
    symbols=(
        ALPHA,
        SIGMA,
        POPULATION,
        NOISE,
        CURVATURE,
        TRACE,
        SQUARE,
        C_OF_N,
        SLOPE,
        FLOOR,
        SETTLED_STD,
        SETTLED,
        COST,
    ),
    steps=(
        *C_STEPS,
        define(b, alpha * sigma * TRACE.symbol / (2 * N * c), "Name it."),
        define(
            floor, NOISE.symbol**2 + half * sigma**4 * SQUARE.symbol, "Reward noise, and curvature under sigma eps."
        ),
        define(settled, (b + sp.sqrt(b**2 + 4 * floor)) / 2, "Try this spread."),
        define(
            q,
            alpha * settled / (2 * N * c * sigma * lam),
            "stationary-variance to leading order: (alpha^2/N)/(2 a lambda) with a = alpha c sigma / S.",
        ),
        agrees(
            settled**2,
            sigma**2 * lam * TRACE.symbol * q + NOISE.symbol**2 + half * sigma**4 * SQUARE.symbol,
            "It is consistent: S^2 = sigma^2 sum lam_k^2 q_k + constant, where lam_k q_k is the same for all.",
        ),
        define(COST.symbol, half * lam * q, "R* - E R of one direction."),
        follows(
            COST.symbol,
            alpha / (4 * N * c * sigma) * settled,
            "alpha S/(4 N c sigma): its curvature has dropped out.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.stationary.equipartition_cost",
        call=lambda v: equipartition_cost(_config(v), _isotropic(v)),
        parameters=(STEP, WIDTH, POPULATION, CURVATURE, COUNT, NOISE),
        inputs=lambda v: {
            **v,
            "trace": v["directions"] * v["eigenvalue"],
            "square_trace": v["directions"] * v["eigenvalue"] ** 2,
        },
    ),
)

DERIVATIONS = (ou_variance, ou_walk_limit, stationary_variance, equipartition)
