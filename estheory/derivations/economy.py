"""What an update gains and costs: the best step, and how a walk turns the gradient."""

from __future__ import annotations

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

DERIVATIONS = (cost, best, turning)
