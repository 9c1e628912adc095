"""Curved directions with memory: an anchor pulls toward the start, momentum couples distance and velocity."""

from __future__ import annotations

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.curvature import QUADRATIC
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.dynamics import CONSTANT, CURVATURE, OURS, RATE, SPREAD, STEP, WIDTH
from estheory.derivations.memory import BETA, LIMIT, PULL
from estheory.derivations.notation import C_OF_N, C_STEPS, POPULATION, STEPS, N, S, T, alpha, c, given, named, sigma
from estheory.rules import AnchorForm, ESConfig
from estheory.theory.curved import dynamics as theory
from estheory.theory.curved.recursion import step_rule
from estheory.theory.curved.stationary import momentum_gain, rest

lam, a, kappa, beta, q = CURVATURE.symbol, RATE.symbol, PULL.symbol, BETA.symbol, LIMIT.symbol
lag = sp.Symbol("k", integer=True, nonnegative=True)
KEPT = named("μ", r"\mu", "share of its distance from where it settles that a direction keeps in one step")
FRESH = named("η", r"\eta", "variance that one step adds", "weight^2")
VARIANCE = named("v_T", "v_T", "variance of a direction after T steps", "weight^2")
kept, fresh = KEPT.symbol, FRESH.symbol
_rate = (
    *C_STEPS,
    define(a, alpha * c * sigma / S, "E[Delta_k] = alpha c rho_k with rho_k = sigma g_k / S (progress)."),
)
_a = alpha * c * sigma / S


def _config(v: Values, form: AnchorForm = "before") -> ESConfig:
    return ESConfig(
        dim=10**6,
        sigma=v["sigma"],
        alpha=v["alpha"],
        population=int(v["population"]),
        anchor_l2=v.get("anchor_l2", 0.0),
        anchor_form=form,
        momentum=v.get("momentum", 0.0),
    )


def _anchored(form: AnchorForm, left: Expr, why: str) -> Derivation:
    suffix = "" if form == "before" else "-after"
    closed = left**2 * alpha**2 / N
    keeps = 1 - kappa - left * _a * lam
    return Derivation(
        name=f"anchored-variance{suffix}",
        title=f"Variance of a curved direction with an L2 anchor that acts {form} the step",
        assumptions=(QUADRATIC, CONSTANT, "small x_k"),
        label="large-N",
        source=OURS,
        symbols=(STEP, WIDTH, POPULATION, SPREAD, CURVATURE, PULL, STEPS, C_OF_N, RATE, KEPT, FRESH, VARIANCE),
        steps=(
            *_rate,
            define(
                kept,
                1 - kappa - left * a * lam,
                f"Two pulls: kappa toward the start, a lambda toward the optimum. {why}",
            ),
            define(fresh, closed, "Noise of the walk (flat-variance), as far as it is not pulled back."),
            define(
                VARIANCE.symbol,
                fresh * sp.Sum(kept ** (2 * lag), (lag, 0, T - 1)),
                "An AR(1) process around the point where the two pulls balance.",
            ),
            agrees(
                VARIANCE.symbol,
                closed * (1 - keeps ** (2 * T)) / (1 - keeps**2),
                "lambda -> 0 is anchor-l2 of the walk, kappa -> 0 is ou-variance.",
            ),
        ),
        evaluator=Evaluator(
            name="estheory.theory.curved.dynamics.coordinate_variance",
            call=lambda v: theory.coordinate_variance(
                _config(v, form), v["eigenvalue"], v["member_std"], int(v["steps"])
            ),
        ),
    )


OFFSET = given("delta_0", r"\delta_0", "offset", "distance of the start from the optimum", "weight")
REST = named("δ_∞", r"\delta_\infty", "mean distance from the optimum after many steps", "weight")
ADDED = given("eta", r"\eta", "noise", "variance that one step adds", "weight^2", extreme=(1e-6, 10.0))


def _rest(v: Values) -> float:
    rate = step_rule(_config(v)).rate(v["member_std"] ** 2)
    return float(rest(_config(v), rate, v["eigenvalue"], v["offset"]))


anchored_rest = Derivation(
    name="anchored-rest",
    title="Where a curved direction settles between its start and its optimum under an L2 anchor",
    assumptions=(QUADRATIC, CONSTANT, "the pull acts before the step"),
    label="large-N",
    source=OURS,
    symbols=(STEP, WIDTH, POPULATION, SPREAD, CURVATURE, PULL, OFFSET, C_OF_N, RATE, REST),
    steps=(
        *_rate,
        define(REST.symbol, kappa * OFFSET.symbol / (kappa + a * lam), "Try this point."),
        follows(
            (1 - kappa - a * lam) * REST.symbol + kappa * OFFSET.symbol,
            REST.symbol,
            "One more mean step leaves it as it is.",
        ),
        agrees(
            REST.symbol,
            OFFSET.symbol * kappa / (kappa + _a * lam),
            "The start for a flat direction, the optimum for a steep one; momentum does not move it.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.stationary.rest",
        call=_rest,
    ),
)


FIRST = named("φ_1", r"\varphi_1", "weight of the last distance in the next")
SECOND = named("φ_2", r"\varphi_2", "weight of the last but one")
LAGGED = named("γ", r"\gamma", "covariance of two distances one step apart", "weight^2")
DRIFT = given(
    "m",
    "m",
    "contraction",
    "a lambda: share of its distance in one plain step",
    typical=(0.05, 0.9),
    extreme=(1e-6, 0.9),
)
phi, psi, gamma, eta, pull = FIRST.symbol, SECOND.symbol, LAGGED.symbol, ADDED.symbol, DRIFT.symbol

momentum_stationary = Derivation(
    name="momentum-stationary",
    title="Stationary variance of a curved direction with heavy-ball momentum",
    assumptions=(QUADRATIC, CONSTANT, "noise of a step does not depend on the distance"),
    label="large-N",
    source=OURS,
    symbols=(BETA, DRIFT, ADDED, FIRST, SECOND, LIMIT, LAGGED),
    steps=(
        define(
            phi,
            1 + beta - (1 - beta) * pull,
            "theta moves by u, u <- beta u + (1-beta) step, and u was the last change of theta: an AR(2) process.",
        ),
        define(psi, -beta, "The velocity takes back beta of the distance before."),
        define(
            q,
            (1 - beta) ** 2 * eta * (1 - psi) / ((1 + psi) * (1 - psi - phi) * (1 - psi + phi)),
            "Try this variance.",
        ),
        define(gamma, phi * q / (1 - psi), "From gamma = phi_1 q + phi_2 gamma."),
        follows(
            phi**2 * q + psi**2 * q + 2 * phi * psi * gamma + (1 - beta) ** 2 * eta,
            q,
            "One more step leaves it as it is.",
        ),
        follows(
            q,
            eta * (1 + beta) / (pull * (2 * (1 + beta) - (1 - beta) * pull)),
            "eta/(m (2 - m)) for beta = 0; for small m about eta/(2 m), whatever beta.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.curved.stationary.momentum_gain",
        call=lambda v: v["noise"] * _gain(v),
    ),
)


def _gain(v: Values) -> float:
    config = ESConfig(dim=1, sigma=1.0, population=4, momentum=v["momentum"])
    return float(momentum_gain(config, v["contraction"]))


DERIVATIONS = (
    _anchored("before", sp.Integer(1), "The second acts on the new step alone."),
    _anchored("after", 1 - kappa, "The first acts on the new step too."),
    anchored_rest,
    momentum_stationary,
)
