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
    given,
    named,
    sigma,
)
from estheory.rules import ESConfig
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

DERIVATIONS = (components, rollouts)
