"""What an update gains and costs: the best step, and how a walk turns the gradient."""

from __future__ import annotations

import numpy as np

from estheory.derivations.algebra import sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import (
    ALPHA,
    POPULATION,
    SIGMA,
    VARIANCE,
    N,
    alpha,
    gaussian_mean,
    given,
    half,
    named,
    sigma,
    x,
)
from estheory.rules import ESConfig
from estheory.theory.economy import coherent
from estheory.theory.economy import update as theory

OURS = theory.OURS
QUADRATIC = "the reward is quadratic at the scale of sigma and of the update; the noise is isotropic"
_SIZE = {"typical": (0.3, 3.0), "extreme": (1e-3, 1e3)}
CURVATURE = given(
    "tr Lambda", r"\operatorname{tr}\Lambda", "trace", "trace of minus the Hessian", "reward/weight^2", **_SIZE
)
GAP = named("gap", r"\mathrm{gap}", "R(theta) - mean reward of members", "reward")
COST = named("cost", r"\mathrm{cost}", "reward that the random part of an update costs", "reward")
trace = CURVATURE.symbol


def _config(v: Values) -> ESConfig:
    return ESConfig(dim=1, sigma=v.get("sigma", 1.0), alpha=v["alpha"], population=int(v["population"]))


cost = Derivation(
    name="diffusion-cost",
    title="What the random part of a z-scored update costs, from the members' smoothing gap",
    assumptions=(QUADRATIC, "to first order in the reliability"),
    label="small-step",
    source=OURS,
    symbols=(ALPHA, SIGMA, POPULATION, CURVATURE, GAP, COST),
    steps=(
        define(
            GAP.symbol,
            half * trace * gaussian_mean(sigma**2 * x**2),
            "A member is sigma eps away: each coordinate adds half its curvature times the mean of (sigma eps_k)^2.",
        ),
        define(
            COST.symbol,
            alpha**2 / (N * sigma**2) * GAP.symbol,
            "The update's random part has the variance alpha^2/N per coordinate in place of sigma^2.",
        ),
        agrees(COST.symbol, alpha**2 / (2 * N) * trace, "sigma drops out: only the curvature is left."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.update.update_cost",
        call=lambda v: theory.update_cost(_config(v), 0.5 * _config(v).sigma ** 2 * v["trace"]),
        rtol=1e-11,
    ),
)

GAIN = given("G", "G", "gain", "gain of an update at the step size alpha", "reward", **_SIZE)
PAID = given("C", "C", "cost", "its cost", "reward", **_SIZE)
BEST = named("f*", r"f^*", "the factor at which the net gain is largest")
BEST_NET = named("net*", r"\mathrm{net}^*", "the net gain there", "reward")
gain, paid = GAIN.symbol, PAID.symbol

best = Derivation(
    name="best-net-gain",
    title="Net gain of an update at its best step size",
    assumptions=("the gain grows as the step size, its cost as the square",),
    label="small-step",
    source=OURS,
    symbols=(GAIN, PAID, BEST, BEST_NET),
    steps=(
        define(
            BEST.symbol, gain / (2 * paid), "At f times the step size the net gain is f G - f^2 C. Its best factor:"
        ),
        follows(2 * BEST.symbol * paid, gain, "there the slope G - 2 f C vanishes."),
        define(BEST_NET.symbol, BEST.symbol * gain - BEST.symbol**2 * paid, "The net gain at that factor."),
        follows(BEST_NET.symbol, gain**2 / (4 * paid), "Half of the gain is paid."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.update.best_step", call=lambda v: theory.best_step(v["gain"], v["cost"])[1]
    ),
)

LINEAR = given("v_lin", r"v_\mathrm{lin}", "linear_variance", "sigma^2 ||g||^2", "reward^2", **_SIZE)
EVEN = given("v_even", r"v_\mathrm{even}", "even_variance", "1/2 sigma^4 tr Lambda^2", "reward^2", **_SIZE)
SQUARE = named("|g|^2", r"\lVert g\rVert^2", "squared gradient at the start", "reward^2/weight^2")
TURNED = named("E|g_t|^2", r"\mathbb{E}\lVert g_t\rVert^2", "mean squared gradient after the walk", "reward^2/weight^2")
COSINE = named("cos", r"\cos(g_0, g_t)", "cosine of the gradient before and after")
v, linear, even = VARIANCE.symbol, LINEAR.symbol, EVEN.symbol

turning = Derivation(
    name="turning",
    title="How a random walk turns the gradient",
    assumptions=(QUADRATIC, "the walk is isotropic and Gaussian; progress along the gradient is left out"),
    label="mean-field",
    source=OURS,
    symbols=(VARIANCE, SIGMA, LINEAR, EVEN, SQUARE, TURNED, COSINE),
    steps=(
        define(SQUARE.symbol, linear / sigma**2, "The linear part of a member's effect is sigma g . eps."),
        define(
            TURNED.symbol,
            SQUARE.symbol + 2 * even / sigma**4 * gaussian_mean(v * x**2),
            "The walk moves the gradient by Lambda Delta, of mean square v tr Lambda^2, orthogonal to it on average.",
        ),
        define(COSINE.symbol, sp.sqrt(SQUARE.symbol / TURNED.symbol), "The projection stays, the length grows."),
        agrees(COSINE.symbol, 1 / sp.sqrt(1 + 2 * v / sigma**2 * even / linear), "In terms of the two variances."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.update.turning_cosine",
        call=lambda w: theory.turning_cosine(
            walk_variance=w["variance"],
            sigma=w["sigma"],
            even_variance=w["even_variance"],
            linear_variance=w["linear_variance"],
        ),
        rtol=1e-11,
    ),
)

WALKED = given("q", "q", "walk", "variance of one coordinate of the update's walk", "weight^2", typical=(0.001, 0.01))
BEFORE = named("|g_s|^2", r"\lVert g_s\rVert^2", "squared gradient before the update", "reward^2/weight^2")
AFTER = given("|g_t|^2", r"\lVert g_t\rVert^2", "squared_gradient", "squared gradient after it", "reward^2/weight^2")
KEPT = named("g_s.g_t", r"g_s \cdot g_t", "product of the gradients before and after", "reward^2/weight^2")
PART = given("phi", r"\varphi", "kept", "share of the gradient that learning leaves", typical=(0.3, 0.9))
LIMIT = given(
    "v_even", r"v_\mathrm{even}", "even_variance", "1/2 sigma^4 tr Lambda^2", "reward^2", typical=(0.01, 0.02)
)

learned_turning = Derivation(
    name="turning-per-update",
    title="How far an update of a run that learns turns the gradient, from what is there after it",
    assumptions=(QUADRATIC, "curvatures are equal where the gradient is: learning shortens it and does not turn it"),
    label="mean-field",
    source=OURS,
    symbols=(WALKED, SIGMA, AFTER, LIMIT, PART, BEFORE, KEPT, COSINE),
    conditions=(2 * WALKED.symbol * LIMIT.symbol < SIGMA.symbol**4 * AFTER.symbol / 2,),
    steps=(
        define(
            BEFORE.symbol,
            (AFTER.symbol - 2 * LIMIT.symbol / sigma**4 * gaussian_mean(WALKED.symbol * x**2)) / PART.symbol**2,
            "Learning leaves phi of the gradient, and the walk adds Lambda Delta, of mean square q tr Lambda^2.",
        ),
        define(
            KEPT.symbol, PART.symbol * BEFORE.symbol, "What the walk adds is orthogonal to the gradient on average."
        ),
        define(COSINE.symbol, KEPT.symbol / sp.sqrt(BEFORE.symbol * AFTER.symbol), "The cosine of the two."),
        agrees(
            COSINE.symbol,
            sp.sqrt(1 - 2 * WALKED.symbol * LIMIT.symbol / (sigma**4 * AFTER.symbol)),
            "phi drops out: how fast the gradient falls need not be known.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.coherent.turning_per_update",
        call=lambda w: float(
            coherent.turning_per_update(
                np.array([w["walk"]]),
                w["sigma"],
                np.array([w["sigma"] ** 2 * w["squared_gradient"]]),
                np.array([w["even_variance"]]),
            )[0]
        ),
        rtol=1e-11,
    ),
)

UPDATES = given("T", "T", "steps", "updates", typical=(1, 9), extreme=(1, 200))
MOVED = given("a", "a", "progress", "motion of one update along the gradient of its time", "weight", **_SIZE)
TURNS = given(
    "tau",
    r"\tau",
    "turning",
    "cosine of the gradient with that one update before",
    typical=(0.1, 0.9),
    extreme=(1e-3, 0.999),
)
COHERENT = named("p^2", "p^2", "square of the coherent displacement", "weight^2")
updates, moved, turns = UPDATES.symbol, MOVED.symbol, TURNS.symbol
k = sp.Symbol("k", positive=True, integer=True)

coherent_square = Derivation(
    name="coherent-square",
    title="How far a run is carried that moves the same along a gradient that keeps turning",
    assumptions=("the direction of the gradient is a Markov chain of constant cosine tau",),
    label="mean-field",
    source=OURS,
    symbols=(MOVED, TURNS, UPDATES, COHERENT),
    steps=(
        define(
            COHERENT.symbol,
            moved**2 * (updates + 2 * sp.Sum((updates - k) * turns**k, (k, 1, updates - 1))),
            "T updates pair with themselves, and T - k pairs are k updates apart, of cosine tau^k.",
        ),
        agrees(
            COHERENT.symbol,
            moved**2 * (updates * (1 + turns) / (1 - turns) - 2 * turns * (1 - turns**updates) / (1 - turns) ** 2),
            "The geometric sums: T^2 pairs while the gradient stays, T (1 + tau)/(1 - tau) when it has turned away.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.coherent.CoherentMotion.square",
        call=lambda w: float(
            coherent.CoherentMotion(
                progress=np.full(int(w["steps"]), w["progress"]), turning=np.full(int(w["steps"]), w["turning"])
            ).square()[-1]
        ),
        rtol=1e-9,
    ),
)

DERIVATIONS = (cost, best, turning, learned_turning, coherent_square)
