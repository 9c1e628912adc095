"""Bounds on the signal in T steps, for any reward."""

from __future__ import annotations

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define
from estheory.derivations.notation import (
    ALPHA,
    C_OF_N,
    C_STEPS,
    DIM,
    POPULATION,
    STEPS,
    D,
    N,
    T,
    alpha,
    c,
    chi_square_mean,
    half,
    named,
    y,
)
from estheory.derivations.signal import OURS
from estheory.quantities import Quantity
from estheory.rules import ESConfig
from estheory.theory import signal as theory
from estheory.theory.predictions import predict

BOUND = named("B", "B", "largest mean displacement along any direction", "weight")
LARGEST = named("E max Σzx", r"\mathbb{E}\max\sum_i z_i x_i", "mean of the largest overlap that z-scores can have")
SHARE = named("f", "f", "bound on the signal's share of the squared norm")
COSINE = named("|cos|", r"\lvert\cos\rvert", "bound on the mean cosine with a GRPO displacement")
ANY = "any reward whatever; noise independent between coordinates, members and steps"
_largest = define(
    LARGEST.symbol,
    N * chi_square_mean(sp.sqrt(y / N), N - 1),
    "Cauchy-Schwarz: with sum z = 0 and sum z^2 = N the overlap is at most N times the std of the x_i.",
)
_bound = define(BOUND.symbol, T * alpha / N * LARGEST.symbol, "T steps, all in the same direction.")
_square: Expr = alpha**2 * T * D / N


def _run(v: Values) -> ESConfig:
    dim, alpha = int(v.get("dim", 10)), v.get("alpha")
    return ESConfig(dim=dim, sigma=1.0, alpha=alpha, population=int(v["population"]), steps=int(v["steps"]))


def _predicted(quantity: Quantity) -> Evaluator:
    return Evaluator(name="estheory.theory.predictions.predict", call=lambda v: predict(_run(v)).get(quantity).law.mean)


coherent_bound = Derivation(
    name="coherent-bound",
    title="Bound on the coherent displacement of T steps",
    assumptions=(ANY,),
    label="exact",
    source=OURS,
    symbols=(ALPHA, POPULATION, STEPS, LARGEST, C_OF_N, BOUND),
    steps=(
        _largest,
        _bound,
        *C_STEPS,
        agrees(BOUND.symbol, alpha * c * T, "That mean standard deviation is c(N)."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.signal.coherent_displacement_bound",
        call=lambda v: theory.coherent_displacement_bound(_run(v), float(v["steps"])) or 0.0,
    ),
)

signal_share = Derivation(
    name="signal-share",
    title="Bound on the share of the squared displacement that is signal",
    assumptions=(ANY, "d much larger than N T: the walk makes the squared norm"),
    label="exact",
    source=OURS,
    symbols=(ALPHA, POPULATION, DIM, STEPS, LARGEST, BOUND, C_OF_N, SHARE),
    steps=(
        _largest,
        _bound,
        define(SHARE.symbol, BOUND.symbol**2 / _square, "coherent-bound over norm-mean-square."),
        *C_STEPS,
        agrees(SHARE.symbol, c**2 * N * T / D, "The step size cancels."),
    ),
    evaluator=_predicted(Quantity.SIGNAL_SHARE_BOUND),
    conditions=(N * T <= D,),
)

es_grpo_cosine = Derivation(
    name="es-grpo-cosine",
    title="Bound on the cosine of an ES displacement with one of gradient-based RL",
    assumptions=(ANY, "the other displacement is independent of the ES noise", "d much larger than N T"),
    label="exact",
    source=OURS,
    symbols=(ALPHA, POPULATION, DIM, STEPS, LARGEST, BOUND, C_OF_N, COSINE),
    steps=(
        _largest,
        _bound,
        define(
            COSINE.symbol,
            BOUND.symbol / sp.sqrt(_square),
            "The mean overlap with any fixed unit vector is at most B; the rest is noise of size 1/sqrt(d).",
        ),
        *C_STEPS,
        agrees(COSINE.symbol, c * (N * T / D) ** half, "The step size cancels."),
    ),
    evaluator=_predicted(Quantity.ES_GRPO_COSINE_BOUND),
    conditions=(N * T <= D,),
)

DERIVATIONS = (
    coherent_bound,
    signal_share,
    es_grpo_cosine,
)
