"""The walk with memory: anchored weight decay and heavy-ball momentum."""

from __future__ import annotations

import math

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import ALPHA, POPULATION, N, alpha, given, named
from estheory.derivations.walk import FLAT
from estheory.landscape import Signal
from estheory.rules import AnchorForm, ESConfig
from estheory.theory import walk as theory
from estheory.theory.anchor_l1 import brownian_moments

PULL = given(
    "kappa",
    r"\kappa",
    "anchor_l2",
    "share of the displacement that a step pulls back",
    typical=(0.05, 0.9),
    extreme=(1e-3, 0.9),
)
ANCHOR_STEPS = given("T", "T", "steps", "steps", typical=(1, 9), extreme=(1, 3000))
kappa, keep = PULL.symbol, 1 - PULL.symbol
lag = sp.Symbol("k", integer=True, nonnegative=True)
VARIANCE = named("v_T", "v_T", "variance of a coordinate after T steps", "weight^2")
LIMIT = named("v_∞", r"v_\infty", "its value after many steps", "weight^2")


def _anchored(v: Values, form: AnchorForm, steps: int) -> float:
    config = ESConfig(
        dim=1, sigma=1.0, alpha=v["alpha"], population=int(v["population"]), anchor_l2=v["anchor_l2"], anchor_form=form
    )
    return theory.walk(config, Signal(), steps).variance


def _transient(form: AnchorForm, fresh: Expr, pulled: str) -> Derivation:
    suffix = "" if form == "before" else "-after"
    return Derivation(
        name=f"anchor-l2{suffix}",
        title=f"Variance with an L2 anchor that acts {form} the step",
        assumptions=(FLAT, "every step pulls the displacement back by the share kappa of itself"),
        label="exact",
        source=theory.OURS,
        symbols=(ALPHA, POPULATION, PULL, ANCHOR_STEPS, VARIANCE),
        steps=(
            define(
                VARIANCE.symbol,
                fresh * sp.Sum(keep ** (2 * lag), (lag, 0, ANCHOR_STEPS.symbol - 1)),
                f"{pulled} The noise of k steps ago has been multiplied by (1-kappa)^k since.",
            ),
            agrees(
                VARIANCE.symbol,
                fresh * (1 - keep ** (2 * ANCHOR_STEPS.symbol)) / (1 - keep**2),
                "A geometric sum; alpha^2 T / N while kappa T is small.",
            ),
        ),
        evaluator=Evaluator(name="estheory.theory.walk.walk", call=lambda v: _anchored(v, form, int(v["steps"]))),
    )


def _stationary(form: AnchorForm, fresh: Expr, pulled: str) -> Derivation:
    suffix = "" if form == "before" else "-after"
    q = LIMIT.symbol
    return Derivation(
        name=f"anchor-l2{suffix}-stationary",
        title=f"Stationary variance with an L2 anchor that acts {form} the step",
        assumptions=(FLAT, "many more than 1/kappa steps"),
        label="exact",
        source=theory.OURS,
        symbols=(ALPHA, POPULATION, PULL, LIMIT),
        steps=(
            define(q, fresh / (1 - keep**2), f"{pulled} The closed sum of anchor-l2 without its transient."),
            follows(
                keep**2 * q + fresh, q, "One more step, which shrinks it and adds fresh noise, leaves it as it is."
            ),
            follows(q, fresh / (kappa * (2 - kappa)), "About alpha^2/(2 kappa N) for a weak pull."),
        ),
        evaluator=Evaluator(
            name="estheory.theory.walk.walk",
            call=lambda v: _anchored(v, form, math.ceil(20 / v["anchor_l2"])),
        ),
    )


_FRESH = {
    "before": (alpha**2 / N, "A new step adds alpha^2/N (flat-variance)."),
    "after": (keep**2 * alpha**2 / N, "A new step is pulled too: it adds (1-kappa)^2 alpha^2/N."),
}

L1 = given("kappa", r"\kappa", "anchor_l1", "constant pull toward the start, per step", "weight", extreme=(1e-4, 1.0))
DISTANCE = given("x", "x", "distance", "distance of a coordinate from its start", "weight")
SCALE = named("b", "b", "scale of the Laplace law", "weight")
b, pull = SCALE.symbol, L1.symbol
r = DISTANCE.symbol
_laplace = sp.exp(-r / b) / (2 * b)


def _l1(v: Values) -> float:
    steps = math.ceil(400 * v["alpha"] ** 2 / (v["population"] * v["anchor_l1"] ** 2))  # 20 times the diffusive scale
    noise = v["alpha"] ** 2 / v["population"]
    return noise * steps * brownian_moments(v["anchor_l1"] * math.sqrt(steps / noise))[1]


anchor_l1 = Derivation(
    name="anchor-l1-stationary",
    title="Stationary variance with an L1 anchor",
    assumptions=(
        FLAT,
        "small steps: kappa sqrt(N)/alpha below about 0.15",
        "many more than 2 alpha^2/(kappa^2 N) steps",
    ),
    label="small-step",
    source=theory.OURS,
    symbols=(ALPHA, POPULATION, L1, DISTANCE, SCALE, LIMIT),
    steps=(
        define(b, alpha**2 / (2 * N * pull), "Try the density p(x) = exp(-|x|/b) / (2 b) with this scale."),
        follows(
            alpha**2 / (2 * N) * sp.Derivative(_laplace, (r, 2)),
            -pull * sp.Derivative(_laplace, r),
            "Stationary Fokker-Planck equation for x > 0: spreading at the rate alpha^2/(2N) balances the pull.",
        ),
        follows(2 * sp.Integral(_laplace, (r, 0, sp.oo)), 1, "It is a density."),
        define(LIMIT.symbol, 2 * sp.Integral(r**2 * _laplace, (r, 0, sp.oo)), "Its variance."),
        follows(LIMIT.symbol, alpha**4 / (2 * N**2 * pull**2), "2 b^2."),
    ),
    evaluator=Evaluator(name="estheory.theory.anchor_l1.brownian_moments", call=_l1),
)

BETA = given("beta", r"\beta", "momentum", "heavy-ball momentum", typical=(0.1, 0.9), extreme=(1e-3, 0.99))
RESPONSE = named("h_k", "h_k", "share of one step's noise in the displacement k steps later")
EFFECTIVE = named("T_eff", r"T_{\mathrm{eff}}", "effective number of steps, in place of T")
beta = BETA.symbol
delay, spread = sp.Symbol("j", integer=True, nonnegative=True), ANCHOR_STEPS.symbol


def _momentum(v: Values) -> float:
    config = ESConfig(dim=1, sigma=1.0, alpha=1.0, population=2, momentum=v["momentum"])
    return theory.walk(config, Signal(), int(v["steps"])).variance / 0.5


momentum_steps = Derivation(
    name="momentum-steps",
    title="Effective number of steps with heavy-ball momentum",
    assumptions=(FLAT, "momentum with the (1-beta) convention: m <- beta m + (1-beta) step, theta <- theta + m"),
    label="exact",
    source=theory.OURS,
    symbols=(BETA, ANCHOR_STEPS, EFFECTIVE),
    steps=(
        define(
            EFFECTIVE.symbol,
            sp.Sum(
                ((1 - beta) * sp.Sum(beta**delay, (delay, 0, lag))) ** 2,
                (lag, 0, spread - 1),
            ),
            "A step's noise arrives in portions (1-beta) beta^j; after k more steps their sum is in the displacement.",
        ),
        agrees(
            EFFECTIVE.symbol, sp.Sum((1 - beta ** (lag + 1)) ** 2, (lag, 0, spread - 1)), "The inner sum is geometric."
        ),
        agrees(
            EFFECTIVE.symbol,
            spread - 2 * beta * (1 - beta**spread) / (1 - beta) + beta**2 * (1 - beta ** (2 * spread)) / (1 - beta**2),
            "Square and add up: the walk's variance is alpha^2 T_eff / N.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.walk.response", call=_momentum),
)

DERIVATIONS = (
    _transient("before", *_FRESH["before"]),
    _stationary("before", *_FRESH["before"]),
    _transient("after", *_FRESH["after"]),
    _stationary("after", *_FRESH["after"]),
    anchor_l1,
    momentum_steps,
)
