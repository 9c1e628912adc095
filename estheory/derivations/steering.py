"""The norm of a run that its signal moves, and how the projection of a step on the gradient scatters."""

from __future__ import annotations

import math

from estheory.derivations.algebra import Expr, sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define
from estheory.derivations.notation import (
    ALPHA,
    C_OF_N,
    C_STEPS,
    DIM,
    POPULATION,
    RHO,
    VARIANCE,
    D,
    N,
    alpha,
    c,
    chi_square_mean,
    gaussian_mean,
    given,
    named,
    normal_density,
    rho,
    x,
    y,
)
from estheory.derivations.shapings import RANK_SQUARE
from estheory.derivations.signal import GAUSSIAN, OURS, PROJECTION
from estheory.landscape import Signal
from estheory.rules import ESConfig
from estheory.theory import signal as theory
from estheory.theory.estimators import CentredRanks, estimator_of
from estheory.theory.run_norm import steered_norm
from estheory.theory.walk import Walk

_SIZE = {"typical": (0.3, 3.0), "extreme": (1e-3, 1e3)}
MOVED = given("P", "P", "progress", "expected displacement along the gradient", "weight", **_SIZE)
SPREAD = given(
    "w",
    "w",
    "spread",
    "variance of the projection on the gradient over that of a flat coordinate",
    typical=(0.5, 2.0),
    extreme=(0.1, 100.0),
)
FLAT_VARIANCE = given("v", "v", "variance", VARIANCE.meaning, VARIANCE.unit, typical=(0.3, 3.0), extreme=(1e-3, 1e3))
SPACE = given("d", "d", "dim", DIM.meaning, typical=(2, 20), extreme=(2, 10**12))
SQUARE = named("E‖Δ‖²", r"\mathbb{E}\lVert\Delta\rVert^2", "mean square of the displacement", "weight^2")
SQUARE_VARIANCE = named("Var‖Δ‖²", r"\operatorname{Var}\lVert\Delta\rVert^2", "its variance", "weight^4")
STRAIGHT = (
    "a constant gradient; the projection on it is normal, as a sum over steps is",
    "the other d - 1 coordinates walk",
)
v, moved, spread = FLAT_VARIANCE.symbol, MOVED.symbol, SPREAD.symbol
_along = moved + sp.sqrt(v * spread) * x
_sum_of_squares = v * chi_square_mean(y, D - 1) + gaussian_mean(_along**2)


def _steered(values: Values) -> tuple[float, float]:
    """Return mean and variance of the squared norm."""
    walked = Walk(
        variance=values["variance"],
        effective_dim=values["dim"],
        dim=int(values["dim"]),
        mixing_df=math.inf,
        coherent_steps=1.0,
        label="exact",
        source=OURS,
        assumptions=(),
    )
    law = steered_norm(walked, values["progress"], values["spread"])
    square = law.scale**2 * law.df
    return square, 2 * square**2 / law.df


steered_norm_square = Derivation(
    name="steered-norm-square",
    title="Mean square of the displacement of a run that its signal moves",
    assumptions=STRAIGHT,
    label="large-N",
    source=OURS,
    symbols=(FLAT_VARIANCE, MOVED, SPREAD, SPACE, SQUARE),
    steps=(
        define(SQUARE.symbol, _sum_of_squares, "d - 1 coordinates of the walk, and one about P of variance v w."),
        agrees(SQUARE.symbol, v * (D - 1 + spread) + moved**2, "The walk grows as T, the signal's part as T^2."),
    ),
    evaluator=Evaluator(name="estheory.theory.run_norm.steered_norm", call=lambda w: _steered(w)[0]),
)

steered_norm_square_variance = Derivation(
    name="steered-norm-square-variance",
    title="Variance of the squared displacement of a run that its signal moves",
    assumptions=STRAIGHT,
    label="large-N",
    source=OURS,
    symbols=(FLAT_VARIANCE, MOVED, SPREAD, SPACE, SQUARE_VARIANCE),
    steps=(
        define(
            SQUARE_VARIANCE.symbol,
            v**2 * chi_square_mean((y - D + 1) ** 2, D - 1) + gaussian_mean((_along**2 - moved**2 - v * spread) ** 2),
            "The two parts of steered-norm-square are independent.",
        ),
        agrees(
            SQUARE_VARIANCE.symbol,
            2 * v**2 * (D - 1 + spread**2) + 4 * moved**2 * v * spread,
            "A chi variable of these two moments is the law of the norm.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.run_norm.steered_norm", call=lambda w: _steered(w)[1], rtol=1e-11),
)

SCATTER = named("Var A", r"\operatorname{Var}A", "variance of the step along the gradient over that of a flat one")


def _config(values: Values) -> ESConfig:
    dim, step = int(values.get("dim", 10)), values.get("alpha")
    return ESConfig(dim=dim, sigma=1.0, alpha=step, population=int(values["population"]))


def _projection_variance(values: Values) -> float:
    estimator = estimator_of(_config(values))
    signal = Signal(reliability=values["correlation"] ** 2)
    mean = estimator.progress(signal)
    return estimator.projection_moments(values["correlation"] ** 2, 0.0)[0] - mean**2 / estimator.variance(signal).value


projection_variance = Derivation(
    name="projection-variance",
    title="How the projection of a z-scored step on the gradient scatters",
    assumptions=(GAUSSIAN,),
    label="exact",
    source=OURS,
    symbols=(POPULATION, RHO, C_OF_N, SCATTER),
    steps=(
        *C_STEPS,
        define(
            SCATTER.symbol,
            rho**2 * chi_square_mean((sp.sqrt(y) - sp.sqrt(N) * c) ** 2, N - 1) + (1 - rho**2) * gaussian_mean(x**2),
            "The projection A = rho chi_{N-1} + sqrt(1-rho^2) Z of step-norm-square, about its mean rho c sqrt(N).",
        ),
        agrees(SCATTER.symbol, 1 + rho**2 * (N - 2 - N * c**2), "1 - rho^2/2 for many members."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.zscores.ZScores.projection_moments",
        call=_projection_variance,
        rtol=1e-8,  # N - 2 and N c^2 nearly cancel
    ),
)

FOURTH = named("E[A⁴]", r"\mathbb{E}A^4", "fourth moment of the step along the gradient over that of a flat one")
STEP_SQUARE_VARIANCE = named(
    "Var‖Δ₁‖²", r"\operatorname{Var}\lVert\Delta_1\rVert^2", "variance of the square of one step", "weight^4"
)
_noise = 1 - rho**2


def _step_square_variance(values: Values) -> float:
    law = theory.step_norm(_config(values), Signal(reliability=values["correlation"] ** 2), values["dim"])
    return 2 * law.scale**4 * law.df


step_norm_square_variance = Derivation(
    name="step-norm-square-variance",
    title="Variance of the square of one z-scored step",
    assumptions=(GAUSSIAN,),
    label="exact",
    source=OURS,
    symbols=(ALPHA, POPULATION, SPACE, RHO, PROJECTION, FOURTH, STEP_SQUARE_VARIANCE),
    steps=(
        define(
            PROJECTION.symbol,
            rho**2 * chi_square_mean(y, N - 1) + _noise * gaussian_mean(x**2),
            "As in step-norm-square.",
        ),
        define(
            FOURTH.symbol,
            rho**4 * chi_square_mean(y**2, N - 1)
            + 6 * rho**2 * _noise * chi_square_mean(y, N - 1) * gaussian_mean(x**2)
            + _noise**2 * gaussian_mean(x**4),
            "A = rho chi_{N-1} + sqrt(1-rho^2) Z; odd powers of Z have no mean.",
        ),
        define(
            STEP_SQUARE_VARIANCE.symbol,
            (alpha**2 / N) ** 2 * (chi_square_mean((y - D + 1) ** 2, D - 1) + FOURTH.symbol - PROJECTION.symbol**2),
            "The other d - 1 directions are flat and independent of A.",
        ),
        agrees(
            STEP_SQUARE_VARIANCE.symbol,
            2 * alpha**4 / N**2 * (D - 1 + (N - 1) * rho**2 * (2 - rho**2) + _noise**2),
            "2 d alpha^4/N^2 without signal.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.signal.step_norm",
        call=_step_square_variance,
        rtol=1e-9,  # the fourth moment and the squared second nearly cancel at N = 1e6
    ),
)

DISTANCE = named("E|x−y|", r"\mathbb{E}\lvert x-y\rvert", "mean distance of two standard normals")
CROSSED = named("E|x−y||x−z|", r"\mathbb{E}\lvert x-y\rvert\lvert x-z\rvert", "mean product of two such distances")
GINI = named("Var G", r"\operatorname{Var}G", "variance of the mean difference of N standard normals")
distance: Expr = x * sp.erf(x / sp.sqrt(2)) + 2 * normal_density(x)

rank_projection_variance = Derivation(
    name="rank-projection-variance",
    title="How the projection of a step of centred ranks on the gradient scatters",
    assumptions=(GAUSSIAN,),
    label="exact",
    source=OURS,
    symbols=(POPULATION, RHO, DISTANCE, CROSSED, GINI, RANK_SQUARE, SCATTER),
    steps=(
        define(DISTANCE.symbol, gaussian_mean(distance), "E|x - y| over y is x erf(x/sqrt 2) + 2 phi(x)."),
        agrees(DISTANCE.symbol, 2 / sp.sqrt(sp.pi), "The difference has the variance 2."),
        define(CROSSED.symbol, gaussian_mean(distance**2), "Given x the two distances are independent."),
        agrees(CROSSED.symbol, sp.Rational(1, 3) + 2 * sp.sqrt(3) / sp.pi, "A Gaussian integral."),
        define(
            GINI.symbol,
            2 / (N * (N - 1)) * (2 - DISTANCE.symbol**2 + 2 * (N - 2) * (CROSSED.symbol - DISTANCE.symbol**2)),
            "G is the mean of |R_i - R_j| over the N (N-1)/2 pairs, of which each shares a member with 2 (N-2) others.",
        ),
        define(RANK_SQUARE.symbol, N * (N + 1) / (12 * (N - 1)), "rank-variance."),
        define(
            SCATTER.symbol,
            1 - rho**2 + rho**2 * (N / 4) ** 2 * GINI.symbol / RANK_SQUARE.symbol,
            "A = rho L + sqrt(1-rho^2) Z, where L = sum u_i R_i / sqrt(sum u_i^2) and sum u_i R_i = N G / 4.",
        ),
        agrees(
            SCATTER.symbol,
            1 - rho**2 + rho**2 * 3 / (N + 1) * ((N + 1) / 3 + (2 * sp.sqrt(3) * (N - 2) - 2 * (2 * N - 3)) / sp.pi),
            "Nair's variance of the mean difference.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.ranks.CentredRanks.own_projection",
        call=lambda w: CentredRanks(population=int(w["population"]), sigma=1.0, alpha=1.0).own_projection(
            w["correlation"] ** 2
        )[1],
    ),
)

DERIVATIONS = (
    steered_norm_square,
    steered_norm_square_variance,
    projection_variance,
    step_norm_square_variance,
    rank_projection_variance,
)
