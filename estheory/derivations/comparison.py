"""ES against gradient-based training: interpolation on a quadratic, and AdamW's walk on gradient noise."""

from __future__ import annotations

import math

import numpy as np

from estheory._special import gamma_half_ratio
from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import EIGENVALUE, beta_mean, chi_square_mean, given, half, named, y
from estheory.theory import adamw
from estheory.theory.curved import comparison

OURS = comparison.OURS
POSITION = given("u", "u", "position", "position on the line, 0 to 1", typical=(0.1, 0.9), extreme=(1e-6, 1.0))
START = given("a", "a", "first", "distance of one end point from the optimum, along one direction", "weight")
END = given("b", "b", "second", "that of the other end point", "weight")
R_A = named("R_a", "R_a", "reward at the first, less the optimum's", "reward")
R_B = named("R_b", "R_b", "reward at the second", "reward")
R_U = named("R(u)", "R(u)", "reward on the line between them", "reward")
RISE = named("δR(u)", r"\delta R(u)", "rise over the chord", "reward")
u, a, b, lam = POSITION.symbol, START.symbol, END.symbol, EIGENVALUE.symbol


def _rise(v: Values) -> float:
    difference = v["first"] - v["second"]
    curve = comparison.interpolation_curve(
        np.array([v["position"]]), start=0.0, end=0.0, curvature=v["eigenvalue"] * difference**2
    )
    return float(curve[0])


interpolation = Derivation(
    name="interpolation",
    title="Rise over the chord between two end points",
    assumptions=("quadratic reward; directions add, so this holds with D' Lam D for lambda (a - b)^2",),
    label="exact",
    source=OURS,
    symbols=(POSITION, START, END, EIGENVALUE, R_A, R_B, R_U, RISE),
    steps=(
        define(R_A.symbol, -half * lam * a**2, "One eigendirection of the quadratic."),
        define(R_B.symbol, -half * lam * b**2, "The same at the other end."),
        define(R_U.symbol, -half * lam * ((1 - u) * a + u * b) ** 2, "And at (1-u) theta_a + u theta_b."),
        define(RISE.symbol, R_U.symbol - ((1 - u) * R_A.symbol + u * R_B.symbol), "Over the straight line."),
        follows(
            RISE.symbol,
            half * u * (1 - u) * lam * (a - b) ** 2,
            "Never negative: no barrier, and flat directions do not enter. At the middle lambda (a - b)^2 / 8.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.curved.comparison.interpolation_curve", call=_rise),
)

EARLIER = given("t", "t", "earlier", "the earlier of two steps", typical=(1, 6), extreme=(1, 200))
LATER = given("tau", r"\tau", "later", "the later one", typical=(7, 15), extreme=(1, 200))
OVERLAP = named(
    "E[g²/√(vv')]", r"\mathbb{E}[g_s^2/\sqrt{v_t v_\tau}]", "mean product of one gradient, normalised twice"
)
t, tau = EARLIER.symbol, LATER.symbol


def _phi(df: Expr) -> Expr:
    return sp.gamma((df + 1) / 2) / (sp.gamma(df / 2) * sp.sqrt(df / 2))


def _overlap(v: Values) -> float:
    def phi(df: float) -> float:
        return gamma_half_ratio(df / 2) / math.sqrt(df / 2)

    return phi(v["earlier"]) / phi(v["later"])


_overlap_steps = (
    define(
        OVERLAP.symbol,
        sp.sqrt(tau / t) * beta_mean(sp.sqrt(y), t / 2, (tau - t) / 2),
        "Given v_t, every gradient in it has E g^2 = v_t; so the mean is E sqrt(v_t/v_tau), and t v_t/(tau v_tau) is "
        "Beta(t/2, (tau-t)/2) for Gaussian gradients averaged evenly (beta_2 -> 1).",
    ),
    agrees(OVERLAP.symbol, _phi(t) / _phi(tau), "A Beta integral: phi(t)/phi(tau), phi(t) -> 1."),
)
_ADAMW = (
    "dense, independent Gaussian gradients; signs are independent of magnitudes",
    "beta_2 -> 1, bias corrections on, eps and weight decay negligible",
)

adamw_overlap = Derivation(
    name="adamw-overlap",
    title="Mean product of one gradient in two of AdamW's steps",
    assumptions=_ADAMW,
    label="exact",
    source=OURS,
    symbols=(EARLIER, LATER, OVERLAP),
    steps=_overlap_steps,
    evaluator=Evaluator(name="estheory._special.gamma_half_ratio", call=_overlap),
    conditions=(t < tau,),
)

BETA = given("beta_1", r"\beta_1", "beta1", "AdamW's momentum", typical=(0.3, 0.95), extreme=(0.1, 0.99))
LENGTH = given("T", "T", "steps", "steps", typical=(2, 6), extreme=(2, 30))
FACTOR = named("k(T)", "k(T)", "E||Delta||^2 over d sum lr^2")
beta, length = BETA.symbol, LENGTH.symbol
i, j, s = (sp.Symbol(name, integer=True, positive=True) for name in "ijs")
_pair = 2 * _phi(i) / _phi(j) / ((1 - beta**i) * (1 - beta**j))


def _walk_factor(v: Values) -> float:
    rates = adamw.learning_rates(int(v["steps"]), "constant")
    return adamw.walk_factor(rates, beta1=v["beta1"], beta2=1 - 1e-6)


adamw_walk = Derivation(
    name="adamw-walk",
    title="AdamW's walk factor k(T) at a constant learning rate",
    assumptions=_ADAMW,
    label="exact",
    source=OURS,
    symbols=(EARLIER, LATER, OVERLAP, BETA, LENGTH, FACTOR),
    steps=(
        *_overlap_steps,
        define(
            FACTOR.symbol,
            (1 - beta) ** 2
            / length
            * (
                sp.Sum(beta ** (2 * (i - s)) / (1 - beta**i) ** 2, (s, 1, i), (i, 1, length))
                + sp.Sum(beta ** (i + j - 2 * s) * _pair, (s, 1, i), (i, 1, j - 1), (j, 2, length))
            ),
            "Step i is lr times sum_s (1-beta_1) beta_1^(i-s) g_s / ((1 - beta_1^i) sqrt(v_i)); gradients of different "
            "steps do not correlate, equal ones by adamw-overlap. Squares of steps, and twice the pairs i < j.",
        ),
        agrees(
            FACTOR.symbol,
            (1 - beta)
            / ((1 + beta) * length)
            * (
                sp.Sum((1 + beta**i) / (1 - beta**i), (i, 1, length))
                + sp.Sum(
                    2 * beta ** (j - i) * (1 + beta**i) / (1 - beta**j) * _phi(i) / _phi(j),
                    (i, 1, j - 1),
                    (j, 2, length),
                )
            ),
            "The sums over s are geometric. k falls to 1 for T much longer than 1/(1 - beta_1).",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.adamw.walk_factor",
        call=_walk_factor,
        rtol=1e-8,  # beta_2 = 1 - 1e-6 stands for 1
    ),
    conditions=(t < tau,),
)

STEP = given("t", "t", "step", "the step", typical=(3, 9), extreme=(3, 200))
INVERSE = named("E[1/√v]", r"\mathbb{E}[v_t^{-1/2}]", "mean of one over the root mean square")
KEPT = named("φ(t)", r"\varphi(t)", "E[g_s / sqrt(v_t)] over the mean of g_s in units of its spread")
at = STEP.symbol

adamw_small_mean = Derivation(
    name="adamw-small-mean",
    title="What AdamW's normalisation leaves of a small mean of the gradient",
    assumptions=(
        "Gaussian gradients whose mean is small beside their spread, to first order in it",
        "beta_2 -> 1, bias corrections on, eps and weight decay negligible",
    ),
    label="small-step",
    source=OURS,
    symbols=(STEP, INVERSE, KEPT),
    steps=(
        define(
            INVERSE.symbol,
            chi_square_mean(sp.sqrt(at / y), at),
            "t v_t is chi-square with t degrees of freedom, in units of the spread.",
        ),
        define(
            KEPT.symbol,
            (1 - 1 / at) * INVERSE.symbol,
            "A mean mu shifts every gradient: by Stein E[g_s/sqrt(v_t)] = mu E[d(g_s/sqrt(v_t))/dg_s], which is "
            "E[1/sqrt(v_t)] - E[g_s^2/v_t^(3/2)]/t; every gradient in v_t has E[g_s^2 | v_t] = v_t.",
        ),
        agrees(KEPT.symbol, _phi(at), "The phi of adamw-overlap: sqrt(2/pi) where only a sign counts, 1 later."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.adamw.kept_mean",
        call=lambda v: adamw.kept_mean(int(v["step"]), 1 - 1e-6),
        rtol=1e-8,  # beta_2 = 1 - 1e-6 stands for 1
    ),
)

DERIVATIONS = (interpolation, adamw_overlap, adamw_walk, adamw_small_mean)
