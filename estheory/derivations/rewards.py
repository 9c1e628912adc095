"""What rewards of members on prompts hold, and how many of either an update had better be given."""

from __future__ import annotations

import math

import numpy as np

from estheory.derivations.algebra import sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import (
    ALPHA,
    C_OF_N,
    C_STEPS,
    POPULATION,
    SIGMA,
    N,
    alpha,
    c,
    gaussian_mean,
    given,
    named,
    sigma,
    x,
)
from estheory.landscape import Landscape
from estheory.rules import ESConfig
from estheory.theory.curved.step import step_moments
from estheory.theory.economy import update as theory
from estheory.theory.economy.variance_components import seen_and_noise

OURS = theory.OURS
_SIZE = {"typical": (0.3, 3.0), "extreme": (1e-3, 1e3)}
PROMPTS = given("B", "B", "prompts", "prompts of each member", typical=(2, 9), extreme=(2, 300))
BETWEEN = given("MS_i", r"\mathrm{MS}_i", "between", "B times the variance of the members' means", "reward^2", **_SIZE)
WITHIN = given("MS_r", r"\mathrm{MS}_r", "within", "residual mean square", "reward^2", **_SIZE)
OWN = named("w", "w", "variance of everything but the member's true effect", "reward^2")
SEEN = named("S^2", "S^2", "variance of the members' means", "reward^2")
EFFECT = named("v", "v", "variance of the members' true effects", "reward^2")
B = PROMPTS.symbol


def _two_members(v: Values) -> float:
    """Return v of two members on B prompts whose rewards have v and w as their components."""
    prompts = int(v["prompts"])
    between, within = prompts * v["true_variance"] + v["noise_variance"], v["noise_variance"]
    contrast = np.linspace(-1, 1, prompts)
    contrast *= math.sqrt((prompts - 1) / float(contrast @ contrast))
    member = math.sqrt(between / (2 * prompts)) + math.sqrt(within / 2) * contrast
    seen, noise, _, _ = seen_and_noise(np.stack([member, -member]), centred=True, fixed=False)
    return seen - noise


TRUE = given("v", "v", "true_variance", "variance of the members' true effects, all of it linear", "reward^2", **_SIZE)
NOISE = given("w", "w", "noise_variance", "variance of everything else, on one prompt", "reward^2", **_SIZE)
components = Derivation(
    name="variance-components",
    title="Variance of the members' true effects, from rewards of members on prompts",
    assumptions=("R_ib = mu_b + t_i + e_ib, with e_ib independent of mean 0; mean squares stand for their means",),
    label="exact",
    source=OURS,
    symbols=(BETWEEN, WITHIN, PROMPTS, OWN, SEEN, EFFECT),
    steps=(
        define(OWN.symbol, WITHIN.symbol, "Less the means of members and of prompts only e_ib is left."),
        define(SEEN.symbol, BETWEEN.symbol / B, "The members' means scatter by S^2 = v + w/B."),
        define(EFFECT.symbol, SEEN.symbol - OWN.symbol / B, "So v is what is not noise."),
        agrees(EFFECT.symbol, (BETWEEN.symbol - WITHIN.symbol) / B, "Unbiased, and negative at times: not cut off."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.variance_components.seen_and_noise",
        call=_two_members,
        rtol=1e-8,
        parameters=(TRUE, NOISE, PROMPTS),
        inputs=lambda v: {
            "between": v["prompts"] * v["true_variance"] + v["noise_variance"],
            "within": v["noise_variance"],
            "prompts": v["prompts"],
        },
    ),
)

GAP = given("gap", r"\mathrm{gap}", "gap", "smoothing gap", "reward", **_SIZE)
GAIN = named("G", "G", "gain of an update", "reward")
COST = named("C", "C", "its cost", "reward")
NET = named("net*", r"\mathrm{net}^*", "net gain at the best step size", "reward")


def _best_net(v: Values) -> float:
    run = ESConfig(dim=1, sigma=1.0, alpha=1.0, population=int(v["population"]))
    seen = v["true_variance"] + v["noise_variance"] / v["prompts"]
    gain = theory.update_gain(run, v["true_variance"], seen)
    return theory.best_step(gain, theory.update_cost(run, v["gap"]))[1]


rollouts = Derivation(
    name="rollouts",
    title="Net gain of an update at its best step, by how its rollouts are split over members and prompts",
    assumptions=("z-scores, independent members", "linear effects, Gaussian noise", "quadratic at the scale of sigma"),
    label="small-step",
    source=OURS,
    symbols=(ALPHA, SIGMA, POPULATION, PROMPTS, TRUE, NOISE, GAP, C_OF_N, SEEN, GAIN, COST, NET),
    steps=(
        *C_STEPS,
        define(SEEN.symbol, TRUE.symbol + NOISE.symbol / B, "What the members' means scatter by."),
        define(GAIN.symbol, alpha / sigma * c * TRUE.symbol / sp.sqrt(SEEN.symbol), "progress, times the gradient."),
        define(COST.symbol, alpha**2 / (N * sigma**2) * GAP.symbol, "diffusion-cost."),
        define(NET.symbol, GAIN.symbol**2 / (4 * COST.symbol), "best-net-gain: alpha and sigma drop out."),
        follows(
            NET.symbol,
            N * B * (c * TRUE.symbol) ** 2 / (4 * GAP.symbol * (TRUE.symbol * B + NOISE.symbol)),
            "Of N B rollouts few prompts and many members are best, until other things than this end it.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.economy.update.best_step", call=_best_net, rtol=1e-9),
)

SLOPE = given("g", "g", "slope", "gradient along one direction", "reward/weight", **_SIZE)
CURVATURE = given("lambda", r"\lambda", "curvature", "minus the second derivative along it", "reward/weight^2", **_SIZE)
ODD = named("v_odd", r"v_\mathrm{odd}", "variance of half the difference of two mirrored members", "reward^2")
EVEN = named("v_even", r"v_\mathrm{even}", "variance of half their sum", "reward^2")
g, lam = SLOPE.symbol, CURVATURE.symbol
QUADRATIC = "the reward is quadratic at the scale of sigma and of the update"


def _members_variance(v: Values) -> float:
    one = np.ones(1)
    curvature, offset = v["curvature"] * one, v["slope"] / v["curvature"] * one
    landscape = Landscape(dim=1, eigenvalue=curvature, multiplicity=one, offset=offset)
    run = ESConfig(dim=1, sigma=v["sigma"], population=8)
    return step_moments(run, landscape).member_std ** 2


odd_even = Derivation(
    name="odd-even",
    title="Variance of the members' effects, by what mirroring turns round and what it leaves",
    assumptions=(QUADRATIC, "Gaussian noise"),
    label="exact",
    source=OURS,
    symbols=(SIGMA, SLOPE, CURVATURE, ODD, EVEN, SEEN),
    steps=(
        define(
            ODD.symbol,
            gaussian_mean((sigma * g * x) ** 2),
            "Half the difference of R(theta + sigma eps) and R(theta - sigma eps) is sigma g eps.",
        ),
        define(
            EVEN.symbol,
            gaussian_mean((sigma**2 * lam * (x**2 - 1) / 2) ** 2),
            "Half their sum is -sigma^2 lambda eps^2/2, here less its mean.",
        ),
        define(SEEN.symbol, ODD.symbol + EVEN.symbol, "An odd and an even function of eps have no covariance."),
        agrees(
            SEEN.symbol,
            sigma**2 * g**2 + sigma**4 * lam**2 / 2,
            "Both add over directions: sigma^2 ||g||^2, which moves an update, and sigma^4 tr Lambda^2/2, which "
            "does not.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.curved.step.step_moments", call=_members_variance, rtol=1e-9),
)

REST = given("s", "s", "reward_std", "standard deviation of what of a member's reward is not linear", "reward", **_SIZE)
STD = named("S", "S", "standard deviation of the members' rewards", "reward")
MOVE = named("m", "m", "mean of an update along the gradient", "weight")
RISE = named("rise", r"\mathrm{rise}", "expected change of the reward", "reward")
MEAN_GAP = named("gap", r"\mathrm{gap}", "R(theta) less the mean reward of its members", "reward")
EARNED = named("earned", r"\mathrm{earned}", "what the update's mean brings", "reward")
PAID = named("paid", r"\mathrm{paid}", "what its random part costs", "reward")
BALANCE = named("net", r"\mathrm{net}", "earned less paid", "reward")
m = MOVE.symbol


def _entry(v: Values) -> float:
    run = ESConfig(dim=1, sigma=v["sigma"], alpha=v["alpha"], population=int(v["population"]))
    linear = (v["sigma"] * v["slope"]) ** 2
    gain = theory.update_gain(run, linear, linear + v["reward_std"] ** 2)
    return gain - theory.update_cost(run, 0.5 * v["sigma"] ** 2 * v["curvature"])


ledger = Derivation(
    name="ledger",
    title="Earned less paid is the rise of the reward: one entry of a run's ledger",
    assumptions=(QUADRATIC, "z-scores, independent members, Gaussian noise"),
    label="small-step",
    source=OURS,
    symbols=(
        *(ALPHA, SIGMA, POPULATION, SLOPE, CURVATURE, REST),
        *(C_OF_N, STD, MOVE, RISE, EARNED, MEAN_GAP, PAID, BALANCE),
    ),
    steps=(
        *C_STEPS,
        define(STD.symbol, sp.sqrt((sigma * g) ** 2 + REST.symbol**2), "Linear effects and the rest."),
        define(m, alpha * c * sigma * g / STD.symbol, "progress of a z-scored step along its gradient."),
        define(
            RISE.symbol,
            gaussian_mean(g * (m + alpha / sp.sqrt(N) * x) - lam / 2 * (m + alpha / sp.sqrt(N) * x) ** 2),
            "R(theta + u) - R(theta) of u = m + alpha/sqrt(N) x, in its mean.",
        ),
        define(EARNED.symbol, g * m, "The slope, times how far it moves the run."),
        define(MEAN_GAP.symbol, gaussian_mean(lam * (sigma * x) ** 2 / 2), "Members are sigma eps away."),
        define(PAID.symbol, alpha**2 / (N * sigma**2) * MEAN_GAP.symbol, "diffusion-cost."),
        define(BALANCE.symbol, EARNED.symbol - PAID.symbol, "One entry of the ledger."),
        agrees(
            RISE.symbol + lam * m**2 / 2,
            BALANCE.symbol,
            "The entry is the rise, but for lambda m^2/2 of second order in the progress. Summed over a run, the rises "
            "are R(theta_T) - R(theta_0).",
        ),
        agrees(
            BALANCE.symbol,
            alpha * c * sigma * g**2 / sp.sqrt((sigma * g) ** 2 + REST.symbol**2) - alpha**2 * lam / (2 * N),
            "Both parts come from rewards of members and of theta: none is fitted.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.economy.update.update_gain", call=_entry, rtol=1e-9),
)

DERIVATIONS = (components, rollouts, odd_even, ledger)
