"""What a coherent part adds to a walk: cosines of two runs, KL, and the rise over a chord."""

from __future__ import annotations

import numpy as np

from estheory.derivations.algebra import sp
from estheory.derivations.derivation import Derivation, Evaluator, Notation, Values, agrees, define
from estheory.derivations.drift import TRACE
from estheory.derivations.economy import UPDATES
from estheory.derivations.notation import DIM, VARIANCE, D, gaussian_mean, given, half, named, x, y
from estheory.theory.economy import chord as chords
from estheory.theory.economy import coherent
from estheory.theory.economy.steered_run import TaskDrift

OURS = "ours: docs/concepts/economy.md"
_SIZE = {"typical": (0.3, 3.0), "extreme": (1e-3, 1e3)}
APART = "the walks are independent of each other and of the gradient; nearly all directions are flat"


def _run(number: int, name: str) -> tuple[Notation, Notation, Notation]:
    """Return walk, coherent part along the gradient at the start, and square of the whole coherent part of a run."""
    return (
        given(
            f"v_{number}",
            f"v_{number}",
            f"{name}_walk",
            f"variance of one coordinate of the {name} run's walk",
            "weight^2",
            **_SIZE,
        ),
        given(
            f"b_{number}",
            f"b_{number}",
            f"{name}_along",
            "its coherent displacement along the gradient at the start",
            "weight",
            **_SIZE,
        ),
        given(
            f"p_{number}^2",
            f"p_{number}^2",
            f"{name}_square",
            "square of its coherent displacement",
            "weight^2",
            **_SIZE,
        ),
    )


FIRST, SECOND = _run(1, "first"), _run(2, "second")
PRODUCT = named("E[Δ₁·Δ₂]", r"\mathbb{E}[\Delta_1 \cdot \Delta_2]", "mean product of the two displacements", "weight^2")
LENGTHS = tuple(
    named(f"E‖Δ{mark}‖²", rf"\mathbb{{E}}\lVert\Delta_{number}\rVert^2", "mean square of its displacement", "weight^2")
    for number, mark in ((1, "₁"), (2, "₂"))
)
COSINE = named("cos", r"\cos(\Delta_1, \Delta_2)", "cosine of the two displacements")
(v1, b1, p1), (v2, b2, p2) = ((each.symbol for each in run) for run in (FIRST, SECOND))
_centre = gaussian_mean(x)


def _cosine(values: Values) -> float:
    found = 1.0
    for run in ("first", "second"):
        found *= coherent.gradient_cosine(
            along=values[f"{run}_along"],
            square=values[f"{run}_square"],
            walk=values[f"{run}_walk"],
            dim=int(values["dim"]),
        )
    return found


shared_cosine = Derivation(
    name="shared-cosine",
    title="Cosine of two runs from one base that learn the same, ES and GRPO among them",
    assumptions=(APART, "of the coherent parts only what lies along the gradient at the start is common"),
    label="mean-field",
    source=OURS,
    symbols=(DIM, *FIRST, *SECOND, PRODUCT, *LENGTHS, COSINE),
    steps=(
        define(
            PRODUCT.symbol,
            b1 * b2 + D * sp.sqrt(v1 * v2) * _centre**2,
            "Of d coordinates each, two independent walks have no mean product.",
        ),
        define(LENGTHS[0].symbol, p1 + D * v1 * gaussian_mean(x**2), "The walk is orthogonal to the coherent part."),
        define(LENGTHS[1].symbol, p2 + D * v2 * gaussian_mean(x**2), "The same of the other run."),
        define(
            COSINE.symbol,
            PRODUCT.symbol / sp.sqrt(LENGTHS[0].symbol * LENGTHS[1].symbol),
            "Norms of many coordinates are those expected.",
        ),
        agrees(
            COSINE.symbol,
            b1 / sp.sqrt(p1 + v1 * D) * (b2 / sp.sqrt(p2 + v2 * D)),
            "Either run's cosine with the gradient at the start, multiplied: 0 where one of them learns nothing.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.economy.coherent.gradient_cosine", call=_cosine, rtol=1e-11),
)

CURVATURE = given("f", "f", "curvature", "KL's curvature along the coherent part, g^' F g^", "nat/weight^2", **_SIZE)
KL = named("E KL", r"\mathbb{E}\,\mathrm{KL}", "mean KL(base || tuned)", "nat")

SQUARE = given("p^2", "p^2", "square", "square of the coherent displacement", "weight^2", **_SIZE)
v, square = VARIANCE.symbol, SQUARE.symbol

steered_kl = Derivation(
    name="kl-steered",
    title="Mean KL drift of a run that learns: walk and signal",
    assumptions=(
        APART,
        "KL quadratic, its curvature along the coherent part that of the first updates: refuted on tiny-lm once the "
        "reward has risen, where it is an upper bound (experiments/coherent)",
    ),
    label="small-step",
    source=OURS,
    symbols=(VARIANCE, SQUARE, TRACE, CURVATURE, KL),
    steps=(
        define(
            KL.symbol,
            half * v * TRACE.symbol * gaussian_mean(x**2)
            + sp.sqrt(v * square) * CURVATURE.symbol * _centre
            + half * square * CURVATURE.symbol,
            "1/2 (W + P)' F (W + P): kl-mean of the walk W, a product without mean, and P along g^.",
        ),
        agrees(
            KL.symbol,
            half * (v * TRACE.symbol + square * CURVATURE.symbol),
            "The first grows as T, the second as T^2 while the gradient stays.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.steered_run.TaskDrift.kl",
        call=lambda w: TaskDrift(
            trace=w["fisher_trace"], trace_std=0.0, curvature=w["curvature"], curvature_stderr=0.0
        ).kl(walk=w["variance"], square=w["square"]),
    ),
)

PULLED = given("q", "q", "walk", "variance of one flat coordinate of an update", "weight^2", **_SIZE)
MOBILITY = given(
    "m",
    "m",
    "mobility",
    "expected motion of an update over its gradient",
    "weight^2/reward",
    typical=(0.1, 0.4),
    extreme=(1e-3, 0.4),
)
LAMBDA = given(
    "lambda",
    r"\lambda",
    "curvature",
    "curvature of a direction",
    "reward/weight^2",
    typical=(0.3, 2.0),
    extreme=(0.01, 2.0),
)
LEFT = named("v", "v", "variance of the walk along that direction", "weight^2")
updates, q, m, lam = UPDATES.symbol, PULLED.symbol, MOBILITY.symbol, LAMBDA.symbol
_k = sp.Symbol("k", nonnegative=True, integer=True)
_kept = 1 - m * lam

pulled_walk = Derivation(
    name="pulled-walk",
    title="Variance of a walk along a curved direction of a run that learns",
    assumptions=("reward quadratic; each update moves by m times the gradient, beside an independent part",),
    label="mean-field",
    source=chords.OURS,
    symbols=(PULLED, MOBILITY, LAMBDA, UPDATES, LEFT),
    steps=(
        define(
            LEFT.symbol,
            q * gaussian_mean(x**2) * sp.Sum(_kept ** (2 * _k), (_k, 0, updates - 1)),
            "What an update adds is multiplied by 1 - m lambda in each of those after it.",
        ),
        agrees(
            LEFT.symbol,
            q * (1 - _kept ** (2 * updates)) / (1 - _kept**2),
            "A geometric sum: q T in a flat direction, no more than q/(2 m lambda - (m lambda)^2) in a curved one.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.chord.pulled_walk",
        call=lambda w: chords.pulled_walk(
            np.full(int(w["steps"]), w["walk"]), np.full(int(w["steps"]), w["mobility"]), w["curvature"]
        ),
        rtol=1e-9,
    ),
)

DIRECTIONS = given("n", "n", "directions", "curved directions", typical=(2, 20), extreme=(1, 10**6))
CURVED = given("lambda", r"\lambda", "curvature", "their curvature", "reward/weight^2", **_SIZE)
WALKS = tuple(
    given(
        f"v_{number}",
        f"v_{number}",
        f"{name}_walk",
        f"variance of the {name} run's walk along one of them (pulled-walk)",
        "weight^2",
        **_SIZE,
    )
    for number, name in ((1, "first"), (2, "second"))
)
RISE = named("rise", r"\mathrm{rise}", "mean rise over the chord half-way", "reward")
n, curved = DIRECTIONS.symbol, CURVED.symbol

chord_rise = Derivation(
    name="chord-rise",
    title="Rise over the chord between two runs from one base, of their walks and their coherent parts",
    assumptions=("reward quadratic, its curved directions of one curvature", "independent Gaussian walks"),
    label="mean-field",
    source=chords.OURS,
    symbols=(DIRECTIONS, CURVED, WALKS[0], WALKS[1], FIRST[1], SECOND[1], RISE),
    steps=(
        define(
            RISE.symbol,
            curved
            / 8
            * (gaussian_mean((b1 - b2 + sp.sqrt(v1 + v2) * x) ** 2) + (n - 1) * gaussian_mean((v1 + v2) * y**2, y)),
            "D' Lambda D / 8 of interpolation: the gradient's direction holds what the runs differ by coherently.",
        ),
        agrees(
            RISE.symbol,
            curved / 8 * (n * (v1 + v2) + (b1 - b2) ** 2),
            "The walks add up, n lambda being tr Lambda; what both have learned drops out.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.economy.chord.chord_rise",
        call=lambda w: (
            chords.chord_rise(
                chords.Displaced(walk=w["first_walk"], along=w["first_along"]),
                chords.Displaced(walk=w["second_walk"], along=w["second_along"]),
                trace=w["curvature"] * w["directions"],
                curvature=w["curvature"],
            ).mean
        ),
        rtol=1e-9,
    ),
)

DERIVATIONS = (shared_cosine, steered_kl, pulled_walk, chord_rise)
