"""The random walk along flat directions: one step, T steps, the law of the norm, and cosines."""

from __future__ import annotations

from estheory.cosine_laws import CosineLaw
from estheory.derivations.algebra import sp
from estheory.derivations.derivation import Derivation, Evaluator, Values, agrees, define, follows
from estheory.derivations.notation import (
    ALPHA,
    DIM,
    POPULATION,
    STEPS,
    D,
    N,
    T,
    alpha,
    beta_mean,
    chi_square_mean,
    given,
    half,
    named,
    y,
)
from estheory.landscape import Signal
from estheory.laws import SquaredLaw
from estheory.rules import ESConfig
from estheory.theory import walk as theory
from estheory.theory.estimators import estimator_of
from estheory.theory.estimators.estimator import PAPER

FLAT = "the reward does not depend on the flat coordinates, so the z-scores are independent of their noise"
ISOTROPIC = "all but a vanishing share of the coordinates are flat"


def _config(v: Values) -> ESConfig:
    dim, steps = int(v.get("dim", 1)), int(v.get("steps", 1))
    return ESConfig(dim=dim, sigma=1.0, alpha=v["alpha"], population=int(v["population"]), steps=steps)


def _walk(v: Values) -> theory.Walk:
    return theory.walk(_config(v), Signal(), int(v["steps"]))


SUM = given("S_1", "S_1", "reward_sum", "sum of the members' rewards", "reward")
SQUARES = given("S_2", "S_2", "reward_square_sum", "sum of their squares", "reward^2", typical=(10.0, 20.0))
MEAN = named("R̄", r"\bar R", "mean reward of the members", "reward")
SPREAD = named("V", "V", "population variance of the members' rewards", "reward^2")
Z_SQUARE = named("Σz²", r"\sum_i z_i^2", "sum of the squared z-scores")
STEP_VARIANCE = named("Var Δ₁", r"\operatorname{Var}\Delta_1", "variance of a flat coordinate in one step", "weight^2")

m, v = MEAN.symbol, SPREAD.symbol

flat_variance = Derivation(
    name="flat-variance",
    title="Variance of a flat coordinate in one z-scored step",
    assumptions=(FLAT, "not all rewards of the step are equal", "z-scores with the population standard deviation"),
    label="exact",
    source=PAPER,
    symbols=(ALPHA, POPULATION, SUM, SQUARES, MEAN, SPREAD, Z_SQUARE, STEP_VARIANCE),
    steps=(
        define(m, SUM.symbol / N, "The mean that the z-scores subtract."),
        define(v, SQUARES.symbol / N - m**2, "The population variance (divided by N) that they divide by."),
        define(
            Z_SQUARE.symbol,
            (SQUARES.symbol - 2 * m * SUM.symbol + N * m**2) / v,
            "The sum of (R_i - mean)^2 / V over the members, multiplied out.",
        ),
        follows(Z_SQUARE.symbol, N, "It is N whatever the rewards are."),
        define(
            STEP_VARIANCE.symbol,
            (alpha / N) ** 2 * Z_SQUARE.symbol,
            "Given the z-scores the coordinate of (alpha/N) sum z_i eps_i is a sum of independent normals.",
        ),
        follows(STEP_VARIANCE.symbol, alpha**2 / N, "The condition on the z-scores has dropped out."),
    ),
    evaluator=Evaluator(
        name="estheory.theory.estimators.zscores.ZScores.variance",
        call=lambda v: estimator_of(_config(v)).variance(Signal()).value,
    ),
)

COORDINATE = named("v", "v", "variance of a coordinate after T steps", "weight^2")
SQUARE_MEAN = named("E‖Δ‖²", r"\mathbb{E}\lVert\Delta\rVert^2", "mean square of the displacement", "weight^2")
SQUARE_VARIANCE = named("Var‖Δ‖²", r"\operatorname{Var}\lVert\Delta\rVert^2", "its variance", "weight^4")
NORM_MEAN = named("E‖Δ‖", r"\mathbb{E}\lVert\Delta\rVert", "mean norm of the displacement", "weight")
NORM_VARIANCE = named("Var‖Δ‖", r"\operatorname{Var}\lVert\Delta\rVert", "variance of the norm", "weight^2")

_coordinate = define(
    COORDINATE.symbol, T * alpha**2 / N, "Each step's noise is fresh: T independent steps of flat-variance."
)
_chi_mean = sp.sqrt(2) * sp.gamma((D + 1) / 2) / sp.gamma(D / 2)

norm_mean_square = Derivation(
    name="norm-mean-square",
    title="Mean square of the displacement after T steps",
    assumptions=(FLAT, ISOTROPIC),
    label="exact",
    source=PAPER,
    symbols=(ALPHA, POPULATION, DIM, STEPS, COORDINATE, SQUARE_MEAN),
    steps=(
        _coordinate,
        define(
            SQUARE_MEAN.symbol,
            COORDINATE.symbol * chi_square_mean(y, D),
            "||Delta||^2 / v is a chi-square variable with d degrees of freedom, of this density.",
        ),
        agrees(SQUARE_MEAN.symbol, alpha**2 * T * D / N, "The mean of a chi-square variable is d: the norm law."),
    ),
    evaluator=Evaluator(name="estheory.theory.walk.walk", call=lambda v: SquaredLaw(_walk(v).norm_law).mean),
)

norm_square_variance = Derivation(
    name="norm-square-variance",
    title="Variance of the squared displacement after T steps",
    assumptions=(FLAT, ISOTROPIC),
    label="exact",
    source=theory.OURS,
    symbols=(ALPHA, POPULATION, DIM, STEPS, COORDINATE, SQUARE_VARIANCE),
    steps=(
        _coordinate,
        define(
            SQUARE_VARIANCE.symbol,
            COORDINATE.symbol**2 * chi_square_mean((y - D) ** 2, D),
            "||Delta||^2 / v is a chi-square variable with d degrees of freedom, of mean d.",
        ),
        agrees(
            SQUARE_VARIANCE.symbol,
            2 * alpha**4 * T**2 * D / N**2,
            "Its variance is 2 d: the relative spread of the square is sqrt(2/d).",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.walk.walk", call=lambda v: SquaredLaw(_walk(v).norm_law).std ** 2),
)

norm_mean = Derivation(
    name="norm-mean",
    title="Mean norm of the displacement after T steps",
    assumptions=(FLAT, ISOTROPIC),
    label="exact",
    source=theory.OURS,
    symbols=(ALPHA, POPULATION, DIM, STEPS, COORDINATE, NORM_MEAN),
    steps=(
        _coordinate,
        define(
            NORM_MEAN.symbol,
            sp.sqrt(COORDINATE.symbol) * chi_square_mean(sp.sqrt(y), D),
            "||Delta||^2 / v is a chi-square variable with d degrees of freedom.",
        ),
        agrees(
            NORM_MEAN.symbol,
            alpha * sp.sqrt(T / N) * _chi_mean,
            "A Gamma integral; about alpha sqrt(T d / N) at large d.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.walk.Walk.norm_law", call=lambda v: _walk(v).norm_law.mean),
)

norm_variance = Derivation(
    name="norm-variance",
    title="Variance of the norm of the displacement after T steps",
    assumptions=(FLAT, ISOTROPIC),
    label="exact",
    source=theory.OURS,
    symbols=(ALPHA, POPULATION, DIM, STEPS, COORDINATE, NORM_VARIANCE),
    steps=(
        _coordinate,
        define(
            NORM_VARIANCE.symbol,
            COORDINATE.symbol * chi_square_mean((sp.sqrt(y) - _chi_mean) ** 2, D),
            "The mean square of a chi variable about its mean (norm-mean).",
        ),
        agrees(
            NORM_VARIANCE.symbol,
            alpha**2 * T / N * (D - _chi_mean**2),
            "Mean square d minus the square of the mean: half of v at large d, whatever d is.",
        ),
    ),
    evaluator=Evaluator(name="estheory.theory.walk.Walk.norm_law", call=lambda v: _walk(v).norm_law.std ** 2),
)

FIRST = given("T_1", "T_1", "first", "steps at the earlier checkpoint", typical=(1, 5), extreme=(1, 10**6))
SECOND = given("T_2", "T_2", "second", "steps at the later checkpoint", typical=(6, 20), extreme=(1, 10**6))
OVERLAP = named("E[Δ₁·Δ₂]", r"\mathbb{E}[\Delta_{T_1}\cdot\Delta_{T_2}]", "mean overlap of the checkpoints", "weight^2")
EARLY = named("E‖Δ₁‖²", r"\mathbb{E}\lVert\Delta_{T_1}\rVert^2", "mean square at the earlier", "weight^2")
LATE = named("E‖Δ₂‖²", r"\mathbb{E}\lVert\Delta_{T_2}\rVert^2", "mean square at the later", "weight^2")
COSINE = named("cos(Δ₁, Δ₂)", r"\cos(\Delta_{T_1}, \Delta_{T_2})", "cosine of the two displacements")

checkpoint_cosine = Derivation(
    name="checkpoint-cosine",
    title="Cosine of the displacements at two checkpoints of one run",
    assumptions=(FLAT, ISOTROPIC, "d is large: overlap and norms are at their means up to O(1/sqrt d)"),
    label="exact",
    source=theory.OURS,
    symbols=(ALPHA, POPULATION, DIM, FIRST, SECOND, EARLY, LATE, OVERLAP, COSINE),
    steps=(
        define(EARLY.symbol, alpha**2 * FIRST.symbol * D / N, "norm-mean-square at T_1."),
        define(LATE.symbol, alpha**2 * SECOND.symbol * D / N, "norm-mean-square at T_2."),
        define(
            OVERLAP.symbol,
            EARLY.symbol,
            "The later displacement is the earlier one plus independent steps of mean zero: only the square is left.",
        ),
        define(COSINE.symbol, OVERLAP.symbol / sp.sqrt(EARLY.symbol * LATE.symbol), "The cosine at large d."),
        follows(
            COSINE.symbol,
            sp.sqrt(FIRST.symbol / SECOND.symbol),
            "Step size, population and dimension cancel.",
        ),
    ),
    evaluator=Evaluator(
        name="estheory.theory.walk.checkpoint_correlation",
        call=lambda v: theory.checkpoint_correlation(
            ESConfig(dim=10, sigma=1.0, population=2), int(v["first"]), int(v["second"])
        ),
    ),
    conditions=(FIRST.symbol <= SECOND.symbol,),
)

COSINE_SQUARE = named("E cos²", r"\mathbb{E}\cos^2", "mean squared cosine")

independent_cosine = Derivation(
    name="independent-cosine",
    title="Mean squared cosine of two independent runs",
    assumptions=(FLAT, ISOTROPIC, "independent seeds"),
    label="exact",
    source=theory.OURS,
    symbols=(DIM, COSINE_SQUARE),
    steps=(
        define(
            COSINE_SQUARE.symbol,
            beta_mean(y, half, (D - 1) / 2),
            "The squared cosine of a uniformly random direction with any fixed one is Beta(1/2, (d-1)/2).",
        ),
        agrees(COSINE_SQUARE.symbol, 1 / D, "Its mean: the noise floor of every cosine is 1/sqrt(d)."),
    ),
    evaluator=Evaluator(
        name="estheory.cosine_laws.CosineLaw", call=lambda v: CosineLaw(0.0, 1.0, 1.0, v["dim"] - 1.0).std ** 2
    ),
)


DERIVATIONS = (
    flat_variance,
    norm_mean_square,
    norm_square_variance,
    norm_mean,
    norm_variance,
    checkpoint_cosine,
    independent_cosine,
)
