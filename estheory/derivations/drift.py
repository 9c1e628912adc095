"""Off-task drift of an isotropic Gaussian displacement: KL from the base model, another task's reward."""

from __future__ import annotations

import math

from estheory.derivations.algebra import sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define
from estheory.derivations.notation import VARIANCE, gaussian_mean, given, half, named, x
from estheory.theory import drift as theory
from estheory.theory.walk import Walk

OURS = theory.OURS
SMALL = (
    "the cost is its local quadratic form; the displacement is isotropic and Gaussian (the walk, without its signal)"
)
_FIRST = {"typical": (0.3, 3.0), "extreme": (1e-3, 1e6)}
F1 = given("f_1", "f_1", "first_eigenvalue", "one eigenvalue of the Fisher information F", "nat/weight^2", **_FIRST)
F2 = given("f_2", "f_2", "second_eigenvalue", "another one", "nat/weight^2", **_FIRST)
TRACE = given("tr F", r"\operatorname{tr}F", "fisher_trace", "trace of F per token", "nat/weight^2", **_FIRST)
FOURTH = named("E Z⁴", r"\mathbb{E}Z^4", "fourth moment of a standard normal")
KL = named("E KL", r"\mathbb{E}\,\mathrm{KL}", "mean KL(base || tuned)", "nat")
KL_VARIANCE = named("Var KL", r"\operatorname{Var}\mathrm{KL}", "variance of the KL over runs", "nat^2")
v, f1, f2 = VARIANCE.symbol, F1.symbol, F2.symbol


def _walk(values: Values) -> Walk:
    return Walk(
        variance=values["variance"],
        effective_dim=1e9,
        dim=10**9,
        mixing_df=math.inf,
        coherent_steps=1.0,
        label="exact",
        source=OURS,
        assumptions=(),
    )


def _two(values: Values) -> dict[str, float]:
    a, b = values["first_eigenvalue"], values["second_eigenvalue"]
    return {**values, "fisher_trace": a + b, "fisher_square_trace": a * a + b * b}


def _kl(values: Values, with_square: bool) -> tuple[float, float]:
    traces = _two(values) if "first_eigenvalue" in values else values
    square = traces["fisher_square_trace"] if with_square else None
    law = theory.kl_law(_walk(values), fisher_trace=traces["fisher_trace"], fisher_square_trace=square)
    return law.mean, law.std


kl_mean = Derivation(
    name="kl-mean",
    title="Mean KL drift of the walk",
    assumptions=(SMALL,),
    label="small-step",
    source=OURS,
    symbols=(VARIANCE, TRACE, KL),
    steps=(
        define(
            KL.symbol,
            half * v * TRACE.symbol * gaussian_mean(x**2),
            "KL = 1/2 sum_k f_k Delta_k^2 in the eigenbasis of F; each Delta_k is sqrt(v) times a standard normal.",
        ),
        agrees(KL.symbol, half * v * TRACE.symbol, "v = alpha^2 T / N for the plain walk: linear in T, inverse in N."),
    ),
    evaluator=Evaluator(name="estheory.theory.drift.kl_law", call=lambda v: _kl(v, False)[0]),
)

kl_variance = Derivation(
    name="kl-variance",
    title="Variance of the KL drift over runs",
    assumptions=(SMALL, "written for two eigenvalues of F; more add terms of the same form"),
    label="small-step",
    source=OURS,
    symbols=(VARIANCE, F1, F2, FOURTH, KL_VARIANCE),
    steps=(
        define(FOURTH.symbol, gaussian_mean(x**4), "Delta_k = sqrt(v) Z."),
        define(
            KL_VARIANCE.symbol,
            (v * f1 / 2) ** 2 * (FOURTH.symbol - 1) + (v * f2 / 2) ** 2 * (FOURTH.symbol - 1),
            "Independent directions: variances of 1/2 v f_k Z^2 add up.",
        ),
        agrees(
            KL_VARIANCE.symbol,
            half * v**2 * (f1**2 + f2**2),
            "E Z^4 = 3: this is 1/2 v^2 tr F^2, so the relative spread is sqrt(2 tr F^2)/tr F.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.drift.kl_law", call=lambda v: _kl(v, True)[1] ** 2),
)

G1 = given("g_1", "g_1", "first_slope", "gradient of the other task along one direction", "reward/weight", **_FIRST)
L1 = given("lambda_1", r"\lambda_1", "first_curvature", "its curvature there", "reward/weight^2", **_FIRST)
CHANGE = named("E δR", r"\mathbb{E}\,\delta R", "mean change of the other task's reward", "reward")
CHANGE_VARIANCE = named("Var δR", r"\operatorname{Var}\delta R", "its variance over runs", "reward^2")
g1, l1 = G1.symbol, L1.symbol
_change = sp.sqrt(v) * g1 * x - half * v * l1 * x**2


def _off_task(values: Values) -> tuple[float, float]:
    curvature = values["first_curvature"]
    law = theory.off_task_reward_law(
        _walk(values), trace=curvature, square_trace=curvature**2, gradient_norm=values.get("first_slope", 0.0)
    )
    return law.mean, law.std


off_task_mean = Derivation(
    name="off-task-mean",
    title="Mean change of another task's reward",
    assumptions=(SMALL, "written for one direction; sum over directions makes lambda_1 the trace"),
    label="small-step",
    source=OURS,
    symbols=(VARIANCE, G1, L1, CHANGE),
    steps=(
        define(CHANGE.symbol, gaussian_mean(_change), "g.Delta - 1/2 Delta' Lam Delta with Delta = sqrt(v) Z."),
        agrees(CHANGE.symbol, -half * v * l1, "The first-order part has no mean."),
    ),
    evaluator=Evaluator(name="estheory.theory.drift.off_task_reward_law", call=lambda v: _off_task(v)[0]),
)

off_task_variance = Derivation(
    name="off-task-variance",
    title="Variance over runs of the change of another task's reward",
    assumptions=(SMALL, "written for one direction; directions add: v ||g||^2 + 1/2 v^2 tr Lam^2"),
    label="small-step",
    source=OURS,
    symbols=(VARIANCE, G1, L1, CHANGE_VARIANCE),
    steps=(
        define(
            CHANGE_VARIANCE.symbol,
            gaussian_mean((_change + half * v * l1) ** 2),
            "Mean square about the mean of off-task-mean.",
        ),
        agrees(
            CHANGE_VARIANCE.symbol,
            v * g1**2 + half * v**2 * l1**2,
            "A first-order part, as likely a gain as a loss, and the spread of the second-order loss.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.drift.off_task_reward_law", call=lambda v: _off_task(v)[1] ** 2),
)

DERIVATIONS = (kl_mean, kl_variance, off_task_mean, off_task_variance)
